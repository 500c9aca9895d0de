# Other partitions than OTA slots: file systems, ROMFS, data. Any file goes there; its size and SHA-256, and a
# signature, are what it can be checked by.
#
# A signed file is `espsecure sign-data`'s: filled up to a multiple of 4096 bytes, then the signature sector.

from binascii import crc32

from esp32 import Partition
from micropython import const

from .errors import OTAError
from .image import SplitHash
from .slot import Slot

_SECTOR = const(4096)
_TYPE_OTA = const(0x10)
# otadata, phy, nvs, nvs_keys, efuse: the system's own.
_SYSTEM = (0, 1, 2, 4, 5)
_ERASE = const(6)


def target(label, staging):
    """The Slot or Target for the options `partition` and `staging`. Raises OTAError(PARTITION)."""
    part = _find(label)
    if staging is None:
        if part.info()[0] == Partition.TYPE_APP:
            return Slot(part)
        return Target(part)
    if part.info()[0] == Partition.TYPE_APP:
        raise ValueError("staging: an OTA slot is its own staging area")
    if staging is True:
        return Staged(part, Slot())
    other = _find(staging)
    return Staged(part, Slot(other) if other.info()[0] == Partition.TYPE_APP else Target(other))


def beside(name):
    """The label of the partition that belongs to the passive OTA slot: "romfs_1" for "romfs" while ota_0 runs."""
    return "%s_%d" % (name, Slot().number)


def together(*sessions):
    """Install several things at once: each OTA is received and verified before any takes effect, a firmware last.

    Returns the list of what each begin() gave; those that had nothing to do are left out of the rest. For a
    consistent pair after a power cut at any moment, what is not firmware needs a place that the running firmware does
    not use: see beside().
    """
    from .steps import run

    try:
        infos = []
        work = []
        for session in sessions:
            info = session.begin()
            infos.append(info)
            if session.refusal:
                raise session.refusal  # the others were meant for this firmware
            if info is not None:
                while session.perform():
                    pass
                run(session.verify_steps())
                work.append(session)
        work.sort(key=lambda session: session._slot.running_info is not None)
        for session in work:
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


class Target:
    """A data partition; the methods are those of slot.Slot."""

    running_number = -1
    running_info = None

    def __init__(self, part):
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
        self.part = part
        self.size = info[3]
        self.label = info[4]
        self.number = 0x80 | crc32(info[4].encode()) & 0x7F
        self.written = 0
        self.skipped = 0
        self._compare = bytearray(512)

    def prepare(self):
        """Nothing: who reads this partition has to know whether it is whole."""

    def look(self, head, n):
        """The DataInfo of any file."""
        return DataInfo(self.label)

    def check(self, info, verify_spi_mode):
        """Nothing: any file will do."""

    def checker(self, total, whole):
        """A Checker for any file."""
        return Checker(self.size)

    def signature_steps(self, trusted, buf, feed, size):
        """As Slot.signature_steps()."""
        from .sign import verify_steps

        if size % _SECTOR or size < 2 * _SECTOR:
            raise OTAError(
                OTAError.UNSIGNED,
                "expected a file of whole sectors with a signature sector at its end, got %d bytes: sign it with"
                " espsecure" % size,
            )
        return verify_steps(self.part, trusted, buf, feed, size, size - _SECTOR)

    def size_of_running(self):
        """0: nothing runs from here."""
        return 0

    def switch_steps(self, session):
        """Nothing: what was written is in its place."""
        yield False

    erase = Slot.erase
    write = Slot.write
    read = Slot.read
    _holds = Slot._holds


class Staged(Target):
    """A data partition that is written by way of another one."""

    def __init__(self, part, staging):
        super().__init__(part)
        self._final = part
        self._staging = staging
        self.part = staging.part
        self.size = min(self.size, staging.size)

    def prepare(self):
        """An OTA slot must not be booted meanwhile."""
        self._staging.prepare()

    def switch_steps(self, session):
        """Copy to where it belongs, a buffer a step, and compare."""
        buf, views, size = session._sector, session._pieces, session.info.size
        self.part, staging = self._final, self.part
        for i in range(0, (size + _SECTOR - 1) // _SECTOR, len(buf) // _SECTOR):
            staging.readblocks(i, buf)
            self.write(i, buf, views)
            if not self._holds(i, views):
                raise OTAError(
                    OTAError.READ_BACK, "%s does not hold what was copied to it" % self.label
                )
            if session._feed:
                session._feed()
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
        from .hot import copy_xor

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


def fetch(url, write, *, sha256=None, size=None, decrypt=None, **http):
    """Download a file, over all that can go wrong, and hand it to write(memoryview) piece by piece; return its size.

    sha256   of what is handed over, if known: 32 bytes or 64 hex digits; OTAError(DIGEST) at the end if it is another
    size     its bytes, if known, likewise; OTAError(SIZE)
    decrypt  as OTA's; only after the return is what came authentic
    The other options are those of download.Download. The pieces are at most 1024 bytes long, and the memory is used again
    for the next. When the file changes on the server meanwhile, this ends with OTAError(CHANGED).
    """
    import hashlib

    from .download import Download
    from .hot import equal
    from .ota import to_digest

    expected = to_digest(sha256)
    wanted = size
    source = download = Download(url, **http)
    if decrypt is not None:
        from .crypt import Decrypt

        source = Decrypt(download, decrypt)
        download.offset = decrypt.header_size
    if wanted:
        download.least = download.offset + wanted
    buf = bytearray(1024)
    view = memoryview(buf)
    sha = hashlib.sha256()
    size = 0
    try:
        download.open()
        if download.total is None and download.open_end and not (wanted or expected or decrypt):
            from .explain import no_length

            raise no_length(url)
        if decrypt is not None:
            source.begin()
        while True:
            n = source.readinto(buf)
            if not n:
                break
            sha.update(view[:n])
            write(view[:n])
            size += n
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
