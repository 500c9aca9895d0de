"""What goes wrong around a push: with the self-test, boot.py, watchdogs, the port, the clock. None of it is a verdict."""

import datetime
import functools
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import images
import pytest
import servers
from board import PENDING_VERIFY, VALID, Running
from cryptography import x509
from simserial import SerialBoard, running, runs_again

from https_ota_tools import authority, cli, link

UP = "print('app up')\nimport time\n"
IDLE = UP + "while True:\n    time.sleep(1)\n"


@pytest.fixture
def tool(serial, on_board):
    return functools.partial(on_board, serial)


@pytest.fixture
def script(tmp_path):
    """Returns a function that writes a self-test."""

    def write(text):
        path = tmp_path / "check.py"
        path.write_text(text)
        return path

    return write


# -- the self-test


def test_boot_py_runs_to_its_end_before_the_self_test(serial, tool, app, script):
    servers.wait_for(lambda: b">>> " in serial.said)
    (serial.folder / "boot.py").write_text(
        "import time\n"
        "def note(c):\n    with open('/boots', 'a') as f:\n        f.write(c)\n"
        "note('(')\ntime.sleep_ms(1200)\nnote(')')\n"
    )
    (serial.folder / "main.py").write_text(IDLE)
    tool("push", app, "--usb", "--self-test", script("assert open('/boots').read()[-1] == ')'"))
    runs_again(serial)
    boots = (serial.folder / "boots").read_text()
    assert "((" not in boots and boots.count(")") >= 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # Deaf: it never ends, and can't be made to.
        ("import micropython\nmicropython.kbd_intr(-1)\nwhile True: pass", "can't be interrupted"),
        ("import sys\nsys.exit()", "SystemExit, which tells nothing"),
    ],
)
def test_a_self_test_that_tells_nothing_is_no_verdict(
    serial, tool, app, script, text, says, monkeypatch
):
    monkeypatch.setattr(link, "_LAST_S", 1)
    said = tool(
        *("push", app, "--usb", "--test-timeout", "1", "--self-test", script(text)), status=2
    )
    assert says in said and "Nothing was decided about test 2.0.0" in said
    assert "mark_app_valid_cancel_rollback" in said and "--retry-failed" in said
    if "SystemExit" in says:
        assert running(serial) == Running("2.0.0", "ota_1", PENDING_VERIFY)
    else:
        serial.power_off()
        assert serial.board.boots_from()[32:][24:28] == b"\1\0\0\0"


def test_a_port_that_fails_in_the_self_test_is_no_verdict(serial, tool, app, script, monkeypatch):
    run = link.Link._follow
    failed = []

    def follow(self, parser, *args):
        error = run(self, parser, *args)
        if b"tested" in serial.said and not failed:
            failed.append(1)
            raise OSError(5, "Input/output error")
        return error

    monkeypatch.setattr(link.Link, "_follow", follow)
    said = tool("push", app, "--usb", "--self-test", script("print('tested')"), status=2)
    assert failed and "Nothing was decided about test 2.0.0" in said
    assert running(serial) == Running("2.0.0", "ota_1", PENDING_VERIFY)


def test_a_self_test_that_hangs_has_failed(serial, tool, app, script):
    (serial.folder / "main.py").write_text(IDLE)
    said = tool(
        *("push", app, "--usb", "--test-timeout", "1"),
        *("--self-test", script("while True:\n    print('waiting')")),
        status=1,
    )
    assert "the self-test failed" in said and "went back; runs: test 1.0.0" in said
    runs_again(serial)


def test_what_was_taken_back_by_hand_can_be_tried_again_by_hand(serial, tool, app, script):
    said = tool("push", app, "--usb", "--self-test", script("def f():\n    1 / 0\nf()"), status=1)
    assert 'File "<stdin>", line 2, in f' in said and "ZeroDivisionError" in said
    said = tool("push", app, "--usb", status=2)
    assert "FAILED_BEFORE" in said and "(here: --retry-failed)" in said
    tool("push", app, "--usb", "--confirm", "--retry-failed")
    assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_a_firmware_that_restarts_in_its_self_test_went_back_by_itself(serial, tool, app, script):
    (serial.folder / "main.py").write_text(IDLE)
    said = tool(
        "push", app, "--usb", "--self-test", script("import machine\nmachine.reset()"), status=1
    )
    assert "the bootloader took the new firmware back" in said and "--retry-failed" in said
    runs_again(serial)
    assert running(serial) == Running("1.0.0", "ota_0", VALID)


def test_ctrl_c_after_the_restart_is_no_verdict(serial, app, script):
    (serial.folder / "main.py").write_text(IDLE)
    command = [
        sys.executable,
        "-m",
        "https_ota_tools",
        "push",
        app,
        "--usb",
        "--port",
        serial.port,
    ]
    process = subprocess.Popen(
        [*command, "--self-test", script("print('begun')\nwhile True: pass")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    servers.wait_for(lambda: b"begun" in serial.said)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Nothing was decided about test 2.0.0" in error and "Traceback" not in error
    runs_again(serial)
    assert running(serial) == Running("2.0.0", "ota_1", PENDING_VERIFY)


# -- boot.py


def test_a_slow_boot_py_is_waited_for_and_told_of(serial, tool, app, monkeypatch):
    monkeypatch.setattr(link, "_NOTICE_S", 0.2)
    (serial.folder / "boot.py").write_text("import time\ntime.sleep(1)\n")
    said = tool("push", app, "--usb", "--confirm")
    assert "waiting for boot.py to end" in said


@pytest.mark.parametrize("boot", ["while True:\n    time.sleep(1)", "while True:\n    print('.')"])
def test_a_boot_py_without_end_is_told_of_and_runs_again(serial, tool, app, boot):
    (serial.folder / "boot.py").write_text(UP + boot)
    before = serial.board.flash.read_bytes()
    said = tool("push", app, "--usb", "--boot-timeout", "1", status=2)
    assert "boot.py has not ended after 1 s: allow it more with --boot-timeout" in said
    runs_again(serial)
    assert "test 1.0.0" in " ".join(tool("status").split())
    runs_again(serial)
    assert serial.board.flash.read_bytes() == before


def test_a_boot_py_that_restarts_the_board_is_told_of(serial, tool, app):
    (serial.folder / "main.py").write_text(IDLE)
    (serial.folder / "boot.py").write_text(
        "import machine, time\ntime.sleep_ms(50)\nmachine.reset()"
    )
    said = tool("push", app, "--usb", status=2)
    assert "restarts whenever its boot.py runs" in said or "no MicroPython REPL answers" in said
    assert serial.process.poll() is None


# -- watchdogs


def test_a_watchdog_that_nobody_sees_is_fed_once_it_has_bitten(
    board, tmp_path, capsys, monkeypatch
):
    """Held by a local name of a function, which an interruption drops."""
    # On a busy machine it bites more than once.
    monkeypatch.setattr(link, "FIRST_TIMEOUT_S", 60)
    size = 600_000  # erasing and programming that takes longer than its time
    app = tmp_path / "new.bin"
    app.write_bytes(images.app_image(size=size, version="2.0.0", seed=2))
    flash = bytearray(board.flash.read_bytes())
    flash[0x190000 : 0x190000 + size] = bytes(size)
    board.flash.write_bytes(flash)
    with SerialBoard(board, SIM_FLASH_REALTIME="1") as serial:
        (serial.folder / "lib").mkdir()
        (serial.folder / "lib" / "app.py").write_text(
            "import machine, time\n"
            "def run():\n"
            "    w = machine.WDT(timeout=2000)\n"
            "    while True:\n"
            "        w.feed()\n"
            "        time.sleep_ms(100)\n"
        )
        (serial.folder / "main.py").write_text(UP + "import app\napp.run()\n")
        serial.power_off()
        serial.power_on()
        servers.wait_for(lambda: serial.said.count(b"app up") == 1)
        status = cli.main(["push", "--port", serial.port, str(app), "--usb", "--confirm"])
        said = capsys.readouterr()
        assert status == 0, said
        assert "a watchdog runs on the board; it is fed meanwhile" in said.err
        runs_again(serial)
        assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_no_watchdog_is_started_where_none_runs(serial, tool, app):
    (serial.folder / "main.py").write_text(IDLE)
    said = tool("push", app, "--usb", "--confirm")
    assert "watchdog" not in said
    with link.Link(serial.port, soft_reset=False) as board:
        assert board.watchdog is False


# -- the port


def fake_ports(monkeypatch, table):
    """There is no USB here: `table` gives device: serial number."""
    monkeypatch.setattr(
        "serial.tools.list_ports.comports",
        lambda: [
            SimpleNamespace(device=str(d), vid=0x303A, pid=0x1001, serial_number=n)
            for d, n in table.items()
        ],
    )


@pytest.mark.parametrize("back", [True, False])
def test_native_usb_that_comes_back_under_another_name(
    serial, app, tmp_path, monkeypatch, capsys, back
):
    monkeypatch.setattr(link, "FIRST_TIMEOUT_S", 1)
    first, second = tmp_path / "ttyACM0", tmp_path / "ttyACM1"
    first.symlink_to(serial.port)
    ports = {first: "7CDFA1", tmp_path / "ttyACM9": "000000"}
    fake_ports(monkeypatch, ports)
    start = link.Link._start_program

    def replug(self, code):
        start(self, code)
        if b"machine.reset()" in code:
            first.unlink()
            del ports[first]
            if back:
                second.symlink_to(serial.port)
                ports[second] = "7CDFA1"
            self._transport.serial.close()
            raise OSError(6, "Device not configured")

    monkeypatch.setattr(link.Link, "_start_program", replug)
    command = ["push", "--port", str(first), str(app), "--usb", "--confirm"]
    status = cli.main([*command, "--boot-timeout", "1"])
    said = capsys.readouterr()
    assert status == (0 if back else 2), said
    if back:
        assert running(serial) == Running("2.0.0", "ota_1", VALID)
    else:
        assert "has not come back" in said.err
        assert "Nothing was decided about test 2.0.0" in said.err
        assert running(serial) == Running("2.0.0", "ota_1", PENDING_VERIFY)


# -- the clock


@pytest.mark.parametrize("year", [2024, 2040])
def test_a_clock_that_is_set_and_wrong_is_set_right(board, app, capsys, year):
    clock = int(datetime.datetime(year, 3, 1, tzinfo=datetime.UTC).timestamp())
    with SerialBoard(board, SIM_CLOCK=str(clock)) as serial:
        status = cli.main(["push", "--port", serial.port, str(app), "--wifi", "--confirm"])
        said = capsys.readouterr()
        assert status == 0, said
        assert "the board's clock is wrong: set by this machine's, to UTC" in said.out
        assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_certificates_begin_before_a_clock_that_is_behind():
    ca = authority.make()
    server = x509.load_pem_x509_certificate(ca.issue(["localhost"]))
    for cert in (ca.cert, server):
        assert cert.not_valid_before_utc.year == 2020


def test_no_firewall_is_blamed_when_the_board_has_come(serial, tool, app, monkeypatch):
    issue = authority.Authority.issue
    monkeypatch.setattr(
        authority.Authority, "issue", lambda self, names: issue(self, ["another.example"])
    )
    said = tool("push", app, "--wifi", status=2)
    assert "firewall" not in said and "board refuses" in said
