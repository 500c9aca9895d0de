# Compressed files as a stream of what is in them: gzip of any number of members (RFC 1952), BGZF, zlib (RFC 1950).
#
# An extra subfield "WS" in the first member's header tells what gzip has no field for: the base-2 logarithm of the window,
# and the size of all that is in the file (u32, little-endian). Without it the window may be 32 KiB.
#
# DeflateIO takes each member with its header, and compares what comes with the CRC-32 or Adler-32 behind it.

from struct import pack_into

import deflate
from micropython import const

try:
    from micropython import RingIO
except ImportError:  # before MicroPython 1.24
    from .ring import RingIO

from ..errors import OTAError

# A DeflateIO that runs dry can't be taken up again. A byte of content takes 2 bytes at most (15 bits for a literal, 48
# for a match of three), and as much as a block's head before it.
_BLOCK = const(384)
_CHUNK = const(256)
_AHEAD = const(896)  # two for each of a chunk, and a block's head
_SECTOR = const(4096)
_RING = const(1152)  # holds these, and a chunk


class Inflate:
    """What is in a compressed stream, itself a stream: readinto(buf) -> n, 0 at the end, None when nothing has come yet.

    source  the compressed file: readinto(buf), likewise, and `validator`
    wbits   base-2 logarithm of the window
    total   how much is in it, None where that is unknown
    most    where it is, how much may be in it

    `position` is how much was handed out, or passed over. `mark` tells where one may go on later: wbits; then as u32 the
    total or 0, where in the file the last member begins, and what `position` it has. Other errors than the source's are
    OTAError: TRUNCATED, SIZE, CHECKSUM, MEMORY.
    """

    least = 0  # what a session knows of the content tells nothing of the file

    def __init__(self, source, wbits, total, most):
        self._source = source
        # Of an encrypted file that was broken off, the part that came can't be had once more.
        self.validator = None if hasattr(source, "header") else source.validator
        self._wbits = wbits
        self.total = total
        self._most = total or most
        self._ring = RingIO(_RING)
        self._buf = self._parts = None
        self._z = None
        self._ended = False
        self._taken = self.position = self._skip = 0
        self.mark = bytearray(13)

    def feed(self, buf, n):
        """Take buf[:n], the first bytes of the file, which were read already."""
        self._taken += self._ring.write(buf, n)

    def resume(self, at, start, position):
        """Go on at `position`: the source does `at` where a member begins, which has the content from `start` on."""
        self._taken = at
        self.position = start
        self._skip = position - start

    def readinto(self, buf):
        """Inflate the next bytes into buf, by way of which the compressed ones come. Allocates for a member, and for another buf."""
        if buf is not self._buf:
            self._cut(memoryview(buf))
            self._buf = buf
        done = 0
        while done < len(buf):
            odd = done % _CHUNK
            if odd or done >= _SECTOR:
                part = memoryview(buf)[done : done + _CHUNK - odd]
            else:
                part = self._parts[done // _CHUNK]
            n = self._part(part)
            if not n:
                return done or n
            done += n
        return done

    def _cut(self, view):
        # Not where it is used: a comprehension's variables are allocated at each call.
        ends = range(0, min(len(view), _SECTOR), _CHUNK)
        self._parts = [view[i : i + _CHUNK] for i in ends]

    def _part(self, buf):
        ring = self._ring
        while True:
            while not self._ended and ring.any() < _AHEAD:
                n = self._source.readinto(buf)
                if n is None:
                    return None
                self._ended = not n
                self.feed(buf, n)
            n = len(buf)
            if not self._ended:
                n = min(n, (ring.any() - _BLOCK) >> 1)
            elif not ring.any() and self._z is None:
                self._compare(self.total)
                return 0
            if self._skip:
                n = min(n, self._skip)
            if self._z is None:
                self._note(self.position)
                self._z = deflate.DeflateIO(ring, deflate.AUTO, self._wbits)
            got = self._inflate(buf, n)
            self.position += got
            if got < n:
                # Whoever keeps the mark has had all sectors before this one.
                self._z = None
                if self.position % _SECTOR == 0:
                    self._note(self.position)
            if self.position > self._most:
                self._compare(self._most)
            if self._skip:
                self._skip -= got
            elif got:
                return got

    # Few names, and no more than these calls: a frame of more than 11 words would be allocated each time.
    def _inflate(self, buf, n):
        try:
            return self._z.readinto(buf, n)
        except MemoryError:
            self._too_large()
        except EOFError:
            self._cut_off()
        except OSError:
            self._damaged()

    def _too_large(self):
        from ..memory import no_memory

        raise no_memory("it was compressed with a window of %d bytes, " % (1 << self._wbits))

    def _cut_off(self):
        raise OTAError(
            OTAError.TRUNCATED, "the compressed file ends early, at byte %d" % self._at()
        )

    def _damaged(self):
        raise OTAError(
            OTAError.CHECKSUM, "the compressed file is damaged, at byte %d" % self._at()
        )

    def _at(self):
        return self._taken - self._ring.any()

    def _note(self, position):
        pack_into("<BIII", self.mark, 0, self._wbits, self.total or 0, self._at(), position)

    def _compare(self, expected):
        if expected is not None and self.position != expected:
            raise OTAError(
                OTAError.TRUNCATED if self.position < expected else OTAError.SIZE,
                "expected %d bytes in the compressed file, came %d" % (expected, self.position),
            )
