"""The first boots of a new firmware, through real resets: guard(), the count of starts, last_result().

The board runs the same program in each slot: what it does as version 2.0.0 is each test's own, as 1.0.0 it prints
what became of the update. `resets` is where the program ends.
"""

import shutil
import subprocess
import sys

import images
import pytest
from board import ABORTED, INVALID, PENDING_VERIFY, VALID, Board, make_board
from simserial import SerialBoard

CUT = 75
SIZE = 20_000
NEW = images.app_image(size=SIZE, version="2.0.0", seed=2)
OTHER = images.app_image(size=SIZE, version="3.0.0", seed=3)
OTADATA = 0xD000
OTA_1 = 0x190000

TELL = "r = https_ota.last_result()\nprint(r and (r.result, r.why, r.version, r.slot))\n"
# Version 2.0.0 does {}, 1.0.0 tells.
PROGRAM = """
import https_ota, machine, micropython, sys, time
if https_ota.running_info().version == "2.0.0":
{}
else:
    r = https_ota.last_result()
    print(r and (r.result, r.why, r.version, r.slot))
"""
ROLLED_BACK = "('rolled back', '{}', '2.0.0', 1)\n"
NOTHING_CONFIRMED = "import https_ota\nprint(https_ota.state())"


@pytest.fixture
def board(tmp_path, root):
    """A board that has version 2.0.0 installed and not started yet."""
    board = make_board(tmp_path, root, "sim")
    put(board, "new.bin", NEW)
    put(board, "other.bin", OTHER)
    install(board)
    return board


def put(board: Board, name: str, data: bytes) -> None:
    (board.flash.parent / name).write_bytes(data)


def install(board: Board, name: str = "new.bin", options: str = "") -> str:
    return board.run(f"import https_ota\nprint(https_ota.update(open('{name}', 'rb'){options}))")


def program(*lines: str) -> str:
    return PROGRAM.format("\n".join("    " + line for line in lines))


def tell(board: Board) -> str:
    return board.run("import https_ota\n" + TELL)


def nvs(board: Board, key: str) -> str:
    """What NVS holds under a key, without bringing it up to date."""
    return board.run(
        "import esp32\n"
        "buf = bytearray(200)\n"
        "try:\n"
        f"    print(bytes(buf[:esp32.NVS('https_ota').get_blob({key!r}, buf)]).hex())\n"
        "except OSError as e:\n"
        "    print(e.args[0])"
    ).rstrip()


# -- the trial ends


def test_endless_loop_ends_with_the_guard(board):
    shown = board.run(program("print(https_ota.guard(0.3))", "while True: pass"))
    assert shown == "True\n" + ROLLED_BACK.format("guard")
    assert board.running() == ("1.0.0", "ota_0", VALID)


def test_waiting_for_ever_ends_with_the_guard(board):
    shown = board.run(
        program(
            "https_ota.guard(0.3)",
            "import socket",
            "s = socket.socket()",
            "s.bind(socket.getaddrinfo('127.0.0.1', 0)[0][-1])",
            "s.listen(1)",
            "s.accept()",
        )
    )
    assert shown == ROLLED_BACK.format("guard")


def test_exception_ends_with_the_guard(board):
    """The REPL waits for input that does not come."""
    shown = board.run(
        program(
            "https_ota.guard(0.3)",
            "try:",
            "    raise OSError('the sensor is missing')",
            "except OSError as e:",
            "    sys.print_exception(e)",
            "    while True: time.sleep(1000)",
        )
    )
    assert shown.endswith("OSError: the sensor is missing\n" + ROLLED_BACK.format("guard"))


def test_hang_that_only_the_watchdog_sees(board):
    """A callback that does not return keeps others from running, as C code does."""
    done = board.start(
        program(
            "wdt = machine.WDT(timeout=1500)",
            "https_ota.guard(60, wdt)",
            "def hang(x):",
            "    while True: pass",
            "micropython.schedule(hang, 0)",
            "while True: pass",
        )
    )
    assert done.stdout == ROLLED_BACK.format("watchdog")
    assert "mpy_machine_wdt" in done.stderr


def test_guard_feeds_the_watchdog_as_long_as_it_runs(board):
    done = board.start(
        program("https_ota.guard(3, machine.WDT(timeout=1500))", "while True: pass")
    )
    assert done.stdout == ROLLED_BACK.format("guard")
    assert "mpy_machine_wdt" not in done.stderr


def test_confirming_ends_the_guard(board):
    shown = board.run(
        program(
            "https_ota.guard(0.3)",
            "print(https_ota.confirm())",
            "time.sleep(1)",
            TELL.replace("\n", "\n    "),
        )
    )
    assert shown == "True\n('updated', '', '2.0.0', 1)\n"
    assert board.running() == ("2.0.0", "ota_1", VALID)


def test_watchdog_is_the_applications_after_confirming(board):
    done = board.start(
        program(
            "https_ota.guard(60, machine.WDT(timeout=1100))",
            "if https_ota.confirm():",
            "    while True: pass",
            "print('reset by', machine.reset_cause())",
            "time.sleep(0.2)",
            "sys.exit()",
        )
    )
    assert done.stdout == "reset by 3\n"


def test_guard_again_moves_the_deadline(board):
    shown = board.run(
        program(
            "https_ota.guard(0.6)",
            "https_ota.guard(60)",
            "time.sleep(1.5)",
            "print(https_ota.confirm())",
        )
    )
    assert shown == "True\n"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["machine.reset()"], "reset"),
        (["machine.WDT(timeout=100)", "while True: pass"], "watchdog"),
        (["https_ota.rollback()"], "rollback"),
        (["https_ota.rollback('no sensor')"], "no sensor"),
    ],
)
def test_why(board, lines, why):
    assert board.run(program(*lines)) == ROLLED_BACK.format(why)


def test_power_is_lost_during_the_trial(board):
    assert board.running().state == PENDING_VERIFY
    assert tell(board) == ROLLED_BACK.format("power")
    # And that is what it was, whenever it is asked.
    assert tell(board) == ROLLED_BACK.format("power")


def test_what_became_of_it_step_by_step(board):
    assert tell(board) == "('on trial', '', '2.0.0', 1)\n"


def test_selected(tmp_path, root):
    board = make_board(tmp_path, root, "sim")
    put(board, "new.bin", NEW)
    assert tell(board) == "None\n"
    shown = board.run(
        "import https_ota\nhttps_ota.update(open('new.bin', 'rb'))\n"
        + TELL
        + "print(r.app_elf_sha256.hex())"
    )
    assert shown == f"('selected', '', '2.0.0', 1)\n{NEW[176:208].hex()}\n"


def test_image_that_does_not_start(board):
    flash = bytearray(board.flash.read_bytes())
    flash[OTA_1 + 5000] ^= 1
    board.flash.write_bytes(flash)
    shown = "('not started', '', '2.0.0', 1)\n"
    assert tell(board) == shown
    assert tell(board) == shown
    assert "FAILED_BEFORE" in board.refuse_file("new.bin")


def test_confirmed_firmware_that_is_damaged_later_is_installed_again(board):
    assert board.run("import https_ota\nprint(https_ota.confirm())\n" + TELL).startswith("True")
    flash = bytearray(board.flash.read_bytes())
    flash[OTA_1 + 5000] ^= 1
    board.flash.write_bytes(flash)
    assert tell(board) == "('not started', '', '2.0.0', 1)\n"
    install(board)
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


def test_asking_again_wears_no_flash(board):
    board.running()
    tell(board)
    shown = board.run(
        "import https_ota, simboard\nhttps_ota.last_result()\n"
        "simboard.reset_counters()\n"
        "https_ota.guard(60)\n"
        "https_ota.last_result()\n"
        "https_ota.confirm()\n"
        "print(simboard.counters()[:2])"
    )
    assert shown == "(0, 0)\n"


# -- deep sleep


def test_deep_sleep_goes_on_with_the_trial(board):
    shown = board.run(
        program(
            "print(https_ota.guard(60), machine.reset_cause())",
            "if machine.reset_cause() != machine.DEEPSLEEP_RESET:",
            "    machine.deepsleep(10)",
            "print(https_ota.confirm())",
        )
    )
    assert shown == "True 1\nTrue 4\nTrue\n"
    assert board.running() == ("2.0.0", "ota_1", VALID)


def test_deep_sleep_that_is_ended_by_a_power_cut(board):
    """The bootloader has forgotten what slept, and starts in full."""
    assert board.running().state == PENDING_VERIFY
    shown = board.run(program("machine.deepsleep(10)"), SIM_RESET_CAUSE="4")
    assert shown == ROLLED_BACK.format("sleep")


def test_trial_that_sleeps_for_ever(board):
    shown = board.run(
        program("https_ota.guard(60, starts=3)", "print('try')", "machine.deepsleep(10)")
    )
    assert shown == 3 * "try\n" + ROLLED_BACK.format("starts")


# -- starts


def confirmed(board: Board) -> None:
    assert board.run("import https_ota\nprint(https_ota.confirm())") == "True\n"


def test_confirmed_firmware_that_crashes_at_each_start(board):
    confirmed(board)
    shown = board.run(
        program("print(https_ota.guard(60, starts=3))", "machine.reset()"),
    )
    assert shown == 3 * "False\n" + ROLLED_BACK.format("starts")
    assert "FAILED_BEFORE" in board.refuse_file("new.bin")


def test_confirming_sets_the_count_back(board):
    confirmed(board)
    crash = program("https_ota.guard(60, starts=3)")
    good = program("https_ota.guard(60, starts=3)", "print(https_ota.confirm())")
    for _ in range(3):
        board.run(crash)
        board.run(crash)
        assert board.run(good) == "False\n"
    for _ in range(3):
        assert board.run(crash) == ""
    assert board.run(crash) == ROLLED_BACK.format("starts")


def test_wakes_of_a_confirmed_firmware_do_not_count(board):
    confirmed(board)
    shown = board.run(
        program(
            "https_ota.guard(60, starts=2)",
            "n = https_ota.boot.guard.NVS('test')",
            "try: i = n.get_i32('n')",
            "except OSError: i = 0",
            "n.set_i32('n', i + 1)",
            "print(i)",
            "if i < 8: machine.deepsleep(10)",
        )
    )
    assert shown == "".join(f"{i}\n" for i in range(9))


def test_new_firmware_begins_to_count_at_zero(board):
    """The one before it was never confirmed either."""
    confirmed(board)
    count = "import https_ota, esp32\nhttps_ota.guard(60, starts=9)\n"
    left = "print(esp32.NVS('https_ota').get_i32('starts') & 127)"
    assert [board.run(count + left) for _ in range(3)] == ["1\n", "2\n", "3\n"]
    install(board, "other.bin")
    assert board.run(count + left) == "1\n"


def test_nothing_to_go_back_to(tmp_path, root):
    """The only firmware that there is runs on, and wears no flash."""
    board = make_board(tmp_path, root, "sim")
    count = (
        "import https_ota, simboard\nsimboard.reset_counters()\n"
        "https_ota.guard(60, starts=2)\nprint(simboard.counters()[1] > 0)"
    )
    assert [board.run(count) for _ in range(5)] == ["True\n"] * 2 + ["False\n"] * 3
    assert board.running() == ("1.0.0", "ota_0", VALID)


def test_bootloader_without_rollback(board):
    """It leaves the state as set_boot() wrote it, or as UNDEFINED."""
    running = board.running()
    assert running.state == PENDING_VERIFY
    for state in (0, 0xFFFFFFFF):
        flash = bytearray(board.flash.read_bytes())
        flash[OTADATA + 0x1000 + 24 : OTADATA + 0x1000 + 28] = (0xFFFFFFFF).to_bytes(4, "little")
        board.flash.write_bytes(flash)
        assert tell(board) == "('updated', '', '2.0.0', 1)\n", state
    shown = board.run(program("print(https_ota.guard(60, starts=2))", "machine.reset()"))
    assert shown == 2 * "False\n" + ROLLED_BACK.format("starts")


# -- what failed is not installed again


def test_failed_image_is_refused_until_asked_for(board):
    board.running()
    assert board.running().version == "1.0.0"
    message = board.refuse_file("new.bin")
    assert message == (
        "OTAError: FAILED_BEFORE: this image (2.0.0, built Jan  1 2026 12:00:00) ran here before"
        " and did not last (power)"
    )
    assert nvs(board, "failed") == NEW[176:208].hex()
    assert "2.0.0" in install(board, options=", retry_failed=True")
    confirmed(board)
    assert nvs(board, "failed") == "-4354"


def test_begin_tells_why_there_is_nothing_to_do(board):
    board.running()
    shown = board.run(
        "import https_ota\n"
        "ota = https_ota.OTA(open('new.bin', 'rb'))\n"
        "print(ota.begin(), ota.refusal.code == https_ota.OTAError.FAILED_BEFORE, ota.info.version)\n"
        "ota = https_ota.OTA(open('other.bin', 'rb'))\n"
        "print(ota.begin().version, ota.refusal)"
    )
    assert shown == "None True 2.0.0\n3.0.0 None\n"


def test_asyncio_update_tells_it_as_well(board):
    board.running()
    message = board.fail(
        "import asyncio, https_ota\nfrom https_ota import aio\n"
        "asyncio.run(aio.update(open('new.bin', 'rb')))"
    )
    assert message.startswith("OTAError: FAILED_BEFORE: ")


def test_what_belongs_to_a_refused_firmware_is_not_installed(board):
    board.running()
    before = board.flash.read_bytes()
    put(board, "data.bin", bytes(4096))
    message = board.fail(
        "import https_ota\nfrom https_ota import OTA\n"
        "data = OTA(open('data.bin', 'rb'), partition='vfs')\n"
        "https_ota.together(OTA(open('new.bin', 'rb')), data)"
    )
    assert message.startswith("OTAError: FAILED_BEFORE: ")
    assert board.flash.read_bytes()[OTA_1:] == before[OTA_1:]


def test_failure_is_remembered_beyond_the_slot(board):
    """The next image took its place and is not confirmed yet."""
    board.running()
    install(board, "other.bin")
    assert board.running().version == "3.0.0"
    assert board.running().version == "1.0.0"
    assert "3.0.0" in board.refuse_file("other.bin")
    assert "2.0.0" in board.refuse_file("new.bin")


def test_failure_is_remembered_when_a_later_update_is_broken_off(board):
    board.running()
    assert board.start(f"{INSTALL_OTHER}", SIM_CUT="4").returncode == CUT
    assert "2.0.0" in board.refuse_file("new.bin")


def test_another_confirmed_image_lets_it_be_tried_again(board):
    board.running()
    install(board, "other.bin")
    confirmed(board)
    assert "2.0.0" in install(board)


INSTALL_OTHER = "import https_ota\nhttps_ota.update(open('other.bin', 'rb'))"


def test_installed_by_something_without_records(tmp_path, root):
    """otadata and the slot tell enough."""
    board = make_board(tmp_path, root, "sim")
    put(board, "new.bin", NEW)
    flash = bytearray(board.flash.read_bytes())
    flash[OTA_1 : OTA_1 + len(NEW)] = NEW
    board.flash.write_bytes(flash)
    board.run("from esp32 import Partition as P\nP('ota_1').set_boot()")
    assert tell(board) == "None\n"
    assert tell(board) == ROLLED_BACK.format("power")
    assert "2.0.0" in board.refuse_file("new.bin")


# -- a board without NVS


def without_nvs(board: Board) -> None:
    """Rename the partition, which leaves the table's checksum to be made anew."""
    import hashlib

    flash = bytearray(board.flash.read_bytes())
    at = flash.index(b"nvs\0", 0x8000)
    flash[at : at + 3] = b"vsn"
    end = flash.index(b"\xeb\xeb", 0x8000)
    flash[end + 16 : end + 32] = hashlib.md5(flash[0x8000:end]).digest()
    board.flash.write_bytes(flash)


def test_without_nvs_the_guard_works_and_otadata_tells_the_rest(board):
    without_nvs(board)
    before = board.flash.read_bytes()
    shown = board.run(program("https_ota.guard(0.3, starts=3)", "while True: pass"))
    assert shown == ROLLED_BACK.format("reset")
    after = board.flash.read_bytes()
    assert after[:OTADATA] == before[:OTADATA]
    assert after[OTADATA + 0x2000 :] == before[OTADATA + 0x2000 :]
    assert "2.0.0" in board.refuse_file("new.bin")
    assert "2.0.0" in install(board, options=", retry_failed=True")
    confirmed(board)


# -- power cuts

END = "    print(https_ota.running_info().version)\n"
CASES = {
    "confirm": ["https_ota.guard(60, starts=3)", "https_ota.confirm()", "https_ota.last_result()"],
    "rollback": ["https_ota.guard(60, starts=3)", "https_ota.rollback()"],
    "guard": ["https_ota.guard(0.1, starts=3)", "while True: pass"],
    "starts": ["https_ota.guard(60, starts=1)", "machine.deepsleep(1)"],
}


@pytest.mark.parametrize("case", CASES)
def test_power_cut_in_every_operation(board, case, capsys):
    """A failed image is in the records as well, so that confirming has something to erase."""
    board.running()
    tell(board)
    install(board, options=", retry_failed=True")
    start = board.flash.with_name("start.bin")
    shutil.copyfile(board.flash, start)
    code = program(*CASES[case])
    cuts = 0
    while True:
        shutil.copyfile(start, board.flash)
        done = board.start(code, SIM_CUT=str(cuts + 1))
        if done.returncode == 0:
            break
        assert done.returncode == CUT, f"{done.stdout}{done.stderr}"
        cuts += 1
        shown = tell(board)
        running = board.running()
        if case == "confirm" and running.version == "2.0.0":
            assert running == ("2.0.0", "ota_1", VALID), cuts
            assert tell(board) == "('updated', '', '2.0.0', 1)\n", cuts
            continue
        assert running == ("1.0.0", "ota_0", VALID), cuts
        # In the bootloader's own two operations it had not started yet; in the two of marking it as valid
        # it had proved itself. It did not fail, and its record in otadata is gone.
        unknown = cuts <= 2 or case == "confirm"
        assert shown.startswith("('rolled back', '") or (unknown and shown == "None\n"), cuts
        assert tell(board) == shown, cuts
        assert "2.0.0" in board.refuse_file("new.bin"), cuts
        install(board, "other.bin")
        confirmed(board)
        assert board.running() == ("3.0.0", "ota_1", VALID), cuts
    with capsys.disabled():
        print(f"\n{case}: {cuts} power cuts, one in each flash operation")
    assert cuts > 6


def test_states_in_otadata(board):
    """What the other tests rely on: given up by the bootloader or by the firmware itself."""
    assert board.running().state == PENDING_VERIFY
    board.running()
    assert board.boots_from()[56] == ABORTED
    install(board, options=", retry_failed=True")
    board.run("import https_ota\nif https_ota.state() == 1: https_ota.rollback()")
    assert board.boots_from()[56] == INVALID


# -- soft resets, and other ways to confirm


def test_mpremote_uses_no_start_up(board):
    """Each of its commands starts MicroPython over, and boot.py with it."""
    confirmed(board)
    folder = board.flash.parent / "fs"
    folder.mkdir()
    (folder / "boot.py").write_text("import https_ota\nhttps_ota.guard(60, starts=2)\n")
    with SerialBoard(board, folder) as serial:
        for _ in range(4):
            command = ["-m", "mpremote", "connect", serial.port, "exec", "print(1 + 1)"]
            done = subprocess.run([sys.executable, *command], capture_output=True, check=True)
            assert done.stdout.strip() == b"2"
    assert board.running() == ("2.0.0", "ota_1", VALID)


def test_confirmed_as_other_libraries_do_it(board):
    """The guard's time is over while the application runs: nothing happens, and it counts as confirmed."""
    shown = board.run(
        program(
            "print(https_ota.guard(0.6, starts=3))",
            "import esp32",
            "esp32.Partition.mark_app_valid_cancel_rollback()",
            "time.sleep(2)",
            "print('still here', esp32.NVS('https_ota').get_i32('starts') & 127)",
            TELL.replace("\n", "\n    "),
        )
    )
    assert shown == "True\nstill here 0\n('updated', '', '2.0.0', 1)\n"
    assert board.running() == ("2.0.0", "ota_1", VALID)
