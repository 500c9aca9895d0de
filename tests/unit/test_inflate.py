# pack/inflate.py and kinds.py: compressed files as streams. What a compressor makes of images: tests/updates/test_packed.py.

import gc
from binascii import crc32
from struct import pack

import micropython
from fakenet import fails
from https_ota import OTAError
from https_ota.pack import inflate, ring
from https_ota.pack.inflate import Inflate
from https_ota.pack.kinds import unpack

TEXT = bytes(i * 7 & 255 for i in range(3000))


def member(data, extra=None, flags=0, rest=b"", piece=700):
    """A member of gzip whose blocks are stored ones."""
    out = b"\x1f\x8b\x08" + bytes([flags | (4 if extra is not None else 0)]) + bytes(5) + b"\xff"
    if extra is not None:
        out += pack("<H", len(extra)) + extra
    out += rest
    for i in range(0, max(len(data), 1), piece):
        part = data[i : i + piece]
        last = i + piece >= len(data)
        out += pack("<BHH", last, len(part), len(part) ^ 0xFFFF) + part
    return out + pack("<II", crc32(data), len(data))


def subfield(wbits, total):
    return b"BC\2\0\0\0" + b"WS" + pack("<HBI", 5, wbits, total)


def blocks(data, size=1024, wbits=10):
    """As `https-ota pack` does it."""
    out = b""
    for i in range(0, len(data), size):
        out += member(data[i : i + size], subfield(wbits, len(data)) if i == 0 else None)
    return out + member(b"")


class Source:
    """Gives at most `step` bytes at once, and each time nothing before; it is a file that can be gone on with."""

    validator = b"E1"

    def __init__(self, data, step=1000, at=0):
        self.data = data
        self.step = step
        self.at = at
        self.due = False
        self.least = 7
        self.content_checked = True

    def readinto(self, buf):
        self.due = not self.due
        if self.due:
            return None
        n = min(len(buf), self.step, len(self.data) - self.at)
        i = 0
        while i < n:
            buf[i] = self.data[self.at + i]
            i += 1
        self.at += n
        return n


class Region:
    size = 65536
    piece = bytearray(1024)


def stream(source, head=300):
    """What kinds.py makes of a source, `head` bytes of which were read."""
    gc.collect()  # the one before had a window of up to 32 KiB
    buf = bytearray(4096)
    n = min(head, len(source.data))
    buf[:n] = source.data[:n]
    source.at = n
    return unpack(source, source, Region, buf, n)


def read_all(stream, size=512):
    buf = bytearray(size)
    out = b""
    while True:
        n = stream.readinto(buf)
        if n is None:
            continue
        if not n:
            return out
        out += bytes(buf[:n])


def in_sectors(stream):
    """As a session reads it."""
    buf = memoryview(bytearray(4096))
    out = b""
    fill = 0
    while True:
        n = stream.readinto(buf[fill:])
        if n is None:
            continue
        fill += n
        if not n or fill == 4096:
            out += bytes(buf[:fill])
            fill = 0
        if not n:
            return out


def test_any_pieces():
    data = blocks(TEXT)
    for step in (1, 7, 512, 5000):
        for size in (1, 33, 512, 4096):
            s = stream(Source(data, step), 50 + step % 100)
            assert read_all(s, size) == TEXT, (step, size)
            assert s.position == s.total == len(TEXT)


def test_header_fields():
    for flags, rest in (
        (0, b""),
        (8, b"name.bin\0"),
        (16, b"a comment\0"),
        (24, b"name\0comment\0"),
        (2, b"\x12\x34"),
        (1, b""),
        (8, b"n" * 600 + b"\0"),
    ):
        for extra in (None, b"", b"XY\3\0abc", b"BC\2\0\1\2"):
            one = member(TEXT, extra, flags, rest)
            s = stream(Source(one))
            assert s.total is None and read_all(s) == TEXT
            # Not the first one, which is read at once; with a small window.
            for step in (100, 1000):
                s = stream(Source(member(TEXT, subfield(10, 0)) + one, step))
                assert s.total is None and read_all(s) == TEXT + TEXT


def test_what_the_subfield_tells():
    for wbits in range(8, 16):
        s = stream(Source(blocks(TEXT * 3, wbits=wbits)))
        assert s.total == 9000
        assert in_sectors(s) == TEXT * 3 and s.mark[0] == wbits
    # What can't be is the nearest that can.
    for wbits, taken in ((0, 8), (3, 8), (16, 15), (255, 15)):
        s = stream(Source(blocks(TEXT * 3, wbits=wbits)))
        assert in_sectors(s) == TEXT * 3 and s.mark[0] == taken


def test_zlib():
    body = b"\1" + pack("<HH", 300, 300 ^ 0xFFFF) + TEXT[:300]
    a = b = 0
    for c in b"\1" + TEXT[:300]:
        a = (a + c) % 65521
        b = (b + a) % 65521
    # The first is the 1 that Adler-32 begins with.
    b = (b - 1) % 65521
    for head in (b"\x78\x9c", b"\x28\x15", b"\x08\x1d"):
        good = head + body + pack(">HH", b, a)
        assert read_all(stream(Source(good))) == TEXT[:300]
        fails(OTAError.CHECKSUM, read_all, stream(Source(good[:-1] + b"\0")))
        fails(OTAError.TRUNCATED, read_all, stream(Source(good[:-1])))
        fails(OTAError.CHECKSUM, read_all, stream(Source(good + bytes(2))))


def test_other_files_are_none():
    for head in (
        b"\xe9" * 40,
        b"\x1f\x8b\x07" + bytes(40),
        b"\x1f\x8b\x08",
        b"\x78\x9d" + bytes(40),
        b"<html>" * 9,
        b"",
    ):
        assert stream(Source(head)) is None


def test_nothing_is_unpacked_twice():
    inner = blocks(TEXT)
    s = stream(Source(blocks(inner)))
    buf = bytearray(1024)
    n = None
    while n is None:
        n = s.readinto(buf)
    assert buf[:2] == b"\x1f\x8b"
    assert unpack(s, Source(b""), Region, buf, n) is None


def test_what_is_known_of_the_content_is_not_of_the_file():
    source = Source(blocks(TEXT))
    s = stream(source)
    assert source.least == 0 and source.content_checked is False
    s.least = 5000
    assert source.least == 0
    assert s.validator == b"E1"
    # One that is encrypted can't be gone on with.
    source.header = None
    assert stream(source).validator is None


# -- damaged files


def outcome(data):
    try:
        return read_all(stream(Source(data)))
    except OTAError as e:
        return e.code


def test_truncated_anywhere():
    text = TEXT[:500]
    data = blocks(text, 200)
    end = len(data) - len(member(b""))
    for n in range(31, end):
        assert outcome(data[:n]) == OTAError.TRUNCATED, n
    # The last member is empty.
    assert outcome(data[:end]) == text
    # Without a total, what ends with a member is whole.
    one = member(text, subfield(10, 0))
    two = one + member(text)
    assert outcome(one) == text
    for n in range(50, len(two), 7):
        if n != len(one):
            assert outcome(two[:n]) == OTAError.TRUNCATED, n


def test_extended():
    for more in (b"\0", b"x" * 9, bytes(600), b"\x1f\x8b"):
        assert outcome(blocks(TEXT) + more) in (OTAError.CHECKSUM, OTAError.TRUNCATED), more
    assert outcome(blocks(TEXT) + member(b"x")) == OTAError.SIZE


def test_each_bit_counts():
    """Time, system and the size of a member are passed over; what comes is right, or an error."""
    data = blocks(TEXT[:300], 100)
    for i in range(3, len(data)):
        bad = bytearray(data)
        bad[i] ^= 1 << i % 8
        found = outcome(bad)
        assert isinstance(found, int) or found == TEXT[:300], i


def test_lying_totals():
    for total, code in (
        (2999, OTAError.SIZE),
        (1, OTAError.SIZE),
        (3001, OTAError.TRUNCATED),
        (0xFFFFFFFF, OTAError.TRUNCATED),
    ):
        assert outcome(member(TEXT, subfield(10, total))) == code


def test_bomb():
    """Where no total is told there is an end nevertheless: twice the slot, as what fills it up need not fit."""
    zeros = member(bytes(4096), piece=4096)
    data = zeros * 33
    detail = fails(OTAError.SIZE, read_all, stream(Source(data)))
    assert "expected 131072 bytes in the compressed file" in detail
    assert len(outcome(zeros * 32)) == 131072


def test_errors_tell_where():
    detail = fails(OTAError.TRUNCATED, read_all, stream(Source(blocks(TEXT)[:400])))
    assert detail == "the compressed file ends early, at byte 400"


def test_window_that_does_not_fit():
    class Deflate:
        AUTO = 0

        def DeflateIO(self, *args):
            return self

        # It is allocated for the first byte.
        def readinto(self, buf, n):
            raise MemoryError

    real, inflate.deflate = inflate.deflate, Deflate()
    try:
        detail = fails(OTAError.MEMORY, read_all, stream(Source(member(TEXT))))
        assert detail.startswith("it was compressed with a window of 32768 bytes, the heap has ")
    finally:
        inflate.deflate = real


def test_source_that_fails():
    class Broken(Source):
        def readinto(self, buf):
            if self.at > 1500:
                raise OSError(104)
            return Source.readinto(self, buf)

    s = stream(Broken(blocks(TEXT), 100))
    try:
        read_all(s)
        raise AssertionError
    except OSError as e:
        assert e.args[0] == 104 and not isinstance(e, OTAError)


# -- going on


def going_on(data, size, step, unit):
    """At each `unit` of content, from its mark; returns how many bytes had to be inflated once more at most."""
    s = stream(Source(data, step))
    buf = memoryview(bytearray(unit))
    kept = []
    done = fill = 0
    while True:
        n = s.readinto(buf[fill:])
        if n is None:
            continue
        if not n:
            break
        fill += n
        if fill == unit:
            # As the session keeps it: what is written, once all of the next has come.
            if done:
                kept.append((done, bytes(s.mark)))
            done += unit
            fill = 0
    most = 0
    for position, mark in kept:
        found = int.from_bytes(mark[5:9], "little"), int.from_bytes(mark[9:13], "little")
        # Else the record is of no use: seldom, and only where a buffer has more than a sector.
        assert found[1] <= position or unit > 4096
        if not found[0] or found[1] > position:
            continue
        source = Source(data, step, found[0])
        s = unpack(source, source, Region, mark, position, True)
        assert read_all(s) == size[position:], position
        most = max(most, position - found[1])
    return most


def test_going_on_from_a_mark():
    long = bytes(i * i >> 3 & 255 for i in range(40_000))
    # Members end where sectors do: nothing comes twice.
    for step in (300, 5000):
        for unit in (4096, 16384):
            assert going_on(blocks(long, 8192), long, step, unit) <= (unit == 4096) * 4096
            # Of a part that begins in the buffer that came last nothing is known yet.
            for size in (900, 4097, 5000):
                assert going_on(blocks(long, size), long, step, unit) < size + unit
    # One member: there is no place.
    assert going_on(member(long), long, 300, 4096) == 0


# -- memory


def test_allocates_nothing_within_a_member():
    data = member(bytes(60000), subfield(10, 60000), piece=4000)

    class Fast(Source):
        def readinto(self, buf):
            n = len(buf)
            self.at += n
            return self.file.readinto(buf)

    import io

    source = Fast(data)
    s = stream(source)
    source.file = io.BytesIO(data[source.at :])
    buf = bytearray(512)
    for _ in range(4):
        s.readinto(buf)
    micropython.heap_lock()
    for _ in range(60):
        s.readinto(buf)
    micropython.heap_unlock()
    assert s.position > 20000


# -- MicroPython before 1.24


def test_ring_of_old():
    """The same as the firmware's own, which comes with 1.24."""
    rings = [micropython.RingIO(1536), ring.RingIO(1536)]
    for n in (5, 0, 300, 7):
        data = bytearray(TEXT[:n] + b"xyz")
        assert [r.write(data, n) for r in rings] == [n, n]
    assert [r.write(b"abc") for r in rings] == [3, 3]
    for n in (1, 4, 200, 100, 500, 1):
        bufs = bytearray(n), bytearray(n)
        assert rings[0].any() == rings[1].any()
        assert rings[0].readinto(bufs[0]) == rings[1].readinto(bufs[1])
        assert bufs[0] == bufs[1]


def test_inflate_with_the_ring_of_old():
    real, inflate.RingIO = inflate.RingIO, ring.RingIO
    try:
        test_any_pieces()
        test_truncated_anywhere()
    finally:
        inflate.RingIO = real


def test_interface():
    s = Inflate(Source(b""), 10, None, 100, bytearray(1024))
    assert (s.least, s.total, s.position) == (0, None, 0)
