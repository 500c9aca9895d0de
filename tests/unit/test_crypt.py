# trust/decrypt.py: the stream, with a cipher of the test's own.

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
        assert "300 bytes" in detail and "came %d" % (cut - 6) in detail, detail
        fails(OTAError.TRUNCATED, stream.finish)
        assert not cipher.finished


def test_finish_before_all_was_read():
    cipher = Plain()
    stream = Decrypt(Source(FILE), cipher)
    stream.begin()
    stream.readinto(bytearray(100))
    assert "came 100" in fails(OTAError.TRUNCATED, stream.finish)
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


# -- as a stream that can begin in the middle


class Remote(Source):
    """As net.download.Download: nothing comes at every second call, open() and readinto() alike."""

    offset = least = 0
    validator = b'E"1"'

    def __init__(self, data, status=200, total=None):
        super().__init__(data, 7, total)
        self.status = status
        self.position = 0
        self.calls = 0
        self.opened = []
        self.closed = 0
        self.change = None  # what the file is another one from then on

    def nothing(self):
        self.calls += 1
        return self.calls & 1

    def open(self, position=0, identity=None):
        if self.nothing():
            return None
        self.opened.append((position, identity and (identity.validator, identity.total)))
        self.at = self.position = position
        return self.status

    def readinto(self, buf):
        if self.nothing():
            return None
        if self.change:
            self.data, self.change = self.change, None
            self.at = self.position = 0
            raise OTAError(OTAError.CHANGED, "changed")
        n = super().readinto(buf)
        self.position += n
        return n

    def close(self):
        self.closed += 1

    def wait(self):
        return "waited"


class Known:
    validator = b'E"0"'
    total = 306


def patiently(function, *args):
    while True:
        result = function(*args)
        if result is not None:
            return result


def read_patiently(stream, size=50):
    buf = bytearray(size)
    out = b""
    while True:
        n = patiently(stream.readinto, buf)
        if not n:
            return out
        out += buf[:n]


def test_open_reads_the_header():
    source = Remote(FILE, 200, 306)
    stream = Decrypt(source, Plain())
    assert source.offset == 6 and stream.total == 300
    assert stream.open() is None and stream.open() is None and source.at == 0
    assert patiently(stream.open) == 200
    assert source.opened == [(0, None)] and source.at == 6
    assert (
        stream.header == FILE[:6] and stream.size == stream.total == 300 and stream.position == 0
    )
    assert read_patiently(stream) == TEXT and stream.position == 300
    stream.finish()
    # Anew: the header is read once more.
    assert patiently(stream.open) == 200 and len(source.opened) == 2
    assert read_patiently(stream) == TEXT


def test_what_is_not_said_is_the_sources():
    stream = Decrypt(Remote(FILE, 206), Plain())
    assert stream.validator == b'E"1"' and stream.status == 206 and stream.wait() == "waited"
    raises(AttributeError, lambda: stream.nobody)
    raises(AttributeError, lambda: Decrypt(Source(FILE), Plain()).wait)


def test_open_goes_on_in_the_middle():
    source = Remote(FILE, 206)
    stream = Decrypt(source, Replaying())
    stream.resume(FILE[:6])
    stream.replay(bytearray(TEXT[:100]), 100)
    assert patiently(stream.open, 100, Known) == 206
    assert source.opened == [(106, (b'E"0"', 306))]
    assert stream.position == 100
    assert read_patiently(stream) == TEXT[100:]
    stream.finish()


def test_open_in_the_middle_of_what_is_another_file():
    class Other(Remote):
        def open(self, position=0, identity=None):
            return super().open(0, identity)

    source = Other(FILE)
    stream = Decrypt(source, Replaying())
    stream.resume(b"MINE\x90\x01")
    stream.replay(bytearray(100), 100)
    assert patiently(stream.open, 100, Known) == 200
    assert stream.position == 0 and stream.size == 300
    assert read_patiently(stream) == TEXT


def test_nothing_new():
    for status in (204, 304):
        source = Remote(FILE, status)
        stream = Decrypt(source, Plain())
        assert patiently(stream.open, 0, Known) == status
        assert source.opened == [(0, (b'E"0"', 306))] and source.reads == 0
        source.status = 200
        assert patiently(stream.open) == 200 and read_patiently(stream) == TEXT
    Known.total, unknown = None, Known.total
    try:
        patiently(stream.open, 0, Known)
        assert source.opened[-1] == (0, (b'E"0"', None))
    finally:
        Known.total = unknown


def test_the_file_changes_on_its_way():
    other = bytes(255 - c for c in TEXT[:200])
    file = b"MINE" + bytes([200, 0]) + bytes(c ^ i & 255 for i, c in enumerate(other))
    for at in (0, 3, 6, 100, 306):
        source = Remote(FILE)
        stream = Decrypt(source, Plain())
        if at >= 6:
            patiently(stream.open)
            done = 0
            while done < at - 6:
                done += patiently(stream.readinto, bytearray(at - 6 - done))
            source.change = file
            fails(OTAError.CHANGED, patiently, stream.readinto, bytearray(50))
        else:
            while source.at < at:
                stream.open()
            source.change = file
            fails(OTAError.CHANGED, patiently, stream.open)
        assert read_patiently(stream) == other and stream.size == 200, at
        stream.finish()


def test_a_failed_open_begins_anew():
    source = Remote(b"MINE")
    stream = Decrypt(source, Plain())
    fails(OTAError.TRUNCATED, patiently, stream.open)
    source.data = FILE
    assert patiently(stream.open) == 200 and len(source.opened) == 2
    assert read_patiently(stream) == TEXT


def test_close_closes_what_was_opened():
    source = Remote(FILE)
    stream = Decrypt(source, Plain())
    while source.at < 3:
        stream.open()
    stream.close()
    assert source.closed == 1
    assert patiently(stream.open) == 200 and read_patiently(stream) == TEXT
    # A file is its owner's, who may be at its beginning once more.
    Decrypt(Source(FILE), Plain()).close()


def test_a_stream_without_open():
    stream = Decrypt(Source(FILE, 4), Plain())
    assert stream.open() == 200 and stream.total == 300
    assert read_all(stream, 64) == TEXT
    stream = Decrypt(Source(FILE, 4), Plain())
    assert stream.total is None and read_all(stream, 64) == TEXT and stream.total == 300


def test_length_at_least():
    source = Remote(FILE)
    stream = Decrypt(source, Plain())
    stream.least = 100
    assert source.least == 106
    stream.least = 0
    assert source.least == 0
