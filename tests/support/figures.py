"""What an update does to flash, NVS, heap and wire, counted on the SIM board, and how often it may: tests/bench/counts.json.

tests/updates/test_figures.py holds each count; `make bench` shows them. `make budgets` lowers them. The model of the flash is
that of boards/SIM: an erase 45 ms, of 64 KiB 150 ms, a page of 256 bytes 0.7 ms.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import certs
import images
import kept
import servers
from board import Board
from proxy import Proxy

from https_ota_tools import mkflash, partition

SIZE = 1_447_440  # that of a firmware for the ESP32
SECTOR, BLOCK, PAGE = 4096, 65536, 256
IMAGE = images.app_image(size=SIZE, version="2.0.0", seed=1)
OLDER = images.app_image(size=SIZE, seed=2)

TABLE = Path(__file__).resolve().parents[1] / "bench" / "counts.json"
COUNTS: dict[str, float] = json.loads(TABLE.read_text()) if TABLE.exists() else {}

MODEL = "time of the flash model over what the flash needs, by {}"
# Slots for the largest image.
SLOTS_CSV = """
nvs,data,nvs,0x9000,0x4000
otadata,data,ota,0xd000,0x2000
ota_0,app,ota_0,0x10000,0x480000
ota_1,app,ota_1,0x490000,0x480000
"""
SLOT = 0x490000
# What a slot holds before the update.
SLOTS = {"an older image": OLDER, "nothing": b"", "the same image": IMAGE}

# Of the flash only the slot counts: NVS has its own, and the SIM board's is written in Python.
COUNT = """
import esp32, https_ota, simboot
flash = simboot.flash
start, length = esp32.Partition("ota_1").info()[2:4]
did = {{}}
def counted(owner, name, units=None):
    inner = getattr(owner, name)
    did[name] = did[name + " bytes"] = 0
    def run(*args):
        if not units:
            did[name] += 1
        elif start <= args[0] < start + length:
            did[name] += 1
            did[name + " bytes"] += units(args)
        return inner(*args)
    setattr(owner, name, run)
counted(flash, "erase", lambda args: args[1])
counted(flash, "program", lambda args: args[3])
counted(flash, "read", lambda args: len(args[1]))
for name in ("set_i32", "set_blob", "erase_key", "commit"):
    counted(esp32.NVS, name)
flash.reset_counters()
ota = https_ota.OTA({url!r}, cadata=open("ca.pem").read(){options})
ota.begin()
while ota.perform():
    pass
print(did["erase bytes"] // 4096, did["program"], did["read"], did["read bytes"])
print(did["set_i32"] + did["set_blob"] + did["erase_key"] + did["commit"], flash.ms)
flash.reset_counters()
ota.finish()
print(flash.ms)
"""
SET_BOOT = """
import esp32, simboot
simboot.flash.reset_counters()
esp32.Partition("ota_1").set_boot()
print(simboot.flash.ms)
"""
WHOLE = """
import gc, https_ota
gc.collect()
gc.disable()
start = gc.mem_alloc()
https_ota.update({url!r}, cadata=open("ca.pem").read())
print(gc.mem_alloc() - start)
"""


class Done(NamedTuple):
    """What the flash and NVS were asked for up to the last byte, and the model's ms for that and for finish()."""

    erases: int
    programs: int
    reads: int
    read_bytes: int
    nvs: int
    ms: int
    finish_ms: int


class Meter(Proxy):
    """Counts the bytes of both directions, without TCP's and IP's own, and the connections."""

    passed = connections = 0

    async def _connect(self, reader, writer):
        self.connections += 1
        await super()._connect(reader, writer)

    async def _pieces(self, reader):
        async for data in super()._pieces(reader):
            self.passed += len(data)
            yield data


class Bench:
    """A folder, a server with an image, and boards. To be used with `with`."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.image = (
            IMAGE if size == SIZE else images.app_image(size=size, version="2.0.0", seed=1)
        )

    def __enter__(self) -> "Bench":
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        root = certs.root()
        (self.folder / "ca.pem").write_bytes(root.pem)
        (self.folder / "ca.der").write_bytes(root.der)
        self.www = self.folder / "www"
        self.www.mkdir()
        (self.www / "app.bin").write_bytes(self.image)
        self.nginx = servers.Nginx(self.www, root.server()).__enter__()
        self.url = self.nginx.url("app.bin")
        return self

    def __exit__(self, *error: object) -> None:
        self.nginx.__exit__(*error)
        self._folder.cleanup()

    def board(self, build: str = "sim", slot: bytes = OLDER, app: bytes = b"") -> Board:
        """A board that has been started once, with something in the slot that is written."""
        table = partition.read_csv(SLOTS_CSV)
        flash = bytearray(mkflash.make_flash(app or images.app_image(), table, 16 << 20))
        flash[SLOT : SLOT + len(slot)] = slot
        path = self.folder / "flash.bin"
        path.write_bytes(flash)
        board = Board(path, build)
        board.running()
        return board

    def operations(self, slot: bytes | None = None, **options: object) -> Done:
        """Count what an update does to the flash; the slot holds an older image as large if nothing is said."""
        older = OLDER if self.size == SIZE else images.app_image(size=self.size, seed=2)
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        board = self.board(slot=older if slot is None else slot)
        said = board.run(COUNT.format(url=self.url, options=given))
        return Done(*map(int, said.split()))

    def set_boot_ms(self) -> int:
        """What set_boot() alone takes by the model."""
        return int(self.board(slot=self.image).run(SET_BOOT))

    def own_ms(self, erase_ms: float, unit: int) -> float:
        """What the flash needs for the image at least, erased in sectors or blocks."""
        return math.ceil(self.size / unit) * erase_ms + math.ceil(self.size / PAGE) * 0.7

    def wire(self, build: str, **options: object) -> tuple[float, int]:
        """Return bytes on the wire over bytes of the image, and the number of handshakes."""
        with Meter(self.nginx) as meter:
            self.board(build).update(meter.url("app.bin"), **options)
            return meter.passed / len(self.image), meter.connections


def counts() -> dict[str, float]:
    """All that there is a budget for."""
    found: dict[str, float] = {}
    sectors = math.ceil(SIZE / SECTOR)
    with Bench() as bench:
        for holds, content in SLOTS.items():
            done = bench.operations(content, bulk_erase=False)
            found |= {
                f"erases a sector, the slot holds {holds}": done.erases / sectors,
                f"programs a sector, the slot holds {holds}": done.programs / sectors,
                f"reads a sector, the slot holds {holds}": done.reads / sectors,
                f"bytes read over the image's, the slot holds {holds}": done.read_bytes / SIZE,
                f"NVS operations per MB, the slot holds {holds}": done.nvs / (SIZE / 1e6),
            }
            if content is OLDER:
                found[MODEL.format("sectors")] = done.ms / bench.own_ms(45, SECTOR)
                found["flash model, finish() over set_boot()"] = (
                    done.finish_ms / bench.set_boot_ms()
                )
        done = bench.operations()
        found[MODEL.format("blocks")] = done.ms / bench.own_ms(150, BLOCK)
        found["reads a sector, erased by blocks"] = done.reads / sectors
        found["bytes read over the image's, erased by blocks"] = done.read_bytes / SIZE
        for what, build in (("plain GET", "sim"), ("ranged, 4 KiB TLS buffer", "sim-tls4k")):
            ratio, handshakes = bench.wire(build)
            found[f"bytes on the wire over the image's, {what}"] = ratio
            found[f"handshakes, {what}"] = handshakes
        board = bench.board()
        found["bytes of garbage a sector, plain GET"] = (
            int(board.run(kept.steady(bench.url, True))) / 50
        )
        # Steps are sectors, and responses as many.
        ranged = kept.steady(bench.url, False, request_size=SECTOR)
        found["bytes of garbage a response, ranged"] = int(bench.board().run(ranged)) / 50
        found["bytes of garbage of an update"] = int(
            bench.board().run(WHOLE.format(url=bench.url))
        )
    return found


def main() -> None:
    """Lower what can be lowered; a budget is given to what has none."""
    found = counts()
    for what, figure in found.items():
        unit = 1000 if figure > 1000 else 1 if figure > 10 else 0.01
        needed = round(math.ceil(round(figure / unit, 6)) * unit, 2)
        over = "  more than its budget" if needed > COUNTS.get(what, needed) else ""
        print(f"{figure:11.3f}  {what}{over}")
        COUNTS[what] = min(COUNTS.get(what, needed), needed)
    TABLE.write_text(json.dumps({what: COUNTS[what] for what in found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
