# slot.py on the SIM board: sectors into the passive slot (ota_1; ota_0 runs), and the boot selection.

import micropython
import simboard
import simboot
from binascii import crc32
from struct import pack

from esp32 import Partition
from fakenet import Without, fails, raises
from https_ota import OTAError
from https_ota.flash.otadata import (
    ABORTED,
    INVALID,
    NEW,
    PENDING_VERIFY,
    UNDEFINED,
    VALID,
    entries,
    partition,
)
from https_ota.flash.image import running_info
from https_ota.flash.slot import SECTOR, Slot
from makeimage import flip, image, noise


def record(i, seq, status):
    """Write an entry of otadata."""
    start = pack("<I", seq)
    partition().ioctl(6, i)
    partition().writeblocks(
        i, start + b"\xff" * 20 + pack("<iI", status, crc32(start, 0xFFFFFFFF)), 0
    )


def buffers(data=b""):
    """A sector's buffer, padded, and the views of its pieces."""
    buf = bytearray(data + b"\xff" * (SECTOR - len(data)))
    view = memoryview(buf)
    return buf, [view[i : i + 512] for i in range(0, SECTOR, 512)]


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
    slot = Slot()
    slot.running_info.min_chip_rev = 100
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


# -- sectors


def test_sector_is_written():
    slot = Slot()
    buf, views = buffers(noise(SECTOR))
    assert cost(slot.write, 3, buf, views) == (1, 1)
    assert slot.write(3, buf, views) is False
    assert sector(3) == buf
    assert sector(2) == sector(4) == b"\xff" * SECTOR


def test_equal_sector_is_skipped():
    slot = Slot()
    buf, views = buffers(noise(SECTOR))
    assert slot.write(0, buf, views) is True
    assert cost(slot.write, 0, buf, views) == (0, 0)
    assert slot.write(0, buf, views) is False


def test_erased_sector_is_skipped_when_it_is_to_be_empty():
    slot = Slot()
    assert cost(slot.write, 0, *buffers()) == (0, 0)
    assert slot.write(0, *buffers()) is False


def test_one_other_byte_anywhere_is_written():
    slot = Slot()
    buf, views = buffers(noise(SECTOR))
    slot.write(0, buf, views)
    for i in (0, 1):
        slot.write(i, buf, views)
        for at in (32, 511, 512, 1023, 2048, 3583, 3584, 4095):
            buf[at] ^= 1
            assert cost(slot.write, i, buf, views) == (1, 1), at
            assert sector(i)[32:] == buf[32:]


def test_last_sector():
    slot = Slot()
    last = slot.size // SECTOR - 1
    buf, views = buffers(noise(SECTOR))
    slot.write(last, buf, views)
    assert sector(last) == buf
    raises(OSError, slot.write, last + 1, buf, views)


def test_reading_back():
    slot = Slot()
    buf, views = buffers(noise(SECTOR))
    slot.write(1, buf, views)
    got = bytearray(SECTOR)
    slot.readblocks(1, got)
    assert got == buf


def test_writing_allocates_nothing():
    slot = Slot()
    buf, views = buffers(noise(SECTOR))
    got = bytearray(SECTOR)
    micropython.heap_lock()
    try:
        first = slot.write(1, buf, views)
        second = slot.write(1, buf, views)
        slot.readblocks(1, got)
    finally:
        micropython.heap_unlock()
    assert first and not second
    assert got == buf


# -- the boot selection


def install(data):
    slot = Slot()
    slot.prepare()
    for i in range(0, len(data), SECTOR):
        slot.write(i // SECTOR, *buffers(data[i : i + SECTOR]))
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
