"""A serial port with a board on it: bytes, and what tells one from another."""

from __future__ import annotations

import contextlib
import io
import re
import select
import struct
import time
from pathlib import Path

import serial.tools.list_ports
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from https_ota_tools.errors import ToolError

# What mpremote raises when the board does not answer as expected, or is gone.
FAILURES = (TransportError, OSError, struct.error, IndexError)


class BoardError(ToolError):
    """A program on the board raised something; `trace` is its traceback."""

    def __init__(self, trace: str) -> None:
        lines = trace.strip().splitlines()
        # What the application prints meanwhile may surround it.
        named = re.findall(r"[A-Z]\w*(?:Error|Exception|Interrupt)\b.*", trace)
        super().__init__(f"the board says: {(named or lines or ['nothing'])[-1].rstrip()}")
        self.trace = trace


class LinkError(ToolError):
    """The board does not answer."""


class SlowError(LinkError):
    """A program took longer than it may; it was interrupted, and the board answers."""


class RestartedError(LinkError):
    """The board has restarted while a program ran on it; reopen() finds it again."""


class Line:
    """An open port. What has come and is not read yet is in `_buffer`."""

    def __init__(self, port: str) -> None:
        self.port = port
        self._identity = _identity(port)
        self._buffer = bytearray()
        self._transport: SerialTransport | None = None

    def _open(self, end: float, must_exist: bool = False) -> None:
        while True:
            port = self.port if must_exist else _find(self._identity, self.port)
            try:
                # mpremote prints what it did not expect.
                with contextlib.redirect_stdout(io.StringIO()):
                    transport = SerialTransport(port, baudrate=115200, timeout=5)
                # With a timeout, reads of a pseudo-terminal need no special care.
                transport.is_pty = False
                transport.serial.write_timeout = 5
                self._transport = transport
                self.port = port
                self._buffer.clear()
                return
            except FAILURES as e:
                if must_exist:
                    raise LinkError(
                        f"{self.port} can't be opened: is the board plugged in, and no other program on the port?"
                    ) from e
                if time.monotonic() > end:
                    raise LinkError(
                        f"{self.port}: the board's port has not come back: is it there under another name (--port)?"
                    ) from e
            time.sleep(0.1)

    def _hang_up(self) -> None:
        if self._transport:
            with contextlib.suppress(*FAILURES):
                self._transport.close()
        self._transport = None

    def _pulse(self) -> None:
        # EN is low while RTS is set and DTR is not, on every board that esptool can reset.
        assert self._transport
        try:
            port = self._transport.serial
            port.dtr = False
            port.rts = True
            time.sleep(0.1)
            port.rts = False
        except FAILURES as e:
            raise LinkError(
                f"{self.port} has no RTS line to reset the board with ({e}): press its reset button, and repeat this at once"
            ) from e

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise LinkError(f"{self.port}: the connection has ended")
        self._transport.serial.write(data)

    def _fill(self, wait_s: float) -> None:
        if self._transport is None:
            raise LinkError(f"{self.port}: the connection has ended")
        port = self._transport.serial
        end = time.monotonic() + wait_s
        while not (n := port.inWaiting()):
            left = end - time.monotonic()
            if left <= 0:
                return
            fd = getattr(port, "fd", None)
            if fd is not None:
                select.select([fd], [], [], left)
            # A line that has hung up is ready to be read as well; elsewhere than on POSIX nothing tells.
            if not port.inWaiting():
                time.sleep(0.001)
        self._buffer += port.read(n)

    def _expect(self, what: bytes, timeout_s: float, otherwise: str) -> None:
        try:
            self._take_until(what, timeout_s)
        except LinkError as e:
            raise LinkError(f"{self.port}: {otherwise}") from e

    def _take_until(self, what: bytes, timeout_s: float) -> bytes:
        end = time.monotonic() + timeout_s
        while what not in self._buffer:
            if time.monotonic() > end:
                raise LinkError(f"{self.port}: the board has stopped answering")
            self._fill(0.02)
        before, _, rest = bytes(self._buffer).partition(what)
        self._buffer[:] = rest
        return before

    def _expect_re(self, what: bytes, timeout_s: float) -> re.Match[bytes]:
        end = time.monotonic() + timeout_s
        while not (found := re.search(what, bytes(self._buffer), re.DOTALL)):
            if time.monotonic() > end:
                raise LinkError(f"{self.port}: the board does not take a program")
            self._fill(0.02)
        del self._buffer[: found.end()]
        return found


def _identity(port: str) -> tuple[object, ...] | None:
    """Return what tells a USB device from others, whatever its port is called; None without a serial number."""
    for p in serial.tools.list_ports.comports():
        if p.device == port and p.serial_number:
            return p.vid, p.pid, p.serial_number
    return None


def _find(identity: tuple[object, ...] | None, port: str) -> str:
    if identity is None or Path(port).exists():
        return port
    for p in serial.tools.list_ports.comports():
        # The product may be another one: a bootloader, another firmware.
        if (p.vid, p.serial_number) == (identity[0], identity[2]):
            return str(p.device)
    return port
