"""Applications as they are found on boards: whatever runs there, `status` and `push` come out well or say what to do, and it runs again."""

import functools
import re
import shutil
from typing import NamedTuple

import images
import pytest
import servers
import simflash
from board import VALID, Board
from built import MPY_CROSS
from simserial import SerialBoard, runs_again

from https_ota_tools import cli, link, otadata, package

UP = "print('app up')\nimport machine, micropython, sys, time\n"
BROKEN_WIFI = (
    "import network\n"
    "def wlan(*args):\n"
    "    raise RuntimeError('Wifi Unknown Error 0x0101')\n"
    "network.WLAN = wlan\n"
)
OLD = "__version__ = '0.0.1'\n"


class Animal(NamedTuple):
    """An application, by its programs and further files."""

    main: str | None = "while True:\n    time.sleep(1)"
    boot: str | None = None
    files: dict[str, str | bytes] | None = None
    # Whether main.py runs at all.
    runs: bool = True
    # Whether Ctrl-C can't be counted on, or comes to nothing for sure.
    deaf: bool = False


ZOO = {
    "none": Animal(main=None, runs=False),
    "asleep": Animal(),
    "busy": Animal("while True:\n    pass"),
    "ended": Animal("pass"),
    "raising": Animal("1 / 0"),
    "printing for ever": Animal("while True:\n    print('x' * 70)"),
    "printing without line ends": Animal("while True:\n    print('>', end='')"),
    "printing the REPL's own words": Animal(
        "while True:\n    print('raw REPL; CTRL-B to exit\\r\\n>OK\\x04\\x04>R\\x01\\x80')"
    ),
    "a timer that prints, then the prompt": Animal(
        "machine.Timer(0).init(period=20, callback=lambda t: print('> tick'))"
    ),
    "a timer of boot.py that prints": Animal(
        boot="import machine\nmachine.Timer(0).init(period=20, callback=lambda t: print('> tick'))"
    ),
    "a thread that prints": Animal(
        "import _thread\n"
        "def talk():\n"
        "    while True:\n"
        "        print('OK> thread')\n"
        "        time.sleep_ms(7)\n"
        "_thread.start_new_thread(talk, ())\n"
        "while True:\n    time.sleep(1)"
    ),
    "a thread of boot.py that prints": Animal(
        boot="import _thread, time\n"
        "def talk():\n"
        "    while True:\n"
        "        print('OK> thread')\n"
        "        time.sleep_ms(7)\n"
        "_thread.start_new_thread(talk, ())\n"
    ),
    "asyncio": Animal(
        "import asyncio\n"
        "async def work():\n"
        "    while True:\n"
        "        print('work')\n"
        "        await asyncio.sleep_ms(20)\n"
        "asyncio.run(work())"
    ),
    "reading lines": Animal("while True:\n    print('you said', input('> '))"),
    "a watchdog of 2 s": Animal(
        "w = machine.WDT(timeout=2000)\nwhile True:\n    w.feed()\n    time.sleep_ms(100)"
    ),
    "a watchdog of 2 s in boot.py": Animal(
        "while True:\n    w.feed()\n    time.sleep_ms(100)",
        boot="import machine\nw = machine.WDT(timeout=2000)",
    ),
    "a watchdog of 2 s in a module": Animal(
        "import app\napp.run()",
        files={
            "app.py": "import machine, time\n"
            "class App:\n"
            "    def __init__(self):\n"
            "        self.dog = machine.WDT(timeout=2000)\n"
            "app = App()\n"
            "def run():\n"
            "    while True:\n"
            "        app.dog.feed()\n"
            "        time.sleep_ms(100)\n"
        },
    ),
    "a watchdog of 3 s, its timer and a slow boot.py": Animal(
        "w = machine.WDT(timeout=3000)\n"
        "machine.Timer(0).init(period=100, callback=lambda t: w.feed())\n"
        "while True:\n    time.sleep_ms(100)",
        boot="import time\ntime.sleep(3.6)\nready = 1",
    ),
    "boot.py of a second": Animal(boot="import time\ntime.sleep(1)\nready = 1"),
    "boot.py of a second, and no main.py": Animal(
        main=None, boot="import time\ntime.sleep(1)\nready = 1", runs=False
    ),
    "boot.py that prints all the time": Animal(
        boot="import time\nfor i in range(80):\n    print('connecting', i)\n    time.sleep_ms(5)\nready = 1"
    ),
    "boot.py that fails": Animal(boot="1 / 0", runs=False),
    "boot.py of comments": Animal(boot="# This file is executed on every boot\n#import esp\n"),
    "resetting on any exception": Animal(
        "try:\n    while True:\n        time.sleep_ms(50)\nexcept BaseException:\n    machine.reset()"
    ),
    "resetting on any exception, boot.py too": Animal(
        "try:\n    while True:\n        time.sleep_ms(50)\nexcept BaseException:\n    machine.reset()",
        boot="import time\ntime.sleep_ms(300)\nready = 1",
    ),
    "rolling back on any exception": Animal(
        "import https_ota\n"
        "try:\n    while True:\n        time.sleep_ms(50)\n"
        "except:\n    https_ota.rollback('main')",
        boot="import time\ntime.sleep_ms(300)\nready = 1",
    ),
    "sleeping after a second": Animal("time.sleep(1)\nmachine.deepsleep(700)"),
    "swallowing Ctrl-C": Animal(
        "while True:\n    try:\n        time.sleep_ms(30)\n    except:\n        pass", deaf=True
    ),
    "swallowing Ctrl-C in two places": Animal(
        "def work():\n"
        "    try:\n        time.sleep_ms(30)\n    except:\n        print('again')\n"
        "while True:\n    try:\n        work()\n    except:\n        pass",
        deaf=True,
    ),
    "switching Ctrl-C off": Animal(
        "micropython.kbd_intr(-1)\nwhile True:\n    time.sleep_ms(30)", deaf=True
    ),
    "switching Ctrl-C off and printing": Animal(
        "micropython.kbd_intr(-1)\nwhile True:\n    print('deaf')\n    time.sleep_ms(30)",
        deaf=True,
    ),
    "sleeping nearly always": Animal("time.sleep_ms(10)\nmachine.deepsleep(60_000)", deaf=True),
    "a large heap": Animal("keep = bytearray(600_000)\nwhile True:\n    time.sleep(1)"),
    "another working directory": Animal(
        "import os\nos.mkdir('/d') if 'd' not in os.listdir('/') else None\nos.chdir('/d')\nwhile True:\n    time.sleep(1)"
    ),
    "firmware without Wi-Fi": Animal(boot="import network\ndel network.WLAN"),
    "firmware without a network": Animal(boot="import sys\nsys.modules['network'] = None"),
    "Wi-Fi that does not start": Animal(boot=BROKEN_WIFI),
    "Ethernet in place of Wi-Fi": Animal(
        boot="import network\nnetwork.LAN = network.WLAN\ndel network.WLAN"
    ),
    "builtins of its own": Animal(
        "print = len = list = repr = open = bytearray = isinstance = None\nwhile True:\n    time.sleep(1)"
    ),
    "little memory left": Animal(
        "keep = []\n"
        "try:\n    while True:\n        keep.append(bytearray(500))\nexcept MemoryError:\n    pass\n"
        "del keep[:40]\n"
        "while True:\n    time.sleep(1)"
    ),
    "names of its own": Animal(
        "def _say(x): print('mine')\n_Source = machine.reset\ngc = sys.exit\nwhile True:\n    time.sleep(1)"
    ),
}


@pytest.fixture(scope="module")
def flash(tmp_path_factory):
    """The flash of a board that has been started once."""
    path = simflash.make_flash(tmp_path_factory.mktemp("zoo") / "flash.bin")
    Board(path).running()
    return path


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """A new firmware's file."""
    path = tmp_path_factory.mktemp("zoo") / "new.bin"
    path.write_bytes(images.app_image(size=30_000, version="2.0.0", seed=2))
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A self-test that only a board whose boot.py has ended passes."""
    path = tmp_path_factory.mktemp("zoo") / "check.py"
    path.write_text(
        "try:\n    text = open('/boot.py').read()\nexcept OSError:\n    text = ''\n"
        "assert 'ready' not in text or ready\n"
        "import https_ota\nassert https_ota.running_info().version == '2.0.0'\nprint('tested')\n"
    )
    return path


@pytest.fixture
def cage(tmp_path, flash, capsys):
    """Returns a function that switches a board on, with an application."""
    made = []

    def cage(animal, **env):
        own = tmp_path / "flash.bin"
        shutil.copy(flash, own)
        if animal.deaf:
            # Its start is the only moment, and on a busy machine a Ctrl-C may come late: a flash that takes longer.
            env.setdefault("SIM_MOUNT_MS", "60")
        serial = SerialBoard(Board(own, **env))
        serial.folder.mkdir()
        if animal.main is not None:
            (serial.folder / "main.py").write_text(UP + animal.main)
        if animal.boot is not None:
            (serial.folder / "boot.py").write_text(animal.boot)
        for name, text in (animal.files or {}).items():
            path = serial.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        serial.__enter__()
        made.append(serial)
        if animal.runs:
            servers.wait_for(lambda: b"app up" in serial.said)
        return serial

    yield cage
    for serial in made:
        serial.__exit__()


@pytest.fixture
def tool(capsys):
    """Returns a function that runs a command and returns its status and all that it printed."""

    def tool(serial, command, *args):
        status = cli.main([command, "--port", serial.port, *map(str, args)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return tool


def states(serial):
    """The states in otadata, by slot, the newest record last."""
    flash = serial.board.flash.read_bytes()
    records = [otadata.Entry.decode(flash[a : a + 32]) for a in (0xD000, 0xE000)]
    good = sorted((e for e in records if e.crc_ok), key=lambda e: e.seq)
    return [(e.slot(2), e.state) for e in good]


@pytest.fixture
def rts(monkeypatch):
    """Returns a function that wires the port's RTS and DTR to a board: a pseudo-terminal has neither."""

    def wire(board):
        held = []

        def update(self):
            if self._rts_state and not self._dtr_state:
                held.append(board.power_off())
            elif held:
                held.clear()
                board.power_on()

        monkeypatch.setattr("serial.Serial._update_rts_state", update)
        monkeypatch.setattr("serial.Serial._update_dtr_state", lambda self: None)

    return wire


DEAF = [name for name, animal in ZOO.items() if animal.deaf]


@pytest.mark.parametrize("command", ["status", "push"])
@pytest.mark.parametrize("name", DEAF)
def test_what_ctrl_c_does_not_stop_is_told_and_goes_on(
    cage, tool, app, name, command, monkeypatch
):
    monkeypatch.setattr(link, "FIRST_TIMEOUT_S", 2)
    serial = cage(ZOO[name])
    before = serial.board.flash.read_bytes()
    status, said = tool(serial, command, *([app, "--usb"] if command == "push" else []))
    if status == 0:
        runs_again(serial)
        return
    assert status == 2
    assert "no MicroPython REPL answers" in said and "--reset" in said and said.count("\n") == 1
    assert serial.process.poll() is None
    assert b"raw REPL" not in serial.said
    assert serial.board.flash.read_bytes() == before


@pytest.mark.parametrize("name", DEAF)
def test_a_reset_is_a_way_in(cage, tool, app, script, name, rts, monkeypatch):
    monkeypatch.setattr(link, "FIRST_TIMEOUT_S", 2)
    serial = cage(ZOO[name], SIM_MOUNT_MS="500")
    rts(serial)
    status, said = tool(serial, "push", app, "--usb", "--reset", "--self-test", script)
    assert status == 0, said
    assert states(serial)[-1] == (1, VALID)
    runs_again(serial)


def test_without_rts_the_button_is_left(cage, tool, monkeypatch):
    monkeypatch.setattr(link, "FIRST_TIMEOUT_S", 1)
    serial = cage(ZOO["switching Ctrl-C off"])
    status, said = tool(serial, "status", "--reset")
    assert status == 2
    assert "has no RTS line" in said and "press its reset button" in said


WILLING = [name for name in ZOO if name not in DEAF]


@pytest.mark.parametrize("name", WILLING)
def test_status(cage, tool, name):
    serial = cage(ZOO[name])
    status, said = tool(serial, "status")
    assert status == 0, said
    assert re.search(r"\nhttps_ota \S+, frozen\n", said)
    assert "ota_0  0x10000" in said
    if ZOO[name].runs:
        runs_again(serial)


@pytest.mark.parametrize("name", WILLING)
def test_push_with_a_self_test(cage, tool, app, script, name):
    serial = cage(ZOO[name])
    status, said = tool(serial, "push", app, "--usb", "--self-test", script)
    assert status == 0, said
    assert "  tested" in said and "confirmed: it stays" in said
    assert states(serial)[-1] == (1, VALID)
    if ZOO[name].runs:
        runs_again(serial)


def test_ethernet_is_a_network(cage, tool, app):
    """--wifi asks for a server on this machine, whatever it is that the board is connected by."""
    serial = cage(ZOO["Ethernet in place of Wi-Fi"])
    status, said = tool(serial, "push", app, "--wifi", "--confirm")
    assert status == 0, said
    assert "confirmed: it stays" in said and "over the cable" not in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("firmware without Wi-Fi", "has no Wi-Fi: leave out --ssid"),
        ("firmware without a network", "has no Wi-Fi: leave out --ssid"),
        ("Wi-Fi that does not start", "Wifi Unknown Error 0x0101"),
    ],
)
def test_no_wifi_to_get_into(cage, tool, app, name, words):
    serial = cage(ZOO[name])
    status, said = tool(serial, "push", app, "--ssid", "home")
    assert status == 2 and words in said, said
    assert "Traceback" not in said
    runs_again(serial)
    assert "in no network: over the cable" in tool(serial, "push", app, "--confirm")[1]


@pytest.fixture(scope="module")
def prepared():
    """Returns package.prepare(), which compiles once for all."""
    return functools.lru_cache(package.prepare)


@pytest.mark.parametrize("name", WILLING)
def test_push_with_install(cage, tool, app, name, prepared, monkeypatch):
    monkeypatch.setattr(package, "prepare", prepared)
    serial = cage(ZOO[name], SIM_STOCK="1")
    command = ["push", app, "--usb", "--install", "--mpy-cross", MPY_CROSS, "--confirm"]
    status, said = tool(serial, *command)
    assert status == 0, said
    assert "https_ota is in /lib/https_ota now, compiled" in said and "confirmed: it stays" in said
    assert states(serial)[-1] == (1, VALID)
    if ZOO[name].runs:
        runs_again(serial)
