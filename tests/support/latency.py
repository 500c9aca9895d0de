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


def flash_only_ms(folder: Path) -> int:
    """Return how long an update from a file takes."""
    prepare(folder)
    return _run(folder, "open('www/app.bin', 'rb')")


def over_network_ms(folder: Path, rtt_s: float) -> int:
    """Return how long it takes from nginx, in ranges that fit a TLS buffer of 4 KiB."""
    root = prepare(folder)
    with servers.Nginx(folder / "www", root.server()) as nginx, Proxy(nginx, rtt_s=rtt_s) as link:
        return _run(folder, f"{link.url('app.bin')!r}, cadata=open('ca.pem').read()")


def prepare(folder: Path) -> certs.Authority:
    """Make what is served, and return who vouches for the server."""
    root = certs.root()
    (folder / "www").mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "www" / "app.bin").write_bytes(images.app_image(size=SIZE, seed=3))
    return root


def _run(folder: Path, arguments: str) -> int:
    # As in the field: the slot holds an older firmware, so that each sector is erased.
    old = images.app_image(size=SIZE, seed=4)
    board = Board(simflash.make_flash(folder / "flash.bin", contents={"ota_1": old}), "sim-tls4k")
    board.running()
    return int(board.run(CODE.format(arguments=arguments), SIM_FLASH_REALTIME="1"))
