# pack/patch.py: deltas as streams, made by the test. What detools makes of images: tests/updates/test_delta.py.


import micropython
from esp32 import Partition
from fakenet import fails
from https_ota import OTAError
from https_ota.pack.kinds import unpack
from https_ota.pack.patch import Patch, add, identity
from makeimage import noise
from test_inflate import Region, Source, blocks, read_all

PART = Partition(Partition.RUNNING)
OLD = bytearray(20000)
PART.readblocks(0, OLD, 0)
NEEDED = identity(PART)
MAGIC = b"\x10\xde\xcd\xfc"


def number(n):
    """As detools has it."""
    sign = 64 if n < 0 else 0
    n = abs(n)
    out = bytearray([sign | n & 63])
    n >>= 6
    while n:
        out[-1] |= 128
        out.append(n & 127)
        n >>= 7
    return bytes(out)


def delta(new, runs, end=b"", needed=NEEDED, kind=0, size=None, skip=0, name=bytes(28)):
    """A delta of runs: (bytes to take from the old image, at which place there, new bytes behind them)."""
    out = MAGIC + needed + name + bytes([kind]) + number(len(new) if size is None else size)
    out += number(skip)
    at = made = 0
    for i, (n, where, more) in enumerate(runs):
        part = bytes((new[made + k] - OLD[where + k]) & 255 for k in range(n))
        out += number(n) + part + number(len(more)) + more
        made += n + len(more)
        at = where + n
        if i + 1 < len(runs):
            out += number(runs[i + 1][1] - at)
        else:
            out += end
    return out


def made(new, runs):
    """`new` with what `runs` take from elsewhere put in its places: they must fit."""
    out = b""
    for n, where, more in runs:
        out += new[len(out) : len(out) + n] + more
    return out


RUNS = [
    (100, 0, b"new"),
    (0, 200, bytes(700)),
    (1000, 150, b""),
    (1, 19999, b"x"),
    (300, 19500, b"y" * 63),
    (64, 64, b"z" * 64),
    (2000, 5000, noise(3000)),
]
NEW = made(noise(9000, 3), RUNS)
DELTA = delta(NEW, RUNS)


class SlotLike(Region):
    running = PART
    running_info = staticmethod(lambda: None)


def stream(source, head=300, region=SlotLike):
    buf = bytearray(4096)
    n = min(head, len(source.data))
    buf[:n] = source.data[:n]
    source.at = n
    return unpack(source, source, region, buf, n)


def test_sums():
    for d in range(4):
        for n in range(40):
            dst = bytearray(b"\xa5" * 50)
            src, old = noise(50, n + 1), noise(50, n + 2)
            add(dst, d, src, 3, old, 5, n)
            assert dst == b"\xa5" * d + bytes(
                (src[3 + i] + old[5 + i]) & 255 for i in range(n)
            ) + b"\xa5" * (50 - d - n)


def test_identity():
    assert NEEDED == OLD[20000 - 32 - 20000 % 16 : 20000 - 20000 % 16]

    class Bare:
        def readblocks(self, i, buf, at):
            buf[:] = bytes(len(buf))

    assert identity(Bare()) == b""


def test_any_pieces():
    for step in (1, 7, 300, 5000):
        for size in (1, 33, 512, 4096):
            s = stream(Source(DELTA, step), 68 + step % 100)
            assert isinstance(s, Patch) and s.total == len(NEW)
            assert read_all(s, size) == NEW, (step, size)
            assert s.position == s.total
    assert (s.mark, s.validator) == (b"", None)


def test_compressed():
    source = Source(blocks(DELTA, 512))
    s = stream(source)
    buf = bytearray(1024)
    n = 0
    while n < 288:
        n += s.readinto(memoryview(buf)[n:]) or 0
    s = unpack(s, source, SlotLike, buf, n)
    assert read_all(s) == NEW
    assert unpack(s, source, SlotLike, DELTA, 300) is None  # not twice


def test_ends():
    """The last seek may be left out, or be; nothing may follow."""
    for end in (b"", number(0), number(-300)):
        assert read_all(stream(Source(delta(NEW, RUNS, end)))) == NEW
    for end in (number(0) + b"\0", number(5) + number(0), bytes(600)):
        detail = fails(OTAError.CHECKSUM, read_all, stream(Source(delta(NEW, RUNS, end))))
        assert detail.endswith("goes on behind its end")


def test_another_base():
    for needed in (bytes(32), NEEDED[:31] + bytes([NEEDED[31] ^ 1])):
        detail = fails(OTAError.BASE, stream, Source(delta(NEW, RUNS, needed=needed)))
        words = "the delta is for the image with SHA-256 "
        assert detail.startswith(words) and "..., ota_0 holds one with " in detail


def test_what_it_makes_is_there_already():
    """By its header, or by the record that is at hand: it is read from there."""
    fits = delta(NEW, RUNS, name=NEEDED[:28])
    assert not stream(Source(fits)).runs
    other = delta(NEW, RUNS, needed=bytes(32), name=NEEDED[:28])
    s = stream(Source(other))
    assert s.runs and s.total == len(NEW)
    assert read_all(s) == OLD[: len(NEW)]
    fails(OTAError.BASE, stream, Source(delta(NEW, RUNS, needed=bytes(32), name=NEEDED[1:29])))

    class Came(SlotLike):
        class came:
            is_of = staticmethod(lambda file, info: file is source)

    source = Source(delta(NEW, RUNS, needed=bytes(32)))
    assert stream(source, 300, Came).runs
    fails(OTAError.BASE, stream, Source(source.data), 300, Came)
    assert not stream(Source(DELTA), 300, Came).runs


def test_truncated():
    for n in range(75, len(DELTA), 97):
        fails(OTAError.TRUNCATED, read_all, stream(Source(DELTA[:n])))
    fails(OTAError.TRUNCATED, read_all, stream(Source(DELTA[:-1])))
    for n in (41, 60, 64):
        fails(OTAError.CHECKSUM, stream, Source(DELTA[:n]))
    assert stream(Source(DELTA[:40])) is None


def test_numbers_that_lie():
    for bad in (
        delta(NEW, RUNS, size=len(NEW) - 1),
        delta(NEW, RUNS, kind=4),
        delta(NEW, RUNS, kind=0x10),
        delta(NEW, RUNS, skip=1),
        DELTA[:66] + number(0) + number(1 << 26),
        DELTA[:66] + number(0) + b"\xff\xff\xff\xff\xff",
        DELTA[:66] + number(0) + number(-5),
        DELTA[:66] + number(0) + number(0) + number(0) + number(-3) + number(5) + b"abcde",
        DELTA[:66] + number(0) + number(0) + number(0) + number(1 << 24) + number(5) + b"abcde",
        DELTA[:65] + b"\xff\xff\xff\xff\xff\xff",
    ):
        bad += bytes(80)
        try:
            read_all(stream(Source(bad)))
            raise AssertionError(bad[:80])
        except OTAError as e:
            assert e.code in (OTAError.CHECKSUM, OTAError.TRUNCATED)
    fails(OTAError.TRUNCATED, read_all, stream(Source(delta(NEW, RUNS, size=len(NEW) + 1))))


def test_end_of_the_partition():
    """The buffer that the old image is read into ends where it does."""
    end = PART.info()[3]
    out = MAGIC + NEEDED + bytes(28) + b"\0" + number(300) + b"\0\0\0"
    out += number(end - 300) + number(300) + bytes(300) + b"\0"
    last = bytearray(300)
    PART.readblocks(0, last, end - 300)
    assert read_all(stream(Source(out))) == last
    out = out.replace(number(end - 300), number(end - 299))
    fails(OTAError.CHECKSUM, read_all, stream(Source(out)))


def test_allocates_nothing():
    long = [(3000, 100 * i, b"n" * 200) for i in range(15)]
    new = made(noise(60000, 2), long)
    data = delta(new, long)

    class Fast(Source):
        def readinto(self, buf):
            return self.file.readinto(buf)

    import io

    source = Fast(data)
    s = stream(source)
    source.file = io.BytesIO(data[source.at :])
    buf = bytearray(512)
    s.readinto(buf)
    s.readinto(buf)
    micropython.heap_lock()
    for _ in range(60):
        s.readinto(buf)
    micropython.heap_unlock()
    assert s.position > 30000
