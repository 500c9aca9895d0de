"""Serial ports by the names that mpremote's `connect` knows."""

import contextlib
import re
from collections.abc import Sequence

import serial
import serial.tools.list_ports

from https_ota_tools.errors import ToolError

HELP = "serial port: its name, auto, id:SERIAL, a0, u0 or c0 (default: the only USB serial port)"

_SHORT = {"a": "/dev/ttyACM", "u": "/dev/ttyUSB", "c": "COM"}


def resolve(given: str, usb: Sequence[str]) -> str:
    """Return the port that a name means; `usb` are the ports of USB devices. Raises ToolError for what means none."""
    if given == "auto":
        return _first(usb)
    if given.startswith("id:"):
        return _by_serial_number(given.removeprefix("id:"))
    name = given.removeprefix("port:")
    if not name.strip():
        raise ToolError(f"--port {given!r}: expected the name of a serial port")
    if match := re.fullmatch(r"([auc])(\d{1,3})", name):
        return _SHORT[match[1]] + match[2]
    try:
        serial.serial_for_url(name, do_not_open=True)
    except ValueError as e:
        what = "WebREPL" if name.startswith(("ws://", "wss://")) else "this"
        raise ToolError(
            f"--port {given}: {what} can't be used: expected a serial port ({HELP.partition(': ')[2]})"
        ) from e
    return name


def _first(usb: Sequence[str]) -> str:
    # The first that no other program has, as mpremote takes it.
    for name in usb:
        with contextlib.suppress(OSError):
            serial.serial_for_url(name, exclusive=True).close()
            return name
    raise ToolError(
        f"--port auto: no other program may be on the port ({', '.join(usb)})"
        if usb
        else "--port auto: there is no USB serial port: is the board plugged in?"
    )


def _by_serial_number(number: str) -> str:
    found = {
        p.serial_number: p.device for p in serial.tools.list_ports.comports() if p.serial_number
    }
    if number in found:
        return str(found[number])
    known = ", ".join(f"{n} ({port})" for n, port in found.items())
    raise ToolError(
        f"--port id:{number}: no device has this serial number, {known or 'none has one'}"
    )
