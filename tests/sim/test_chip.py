"""The SIM board's eFuse registers, as https_ota.flash.chip reads a revision out of them."""

import images
import pytest
import simflash
from board import Board

# Revisions that exist, and the largest that the fields hold.
REVISIONS = {
    "esp32": (0, 1, 100, 101, 200, 300, 301, 303),
    "esp32s2": (0, 1, 100, 115, 307),
    "esp32c3": (3, 4, 100, 101, 315),
    "esp32s3": (1, 2, 100, 309),
    "esp32c2": (100, 101, 102, 200, 315),
    "esp32c6": (0, 1, 2, 100, 315),
    "esp32h2": (1, 2, 100, 102, 307),
    "esp32p4": (0, 1, 100, 103, 300, 301, 715),
    "esp32c61": (100, 101, 315),
    "esp32c5": (0, 2, 100, 101, 315),
}
DEFAULTS = {
    "esp32": 301,
    "esp32s2": 100,
    "esp32c3": 3,
    "esp32s3": 2,
    "esp32c2": 102,
    "esp32c6": 1,
    "esp32h2": 2,
    "esp32p4": 103,
    "esp32c61": 100,
    "esp32c5": 100,
}


def board_of(folder, chip):
    chip_id, drom = images.DROM[chip]
    data = images.app_image(chip_id=chip_id)[32:8032]
    app = images.image([(drom + 0x20, data)], chip_id=chip_id)
    return Board(simflash.make_flash(folder / "flash.bin", app))


def revision(board, chip, **env):
    return board.run(
        f"from https_ota.flash.chip import revision; print(*revision({images.CHIP_IDS[chip]}))",
        **env,
    ).split()


def test_all_chips_are_here():
    assert set(REVISIONS) == set(DEFAULTS) == set(images.CHIP_IDS)


@pytest.mark.parametrize("chip", REVISIONS)
def test_revision(tmp_path, chip):
    board = board_of(tmp_path, chip)
    assert revision(board, chip) == [str(DEFAULTS[chip]), "False"]
    for number in map(str, REVISIONS[chip]):
        assert revision(board, chip, SIM_CHIP_REV=number) == [number, "False"]


@pytest.mark.parametrize("chip", sorted(set(REVISIONS) - {"esp32"}))
def test_efuse_that_lifts_the_highest_revision(tmp_path, chip):
    board = board_of(tmp_path, chip)
    assert revision(board, chip, SIM_NO_MAX_REV="1") == [str(DEFAULTS[chip]), "True"]


def test_esp32_has_no_such_efuse(tmp_path):
    board = board_of(tmp_path, "esp32")
    assert revision(board, "esp32", SIM_NO_MAX_REV="1") == ["301", "False"]


def test_block_revision_is_apart(tmp_path):
    board = board_of(tmp_path, "esp32c3")
    assert revision(board, "esp32c3", SIM_BLK_REV="7") == ["3", "False"]


def test_chip_that_is_none(tmp_path):
    board = board_of(tmp_path, "esp32c3")
    message = board.fail("import esp32", SIM_CHIP="esp8266")
    assert message.startswith("ValueError: SIM_CHIP=esp8266: one of esp32 esp32c2 ")


PINS = """
import machine, time
from machine import Pin
if machine.reset_cause() == machine.PWRON_RESET:
    up, down, held = Pin(4, Pin.IN, Pin.PULL_UP), Pin(5, Pin.IN, Pin.PULL_DOWN), Pin(6, Pin.IN, Pin.PULL_UP)
    out = Pin(7, Pin.OUT, value=1)
    print(up.value(), down(), held(), out(), Pin(7)())
    out.off()
    print(out())
    while not held():
        pass
    print(time.ticks_ms() - machine._started >= 300)
    machine.reset()
print(Pin(6, Pin.IN, Pin.PULL_UP)())
"""


def test_pins_and_a_button_that_is_held(tmp_path):
    board = board_of(tmp_path, "esp32c3")
    assert board.run(PINS, SIM_HOLD="6:300") == "1 0 0 1 1\n0\nTrue\n1\n"
