"""How long an update takes over a slow link, as a ratio to the same update from a file, in one run.

The flash takes the time that a real one takes, so what is compared is how much of the network's time hides behind it.
"""

from pathlib import Path

import certs
import images
import servers
import simflash
from board import Board
from proxy import Proxy

SIZE = 1_000_000

CODE = """
import time, https_ota
start = time.ticks_ms()
https_ota.update({arguments})
print(time.ticks_diff(time.ticks_ms(), start))
"""


# lwIP's, as ESP-IDF sets it: no client there gets more in a round trip.
WINDOW = 5760


def flash_only_ms(folder: Path, size: int = SIZE) -> int:
    """Return how long an update from a file takes."""
    prepare(folder, size)
    return _run(folder, "open('www/app.bin', 'rb')")


def over_network_ms(
    folder: Path, rtt_s: float, size: int = SIZE, *, window: int = 0, plain: bool = False
) -> tuple[int, float]:
    """Return how long it takes from nginx, and how many bytes come over the wire for each of the image.

    In ranges that fit a TLS buffer of 4 KiB; or by one `plain` GET, of a server whose records fit it.
    """
    root = prepare(folder, size)
    lines = "ssl_buffer_size 3k;" if plain else ""
    with (
        servers.Nginx(folder / "www", root.server(), lines=lines) as nginx,
        Proxy(nginx, rtt_s=rtt_s, window=window) as link,
    ):
        options = ", request_size=0" if plain else ""
        url = link.url("app.bin")
        took = _run(folder, f"{url!r}, cadata=open('ca.pem').read(){options}")
        return took, link.down_bytes / size


def prepare(folder: Path, size: int) -> certs.Authority:
    """Make what is served, and return who vouches for the server."""
    root = certs.root()
    (folder / "www").mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "www" / "app.bin").write_bytes(images.app_image(size=size, seed=3))
    return root


def _run(folder: Path, arguments: str) -> int:
    # As in the field: the slot holds an older firmware, so that each sector is erased.
    old = images.app_image(size=SIZE, seed=4)
    board = Board(simflash.make_flash(folder / "flash.bin", contents={"ota_1": old}), "sim-tls4k")
    board.running()
    return int(board.run(CODE.format(arguments=arguments), SIM_FLASH_REALTIME="1"))
