# Compressed files as a stream of what is in them: gzip of any number of members (RFC 1952), BGZF, zlib (RFC 1950).
#
# An extra subfield "WS" in the first member's header tells what gzip has no field for: the base-2 logarithm of the window,
# and the size of all that is in the file (u32, little-endian). Without it the window may be 32 KiB.
#
# DeflateIO takes each member with its header, and compares what comes with the CRC-32 or Adler-32 behind it.

import gc
from struct import pack_into

import deflate
from micropython import const

try:
    from micropython import RingIO
except ImportError:  # before MicroPython 1.24
    from .ring import RingIO

from ..errors import OTAError
from ..hot import copy

# A DeflateIO that runs dry can't be taken up again. A byte of content takes 2 bytes at most (15 bits for a literal, 48
# for a match of three), and as much as a block's head before it, or what is behind the last one.
_BLOCK = const(304)
_LOW = const(400)  # a block's head, and some bytes: more is to come
_HEAD = const(1000)  # a member's head, with a name or an extra field, and the first block's
_PIECE = const(1024)
_READ = const(944)
_RING = const(1343)  # holds both; and takes one byte more
_SECTOR = const(4096)
_SMALL = const(12)
_COLLECT = const(0x1FFFF)  # at each 128 KiB of content, if a member begins there


class Inflate:
    """What is in a compressed stream, itself a stream: readinto(buf) -> n, 0 at the end, None when nothing has come yet.

    source  the compressed file: readinto(buf), likewise, and `validator`
    wbits   base-2 logarithm of the window
    total   how much is in it, None where that is unknown
    most    where it is, how much may be in it
    piece   bytearray of 1024 bytes to work with, of use to others in between

    `position` is how much was handed out, or passed over. `mark` tells where one may go on later: wbits; then as u32 the
    total or 0, where in the file the last member begins, and what `position` it has. Other errors than the source's are
    OTAError: TRUNCATED, SIZE, CHECKSUM, MEMORY.
    """

    least = 0  # what a session knows of the content tells nothing of the file

    def __init__(self, source, wbits, total, most, piece):
        # Of an encrypted file that was broken off, the part that came can't be had once more.
        self.validator = None if hasattr(source, "header") else source.validator
        self._wbits = wbits
        self.total = total
        self._most = total or most
        self._ring = RingIO(_RING)
        self._taken = self.position = self._skip = 0
        self.mark = bytearray(13)
        # A generator's names are kept between calls, where a method's would be allocated each time.
        steps = self._work(source.readinto, piece)
        next(steps)
        self.readinto = steps.send  # inflate the next bytes into a buffer

    def feed(self, buf, n):
        """Take buf[:n], the first bytes of the file, which were read already."""
        self._taken += self._ring.write(buf, n)

    def resume(self, at, start, position):
        """Go on at `position`: the source does `at` where a member begins, which has the content from `start` on."""
        self._taken = at
        self.position = start
        self._skip = position - start

    def _work(self, read, piece):
        ring = self._ring
        held = ring.any
        few = memoryview(piece)[:_READ]
        z = None
        more = True
        done = 0
        buf = yield
        end = len(buf)
        first = at = self.position
        where, skip = self._taken, self._skip
        while True:
            n = held()
            while more and n < (_LOW if z else _HEAD):
                room = few if n < _LOW else memoryview(piece)[: _RING - n]
                n = read(room)
                if n is None:
                    self.position = at
                    buf = yield done or None
                    end = len(buf)
                    done = 0
                else:
                    self.feed(room, n)
                    more = n != 0
                n = held()
            if more:
                # By words, so that they can be copied.
                n = (n - _BLOCK) >> 3 << 2
            elif n or z:
                n = _PIECE
            else:
                self._compare(self.total, at)
                end = done
            if n > end - done:
                n = end - done
            if n:
                if z is None:
                    if self._wbits > _SMALL or not at & _COLLECT:
                        # Windows of members that are over: from here nothing looks as if they were in use.
                        gc.collect()
                    first, where = at, self._at()
                    z = deflate.DeflateIO(ring, deflate.AUTO, self._wbits)
                if skip:
                    n = min(n, skip)
                try:
                    got = z.readinto(piece, n)
                except MemoryError:
                    self._too_large()
                except EOFError:
                    self._cut_off()
                except OSError:
                    self._damaged()
                at += got
                if skip:
                    skip -= got
                else:
                    copy(buf, done, piece, 0, got)
                    done += got
                if got < n:
                    z = None
                    if not done and at % _SECTOR == 0:
                        self._note(at, self._at())
            if done == end:
                self.position = at
                self._compare(None, at)
                buf = yield done
                end = len(buf)
                done = 0
                # Whoever keeps the mark has had all sectors before this one, and keeps it once this one has come.
                if at % _SECTOR == 0:
                    self._note(first, where)

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

    def _note(self, position, where):
        pack_into("<BIII", self.mark, 0, self._wbits, self.total or 0, where, position)

    def _compare(self, expected, came):
        if came > self._most:
            expected = self._most
        if expected is not None and came != expected:
            raise OTAError(
                OTAError.TRUNCATED if came < expected else OTAError.SIZE,
                "expected %d bytes in the compressed file, came %d" % (expected, came),
            )
