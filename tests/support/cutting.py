"""Power cuts in the middle of every flash operation; torn sectors stay behind."""

import shutil

from board import VALID, Board

CUT = 75  # the board's exit status then


def cut_everywhere(start, folder, url, fetched, size, every=1, **options) -> int:
    """Run an update from flash file `start` once for each operation, or `every` so many, cut there; return how many there are.

    `fetched` tells how many bytes the server has sent, `size` is how many the file has.
    """
    options |= {"cadata": None, "insecure": True}
    board = Board(folder / "cut.bin")
    n = 1 - every
    while True:
        n += every
        shutil.copyfile(start, board.flash)
        done = board.start(board.code(url, **options), SIM_CUT=str(n))
        if done.returncode == 0:
            return n - 1
        assert done.returncode == CUT, f"cut {n}: {done.stdout}{done.stderr}"
        running = board.running()
        # Before the switch the old one runs; from the switch on, either.
        assert running.version in ("1.0.0", "2.0.0"), f"cut {n}"
        if running.version == "2.0.0":
            board.run("import https_ota; https_ota.confirm()")
            assert board.running().state == VALID
            continue
        assert running == ("1.0.0", "ota_0", VALID), f"cut {n}"
        before = fetched()
        board.update(url, **options)
        again = fetched() - before
        assert again <= size + 4096, f"cut {n}: {again} bytes fetched"
        assert board.running().version == "2.0.0", f"cut {n}"
