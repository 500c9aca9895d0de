# The slot that is written: sectors into flash, and the boot selection.

from binascii import crc32
from struct import pack

import machine
from esp32 import Partition
from micropython import const

from . import otadata
from ..errors import OTAError
from .image import HEAD_SIZE, Checker, check_fit, parse
from .nvs import key

SECTOR = const(4096)
HELD = const(32)  # bytes of an image that are written last: one block of flash encryption
_COMPARE = const(512)
_ERASE = const(6)
_NOT_VALID = const(-5379)  # ESP_ERR_OTA_VALIDATE_FAILED

_selected = False  # since the last start of any kind


def running_info():
    """The ImageInfo of the running firmware."""
    head = bytearray(HEAD_SIZE)
    Partition(Partition.RUNNING).readblocks(0, head, 0)
    info = parse(head, len(head))
    if info is None:
        raise OTAError(OTAError.NO_SLOT, "the running partition holds no application image")
    return info


class Region:
    """A partition that is written, `part`: `size` in bytes, `label`; `written` and `skipped` count buffers.

    `area` is where what is received goes: itself, but for a data partition with a staging area.

    holds_back  True keeps the first 32 bytes in RAM, as `head`, and 0xFF in the flash: what is written then is no image
                that boots, whatever otadata says, until release() puts them there
    """

    def __init__(self, part, holds_back):
        info = part.info()
        self.part = part
        self.size = info[3]
        self.label = info[4]
        self.area = self
        self.written = 0
        self.skipped = 0
        self.head = None
        self.holds_back = holds_back
        self._compare = bytearray(_COMPARE)

    @property
    def key(self):
        """What tells its records in NVS from others'."""
        return key(self.part)

    def erase(self, i):
        """Erase sector i."""
        self.part.ioctl(_ERASE, i)

    def write(self, i, buf, views, erased=False):
        """Make the sectors from i on hold buf; `views` are the memoryviews of its 512-byte pieces.

        False when they did so before. `erased`: they are blank, nothing needs a look.
        """
        if i == 0 and self.holds_back:
            return self._write_first(buf, views, erased)
        if erased:
            self.part.writeblocks(i, buf, 0)
        elif self.holds(i, views):
            self.skipped += 1
            return False
        else:
            self.part.writeblocks(i, buf)
        self.written += 1
        return True

    def _write_first(self, buf, views, erased):
        first = views[0]
        self.head = bytes(first[:HELD])
        first[:HELD] = b"\xff" * HELD
        written = erased or not self.holds(0, views)
        if written:
            if not erased:
                for i in range(len(buf) // SECTOR):
                    self.erase(i)
            # Not even 0xFF: where the flash is encrypted that would not be blank.
            self.part.writeblocks(0, memoryview(buf)[HELD:], HELD)
            self.written += 1
        else:
            self.skipped += 1
        first[:HELD] = self.head
        return written

    def hold(self, buf):
        """Take away what the end of an earlier session put back; buf has room for a sector. It is to be verified anew."""
        if self.head is not None and self._head() != b"\xff" * HELD:
            self.part.readblocks(0, buf)
            self.erase(0)
            self.part.writeblocks(0, memoryview(buf)[HELD:SECTOR], HELD)

    def release(self):
        """Write what was held back: all is verified. OTAError(READ_BACK) when it can't be read back."""
        if self.head is not None:
            self.part.writeblocks(0, self.head, 0)
            if self._head() != self.head:
                raise OTAError(
                    OTAError.READ_BACK, "%s does not hold the 32 bytes at its start" % self.label
                )
            self.head = None

    def spoil(self):
        """Make sure that what was refused never boots."""
        if self.holds_back and self._head() != b"\xff" * HELD:
            self.erase(0)

    def _head(self):
        head = bytearray(HELD)
        self.part.readblocks(0, head, 0)
        return head

    def holds(self, i, views):
        """Whether the flash holds the pieces `views` from sector i on."""
        at = 0
        for view in views:
            self.part.readblocks(i, self._compare, at)
            if self._compare != view:
                return False
            at += _COMPARE
        return True

    def read(self, i, buf):
        """Fill buf with the sectors from i on, with what is held back."""
        self.readblocks(i, buf, 0)

    def readblocks(self, i, buf, offset=0):
        """As esp32.Partition's, with what is held back."""
        self.part.readblocks(i, buf, offset)
        if self.head is not None and i == 0 and offset < HELD:
            n = min(HELD - offset, len(buf))
            buf[:n] = self.head[offset : offset + n]

    def info(self):
        """As esp32.Partition's."""
        return self.part.info()


class Slot(Region):
    """An OTA slot, by default the passive one, and what may be put there.

    `number` is 0 for ota_0; of what runs `running` is the partition, `running_number` and `running_info`, an ImageInfo.
    data.Target has the same methods.
    """

    def __init__(self, part=None):
        running = Partition(Partition.RUNNING)
        try:
            part = part or running.get_next_update()
        except OSError:
            pass
        # Where there is one OTA slot only, the one after it is itself.
        if part is not None and part.info() == running.info():
            part = None
        self._otadata = otadata.partition()
        if part is None or self._otadata is None:
            what = "otadata" if part else "OTA slot beside %s, which runs" % running.info()[4]
            raise OTAError(OTAError.NO_SLOT, "the partition table has no " + what)
        # Writing now would destroy the only firmware that is known to work.
        if otadata.state() == otadata.PENDING_VERIFY:
            raise OTAError(
                OTAError.PENDING_VERIFY,
                "the running firmware is itself on trial",
            )
        super().__init__(part, True)
        self.number = otadata.slot_number(part)
        self.running = running
        self.running_number = otadata.slot_number(running)
        self.running_info = running_info()

    @property
    def partitions(self):
        """Labels of what is written."""
        return (self.label,)

    def prepare(self):
        """Take the slot out of otadata, so that nothing half-written can be chosen at boot."""
        secure(self._otadata, self.number)

    @property
    def is_selected(self):
        """True when the next reset starts this slot for the first time."""
        found = otadata.entries(self._otadata)
        i = selected(found, self.running_number)
        if i is None or found[i][0] != self.number:
            return False
        # Where no entry names the running firmware, it would not come back.
        own = otadata.newest(found, self.running_number)
        return self.running_number < 0 or (own is not None and otadata.boots(found[own]))

    # -- what is put there

    def look(self, head, n):
        """The ImageInfo of a file that begins with head[:n], None when it is no application image."""
        return parse(head, n)

    def check(self, info, verify_spi_mode):
        """Raise OTAError unless an image can run on this board."""
        rev = None
        try:
            from .chip import revision

            rev, any_major = revision(self.running_info.chip_id)
            if any_major:
                info.max_chip_rev = 0
        except ImportError:
            pass  # left out: what runs here bounds it
        check_fit(info, self.running_info, rev, verify_spi_mode)

    def checker(self, total, whole):
        """An image.Checker for this slot."""
        return Checker(self.size, total, whole)

    def spoil(self):
        self.prepare()
        super().spoil()

    def switch_steps(self, info, buf, views, size, feed):
        """Let it boot next time: a generator (see steps.py) of one step. The arguments are data.Target's."""
        from ..boot.history import installed

        yield False
        self.release()
        installed(self.number, info)
        self.switch()

    def switch(self):
        """Boot from this slot next time. The firmware checks the whole image once more and refuses a bad one."""
        global _selected
        if self.is_selected:
            # ESP-IDF 5.x would write its entry once more, over the running firmware's.
            if not _selected and machine.reset_cause() == machine.DEEPSLEEP_RESET:
                raise OTAError(
                    OTAError.RESET_NEEDED,
                    "%s was selected before this board slept, and waits for a reset" % self.label,
                )
            return
        self.prepare()
        try:
            self.part.set_boot()
        except OSError as e:
            if e.args[0] != _NOT_VALID:
                raise
            self.spoil()
            raise OTAError(
                OTAError.NOT_BOOTABLE,
                "the firmware's own check refused the image in %s (%s)" % (self.label, e),
            )
        _selected = True


def selected(found, running):
    """Index of the entry of a slot that boots next for the first time, None when nothing but `running` does."""
    own = otadata.newest(found, running)
    seq = found[own][1] if own is not None and otadata.boots(found[own]) else 0
    best = None
    for i in (0, 1):
        if otadata.boots(found[i]) and found[i][0] != running and found[i][1] > seq:
            best, seq = i, found[i][1]
    # What has been confirmed once and yet does not run could not be started.
    return (
        best if best is not None and found[best][2] in (otadata.NEW, otadata.UNDEFINED) else None
    )


def write_entry(part, i, seq, status):
    """Write entry i of otadata. Cut in between, it is gone."""
    start = pack("<I", seq)
    part.ioctl(_ERASE, i)
    part.writeblocks(i, start + b"\xff" * 20 + pack("<iI", status, crc32(start, 0xFFFFFFFF)), 0)


def secure(part, number):
    """Let the running firmware come back by itself when slot `number`, set to boot after this, does not last.

    Afterwards no entry of otadata names that slot, and none takes precedence over the running firmware's. That one is
    made where it is missing: in otadata that is blank or damaged, or that ESP-IDF 5.x wrote over when a slot was
    selected twice.
    """
    found = otadata.entries(part)
    running = otadata.slot_number(Partition(Partition.RUNNING))
    own = otadata.newest(found, running)
    if running >= 0 and (own is None or not otadata.boots(found[own])):
        a, b = found
        # In the place of what does not boot, or else of what boots last.
        own = int(otadata.boots(a) and (not otadata.boots(b) or b[1] < a[1]))
        seq = max(a[1] if a else 0, b[1] if b else 0) + 1
        while (seq - 1) % otadata.slot_count() != running:
            seq += 1
        write_entry(part, own, seq, otadata.VALID)
        found[own] = (running, seq, otadata.VALID)
    for i in (0, 1):
        entry = found[i]
        if entry is None or i == own:
            continue
        # With a higher number ESP-IDF takes it for what runs, and writes over the entry of what does.
        if entry[0] == number or (
            own is not None and otadata.boots(entry) and entry[1] >= found[own][1]
        ):
            part.ioctl(_ERASE, i)
