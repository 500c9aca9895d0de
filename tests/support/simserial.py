"""A SIM board behind a pseudo-terminal, for mpremote and everything else that opens a serial port.

    with SerialBoard(board) as serial:
        subprocess.run(["mpremote", "connect", serial.port, "exec", "print(1)"])

As a program it prints the port of a board and runs until it is interrupted:

    python tests/support/simserial.py FLASH [FOLDER]
"""

import abc
import os
import select
import subprocess
import sys
import termios
import threading
import time
import tty
from pathlib import Path

from board import Board, Running
from servers import wait_for

from https_ota_tools import link

# What waits for a host that does not read. A chip has less.
_MAX_PENDING = 1 << 16


class Powered(abc.ABC):
    """What is on, and its serial port.

    `port` is the device to open, `said` all that came out of it. The board's own terminal is another one than the host's: it
    decides when a Ctrl-C interrupts, and the port stays while the board is off.
    """

    def __init__(self) -> None:
        self.said = bytearray()
        self.process: subprocess.Popen[bytes] | None = None
        self._to_board = bytearray()

    @abc.abstractmethod
    def command(self, terminal: str) -> list[str | Path]:
        """Return the program that is the board; its standard streams are its terminal."""

    def environment(self) -> dict[str, str]:
        """Return the program's environment."""
        return dict(os.environ)

    def __enter__(self) -> "Powered":
        self._host, self._port = os.openpty()
        self._line, self._console = os.openpty()
        tty.setraw(self._port)
        self.port = os.ttyname(self._port)
        for fd in (self._host, self._line):
            os.set_blocking(fd, False)
        self._wake, self._woken = os.pipe()
        self._pump = threading.Thread(target=self._carry)
        self._pump.start()
        self.power_on()
        return self

    def __exit__(self, *exc: object) -> None:
        self.power_off()
        os.close(self._woken)
        self._pump.join()
        for fd in (self._wake, self._host, self._port, self._line, self._console):
            os.close(fd)

    def power_on(self, **env: str) -> None:
        """Switch the board on; `env` adds to its environment."""
        assert self.process is None or self.process.poll() is not None
        # What was sent while it was off, or did not listen, came to nothing.
        self._to_board.clear()
        termios.tcflush(self._console, termios.TCIOFLUSH)
        self.process = subprocess.Popen(
            self.command(os.ttyname(self._console)),
            env=self.environment() | env,
            stdin=self._console,
            stdout=self._console,
            stderr=self._console,
            # It leads a session, so that the terminal can become the one that sends Ctrl-C.
            start_new_session=True,
        )

    def power_off(self) -> int:
        """Switch the board off, in whatever it does. Returns the exit status: of an earlier end, or -9."""
        assert self.process
        self.process.kill()
        return self.process.wait()

    def wait(self, timeout_s: float = 60) -> int:
        """Wait until the board switches itself off (SIM_CUT); return the exit status."""
        assert self.process
        return self.process.wait(timeout_s)

    def _carry(self) -> None:
        to_board = self._to_board
        to_host = bytearray()
        while True:
            writers = [self._line] * bool(to_board) + [self._host] * bool(to_host)
            readable, writable, _ = select.select(
                [self._wake, self._line, self._host], writers, []
            )
            if self._wake in readable:
                return
            if self._host in readable:
                to_board += os.read(self._host, 4096)
            if self._line in readable:
                data = os.read(self._line, 4096)
                self.said += data
                to_host += data
                del to_host[:-_MAX_PENDING]
            if self._line in writable and to_board:
                # Many Ctrl-C at once would be one: at 115200 baud a byte takes its time.
                some = 1 if to_board.startswith(b"\x03\x03") else 1024
                del to_board[: os.write(self._line, to_board[:some])]
                end = time.perf_counter() + 87e-6
                while some == 1 and time.perf_counter() < end:
                    pass
            if self._host in writable and to_host:
                del to_host[: os.write(self._host, to_host[:1024])]


class SerialBoard(Powered):
    """A SIM board. `folder` is its filesystem, beside the flash file unless given."""

    def __init__(self, board: Board, folder: Path | None = None, **env: str) -> None:
        super().__init__()
        self.board = board
        self.folder = folder or board.flash.parent / "fs"
        self.env = env

    def __enter__(self) -> "SerialBoard":
        self.folder.mkdir(exist_ok=True)
        super().__enter__()
        return self

    def command(self, terminal: str) -> list[str | Path]:
        """Return the interpreter that runs a REPL."""
        return [self.board.interpreter, "-c", "import simrepl"]

    def environment(self) -> dict[str, str]:
        """Return what tells it its flash and folder, and nothing else of the SIM board's."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIM_", "MICROPY"))}
        clean |= {"SIM_FLASH": str(self.board.flash), "SIM_FS": str(self.folder)}
        return clean | self.board.env | self.env


def running(serial: SerialBoard) -> Running:
    """Which firmware runs now: asked over the line, without a reset."""
    with link.Link(serial.port, soft_reset=False) as board:
        found = board.ask(
            "import https_ota, esp32\n"
            "_say(repr((https_ota.running_info().version,\n"
            "      esp32.Partition(esp32.Partition.RUNNING).info()[4], https_ota.state())))"
        )
    return Running(*found)


def runs_again(serial: SerialBoard) -> None:
    """Wait until the application, which says "app up", has started after all that was done to it."""
    wait_for(
        lambda: (
            serial.said.rfind(b"app up")
            > max(serial.said.rfind(b"MPY: soft reboot"), serial.said.rfind(b"rst:0x"))
        )
    )


def main() -> None:
    """Run the command line."""
    flash = Path(sys.argv[1]).resolve()
    folder = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    with SerialBoard(Board(flash), folder) as serial:
        print(f"{serial.port}: a SIM board with {flash}, files in {serial.folder}; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
