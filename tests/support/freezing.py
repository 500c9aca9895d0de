"""Freezes a board's manifest to C with upstream's own tools, as its build does."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import built
from fakeidf import MPY, PORT, ROOT

ARCH = {"esp32": "xtensawin", "esp32s3": "xtensawin", "esp32c3": "rv32imc", "esp32c6": "rv32imc"}


@dataclass
class Frozen:
    """What came out: names of modules, bytes in flash, the .mpy files' folder."""

    names: list
    size: int
    mpy: Path


def library(folder: Path) -> Path:
    """Stand-in for micropython-lib, whose files are not here: empty packages of the names upstream asks for."""
    names = re.findall(
        r'^require\("(.*)"\)', (PORT / "boards/manifest.py").read_text(), re.MULTILINE
    )
    for name in names:
        package = folder / "python-ecosys" / name
        package.mkdir(parents=True, exist_ok=True)
        (package / "manifest.py").write_text('metadata(version="0")\n')
    return folder


def freeze(folder: Path, manifest: Path, arch: str, board: str, gen_dir: Path) -> Frozen:
    """Run makemanifest.py with the variables that py/mkrules.cmake gives it."""
    # What the interpreter has in strings anyway; the SIM board's stand for the chip's.
    (folder / "genhdr").mkdir(parents=True)
    strings = built.FOLDER / "sim" / "genhdr" / "qstrdefs.preprocessed.h"
    shutil.copy(strings, folder / "genhdr")
    variables = {
        "PORT_DIR": PORT,
        "BOARD_DIR": ROOT / "boards" / board,
        "MPY_DIR": MPY,
        "MPY_LIB_DIR": library(folder / "lib"),
        "GEN_DIR": gen_dir,
    }
    out = folder / "frozen_content.c"
    command = [sys.executable, MPY / "tools/makemanifest.py", "-o", out, "-b", folder]
    for name, value in variables.items():
        command += ["-v", f"{name}={value}"]
    command += [f"-f-march={arch}", "--mpy-tool-flags=", manifest]
    env = os.environ | {"MICROPY_MPYCROSS": str(built.MPY_CROSS)}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = out.read_text()
    frozen_names = text.split("const char mp_frozen_names[]", 1)[1].split("};", 1)[0]
    names = re.findall(r'"([^"]*\.py)\\0"', frozen_names)
    # mpy-tool's own sum leaves machine code out.
    native = re.findall(r"^// frozen native code for .*\n[^\n]*\[(\d+)\]", text, re.MULTILINE)
    total = int(re.findall(r"^total: (\d+)", text, re.MULTILINE)[-1])
    return Frozen(names, total + sum(map(int, native)), folder / "frozen_mpy")
