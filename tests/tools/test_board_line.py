"""The line to a board: it loses bytes, or the board says nothing for a while, in the middle of a transfer."""

import contextlib
import os
import random
import re
import signal

import images
import pytest
import servers
import simflash
from board import VALID, Board
from built import MPY_CROSS
from simserial import SerialBoard

from https_ota_tools import cli, link, onboard, otadata, package
from https_ota_tools import push as push_

MAIN = "print('app up')\nimport time\nwhile True:\n    time.sleep(1)\n"


@pytest.fixture
def serial(tmp_path):
    """A board without the package, with an application."""
    (tmp_path / "stock").mkdir()
    board = Board(simflash.make_flash(tmp_path / "stock" / "flash.bin"), SIM_STOCK="1")
    serial = SerialBoard(board)
    serial.folder.mkdir()
    (serial.folder / "main.py").write_text(MAIN)
    with serial:
        servers.wait_for(lambda: b"app up" in serial.said)
        yield serial


@pytest.fixture
def app(tmp_path):
    """A new firmware's file."""
    path = tmp_path / "new.bin"
    path.write_bytes(images.app_image(size=30_000, version="2.0.0", seed=2))
    return path


@pytest.fixture
def push(serial, app, capsys):
    """Returns a function that installs the package and the firmware, and returns the status and all that was printed."""

    def push():
        words = ["push", app, "--port", serial.port, "--usb", "--install", "--confirm"]
        status = cli.main([*map(str, words), "--mpy-cross", str(MPY_CROSS)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return push


@pytest.fixture(scope="module")
def files():
    """Files like those of the package, smaller."""
    dice = random.Random(1)
    sizes = (0, 1, 511, 512, 513, 1024, 1500, 3000, 700, 40, 2048, 900)
    made = {f"f{n}.py": dice.randbytes(size) for n, size in enumerate(sizes)}
    return made | {"room/a.py": dice.randbytes(600), "__init__.py": b"import nothing\n"}


@pytest.fixture
def install(serial, files):
    """Returns a function that copies these files to the board, and checks that they are there as they were."""

    def install():
        with contextlib.closing(link.Link(serial.port)) as board:
            try:
                package.install(board, package.Package(files, "as .py"), ["", "/lib"])
            finally:
                board.run_main()
        folder = serial.folder / "lib" / "https_ota"
        assert {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.py")
        } == files
        assert [p.name for p in folder.parent.iterdir()] == ["https_ota"]

    return install


@pytest.fixture
def hasty(monkeypatch):
    """Both sides wait for what was lost as long as they must, not as long as they should."""
    monkeypatch.setattr(link, "_LOST_S", 0.3)
    monkeypatch.setattr(package, "SILENCE_S", 8)
    monkeypatch.setattr(push_, "SILENCE_S", 8)
    assert "poll(10000)" in onboard.SOURCE
    monkeypatch.setattr(onboard, "SOURCE", onboard.SOURCE.replace("poll(10000)", "poll(2000)"))


def spoil(monkeypatch, to_board, to_host):
    """Pass what goes over the line through two functions: a block of a file, and each piece that comes meanwhile."""
    write = link.Link._write
    fill = link.Link._fill
    follow = link.Link._follow
    transfers = []

    def follow_(self, parser, silence_s, limit_s, files):
        transfers.append(files)
        try:
            return follow(self, parser, silence_s, limit_s, files)
        finally:
            transfers.pop()

    def write_(self, data):
        write(self, to_board(data) if transfers and transfers[-1] and data[:1] == b"=" else data)

    def fill_(self, wait_s):
        had = len(self._buffer)
        fill(self, wait_s)
        if transfers and transfers[-1]:
            self._buffer[had:] = to_host(bytes(self._buffer[had:]))

    monkeypatch.setattr(link.Link, "_follow", follow_)
    monkeypatch.setattr(link.Link, "_write", write_)
    monkeypatch.setattr(link.Link, "_fill", fill_)


def same(data):
    return data


def installed(serial):
    records = serial.board.flash.read_bytes()
    entry = otadata.Entry.decode(records[0xD000:0xD020])
    other = otadata.Entry.decode(records[0xE000:0xE020])
    newest = max((e for e in (entry, other) if e.crc_ok), key=lambda e: e.seq)
    return newest.slot(2), newest.state


def runs_again(serial):
    servers.wait_for(
        lambda: (
            serial.said.rfind(b"app up")
            > max(serial.said.rfind(b"MPY: soft reboot"), serial.said.rfind(b"rst:0x"))
        )
    )


def nth(at):
    """Return a function that is true for its calls with these numbers."""
    count = iter(range(1 << 30))
    return lambda: next(count) in at


def cut(at, begin, end=None):
    """Return a function that takes bytes out of the blocks with these numbers."""
    now = nth(at)
    return lambda b: b[:begin] + (b[end:] if end else b"") if now() else b


def odd(at, instead):
    now = nth(at)
    return lambda b: instead if now() else b


def wrong(at):
    now = nth(at)
    return lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:] if now() else b


def without(pattern, at=(5,)):
    """Return a function that takes the first group of a pattern out of the matches with these numbers, however they come."""
    now = nth(at)
    held = bytearray()

    def take(data):
        held.extend(data)
        out = bytearray()
        # Only whole messages are passed on.
        while found := re.search(rb"\x1e|\x04", held):
            message = bytes(held[: found.end()])
            del held[: found.end()]
            match = re.search(pattern, message, re.DOTALL)
            if match and now():
                message = message[: match.start(1)] + message[match.end(1) :]
            out += message
        return bytes(out)

    return take


# What is done to blocks of files, and to what the board says meanwhile.
LOSSES = {
    "the first byte of a block": lambda: (cut((5,), 0, 1), same),
    "a byte of a block": lambda: (cut((5,), 3, 4), same),
    "the end of a block": lambda: (cut((5,), 128), same),
    "a block": lambda: (cut((5,), 0), same),
    "two blocks": lambda: (cut((5, 6), 0), same),
    "a byte of three blocks": lambda: (cut((5, 6, 7), 9, 10), same),
    "a bit of a block": lambda: (wrong((5,)), same),
    "a block, for a byte that looks like Ctrl-C": lambda: (odd((5,), b"\x03"), same),
    "a block, for a line of the REPL": lambda: (odd((5,), b"\r\x03"), same),
    "the beginning of a question": lambda: (same, without(rb"(\x1d)\?")),
    "the kind of a question": lambda: (same, without(rb"\x1d(\?)")),
    "the file in a question": lambda: (same, without(rb"\?(\d+)")),
    "the place in a question": lambda: (same, without(rb"\? ?\d* (\d+)")),
    "a digit of the file": lambda: (same, without(rb"\?(\d)\d")),
    "a digit of the place": lambda: (same, without(rb"\?\d+ (\d)\d")),
    "the size in a question": lambda: (same, without(rb"\?\d+ \d+ (\d+)")),
    "a digit of the size": lambda: (same, without(rb"\?\d+ \d+ (\d)\d")),
    "a space of a question": lambda: (same, without(rb"\?\d+( )")),
    "the number of a question": lambda: (same, without(rb"\?[^\x1f]*\x1f(.)")),
    "the end of a question": lambda: (same, without(rb"\?[^\x1e]*(\x1e)")),
    "a receipt": lambda: (same, without(rb"\x1d(\+)")),
    "the end of a receipt": lambda: (same, without(rb"\x1d\+[^\x1e]*(\x1e)")),
    "the last answer": lambda: (same, without(rb"\x1d(0)\x1f", (0,))),
    "the end of the program": lambda: (same, without(rb"^(\x04)", (0,))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_gets_lost_on_its_way_is_made_good(serial, install, hasty, monkeypatch, name):
    spoil(monkeypatch, *LOSSES[name]())
    install()
    runs_again(serial)


@pytest.mark.parametrize("seed", range(3))
def test_files_come_whole_over_a_bad_line(serial, install, hasty, monkeypatch, seed):
    dice = random.Random(seed)

    def worn(data):
        return bytes(b for b in data if dice.random() > 1 / 6000)

    spoil(monkeypatch, worn, same)
    install()
    runs_again(serial)


@pytest.mark.parametrize("name", ["a byte of three blocks", "a digit of the place", "a receipt"])
def test_push_over_a_bad_line(serial, push, hasty, monkeypatch, name):
    spoil(monkeypatch, *LOSSES[name]())
    status, said = push()
    assert status == 0, said
    assert installed(serial) == (1, VALID)
    runs_again(serial)


@pytest.mark.parametrize("at", [3, 40, 95])
def test_a_computer_that_stalls_answers_once(serial, push, hasty, monkeypatch, at):
    """What a board has asked for again meanwhile: a second answer would come when Ctrl-C counts, and have some in it."""
    write = link.Link._write
    fill = link.Link._fill
    answered = [0]  # between two looks at what came

    def write_(self, data):
        answered[-1] += data[:1] == b"="
        write(self, data)

    def fill_(self, wait_s):
        if sum(answered) == at and answered[-1]:
            asked = serial.said.count(b"\x1d?")
            servers.wait_for(lambda: serial.said.count(b"\x1d?") >= asked + 3, 60)
        answered.append(0)
        fill(self, wait_s)

    monkeypatch.setattr(link.Link, "_write", write_)
    monkeypatch.setattr(link.Link, "_fill", fill_)
    status, said = push()
    assert status == 0, said
    assert sum(answered) > at and max(answered) == 1
    assert installed(serial) == (1, VALID)
    runs_again(serial)


@pytest.mark.parametrize(
    ("pattern", "status", "says"),
    [
        (rb"^(\x04)", 0, "confirmed"),
        (rb"\x1d(.)nst", 2, "`https-ota status` shows what it boots next"),
        (rb"\x1d(installed)", 2, "`https-ota status` shows what it boots next"),
        (rb"(\x1d)installed", 2, "`https-ota status` shows what it boots next"),
    ],
)
def test_the_end_of_a_push_gets_lost(
    board, app, capsys, hasty, monkeypatch, pattern, status, says
):
    """What was not heard is not made up."""
    with SerialBoard(board) as serial:
        serial.folder.joinpath("main.py").write_text(MAIN)
        spoil(monkeypatch, same, without(pattern, (0,)))
        words = ["push", str(app), "--port", serial.port, "--usb", "--confirm"]
        assert cli.main(words) == status
        said = capsys.readouterr()
        assert says in said.out + said.err
        assert "nothing to do" not in said.out
        runs_again(serial)


def test_a_package_that_does_not_come_to_an_end_keeps_nobody_from_confirming(
    board, app, capsys, hasty, monkeypatch
):
    monkeypatch.setattr(push_, "_CONFIRM", "import time\nwhile True:\n    time.sleep_ms(9)\n")
    with SerialBoard(board) as serial:
        serial.folder.joinpath("main.py").write_text(MAIN)
        assert cli.main(["push", str(app), "--port", serial.port, "--usb", "--confirm"]) == 0
        assert "confirmed: it stays" in capsys.readouterr().out
        runs_again(serial)
        assert installed(serial) == (1, VALID)


def test_a_board_that_falls_silent_is_no_wrong_port(serial, push, monkeypatch):
    """A filesystem that hangs, a chip that has crashed: what it was doing is said, and what helps."""
    monkeypatch.setattr(package, "SILENCE_S", 1)
    monkeypatch.setattr(link, "_LAST_S", 1)
    write = link.Link._write
    now = nth((9,))

    def write_(self, data):
        if data[:1] == b"=" and now():
            os.kill(serial.process.pid, signal.SIGSTOP)
        write(self, data)

    monkeypatch.setattr(link.Link, "_write", write_)
    status, said = push()
    last = said.splitlines()[-1]
    assert status == 2
    assert (
        "has not ended after 1 s, and can't be interrupted: press the board's reset button" in last
    )
    assert "right port" not in said
    serial.power_off()
    serial.power_on()
    runs_again(serial)
    monkeypatch.undo()
    status, said = push()
    assert status == 0, said
    assert installed(serial) == (1, VALID)


# -- programs


@pytest.mark.parametrize("times", [1, 3])
def test_a_prompt_that_comes_late_is_no_board_without_flow_control(serial, monkeypatch, times):
    """Without it, a board that is slow loses bytes."""
    write = link.Link._write

    def write_(self, data):
        write(self, b"\r\x01" * times + data if data.endswith(b"\x05A\x01") else data)

    monkeypatch.setattr(link.Link, "_write", write_)
    with contextlib.closing(link.Link(serial.port)) as board:
        for n in range(3):
            assert board.ask(f"_say('{n}')") == n
        assert board._paste


@pytest.mark.parametrize("text", [b"OK> thread\r\n", b"x", b"\xc3\xbc", b"R", b">"])
def test_what_a_thread_prints_into_the_answer(serial, monkeypatch, text):
    """It comes in between two writes of MicroPython's own."""
    printing(monkeypatch, b"R\x01", text)
    with contextlib.closing(link.Link(serial.port)) as board:
        for n in range(3):
            assert board.ask(f"_say('{n}')" + "\n# long" * 300) == n
        assert board._paste


PRINTED = [
    b"OK> thread\r\n",
    b"x",
    b"> tick\r\n> tick\r\n",
    b"> tick",
    b"ValueError: none of ours\r\n",
    b'Traceback (most recent call last):\r\n  File "app.py", line 1, in talk\r\nOSError: -202\r\n',
]


def printing(monkeypatch, where, text):
    """A thread or a timer prints something behind these bytes."""
    fill = link.Link._fill

    def fill_(self, wait_s):
        had = len(self._buffer)
        fill(self, wait_s)
        self._buffer[had:] = self._buffer[had:].replace(where, where + text)

    monkeypatch.setattr(link.Link, "_fill", fill_)


@pytest.mark.parametrize("text", PRINTED)
def test_what_is_printed_behind_a_program_is_no_error(serial, monkeypatch, text):
    """MicroPython ends what a program has said, and tells of its error then, if there is one."""
    printing(monkeypatch, b"\x04", text)
    with contextlib.closing(link.Link(serial.port)) as board:
        for n in range(3):
            assert board.ask(f"_say('{n}')") == n
            assert "3\n" in board.exec("print(3)  # as it is")
        for error in "1 / 0", "raise SystemExit('no')", "1 1":
            with contextlib.suppress(link.BoardError):
                board.exec(error)
        assert board.ask("_say('4')") == 4


@pytest.mark.parametrize("text", PRINTED[:4])
def test_an_error_is_told_from_what_is_printed_around_it(serial, monkeypatch, text):
    printing(monkeypatch, b"\r\n", text)
    with contextlib.closing(link.Link(serial.port)) as board:
        for code, error in {
            "1 / 0": "ZeroDivisionError: divide by zero",
            "bytearray(1 << 29)": "MemoryError: memory allocation failed, allocating 536870912 bytes",
            "1 1": "SyntaxError: invalid syntax",
            "class OwnError(Exception):\n pass\nraise OwnError('so')": "OwnError: so",
            "raise KeyError": "KeyError:",
        }.items():
            with pytest.raises(link.BoardError) as caught:
                board.exec(code)
            assert f"the board says: {error}" in str(caught.value)


@pytest.mark.parametrize("watchdog", [False, True])
def test_an_error_tells_the_lines_of_the_program(serial, watchdog):
    with contextlib.closing(link.Link(serial.port)) as board:
        board.watchdog = watchdog
        with pytest.raises(link.BoardError) as caught:
            board.exec("def f():\n    1 / 0\nf()")
    assert 'File "<stdin>", line 2, in f\r\nZero' in caught.value.trace


@pytest.mark.parametrize(
    "code",
    [
        "if True:\n    print(5)",
        "print(5)  # no line end",
        "print(5)\n\n",
        "def f():\n    print(5)\nf()\n    # deeper",
        "_say = None\nprint(5)",
        "import sys as _sys\nprint(5)\n_sys = sys = None",
        "try:\n    print(5)\nfinally:\n    pass",
    ],
)
def test_a_program_ends_as_it_may(serial, code):
    with contextlib.closing(link.Link(serial.port)) as board:
        assert board.exec(code) == "5\n"
        assert board.ask("_say('1')") == 1


@pytest.fixture
def plain(monkeypatch):
    """MicroPython without the raw paste mode: a Ctrl-E is ignored, and so is what it begins."""
    write = link.Link._write

    def write_(self, data):
        write(self, data.replace(b"\x05A", b""))

    monkeypatch.setattr(link.Link, "_write", write_)


def test_a_board_without_flow_control(serial, plain):
    assert cli.main(["status", "--port", serial.port]) == 0
    runs_again(serial)
    with contextlib.closing(link.Link(serial.port)) as board:
        assert not board._paste


@pytest.mark.parametrize("lost", [b"def", b":", b"(", b"\n    "])
def test_a_program_that_lost_something_is_sent_again(serial, plain, monkeypatch, lost):
    """It has not begun: the board says that it is no Python."""
    write = link.Link._write
    left = []

    def write_(self, data):
        if lost in data and b"_say" not in data and not left:
            left.append(data)
            data = data.replace(lost, b"", 1)
        write(self, data)

    monkeypatch.setattr(link.Link, "_write", write_)
    program = "def f(a):\n    return a\ndef g(b):\n    return b\nprint(f(1), g(2))\n"
    with contextlib.closing(link.Link(serial.port)) as board:
        assert board.exec(program) == "1 2\n"
    assert left


def test_what_is_no_python_is_told(serial):
    with contextlib.closing(link.Link(serial.port)) as board:
        with pytest.raises(link.BoardError, match="the board says: SyntaxError: invalid syntax"):
            board.exec("def f(:\n")
        assert board.ask("_say('1')") == 1
