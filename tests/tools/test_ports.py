"""Serial ports by the names that mpremote knows."""

from types import SimpleNamespace

import pytest
import serial.tools.list_ports

from https_ota_tools import cli, link, ports
from https_ota_tools.errors import ToolError


def port(device, number=None, vid=None):
    return SimpleNamespace(device=device, serial_number=number, vid=vid)


@pytest.fixture
def there(monkeypatch):
    """Ports of a machine: one on its board, two of USB."""
    found = [port("/dev/ttyS0"), port("/dev/none1", "abc", 1), port("/dev/none0", "d:e", 1)]
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: found)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("COM7", "COM7"),
        ("a0", "/dev/ttyACM0"),
        ("u3", "/dev/ttyUSB3"),
        ("c12", "COM12"),
        ("port:/dev/x", "/dev/x"),
        ("port:a1", "/dev/ttyACM1"),
        ("id:abc", "/dev/none1"),
        ("id:d:e", "/dev/none0"),
        ("rfc2217://host:4000", "rfc2217://host:4000"),
        ("socket://host:4000", "socket://host:4000"),
    ],
)
def test_names(there, given, meant):
    assert link.choose(given) == meant


def test_shortcuts_are_those_of_mpremote():
    from mpremote import main

    for name, expansion in main._BUILTIN_COMMAND_EXPANSIONS.items():
        command = expansion.get("command") if isinstance(expansion, dict) else None
        if isinstance(command, str) and command.startswith("connect ") and command[8:] != "list":
            assert ports.resolve(name, []) == command.removeprefix("connect "), name


def test_auto_is_the_first_that_can_be_had(there, monkeypatch, serial_board):
    monkeypatch.setattr(link, "candidates", lambda: ["/dev/no-such-port", serial_board.port])
    assert link.choose("auto") == serial_board.port


@pytest.fixture
def serial_board(serial):
    return serial


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "ws://192.168.4.1",
            "--port ws://192.168.4.1: WebREPL can't be used: expected a serial port",
        ),
        ("wss://h", "WebREPL can't be used"),
        ("http://h", "--port http://h: this can't be used"),
        ("id:nobody", "no device has this serial number, abc (/dev/none1), d:e (/dev/none0)"),
        ("", "expected the name of a serial port"),
        ("port:", "expected the name of a serial port"),
        ("auto", "no other program may be on the port (/dev/none0, /dev/none1)"),
    ],
)
def test_what_is_no_port(there, given, words):
    with pytest.raises(ToolError) as e:
        link.choose(given)
    assert words in str(e.value)


@pytest.mark.parametrize("command", [["status"], ["push", "app.bin"]])
def test_commands_say_so(capsys, tmp_path, monkeypatch, command, www):
    monkeypatch.chdir(www)
    assert cli.main([*command, "--port", "ws://192.168.4.1"]) == 2
    assert "WebREPL can't be used" in capsys.readouterr().err
