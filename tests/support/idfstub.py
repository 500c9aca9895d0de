"""The idf.py of fakeidf: hands its words to cmake, and leaves behind what a build does.

Of the manifest the names alone are "frozen", by the rule of upstream's makemanifest.py: only when a module is younger than
frozen_content.c.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fakeidf
import freezing
import manifestfile

from https_ota_tools import partition


def main(log: str, drop: tuple[str, ...], size: int) -> None:
    """Be called as idf.py is; firmware is `size` bytes and the names of what is frozen, settings in `drop` get lost."""
    words = sys.argv[1:]
    options: dict[str, list[str]] = {"-C": [], "-B": [], "-D": [], "-p": []}
    while words and words[0] in options:
        options[words.pop(0)].append(words.pop(0))
    with Path(log).open("a") as f:
        f.write(json.dumps([words, options]) + "\n")
    if words != ["build"]:
        return
    build = Path(*options["-B"])
    given = [f"-D{d}" for d in options["-D"]]
    subprocess.run(["cmake", "-S", *options["-C"], "-B", build, *given], check=True)
    names = _freeze(build)
    (build / "micropython.bin").write_bytes("\0".join(names).encode() + bytes(size))
    sdkconfig = build / "sdkconfig"
    if not sdkconfig.exists():
        values = fakeidf.handed(build)["sdkconfig"]
        for name in drop:
            values.pop(name.removeprefix("CONFIG_"), None)
        lines = [
            f"# CONFIG_{n} is not set" if v in ("", "n") else f"CONFIG_{n}={v}"
            for n, v in values.items()
        ]
        sdkconfig.write_text("\n".join(lines) + "\n")
    table = re.search(
        '^CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="(.*)"$', sdkconfig.read_text(), re.MULTILINE
    )
    assert table
    binary = build / "partition_table" / "partition-table.bin"
    binary.parent.mkdir(exist_ok=True)
    binary.write_bytes(partition.encode(partition.read_csv(Path(table[1]).read_text())))


def _freeze(build: Path) -> list[str]:
    seen = fakeidf.handed(build)
    manifest = manifestfile.ManifestFile(manifestfile.MODE_FREEZE, freezing.variables(build, seen))
    manifest.execute(seen["MICROPY_FROZEN_MANIFEST"])
    files = manifest.files()
    frozen = build / "frozen_content.c"
    newest = max(f.timestamp for f in files)
    if not frozen.exists() or newest >= os.path.getmtime(frozen):
        rows = "".join(f'    "{f.target_path}\\0"\n' for f in files)
        frozen.write_text(f"const char mp_frozen_names[] = {{\n{rows}}};\n")
    return re.findall(r'"(.*)\\0"', frozen.read_text())
