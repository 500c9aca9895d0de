"""An update that is cut off everywhere, one place after the other.

The power fails in the middle of every flash operation; torn sectors stay behind. After each cut the board starts
a valid firmware, and the next update ends well. Or the connection ends before each TLS record: the update goes on.
Once more without what is only for speed: blocks that are erased at once, and requests that go out ahead.
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


# What an update is without; of what is cut then, a part.
PLAINER = {"bulk_erase": False, "ahead": False}
EVERY = 2


def make_full_board(folder, root, build):
    """A board as in the field: an older firmware is in its passive slot, so that each sector is erased."""
    board = make_board(folder, root, build)
    flash = bytearray(board.flash.read_bytes())
    flash[0x190000 : 0x190000 + SIZE] = images.app_image(size=SIZE, version="0.9.0", seed=4)
    board.flash.write_bytes(flash)
    return board


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (make_full_board, {"request_size": 0}),
        (make_full_board, {"request_size": 4096}),
        (make_board, {"request_size": 0}),
        (make_full_board, {"request_size": 0, "every": EVERY, **PLAINER}),
        (make_full_board, {"request_size": 4096, "every": EVERY, **PLAINER}),
    ],
    ids=["plain", "ranged", "blank", "plain-by-sectors", "ranged-by-sectors-one-at-a-time"],
)
def test_cut_in_every_operation(tmp_path, root, plain, capsys, make, options):
    start = make(tmp_path, root, "sim").flash
    url = plain.url("app.bin")
    cuts = cut_everywhere(
        start,
        tmp_path,
        url,
        lambda: sum(r.sent for r in plain.requests()),
        SIZE,
        **options,
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


@pytest.mark.parametrize("mode", ["plain", "ranged", "resumed", "one at a time"])
def test_connection_cut_before_every_record(tmp_path, root, www, nginx, capsys, mode):
    image = images.app_image(size=SIZE, version="2.0.0", seed=9)
    (www / "app.bin").write_bytes(image)
    board = make_full_board(tmp_path, root, "sim" if mode == "plain" else "sim-tls4k")
    options = {"request_size": 0} if mode == "plain" else {}
    if mode == "one at a time":
        options = PLAINER
    every = EVERY if options is PLAINER else 1
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
            cuts += every
    with capsys.disabled():
        print(f"\n{cuts} cuts, one before each TLS record")
    assert {"plain": 10, "resumed": 8}.get(mode, 27) <= cuts < {"resumed": 16}.get(mode, 99)
