"""With too little memory, whatever is asked for: one error, which says how much there was; and all else as before."""

import images
import pytest
from board import VALID
from faults import FaultServer

APP = images.app_image(size=150_000, version="2.0.0", seed=4)

# Leave so many bytes of heap, in one block.
LEAVE = """
import gc, https_ota, https_ota.ota
def leave(n):
    gc.collect()
    held = []
    step = 1 << 20
    while step >= 64:
        try:
            held.append(bytearray(step))
        except MemoryError:
            step >>= 1
    free = 0
    while free < n and held:
        block = held.pop()
        free += len(block)
    gc.collect()
    return held
def said(function):
    held = leave({n})
    try:
        function()
    except https_ota.OTAError as e:
        held = None
        gc.collect()
        print(e)
    except MemoryError as e:
        held = None
        gc.collect()
        print("MemoryError", e)
    else:
        print("done")
"""


@pytest.mark.parametrize("n", [256, 1024, 2500, 4200, 6000, 9000])
@pytest.mark.parametrize("way", ["update", "step by step", "asyncio", "fetch", "manifest", "data"])
def test_little_memory(board, n, way):
    with FaultServer(APP, {}) as server:
        url = server.url("app.bin")
        call = {
            "update": f"lambda: https_ota.update({url!r}, insecure=True)",
            "step by step": f"lambda: https_ota.OTA({url!r}, insecure=True).begin()",
            "asyncio": f"lambda: asyncio.run(https_ota.aio.update({url!r}, insecure=True))",
            "fetch": f"lambda: https_ota.fetch({url!r}, lambda piece: None, insecure=True)",
            "manifest": f"lambda: https_ota.check({url!r}, insecure=True)",
            "data": f"lambda: https_ota.update({url!r}, insecure=True, partition='vfs')",
        }[way]
        said = board.run(
            "import asyncio, https_ota.aio, https_ota.flash.data, https_ota.fleet.poll, https_ota.boot.history, https_ota.net.words\n"
            + LEAVE.replace("{n}", str(n))
            + f"said({call})"
        )
    if not said.startswith(("done", "MANIFEST")):
        assert said.startswith("MEMORY: ") and " bytes" in said, said
    assert n > 1024 or said.startswith("MEMORY: ")


def test_finish_that_is_broken_off_keeps_what_came(board):
    """By Ctrl-C or want of memory, as by a power cut: the next update goes on with it."""
    with FaultServer(APP, {}) as server:
        url = server.url("app.bin")
        for error in ("KeyboardInterrupt", "MemoryError", "OSError(5)"):
            before = board.boots_from()
            board.start(
                "import https_ota\n"
                f"ota = https_ota.OTA({url!r}, insecure=True)\nota.begin()\n"
                "while ota.perform(): pass\n"
                "def broken(*args): raise {error}\n"
                "ota.region.release = broken\nota.finish()".replace("{error}", error)
            )
            assert board.boots_from() == before
            server.requests.clear()
            board.run(
                f"import https_ota\nota = https_ota.OTA({url!r}, insecure=True)\nota.begin()\n"
                "print(ota.image_len_read)\nassert ota.image_len_read >= 131072\nota.abort()"
            )
            assert b"Range: bytes=131072-" in server.requests[0]
        board.update(url, cadata=None, insecure=True)
    assert board.running().version == "2.0.0"
    assert board.running() == ("1.0.0", "ota_0", VALID)
