"""How long an update takes over a slow link, as ratios of times that were measured side by side.

The flash takes the time that a real one takes, so what is compared is how much of the network's time hides behind it. All updates
of a round run at once: they wait for nearly all of their time.
"""

import inspect
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import certs
import images
import servers
import simflash
from board import Board
from proxy import Proxy

SIZE = 1_000_000
ROUNDS = 2
WINDOW = 5760  # lwIP's by default: so much may be on its way to a board
# The link of the tests may not have one.
HAS_WINDOW = "window" in inspect.signature(Proxy).parameters

CODE = """
import time, https_ota
start = time.ticks_ms()
https_ota.update({source}, bulk_erase=False)
print(time.ticks_diff(time.ticks_ms(), start))
"""


class Way(NamedTuple):
    """Where an image comes from: nginx, in ranges through 4 KiB or in one piece; or a file."""

    rtt_ms: int = 0
    window: int = 0
    ranged: bool = True
    file: bool = False


FILE = Way(file=True)
FREE = [Way(rtt_ms) for rtt_ms in (0, 50, 200)]
NARROW = [Way(rtt_ms, WINDOW, ranged) for rtt_ms in (50, 200) for ranged in (True, False)]


def measure() -> list[dict[Way, int]]:
    """Return the milliseconds of each update, for each round."""
    ways = [FILE, *FREE, *(NARROW if HAS_WINDOW else ())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = certs.root()
        image = images.app_image(size=SIZE, seed=3)
        (folder / "app.bin").write_bytes(image)
        with (
            servers.Nginx(folder, root.server()) as nginx,
            ThreadPoolExecutor(len(ways)) as pool,
        ):

            def one(way: Way) -> int:
                place = folder / str(ways.index(way))
                place.mkdir(exist_ok=True)
                (place / "ca.pem").write_bytes(root.pem)
                (place / "app.bin").write_bytes(image)
                return milliseconds(way, place, nginx)

            return [dict(zip(ways, pool.map(one, ways), strict=True)) for _ in range(ROUNDS)]


def milliseconds(way: Way, folder: Path, nginx: servers.Nginx) -> int:
    """Return how long one update takes."""
    # As in the field: the slot holds an older firmware, so that each sector is erased.
    older = images.app_image(size=SIZE, seed=4)
    flash = simflash.make_flash(folder / "flash.bin", contents={"ota_1": older})
    board = Board(flash, "sim-tls4k" if way.ranged else "sim")
    board.running()
    if way.file:
        return int(board.run(CODE.format(source="open('app.bin', 'rb')"), SIM_FLASH_REALTIME="1"))
    window = {"window": way.window} if way.window else {}
    with Proxy(nginx, rtt_s=way.rtt_ms / 1000, **window) as link:
        source = f"{link.url('app.bin')!r}, cadata=open('ca.pem').read()"
        return int(board.run(CODE.format(source=source), SIM_FLASH_REALTIME="1"))


def over_file(rounds: list[dict[Way, int]]) -> dict[int, list[float]]:
    """For each round trip: times in ranges over the times from a file."""
    return {w.rtt_ms: [r[w] / r[FILE] for r in rounds] for w in FREE}


def over_plain(rounds: list[dict[Way, int]]) -> dict[int, list[float]]:
    """For each round trip over a narrow link: times in ranges over the times in one piece."""
    ranged = [w for w in NARROW if w.ranged and w in rounds[0]]
    return {w.rtt_ms: [r[w] / r[w._replace(ranged=False)] for r in rounds] for w in ranged}
