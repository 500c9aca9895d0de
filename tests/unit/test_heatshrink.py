# pack/heatshrink.py against its plain-Python twin. What detools makes with it: tests/updates/test_delta.py.

import random

from fakenet import fails
from https_ota import OTAError
from https_ota.pack.heatshrink import Heatshrink
from https_ota.pack.patch import Patch
from test_inflate import Source, read_all
from test_patch import DELTA, MAGIC, NEEDED, NEW, number, stream


def squeeze(tokens, w=8, k=7):
    """The stream of these tokens: bytes, or (how far back, how many)."""
    bits = 0
    n = 0
    for token in tokens:
        if isinstance(token, int):
            bits = bits << 9 | 256 | token
            n += 9
        else:
            bits = ((bits << 1 + w) | token[0] - 1) << k | token[1] - 1
            n += 1 + w + k
    fill = -n % 8
    return bytes([w - 4 << 4 | k - 3]) + (bits << fill).to_bytes((n + fill) // 8, "big")


def twin(tokens, w=8):
    """What is in it: before its beginning are zeros."""
    out = bytearray(1 << w)
    for token in tokens:
        if isinstance(token, int):
            out.append(token)
        else:
            for _ in range(token[1]):
                out.append(out[-token[0]])
    return bytes(out[1 << w :])


def any_tokens(n, w=8, k=7):
    tokens = []
    for _ in range(n):
        if random.getrandbits(1):
            tokens.append(random.getrandbits(8))
        else:
            tokens.append((random.randint(1, 1 << w), random.randint(1, 1 << k)))
    return tokens


def opened(data, step=1000, head=1):
    source = Source(data, step)
    source.at = head
    return Heatshrink(source, data[:head])


def test_any_tokens_in_any_pieces():
    for w, k in ((8, 7), (4, 3), (11, 4), (10, 5)):
        tokens = any_tokens(120, w, k)
        data, expected = squeeze(tokens, w, k), twin(tokens, w)
        for step in (1, 2, 7, 600):
            for size in (1, 5, 512, 5000):
                assert read_all(opened(data, step, 1 + step % 3), size) == expected, (w, k, step)


def test_longest_way_back_and_longest_copy():
    tokens = [1, 2, 3] + [(256, 128)] * 3 + [(1, 128), 9, (256, 1)]
    assert read_all(opened(squeeze(tokens))) == twin(tokens)


def test_truncated_gives_what_was_whole():
    tokens = any_tokens(40)
    data, expected = squeeze(tokens), twin(tokens)
    for n in range(1, len(data)):
        found = read_all(opened(data[:n]))
        assert found == expected[: len(found)]


def test_window_that_is_too_large():
    detail = fails(OTAError.CHECKSUM, Heatshrink, Source(b""), b"\xb8")
    assert detail == "a delta compressed by heatshrink with 15, 11: expected 8, 7"


def test_espressifs_delta():
    """Kind and size are before what is compressed."""
    plain = DELTA[64 + 1 + len(number(len(NEW))) :]
    data = MAGIC + NEEDED + bytes(28) + b"\x04" + number(len(NEW)) + squeeze(list(plain))
    for step in (3, 400):
        s = stream(Source(data, step))
        assert isinstance(s, Patch)
        assert read_all(s) == NEW
    fails(OTAError.TRUNCATED, read_all, stream(Source(data[:-40])))


def test_allocates_nothing():
    import io
    import micropython

    tokens = any_tokens(4000)
    s = opened(squeeze(tokens), 1000, 1)
    s._source = io.BytesIO(squeeze(tokens)[1:])
    buf = bytearray(512)
    s.readinto(buf)
    micropython.heap_lock()
    for _ in range(40):
        s.readinto(buf)
    micropython.heap_unlock()
