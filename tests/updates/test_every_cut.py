"""An update that is cut off everywhere, one place after the other.

The power fails in the middle of every flash operation; torn sectors stay behind. After each cut the board starts
a valid firmware, and the next update ends well. Or the connection ends before each TLS record: the update goes on.
"""

import shutil

import images
import pytest
import servers
from board import make_board
from cutting import CUT, cut_everywhere
from proxy import Proxy

SIZE = 84_000  # 21 sectors: one record of how far it has come


@pytest.fixture
def plain(www):
    """TLS has no part in this."""
    (www / "app.bin").write_bytes(images.app_image(size=SIZE, version="2.0.0", seed=9))
    with servers.Nginx(www) as server:
        yield server


def make_full_board(folder, root, build):
    """A board as in the field: an older firmware is in its passive slot, so that each sector is erased."""
    board = make_board(folder, root, build)
    flash = bytearray(board.flash.read_bytes())
    flash[0x190000 : 0x190000 + SIZE] = images.app_image(size=SIZE, version="0.9.0", seed=4)
    board.flash.write_bytes(flash)
    return board


@pytest.mark.parametrize(
    ("request_size", "make"),
    [(0, make_full_board), (4096, make_full_board), (0, make_board)],
    ids=["plain", "ranged", "blank"],
)
def test_cut_in_every_operation(tmp_path, root, plain, capsys, request_size, make):
    start = make(tmp_path, root, "sim").flash
    url = plain.url("app.bin")
    cuts = cut_everywhere(
        start,
        tmp_path,
        url,
        lambda: sum(r.sent for r in plain.requests()),
        SIZE,
        request_size=request_size,
    )
    with capsys.disabled():
        print(f"\n{cuts} power cuts, one in each flash operation")
    assert cuts > (1 if make is make_board else 2) * SIZE // 4096


def test_cut_in_every_operation_of_a_resumed_update(tmp_path, root, plain, capsys):
    board = make_full_board(tmp_path, root, "sim")
    options = {"cadata": None, "insecure": True, "request_size": 4096}
    url = plain.url("app.bin")
    # Far enough for a record, not to the end.
    assert board.start(board.code(url, **options), SIM_CUT="45").returncode == CUT
    before = sum(r.sent for r in plain.requests())
    left = tmp_path / "left.bin"
    shutil.copyfile(board.flash, left)
    cuts = cut_everywhere(
        left, tmp_path, url, lambda: sum(r.sent for r in plain.requests()), SIZE, request_size=4096
    )
    with capsys.disabled():
        print(f"\n{cuts} power cuts, one in each flash operation")
    assert cuts > 8
    assert before > 65536


@pytest.mark.parametrize("mode", ["plain", "ranged", "resumed"])
def test_connection_cut_before_every_record(tmp_path, root, www, nginx, capsys, mode):
    image = images.app_image(size=SIZE, version="2.0.0", seed=9)
    (www / "app.bin").write_bytes(image)
    board = make_full_board(tmp_path, root, "sim" if mode == "plain" else "sim-tls4k")
    options = {"request_size": 0} if mode == "plain" else {}
    cuts = 0
    with Proxy(nginx) as proxy:
        url = proxy.url("app.bin")
        if mode == "resumed":
            # Far enough for a record in NVS.
            assert board.start(board.code(url), SIM_CUT="45").returncode == CUT
        start = board.flash.read_bytes()
        while True:
            board.flash.write_bytes(start)
            proxy.cut_at, proxy.records = cuts + 1, 0
            board.update(url, **options)
            assert board.flash.read_bytes()[0x190000 : 0x190000 + SIZE] == image, f"{cuts + 1}"
            if not proxy.was_cut:
                break
            cuts += 1
    with capsys.disabled():
        print(f"\n{cuts} cuts, one before each TLS record")
    assert {"plain": 10, "ranged": 27, "resumed": 8}[mode] <= cuts < {"resumed": 16}.get(mode, 99)
