"""Compressed images and deltas: sizes, and what an update takes, into tests/bench/README.md.

    make bench-pack IMAGES="OLD.bin:NEW.bin=what it is ..."

A file that is no image is taken for the content of one. The first pair is also installed on the 32-bit SIM board, whose
objects and numbers have a chip's sizes: over TLS, where valgrind counts instructions, and from a file, which tells the heap.
"""

import sys
import tempfile
from pathlib import Path

import certs
import images
import report
import servers
import simflash
from board import Board
from kept import KEPT

from https_ota_tools import delta, packed
from https_ota_tools import image as parser

WINDOWS = (1024, 4096, 32768)


def load(path: str) -> bytes:
    """Return a file as an image."""
    data = Path(path).read_bytes()
    if parser.examine(data).valid:
        return data
    desc = images.app_image()[32 : 32 + 256]
    return images.image([(0x3C000020, desc + data + bytes(-len(data) % 4))], chip_id=5)


def sizes(pairs: list[tuple[bytes, bytes, str]]) -> str:
    """Return the table of sizes, in percent of the new image."""
    rows = []
    for old, new, what in pairs:
        made = [len(packed.pack(new, w)) for w in WINDOWS]
        made += [len(delta.make(old, new, w)) for w in WINDOWS]
        rows.append([what, f"{len(new):,} B", *(f"{100 * n / len(new):.2f}" for n in made)])
    heads = [f"{kind}, {w // 1024} KiB" for kind in ("packed", "delta") for w in WINDOWS]
    return report.table(["what", "image", *heads], rows)


def update(old: bytes, new: bytes) -> str:
    """Return the table of what an update takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = certs.root()
        (folder / "ca.pem").write_bytes(root.pem)
        files = {"plain": new, "packed": packed.pack(new), "delta": delta.make(old, new)}
        for kind, data in files.items():
            (folder / kind).write_bytes(data)
        chip = parser.load_app(old).chip
        board = Board(simflash.make_flash(folder / "flash.bin", old), SIM_CHIP=chip)
        board.run("import https_ota\nhttps_ota.state()")
        flash = board.flash.read_bytes()
        heap, count = {}, {}
        with servers.Nginx(folder, root.server()) as server:
            for kind in files:
                board.flash.write_bytes(flash)
                code = f"import https_ota\nassert https_ota.update({server.url(kind)!r}, cadata=open('ca.pem').read())"
                count[kind] = board.instructions(code)
                board.flash.write_bytes(flash)
                modules = "https_ota.ota, https_ota.pack.inflate, https_ota.pack.patch, https_ota.pack.kinds"
                code = f"import {modules}\n" + KEPT.format(path=kind, options="")
                heap[kind] = int(board.run(code))
    rows = [
        [
            kind,
            f"{len(data):,} B",
            f"{count[kind] / 1e6:.0f} M",
            f"{count[kind] / count['plain']:.2f}",
            f"{heap[kind] - heap['plain']:,} B",
        ]
        for kind, data in files.items()
    ]
    heads = ["window 1 KiB", "bytes", "instructions", "by those of plain", "heap over plain"]
    return report.table(heads, rows)


def main() -> None:
    """Measure the pairs that are given."""
    pairs = []
    for argument in sys.argv[1:]:
        paths, _, what = argument.partition("=")
        old, new = map(load, paths.split(":"))
        pairs.append((old, new, what.replace("_", " ") or paths))
    if not pairs:
        raise SystemExit("expected OLD.bin:NEW.bin[=what_it_is] ...")
    report.write("bench-pack", sizes(pairs) + "\n" + update(*pairs[0][:2]))


if __name__ == "__main__":
    main()
