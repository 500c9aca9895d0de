"""Bytes of flash that the package takes when it is frozen: `make frozen`. Prints Markdown."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import fakeidf  # noqa: E402  they are found only now
import freezing  # noqa: E402

# One board for each architecture; what is frozen is the same on the others.
BOARDS = {"xtensawin": "ESP32_GENERIC_OTA", "rv32imc": "ESP32_GENERIC_C3_OTA"}


def main() -> None:
    """Freeze a board's manifest and upstream's; the package is the difference."""
    print(
        "| architecture | modules | package, bytes | upstream's own modules without micropython-lib, bytes |"
    )
    print("|---|---|---|---|")
    for arch, board in BOARDS.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            seen = fakeidf.configure(folder, board)
            manifest = Path(seen["MICROPY_FROZEN_MANIFEST"])
            gen_dir = Path(seen["MICROPY_MANIFEST_GEN_DIR"])
            full = freezing.freeze(folder / "full", manifest, arch, board, gen_dir)
            bare = freezing.freeze(
                folder / "bare", fakeidf.PORT / "boards/manifest.py", arch, board, gen_dir
            )
        modules = len(full.names) - len(bare.names)
        print(f"| {arch} | {modules} | {full.size - bare.size} | {bare.size} |")


if __name__ == "__main__":
    main()
