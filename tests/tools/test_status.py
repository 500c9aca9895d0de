"""`https-ota status` shows what a board says of its slots."""

import os

import images
import pytest
import simflash
from board import Board
from simserial import SerialBoard

from https_ota_tools import cli, link, otadata, status
from https_ota_tools.errors import ToolError


def rows(out):
    """The lines below the heading of the table, in words."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("slot"))
    return [line.split() for line in lines[start + 1 :]]


def test_slots_of_a_fresh_board(serial, capsys):
    assert cli.main(["status", "--port", serial.port]) == 0
    out = capsys.readouterr().out
    assert "chip esp32c3, MicroPython 1." in out
    assert "https_ota 0." in out
    assert rows(out) == [
        [
            "ota_0",
            "0x10000",
            "0x180000",
            "test",
            "1.0.0",
            "v5.5.2",
            "VALID",
            "runs,",
            "boots",
            "next",
        ],
        ["ota_1", "0x190000", "0x180000", "empty"],
    ]


def test_a_firmware_on_trial_and_the_one_that_boots_next(serial, nginx, capsys):
    serial.power_off()
    serial.board.update(nginx.url("app.bin"))
    serial.power_on()
    assert cli.main(["status", "--port", serial.port]) == 0
    first, second = rows(capsys.readouterr().out)
    # Another reset, and the bootloader goes back.
    assert first[3:] == ["test", "1.0.0", "v5.5.2", "VALID", "boots", "next"]
    assert second[3:] == ["test", "2.0.0", "v5.5.2", "PENDING_VERIFY", "runs"]


def test_the_application_goes_on(serial, capsys):
    with link.Link(serial.port) as board:
        board.exec("open('/main.py', 'w').write('print(\"the app runs\")')")
    said = len(serial.said)
    assert cli.main(["status", "--port", serial.port]) == 0
    # The next one to ask sees all that was said before.
    with link.Link(serial.port, soft_reset=False):
        assert b"the app runs" in serial.said[said:]


def test_otadata_decides_which_slot_runs_and_which_is_written(tmp_path):
    record = otadata.encode(otadata.Entry.make(2, otadata.State.VALID))
    app = images.app_image(version="1.2.3")
    flash = simflash.make_flash(
        tmp_path / "flash.bin", app, contents={"ota_1": app, "otadata": record}
    )
    with SerialBoard(Board(flash)) as serial, link.Link(serial.port) as board:
        found = status.read(board)
    assert found.running.partition.name == found.next_boot.partition.name == "ota_1"
    assert found.target.partition.name == "ota_0"


def test_no_board_is_an_error_that_says_so(tmp_path, capsys):
    assert cli.main(["status", "--port", str(tmp_path / "none")]) == 2
    assert "can't be opened: is the board plugged in" in capsys.readouterr().err


def test_a_port_without_micropython_is_an_error_that_says_so():
    host, port = os.openpty()
    try:
        with pytest.raises(ToolError, match="no MicroPython REPL answers"):
            link.Link(os.ttyname(port), timeout_s=0)
    finally:
        os.close(host)
        os.close(port)


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        ([], "is the board plugged in?"),
        (["/dev/a", "/dev/b"], "choose with --port: /dev/a, /dev/b"),
    ],
)
def test_without_a_port_only_one_candidate_will_do(ports, says, monkeypatch, capsys):
    monkeypatch.setattr(link, "candidates", lambda: ports)
    assert cli.main(["status"]) == 2
    assert says in capsys.readouterr().err


def test_the_only_candidate_is_used(serial, monkeypatch):
    monkeypatch.setattr(link, "candidates", lambda: [serial.port])
    assert cli.main(["status"]) == 0
