# crypt.py: the stream, with a cipher of the test's own.

import micropython
from fakenet import fails, raises
from https_ota import OTAError
from https_ota.trust.decrypt import Decrypt


class Source:
    """Gives `data` in pieces of at most `step` bytes; says so, when it is told how many there are."""

    def __init__(self, data, step=1000, total=None):
        self.data = data
        self.step = step
        self.at = 0
        self.asked = [None, None]  # the sizes of the buffers read into last
        self.reads = 0
        if total is not None:
            self.total = total

    def readinto(self, buf):
        self.asked[self.reads % len(self.asked)] = len(buf)
        self.reads += 1
        n = min(len(buf), self.step, len(self.data) - self.at)
        i = 0
        while i < n:
            buf[i] = self.data[self.at + i]
            i += 1
        self.at += n
        return n


class Plain:
    """A format whose header is b"MINE" and a length, each byte XORed with the low byte of its position."""

    header_size = 6

    def __init__(self):
        self.pos = None
        self.finished = 0
        self.wiped = 0

    def begin(self, header):
        assert isinstance(header, bytes) and len(header) == 6
        self.pos = 0
        return header[4] | header[5] << 8

    def decrypt(self, buf, n):
        i = 0
        while i < n:
            buf[i] ^= self.pos & 255
            self.pos += 1
            i += 1

    def finish(self):
        self.finished += 1

    def wipe(self):
        self.wiped += 1


class Replaying(Plain):
    def replay(self, buf, n):
        self.pos += n


class Endless(Plain):
    header_size = 0

    def begin(self, header):
        assert header == b""
        self.pos = 0


class Checking(Plain):
    def check(self, start):
        if start[:4] != b"MINE"[: len(start)]:
            raise OTAError(OTAError.NOT_ENCRYPTED, "got %r" % bytes(start))


TEXT = bytes(i * 5 & 255 for i in range(300))
FILE = b"MINE" + bytes([300 & 255, 300 >> 8]) + bytes(c ^ i & 255 for i, c in enumerate(TEXT))


def read_all(stream, size):
    buf = bytearray(size)
    out = b""
    while True:
        n = stream.readinto(buf)
        if not n:
            return out
        out += buf[:n]


def test_plaintext_in_any_pieces():
    for step in (1, 2, 5, 6, 7, 17, 64, 1000):
        for size in (1, 3, 16, 512):
            cipher = Plain()
            stream = Decrypt(Source(FILE, step), cipher)
            stream.begin()
            assert stream.size == 300 and stream.header == FILE[:6] and stream.position == 0
            assert read_all(stream, size) == TEXT, (step, size)
            assert stream.position == 300
            stream.finish()
            assert cipher.finished == 1


def test_header_is_read_to_its_last_byte_and_no_further():
    source = Source(FILE, 4)
    Decrypt(source, Plain()).begin()
    assert source.at == 6 and source.asked == [6, 2]


def test_reads_straight_into_the_callers_buffer():
    source = Source(FILE)
    stream = Decrypt(source, Plain())
    stream.begin()
    buf = bytearray(b"\x55" * 20)
    assert stream.readinto(memoryview(buf)[:10]) == 10
    assert buf == TEXT[:10] + b"\x55" * 10
    assert source.asked == [6, 10]


def test_no_header_and_no_size():
    stream = Decrypt(Source(FILE[6:]), Endless())
    stream.begin()
    assert stream.size is None and stream.header == b""
    assert read_all(stream, 64) == TEXT
    stream.finish()
    assert not stream.can_replay


def test_ends_too_early():
    for cut in (6, 7, 150, 305):
        cipher = Plain()
        stream = Decrypt(Source(FILE[:cut]), cipher)
        stream.begin()
        detail = fails(OTAError.TRUNCATED, read_all, stream, 64)
        assert "holds 300 bytes" in detail and "after %d" % (cut - 6) in detail, detail
        fails(OTAError.TRUNCATED, stream.finish)
        assert not cipher.finished


def test_finish_before_all_was_read():
    cipher = Plain()
    stream = Decrypt(Source(FILE), cipher)
    stream.begin()
    stream.readinto(bytearray(100))
    assert "after 100" in fails(OTAError.TRUNCATED, stream.finish)
    assert not cipher.finished


def test_more_than_there_should_be():
    for extra in (1, 100):
        for size in (7, 300, 400):
            cipher = Plain()
            stream = Decrypt(Source(FILE + bytes(extra)), cipher)
            stream.begin()
            assert "300" in fails(OTAError.SIZE, read_all, stream, size)
            assert cipher.pos <= 300


def test_ends_within_the_header():
    for n in range(6):
        detail = fails(OTAError.TRUNCATED, Decrypt(Source(FILE[:n]), Plain()).begin)
        assert "after %d bytes" % n in detail and "the 6 of" in detail, detail


def test_a_short_file_of_another_kind_is_told():
    fails(OTAError.NOT_ENCRYPTED, Decrypt(Source(b"404"), Checking()).begin)
    fails(OTAError.TRUNCATED, Decrypt(Source(b"MIN"), Checking()).begin)


def test_length_that_the_download_knows():
    stream = Decrypt(Source(FILE, total=306), Plain())
    stream.begin()
    detail = fails(OTAError.SIZE, Decrypt(Source(FILE, total=307), Plain()).begin)
    assert "306" in detail and "307" in detail
    detail = fails(OTAError.TRUNCATED, Decrypt(Source(FILE, total=305), Plain()).begin)
    assert "306" in detail and "305" in detail
    fails(OTAError.SIZE, Decrypt(Source(b"", total=999), Plain()).resume, FILE[:6])
    unknown = Source(FILE)
    unknown.total = None
    Decrypt(unknown, Plain()).begin()


def test_replay():
    for done in (0, 1, 128, 300):
        cipher = Replaying()
        stream = Decrypt(Source(FILE[6 + done :]), cipher)
        assert stream.can_replay
        stream.resume(FILE[:6])
        assert stream.size == 300 and stream.header == FILE[:6]
        if done:
            stream.replay(bytearray(TEXT[: done // 2]), done // 2)
            stream.replay(bytearray(TEXT[done // 2 : done]), done - done // 2)
        assert stream.position == done
        assert read_all(stream, 50) == TEXT[done:]
        stream.finish()


def test_replay_of_more_than_there_is():
    stream = Decrypt(Source(b""), Replaying())
    stream.resume(FILE[:6])
    stream.replay(bytearray(300), 300)
    fails(OTAError.SIZE, stream.replay, bytearray(1), 1)


def test_source_that_starts_over():
    source = Source(FILE)
    stream = Decrypt(source, Plain())
    stream.begin()
    stream.readinto(bytearray(100))
    source.at = 0
    stream.begin()
    assert stream.position == 0
    assert read_all(stream, 64) == TEXT
    stream.finish()


def test_errors_of_the_source_pass_unchanged():
    class Broken:
        def readinto(self, buf):
            raise OSError(104)

    assert raises(OSError, Decrypt(Broken(), Plain()).begin).errno == 104
    stream = Decrypt(Broken(), Endless())
    stream.begin()
    assert raises(OSError, stream.readinto, bytearray(10)).errno == 104


def test_a_failing_cipher_is_not_finished():
    class Refusing(Plain):
        def finish(self):
            raise OTAError(OTAError.TAG, "no")

    stream = Decrypt(Source(FILE), Refusing())
    stream.begin()
    read_all(stream, 64)
    fails(OTAError.TAG, stream.finish)


def test_close_wipes():
    cipher = Plain()
    stream = Decrypt(Source(FILE), cipher)
    stream.close()
    stream.begin()
    stream.close()
    assert cipher.wiped == 2


def test_allocates_nothing():
    stream = Decrypt(Source(FILE), Plain())
    stream.begin()
    buf = bytearray(150)
    n = 0
    micropython.heap_lock()
    try:
        n = stream.readinto(buf)
    finally:
        micropython.heap_unlock()
    assert n == 150


def test_what_is_no_cipher():
    for value in (b"a key", "pem", object()):
        assert "which has no header_size" in str(raises(TypeError, Decrypt, Source(b""), value))


def test_length_without_a_length_in_the_header():
    class Open(Plain):
        def begin(self, header):
            super().begin(header)

    decrypt = Decrypt(Source(b"MINE\x01\x02" + bytes(20)), Open())
    decrypt.begin()
    assert decrypt.size_of(None) is None
    assert decrypt.size_of(100) == 94
