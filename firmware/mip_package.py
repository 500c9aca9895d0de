"""Writes what mip installs: `make package`. What belongs to it is said by lib/manifest.py alone.

python3 firmware/mip_package.py [--mpy-cross FILE] [-o FOLDER] [ARCH ...]

For each architecture (`py` is the source) a folder that any web server may have: the package as .mpy files, package.json
that installs all of it, core.json the core and SLICE.json the core and that slice. Without ARCH it is package.json in the
checkout that is written, for `mpremote mip install package.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIB = ROOT / "lib"


class _Options:
    """What manifestfile.py gives a manifest to read its options from."""

    without = None

    def __init__(self, slices: str | None) -> None:
        self.slices = slices

    def defaults(self, slices: str) -> None:
        if self.slices is None:
            self.slices = slices


def manifest(slices: str | None = None) -> dict[str, Any]:
    """Run lib/manifest.py; return its names, with `files` for those of the package and `version`."""
    found: dict[str, Any] = {}
    names: dict[str, Any] = {
        "metadata": lambda **given: found.update(version=given["version"]),
        "options": _Options(slices),
        "package": lambda _, files: found.update(files=files),
    }
    before = Path.cwd()
    os.chdir(LIB)
    try:
        exec(compile((LIB / "manifest.py").read_text(), "lib/manifest.py", "exec"), names)
    finally:
        os.chdir(before)
    return names | found


def listing(files: list[str], folder: str, suffix: str = ".py") -> str:
    """Return the package.json of these files, which lie in a folder beside it."""
    names = [f"https_ota/{name.removesuffix('.py')}{suffix}" for name in sorted(files)]
    rows = ",\n".join(f'    ["{name}", "{folder}{name}"]' for name in names)
    version = json.dumps(manifest()["version"])
    return f'{{\n  "version": {version},\n  "urls": [\n{rows}\n  ],\n  "deps": []\n}}\n'


def compile_into(folder: Path, arch: str, mpy_cross: Path, files: list[str] | None = None) -> None:
    """Put the package into a folder, compiled; all of it, or these files."""
    for name in files or manifest()["files"]:
        source = LIB / "https_ota" / name
        out = folder / "https_ota" / name
        out.parent.mkdir(parents=True, exist_ok=True)
        if arch == "py":
            shutil.copyfile(source, out)
            continue
        command = [mpy_cross, f"-march={arch}", "-s", f"https_ota/{name}"]
        subprocess.run([*command, "-o", out.with_suffix(".mpy"), source], check=True)


def write(folder: Path, arch: str, mpy_cross: Path) -> None:
    """Make the folder that mip installs from anew."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    compile_into(folder, arch, mpy_cross)
    suffix = ".py" if arch == "py" else ".mpy"
    names: dict[str, str | None] = {"package": None, "core": ""}
    names |= {name: name for name in manifest()["SLICES"] if name != "core"}
    for name, slices in names.items():
        text = listing(manifest(slices)["files"], "", suffix)
        (folder / f"{name}.json").write_text(text)


def main() -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arch", nargs="*", help="as mpy-cross calls it, or py")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "mip")
    parser.add_argument(
        "--mpy-cross", type=Path, default=ROOT / "build" / "mpy-cross" / "mpy-cross"
    )
    args = parser.parse_args()
    (ROOT / "package.json").write_text(listing(manifest()["files"], "lib/"))
    for arch in args.arch:
        write(args.output / arch, arch, args.mpy_cross)
        size = sum(p.stat().st_size for p in (args.output / arch).rglob("*") if p.is_file())
        print(f"{args.output / arch}: {size} bytes")


if __name__ == "__main__":
    main()
