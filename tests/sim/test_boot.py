"""The SIM board's bootloader, and what Partition writes for it: otadata through resets."""

import struct
import zlib
from pathlib import Path

import images
import pytest
import simflash
from board import ABORTED, INVALID, NEW, PENDING_VERIFY, VALID, Board

from https_ota_tools import partition

NEWER = images.app_image(version="2.0.0", seed=2)
OTADATA = 0xD000
OTA_0 = 0x10000
OTA_1 = 0x190000
NO_APP = 76

P = "from esp32 import Partition as P\n"
SLOTS = P + "print(P(P.RUNNING).info()[4], P(P.BOOT).info()[4])"
SET_BOOT = P + "P('ota_1').set_boot()"
CONFIRM = P + "P.mark_app_valid_cancel_rollback()"
START = "import machine"

FACTORY = """
otadata, data, ota, 0xd000, 0x2000
factory, app, factory, 0x10000, 0x100000
ota_0, app, ota_0, 0x110000, 0x100000
ota_1, app, ota_1, 0x210000, 0x100000
"""
FACTORY_ONLY = """
factory, app, factory, 0x10000, 0x100000
"""
WITHOUT_OTA_0 = """
otadata, data, ota, 0xd000, 0x2000
ota_1, app, ota_1, 0x110000, 0x100000
ota_2, app, ota_2, 0x210000, 0x100000
"""
THREE_SLOTS = """
otadata, data, ota, 0xd000, 0x2000
ota_0, app, ota_0, 0x10000, 0x100000
ota_1, app, ota_1, 0x110000, 0x100000
ota_2, app, ota_2, 0x210000, 0x100000
"""


@pytest.fixture(params=["sim", "sim64"])
def board(tmp_path, request):
    """A board with an application in each slot, started once."""
    flash = simflash.make_flash(tmp_path / "flash.bin", contents={"ota_1": NEWER})
    board = Board(flash, request.param)
    board.run(START)
    return board


def with_table(folder: Path, csv: str, *slots: str) -> Board:
    """Return a board with this partition table and applications in these slots, not started yet."""
    table = partition.read_csv(csv, "test.csv")
    board = Board(folder / "flash.bin", SIM_CHIP="esp32c3")
    board.flash.write_bytes(b"\xff" * (4 << 20))
    patch(board, partition.TABLE_OFFSET, partition.encode(table))
    for name in slots:
        patch(board, partition.find(table, name).offset, NEWER)
    return board


def patch(board: Board, at: int, data: bytes) -> None:
    with board.flash.open("r+b") as f:
        f.seek(at)
        f.write(data)


def ruin(board: Board, slot: int) -> None:
    """Change a byte in the middle of an application."""
    byte = board.flash.read_bytes()[slot + 5000]
    patch(board, slot + 5000, bytes([byte ^ 0x10]))


def records(board: Board) -> list[tuple[int, int] | None]:
    """Return (sequence number, state) of each record of otadata, None for one without a good CRC."""
    flash = board.flash.read_bytes()
    found = []
    for at in (OTADATA, OTADATA + 0x1000):
        seq, state, crc = struct.unpack_from("<I20xII", flash, at)
        good = crc == zlib.crc32(flash[at : at + 4], 0xFFFFFFFF) and seq != 0xFFFFFFFF
        found.append((seq, state) if good else None)
    return found


def record(seq: int, state: int) -> bytes:
    number = struct.pack("<I", seq)
    crc = zlib.crc32(number, 0xFFFFFFFF)
    return number + b"\xff" * 20 + struct.pack("<II", state, crc)


def slots(board: Board) -> str:
    """Power the board on; return the slots that Partition(RUNNING) and Partition(BOOT) name."""
    return board.run(SLOTS).rstrip()


# -- the life of an update


def test_first_boot_makes_the_slot_valid(board):
    assert records(board) == [(1, VALID), None]
    assert slots(board) == "ota_0 ota_0"
    assert records(board) == [(1, VALID), None]


def test_confirmed_update_stays(board):
    board.run(SET_BOOT)
    assert records(board) == [(1, VALID), (2, NEW)]
    assert slots(board) == "ota_1 ota_1"
    assert records(board) == [(1, VALID), (2, PENDING_VERIFY)]
    # This power-on is the second one without confirmation.
    assert slots(board) == "ota_0 ota_0"
    board.run(SET_BOOT)
    board.run(CONFIRM)
    assert records(board) == [(1, VALID), (2, VALID)]
    assert slots(board) == "ota_1 ota_1"


def test_unconfirmed_update_goes_back(board):
    board.run(SET_BOOT)
    assert slots(board) == "ota_1 ota_1"
    assert slots(board) == "ota_0 ota_0"
    assert records(board) == [(1, VALID), (2, ABORTED)]


def test_update_through_resets(board):
    """All in one run of the process, as machine.reset() starts it anew."""
    shown = board.run(
        SLOTS + "\nimport machine\n"
        "if machine.reset_cause() == machine.PWRON_RESET:\n"
        "    P('ota_1').set_boot()\n"
        "    machine.reset()\n"
        "print(machine.reset_cause() == machine.HARD_RESET)\n"
        "P.mark_app_valid_cancel_rollback()"
    )
    assert shown.split("\n") == ["ota_0 ota_0", "ota_1 ota_1", "True", ""]
    assert records(board) == [(1, VALID), (2, VALID)]


def test_confirming_twice_writes_once(board):
    board.run(SET_BOOT)
    shown = board.run(
        CONFIRM + "\nimport simboard\n"
        "simboard.reset_counters()\n"
        "P.mark_app_valid_cancel_rollback()\n"
        "print(simboard.counters()[:2])"
    )
    assert shown == "(0, 0)\n"


def test_sequence_goes_on(board):
    board.run(SET_BOOT)
    board.run(CONFIRM)
    board.run(P + "P('ota_0').set_boot()")
    assert records(board) == [(3, NEW), (2, VALID)]
    board.run(CONFIRM)
    board.run(SET_BOOT)
    assert records(board) == [(3, VALID), (4, NEW)]
    assert slots(board) == "ota_1 ota_1"


def test_setting_boot_twice_loses_the_way_back(board):
    """The trap of IDF v5: the second call overwrites the record of the slot that runs."""
    board.run(SET_BOOT + "\nP('ota_1').set_boot()")
    assert records(board) == [(2, NEW), (2, NEW)]
    assert slots(board) == "ota_1 ota_1"
    assert records(board) == [(2, PENDING_VERIFY), (2, NEW)]
    # Not confirmed, and yet it starts a second time.
    assert slots(board) == "ota_1 ota_1"
    assert slots(board).split()[0] == "ota_0"


def test_setting_boot_to_the_running_slot(board):
    board.run(P + "P('ota_0').set_boot()")
    assert records(board) == [(1, VALID), (1, NEW)]
    assert slots(board) == "ota_0 ota_0"
    assert records(board) == [(1, VALID), (1, NEW)]


# -- images that don't start


def test_ruined_after_set_boot_falls_back(board):
    board.run(SET_BOOT)
    ruin(board, OTA_1)
    # BOOT goes by otadata alone, so it names the slot that could not be started.
    assert slots(board) == "ota_0 ota_1"
    assert records(board) == [(1, VALID), (2, PENDING_VERIFY)]
    assert slots(board) == "ota_0 ota_0"


def test_what_the_bootloader_says_of_a_ruined_slot(board):
    board.run(SET_BOOT)
    ruin(board, OTA_1)
    said = board.start(START, SIM_VERBOSE="1").stderr
    assert "boot: rollback: otadata[1] is new, marked PENDING_VERIFY\n" in said
    assert "boot: esp_image: Checksum failed. Calculated 0x" in said
    assert "boot: OTA app partition slot 1 is not bootable\n" in said
    assert said.endswith("boot: Loaded app from partition at offset 0x10000\n")


def test_first_slot_ruined_tries_the_next(board):
    ruin(board, OTA_0)
    assert slots(board) == "ota_1 ota_0"


def test_nothing_to_boot(board):
    ruin(board, OTA_0)
    ruin(board, OTA_1)
    for chip in ({}, {"SIM_CHIP": "esp32c3"}):
        done = board.start(START + "; print('never')", **chip)
        assert done.returncode == NO_APP
        assert done.stdout == ""
        assert "boot: No bootable app partitions in the partition table\n" in done.stderr


def test_application_of_another_chip_does_not_start(board):
    assert board.start(START, SIM_CHIP="esp32s3").returncode == NO_APP


def test_ruined_partition_table(board):
    patch(board, 0x8004, b"\x01")
    done = board.start(START)
    assert done.returncode == NO_APP
    assert done.stderr == "boot: Failed to verify partition table: Incorrect MD5 checksum\n"


# -- otadata as others may have left it


def test_two_valid_records_higher_sequence_wins(board):
    patch(board, OTADATA, record(8, VALID))
    patch(board, OTADATA + 0x1000, record(7, VALID))
    assert slots(board) == "ota_1 ota_1"


@pytest.mark.parametrize("state", [INVALID, ABORTED])
def test_record_that_is_out(board, state):
    patch(board, OTADATA + 0x1000, record(2, state))
    assert slots(board) == "ota_0 ota_0"


def test_state_undefined_boots_as_it_is(board):
    """As esptool or a bootloader without rollback writes it."""
    patch(board, OTADATA + 0x1000, record(2, 0xFFFFFFFF))
    assert slots(board) == "ota_1 ota_1"
    assert slots(board) == "ota_1 ota_1"


def test_otadata_of_noise(board):
    for at in (OTADATA, OTADATA + 0x1000):
        patch(board, at, b"\x5a" * 32)
    assert slots(board) == "ota_0 ota_0"
    board.run(SET_BOOT)
    assert slots(board) == "ota_1 ota_1"


# -- other tables


def test_factory_runs_until_a_slot_is_set(tmp_path):
    board = with_table(tmp_path, FACTORY, "factory", "ota_0", "ota_1")
    assert slots(board) == "factory factory"
    assert records(board) == [None, None]
    assert board.fail(CONFIRM) == "OSError: [Errno 1] EPERM: ESP_FAIL"
    board.run(P + "P(P.RUNNING).get_next_update().set_boot()")
    assert records(board) == [(1, NEW), None]
    assert slots(board) == "ota_0 ota_0"
    # Not confirmed: nothing else was ever valid.
    assert slots(board) == "factory factory"


def test_setting_boot_to_factory_erases_otadata(tmp_path):
    board = with_table(tmp_path, FACTORY, "factory", "ota_0")
    board.run(P + "P('ota_0').set_boot()")
    board.run(P + "P('factory').set_boot()")
    assert board.flash.read_bytes()[OTADATA : OTADATA + 0x2000] == b"\xff" * 0x2000
    assert slots(board) == "factory factory"


def test_falls_back_downwards_then_upwards(tmp_path):
    board = with_table(tmp_path, FACTORY, "factory", "ota_0", "ota_1")
    board.run(P + "P('ota_1').set_boot()")
    board.run(CONFIRM)
    assert slots(board) == "ota_1 ota_1"
    ruin(board, 0x210000)
    assert slots(board) == "ota_0 ota_1"
    ruin(board, 0x110000)
    assert slots(board) == "factory ota_1"


def test_factory_only(tmp_path):
    board = with_table(tmp_path, FACTORY_ONLY, "factory")
    assert board.run(P + "print(P(P.RUNNING).info()[4])") == "factory\n"
    assert board.fail(P + "P(P.BOOT)") == "OSError: [Errno 2] ENOENT"
    assert board.fail(P + "P(P.RUNNING).get_next_update()") == "OSError: [Errno 2] ENOENT"
    not_found = "OSError: (-261, 'ESP_ERR_NOT_FOUND')"
    assert board.fail(P + "P('factory').set_boot()") == not_found
    assert board.fail(CONFIRM) == not_found


def test_table_that_does_not_start_at_ota_0(tmp_path):
    board = with_table(tmp_path, WITHOUT_OTA_0, "ota_1", "ota_2")
    refused = "OSError: (-258, 'ESP_ERR_INVALID_ARG')"
    assert board.fail(P + "P('ota_2').set_boot()") == refused


def test_three_slots_take_turns(tmp_path):
    board = with_table(tmp_path, THREE_SLOTS, "ota_0", "ota_1", "ota_2")
    assert slots(board) == "ota_0 ota_0"
    for seq, name in enumerate(("ota_1", "ota_2", "ota_0", "ota_1"), start=2):
        board.run(P + "P(P.RUNNING).get_next_update().set_boot()")
        assert (seq, NEW) in records(board)
        board.run(CONFIRM)
        assert slots(board) == f"{name} {name}"


def test_skipping_a_slot(tmp_path):
    board = with_table(tmp_path, THREE_SLOTS, "ota_0", "ota_2")
    assert slots(board) == "ota_0 ota_0"
    board.run(P + "P('ota_2').set_boot()")
    assert records(board) == [(1, VALID), (3, NEW)]
    assert slots(board) == "ota_2 ota_2"
