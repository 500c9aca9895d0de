"""What the tests run on: one MicroPython, and what make built of it.

It is the version that firmware/versions.mk pins, or that of `make test MPY_DIR=/its/checkout`. By hand, MPY_BUILD in the
environment names the folder: `MPY_BUILD=build/mpy-1.26.1 pytest tests/unit`.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / os.environ.get("MPY_BUILD", "build")
MADE_WITH = FOLDER / "made-with"

if not MADE_WITH.exists():
    raise FileNotFoundError(f"{MADE_WITH} is not there: run `make setup` before the tests")
VERSION_TEXT, _, _source = MADE_WITH.read_text().strip().partition(" ")
# The checkout.
SOURCE = Path(_source)
VERSION = tuple(int(n) for n in VERSION_TEXT.partition("-")[0].split("."))

_versions = (ROOT / "firmware" / "versions.mk").read_text()
PINNED = re.search(r"^HOST_MPY *:= (\S+)$", _versions, re.MULTILINE)[1]
IS_PINNED = VERSION_TEXT == PINNED

MPY_CROSS = FOLDER / "mpy-cross" / "mpy-cross"
RV32_FIRMWARE = FOLDER / "rv32" / "firmware.elf"


def interpreter(name: str) -> Path:
    """The SIM board's interpreter: sim, sim-tls4k or sim64."""
    return FOLDER / name / "micropython"
