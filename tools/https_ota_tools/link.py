"""A board on a serial port, spoken to by mpremote and in the raw REPL's own words."""

from __future__ import annotations

import argparse
import ast
import binascii
import contextlib
import io
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

import serial
import serial.tools.list_ports

from https_ota_tools import answers, onboard, ports
from https_ota_tools.errors import ToolError
from https_ota_tools.line import (
    FAILURES,
    BoardError,
    Line,
    LinkError,
    RestartedError,
    SlowError,
)

__all__ = (
    "BoardError",
    "Link",
    "LinkError",
    "RestartedError",
    "SlowError",
    "add_arguments",
    "candidates",
    "choose",
    "from_arguments",
)

BOOT_TIMEOUT_S = 120.0
FIRST_TIMEOUT_S = 10.0

_LAST_OF_BANNER = b"w REPL; CTRL-B to exit\r\n>"
# Two writes of MicroPython: a thread may print in between.
_PASTE = rb"R\x01.*?(..)\x01"
_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_NO_PYTHON = re.compile(
    rb'Traceback \(most recent call last\):\r\n  File "<stdin>", line \d+\r\n(Syntax|Indentation)Error: [^\n]*\r\n'
)
_SOFT = b"soft reboot\r\n"

# A board that lost its host in the middle of a mounted file waits for an answer, deaf to Ctrl-C. Whether it has asked already
# or is about to: here the file ends, and is closed. In the middle of the answer, it needs the rest of it first: up to
# 1030 bytes, as that is what is read at once here. Everywhere else these bytes mean nothing.
_WAKE = bytes(4) + (b"\x18" + bytes(4)) * 2
_REST = bytes(1030)

# Seconds: for what takes a board no time, until a wait is told of, until bytes that were lost are made good.
_PROMPT_S = 3
_NOTICE_S = 5
_LAST_S = 5
# The attempt to interrupt that is as forceful as can be.
_FLOOD = 4
_BACKLOG_S = 0.5
_LOST_S = 3
_LATE_S = 0.5


def candidates() -> list[str]:
    """Return the ports where a board may be: those of USB devices."""
    found = serial.tools.list_ports.comports()
    return sorted(p.device for p in found if p.vid is not None)


def choose(port: str | None) -> str:
    """Return the port that is meant, by default the only candidate. Raises ToolError when there is none or a choice."""
    if port is not None:
        return ports.resolve(port, candidates())
    found = candidates()
    if len(found) == 1:
        return found[0]
    if not found:
        raise ToolError(
            "no USB serial port: is the board plugged in? Name another one with --port"
        )
    raise ToolError(f"more than one serial port, choose with --port: {', '.join(found)}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what commands that talk to a board have in common."""
    parser.add_argument("--port", metavar="PORT", help=ports.HELP)
    parser.add_argument(
        "--boot-timeout",
        type=float,
        metavar="SECONDS",
        help=f"how long the board's boot.py may take (default {BOOT_TIMEOUT_S:.0f}), or until one that sleeps or is busy "
        f"answers first (default {FIRST_TIMEOUT_S:.0f})",
    )
    parser.add_argument(
        "--reset",
        action="store_true",
        help="when the board does not answer, reset it over the port's RTS line and stop it while it starts",
    )


def from_arguments(args: argparse.Namespace, soft_reset: bool = True) -> Link:
    """Connect as these arguments say."""
    given = args.boot_timeout
    if given is not None and not 0 < given < 1e6:
        raise ToolError(f"--boot-timeout {given:g}: expected a number of seconds")
    return Link(
        choose(args.port),
        soft_reset,
        max(FIRST_TIMEOUT_S, given or 0),
        boot_timeout_s=given or BOOT_TIMEOUT_S,
        reset=args.reset,
    )


class Link(Line):
    """The raw REPL of a board, as a context manager. What ran on it is interrupted, see run_main().

    soft_reset: start MicroPython over first, with the memory and the modules of a fresh start (boot.py runs,
        main.py does not), where it would else only be interrupted.
    timeout_s: until it has answered first.
    boot_timeout_s: how long its boot.py may take.
    reset: reset it over the port's RTS line when it does not answer otherwise.
    notice: called with a sentence when there is something to wait for; printed to standard error otherwise.

    Raises LinkError when the port can't be opened or no REPL answers.
    """

    def __init__(
        self,
        port: str,
        soft_reset: bool = True,
        timeout_s: float = FIRST_TIMEOUT_S,
        *,
        boot_timeout_s: float = BOOT_TIMEOUT_S,
        reset: bool = False,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(port)
        self.boot_timeout_s = boot_timeout_s
        # A watchdog has been seen: whatever is sent feeds it.
        self.watchdog = False
        # The firmware that runs is the one that starts next, and is not on trial: a reset changes nothing.
        self.settled = False
        # It restarted, slept or did not listen when it was interrupted: then only its start is a good moment.
        self.wild = False
        # Seconds that boot.py took last.
        self.boot_s = 0.0
        self._notice = notice or _print_notice
        self._held = False
        self._heard = bytearray()
        self._paste = True
        self._open(time.monotonic() + timeout_s, must_exist=True)
        try:
            self._first(timeout_s, reset)
            if soft_reset:
                self.soft_reset()
        except BaseException:
            self.run_main()
            raise

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- programs

    def exec(
        self,
        code: str,
        timeout_s: float = 15,
        on_line: Callable[[str], None] | None = None,
        limit_s: float | None = None,
    ) -> str:
        """Run a program on the board and return what was printed meanwhile.

        timeout_s: how long it may say nothing.
        on_line: called with each line as it comes; nothing is returned then.
        limit_s: how long it may take in all, by default 20 times timeout_s.

        Raises BoardError with what it raised, RestartedError when the board restarts, SlowError when it takes too long,
        LinkError when it stops answering.
        """
        said: list[str] = []
        nonce = secrets.token_hex(3)
        parser = answers.Parser(nonce, on_line or said.append, None)
        with contextlib.suppress(BoardError):
            self._feed_watchdog()
        self._run(onboard.ending(code, nonce), parser, timeout_s, limit_s or 20 * timeout_s)
        return "".join(f"{line}\n" for line in said)

    def ask(self, code: str, timeout_s: float = 15) -> object:
        """Run a program that calls _say() once with the repr() of something, and return that.

        What the application prints meanwhile does no harm. Raises what exec() raises, LinkError without an answer.
        """
        said: list[str] = []
        self.talk(code, said.append, timeout_s)
        try:
            return ast.literal_eval(said[-1])
        except (IndexError, SyntaxError, ValueError) as e:
            raise LinkError(f"{self.port}: the board's answer makes no sense ({e})") from e

    def talk(
        self,
        code: str,
        on_answer: Callable[[str], None],
        timeout_s: float = 15,
        *,
        on_line: Callable[[str], None] | None = None,
        files: Sequence[bytes] = (),
    ) -> None:
        """Run a program that answers with _say(text); text has no line ends.

        timeout_s: until the first answer, and between two.
        on_line: called with each line that is printed otherwise.
        files: what its objects _Source(number).readinto(buf) read.

        Raises what exec() raises.
        """
        nonce = secrets.token_hex(3)
        parser = answers.Parser(nonce, on_line, on_answer)
        if self.watchdog:
            code = onboard.FEED + code
        self._run(onboard.talking(code, nonce, bool(files)), parser, timeout_s, None, files)

    # -- starting over

    def reopen(self, timeout_s: float = 30) -> None:
        """Wait until a board that has restarted answers, and stop its main.py."""
        self._held = False
        self._hang_up()
        self._open(time.monotonic() + timeout_s)
        self._enter(time.monotonic() + timeout_s)
        self._find_watchdog()

    def soft_reset(self) -> None:
        """Start MicroPython over: boot.py runs to its end, main.py does not."""
        restarts = 0
        while True:
            with contextlib.suppress(BoardError):
                self._feed_watchdog()
            start = time.monotonic()
            try:
                self._write(b"\r\x03\x04")
                self._expect(_SOFT, _PROMPT_S, "a soft reset is not answered")
                self._held = False  # until boot.py has ended, a Ctrl-C is not for us to send
                self._wait_for_boot(start)
                self._held = True
            except RestartedError:
                restarts += 1
                if restarts == 3:
                    raise LinkError(
                        f"{self.port}: the board restarts whenever its boot.py runs: a watchdog or a reset in it; "
                        "it is left to itself"
                    ) from None
                self._enter(time.monotonic() + FIRST_TIMEOUT_S)
                self._find_watchdog()
                continue
            self.boot_s = time.monotonic() - start
            self._feed_watchdog()
            return

    def settle(self) -> bool:
        """Wait for the prompt after a program that may have started MicroPython over. True when it did."""
        self._fill(0.05)
        over = _SOFT in self._buffer
        if over and not self._enter(time.monotonic() + self.boot_timeout_s, gentle=True):
            raise LinkError(
                f"{self.port}: boot.py has not ended after {self.boot_timeout_s:.0f} s"
            )
        return over

    def reset(self, timeout_s: float | None = None) -> None:
        """Restart the chip, and wait until its boot.py has ended and it answers. A main.py that went on has been stopped.

        Raises LinkError when it does not come back, having left it to itself.
        """
        limit = self.boot_timeout_s if timeout_s is None else timeout_s
        main, precious, touchy = cast("tuple[bool, bool, bool]", self.ask(onboard.PROGRAMS))
        # A port of native USB goes with the chip.
        with contextlib.suppress(*FAILURES):
            self._start_program(b"import machine\nmachine.reset()")
        self._held = False
        start = time.monotonic()
        if precious and not (touchy or self.wild):
            # As long as boot.py may run, only what does not interrupt it: at the prompt, Ctrl-A is answered.
            patience = min(limit, 1.5 * self.boot_s + 2)
            if self._enter(start + patience, gentle=True):
                # What main.py has begun (timers, a guard) is not to go on.
                if main:
                    self.soft_reset()
                return
        # The first moment is the best one.
        self._enter(time.monotonic() + max(limit, FIRST_TIMEOUT_S), tries=_FLOOD)
        self.soft_reset()

    @contextlib.contextmanager
    def mounted(self, folder: Path) -> Iterator[None]:
        """Let the board read and write a folder of this machine as /remote. Nothing else may print meanwhile."""
        transport = self._transport
        assert transport
        self._mpremote(lambda: transport.mount_local(str(folder)))
        files = transport.cmd
        port = transport.serial.orig_serial
        try:
            # The mount has made it the working directory, where imports look first.
            self.exec("import os\nos.chdir('/')")
            yield
            self._mpremote(transport.umount_local)
        finally:
            # Where the board failed, it left its file open; where it is gone, there is no use in asking.
            for entry in files.data_files:
                if entry:
                    entry[0].close()
            if transport.mounted:
                transport.mounted = False
                transport.serial = port

    def run_main(self) -> None:
        """Start MicroPython over with its boot.py and main.py, and hang up. What runs already is left alone."""
        if self._transport and self._held:
            done = False
            for _ in range(2):
                with contextlib.suppress(LinkError, *FAILURES):
                    self._start_over()
                    done = True
                    break
                with contextlib.suppress(LinkError, *FAILURES):
                    self._enter(time.monotonic() + _LAST_S)
            if not done:
                self._notice(
                    f"{self.port}: the board does not answer any more: press its reset button if its application stands still"
                )
        self._held = False
        self._hang_up()

    def close(self) -> None:
        """Hang up. What runs is interrupted, and the REPL is the one for people again."""
        if self._transport and self._held:
            with contextlib.suppress(LinkError, *FAILURES):
                self._write(b"\r\x03\x02")
        self._held = False
        self._hang_up()

    # -- the raw REPL

    def _run(
        self,
        code: str,
        parser: answers.Parser,
        silence_s: float,
        limit_s: float | None,
        files: Sequence[bytes] = (),
    ) -> None:
        try:
            self._start_program(code.encode())
            error = self._follow(parser, silence_s, limit_s, files)
            if not parser.done and _NO_PYTHON.search(error):
                # None of it has run; where a board has no flow control, something may have got lost.
                self._start_program(code.encode())
                error = self._follow(parser, silence_s, limit_s, files)
        except RestartedError:
            self._held = False
            raise
        except FAILURES as e:
            raise LinkError(f"{self.port}: the board has stopped answering ({e})") from e
        except KeyboardInterrupt:
            # The program on the board has to end, too.
            with contextlib.suppress(LinkError, *FAILURES):
                self._enter(time.monotonic() + _LAST_S)
            raise
        # A thread or a timer may print there, too.
        if not parser.done and answers.ERROR.search(error):
            raise BoardError(error.decode(errors="replace"))

    def _start_program(self, code: bytes) -> None:
        self._fill(0)
        self._buffer.clear()
        if self._paste:
            self._write(b"\r\x03\x05A\x01")
            found = self._expect_re(_PASTE + rb"|R\x00|" + _LAST_OF_BANNER, _PROMPT_S)
            if found[0] == _LAST_OF_BANNER:
                # What older MicroPython answers, or a prompt that comes late, before the answer.
                with contextlib.suppress(LinkError):
                    found = self._expect_re(_PASTE, _LATE_S)
            if found[1] is not None:
                self._paste_program(code, max(int.from_bytes(found[1], "little"), 16))
                return
            self._paste = False
        self._write(b"\r\x03")
        # Half as fast as a line of 115200 baud: nothing tells when the board has no time to listen.
        for i in range(0, len(code), 64):
            self._write(code[i : i + 64])
            time.sleep(0.01)
        self._write(b"\x04")
        self._expect(b"OK", _PROMPT_S, "a program is not taken")

    def _paste_program(self, code: bytes, window: int) -> None:
        room = 2 * window
        at = 0
        end = time.monotonic() + 10 + len(code) / 500
        while at < len(code):
            self._fill(0 if room else 0.05)
            # Between them is only what the application prints.
            room += window * self._buffer.count(1)
            if 4 in self._buffer:
                break  # not even the syntax was right
            self._buffer.clear()
            piece = code[at : at + room]
            if piece:
                self._write(piece)
            at += len(piece)
            room -= len(piece)
            if time.monotonic() > end:
                raise LinkError(f"{self.port}: the board does not take a program")
        self._write(b"\x04")
        self._expect(b"\x04", _PROMPT_S, "a program is not taken")

    def _follow(
        self,
        parser: answers.Parser,
        silence_s: float,
        limit_s: float | None,
        files: Sequence[bytes],
    ) -> bytes:
        start = time.monotonic()
        fed = 0.0
        waits = False
        while True:
            now = time.monotonic()
            parts = self._buffer.split(b"\x04", 1)
            came = parser(bytes(parts[0]))
            del self._buffer[: len(parts[0])]
            if parser.restarted:
                self._believe(parser.bitten)
                raise RestartedError(
                    f"{self.port}: the board has restarted in the middle of it (a watchdog, its power?)"
                )
            if came:
                start = now if limit_s is None else start
                parser.last = now
            if parser.taken:
                # Of the answer before: what came with it may ask for the next.
                parser.taken = False
                waits = False
            if parser.asked:
                # It asks once more when it has given up: a second answer would come when Ctrl-C counts again.
                self._write(_block(parser.asked[-1], files))
                parser.asked.clear()
                fed, waits = now, True
            if waits and now - fed > _LOST_S:
                self._write(_REST)
                fed = now
            if len(parts) == 2:
                del self._buffer[:1]
                parser.end()
                break
            last = parser.last or start
            if now - last > silence_s or (limit_s and now - start > limit_s):
                self._give_up(now - start)
            self._fill(0.02)
        return self._take_until(b"\x04", _PROMPT_S)

    def _give_up(self, after_s: float) -> None:
        said = f"{self.port}: the program on the board has not ended after {after_s:.0f} s"
        try:
            self._enter(time.monotonic() + _LAST_S)
        except LinkError as e:
            self._held = False  # there is nothing that run_main() could do
            raise LinkError(
                f"{said}, and can't be interrupted: press the board's reset button"
            ) from e
        raise SlowError(said)

    def _first(self, timeout_s: float, reset: bool) -> None:
        end = time.monotonic() + timeout_s
        try:
            if not self._enter(min(end, time.monotonic() + 0.3), gentle=True):
                self._enter(end, first=True)
        except LinkError:
            if not reset:
                raise
            self._notice(f"{self.port}: resetting the board over RTS")
            self.wild = True
            self._pulse()
            self._enter(time.monotonic() + FIRST_TIMEOUT_S, first=True, tries=_FLOOD)
        self._find_watchdog()

    def _enter(
        self, end: float, *, gentle: bool = False, first: bool = False, tries: int = 0
    ) -> bool:
        """Get to the prompt of the raw REPL. Gently, without Ctrl-C, may come to nothing: False then."""
        self._heard.clear()
        while True:
            try:
                if gentle:
                    self._write(b"\x01")
                    self._listen(min(0.5, end - time.monotonic()))
                else:
                    self._interrupt(tries)
                    self._write(b"\r\x01")
                    self._listen(0.25)
                if first and answers.RESTART.search(self._heard + self._buffer):
                    self.wild = True
                if _BANNER in self._buffer and self._in_sync():
                    self._held = True
                    with contextlib.suppress(BoardError):
                        self._feed_watchdog()
                    return True
            except FAILURES:
                # Ports of native USB vanish while the chip restarts.
                self._hang_up()
                self._open(end)
            tries += 1
            if time.monotonic() > end:
                if gentle:
                    return False
                raise LinkError(self._silence(first))

    def _interrupt(self, tries: int) -> None:
        # Once is enough for most. What catches it is caught by one that comes in the right moment, which is also the first
        # of a start.
        if tries == 0:
            self._write(_WAKE + b"\r\x03")
            self._listen(0.03)
            self._write(b"\x03")
            return
        if tries % 3 == 2:
            self._write(_REST + _WAKE)
        until = time.monotonic() + min(0.3 * tries, 1.5)
        while time.monotonic() < until:
            # As dense as a line of 115200 baud takes them: what catches one is caught by the next before it tries again.
            self._write(b"\x03" * 64)
            time.sleep(0.008)
            self._fill(0)
            if b">>> " in self._buffer:
                break
            self._keep_tail()

    def _in_sync(self) -> bool:
        # What looked like the prompt may have been left from before.
        try:
            nonce = secrets.token_hex(3)
            self._start_program(onboard.talking("_say('1')", nonce).encode())
            said: list[str] = []
            error = self._follow(
                answers.Parser(nonce, None, said.append), _PROMPT_S, _PROMPT_S, ()
            )
        except LinkError:
            return False
        # A board without memory for even that can still start over.
        return said == ["1"] or b"MemoryError" in error

    def _find_watchdog(self) -> None:
        if not self.watchdog:
            with contextlib.suppress(BoardError):
                self._believe(bool(self.ask(onboard.FIND_WATCHDOG % onboard.WATCHDOG_MS)))

    def _believe(self, watchdog: bool) -> None:
        if watchdog and not self.watchdog:
            self.watchdog = True
            self._notice(f"{self.port}: a watchdog runs on the board; it is fed meanwhile")

    def _feed_watchdog(self) -> None:
        if self.watchdog:
            self.ask("_say('1')")

    def _wait_for_boot(self, start: float) -> None:
        told = False
        while _BANNER not in self._buffer:
            now = time.monotonic()
            if answers.RESTART.search(self._buffer):
                raise RestartedError(f"{self.port}: the board has restarted in its boot.py")
            if now - start > _NOTICE_S and not told:
                told = True
                self._notice(
                    f"{self.port}: waiting for boot.py to end (up to {self.boot_timeout_s:.0f} s, see --boot-timeout)"
                )
            if now - start > self.boot_timeout_s:
                self._held = True
                raise LinkError(
                    f"{self.port}: boot.py has not ended after {now - start:.0f} s: allow it more with --boot-timeout"
                )
            self._fill(0.02)
            del self._buffer[:-4096]
        self._buffer.clear()

    def _start_over(self) -> None:
        self._buffer.clear()
        if self.watchdog and self.settled:
            # The one way to be rid of a watchdog that nobody may feed from now on.
            with contextlib.suppress(*FAILURES):
                self._start_program(b"import machine\nmachine.reset()")
            return
        self._write(b"\r\x03\x02")
        self._expect(b">>> ", _PROMPT_S, "the prompt does not come")
        self._write(b"\x04")
        self._expect(_SOFT, _PROMPT_S, "a soft reset is not answered")

    def _silence(self, first: bool) -> str:
        lines = bytes(self._heard).decode(errors="replace").splitlines()
        shown = [s for s in ("".join(filter(str.isprintable, x)).strip() for x in lines) if s]
        way = (
            "--reset resets it over the port's RTS line and stops it while it starts; or press its reset button, "
            "and repeat this at once"
        )
        if answers.RESTART.search(self._heard):
            what = "the board restarts again and again (a watchdog, or an application that resets it when it is interrupted)"
        elif shown:
            what = f"the board is busy with something that Ctrl-C does not stop (it says {shown[-1][:60]!r})"
        elif not first:
            return (
                f"{self.port}: the board does not answer any more: press its reset button, or take its power for a moment; "
                "`https-ota status` shows what runs then"
            )
        else:
            what = "nothing comes from it; is it the right port, and is the board awake?"
            way = f"If its application ignores Ctrl-C, {way}"
            return f"{self.port}: no MicroPython REPL answers: {what} {way}"
        return f"{self.port}: no MicroPython REPL answers: {what}. {way if first else ''}".rstrip()

    def _listen(self, for_s: float) -> None:
        end = time.monotonic() + for_s
        while _BANNER not in self._buffer:
            if time.monotonic() > end:
                return
            self._fill(0.02)
            self._keep_tail()
        # Behind it may be all that was printed before the interruption; a prompt is followed by silence, mostly.
        end = time.monotonic() + for_s + _BACKLOG_S
        before = 0
        while len(self._buffer) > before and time.monotonic() < end:
            before = len(self._buffer)
            self._fill(0.01)
            if len(self._buffer) > 8192:
                del self._buffer[:-4096]
                before = 0

    def _keep_tail(self) -> None:
        if _BANNER not in self._buffer:
            self._heard += self._buffer
            del self._heard[:-2048]
            del self._buffer[: -len(_BANNER)]

    def _mpremote(self, what: Callable[[], object]) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._write(b"\r\x03\r\x01")
                self._take_until(_BANNER + b">", _PROMPT_S)
                self._write(b"\r\x01")  # a prompt for it to find
                what()
        except FAILURES as e:
            raise LinkError(f"{self.port}: the board does not answer as expected ({e})") from e


def _block(question: str, files: Sequence[bytes]) -> bytes:
    """Return the answer to a question about a file, nothing when it makes no sense: then it is asked again."""
    found = re.fullmatch(r"\?(\d+) (\d+) (\d+)", question)
    if not found:
        return b""
    number, at, want = map(int, found.groups())
    if number >= len(files) or want > len(_REST):
        return b""
    data = files[number][at : at + want]
    block = len(data).to_bytes(2, "little") + data.ljust(want, b"\0")
    check = binascii.crc32(block, binascii.crc32(question.encode()))
    return b"=" + block + check.to_bytes(4, "little")


def _print_notice(text: str) -> None:
    print(f"https-ota: {text}", file=sys.stderr, flush=True)
