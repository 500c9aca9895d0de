# confirm.py on the SIM board: what the boot selection tells of the running firmware, keeping it, going back.
# The running slot is ota_0; otadata's first entry says so (sequence 1, VALID), the second is erased.

import machine
import simboard
import simboot
from binascii import crc32
from struct import pack, unpack

from esp32 import Partition
from fakenet import Without, fails
from https_ota import OTAError
from https_ota.boot.rollback import rollback
from https_ota.boot.confirm import confirm, keep_floor, state
from https_ota.flash import nvs
from https_ota.flash.otadata import (
    ABORTED,
    INVALID,
    NEW,
    PENDING_VERIFY,
    UNDEFINED,
    VALID,
    entries,
    partition,
    slot_number,
)
from makeimage import descriptor, flip, image

ERASE = 6


def raw(i):
    buf = bytearray(32)
    partition().readblocks(i, buf, 0)
    return bytes(buf)


def record(i, seq, status, crc=None):
    """Write an entry of otadata."""
    start = pack("<I", seq)
    crc = crc32(start, 0xFFFFFFFF) if crc is None else crc
    part = partition()
    part.ioctl(ERASE, i)
    part.writeblocks(i, start + b"\xff" * 20 + pack("<iI", status, crc), 0)


def clear():
    for i in (0, 1):
        partition().ioctl(ERASE, i)


def write(label, data):
    """Write an image into a slot."""
    part = Partition(label)
    data += b"\xff" * (-len(data) % 4096)
    part.writeblocks(0, data)


class Restarted(Exception):
    pass


def restart():
    raise Restarted


def back():
    """rollback(), of which the restart is seen only."""
    machine.reset = restart
    try:
        rollback()
    except Restarted:
        return True


# -- records


def test_fresh_board():
    assert entries(partition()) == [(0, 1, VALID), None]
    assert state() == VALID


def test_checksums_are_those_of_esp_idf():
    for seq, crc in ((1, 0x4743989A), (2, 0x55F63774), (3, 0xED4A5011)):
        record(0, seq, VALID)
        assert unpack("<I", raw(0)[28:])[0] == crc
        assert entries(partition())[0] == ((seq - 1) % 2, seq, VALID)


def test_slots_take_turns():
    for seq in (1, 2, 3, 4, 1000, 1001):
        record(1, seq, NEW)
        assert entries(partition())[1] == ((seq - 1) % 2, seq, NEW)


def test_every_state():
    for status in (NEW, PENDING_VERIFY, VALID, INVALID, ABORTED, UNDEFINED):
        record(0, 1, status)
        assert entries(partition())[0][2] == status
        assert state() == status


def test_broken_records_are_none():
    record(0, 1, VALID, crc=0x12345678)
    assert entries(partition()) == [None, None]
    clear()
    assert entries(partition()) == [None, None]
    assert state() is None


def test_numbers_of_slots():
    assert slot_number(Partition("ota_0")) == 0
    assert slot_number(Partition("ota_1")) == 1


# -- the state of what runs


def test_boot_selection_of_another_slot_does_not_count():
    for status in (NEW, PENDING_VERIFY, VALID, ABORTED):
        record(1, 2, status)
        assert state() == VALID


def test_newer_record_of_the_running_slot_counts():
    record(1, 3, PENDING_VERIFY)
    assert state() == PENDING_VERIFY
    # What has failed is not what it was started by.
    record(0, 5, ABORTED)
    assert state() == PENDING_VERIFY


def test_no_record_of_the_running_slot():
    clear()
    record(1, 2, VALID)
    assert state() is None


def test_no_otadata():
    simboot.table.remove(partition()._entry)
    assert partition() is None
    assert state() is None
    assert confirm() is False
    fails(OTAError.ROLLBACK, rollback)


# -- confirm


def test_firmware_on_trial_is_kept_without_slices():
    """history.py and version.py may be left out; the lowest secure version is kept all the same."""
    import https_ota.boot.accept  # noqa: F401  relative imports find it

    write("ota_1", image(9000, desc=descriptor(secure_version=7)))
    with Without("history", "version"):
        for label, i in (("ota_0", 0), ("ota_1", 1)):
            simboot.running = Partition(label)._entry
            record(i, i + 1, PENDING_VERIFY)
            assert confirm() is True and state() == VALID
            assert confirm() is False and keep_floor(VALID)
    assert nvs.get_number("floor") == 7


def test_firmware_on_trial_is_kept():
    record(1, 3, PENDING_VERIFY)
    first = raw(0)
    assert confirm() is True
    assert state() == VALID
    assert entries(partition())[1] == (0, 3, VALID)
    assert raw(0) == first
    assert confirm() is False


def test_confirming_what_is_valid_wears_no_flash():
    simboard.reset_counters()
    assert confirm() is False
    erases, programs, _, _ = simboard.counters()
    assert (erases, programs) == (0, 0)


def test_nothing_to_confirm():
    clear()
    assert confirm() is False
    assert raw(0) == raw(1) == b"\xff" * 32


def test_confirm_leaves_alone_what_has_not_started():
    write("ota_1", image())
    for own in (VALID, UNDEFINED, ABORTED):
        record(0, 1, own)
        record(1, 2, NEW)
        before = raw(1)
        assert confirm() is False
        assert raw(1) == before, own


# -- rollback


def on_trial(status=VALID, slot=1, data=None):
    """The running firmware is on trial; before it ran the one in ota_1."""
    write("ota_1", image() if data is None else data)
    record(0, 2 - (slot == 0), status)
    record(1, 3, PENDING_VERIFY)


def refused():
    """The detail of a rollback that is refused, having touched nothing."""
    before = raw(0), raw(1)
    simboard.reset_counters()
    detail = fails(OTAError.ROLLBACK, back)
    assert (raw(0), raw(1)) == before
    assert simboard.counters()[0] == 0
    return detail


def test_going_back():
    on_trial()
    other = raw(0)
    assert back()
    assert entries(partition())[1] == (0, 3, INVALID)
    assert raw(0) == other
    assert Partition(Partition.BOOT).info()[4] == "ota_1"


def test_going_back_from_a_confirmed_firmware():
    on_trial()
    confirm()
    assert back()
    assert entries(partition())[1] == (0, 3, INVALID)


def test_going_back_to_any_state_that_boots():
    for status in (VALID, UNDEFINED):
        on_trial(status)
        assert back()
        assert Partition(Partition.BOOT).info()[4] == "ota_1"


def test_going_back_to_what_failed_is_refused():
    for status in (NEW, INVALID, ABORTED):
        on_trial(status)
        assert "no other slot" in refused()


def test_going_back_to_a_broken_image_is_refused():
    good = image()
    for bad in (
        flip(good, 900),
        flip(good, 13),
        good[:-16] + b"\xff" * 16,
        b"\xff" * 16,
        flip(good, 0),
        flip(good, 33),
    ):
        on_trial(data=bad)
        refused()


def test_going_back_needs_an_image_with_its_checksum():
    good = image(hashed=0)
    on_trial(data=flip(good, 900))
    refused()
    on_trial(data=good)
    assert back()


def test_going_back_to_an_image_that_fills_its_slot():
    """To the byte, to the sector, and where more of the slot follows."""
    entry = Partition("ota_1")._entry
    i = simboot.table.index(entry)
    for size in (8192, 8192 - 16, 4096 + 16, 4096):
        data = image(size)
        assert len(data) == size
        for room in (8192, 12288):
            simboot.table[i] = entry[:3] + (room,) + entry[4:]
            on_trial(data=data)
            assert back(), (size, room)
    simboot.table[i] = entry


def test_going_back_to_oneself_is_refused():
    on_trial(slot=0)
    refused()


def test_going_back_without_a_record_is_refused():
    write("ota_1", image())
    refused()
    clear()
    assert "not installed by an update" in refused()


def test_going_back_to_the_factory_firmware():
    # With one OTA slot next to a factory partition; each sequence number then means that slot.
    write("ota_1", image())
    entry = list(Partition("ota_1")._entry)
    simboot.table.remove(tuple(entry))
    entry[1] = 0
    simboot.table.append(tuple(entry))
    clear()
    record(0, 1, PENDING_VERIFY)
    assert back()
    assert entries(partition())[0] == (0, 1, INVALID)
