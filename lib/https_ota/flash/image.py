# ESP application image: the walk along it while it streams past, the checks there, and its hashes.
#
# Format: ESP-IDF's esp_app_format.h. Nothing in Checker allocates per sector.

from hashlib import sha256

from micropython import const

from ..errors import OTAError
from ..hot import copy, xor

_NO_LIMIT = const(0x20000000)
_SECTOR = const(4096)

# What the bytes at hand belong to.
_HEADER = const(0)  # 24 bytes: magic, segment count, chip, ...
_SEGMENT = const(1)  # 8 bytes: load address, length
_DATA = const(2)
_PADDING = const(3)  # zeros, and the checksum as the last byte of a 16-byte row
_SHA256 = const(4)
_TRAILER = const(5)  # signature sector or anything else; ESP-IDF tolerates it


class SplitHash:
    """SHA-256 of a stream in two parts: its first `body` bytes, which an image carries the hash of, and the rest."""

    def __init__(self, body=None):
        self.body = _NO_LIMIT if body is None else body
        self._pos = 0
        self._sha = sha256()
        self._digest = None

    @staticmethod
    def whole(digest):
        """What finish() gives for a stream of one part with this SHA-256."""
        return digest + sha256().digest()

    def update(self, buf, mv, n):
        """Hash buf[:n]; mv is a memoryview of buf. Allocates only where the two parts meet."""
        end = self._pos + n
        if end > self.body and self._digest is None:
            cut = self.body - self._pos
            self._sha.update(mv[:cut])
            self._digest = self._sha.digest()
            self._sha = sha256(mv[cut:n])
        else:
            self._sha.update(buf if n == len(buf) else mv[:n])
        self._pos = end

    def finish(self):
        """Both digests, 64 bytes; nothing can be added afterwards."""
        if self._sha is not None:
            last = self._sha.digest()
            self._digest = self._digest + last if self._digest else self.whole(last)
            self._sha = None
        return self._digest


def hashes(read, size, body, buf, view):
    """A generator that hashes a partition: after each buffer it yields False, at the end it gives SplitHash's digests.

    read  called as read(sector, buf); `size` bytes are hashed, in two parts where `body` is no None
    buf   bytearray of whole sectors to read with, and `view` its memoryview
    """
    split = SplitHash(body)
    sector = 0
    while size:
        n = min(len(buf), size)
        read(sector, buf)
        split.update(buf, view, n)
        size -= n
        sector += n // _SECTOR  # what is no whole sector is the end
        yield False
    return split.finish()


class Checker:
    """Follows an image as it streams past: segment walk, checksum, true length, SHA-256.

    limit   bytes that there is room for (the slot's size)
    total   bytes that are coming, None when not known
    whole   True hashes the file as a whole, for a caller who knows its SHA-256, and not the image's own part

    `pos` counts the bytes fed, `length` is the image's once its last segment is in sight, `hash` the
    SplitHash to update with what was fed.
    """

    def __init__(self, limit, total, whole=False):
        self._whole = whole
        self._limit = limit if total is None or total > limit else total
        self._total = total
        self.pos = 0
        self.length = 0
        self.hash = SplitHash()
        self._state = _HEADER
        self._left = 24
        self._segments = 0
        self._number = 0
        self._has_sha = False
        self._xor = 0xEF
        self._small = bytearray(32)  # a field that may straddle two reads
        self._got = 0
        self._last = 0

    def feed(self, buf, at, n):
        """Look at buf[at:at+n], the next bytes of the image; OTAError when they can't be right."""
        while n:
            m = n if n < self._left else self._left
            state = self._state
            if state == _DATA:
                self._xor = xor(buf, at, m, self._xor)
            elif state == _PADDING:
                self._last = buf[at + m - 1]
            elif state != _TRAILER:
                copy(self._small, self._got, buf, at, m)
                self._got += m
            self.pos += m
            self._left -= m
            at += m
            n -= m
            if self._left == 0:
                self._next()

    def _next(self):
        state = self._state
        self._got = 0
        if state == _HEADER:
            self._segments = self._small[1]
            self._has_sha = self._small[23] == 1
            if not 1 <= self._segments <= 16:
                raise OTAError(
                    OTAError.SEGMENTS,
                    "expected 1 to 16 segments, got %d" % self._segments,
                )
        elif state == _SEGMENT:
            small = self._small
            size = small[4] | small[5] << 8 | small[6] << 16
            if small[7] or size & 3:
                raise OTAError(
                    OTAError.SEGMENTS,
                    "segment %d: expected a multiple of 4 below 16 MiB" % self._number,
                )
            if self.pos + size >= self._limit:
                self._overrun(size)
            self._number += 1
            self._state = _DATA
            self._left = size
            if size:
                return
        elif state == _PADDING:
            if self._last != self._xor:
                raise OTAError(
                    OTAError.CHECKSUM,
                    "checksum %02x computed, %02x in the image" % (self._xor, self._last),
                )
            if self._has_sha:
                self._state = _SHA256
                self._left = 32
                return
        if state == _PADDING or state == _SHA256:
            self._state = _TRAILER
            self._left = _NO_LIMIT
            return
        if self._number < self._segments:
            self._state = _SEGMENT
            self._left = 8
            return
        self._state = _PADDING
        self._left = 16 - (self.pos & 15)
        body = self.pos + self._left
        self.length = body + (32 if self._has_sha else 0)
        if not self._whole:
            self.hash.body = body
        if self.length > self._limit:
            self._overrun(0)

    def _overrun(self, size):
        end = self.length or self.pos + size
        if self._total is not None and self._total <= end and self._total == self._limit:
            self._cut(self._total, end)
        raise OTAError(
            OTAError.TOO_BIG,
            "the image needs more than %d bytes, the slot has %d" % (end, self._limit),
        )

    def _cut(self, size, end):
        raise OTAError(
            OTAError.TRUNCATED, "the file has %d bytes, its image %d or more" % (size, end)
        )

    def least(self):
        """How long the image is at least, by what has been seen of it."""
        return self.length or self.pos + self._left + 1

    def finish(self):
        """Raise OTAError unless a whole image has gone past, and its hash, whose SHA-256, if it has one, is right."""
        if self._state != _TRAILER:
            self._cut(self.pos, self.least())
        if self._has_sha and not self._whole and self.hash.finish()[:32] != self._small:
            raise OTAError(OTAError.DIGEST, "the image's own SHA-256 does not match its content")
