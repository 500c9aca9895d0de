"""Copies of the package on a board's filesystem: broken, shadowed, half there, and new ones that do not fit."""

import images
import pytest
import simflash
from board import VALID, Board, Running
from built import MPY_CROSS
from servers import wait_for
from simserial import SerialBoard, running, runs_again

from https_ota_tools import cli, link, package

MAIN = "print('app up')\nimport time\nwhile True:\n    time.sleep(1)\n"


@pytest.fixture(scope="module")
def compiled():
    """The package's files, as the board reads them."""
    with link_to_a_board() as board:
        mpy = int(board.exec("import sys\nprint(sys.implementation._mpy)"))
    made = package.prepare(mpy, MPY_CROSS)
    assert made.compiled
    return made.files


def link_to_a_board():
    import contextlib
    import tempfile
    from pathlib import Path

    @contextlib.contextmanager
    def connect():
        with tempfile.TemporaryDirectory() as name:
            flash = simflash.make_flash(Path(name) / "flash.bin")
            with SerialBoard(Board(flash)) as serial, link.Link(serial.port) as board:
                yield board

    return connect()


@pytest.fixture
def stock(tmp_path):
    """A board whose firmware has nothing of this project, with an application."""
    with stock_board(tmp_path, "stock") as serial:
        yield serial


def stock_board(tmp_path, name, **env):
    (tmp_path / name).mkdir()
    board = Board(simflash.make_flash(tmp_path / name / "flash.bin"), SIM_STOCK="1")
    serial = SerialBoard(board, **env)
    serial.folder.mkdir(exist_ok=True)
    (serial.folder / "main.py").write_text(MAIN)
    return serial


@pytest.fixture
def tool(on_board):
    return on_board


def put(serial, files, where="lib/https_ota"):
    folder = serial.folder / where
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


# Name: what is done to a good copy, and what is said of it.
BROKEN = {
    "of MicroPython 1.11": (
        lambda f: {**f, "boot/confirm.mpy": b"M\5" + f["boot/confirm.mpy"][2:]},
        "boot/confirm.mpy is for version 5.",
    ),
    "for another architecture": (
        lambda f: {**f, "hot.mpy": f["hot.mpy"][:2] + bytes([10 << 2 | 3]) + f["hot.mpy"][3:]},
        "architecture 10",
    ),
    "cut off in its head": (
        lambda f: {**f, "__init__.mpy": f["__init__.mpy"][:3]},
        "__init__.mpy is no .mpy file",
    ),
    "cut off in the middle": (
        lambda f: {**f, "__init__.mpy": f["__init__.mpy"][: len(f["__init__.mpy"]) // 2]},
        "__init__.mpy is cut off",
    ),
    "cut off at its end": (lambda f: {**f, "ota.mpy": f["ota.mpy"][:-1]}, "ota.mpy is cut off"),
    "an empty file": (lambda f: {**f, "flash/image.mpy": b""}, "flash/image.mpy is no .mpy file"),
    "an empty text": (lambda f: {**f, "flash/image.py": b""}, "flash/image.py is empty"),
    "half of it": (
        lambda f: {n: d for n, d in f.items() if n != "__init__.mpy"},
        "no __init__ in it",
    ),
    "raising OSError": (
        lambda f: {"__init__.py": "__version__ = '0'\nraise OSError(5)\n"},
        "OSError: ",
    ),
    "not even Python": (lambda f: {"__init__.py": "def update(:\n"}, "SyntaxError: "),
    "importing what is not there": (
        lambda f: {"__init__.py": "import nowhere\n"},
        "no module named 'nowhere'",
    ),
    "hanging": (lambda f: {"__init__.py": "while True:\n    pass\n"}, "has not ended after"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_is_shown_and_repaired(stock, tool, app, compiled, name, monkeypatch):
    monkeypatch.setattr(package, "LOAD_S", 1)
    spoil, says = BROKEN[name]
    put(stock, spoil(compiled))
    said = tool(stock, "status")
    assert "in /lib/https_ota can't be loaded" in said and says in said and "--install" in said
    runs_again(stock)
    before = stock.board.flash.read_bytes()
    said = tool(stock, "push", app, "--usb", status=2)
    assert says in said and "--install writes it anew" in said and "Traceback" not in said
    assert stock.board.flash.read_bytes() == before
    runs_again(stock)
    said = tool(stock, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
    assert "https_ota is in /lib/https_ota now" in said and "confirmed: it stays" in said
    assert {p.name for p in (stock.folder / "lib").iterdir()} == {"https_ota"}
    runs_again(stock)
    assert running(stock) == Running("2.0.0", "ota_1", VALID)


def test_every_file_of_the_package_is_whole_and_none_is_that_lacks_its_end(stock, tool, compiled):
    put(stock, compiled)
    assert "https_ota 0." in tool(stock, "status")
    with link.Link(stock.port) as board:
        viper = (
            "hot.mpy",
            "pack/heatshrink.mpy",
            "pack/patch.mpy",
            "trust/gcm.mpy",
            "trust/p384.mpy",
        )
        for name in sorted(compiled)[::5]:
            for cut in range(4, len(compiled[name]), max(len(compiled[name]) // 8, 1)):
                put(stock, {name: compiled[name][:cut]})
                trouble = package.find(board)[0].trouble
                # What is behind machine code can't be told.
                assert f"{name} is cut off" in trouble or name in viper, (name, cut)
            put(stock, {name: compiled[name]})
        assert not package.find(board)[0].trouble


def test_a_copy_that_breaks_in_use_ends_with_words(stock, tool, app, compiled):
    put(stock, {**compiled, "ota.mpy": compiled["hot.mpy"]})
    said = tool(stock, "push", app, "--usb", status=2)
    assert "can't be loaded on the board" in said and "--install writes it anew" in said
    runs_again(stock)


def test_a_firmware_that_reads_other_files_is_judged_all_the_same(
    stock, tool, app, compiled, tmp_path
):
    """Between restart and verdict the copy is of another version; main.py stands for the new firmware here."""
    folder = put(stock, compiled)
    spoil = (
        "import os\n"
        "if open('/boots').read() == '1':\n"
        "    with open('/lib/https_ota/__init__.mpy', 'r+b') as f:\n"
        "        f.write(b'M\\x05')\n"
        "with open('/boots', 'w') as f:\n"
        "    f.write('1' if esp32.Partition(esp32.Partition.RUNNING).info()[4] == 'ota_1' else '0')\n"
    )
    (stock.folder / "boots").write_text("0")
    (stock.folder / "boot.py").write_text("import esp32\n" + spoil)
    script = tmp_path / "check.py"
    script.write_text("print('fine')\n")
    said = tool(stock, "push", app, "--usb", "--self-test", script)
    assert "can't be loaded by this firmware" in said and "confirmed: it stays" in said
    assert (folder / "__init__.mpy").read_bytes()[:2] == b"M\5"
    # And with --install it gets files of its own.
    newer = tmp_path / "newer.bin"
    newer.write_bytes(images.app_image(size=30_000, version="3.0.0", seed=3))
    (stock.folder / "boot.py").write_text("")
    said = tool(stock, "push", newer, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
    assert "confirmed: it stays" in said
    assert running(stock) == Running("3.0.0", "ota_0", VALID)


@pytest.mark.parametrize(
    ("banner", "other"), [("1.22.2", True), ("1.23.0", False), ("1.28.0-preview", False)]
)
def test_a_firmware_that_reads_other_files_is_told_of_before_anything_starts(
    stock, tool, compiled, tmp_path, banner, other
):
    text = f"MicroPython v{banner} on 2024-02-22; Generic".encode()
    app = tmp_path / "other.bin"
    data = bytearray(images.app_image(size=30_000, version="2.0.0", seed=2))
    data[1000 : 1000 + len(text)] = text
    app.write_bytes(images.seal(bytes(data)))
    put(stock, compiled)
    wait_for(lambda: b"app up" in stock.said)  # its first start writes otadata
    before = stock.board.flash.read_bytes()
    said = tool(stock, "push", app, "--usb", status=2 if other else 0)
    if not other:
        return
    assert "MicroPython 1.22, which reads .mpy files of another version (6.2)" in said
    assert stock.board.flash.read_bytes() == before
    said = tool(stock, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
    assert "comes as .py, which both read" in said
    assert all(p.suffix == ".py" for p in (stock.folder / "lib" / "https_ota").rglob("*.*"))


OLD = {"__init__.py": "__version__ = '0.0.1'\n"}


def test_a_copy_in_the_root_folder_comes_before_the_one_in_lib(stock, tool, app, compiled):
    put(stock, OLD, "https_ota")
    put(stock, compiled)
    said = tool(stock, "status")
    assert "https_ota 0.0.1, in /https_ota\n" in said
    assert "it comes before https_ota in /lib/https_ota, which is not used" in said
    said = tool(stock, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
    assert "https_ota is in /https_ota now" in said
    assert (stock.folder / "https_ota" / "ota.mpy").exists()
    assert not (stock.folder / "https_ota" / "__init__.py").exists()
    assert running(stock) == Running("2.0.0", "ota_1", VALID)


def test_a_copy_in_the_root_folder_comes_before_a_frozen_one(serial, tool, app):
    put(serial, OLD, "https_ota")
    said = tool(serial, "status")
    assert "https_ota 0.0.1, in /https_ota\n" in said
    assert "comes before https_ota 0.1.0, frozen, which is not used" in said
    said = tool(serial, "push", app, "--usb", status=2)
    assert "can't be loaded on the board" in said and "--install" in said
    said = tool(serial, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
    assert "https_ota is in /https_ota now" in said and "frozen, which is not used" in said
    assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_a_broken_copy_in_the_root_folder_does_not_hide_the_frozen_one_from_status(serial, tool):
    put(serial, {"nothing.py": ""}, "https_ota")
    said = tool(serial, "status")
    assert "in /https_ota can't be loaded: no __init__ in it" in said
    assert "https_ota 0.1.0, frozen, which is not used" in said


def test_a_copy_behind_the_frozen_one_is_not_used(serial, tool, app):
    put(serial, OLD)
    said = tool(serial, "status")
    assert "https_ota 0.1.0, frozen\n" in said
    assert "it comes before https_ota in /lib/https_ota, which is not used" in said
    said = tool(serial, "push", app, "--usb", "--confirm", "--install")
    assert "which is not used" in said and "is in /lib" not in said


def fill(serial, free):
    """Fill the board's filesystem up to so many bytes."""
    with link.Link(serial.port) as board:
        board.exec(
            "import os\n"
            "with open('/big', 'wb') as f:\n"
            "    s = os.statvfs('/')\n"
            f"    n = s[3] * s[0] - {free} - 4096\n"
            "    b = bytes(4096)\n"
            "    while n > 0:\n"
            "        n -= f.write(b)\n",
            60,
        )


def listing(serial, folder):
    with link.Link(serial.port) as board:
        return board.ask(
            "import os\n"
            "def size(n):\n"
            "    s = os.stat(n)\n"
            "    return s[6] if s[0] & 0x8000 else 0\n"
            f"try:\n    r = sorted((n, size({folder!r} + '/' + n)) for n in os.listdir({folder!r}))\n"
            "except OSError:\n    r = None\n_say(repr(r))"
        )


def littlefs(tmp_path):
    return stock_board(tmp_path, "littlefs", SIM_FS="flash")


def test_a_first_copy_that_does_not_fit_leaves_nothing_and_says_how_much_is_missing(
    tmp_path, tool, app
):
    with littlefs(tmp_path) as serial:
        fill(serial, 40_000)
        before = listing(serial, "/")
        said = tool(serial, "push", app, "--usb", "--install", "--mpy-cross", MPY_CROSS, status=2)
        assert "no room for https_ota in /lib/https_ota" in said and "bytes more than the" in said
        assert listing(serial, "/") == before
        # As much as it said, and a block for each of the two ends.
        missing = int(said.partition("need about ")[2].split()[0])
        fill(serial, 40_000 + missing + 8192)
        assert "confirmed" in tool(
            serial, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS
        )


def test_a_copy_that_is_there_stays_when_the_new_one_does_not_fit(tmp_path, tool, app):
    with littlefs(tmp_path) as serial:
        tool(serial, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
        fill(serial, 30_000)
        before = listing(serial, "/lib/https_ota")
        newer = tmp_path / "newer.bin"
        newer.write_bytes(images.app_image(size=30_000, version="3.0.0", seed=3))
        said = tool(
            serial, "push", newer, "--usb", "--install", "--mpy-cross", MPY_CROSS, status=2
        )
        assert "no room" in said and "nothing has changed there" in said
        assert listing(serial, "/lib/https_ota") == before
        assert listing(serial, "/lib") == [("https_ota", 0)]
        # The copy works as before.
        assert "confirmed" in tool(serial, "push", newer, "--usb", "--confirm")


def test_room_that_was_counted_wrong_is_given_back(tmp_path, tool, app, monkeypatch):
    with littlefs(tmp_path) as serial:
        fill(serial, 40_000)
        monkeypatch.setattr(package, "_ROOM", "_say('(4096, 1000000)')\n")
        before = listing(serial, "/")
        said = tool(serial, "push", app, "--usb", "--install", "--mpy-cross", MPY_CROSS, status=2)
        assert "no room for https_ota" in said
        assert listing(serial, "/") == before


@pytest.mark.parametrize("cut", [1, 60, 180])
def test_a_power_cut_while_a_copy_is_replaced_leaves_one(tmp_path, tool, app, cut, monkeypatch):
    monkeypatch.setattr(package, "SILENCE_S", 1)
    monkeypatch.setattr(package, "REOPEN_S", 1)
    monkeypatch.setattr(link, "_LAST_S", 0.5)
    with littlefs(tmp_path) as serial:
        with link.Link(serial.port) as board:
            package.install(board, package.prepare(0), ["", "/lib"])
        serial.power_off()
        serial.power_on(SIM_CUT=str(cut))
        command = ["push", "--port", serial.port, str(app), "--usb", "--install"]
        assert cli.main([*command, "--mpy-cross", str(MPY_CROSS)]) != 0
        assert serial.wait() == 75
        serial.power_on()
        with link.Link(serial.port) as board:
            first = package.find(board)
            assert not first or not first[0].trouble
        said = tool(
            serial, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS
        )
        assert "confirmed" in said
        assert listing(serial, "/lib") == [("https_ota", 0)]


def test_files_of_others_in_the_folder_stay(stock, tool, app, compiled):
    put(stock, {**compiled, "notes.txt": "mine"})
    tool(stock, "push", app, "--usb", "--confirm", "--install", "--mpy-cross", MPY_CROSS)
    assert (stock.folder / "lib" / "https_ota" / "notes.txt").read_text() == "mine"
