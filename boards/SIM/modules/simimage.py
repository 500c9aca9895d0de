# What the IDF (v5.5.2) checks of an app image: its bootloader, and Partition.set_boot().
#
# No more than the IDF, so that nobody leans on a check that the chip does not make.
import binascii
import hashlib
import struct
from micropython import const

_CHUNK = const(4096)  # a multiple of 4: a word of a segment is never split
_HEADER_LEN = const(24)
_DESC_AT = const(32)
_HASH_LEN = const(32)
_MAX_SEGMENTS = const(16)
_MAX_SEGMENT_LEN = const(0x1000000)
_DESC_MAGIC = b"\x32\x54\xcd\xab"
_PAGE = const(0x10000)


@micropython.viper
def _xor(buf: ptr8, n: int) -> int:
    x = 0
    for i in range(n):
        x ^= buf[i]
    return x


class _Invalid(Exception):
    pass


def _rev(full):
    return "v%d.%d" % (full // 100, full % 100)


def _is_set(rev):
    return rev not in (0, 0xFFFF)


class _Reader:
    def __init__(self, flash):
        self._flash = flash
        self._buf = bytearray(_CHUNK)

    def read(self, addr, n):
        # Where the bootloader can't map flash it gives up.
        if addr + n > self._flash.size:
            raise _Invalid("bootloader_mmap(0x%x, 0x%x) failed" % (addr, n))
        buf = memoryview(self._buf)[:n]
        self._flash.read(addr, buf)
        return buf


# None if the chip would run the image at part, else what it would say.
def fault(flash, part, chip, bootloader=False):
    try:
        _check(_Reader(flash), part[2], part[3], chip, bootloader)
    except _Invalid as e:
        return e.args[0]
    return None


def _check(reader, start, room, chip, bootloader):
    header = bytes(reader.read(start, _HEADER_LEN))
    count = header[1]
    _check_header(header, start, chip)
    desc = bytes(reader.read(start + _DESC_AT, 256))
    page = _PAGE
    sha = hashlib.sha256(header)
    checksum = 0xEF
    at = start + _HEADER_LEN
    for i in range(count):
        segment = bytes(reader.read(at, 8))
        sha.update(segment)
        load_addr, n = struct.unpack("<II", segment)
        at += 8
        if n % 4 or n >= _MAX_SEGMENT_LEN:
            raise _Invalid("invalid segment length 0x%x" % n)
        if i == 0:
            page = _check_desc(desc, chip, bootloader)
        if chip.maps(load_addr) and at % page != load_addr % page:
            raise _Invalid(
                "Segment %d load address 0x%08x, doesn't match data 0x%08x" % (i, load_addr, at)
            )
        end = at + n
        while at < end:
            buf = reader.read(at, min(_CHUNK, end - at))
            sha.update(buf)
            checksum ^= _xor(buf, len(buf))
            at += len(buf)
    buf = reader.read(at, 16 - (at - start) % 16)
    sha.update(buf)
    at += len(buf)
    if buf[-1] != checksum:
        raise _Invalid("Checksum failed. Calculated 0x%x read 0x%x" % (checksum, buf[-1]))
    hashed = header[23] != 0
    size = at - start + (_HASH_LEN if hashed else 0)
    if size > room:
        raise _Invalid("Image length %d doesn't fit in partition length %d" % (size, room))
    if hashed:
        expected = bytes(reader.read(at, _HASH_LEN))
        calculated = sha.digest()
        if calculated != expected:
            raise _Invalid(
                "Image hash failed - image is corrupt: calculated %s, expected %s"
                % (binascii.hexlify(calculated).decode(), binascii.hexlify(expected).decode())
            )


def _check_header(header, start, chip):
    chip_id, _, min_rev, max_rev = struct.unpack_from("<HBHH", header, 12)
    if header[0] != 0xE9:
        raise _Invalid("image at 0x%x has invalid magic byte (nothing flashed here?)" % start)
    if chip_id != chip.id:
        raise _Invalid("mismatch chip ID, expected %d, found %d" % (chip.id, chip_id))
    if min_rev > chip.rev:
        _wrong_rev("chip revision", ">=", min_rev, chip.rev)
    if _is_set(max_rev) and chip.rev > max_rev and not chip.no_max_rev:
        _wrong_rev("chip revision", "<=", max_rev, chip.rev)
    if header[1] > _MAX_SEGMENTS:
        raise _Invalid(
            "image at 0x%x segment count %d exceeds max %d" % (start, header[1], _MAX_SEGMENTS)
        )


# The app descriptor at the start of segment 0. Returns the size of the flash pages it asks for.
def _check_desc(desc, chip, bootloader):
    page = _PAGE
    is_app = desc.startswith(_DESC_MAGIC)
    if chip.flexible_page:
        if not is_app:
            raise _Invalid("Failed to fetch app description header!")
        page = 1 << desc[180] if desc[180] else _PAGE
    # Any chip's set_boot() but theirs takes the other image that starts with 0xE9: a bootloader, as
    # in the file that is flashed at the start of an empty chip. The real bootloader then refuses
    # to load segments over its own stack, data or code ("Segment 0 0x... invalid: overlaps
    # bootloader data"). Here, a missing descriptor stands for such load addresses.
    if bootloader and not is_app:
        raise _Invalid("Segment 0 invalid: overlaps bootloader data")
    if chip.blk_rev is not None:
        min_rev, max_rev = struct.unpack_from("<HH", desc, 176)
        if _is_set(min_rev) and min_rev > chip.blk_rev:
            _wrong_rev("efuse blk rev", ">=", min_rev, chip.blk_rev)
        if _is_set(max_rev) and chip.blk_rev > max_rev and not chip.no_max_rev:
            _wrong_rev("efuse blk rev", "<=", max_rev, chip.blk_rev)
    return page


def _wrong_rev(what, relation, wanted, found):
    raise _Invalid(
        "%s check failed. Required %s %s, found %s." % (what, relation, _rev(wanted), _rev(found))
    )
