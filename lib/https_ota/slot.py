# The slot that is written: sectors into flash, and the boot selection.

from esp32 import Partition
from micropython import const

from .confirm import (
    ABORTED,
    INVALID,
    PENDING_VERIFY,
    entries,
    otadata,
    slot_number,
    state,
)
from .errors import OTAError
from .image import HEAD_SIZE, Checker, check_fit, parse

SECTOR = const(4096)
_COMPARE = const(512)
_ERASE = const(6)
_NOT_VALID = const(-5379)  # ESP_ERR_OTA_VALIDATE_FAILED


def running_info():
    """The ImageInfo of the running firmware."""
    head = bytearray(HEAD_SIZE)
    Partition(Partition.RUNNING).readblocks(0, head, 0)
    info = parse(head, len(head))
    if info is None:
        raise OTAError(
            OTAError.NO_SLOT, "the running partition holds no application image to compare with"
        )
    return info


class Slot:
    """An OTA slot, by default the passive one, and what may be put there.

    `part` is its esp32.Partition, `size` in bytes, `label`, `number` (0 for ota_0) and `running_number`,
    `running_info` the ImageInfo of what runs; `written` and `skipped` count buffers.
    data.Target has the same methods.
    """

    def __init__(self, part=None):
        running = Partition(Partition.RUNNING)
        try:
            self.part = part or running.get_next_update()
        except OSError:
            self.part = None
        # Where there is one OTA slot only, the one after it is itself.
        if self.part is not None and self.part.info() == running.info():
            self.part = None
        if self.part is None or otadata() is None:
            raise OTAError(
                OTAError.NO_SLOT,
                "the partition table has no OTA slot to write to: flash firmware with an OTA table"
                " (for example the OTA variant) once over USB",
            )
        # Writing now would destroy the only firmware that is known to work.
        if state() == PENDING_VERIFY:
            raise OTAError(
                OTAError.PENDING_VERIFY,
                "the running firmware is itself on trial: call https_ota.confirm() or https_ota.rollback() first",
            )
        info = self.part.info()
        self.size = info[3]
        self.label = info[4]
        self.number = slot_number(self.part)
        self._running = running
        self.running_number = slot_number(running)
        self.running_info = running_info()
        self.written = 0
        self.skipped = 0
        self._compare = bytearray(_COMPARE)

    def prepare(self):
        """Take the slot out of otadata, so that nothing half-written can be chosen at boot."""
        part = otadata()
        found = entries(part)
        for i in (0, 1):
            # Also one that was set to boot but never started: the slot it names is about to change.
            if found[i] and found[i][0] == self.number:
                part.ioctl(_ERASE, i)

    # -- what is put there

    def look(self, head, n):
        """The ImageInfo of a file that begins with head[:n], None when it is no application image."""
        return parse(head, n)

    def check(self, info, verify_spi_mode):
        """Raise OTAError unless an image can run on this board."""
        from .chip import revision

        rev, any_major = revision(self.running_info.chip_id)
        if any_major:
            info.max_chip_rev = 0
        check_fit(info, self.running_info, rev, verify_spi_mode)

    def checker(self, total, whole):
        """An image.Checker for this slot."""
        return Checker(self.size, total, whole)

    def signature_steps(self, trusted, buf, feed, size):
        """A generator (see steps.py) that raises OTAError unless one of the trusted keys signed the image."""
        from .sign import verify_steps

        return verify_steps(self.part, trusted, buf, feed, size)

    # -- sectors

    def erase(self, i):
        """Erase sector i."""
        self.part.ioctl(_ERASE, i)

    def write(self, i, buf, views, erased=False):
        """Make the sectors from i on hold buf; `views` are the memoryviews of its 512-byte pieces.

        False when they did so before. `erased`: they are blank, nothing needs a look.
        """
        if erased:
            self.part.writeblocks(i, buf, 0)
        elif self._holds(i, views):
            self.skipped += 1
            return False
        else:
            self.part.writeblocks(i, buf)
        self.written += 1
        return True

    def _holds(self, i, views):
        at = 0
        for view in views:
            self.part.readblocks(i, self._compare, at)
            if self._compare != view:
                return False
            at += _COMPARE
        return True

    def read(self, i, buf):
        """Fill buf with the sectors from i on."""
        self.part.readblocks(i, buf)

    def size_of_running(self):
        """Size of the running firmware's slot in bytes."""
        return self._running.info()[3]

    def read_running(self, i, buf):
        """Fill buf with the sectors from i on of the running firmware's slot."""
        self._running.readblocks(i, buf)

    def switch_steps(self, session):
        """switch() as a generator (see steps.py) of one step."""
        from .outcome import installed

        yield False
        installed(self.number, session.info)
        self.switch()

    def switch(self):
        """Boot from this slot next time. The firmware checks the whole image once more and refuses a bad one."""
        try:
            self.part.set_boot()
        except OSError as e:
            if e.args[0] != _NOT_VALID:
                raise
            raise OTAError(
                OTAError.NOT_BOOTABLE,
                "the firmware's own check refused the image in %s (%s): wrong chip, broken segments, or changed since it"
                " was written" % (self.label, e),
            )


def find_rollback(found, own):
    """Check that with the running slot's otadata record invalid, another firmware would start."""
    if own is None:
        raise OTAError(
            OTAError.ROLLBACK,
            "the running firmware was not installed by an update: there is no older one",
        )
    other = found[1 - own]
    for part in Partition.find(Partition.TYPE_APP):
        number = slot_number(part)
        if number < 0:
            candidate = other is None or other[2] in (INVALID, ABORTED)  # factory
        else:
            candidate = (
                other is not None
                and number == other[0]
                and number != found[own][0]
                and other[2] not in (INVALID, ABORTED)
            )
        if candidate and _whole(part):
            return
    raise OTAError(OTAError.ROLLBACK, "no other slot holds a firmware that could be started")


def _whole(part):
    """True when the partition holds a whole image by its checksum and SHA-256."""
    size = part.info()[3]
    buf = bytearray(SECTOR)
    mv = memoryview(buf)
    checker = Checker(size, None)
    try:
        for i in range(size // SECTOR):
            part.readblocks(i, buf)
            if i == 0 and parse(buf, SECTOR) is None:
                return False
            checker.feed(buf, 0, buf, 0, SECTOR)
            checker.hash.update(buf, mv, SECTOR)
            if checker.length and checker.pos >= checker.length:
                checker.finish()
                return True
    except OTAError:
        pass
    return False
