"""Images that are filled up with 0xFF beyond the slot fit when the image does; what else is too large is refused first."""

import images
import pytest
from board import VALID
from faults import FaultServer, chunked
from partitions import board_with_data

SLOT = 0x100000
OTA_1 = 0x110000
APP = images.app_image(size=SLOT - 70_000, version="2.0.0", seed=6)


@pytest.fixture
def board(tmp_path, root):
    return board_with_data(tmp_path, root)


@pytest.mark.parametrize("aio", [False, True])
@pytest.mark.parametrize("size", [SLOT + 1, SLOT + 4096, 2 * SLOT])
def test_padded_image(board, www, nginx, size, aio):
    (www / "app.bin").write_bytes(APP.ljust(size, b"\xff"))
    board.update(nginx.url("app.bin"), aio=aio)
    assert board.flash.read_bytes()[OTA_1 : OTA_1 + SLOT] == APP.ljust(SLOT, b"\xff")
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("bulk", [False, True])
def test_padded_image_in_ranges(board, www, nginx, bulk):
    board.interpreter = board.interpreter.parents[1] / "sim-tls4k" / "micropython"
    (www / "app.bin").write_bytes(APP.ljust(SLOT + 9000, b"\xff"))
    board.update(nginx.url("app.bin"), bulk_erase=bulk)
    assert board.running().version == "2.0.0"


def test_padded_file(board, tmp_path):
    (tmp_path / "x.bin").write_bytes(APP.ljust(SLOT + 5000, b"\xff"))
    board.run("import https_ota; https_ota.install('x.bin')")
    assert board.running().version == "2.0.0"


def test_what_is_too_large_is_refused_before_anything_is_erased(board, www, nginx):
    before = board.flash.read_bytes()[OTA_1:]
    larger = images.app_image(size=SLOT + 5000, version="2.0.0", seed=6)
    for data in (larger, APP.ljust(SLOT + 4095, b"\xff") + b"\0", APP.ljust(SLOT + 4096, b"\0")):
        (www / "app.bin").write_bytes(data)
        message = board.refuse(nginx.url("app.bin"))
        assert message.startswith("OTAError: TOO_BIG: the image "), message
        assert board.flash.read_bytes()[OTA_1:] == before


def test_image_that_does_not_fit_and_is_padded(board, www, nginx):
    larger = images.app_image(size=SLOT + 5000, version="2.0.0", seed=6)
    (www / "app.bin").write_bytes(larger.ljust(2 * SLOT, b"\xff"))
    assert "TOO_BIG" in board.refuse(nginx.url("app.bin"))
    assert board.running() == ("1.0.0", "ota_0", VALID)


def test_something_between_the_padding(board, www, nginx):
    data = bytearray(APP.ljust(SLOT + 9000, b"\xff"))
    data[SLOT + 100] = 0
    (www / "app.bin").write_bytes(data)
    assert "TOO_BIG: more data" in board.refuse(nginx.url("app.bin"))
    assert board.running() == ("1.0.0", "ota_0", VALID)


def test_padded_image_of_unknown_length(board, www):
    """Nor a length: that it is too long shows when it has come."""
    data = APP.ljust(SLOT + 1, b"\xff")
    with FaultServer(data, {0: chunked(sizes=(60_000,))}) as server:
        board.update(server.url("app.bin"), cadata=None, insecure=True)
    assert board.running().version == "2.0.0"
