# esp32.Partition of the SIM board: the answers of the esp32 port, and those of its flash.
# The flash holds the 4 MB OTA table with an ESP32-C3 application in ota_0.

import micropython

from esp32 import Partition
from fakenet import raises

ERASE = 6
INVALID_ARG = (-258, "ESP_ERR_INVALID_ARG")
INVALID_SIZE = (-260, "ESP_ERR_INVALID_SIZE")


def spare():
    return Partition("ota_1")


def read(part, at, n):
    buf = bytearray(n)
    part.readblocks(0, buf, at)
    return bytes(buf)


def oserror(args, function, *params):
    e = raises(OSError, function, *params)
    assert e.args == args, e


# -- which partition


def test_find_by_kind():
    def labels(*args, **kwargs):
        return [p.info()[4] for p in Partition.find(*args, **kwargs)]

    assert labels() == labels(Partition.TYPE_APP) == ["ota_0", "ota_1"]
    assert labels(Partition.TYPE_APP, 0x11) == ["ota_1"]
    assert labels(Partition.TYPE_DATA) == ["nvs", "otadata", "phy_init", "vfs"]
    assert labels(Partition.TYPE_DATA, subtype=0) == ["otadata"]
    assert labels(Partition.TYPE_DATA, label="vfs") == ["vfs"]
    assert labels(Partition.TYPE_APP, label="vfs") == []
    assert Partition.find(Partition.TYPE_APP, block_size=512)[0].ioctl(5, 0) == 512


def test_info():
    assert Partition("ota_1").info() == (0, 0x11, 0x190000, 0x180000, "ota_1", False)
    assert Partition("nvs").info() == (1, 2, 0x9000, 0x4000, "nvs", False)
    assert repr(Partition("nvs")) == (
        "<Partition type=1, subtype=2, address=36864, size=16384, label=nvs, encrypted=0>"
    )


def test_running_and_boot_are_the_first_slot():
    assert Partition(Partition.RUNNING).info()[4] == "ota_0"
    assert Partition(Partition.BOOT).info()[4] == "ota_0"


def test_next_update_goes_round():
    second = Partition(Partition.RUNNING).get_next_update()
    assert second.info()[4] == "ota_1"
    assert second.get_next_update().info()[4] == "ota_0"


def test_no_such_partition():
    oserror((2,), Partition, "nope")
    raises(ValueError, Partition, 2)
    raises(TypeError, Partition, None)


def test_confirming_what_is_not_on_trial_does_nothing():
    assert Partition.mark_app_valid_cancel_rollback() is None


# -- sizes


def test_ioctl_of_sizes():
    part = spare()
    assert part.ioctl(4, 0) == 0x180
    assert part.ioctl(5, 0) == 4096
    assert part.ioctl(1, 0) == part.ioctl(2, 0) == part.ioctl(3, 0) == 0
    assert part.ioctl(99, 0) is None


def test_other_block_size():
    part = Partition("ota_1", 512)
    assert part.ioctl(4, 0) == 0xC00
    assert part.ioctl(5, 0) == 512
    # Only what is a sector can be erased.
    assert part.ioctl(ERASE, 0) == -22
    part.writeblocks(3, b"four", 2)
    assert read(spare(), 3 * 512 + 2, 4) == b"four"
    buf = bytearray(4)
    part.readblocks(3, buf, 2)
    assert buf == b"four"


def test_only_whole_sectors_are_erased_and_written():
    for data in (b"abc", bytes(4095), bytes(4097)):
        oserror(INVALID_SIZE, spare().writeblocks, 0, data)
    assert read(spare(), 0, 16) == b"\xff" * 16


def test_beyond_the_end():
    part = spare()
    count = part.ioctl(4, 0)
    for at in (count + 1, -1):
        oserror(INVALID_ARG, part.readblocks, at, bytearray(4096))
        oserror(INVALID_ARG, part.writeblocks, at, bytes(4096))
        oserror(INVALID_ARG, part.writeblocks, at, b"abc", 0)
        oserror(INVALID_ARG, part.ioctl, ERASE, at)


def test_across_the_end():
    part = spare()
    last = part.ioctl(4, 0) - 1
    oserror(INVALID_SIZE, part.readblocks, last, bytearray(4097))
    oserror(INVALID_SIZE, part.readblocks, last, bytearray(2), 4095)
    oserror(INVALID_SIZE, part.writeblocks, last, bytes(8192))
    oserror(INVALID_SIZE, part.writeblocks, last, b"ab", 4095)
    oserror(INVALID_SIZE, part.ioctl, ERASE, last + 1)
    part.writeblocks(last, b"a", 4095)
    assert read(part, 0x180000 - 2, 2) == b"\xffa"
    # Nothing of the neighbour was touched.
    assert read(Partition("vfs"), 0, 16) == b"\xff" * 16


def test_set_boot_refuses_what_is_no_image():
    refused = (-5379, "ESP_ERR_OTA_VALIDATE_FAILED")
    oserror(refused, spare().set_boot)
    oserror(refused, Partition("vfs").set_boot)
    spare().writeblocks(0, b"\xe9" + bytes(4095))
    oserror(refused, spare().set_boot)
    assert Partition(Partition.BOOT).info()[4] == "ota_0"


# -- NOR flash


def test_programming_clears_bits_only():
    part = spare()
    part.writeblocks(0, b"\xf0\x0f\xaa", 0)
    part.writeblocks(0, b"\x3c\x3c\xff", 0)
    assert read(part, 0, 4) == b"\x30\x0c\xaa\xff"


def test_erase_sets_all_bits_of_one_sector():
    part = spare()
    part.writeblocks(0, bytes(3 * 4096))
    assert part.ioctl(ERASE, 1) == 0
    assert read(part, 0, 3 * 4096) == bytes(4096) + b"\xff" * 4096 + bytes(4096)


def test_writing_blocks_erases_them():
    part = spare()
    part.writeblocks(0, bytes(8192))
    part.writeblocks(0, b"\x5a" * 4096)
    assert read(part, 0, 8192) == b"\x5a" * 4096 + bytes(4096)


def test_programming_across_sectors():
    part = spare()
    data = bytes(range(256)) * 40
    part.writeblocks(0, data, 4000)
    assert read(part, 3999, len(data) + 2) == b"\xff" + data + b"\xff"


def test_any_buffer():
    part = spare()
    buf = bytearray(range(16))
    for i, data in enumerate((buf, bytes(buf), memoryview(buf), memoryview(buf)[0:16])):
        part.writeblocks(0, data, 16 * i)
    assert read(part, 0, 64) == bytes(buf) * 4
    view = memoryview(bytearray(16))
    part.readblocks(0, view[4:8], 4)
    assert bytes(view) == bytes(4) + bytes(range(4, 8)) + bytes(8)


def test_steady_state_allocates_nothing():
    part = spare()
    sector, piece = bytearray(4096), bytearray(512)
    last = part.ioctl(4, 0) - 1
    micropython.heap_lock()
    try:
        part.writeblocks(last, sector)
        part.readblocks(last, sector)
        part.readblocks(last, piece, 3584)
        part.ioctl(ERASE, last)
        part.writeblocks(last, sector, 0)
        part.writeblocks(last, piece, 1)
    finally:
        micropython.heap_unlock()
