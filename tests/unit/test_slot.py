# slot.py on the SIM board: sectors into the passive slot (ota_1; ota_0 runs), and the boot selection.

import micropython
import simboard
import simboot
from binascii import crc32
from struct import pack
from uctypes import addressof

from esp32 import Partition
from fakenet import Without, fails, raises
from https_ota import OTAError, cancel
from https_ota.flash.otadata import (
    ABORTED,
    INVALID,
    NEW,
    PENDING_VERIFY,
    UNDEFINED,
    VALID,
    boots,
    entries,
    newest,
    partition,
)
from https_ota.flash.info import running_info
from https_ota.flash.selection import secure
from https_ota.flash.slot import SECTOR, Slot
from https_ota.hot import copy
from makeimage import flip, image, noise


def record(i, seq, status):
    """Write an entry of otadata."""
    start = pack("<I", seq)
    partition().ioctl(6, i)
    partition().writeblocks(
        i, start + b"\xff" * 20 + pack("<iI", status, crc32(start, 0xFFFFFFFF)), 0
    )


def pieces(view):
    """What a session compares."""
    return [view[:1024], view[1024:2048]] + [view[i : i + 2048] for i in range(0, len(view), 2048)]


def put(slot, i, data, *reach):
    """slot.write() of this, filled up to a sector."""
    buf = bytearray(data)
    buf.extend(b"\xff" * (-len(buf) % SECTOR))
    return slot.write(i, buf, pieces(memoryview(buf)), *reach)


def sector(i):
    buf = bytearray(SECTOR)
    Partition("ota_1").readblocks(i, buf)
    return buf


def cost(function, *args):
    """(erases, programs) of a call."""
    simboard.reset_counters()
    function(*args)
    return simboard.counters()[:2]


# -- which slot


def test_passive_slot():
    slot = Slot()
    assert slot.label == "ota_1" and slot.size == 0x180000


def test_looking_changes_nothing():
    assert cost(Slot) == (0, 0)


def test_board_without_ota_slots():
    for part in Partition.find(Partition.TYPE_APP):
        simboot.table.remove(part._entry)
    assert "OTA" in fails(OTAError.NO_SLOT, Slot)


def test_board_without_otadata():
    simboot.table.remove(partition()._entry)
    assert "no otadata" in fails(OTAError.NO_SLOT, Slot)


def test_running_slot_is_not_written():
    # ESP-IDF calls the only slot the next one, even when it runs.
    simboot.table.remove(Partition("ota_1")._entry)
    assert Partition(Partition.RUNNING).get_next_update().info()[4] == "ota_0"
    assert "no OTA slot beside ota_0, which runs" in fails(OTAError.NO_SLOT, Slot)


def test_firmware_on_trial_installs_nothing():
    record(0, 1, PENDING_VERIFY)
    assert "on trial" in fails(OTAError.PENDING_VERIFY, Slot)


def test_any_other_state_may_install():
    for status in (NEW, VALID, INVALID, ABORTED, UNDEFINED):
        record(0, 1, status)
        Slot()
    partition().ioctl(6, 0)
    Slot()


def test_what_runs_here_bounds_an_image_without_the_slice_chip():
    info = running_info()
    info.min_chip_rev = 100
    slot = Slot()
    slot.running_info = lambda: info
    for min_rev, max_rev, fits in ((100, 65535, True), (101, 0, False), (0, 99, False)):
        data = image(9000, min_rev=min_rev, max_rev=max_rev)
        new = slot.look(data, len(data))
        with Without("chip"):
            if fits:
                slot.check(new, True)
            else:
                fails(OTAError.CHIP_REVISION, slot.check, new, True)


# -- otadata


def test_prepare_takes_the_slot_out_of_the_boot_selection():
    for status in (NEW, PENDING_VERIFY, VALID, INVALID, ABORTED, UNDEFINED):
        record(1, 2, status)
        Slot().prepare()
        assert entries(partition()) == [(0, 1, VALID), None], status
    assert Partition(Partition.BOOT).info()[4] == "ota_0"


def test_prepare_works_the_other_way_round():
    record(1, 3, VALID)
    record(0, 2, VALID)
    Slot().prepare()
    assert entries(partition()) == [None, (0, 3, VALID)]


def test_prepare_keeps_both_records_of_the_running_slot():
    record(1, 3, VALID)
    assert cost(Slot().prepare) == (0, 0)
    assert entries(partition()) == [(0, 1, VALID), (0, 3, VALID)]


def test_prepare_wears_no_flash_when_there_is_nothing_to_take_out():
    assert cost(Slot().prepare) == (0, 0)


def every_otadata():
    """Each two entries that differ for the bootloader, otadata made so."""
    kinds = [None] + [(seq, status) for seq in (1, 2, 3, 4, 6) for status in (NEW, VALID, INVALID)]
    for pair in [(a, b) for a in kinds for b in kinds]:
        for i in (0, 1):
            partition().ioctl(6, i)
            if pair[i]:
                record(i, *pair[i])
        yield pair


class Watched:
    """otadata, and which entries are erased."""

    def __init__(self):
        self.erased = []
        part = partition()
        self.readblocks = part.readblocks
        self.writeblocks = part.writeblocks

    def ioctl(self, op, i):
        self.erased.append(i)
        partition().ioctl(op, i)


def test_the_running_firmware_comes_back_whatever_otadata_said():
    for pair in every_otadata():
        before = entries(partition())
        had = newest(before, 0)
        part = Watched()
        secure(part, 1)
        after = entries(part)
        own = newest(after, 0)
        assert own is not None and boots(after[own]), pair
        other = after[1 - own]
        assert other is None or other[0] == 0, pair
        assert not boots(other) or other[1] < after[own][1], pair
        if had is not None and boots(before[had]):
            assert after[own] == before[own], pair
        elif boots(before[0]) and boots(before[1]):
            # Cut in between, what was to boot boots.
            assert before[part.erased[0]][1] <= before[1 - part.erased[0]][1], pair
        else:
            assert not boots(before[part.erased[0]]), pair


def test_what_is_taken_back_is_named_by_no_entry():
    taken = 0
    for pair in every_otadata():
        before = entries(partition())
        if not cancel():
            assert entries(partition()) == before, pair
            continue
        taken += 1
        after = entries(partition())
        assert [e[0] for e in after if e] in ([0], [0, 0]), pair
        assert boots(after[newest(after, 0)]), pair
    assert taken > 20


# -- sectors


def test_sector_is_written():
    slot = Slot()
    slot.part.writeblocks(3, noise(SECTOR, 2))
    buf = noise(SECTOR)
    assert cost(put, slot, 3, buf) == (1, 1)
    assert put(slot, 3, buf) is False
    assert sector(3) == buf
    assert sector(2) == sector(4) == b"\xff" * SECTOR


def test_equal_sector_is_skipped():
    slot = Slot()
    buf = noise(SECTOR)
    assert put(slot, 0, buf) is True
    assert cost(put, slot, 0, buf) == (0, 0)
    assert put(slot, 0, buf) is False


def test_erased_sector_is_skipped_when_it_is_to_be_empty():
    slot = Slot()
    assert cost(put, slot, 0, bytes([255] * SECTOR)) == (0, 0)
    assert put(slot, 0, bytes([255] * SECTOR)) is False


def test_one_other_byte_anywhere_is_written():
    slot = Slot()
    buf = bytearray(noise(SECTOR))
    put(slot, 0, buf)
    for i in (0, 1):
        put(slot, i, buf)
        for at in (32, 511, 512, 1023, 1024, 2048, 3071, 3072, 4095):
            buf[at] ^= 1
            assert cost(put, slot, i, buf) == (1, 1), at
            assert sector(i)[32:] == buf[32:]


def test_blank_sector_is_not_erased():
    for i in (0, 3):
        slot = Slot()
        buf = noise(SECTOR, i)
        assert cost(put, slot, i, buf) == (0, 1)
        assert put(slot, i, buf) is False
        # One bit is enough.
        for at in (32, 1023, 1024, 4095):
            slot.part.writeblocks(i, b"\xff" * SECTOR)
            slot.part.writeblocks(i, b"\xfe", at)
            assert cost(put, slot, i, buf) == (1, 1), at
            assert sector(i)[32:] == buf[32:]


BLOCK = 16  # sectors


def test_blocks_are_erased_at_once():
    for i, reach, size in (
        (0, 4 * SECTOR, 16),
        (BLOCK, 4 * SECTOR, 16),
        (BLOCK, 4 * SECTOR - 1, 1),  # not worth it
        (BLOCK, 1 << 20, 16),
        (BLOCK + 1, 1 << 20, 1),  # no block begins there
        (BLOCK + 15, 1 << 20, 1),
        (BLOCK, 0, 1),
    ):
        slot = Slot()
        for sector_ in (i - 1, i, i + 1, i + 15, i + 16):
            if sector_ >= 0:
                slot.part.writeblocks(sector_, bytes(SECTOR))
        buf = noise(SECTOR)
        assert cost(put, slot, i, buf, reach) == (size, 1), (i, reach)
        assert simboot.flash.ms == (150 if size == 16 else 45) + 11, (i, reach)
        assert sector(i)[32:] == buf[32:]
        for other in (i + 1, i + 15):
            assert sector(other) == (b"\xff" if size == 16 else b"\0") * SECTOR, (i, other)
        assert sector(i + 16) == bytes(SECTOR)
        assert i == 0 or sector(i - 1) == bytes(SECTOR)


def test_what_a_block_held_is_kept_where_it_is_right():
    slot = Slot()
    buf = noise(SECTOR)
    slot.part.writeblocks(BLOCK, buf)
    slot.part.writeblocks(BLOCK + 1, bytes(SECTOR))
    assert cost(put, slot, BLOCK, buf, 1 << 20) == (0, 0)
    assert cost(put, slot, BLOCK + 1, buf, 1 << 20) == (1, 1)


def test_blocks_can_be_switched_off():
    slot = Slot()
    assert slot.blocks == slot.size // SECTOR
    slot.blocks = 0
    slot.part.writeblocks(BLOCK, bytes(SECTOR))
    assert cost(put, slot, BLOCK, noise(SECTOR), 1 << 20) == (1, 1)


def test_no_block_beyond_the_end():
    # A slot need not end with a block.
    entry = Partition("ota_1")._entry
    simboot.table[simboot.table.index(entry)] = entry[:3] + (40 * SECTOR,) + entry[4:]
    slot = Slot()
    assert slot.blocks == 32
    for i, size in ((16, 16), (32, 1)):
        slot.part.writeblocks(i, bytes(SECTOR))
        assert cost(put, slot, i, noise(SECTOR), 1 << 20) == (size, 1)


def test_no_block_where_none_begins():
    # A data partition may lie anywhere.
    slot = Slot(Moved(Partition("ota_1")))
    slot.part.writeblocks(BLOCK, bytes(SECTOR))
    assert cost(put, slot, BLOCK, noise(SECTOR), 1 << 20) == (1, 1)


class Moved:
    def __init__(self, part):
        self.part = part
        self.ioctl, self.readblocks, self.writeblocks = (
            part.ioctl,
            part.readblocks,
            part.writeblocks,
        )

    def info(self):
        info = self.part.info()
        return info[:2] + (info[2] + SECTOR,) + info[3:]


def test_large_buffer_erases_its_blocks():
    slot = Slot()
    buf = noise(2 * BLOCK * SECTOR)
    for i in (0, 2 * BLOCK):
        slot.part.writeblocks(i, bytes(len(buf)))
        assert cost(put, slot, i, buf) == (32, 32)
        assert 2 * 150 + 32 * 11 <= simboot.flash.ms <= 2 * 150 + 32 * 12
        assert put(slot, i, buf) is False


class Worn:
    """A partition in whose sector a byte takes what is programmed only after so many erases, or never."""

    def __init__(self, part, at, erases=99):
        self.part = part
        self.at = at
        self.erases = erases
        self.info = part.info
        self.readblocks = part.readblocks

    def ioctl(self, cmd, arg):
        self.erases -= 1
        return self.part.ioctl(cmd, arg)

    def writeblocks(self, i, buf, offset=None):
        if offset is None:
            self.erases -= len(buf) // SECTOR
            self.part.writeblocks(i, buf)
        elif self.erases <= 0:
            self.part.writeblocks(i, buf, offset)
        if self.erases > 0:
            buf = bytearray(buf)
            buf[self.at] ^= 0xFF
            self.part.writeblocks(i, buf, offset or 0)


def test_buffers_of_any_size():
    """One byte that is not there, anywhere, is seen, and what is written then is what came."""
    for sectors in (1, 2, 3, 16, 24):
        n = sectors * SECTOR
        data = noise(n, sectors)
        for at in (0, 31, 32, 1023, 1024, 2047, 2048, 4095, n // 2 - 1, n // 2, n - 1024, n - 1):
            for i in (0, BLOCK * 3):
                slot = Slot()
                whole = bytearray(data)
                whole[at] ^= 128
                slot.part.writeblocks(i, whole)
                put(slot, i, data)
                got = bytearray(n)
                slot.readblocks(i, got)
                assert got == data, (sectors, at, i)


def test_worn_anywhere():
    """What only looks blank is erased, and what is programmed then is what came: the comparison takes up the buffer."""
    for at in (32, 1023, 1024, 2047, 2048, 3071, 3072, 4095):
        for i in (0, 2):
            slot = Slot()
            slot.part.writeblocks(i, b"\xff" * SECTOR)
            slot.part = Worn(slot.part, at - 32 * (i == 0), 1)
            data = noise(SECTOR, at)
            assert cost(put, slot, i, data)[0] == 1
            got = bytearray(SECTOR)
            slot.readblocks(i, got)
            assert got == data, at


def reads(function, *args):
    """How often a call reads the flash, and how many bytes."""
    done = [0, 0]
    flash = simboot.flash
    read = flash.read

    def counted(addr, buf):
        done[0] += 1
        done[1] += len(buf)
        read(addr, buf)

    flash.read = counted
    try:
        function(*args)
    finally:
        flash.read = read
    return tuple(done)


def test_reads():
    slot = Slot()
    data = noise(SECTOR)
    slot.part.writeblocks(3, noise(SECTOR, 2))
    assert reads(put, slot, 3, data) == (4, 1024 + SECTOR)
    assert reads(put, slot, 3, data) == (3, SECTOR)
    assert reads(put, slot, 4, data) == (1 + 3 + 3, 2 * SECTOR)


def test_what_was_just_erased_is_not_looked_at():
    slot = Slot()
    slot.part.writeblocks(BLOCK, bytes(3 * BLOCK * SECTOR))
    data = noise(SECTOR)
    for i in range(BLOCK, 3 * BLOCK):
        n, size = reads(put, slot, i, data, 1 << 20)
        assert n == (3 if i % BLOCK else 4) and size == SECTOR + (0 if i % BLOCK else 1024)
    # Once more, as when the file changes, or anywhere: it is.
    for i in (BLOCK, BLOCK + 1, BLOCK + 7, 2 * BLOCK):
        assert reads(put, slot, i, data, 1 << 20) == (3, SECTOR)
        assert cost(put, slot, i, noise(SECTOR, 5)) == (1, 1)
        assert sector(i) == noise(SECTOR, 5)
    # From the middle, after which its beginning is written.
    slot.erase(BLOCK, 1 << 20)
    assert cost(put, slot, BLOCK + 3, data) == (0, 1)
    assert cost(put, slot, BLOCK, data) == (0, 1)
    assert cost(put, slot, BLOCK + 3, data) == (0, 0)
    # What was written in between, by whomever, is seen once it is programmed.
    slot.erase(BLOCK, 1 << 20)
    slot.part.writeblocks(BLOCK, bytes(SECTOR))
    assert cost(put, slot, BLOCK, data)[0] == 1
    assert sector(BLOCK) == data


def test_flash_that_does_not_take_what_is_written():
    for i in (0, 2):
        for before in (b"\xff", b"\x55"):
            slot = Slot()
            slot.part.writeblocks(i, before * SECTOR)
            slot.part = Worn(slot.part, 3000)
            detail = fails(OTAError.READ_BACK, put, slot, i, noise(SECTOR))
            assert "sector %d of ota_1" % i in detail


def test_what_only_looks_blank_is_erased():
    # As an erase leaves it that was cut at its very end.
    for i in (0, 2):
        slot = Slot()
        slot.part.writeblocks(i, b"\xff" * SECTOR)
        slot.part = Worn(slot.part, 3000, 1)
        buf = noise(SECTOR)
        assert cost(put, slot, i, buf)[0] == 1
        assert sector(i)[32:] == buf[32:]


class Encrypted:
    """A partition of encrypted flash: erased bytes read as noise, what reads as 0xFF was written."""

    KEY = noise(SECTOR, 9)

    def __init__(self, part):
        self.part = part
        self.ioctl = part.ioctl

    def info(self):
        return self.part.info()[:5] + (True,)

    def _crypt(self, data, offset):
        return bytes(c ^ self.KEY[(offset + i) % SECTOR] for i, c in enumerate(data))

    def readblocks(self, i, buf, offset=0):
        self.part.readblocks(i, buf, offset)
        buf[:] = self._crypt(buf, offset)

    def writeblocks(self, i, buf, offset=None):
        assert (offset or 0) % 32 == 0
        if addressof(buf) == 0:
            self.part.writeblocks(i, buf)  # which fails
        data = self._crypt(buf, offset or 0)
        if offset is None:
            self.part.writeblocks(i, data)
        else:
            self.part.writeblocks(i, data, offset)


def test_encrypted_flash():
    for i in (0, 2):
        slot = Slot(Encrypted(Partition("ota_1")))
        for data in (noise(SECTOR), b"\xff" * SECTOR, noise(SECTOR, 3)):
            buf = data
            assert cost(put, slot, i, buf, 1 << 20) == (1, 1)
            got = bytearray(SECTOR)
            slot.readblocks(i, got)
            assert got == buf == data
            # Its start is not written, so that nothing tells what would be there.
            assert put(slot, i, buf) is (i == 0)
    slot.head = buf[:32]
    slot.release()


def test_encrypted_flash_is_erased_by_the_buffer():
    # What was erased before its turn would not look so.
    slot = Slot(Encrypted(Partition("ota_1")))
    data = noise(BLOCK * SECTOR)
    buf = bytearray(data)
    assert cost(put, slot, BLOCK, buf, 1 << 20) == (16, 16)
    assert simboot.flash.ms < 150 + 16 * 12
    slot.readblocks(BLOCK, buf)
    assert buf == data


def test_last_sector():
    slot = Slot()
    last = slot.size // SECTOR - 1
    buf = noise(SECTOR)
    put(slot, last, buf)
    assert sector(last) == buf
    raises(OSError, put, slot, last + 1, buf)


def test_reading_back():
    slot = Slot()
    buf = noise(SECTOR)
    put(slot, 1, buf)
    got = bytearray(SECTOR)
    slot.readblocks(1, got)
    assert got == buf


def test_writing_allocates_nothing():
    slot = Slot()
    data = noise(SECTOR)
    buf = bytearray(SECTOR)
    views = pieces(memoryview(buf))
    got = bytearray(SECTOR)
    slot.part.writeblocks(2, bytes(SECTOR))
    micropython.heap_lock()
    try:
        copy(buf, 0, data, 0, SECTOR)
        slot.write(2, buf, views)
        copy(buf, 0, data, 0, SECTOR)
        first = slot.write(1, buf, views)
        copy(buf, 0, data, 0, SECTOR)
        second = slot.write(1, buf, views)
        slot.readblocks(1, got)
    finally:
        micropython.heap_unlock()
    assert first and not second
    assert got == data


# -- the boot selection


def install(data):
    slot = Slot()
    slot.prepare()
    for i in range(0, len(data), SECTOR):
        put(slot, i // SECTOR, data[i : i + SECTOR])
    slot.release()
    return slot


def test_switch():
    slot = install(image(9000))
    assert Partition(Partition.BOOT).info()[4] == "ota_0"
    slot.switch()
    assert Partition(Partition.BOOT).info()[4] == "ota_1"
    assert entries(partition()) == [(0, 1, VALID), (1, 2, NEW)]


def test_switch_refuses_what_the_firmware_refuses():
    data = image(9000)
    for bad in (flip(data, 5000), image(9000, chip_id=9), b"\xff" * 16, image(9000, min_rev=9900)):
        slot = install(bad)
        assert "ota_1" in fails(OTAError.NOT_BOOTABLE, slot.switch)
        assert Partition(Partition.BOOT).info()[4] == "ota_0"


def test_other_errors_of_switching_keep_their_number():
    slot = install(image(9000))
    simboot.table.remove(partition()._entry)
    assert raises(OSError, slot.switch).errno == -261


# -- the running firmware


def test_running_firmware():
    info = running_info()
    assert info.chip == "ESP32-C3" and info.version == "1.0.0" and info.project_name == "test"


def test_running_firmware_that_can_not_be_read():
    simboot.running = Partition("vfs")._entry
    fails(OTAError.NO_SLOT, running_info)
