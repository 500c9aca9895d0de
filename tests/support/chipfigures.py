"""What updates took on a board: a line each, and the table of `make test-chip` in boards/README.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

from built import ROOT

from https_ota_tools import partition

sys.path.append(str(ROOT / "tests" / "bench"))
import report

README = ROOT / "boards" / "README.md"
TITLES = (
    *("case", "time", "KB/s", "requests"),
    *("heap free before", "in it", "after", "ESP-IDF's before", "in it", "after"),
)


def row(case: str, size: int, requests: int, said: dict) -> tuple[str, ...]:
    """Return what a board says of an update as texts below TITLES."""
    seconds = said["ms"] / 1000
    case += f", others wait {said['late']} ms at most" if said["late"] else ""
    rate = f"{size / 1024 / seconds:.0f}" if said["version"] and seconds else ""
    free = [["", ""] if pair is None else pair for pair in said["free"]]
    heaps = [f"{pair[i]:,}" if pair[i] else "" for i in (0, 1) for pair in free]
    return (case, f"{seconds:.1f} s", rate, str(requests or ""), *heaps)


def _firmware(build: Path, name: str) -> list[str]:
    size = (build / "micropython.bin").stat().st_size
    table = partition.decode((build / "partition_table" / "partition-table.bin").read_bytes())
    slot = min(p.size for p in partition.ota_slots(table))
    tls_in = re.search(r"SSL_IN_CONTENT_LEN=(\d+)", (build / "sdkconfig").read_text())
    assert tls_in
    return [name, f"{int(tls_in[1]):,} B", f"{size:,} B", f"{size / slot:.1%}"]


def write(
    builds: dict[str, Path], micropython: str, idf: str, rows: list[tuple[str, ...]]
) -> None:
    """Put the table into the manual. `builds` are the folders of the firmwares that were run, by version."""
    qemu = os.environ.get("QEMU") or "qemu-system-riscv32"
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\S+)", said)
    compiler = next(iter(builds.values())).glob("CMakeFiles/*/CMakeCCompiler.cmake")
    gcc = re.search(r'CMAKE_C_COMPILER_VERSION "([^"]+)"', next(compiler).read_text())
    assert found and gcc
    text = (
        f"ESP32_C3_QEMU_OTA (no Wi-Fi, no Bluetooth) of MicroPython {micropython} and ESP-IDF {idf}, compiled by gcc {gcc[1]}\n"
        f"and **run in an emulator**: QEMU {found[1]}'s esp32c3 at 125 MIPS, whose flash and network take no time.\n\n"
    )
    sizes = [_firmware(build, version) for version, build in builds.items()]
    text += report.table(["firmware", "TLS input buffer", "micropython.bin", "of its slot"], sizes)
    done = [list(r) for r in rows if not r[0].startswith("refused")]
    text += "\n" + report.table(list(TITLES), done)
    report.write("test-chip", text, README)
