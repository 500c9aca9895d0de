# Other partitions than OTA slots: file systems, ROMFS, data. Any file goes there; its size and SHA-256, and a
# signature, are what it can be checked by.
#
# A signed file is `espsecure sign-data`'s: filled up to a multiple of 4096 bytes, then the signature sector.

from esp32 import Partition
from micropython import const

from ..errors import OTAError, no_memory, refuse
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


def beside(name):
    """The label of the partition that belongs to the passive OTA slot: "romfs_1" for "romfs" while ota_0 runs."""
    return "%s_%d" % (name, Slot().number)


def together(*sessions):
    """Install several things at once: each OTA is received and verified before any takes effect, a firmware last.

    Returns the list of what each begin() gave, None for what had nothing to do. Where the firmware has nothing to do,
    nor has what belongs to the slot that it would go to, by its label (see beside()): that is of the firmware there.
    For a consistent pair after a power cut at any moment, what is not firmware needs such a place, which the running
    firmware does not use. No two sessions may write to the same partition, staging= included: OTAError(IN_PROGRESS).
    """
    from ..steps import run

    infos = [None] * len(sessions)
    work = []
    try:
        for session in sessions:
            session.claim()
        # The firmware decides, and takes effect last.
        order = sorted(range(len(sessions)), key=lambda i: not sessions[i].is_firmware)
        idle = []
        for i in order:
            session = sessions[i]
            if not session.is_firmware and any(session.slot.endswith(end) for end in idle):
                continue
            info = infos[i] = session.begin()
            if session.refusal:
                raise session.refusal  # the others were meant for this firmware
            if info is None:
                if session.is_firmware:
                    idle.append("_%d" % session.region.number)
                continue
            # It may have been selected before, and what it needs is about to change.
            for other in work:
                other.region.prepare()
            while session.perform():
                pass
            run(session.verify_steps())
            work.append(session)
        for session in reversed(work):
            run(session.finish_steps(True))
        return infos
    finally:
        for session in sessions:
            session.abort()


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

    running_info = None
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

    def switch_steps(self, info, buf, views, size, feed):
        """Copy from the staging area to where it belongs, a buffer a step, and compare."""
        if self.area is self:
            return
        for i in range(0, (size + SECTOR - 1) // SECTOR, len(buf) // SECTOR):
            self.area.read(i, buf)
            self.write(i, buf, views)
            if not self.holds(i, views):
                raise OTAError(
                    OTAError.READ_BACK, "%s does not hold what was copied to it" % self.label
                )
            if feed:
                feed()
            yield False


class Checker:
    """As image.Checker, for any file: copies, counts and hashes."""

    def __init__(self, limit):
        self._limit = limit
        self.pos = 0
        self.length = 0
        self.hash = SplitHash()

    def feed(self, dst, d, src, s, n):
        """Copy src[s:s+n], the next bytes, to dst[d:]."""
        from ..hot import copy_xor

        copy_xor(dst, d, src, s, n, 0)
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


def fetch(url, write, *, sha256=None, size=None, decrypt=None, wdt=None, **http):
    """Download a file, over all that can go wrong, and hand it to write(memoryview) piece by piece; return its size.

    sha256   of what is handed over, if known: 32 bytes or 64 hex digits; OTAError(DIGEST) at the end if it is another
    size     its bytes, if known, likewise; OTAError(SIZE)
    decrypt  as OTA's; only after the return is what came authentic
    wdt      a machine.WDT to feed
    The other options are those of download.Download. The pieces are at most 1024 bytes long, and the memory is used again
    for the next. When the file changes on the server meanwhile, this ends with OTAError(CHANGED).
    """
    try:
        return _fetch(url, write, sha256, size, decrypt, wdt, http)
    except MemoryError:
        raise no_memory()


def _fetch(url, write, sha256, size, decrypt, wdt, http):
    import hashlib

    from ..der import digest32
    from ..net.download import Download
    from ..hot import equal

    for name, expected, value, fits in (
        ("size", "bytes", size, not size or (isinstance(size, int) and size > 0)),
        ("wdt", "a WDT", wdt, not wdt or hasattr(wdt, "feed")),
    ):
        if not fits:
            refuse(name, expected, value)
    expected = None if sha256 is None else digest32(sha256, "sha256")
    wanted = size
    feed = wdt.feed if wdt else None
    source = download = Download(url, **http)
    if decrypt is not None:
        from ..trust.decrypt import Decrypt

        source = Decrypt(download, decrypt, feed)
        download.offset = decrypt.header_size
    if wanted:
        download.least = download.offset + wanted
    buf = bytearray(1024)
    view = memoryview(buf)
    sha = hashlib.sha256()
    size = 0

    def wait():
        if feed:
            feed()
        download.wait()

    try:
        while download.open() is None:
            wait()
        if download.total is None and download.open_end and not (wanted or expected or decrypt):
            from ..net.words import no_length

            raise no_length(url)
        if decrypt is not None:
            while not source.begin():
                wait()
        while True:
            n = source.readinto(buf)
            if n is None:
                wait()
                continue
            if not n:
                break
            sha.update(view[:n])
            write(view[:n])
            size += n
            if feed:
                feed()
        if decrypt is not None:
            source.finish()
    finally:
        download.close()
        if decrypt is not None:
            source.close()
    if wanted and size != wanted:
        raise OTAError(OTAError.SIZE, "expected %d bytes, got %d" % (wanted, size))
    if expected and not equal(sha.digest(), expected):
        raise OTAError(OTAError.DIGEST, "the file is not the one expected: its SHA-256 is another")
    return size
