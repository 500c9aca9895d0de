# What outlives a reset: how far an update has come, and what a partition holds that was written.
#
# Records in NVS, one of each kind for each partition (X, see nvs.key()). They are hints: what they say is checked
# against the flash before it is relied on, and without them an update starts at its beginning.
#
#   "partX": version, lengths of the validator and of the mark, 0; total, bytes done (u32, little-endian); two sums over
#            these bytes (hot.sums); 8 bytes of the URL's SHA-256; the image's first 32 bytes, which the flash does not hold
#            yet (slot.py); validator; of a compressed file its `mark` (pack/inflate.py)
#   "headX": 8 bytes of the validator's SHA-256, then the header of an encrypted file; written before "partX"
#   "doneX": version, length of the validator, 0, 0; size, bytes of the image before its own SHA-256; length of the
#            file; 8 bytes of app_elf_sha256; the same of the URL; 64 bytes of SplitHash; validator

from collections import namedtuple
from hashlib import sha256
from struct import pack_into, unpack_from

from micropython import const

from . import nvs
from .slot import SECTOR
from ..errors import OTAError
from ..hot import copy, sums

_VERSION = const(2)
_PART = const(60)
_HEAD_AT = const(28)
_DONE = const(96)
_MAX_VALIDATOR = const(128)
_MAX_HEADER = const(8 + 1024)


class Held(namedtuple("Held", ("size", "body", "total", "elf_sha256", "digest", "validator"))):
    """What a partition holds. size, body, total: bytes of the image, of what its own SHA-256 covers, of the file (0: unknown)."""

    def is_of(self, file, info):
        """Whether the file that has begun to come, with an image of this ImageInfo, is this one."""
        # A date, above all, is the same for many files.
        return (
            file.validator == self.validator
            and (file.total or 0) == self.total
            and info.app_elf_sha256[:8] == self.elf_sha256
        )


def _short(data):
    return sha256(data).digest()[:8]


class Resume:
    """The records for one file and one partition.

    file   what names it, see net.url.identity()
    key    of the partition, see nvs.key()
    `sums` are the running sums of the update under way. Of one that was broken off `total` and `validator` tell the file,
    `mark` where in a compressed one it goes on (None: it is none), `at` how many of its bytes come before that.
    """

    def __init__(self, file, key):
        self._url = _short(file.encode())
        self._key = key
        self._part = "part" + key
        self._buf = buf = bytearray(_DONE + _MAX_VALIDATOR)
        self._view = None
        self._header = None
        self.sums = memoryview(buf)[12:20]
        self.total = self.validator = self.held_back = self.info = self.checker = self.mark = None
        self.done_bytes = self.at = 0

    def replay(self, region, buf, view, crypt, size, whole, verify_spi_mode):
        """Take up what an earlier session wrote, after a look at the flash: a generator that returns the bytes that are there.

        `info` and `checker` are the image's then. The arguments are the session's: its buffer, the trust.decrypt.Decrypt or
        None, the size that is expected or None, whether the SHA-256 is of the whole file.
        """
        done = self.load()
        unit = len(buf)
        if not 0 < done <= region.size or done % unit:
            return 0
        expected = bytes(self.sums)
        area = region.area
        try:
            total = self.total
            if crypt:
                header = self.header()
                if header is None:
                    return 0
                crypt.resume(header)
                total = crypt.size_of(total)
            self.at = done
            if self.mark:
                total, self.at, begins = unpack_from("<III", self.mark, 1)
                total = total or size
                if begins > done:
                    return 0
            if not self.at or (size and size != total):
                return 0
            checker = region.checker(total, whole)
            self.start_sums()
            area.head = self.held_back if area.holds_back else None
            for i in range(done // unit):
                area.readblocks(i * (unit // SECTOR), buf)
                if i == 0:
                    info = region.look(buf, unit)
                    if info is None:
                        return 0
                    region.check(info, verify_spi_mode)
                sums(buf, unit, self.sums)
                checker.feed(buf, 0, unit)
                checker.hash.update(buf, view, unit)
                if crypt:
                    crypt.replay(buf, unit)
                yield False
        except OTAError:
            return 0
        if self.sums != expected:
            return 0
        info.size = total
        self.info = info
        self.checker = checker
        return done

    def load(self):
        """Read the record of an update that was broken off; return the bytes it says are done, 0 without one."""
        buf = self._buf
        n = nvs.get(self._part, buf)
        end = _PART + buf[1]
        if n < _PART or buf[0] != _VERSION or buf[20:28] != self._url or n != end + buf[2]:
            return 0
        self.total, self.done_bytes = unpack_from("<II", buf, 4)
        self.held_back = bytes(buf[_HEAD_AT:_PART])
        self.validator = bytes(buf[_PART:end])
        self.mark = bytes(buf[end:n])
        return self.done_bytes

    def find(self, region):
        """What this URL gave before: Held or None of this partition, of the firmware that runs, and what to ask news of."""
        known = held = self.held()
        running = None
        if region.holds_back:
            running = self.held(nvs.key(region.running))
            # Whoever flashed the board by cable meanwhile left the record behind.
            if running and running.elf_sha256 != region.running_info().app_elf_sha256[:8]:
                running = None
        if running:
            region.came = running
            if not (held and region.is_selected):
                known = running
        return held, running, known

    def header(self):
        """The header of the encrypted file that load() told of, None when it is not known."""
        buf = bytearray(_MAX_HEADER)
        n = nvs.get("head" + self._key, buf)
        return bytes(buf[8:n]) if n > 8 and buf[:8] == _short(self.validator) else None

    def bind(self, total, stream, header):
        """Begin to keep a record of a file that comes as `stream`; without a validator there is none to keep.

        `header` is that of an encrypted file, else None.
        """
        self._view = None
        validator = stream.validator
        if header is not None and len(header) > _MAX_HEADER - 8:
            return
        if total is None or validator is None or len(validator) > _MAX_VALIDATOR:
            return
        self._mark = mark = getattr(stream, "mark", b"")
        n = _PART + len(validator)
        buf = self._buf
        pack_into("<BBBBII", buf, 0, _VERSION, len(validator), len(mark), 0, total, 0)
        buf[20:28] = self._url
        buf[_PART:n] = validator
        self._view = memoryview(buf)[: n + len(mark)]
        self._header = None if header is None else _short(validator) + header

    def start_sums(self):
        """Make the running sums those of nothing."""
        pack_into("<II", self._buf, 12, 1, 0)

    def save(self, done, held_back):
        """Record that so many bytes are written, and the first 32 that are not (None: all are)."""
        if self._header is not None:
            self._put("head" + self._key, self._header)
            self._header = None
        if self._view is not None:
            pack_into("<I", self._buf, 8, done)
            n = len(self._mark)
            copy(self._view, len(self._view) - n, self._mark, 0, n)
            if held_back is not None:
                copy(self._buf, _HEAD_AT, held_back, 0, _PART - _HEAD_AT)
            self._put(self._part, self._view)

    def clear(self):
        """Forget the update that was broken off."""
        self._view = None
        nvs.drop(self._part)
        nvs.drop("head" + self._key)

    def held(self, key=None):
        """What the last update from this URL wrote to a partition (None: this one), a Held, or None."""
        buf = self._buf
        n = nvs.get("done" + (key or self._key), buf)
        if n < _DONE or buf[0] != _VERSION or buf[24:32] != self._url or n != _DONE + buf[1]:
            return None
        return Held(
            *unpack_from("<III", buf, 4),
            bytes(buf[16:24]),
            bytes(buf[32:_DONE]),
            bytes(buf[_DONE:n]),
        )

    def done(self, size, hash, info, file):
        """Record that the partition holds a file of the source `file`: bytes of the image, its SplitHash, its ImageInfo."""
        total = file.total or 0
        sha = info.app_elf_sha256
        self.finish(Held(size, hash.body, total, sha, hash.finish(), file.validator))

    def finish(self, held):
        """Record what the partition holds now, a Held; and forget that it was broken off."""
        validator = held.validator
        if validator is not None and len(validator) <= _MAX_VALIDATOR:
            buf = self._buf
            pack_into("<BBBBIII", buf, 0, _VERSION, len(validator), 0, 0, *held[:3])
            buf[16:24] = held.elf_sha256[:8]
            buf[24:32] = self._url
            buf[32:_DONE] = held.digest
            buf[_DONE : _DONE + len(validator)] = validator
            nvs.put("done" + self._key, memoryview(buf)[: _DONE + len(validator)])
        self.clear()

    def overwrite(self):
        """Forget what the partition holds: it is about to change."""
        nvs.drop("done" + self._key)

    def _put(self, key, data):
        # A store that is full or worn out must not stop an update: it goes on without records.
        if not nvs.put(key, data):
            self._view = None
