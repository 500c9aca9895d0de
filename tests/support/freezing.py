"""Freezes a board's manifest to C with upstream's own tools, as its build does."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import built
from fakeidf import MPY, PORT

XTENSA = ("", "esp32", "esp32s2", "esp32s3")  # of the ESP32 upstream's boards need not say it


@dataclass
class Frozen:
    """What came out: names of modules, bytes in flash, the .mpy files' folder."""

    names: list
    size: int
    mpy: Path


def arch(seen: dict) -> str:
    """mpy-cross's name for the chip of what was configured."""
    return "xtensawin" if seen["IDF_TARGET"] in XTENSA else "rv32imc"


def library(folder: Path) -> Path:
    """Stand-in for micropython-lib, whose files are not here: empty packages of the names upstream asks for."""
    manifests = PORT.glob("boards/**/manifest.py")
    names = {n for p in manifests for n in re.findall(r'^require\("(.*)"\)', p.read_text(), re.M)}
    for name in names:
        package = folder / "python-ecosys" / name
        package.mkdir(parents=True, exist_ok=True)
        (package / "manifest.py").write_text('metadata(version="0")\n')
    return folder


def variables(folder: Path, seen: dict) -> dict:
    """What py/mkrules.cmake gives to manifests."""
    mine = {k.removeprefix("MICROPY_MANIFEST_"): v for k, v in seen.items() if "_MANIFEST_" in k}
    return mine | {
        "PORT_DIR": str(PORT),
        "BOARD_DIR": seen["MICROPY_BOARD_DIR"],
        "MPY_DIR": str(MPY),
        "MPY_LIB_DIR": str(library(folder / "lib")),
    }


def names(folder: Path, seen: dict) -> list[str]:
    """The modules that would be frozen, without doing it."""
    sys.path.insert(0, str(MPY / "tools"))
    try:
        import manifestfile
    finally:
        sys.path.pop(0)
    manifest = manifestfile.ManifestFile(manifestfile.MODE_FREEZE, variables(folder, seen))
    manifest.execute(seen["MICROPY_FROZEN_MANIFEST"])
    return [file.target_path for file in manifest.files()]


def freeze(folder: Path, seen: dict) -> Frozen:
    """Run makemanifest.py as py/mkrules.cmake does for what was configured."""
    # What the interpreter has in strings anyway; the SIM board's stand for the chip's.
    (folder / "genhdr").mkdir(parents=True)
    strings = built.FOLDER / "sim" / "genhdr" / "qstrdefs.preprocessed.h"
    shutil.copy(strings, folder / "genhdr")
    out = folder / "frozen_content.c"
    command = [sys.executable, MPY / "tools/makemanifest.py", "-o", out, "-b", folder]
    for name, value in variables(folder, seen).items():
        command += ["-v", f"{name}={value}"]
    command += [f"-f-march={arch(seen)}", "--mpy-tool-flags=", seen["MICROPY_FROZEN_MANIFEST"]]
    env = os.environ | {"MICROPY_MPYCROSS": str(built.MPY_CROSS)}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = out.read_text()
    frozen_names = text.split("const char mp_frozen_names[]", 1)[1].split("};", 1)[0]
    found = re.findall(r'"([^"]*\.py)\\0"', frozen_names)
    # mpy-tool's own sum leaves machine code out.
    native = re.findall(r"^// frozen native code for .*\n[^\n]*\[(\d+)\]", text, re.MULTILINE)
    total = int(re.findall(r"^total: (\d+)", text, re.MULTILINE)[-1])
    return Frozen(found, total + sum(map(int, native)), folder / "frozen_mpy")


def bare(seen: dict) -> dict:
    """What the board freezes without us."""
    return seen | {"MICROPY_FROZEN_MANIFEST": seen["MICROPY_MANIFEST_FROZEN_MANIFEST"]}
