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
WINDOW = 5760  # lwIP's, as ESP-IDF sets it: so much may be on its way to a board

CODE = """
import time, https_ota
start = time.ticks_ms()
https_ota.update({arguments})
print(time.ticks_diff(time.ticks_ms(), start))
"""


def flash_only_ms(folder: Path, size: int = SIZE) -> int:
    """Return how long an update from a file takes."""
    prepare(folder, size)
    return _run(folder, "open('www/app.bin', 'rb')", size)


def over_network_ms(
    folder: Path, rtt_s: float, size: int = SIZE, *, window: int = 0, plain: bool = False
) -> int:
    """Return how long it takes from nginx, in ranges that fit a TLS buffer of 4 KiB; or by one `plain` GET.

    That needs a server whose records fit the buffer.
    """
    root = prepare(folder, size)
    lines = "ssl_buffer_size 3k;" if plain else ""
    with (
        servers.Nginx(folder / "www", root.server(), lines=lines) as nginx,
        Proxy(nginx, rtt_s=rtt_s, window=window) as link,
    ):
        options = ", request_size=0" if plain else ""
        if window:
            options += ", bulk_erase=False"  # the flash has a part in it
        url = link.url("app.bin")
        return _run(folder, f"{url!r}, cadata=open('ca.pem').read(){options}", size)


def prepare(folder: Path, size: int) -> certs.Authority:
    """Make what is served, and return who vouches for the server."""
    root = certs.root()
    (folder / "www").mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "www" / "app.bin").write_bytes(images.app_image(size=size, seed=3))
    return root


def _run(folder: Path, arguments: str, size: int) -> int:
    # As in the field: the slot holds an older firmware, so that each sector is erased.
    old = images.app_image(size=size, seed=4)
    board = Board(simflash.make_flash(folder / "flash.bin", contents={"ota_1": old}), "sim-tls4k")
    board.running()
    return int(board.run(CODE.format(arguments=arguments), SIM_FLASH_REALTIME="1"))
