# ImageInfo: what an application image says of itself, in its header and descriptor.
#
# Format: ESP-IDF's esp_app_format.h and esp_app_desc.h. Apart from the walk along an image, as who asks what runs needs no more,
# and as it stays: what an update has returned is of this class.

from struct import unpack_from

from esp32 import Partition
from micropython import const

from ..errors import OTAError

HEAD_SIZE = const(288)  # header, first segment's header, application descriptor

# Ids in an image's header. One text: tuples, unless frozen, take three times the memory.
_CHIPS = " 0: 2:-S2 5:-C3 9:-S3 12:-C2 13:-C6 16:-H2 18:-P4 20:-C61 23:-C5 "


def chip_name(chip_id):
    """The name of a chip by its id in an image's header."""
    _, known, rest = _CHIPS.partition(" %d:" % chip_id)
    return "ESP32" + rest.partition(" ")[0] if known else "chip id %d" % chip_id


class ImageInfo:
    """What an image says of itself.

    chip_id, min_chip_rev, max_chip_rev (major * 100 + minor; 0 or 65535 as maximum: none), spi_mode,
    secure_version, version, project_name, time, date, idf_ver (strings; MicroPython's own builds leave
    version and project_name empty), app_elf_sha256 (bytes), size (bytes to download, None when the server
    does not tell).
    """

    def __init__(self, head):
        self.spi_mode = head[2]
        self.chip_id, self.min_chip_rev, self.max_chip_rev = unpack_from("<HxHH", head, 12)
        self.secure_version = unpack_from("<I", head, 36)[0]
        self.version = _text(head, 48, 32)
        self.project_name = _text(head, 80, 32)
        self.time = _text(head, 112, 16)
        self.date = _text(head, 128, 16)
        self.idf_ver = _text(head, 144, 32)
        self.app_elf_sha256 = bytes(head[176:208])
        self.desc_spi_mode = head[213]  # 0 in images older than ESP-IDF 6.1
        self.size = None

    @property
    def chip(self):
        """The chip's name."""
        return chip_name(self.chip_id)

    def __repr__(self):
        return "<%s %s for %s, built %s %s with ESP-IDF %s>" % (
            self.project_name or "image",
            self.version or "without version",
            self.chip,
            self.date,
            self.time,
            self.idf_ver,
        )


def _text(head, at, size):
    raw = bytes(head[at : at + size]).split(b"\0", 1)[0]
    return "".join(chr(c) if 32 <= c < 127 else "?" for c in raw)


def parse(head, n):
    """The ImageInfo of an image that begins with head[:n]; None unless that is an application image."""
    if n < HEAD_SIZE or head[0] != 0xE9 or head[32:36] != b"\x32\x54\xcd\xab":
        return None
    return ImageInfo(head)


def running_info():
    """The ImageInfo of the running firmware."""
    head = bytearray(HEAD_SIZE)
    Partition(Partition.RUNNING).readblocks(0, head, 0)
    info = parse(head, HEAD_SIZE)
    if info is None:
        raise OTAError(OTAError.NO_SLOT, "the running partition holds no application image")
    return info
