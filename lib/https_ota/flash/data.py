# Other partitions than OTA slots: file systems, ROMFS, data. Any file goes there; its size and SHA-256, and a
# signature, are what it can be checked by.
#
# A signed file is `espsecure sign-data`'s: filled up to a multiple of 4096 bytes, then the signature sector.

from esp32 import Partition
from micropython import const

from ..errors import OTAError
from .image import SplitHash
from .slot import SECTOR, Region, Slot

_TYPE_OTA = const(0x10)
# otadata, phy, nvs, nvs_keys, efuse: the system's own.
_SYSTEM = (0, 1, 2, 4, 5)


def target(label, staging):
    """The Slot or Target for the options `partition` and `staging`. Raises OTAError(PARTITION)."""
    part = _find(label)
    if staging is None:
        return Slot(part) if part.info()[0] == Partition.TYPE_APP else Target(part)
    if part.info()[0] == Partition.TYPE_APP:
        raise ValueError("staging: an OTA slot is its own staging area")
    if staging is True:
        return Target(part, Slot())
    other = _find(staging)
    return Target(part, Slot(other) if other.info()[0] == Partition.TYPE_APP else Target(other))


class DataInfo:
    """What is known of a file that is no image: `size` (None while unknown), and where it goes, `label`."""

    version = project_name = ""
    secure_version = 0
    chip_id = None
    app_elf_sha256 = bytes(8)

    def __init__(self, label):
        self.label = label
        self.size = None

    def __repr__(self):
        return "<data for %s>" % self.label


class Target(Region):
    """A data partition; the methods are those of slot.Slot.

    staging  the Slot or Target that is written and verified before it is copied here, else None
    """

    is_selected = False

    def __init__(self, part, staging=None):
        info = part.info()
        if info[1] in _SYSTEM:
            raise OTAError(
                OTAError.PARTITION, "%s is the system's own, it can't be written" % info[4]
            )
        if _mounted(info[4]):
            raise OTAError(
                OTAError.PARTITION,
                "%s is mounted: vfs.umount() it first, and use nothing of it meanwhile" % info[4],
            )
        super().__init__(part, False)
        if staging is None:
            return
        if staging.label == self.label:
            raise ValueError("staging: expected another partition than %s" % self.label)
        if staging.is_selected:
            raise OTAError(
                OTAError.PARTITION,
                "%s holds the firmware that starts next: restart first, or take that back with https_ota.cancel()"
                % staging.label,
            )
        self.area = staging
        self.size = min(self.size, staging.size)
        self.partitions += (staging.label,)

    def prepare(self):
        """An OTA slot that serves for staging must not be booted meanwhile."""
        if self.area is not self:
            self.area.prepare()

    def look(self, head, n):
        """The DataInfo of any file."""
        return DataInfo(self.label)

    def check(self, info, verify_spi_mode):
        """Nothing: any file will do."""

    def checker(self, total, whole):
        """A Checker for any file."""
        return Checker(self.size)

    def copy(self, buf, views, size):
        """Bring what is in the staging area to where it belongs: a generator, a buffer a step; otherwise as write()."""
        if self.area is self:
            return
        for i in range(0, (size + SECTOR - 1) // SECTOR, len(buf) // SECTOR):
            self.area.readblocks(i, buf)
            self.write(i, buf, views, size - i * SECTOR)
            yield False


class Checker:
    """As image.Checker, for any file: counts and hashes."""

    def __init__(self, limit):
        self._limit = limit
        self.pos = 0
        self.length = 0
        self.hash = SplitHash()

    def feed(self, buf, at, n):
        """Count the next bytes."""
        self.pos += n

    def least(self):
        """How long the file is at least: its content does not tell."""
        return 0

    def finish(self):
        """Raise OTAError for an empty file."""
        if not self.pos:
            raise OTAError(OTAError.TRUNCATED, "the file is empty")


def _find(label):
    try:
        part = Partition(label)
    except OSError:
        raise OTAError(
            OTAError.PARTITION, "the partition table has no partition called %r" % label
        )
    info = part.info()
    if info[0] == Partition.TYPE_APP:
        if info == Partition(Partition.RUNNING).info():
            raise OTAError(OTAError.PARTITION, "%s holds the running firmware" % label)
        if info[1] & 0xF0 != _TYPE_OTA:
            raise OTAError(
                OTAError.PARTITION,
                "%s is no OTA slot: the firmware there is what a board falls back on" % label,
            )
    return part


def _mounted(label):
    try:
        from vfs import mount

        paths = [m[1] for m in mount()]
    except (ImportError, TypeError):
        paths = None  # before MicroPython 1.25 nothing tells
    # What the firmware mounts at boot.
    if label == "romfs":
        return paths is not None and "/rom" in paths
    try:
        from flashbdev import bdev
    except ImportError:
        return False
    return bdev is not None and bdev.info()[4] == label and (paths is None or "/" in paths)
