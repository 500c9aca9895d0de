# What outlives a reset: how far an update has come, and what the slot that was written last holds.
#
# Three records in NVS, namespace "https_ota". They are hints: what they say is checked against the flash
# before it is relied on, and without them an update starts at its beginning.
#
#   "part": version, slot number, length of the validator, 0; total, bytes done (u32, little-endian); two
#           sums over these bytes (hot.sums); 8 bytes of the URL's SHA-256; validator
#   "head": 8 bytes of the validator's SHA-256, then the header of an encrypted file; written before "part"
#   "done": version, slot number, length of the validator, 0; total, bytes of the image before its own
#           SHA-256; 8 bytes of app_elf_sha256; the same of the URL; 64 bytes of SplitHash; validator

from hashlib import sha256
from struct import pack_into, unpack_from

from esp32 import NVS
from micropython import const

_VERSION = const(1)
_PART = const(28)
_DONE = const(92)
_MAX_VALIDATOR = const(128)
_MAX_HEADER = const(8 + 1024)


def _short(data):
    return sha256(data).digest()[:8]


class Resume:
    """The records for one URL and one slot.

    `done_bytes`, `total` and `validator` tell of an update that was broken off; `sums` are its running sums.
    """

    def __init__(self, url, slot_number):
        self._nvs = NVS("https_ota")
        # The query changes with each presigned URL.
        self._url = _short(url.split("?", 1)[0].encode())
        self._slot = slot_number
        self._buf = buf = bytearray(_DONE + _MAX_VALIDATOR)
        self._view = None
        self._header = None
        self.sums = memoryview(buf)[12:20]
        self.done_bytes = 0
        self.total = None
        self.validator = None

    def load(self):
        """Read the record of an update that was broken off; return the bytes it says are done, 0 without one."""
        buf = self._buf
        n = self._get("part")
        if n < _PART or buf[1] != self._slot or buf[20:28] != self._url or n != _PART + buf[2]:
            return 0
        self.total, self.done_bytes = unpack_from("<II", buf, 4)
        self.validator = bytes(buf[_PART:n])
        self.expected = bytes(self.sums)
        return self.done_bytes

    def header(self):
        """The header of the encrypted file that load() told of, None when it is not known."""
        buf = bytearray(_MAX_HEADER)
        try:
            n = self._nvs.get_blob("head", buf)
        except OSError:
            return None
        return bytes(buf[8:n]) if buf[:8] == _short(self.validator) else None

    def bind(self, total, validator, header):
        """Begin to keep a record of a file; without a validator there is none to keep.

        `header` is that of an encrypted file, else None.
        """
        self._view = None
        if header is not None and len(header) > _MAX_HEADER - 8:
            return
        if total is None or validator is None or len(validator) > _MAX_VALIDATOR:
            return
        n = _PART + len(validator)
        buf = self._buf
        pack_into("<BBBBII", buf, 0, _VERSION, self._slot, len(validator), 0, total, 0)
        buf[20:28] = self._url
        buf[_PART:n] = validator
        self._view = memoryview(buf)[:n]
        self._header = None if header is None else _short(validator) + header

    def start_sums(self):
        """Make the running sums those of nothing."""
        pack_into("<II", self._buf, 12, 1, 0)

    def save(self, done):
        """Record that so many bytes are written. Allocates nothing."""
        if self._header is not None:
            self._set("head", self._header)
            self._header = None
        if self._view is not None:
            pack_into("<I", self._buf, 8, done)
            self._set("part", self._view)

    def clear(self):
        """Forget the update that was broken off."""
        self._view = None
        self._erase("part")
        self._erase("head")

    def held(self):
        """What the last update wrote from this URL, or None: slot number, total, body, elf_sha256, digest, validator."""
        buf = self._buf
        n = self._get("done")
        if n < _DONE or buf[20:28] != self._url or n != _DONE + buf[2]:
            return None
        total, body = unpack_from("<II", buf, 4)
        return buf[1], total, body, bytes(buf[12:20]), bytes(buf[28:92]), bytes(buf[_DONE:n])

    def finish(self, total, body, elf_sha256, digest, validator):
        """Record that the slot holds a whole image now, and forget that it was broken off."""
        if validator is not None and len(validator) <= _MAX_VALIDATOR:
            buf = self._buf
            pack_into("<BBBBII", buf, 0, _VERSION, self._slot, len(validator), 0, total, body)
            buf[12:20] = elf_sha256[:8]
            buf[20:28] = self._url
            buf[28:92] = digest
            buf[_DONE : _DONE + len(validator)] = validator
            self._set("done", memoryview(buf)[: _DONE + len(validator)])
        self.clear()

    def overwrite(self):
        """Forget what the slot holds: it is about to change."""
        buf = bytearray(_DONE + _MAX_VALIDATOR)
        try:
            if self._nvs.get_blob("done", buf) >= 2 and buf[1] == self._slot:
                self._erase("done")
        except OSError:
            pass

    def _get(self, key):
        try:
            n = self._nvs.get_blob(key, self._buf)
        except OSError:
            return 0
        return n if self._buf[0] == _VERSION else 0

    # A store that is full or worn out must not stop an update: it goes on without records.

    def _set(self, key, data):
        try:
            self._nvs.set_blob(key, data)
            self._nvs.commit()
        except OSError:
            self._view = None

    def _erase(self, key):
        try:
            self._nvs.erase_key(key)
            self._nvs.commit()
        except OSError:
            pass
