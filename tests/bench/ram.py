"""Memory and sizes, for `make bench`."""

import tempfile
from pathlib import Path

import budgets
import certs
import images
import mip_package
import servers
import simflash
from board import Board

SIZE = 400_000

# One that is broken off goes first, so that what is measured is the update and not the loading of modules.
MEASURE = """
import gc, https_ota
def used():
    gc.collect()
    return gc.mem_alloc()
with https_ota.OTA({url!r}, {options}) as ota:
    ota.begin()
    ota.perform()
ota = None
before = used()
ota = https_ota.OTA({url!r}, {options})
ota.begin()
ota.perform()
kept = used() - before
ota.abort()
ota = None
print(kept, used() - before)
"""


def held() -> dict[str, int]:
    """Bytes of the heap that a verified connection keeps, and that are still held after an update."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        root = certs.root()
        www = work / "www"
        www.mkdir()
        (www / "app.bin").write_bytes(images.app_image(size=SIZE))
        (work / "ca.der").write_bytes(root.der)

        def measure(build: str, server: servers.Nginx, options: str) -> list[int]:
            board = Board(simflash.make_flash(work / "flash.bin"), build)
            code = MEASURE.format(url=server.url("app.bin"), options=options)
            return [int(word) for word in board.run(code).split()]

        with servers.Nginx(www) as plain, servers.Nginx(www, root.server()) as server:
            session, left = measure("sim", plain, "insecure=True")
            for build, limit in (("sim", 16384), ("sim-tls4k", 4096)):
                kept, _ = measure(build, server, "cadata=open('ca.der', 'rb').read()")
                found[f"heap kept by verified TLS, {limit} B buffer"] = kept - session
        # Less than before is nothing: modules may have been given back meanwhile.
        return found | {"heap still held after an update": max(left, 0)}


def slices(sizes: dict[str, dict[str, int]]) -> list[list[str]]:
    """The rows of the table of slices, from the sizes of modules for each architecture."""
    listed = mip_package.manifest()["SLICES"]
    home = mip_package.manifest()["HOME"]
    rows = []
    for name in listed:
        modules = [m for m in sizes["xtensawin"] if home.get(f"{m}.py", "core") == name]
        total = [f"{sum(sizes[arch][m] for m in modules):,}" for arch in sizes]
        each = ", ".join(f"{m} {sizes['xtensawin'][m]}" for m in modules)
        rows.append([name, *total, listed[name][1], each])
    return rows


def measure() -> tuple[dict[str, int], dict[str, int], dict[str, dict[str, int]]]:
    """Return what there is a budget for, what there is none for, and the sizes of modules for each architecture."""
    sizes = {arch: budgets.mpy_sizes(arch) for arch in ("xtensawin", "rv32imc")}
    bound = budgets.ram() | budgets.mpy(sizes["xtensawin"]) | budgets.frozen()
    return bound, held(), sizes
