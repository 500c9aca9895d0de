"""A board on a serial port, spoken to by mpremote."""

import contextlib
import io
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import serial
import serial.tools.list_ports
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from https_ota_tools import ports
from https_ota_tools.errors import ToolError

# What mpremote raises when the board does not answer as expected, or is gone.
_FAILURES = (TransportError, OSError, struct.error, IndexError)

# What a board says when it starts: MicroPython, its soft reset, the ROMs of the chips.
_START = re.compile(
    r"MicroPython \S+ on \d{4}-|MPY: soft reboot|ESP-ROM:|rst:0x|ets [A-Z][a-z]{2} "
)

# A board that lost its host in the middle of a mounted file waits for an answer, deaf to Ctrl-C. Whether it has asked already
# or is about to: here the file ends, and is closed. In the middle of the answer, it needs the rest of it first: up to
# 1024 bytes, as that is what an update reads at once. Everywhere else these bytes mean nothing.
_WAKE = bytes(4) + (b"\x18" + bytes(4)) * 2
_REST = bytes(1024)


class BoardError(ToolError):
    """A program on the board raised something; `trace` is its traceback."""

    def __init__(self, trace: str) -> None:
        lines = trace.strip().splitlines()
        super().__init__(f"the board says: {lines[-1] if lines else 'nothing'}")
        self.trace = trace


class LinkError(ToolError):
    """The board does not answer."""


class RestartedError(LinkError):
    """The board has restarted while a program ran on it; reopen() finds it again."""


def candidates() -> list[str]:
    """Return the ports where a board may be: those of USB devices."""
    ports = serial.tools.list_ports.comports()
    return sorted(p.device for p in ports if p.vid is not None)


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


class Link:
    """The raw REPL of a board, as a context manager. What ran on it is interrupted, see run_main().

    soft_reset: start MicroPython over first, with the memory and the modules of a fresh start (boot.py runs,
        main.py does not), where it would else only be interrupted.

    Raises LinkError when the port can't be opened or no REPL answers.
    """

    def __init__(self, port: str, soft_reset: bool = True, timeout_s: float = 10) -> None:
        self.port = port
        self._transport = self._open(timeout_s, must_exist=True)
        if soft_reset:
            self.soft_reset()

    def __enter__(self) -> "Link":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def exec(
        self,
        code: str,
        timeout_s: float = 15,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Run a program on the board and return what it printed.

        timeout_s: how long it may say nothing.
        on_line: called with each line as it comes; nothing is returned then.

        Raises BoardError with what it raised, RestartedError when the board restarts, LinkError when it stops answering.
        """
        said: list[str] = []

        def take(line: str) -> None:
            if _START.match(line):
                raise RestartedError(
                    f"{self.port}: the board has restarted in the middle of it (a watchdog, its power?)"
                )
            (on_line or said.append)(line)

        try:
            _, error = self._transport.exec_raw(
                code, timeout=timeout_s, data_consumer=_Lines(take)
            )
        except _FAILURES as e:
            raise LinkError(f"{self.port}: the board has stopped answering ({e})") from e
        except KeyboardInterrupt:
            # The program on the board has to end, too.
            with contextlib.suppress(LinkError):
                self.reopen(5)
            raise
        if error:
            raise BoardError(bytes(error).decode(errors="replace"))
        return "".join(f"{line}\n" for line in said)

    def reopen(self, timeout_s: float = 30) -> None:
        """Wait until a board that has restarted answers, and stop its main.py."""
        with contextlib.suppress(*_FAILURES):
            self._transport.close()
        self._transport = self._open(timeout_s)

    def soft_reset(self) -> None:
        """Start MicroPython over: boot.py runs, main.py does not."""
        self._ask(lambda: self._transport.enter_raw_repl(soft_reset=True, timeout_overall=15))

    def reset(self, timeout_s: float = 30) -> None:
        """Restart the chip, wait until it answers, and stop its main.py."""
        with contextlib.suppress(*_FAILURES):
            self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
        # Whoever listens to what it says while it starts does not find its REPL half-way.
        time.sleep(0.2)
        self.reopen(timeout_s)

    @contextlib.contextmanager
    def mounted(self, folder: Path) -> Iterator[None]:
        """Let the board read a folder of this machine as /remote."""
        self._ask(lambda: self._transport.mount_local(str(folder)))
        files = self._transport.cmd
        port = self._transport.serial.orig_serial
        try:
            # The mount has made it the working directory, where imports look first.
            self.exec("import os\nos.chdir('/')")
            yield
            self._ask(self._transport.umount_local)
        finally:
            # Where the board failed, it left its file open; where it is gone, there is no use in asking.
            for entry in files.data_files:
                if entry:
                    entry[0].close()
            if self._transport.mounted:
                self._transport.mounted = False
                self._transport.serial = port

    def run_main(self) -> None:
        """Start MicroPython over with its boot.py and main.py, and hang up."""
        with contextlib.suppress(*_FAILURES):
            self._transport.serial.write(b"\r\x02\x04")
            self._transport.in_raw_repl = False
            self._transport.serial.flush()
        self.close()

    def close(self) -> None:
        """Hang up. What runs is interrupted, and the REPL is the one for people again."""
        with contextlib.suppress(*_FAILURES):
            if self._transport.in_raw_repl:
                self._transport.serial.write(b"\r\x03\x02")
                self._transport.in_raw_repl = False
        with contextlib.suppress(*_FAILURES):
            self._transport.close()

    def _ask(self, what: Callable[[], object]) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                what()
        except _FAILURES as e:
            raise LinkError(f"{self.port}: the board does not answer as expected ({e})") from e

    def _open(self, timeout_s: float, must_exist: bool = False) -> SerialTransport:
        # Ports of native USB vanish while the chip restarts, and it may be busy with its boot.py.
        end = time.monotonic() + timeout_s
        wake = _WAKE
        while True:
            transport = None
            try:
                # mpremote prints what it did not expect.
                with contextlib.redirect_stdout(io.StringIO()):
                    transport = SerialTransport(self.port, baudrate=115200, timeout=5)
                    # With a timeout, reads of a pseudo-terminal need no special care.
                    transport.is_pty = False
                    transport.serial.write(wake)
                    transport.enter_raw_repl(soft_reset=False, timeout_overall=2)
                return transport
            except _FAILURES as e:
                if transport is not None:
                    with contextlib.suppress(*_FAILURES):
                        transport.close()
                elif must_exist:
                    raise LinkError(
                        f"{self.port} can't be opened: is the board plugged in, and no other program on the port?"
                    ) from e
                if time.monotonic() > end:
                    raise LinkError(
                        f"{self.port}: no MicroPython REPL answers ({e}); is it the right port, and no other program on it?"
                    ) from e
            wake = _REST + _WAKE
            time.sleep(0.2)


class _Lines:
    """Puts together lines of the single bytes that mpremote hands out."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._line = bytearray()

    def __call__(self, data: bytes) -> None:
        for byte in data:
            if byte in b"\n\x04":
                if self._line or byte == 10:
                    self._on_line(self._line.decode(errors="replace").rstrip("\r"))
                self._line.clear()
            else:
                self._line.append(byte)
