# Regions of the flash: sectors that are written and read back, and the OTA slot that an image goes to.

import machine
from esp32 import Partition
from uctypes import bytearray_at

from . import otadata, selection
from ..errors import OTAError
from .image import Checker, hashes
from .info import parse, running_info
from .nvs import key
from ..hot import blank
from ..memory import kept

SECTOR = const(4096)
_BLOCK = const(65536)
_WORTH = const(4 * 4096)  # a block is erased in the time of three to four sectors
_PIECE = const(1024)  # compared at first
_HELD = const(32)  # bytes of an image that are written last: one block of flash encryption
_ERASE = const(6)
_ADDRESS = const(2)  # in esp32.Partition.info()
_ENCRYPTED = const(5)
_NOT_VALID = const(-5379)  # ESP_ERR_OTA_VALIDATE_FAILED


class Region:
    """A partition that is written, `part`: `size` in bytes, `label`.

    `area` is where what is received goes: itself, but for a data partition with a staging area.

    holds_back  True keeps the first 32 bytes in RAM, as `head`, and 0xFF in the flash: what is written then is no image
                that boots, whatever otadata says, until release() puts them there

    `piece` are 1024 bytes that anybody may use between its calls.
    `blocks` is how many sectors lie in blocks of 64 KiB, which are erased at once where that is faster; `plain` tells whether
    the flash is not encrypted.
    """

    def __init__(self, part, holds_back):
        info = part.info()
        self.part = part
        self.info = part.info  # as esp32.Partition's
        self.size = info[3]
        self.label = info[4]
        self.partitions = (self.label,)  # labels of what is written
        self.key = key(part)  # what tells its records in NVS from others'
        self.area = self
        self.head = None
        self.holds_back = holds_back
        # Where the flash is encrypted what is blank does not look so, and what looks so is not.
        self.plain = not info[_ENCRYPTED]
        fits = info[_ADDRESS] % _BLOCK == 0
        self.blocks = fits and self.size // _BLOCK * (_BLOCK // SECTOR)
        # As long as a block, and without memory: see erase().
        self._nothing = bytearray_at(0, _BLOCK)
        self.piece = bytearray(_PIECE)
        self._fresh = -1  # this sector, and all of its block behind it, is blank: it was erased, and not written since

    def erase(self, i, reach=SECTOR):
        """Erase sector i, or the block that begins there if it is worth it for `reach` bytes to come; how many sectors."""
        # Beyond the end of a file other data may stay as it is.
        worth = _WORTH if self.holds_back else _BLOCK
        if i % (_BLOCK // SECTOR) or i >= self.blocks or reach < worth:
            self.part.ioctl(_ERASE, i)
            return 1
        try:
            # ESP-IDF erases all that is about to be written, by blocks; from address 0 it then refuses to write
            # (ESP_ERR_INVALID_ARG of esp_flash_write()). So no buffer is needed.
            self.part.writeblocks(i, self._nothing)
        except OSError:
            pass  # whatever was not erased is seen once it is programmed
        self._fresh = i
        return _BLOCK // SECTOR

    def write(self, i, buf, views, reach=0):
        """Make the sectors from i on hold buf, which holds anything afterwards. Blank ones are not erased.

        views: memoryviews of buf to compare: the first KiB, the second; the first two, the next two, and so on
        reach: bytes that are to be written from there on, as far as is known
        False when they did so before. OTAError(READ_BACK) when they don't in the end.
        """
        held = self.holds_back and i == 0
        if held:
            first = views[0]
            self.head = bytes(first[:_HELD])
            first[:_HELD] = b"\xff" * _HELD
        n = len(buf)
        ready = i == self._fresh
        same = not ready and self._same(i, views, 0)
        if self.plain and not (ready or same):
            # The piece has the first KiB.
            at = _PIECE
            while blank(self.piece, _PIECE):
                if at == n:
                    ready = True
                    break
                self.part.readblocks(i, self.piece, at)
                at += _PIECE
        # What only looks blank, as after an erase that was cut, is erased after all.
        if not same and not (ready and self._put(i, buf, views, held)):
            reach = max(reach if self.plain else 0, n)
            done = 0
            while done < n:
                done += self.erase(i + done // SECTOR, reach - done) * SECTOR
            if not self._put(i, buf, views, held):
                raise OTAError(
                    OTAError.READ_BACK,
                    "sector %d of %s does not hold what was written to it" % (i, self.label),
                )
        n = i + n // SECTOR
        self._fresh = n if i == self._fresh and n % (_BLOCK // SECTOR) else -1
        if held:
            first[:_HELD] = self.head
        return not same

    def _put(self, i, buf, views, held):
        # Program what is blank; whether the flash holds it then.
        if held:
            # Not even 0xFF at its start: where the flash is encrypted that would not be blank.
            self.part.writeblocks(0, memoryview(buf)[_HELD:], _HELD)
        else:
            self.part.writeblocks(i, buf, 0)
        return self._same(i, views, _HELD if held else 0)

    def _same(self, i, views, skip):
        # Whether the flash has from sector i on, but for the first `skip` bytes, what is in the buffer. What was found equal
        # is in the flash: its place in the buffer serves to read the next part, which so may be twice as long.
        flash = self.part
        piece = self.piece
        flash.readblocks(i, piece, 0)
        if skip:
            piece[:skip] = views[0][:skip]
        if piece != views[0]:
            return False
        part = views[0]
        at = _PIECE
        for k in range(1, len(views)):
            if k == 2:
                part = views[2]
                continue
            flash.readblocks(i, part, at)
            if part != views[k]:
                flash.readblocks(i, part, 0)  # the buffer as it was
                return False
            at += len(part)
        return True

    def hold(self, buf):
        """Take away what the end of an earlier session put back; buf has room for a sector. It is to be verified anew."""
        if self.head is not None and self._head() != b"\xff" * _HELD:
            self.part.readblocks(0, buf)
            self.erase(0)
            self.part.writeblocks(0, memoryview(buf)[_HELD:SECTOR], _HELD)

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
        if self.holds_back and self._head() != b"\xff" * _HELD:
            self.erase(0)

    def _head(self):
        head = bytearray(_HELD)
        self.part.readblocks(0, head, 0)
        return head

    def readblocks(self, i, buf, offset=0):
        """Fill buf from sector i on, as esp32.Partition's, with what is held back."""
        self.part.readblocks(i, buf, offset)
        if self.head is not None and i == 0 and offset < _HELD:
            n = min(_HELD - offset, len(buf))
            buf[:n] = self.head[offset : offset + n]

    def identify(self, size, body, digest, buf, view, verify_spi_mode):
        """The info of what is there, if that is this file and it is for this board: a generator that returns it, or None.

        size, body, digest: its bytes, those its own SHA-256 covers or None, its SplitHash's digests. buf has whole
        sectors to read with, view is its memoryview.
        """
        if (yield from hashes(self.readblocks, size, body, buf, view)) != digest:
            return None
        self.readblocks(0, buf)
        info = self.look(buf, min(size, len(buf)))
        if info is not None:
            info.size = size
            self.check(info, verify_spi_mode)
        return info


class Slot(Region):
    """An OTA slot, by default the passive one, and what may be put there.

    `number` is 0 for ota_0; of what runs `running` is the partition, `running_number` and running_info(), and `came`, if it is
    there, the resume.Held of the file it came from, which has the URL at hand. data.Target has the same methods.
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

    def prepare(self):
        """Take the slot out of otadata, so that nothing half-written can be chosen at boot."""
        selection.secure(self._otadata, self.number)

    @property
    def is_selected(self):
        """True when the next reset starts this slot for the first time."""
        found = otadata.entries(self._otadata)
        i = selection.selected(found, self.running_number)
        if i is None or found[i][0] != self.number:
            return False
        # Where no entry names the running firmware, it would not come back.
        own = otadata.newest(found, self.running_number)
        return self.running_number < 0 or (own is not None and otadata.boots(found[own]))

    # -- what is put there

    look = staticmethod(parse)
    # Read anew each time: kept, it would be 400 bytes of each session.
    running_info = staticmethod(running_info)

    def check(self, info, verify_spi_mode):
        """Raise OTAError unless an image can run on this board."""
        running = self.running_info()
        rev = None
        try:
            from .chip import revision

            rev, any_major = revision(running.chip_id)
            if any_major:
                info.max_chip_rev = 0
        except ImportError:
            pass  # without that slice, what runs here bounds it
        check_fit(info, running, rev, verify_spi_mode)

    def checker(self, total, whole):
        """An image.Checker for this slot."""
        return Checker(self.size, total, whole)

    def spoil(self):
        self.prepare()
        super().spoil()

    def switch(self):
        """Boot from this slot next time. The firmware checks the whole image once more and refuses a bad one."""
        if self.is_selected:
            # ESP-IDF 5.x would write its entry once more, over the running firmware's.
            if "selected" not in kept and machine.reset_cause() == machine.DEEPSLEEP_RESET:
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
        kept["selected"] = True


def check_fit(new, running, chip_rev, verify_spi_mode):
    """Raise OTAError unless `new` can run where `running` runs (both ImageInfo).

    chip_rev is this chip's revision (major * 100 + minor), None when it can't be read.
    """
    if new.chip_id != running.chip_id:
        raise OTAError(
            OTAError.CHIP, "the image is for %s, this board has %s" % (new.chip, running.chip)
        )
    # What runs here, runs here: its own bounds are known to hold.
    rev = running.min_chip_rev if chip_rev is None else chip_rev
    most = new.max_chip_rev or 65535
    if not new.min_chip_rev <= rev <= most:
        bound, words = (most, "earlier") if rev > most else (new.min_chip_rev, "later")
        raise OTAError(
            OTAError.CHIP_REVISION,
            "the image is for chip revision v%d.%d or %s, this chip is v%d.%d"
            % (bound // 100, bound % 100, words, rev // 100, rev % 100),
        )
    if verify_spi_mode:
        # ESP-IDF >= 6.1 tells the mode in the descriptor, where esptool does not rewrite it.
        a, b = new.desc_spi_mode, running.desc_spi_mode
        if not (a and b):
            a, b = new.spi_mode, running.spi_mode
        if a != b:
            raise OTAError(
                OTAError.FLASH_MODE,
                "the image is for flash mode %d, the running one for %d" % (a, b),
            )
