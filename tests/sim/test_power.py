"""The SIM board loses its power, is reset, or harms itself."""

import subprocess
import time

import images
import pytest
import simflash
from board import Board

OTADATA = 0xD000
OTA_1 = 0x190000
CUT = 75
ABORT = 134

P = "from esp32 import Partition as P\n"
RUNNING = P + "print(P(P.RUNNING).info()[4])"
SET_BOOT = P + "P('ota_1').set_boot()"
CONFIRM = P + "P.mark_app_valid_cancel_rollback()"
START = "import machine"


@pytest.fixture(params=["sim", "sim64"])
def board(tmp_path, request):
    """A board with an application in each slot, started once, so that a start writes nothing."""
    newer = images.app_image(version="2.0.0", seed=2)
    flash = simflash.make_flash(tmp_path / "flash.bin", contents={"ota_1": newer})
    board = Board(flash, request.param)
    board.run(START)
    return board


def at(board: Board, start: int, n: int) -> bytes:
    return board.flash.read_bytes()[start : start + n]


def patch(board: Board, start: int, data: bytes) -> None:
    with board.flash.open("r+b") as f:
        f.seek(start)
        f.write(data)


# -- cuts


def test_cut_in_an_erase(board):
    board.run(P + "P('ota_1').writeblocks(0, bytes(8192))")
    done = board.start(P + "P('ota_1').ioctl(6, 0); print('never')", SIM_CUT="1")
    assert done.returncode == CUT
    assert done.stdout == ""
    assert done.stderr == "SIM: power cut in flash erase at 0x190000\n"
    sector = at(board, OTA_1, 4096)
    assert sector[:2048] == b"\xff" * 2048
    # The rest is neither what it was nor blank.
    assert sector[2048:] not in (bytes(2048), b"\xff" * 2048)
    assert at(board, OTA_1 + 4096, 4096) == bytes(4096)


def test_cut_in_the_erase_of_a_block(board):
    # Two sectors, a block, two sectors: 64 KiB are erased at once where they begin at such a boundary.
    code = P + "P('ota_1').writeblocks(14, b'\\xff' * 4096 * 20)"
    board.run(P + "P('ota_1').writeblocks(14, bytes(4096 * 20))")
    assert board.start(code, SIM_CUT="3").stderr == "SIM: power cut in flash erase at 0x1a0000\n"
    block = at(board, OTA_1 + 0x10000, 0x10000)
    assert block[:0x8800] == b"\xff" * 0x8800
    assert block[0x8800:0x9000] not in (bytes(2048), b"\xff" * 2048)
    assert block[0x9000:] == bytes(0x7000)
    # Five erases, and a program for each of 20 sectors.
    assert board.start(code, SIM_CUT="25").returncode == CUT
    assert board.start(code, SIM_CUT="26").returncode == 0


def test_cut_in_a_program(board):
    board.run(P + "P('ota_1').ioctl(6, 0)")
    done = board.start(P + "P('ota_1').writeblocks(0, bytes(100), 8); print('never')", SIM_CUT="1")
    assert done.returncode == CUT
    assert done.stderr == "SIM: power cut in flash program at 0x190008\n"
    # Half of it, and a byte of which some bits were reached.
    assert at(board, OTA_1, 110) == b"\xff" * 8 + bytes(50) + b"\x55" + b"\xff" * 51


def test_cut_in_a_program_sets_no_bit(board):
    board.run(P + "P('ota_1').writeblocks(0, b'\\x0f' * 4096)")
    board.start(P + "P('ota_1').writeblocks(0, b'\\xf5' * 10, 0)", SIM_CUT="1")
    assert at(board, OTA_1, 8) == b"\x05" * 5 + b"\x05" + b"\x0f" * 2


def test_operations_are_counted(board):
    """An erase and a program for each sector; what is done before the cut stays."""
    code = P + "P('ota_1').writeblocks(0, bytes(3 * 4096))"
    board.run(P + "P('ota_1').writeblocks(0, b'\\x77' * 3 * 4096)")
    # Three erases come first, then three programs.
    assert board.start(code, SIM_CUT="2").returncode == CUT
    assert at(board, OTA_1, 4096) == b"\xff" * 4096
    assert at(board, OTA_1 + 2 * 4096, 4096) == b"\x77" * 4096
    assert board.start(code, SIM_CUT="5").returncode == CUT
    assert at(board, OTA_1, 4096) == bytes(4096)
    assert at(board, OTA_1 + 2 * 4096, 4096) == b"\xff" * 4096
    assert board.start(code, SIM_CUT="6").returncode == CUT
    assert board.start(code, SIM_CUT="7").returncode == 0
    assert board.start(code, SIM_CUT="0").returncode == 0


def test_reads_are_not_counted(board):
    board.run(P + "P('ota_1').readblocks(0, bytearray(4096))", SIM_CUT="1")


def test_count_goes_on_over_a_reset(board):
    code = (
        "import machine\n" + P + "if machine.reset_cause() == 1:\n"
        "    P('ota_1').ioctl(6, 0)\n"
        "    machine.reset()\n"
        "print('second life')\n"
        "P('ota_1').ioctl(6, 1)\n"
        "print('both')"
    )
    assert board.start(code, SIM_CUT="1").stdout == ""
    done = board.start(code, SIM_CUT="2")
    assert (done.returncode, done.stdout) == (CUT, "second life\n")
    assert board.start(code, SIM_CUT="3").stdout == "second life\nboth\n"


def test_every_cut_of_an_update(board):
    """Set the slot, reset, confirm, reset: cut anywhere, the board starts, and ends up in one of the slots."""
    code = (
        "import machine\n" + P + "slot = P(P.RUNNING).info()[4]\n"
        "if machine.reset_cause() == 1:\n"
        "    P('ota_1').set_boot()\n"
        "    machine.reset()\n"
        "P.mark_app_valid_cancel_rollback()"
    )
    before = at(board, OTADATA, 0x2000)
    seen = []
    n = 1
    while board.start(code, SIM_CUT=str(n)).returncode == CUT:
        # Whatever it started into, without a confirmation it is the old one from the next time on.
        lives = tuple(board.run(RUNNING).rstrip() for _ in range(3))
        assert lives[1:] == ("ota_0", "ota_0"), (n, lives)
        seen.append(lives[0])
        patch(board, OTADATA, before)
        n += 1
    # set_boot(), PENDING_VERIFY and VALID: each an erase and a program. The new one may start
    # only once its record is there, and is out when the power fails before it is confirmed.
    assert seen == ["ota_0"] * 6
    assert board.run(RUNNING) == "ota_1\n"


def test_every_cut_of_set_boot(board):
    before = at(board, OTADATA, 0x2000)
    for n in (1, 2):
        assert board.start(SET_BOOT, SIM_CUT=str(n)).returncode == CUT
        assert board.run(RUNNING) == "ota_0\n"
        board.run(SET_BOOT)
        assert board.run(RUNNING) == "ota_1\n"
        patch(board, OTADATA, before)
    board.run(SET_BOOT, SIM_CUT="3")


# -- time


def test_flash_in_real_time(board):
    """Four sectors erased and one page programmed: 180.7 ms."""
    ms = board.run(
        "import time\n" + P + "part = P('ota_1')\n"
        "begin = time.ticks_us()\n"
        "for i in range(4): part.ioctl(6, i)\n"
        "part.writeblocks(0, bytes(256), 0)\n"
        "print(time.ticks_diff(time.ticks_us(), begin) / 1000)",
        SIM_FLASH_REALTIME="1",
    )
    assert float(ms) >= 180.7


def test_time_of_a_block(board):
    """150 ms, and 179.2 for its 256 pages."""
    code = (
        P
        + "import simboot, simboard; simboard.reset_counters(); P('ota_1').writeblocks(0, b'\\xff' * 65536)"
    )
    assert board.run(code + "; print(simboot.flash.ms, *simboard.counters()[:2])") == "329 16 16\n"


# -- self-harm


@pytest.mark.parametrize(
    "harm",
    [
        "P(P.RUNNING).ioctl(6, 0)",
        "P(P.RUNNING).writeblocks(0, bytes(4096))",
        "P(P.RUNNING).writeblocks(100, b'x', 1)",
        "__import__('simboot').flash.erase(0x1000, 4096)",
        "__import__('simboot').flash.program(0x8000, b'x', 0, 1)",
    ],
)
def test_flash_that_the_program_needs(board, harm):
    before = board.flash.read_bytes()
    done = board.start(P + harm + "\nprint('never')")
    assert done.returncode == ABORT
    assert done.stdout == ""
    assert done.stderr.startswith("abort() was called at PC 0x")
    assert board.flash.read_bytes() == before


def test_the_other_slot_after_a_switch(board):
    """What is guarded is the slot that runs, not the first one."""
    board.run(SET_BOOT)
    board.run(P + "P('ota_0').ioctl(6, 0)")
    board.run(CONFIRM + "\nP('ota_0').ioctl(6, 0)", SIM_CHIP="esp32c3")


def test_flash_that_is_missing(tmp_path):
    board = Board(tmp_path / "none.bin")
    message = board.fail(START)
    assert message == (
        f"OSError: SIM_FLASH={tmp_path}/none.bin: no such flash, "
        "make one with: https-ota mkflash APP.bin -o flash.bin"
    )


# -- resets


def test_reset_starts_the_same_program_anew(board):
    """Its source and arguments, its standard streams, its folder; nothing of its memory."""
    program = board.flash.parent / "main.py"
    program.write_text(
        "import machine, os, sys\n"
        "print(machine.reset_cause(), sys.argv[1:], os.getcwd() == sys.argv[1], 'x' in globals())\n"
        "x = 1\n"
        "if machine.reset_cause() == machine.PWRON_RESET:\n"
        "    os.chdir('/')\n"
        "    machine.reset()\n"
    )
    done = board.start(
        f"import sys; sys.argv[1:] = [{str(program.parent)!r}, 'two']; exec(open('main.py').read())"
    )
    folder = str(program.parent)
    assert done.stdout == "".join(f"{n} {[folder, 'two']} True False\n" for n in (1, 2))


def test_reset_keeps_arguments(board):
    program = board.flash.parent / "main.py"
    program.write_text(
        "import machine, sys\n"
        "print(machine.reset_cause(), sys.argv)\n"
        "if machine.reset_cause() == machine.PWRON_RESET: machine.reset()\n"
    )
    done = subprocess.run(
        [board.interpreter, "-X", "heapsize=300k", "main.py", "one", "two words"],
        env={"SIM_FLASH": str(board.flash)},
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    argv = "['main.py', 'one', 'two words']"
    assert done.stdout == f"1 {argv}\n2 {argv}\n"


def test_reset_closes_files(board):
    """Else a server that is still connected would wait for a client that is gone."""
    shown = board.run(
        "import machine, os\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
        "kept = [open('/dev/null') for _ in range(5)]\n"
        "if machine.reset_cause() == 1: machine.reset()"
    ).split()
    assert shown[0] == shown[1]


def test_watchdog_resets_a_program_that_hangs(board):
    shown = board.start(
        "import machine\n"
        "print(machine.reset_cause())\n"
        "if machine.reset_cause() == 1:\n"
        "    machine.WDT(timeout=20)\n"
        "    while True: pass"
    )
    assert shown.stdout == "1\n3\n"
    assert shown.stderr.startswith("E task_wdt: Task watchdog got triggered.")


def test_watchdog_resets_a_program_that_waits(board):
    begin = time.monotonic()
    shown = board.run(
        "import machine, time\n"
        "print(machine.reset_cause())\n"
        "if machine.reset_cause() == 1:\n"
        "    machine.WDT(timeout=20)\n"
        "    time.sleep(60)"
    )
    assert shown == "1\n3\n"
    assert time.monotonic() - begin < 30


def test_watchdog_bites_again_after_a_reset(board):
    """A signal handler that resets must not leave its signal blocked."""
    shown = board.run(
        "import machine, os\n"
        "life = len(os.listdir()) \n"
        "open('life%d' % life, 'w').close()\n"
        "print(machine.reset_cause())\n"
        "if life < 4:\n"
        "    machine.WDT(timeout=20)\n"
        "    while True: pass"
    )
    assert shown == "1\n" + "3\n" * 3


def test_new_firmware_that_hangs_goes_back(board):
    board.run(SET_BOOT)
    shown = board.run(
        "import machine\n" + RUNNING + "\n"
        "if P(P.RUNNING).info()[4] == 'ota_1':\n"
        "    machine.WDT(timeout=20)\n"
        "    while True: pass\n"
        "print(machine.reset_cause())"
    )
    assert shown == "ota_1\nota_0\n3\n"


def test_unconfirmed_firmware_that_only_resets_goes_back(board):
    """The bootloader runs at each reset, not just for programs that look at partitions."""
    board.run(SET_BOOT)
    board.run("import machine\nif machine.reset_cause() == machine.PWRON_RESET: machine.reset()")
    assert board.run(RUNNING) == "ota_0\n"


def test_deep_sleep_wakes_what_ran(board):
    shown = board.run(
        "import machine\n" + RUNNING + "\n"
        "print(machine.reset_cause())\n"
        "if machine.reset_cause() == machine.PWRON_RESET:\n"
        "    P('ota_1').set_boot()\n"
        "    machine.deepsleep(1)\n"
        "elif machine.reset_cause() == machine.DEEPSLEEP_RESET:\n"
        "    machine.reset()"
    )
    assert shown.split() == ["ota_0", "1", "ota_0", "4", "ota_1", "2"]


def test_deep_sleep_is_not_a_second_start(board):
    """MicroPython's builds wake without a look at otadata: firmware on trial stays on trial."""
    board.run(SET_BOOT)
    shown = board.run(
        "import machine\n" + RUNNING + "\n"
        "if machine.reset_cause() == machine.PWRON_RESET: machine.deepsleep(1)\n"
        "P.mark_app_valid_cancel_rollback()"
    )
    assert shown == "ota_1\nota_1\n"
    assert board.run(RUNNING) == "ota_1\n"


# -- clock


def year(board, **env):
    return int(board.run("import time; print(time.gmtime()[0])", **env))


def test_clock_is_that_of_the_host(board):
    host = time.time()
    assert abs(int(board.run("import time; print(time.time())")) - host) < 30


def test_clock_that_nobody_set(board):
    assert year(board, SIM_CLOCK="unset") == 2000


def test_clock_that_is_wrong(board):
    assert year(board, SIM_CLOCK="1500000000") == 2017


def test_clock_goes_on_over_a_reset(board):
    shown = board.run(
        "import machine, time\n"
        "print(time.gmtime()[0])\n"
        "if machine.reset_cause() == machine.PWRON_RESET:\n"
        "    machine.RTC().datetime((2031, 1, 2, 0, 3, 4, 5, 0))\n"
        "    machine.reset()",
        SIM_CLOCK="unset",
    )
    assert shown == "2000\n2031\n"
    # And is lost with the power.
    assert year(board, SIM_CLOCK="unset") == 2000


def test_clock_is_in_utc(board):
    shown = board.run(
        "import time; print(time.gmtime() == time.localtime())", TZ="America/New_York"
    )
    assert shown == "True\n"
