"""What the package takes, and may take: tests/bench/budgets.json, which is only ever lowered, by `make budgets`.

tests/tools/test_budgets.py holds each, and asks for a lower one when a tenth of it is free; `make bench` shows them beside
the figures. Memory is counted on the 32-bit SIM board, whose objects have the chip's sizes.
"""

import json
import tempfile
from pathlib import Path

import built
import certs
import fakeidf
import freezing
import images
import mip_package
import servers
import simflash
from board import Board
from built import MPY_CROSS, ROOT

MPY_UPDATE = "RAM that a verified update loads from .mpy files until it is over"
MPY_LEFT = "RAM that a verified update from .mpy files keeps behind its end"
MPY_BOOT = "RAM at boot (`import https_ota`), from .mpy files"
FROZEN_UPDATE = "RAM of all that a verified update loads, frozen"
FROZEN_LEFT = "RAM that a verified update keeps behind its end, frozen"
FROZEN_BOOT = "RAM at boot, frozen"
SESSION = "RAM of a session in progress, from a file"
ALL_MPY = "all slices as .mpy, xtensawin"
SLICE_MPY = "{} as .mpy, xtensawin"
FROZEN_XTENSA = "flash that the frozen package takes, xtensawin"
FROZEN_RISCV = "flash that the frozen package takes, rv32imc"

# Now and then the collector takes bytes of a certificate for the address of what was freed.
VARIES = {MPY_UPDATE: 600, MPY_LEFT: 600}

TABLE = ROOT / "tests" / "bench" / "budgets.json"
BUDGETS: dict[str, int] = json.loads(TABLE.read_text())
# They are what the pinned MicroPython needs; others make a little more of the same code (1.29: 0.3 %).
ROOM = 1 if built.IS_PINNED else 1.01

UPDATE = """
import gc, esp32, machine, tls, socket
ca = open("ca.pem").read()
gc.collect()
start = gc.mem_alloc()
import https_ota
gc.collect()
boot = gc.mem_alloc() - start
import https_ota.memory
work = https_ota.memory.work
work.__enter__()
assert https_ota.update({url!r}, cadata=ca)
gc.collect()
update = gc.mem_alloc() - start
import sys
names = sorted(n for n in sys.modules if n.startswith("https_ota"))
work.__exit__()
text = " ".join(names)
names = None
gc.collect()
print(https_ota.__file__, boot, update, gc.mem_alloc() - start - len(text))
print(text)
"""
# The modules alone: the SIM board's NVS keeps memory where a chip's does not.
LOAD = """
import gc, esp32, machine, sys, tls, socket
gc.collect()
start = gc.mem_alloc()
import https_ota
gc.collect()
boot = gc.mem_alloc() - start
for name in {names!r}:
    __import__(name)
name = None
gc.collect()
update = gc.mem_alloc() - start
with sys.modules["https_ota.memory"].work:
    pass
print(boot, update, gc.mem_alloc() - start)
"""
# One that is broken off goes first: what counts is the session, not the loading of modules.
FILE = """
import gc, https_ota
def kept():
    ota = https_ota.OTA(open("app.bin", "rb"), resume=False)
    ota.begin()
    for _ in range(4):
        ota.perform()
    gc.collect()
    used = gc.mem_alloc()
    ota.abort()
    return used
kept()
gc.collect()
start = gc.mem_alloc()
print(kept() - start)
"""
# One board for each architecture; what is frozen is the same on the others.
BOARDS = {FROZEN_XTENSA: "ESP32_GENERIC_OTA", FROZEN_RISCV: "ESP32_GENERIC_C3_OTA"}


def allowed(what: str) -> float:
    """What it may take with the MicroPython of this run."""
    return BUDGETS[what] * ROOM


def ram() -> dict[str, int]:
    """Memory: an update over TLS with the package in .mpy files, and frozen; a session from a file."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        root = certs.root()
        (work / "www").mkdir()
        image = images.app_image(size=400_000, version="2.0.0", seed=3)
        (work / "www" / "app.bin").write_bytes(image)
        (work / "app.bin").write_bytes(image)
        (work / "ca.pem").write_bytes(root.pem)
        mip_package.compile_into(work / "lib", "x86", MPY_CROSS)

        def run(code: str, **env: str) -> list[str]:
            return Board(simflash.make_flash(work / "flash.bin")).run(code, **env).split()

        with servers.Nginx(work / "www", root.server()) as server:
            code = UPDATE.format(url=server.url("app.bin"))
            # A relative path, as paths are kept in RAM: as short as on a chip.
            path, boot, update, left, *names = run(code, MICROPYPATH="lib:.frozen")
        assert path.endswith(".mpy"), path
        frozen_boot, frozen_update, frozen_left = run(LOAD.format(names=names))
        return {
            MPY_UPDATE: int(update),
            MPY_LEFT: int(left),
            MPY_BOOT: int(boot),
            FROZEN_UPDATE: int(frozen_update),
            FROZEN_LEFT: int(frozen_left),
            FROZEN_BOOT: int(frozen_boot),
            SESSION: int(run(FILE)[0]),
        }


def mpy_sizes(arch: str) -> dict[str, int]:
    """The size of each module's .mpy file."""
    with tempfile.TemporaryDirectory() as name:
        mip_package.compile_into(Path(name), arch, MPY_CROSS)
        package = Path(name) / "https_ota"
        return {
            p.relative_to(package).with_suffix("").as_posix(): p.stat().st_size
            for p in sorted(package.rglob("*.mpy"))
        }


def mpy(sizes: dict[str, int]) -> dict[str, int]:
    """Bytes of each slice, and of all: the core's are those of `slices=""`, with what it can't do without."""
    manifest = mip_package.manifest()
    home = {name: manifest["HOME"].get(f"{name}.py", "core") for name in sizes}
    needed = {f.removesuffix(".py") for f in mip_package.manifest("")["files"]}
    found = {}
    for slice_ in manifest["SLICES"]:
        names = needed if slice_ == "core" else {n for n in sizes if home[n] == slice_}
        found[SLICE_MPY.format(slice_)] = sum(sizes[n] for n in names)
    return found | {ALL_MPY: sum(sizes.values())}


def frozen() -> dict[str, int]:
    """Freeze a board's modules with the package and without; it is the difference."""
    found = {}
    for what, board in BOARDS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            seen = fakeidf.configure(folder, board)
            full = freezing.freeze(folder / "full", seen).size
            found[what] = full - freezing.freeze(folder / "bare", freezing.bare(seen)).size
    return found


def figures() -> dict[str, int]:
    """All that there is a budget for."""
    return ram() | mpy(mpy_sizes("xtensawin")) | frozen()


def main() -> None:
    """Lower what can be lowered; a budget is given to what has none."""
    assert built.IS_PINNED, f"budgets are those of MicroPython {built.PINNED}"
    found = figures()
    for what, figure in found.items():
        needed = -(-(figure + VARIES.get(what, 0)) // 100) * 100
        over = "  more than its budget" if needed > BUDGETS.get(what, needed) else ""
        print(f"{figure:7}  {what}{over}")
        BUDGETS[what] = min(BUDGETS.get(what, needed), needed)
    TABLE.write_text(json.dumps({what: BUDGETS[what] for what in found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
