"""The SIM board behind a serial port: the real mpremote finds what it expects of a chip."""

import functools
import hashlib
import http.server
import json
import subprocess
import sys
import threading

import pytest
import servers
from simserial import SerialBoard


@pytest.fixture
def mpremote(serial, tmp_path):
    """Returns a function that runs mpremote on the board and returns what it printed."""

    def run(*args, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", serial.port, *map(str, args)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


def reset(mpremote, serial):
    """Let mpremote reset the chip, which it does after a pause, and wait for the bootloader; return where in `said` that is."""
    mpremote("exec", "pass")  # it has told of its first start
    said = len(serial.said)
    mpremote("reset")
    loaded = b"boot: Loaded app from partition at offset 0x10000"
    servers.wait_for(lambda: loaded in serial.said[said:])
    return said


def test_exec_prints_and_fails_as_on_a_chip(mpremote):
    assert mpremote("exec", "print(6 * 7)") == "42\n"
    out = mpremote("exec", "print(1)\n1 / 0", status=1)
    assert out.splitlines() == [
        "1",
        "Traceback (most recent call last):",
        '  File "<stdin>", line 2, in <module>',
        "ZeroDivisionError: divide by zero",
    ]
    assert "SyntaxError" in mpremote("exec", "1 +", status=1)


def test_more_than_the_window_of_raw_paste_arrives(mpremote):
    text = "".join(chr(33 + i % 90) for i in range(3000)).replace("\\", "/").replace('"', "'")
    assert mpremote("exec", f'print("{text}")') == text + "\n"


def test_run_takes_a_script(mpremote, tmp_path):
    (tmp_path / "script.py").write_text("import sys\nprint(sys.platform, __name__)\n")
    assert mpremote("run", "script.py") == "linux __main__\n"


def test_names_outlive_a_command_but_not_a_soft_reset(mpremote):
    mpremote("exec", "a = 5")
    assert mpremote("resume", "exec", "print(a)") == "5\n"
    assert "NameError" in mpremote("exec", "print(a)", status=1)


def test_a_soft_reset_starts_python_over_and_no_bootloader(mpremote, serial):
    assert mpremote("eval", "__import__('machine').reset_cause()") == "5\n"
    said = len(serial.said)
    mpremote("soft-reset")
    assert b"MPY: soft reboot" in serial.said[said:]
    assert b"boot:" not in serial.said[said:]


def test_reset_goes_through_the_bootloader(mpremote, serial):
    reset(mpremote, serial)
    assert mpremote("resume", "eval", "__import__('machine').reset_cause()") == "2\n"


def test_a_soft_reset_leaves_a_new_firmware_on_trial(board, serial, mpremote, nginx):
    serial.power_off()
    board.update(nginx.url("app.bin"))
    serial.power_on()
    state = "__import__('https_ota').state()"
    assert mpremote("eval", state) == "1\n"
    mpremote("soft-reset")
    assert mpremote("eval", state) == "1\n"


def test_ctrl_c_ends_a_program(mpremote):
    mpremote("exec", "--no-follow", "while True: pass")
    assert mpremote("exec", "print('free')") == "free\n"


def test_main_py_runs_in_friendly_mode_only(mpremote, serial):
    mpremote("exec", "print('up')")
    (serial.folder / "boot.py").write_text("print('boot.py ran')")
    (serial.folder / "main.py").write_text("print('main.py ran')")
    said = len(serial.said)
    mpremote("exec", "print('command')")
    text = bytes(serial.said[said:])
    assert b"boot.py ran" in text
    assert b"main.py ran" not in text.partition(b"command")[0]
    said = reset(mpremote, serial)
    mpremote("resume", "exec", "print('command')")
    assert b"main.py ran" in serial.said[said:]


def test_files_are_copied_into_the_boards_folder(mpremote, serial, tmp_path):
    content = bytes(range(256)) * 8
    (tmp_path / "data.bin").write_bytes(content)
    mpremote("cp", "data.bin", ":there.bin")
    assert (serial.folder / "there.bin").read_bytes() == content
    mpremote("cp", ":there.bin", "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == content
    assert "there.bin" in mpremote("ls")


def test_a_mounted_folder_is_read_byte_by_byte_as_it_is(mpremote, tmp_path):
    # With every Ctrl-C that there could be in it.
    content = bytes(range(256)) * 40 + b"\x03" * 3000
    (tmp_path / "data.bin").write_bytes(content)
    code = "import hashlib\nprint(hashlib.sha256(open('/remote/data.bin', 'rb').read()).digest().hex())"
    out = mpremote("mount", ".", "exec", code)
    digest = hashlib.sha256(content).hexdigest()
    assert out.splitlines()[-1] == digest


def test_mip_installs_a_package_from_a_server(mpremote, serial, tmp_path):
    www = tmp_path / "index"
    www.mkdir()
    (www / "hello.py").write_text("def greet():\n    return 'hello'\n")
    package = {"urls": [["hello/__init__.py", "hello.py"]], "version": "1"}
    (www / "package.json").write_text(json.dumps(package))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=www)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            mpremote("mip", "install", f"http://127.0.0.1:{server.server_port}/package.json")
        finally:
            server.shutdown()
            thread.join()
    assert (serial.folder / "lib" / "hello" / "__init__.py").exists()
    assert mpremote("exec", "import hello; print(hello.greet())") == "hello\n"


WATCHDOG = "import machine\nw = machine.WDT(timeout=%d)"


def test_a_watchdog_outlives_a_soft_reset(mpremote, serial):
    # Nobody may talk to the board while it is bitten: mpremote has left it by then.
    mpremote("exec", "--no-follow", WATCHDOG % 300 + "\nmachine.soft_reset()")
    servers.wait_for(lambda: b"rst:0x3 " in serial.said)
    assert serial.said.rindex(b"soft reboot") < serial.said.index(b"rst:0x3 ")


def test_a_watchdog_is_as_long_as_the_last_one_says(mpremote, serial):
    again = "\nw = machine.WDT(timeout=60_000)\nimport time\ntime.sleep_ms(500)"
    mpremote("exec", WATCHDOG % 300 + again)
    assert b"rst:0x3 " not in serial.said


def test_a_reset_ends_the_watchdog(mpremote, serial):
    mpremote("exec", "--no-follow", WATCHDOG % 400 + "\nmachine.reset()")
    servers.wait_for(lambda: b"rst:0x2 " in serial.said)
    mpremote("exec", "import time\ntime.sleep_ms(600)")
    assert b"rst:0x3 " not in serial.said


def test_a_boot_py_that_fails_keeps_main_py_from_running(mpremote, serial):
    (serial.folder / "boot.py").write_text("print('boot.py ran')\n1 / 0\n")
    (serial.folder / "main.py").write_text("print('main.py ran')")
    said = reset(mpremote, serial)
    mpremote("resume", "exec", "print('command')")
    assert b"boot.py ran" in serial.said[said:]
    assert b'File "boot.py", line 2' in serial.said[said:]
    assert b"main.py ran" not in serial.said[said:]


def test_a_thread_goes_on_and_ctrl_c_is_for_the_repl(mpremote, serial):
    code = (
        "import _thread, time\n"
        "n = 0\n"
        "def count():\n"
        "    global n\n"
        "    while True:\n"
        "        time.sleep_ms(1)\n"
        "        n += 1\n"
        "_thread.start_new_thread(count, ())\n"
        "while True: pass"
    )
    mpremote("exec", "--no-follow", code)
    assert mpremote("resume", "exec", "m = n\ntime.sleep_ms(50)\nprint(n > m)") == "True\n"


def test_the_filesystem_may_be_in_the_flash(board, tmp_path):
    with SerialBoard(board, SIM_FS="flash") as serial:

        def mpremote(*args):
            command = [sys.executable, "-m", "mpremote", "connect", serial.port, *args]
            return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

        mpremote("exec", "f = open('/kept', 'w')\nf.write('littlefs')\nf.close()")
        serial.power_off()
        serial.power_on()
        assert mpremote("exec", "import os\nprint(open('/kept').read(), os.statvfs('/')[0])") == (
            b"littlefs 4096\n"
        )
