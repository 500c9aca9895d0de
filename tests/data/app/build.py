"""Build the demo application: a real RISC-V ELF file, turned into an image by esptool.

The same arguments give the same bytes:

    python tests/data/app/build.py --version 1.1.0 -o build/demo/app-1.1.0.bin
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

GCC = "riscv64-unknown-elf-gcc"
HERE = Path(__file__).resolve().parent
DEFAULT_SIZE = 1_100_000

# Flash frequency; start of instruction RAM behind the flash cache, and of data RAM in another part of the same
# memory. Both chips map flash at 0x3C000000 (data) and 0x42000000 (instructions).
CHIPS = {"esp32c3": ("80m", 0x40380000, 0x3FC90000), "esp32c2": ("60m", 0x40380000, 0x3FCB0000)}


def payload(size: int, seed: int) -> bytes:
    """Return a table that compresses to about two thirds, as firmware does: text and noise in turns."""
    noise = hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)
    text = b"https_ota demo payload, version-independent part of every line\n"
    blocks = (noise[at : at + 128] + text for at in range(0, size, 128 + len(text)))
    return b"".join(blocks)[: size // 4 * 4]


def build_app(
    version: str = "1.0.0",
    *,
    size: int = DEFAULT_SIZE,
    chip: str = "esp32c3",
    project: str = "https_ota_demo",
    secure_version: int = 0,
    seed: int | None = None,
) -> bytes:
    """Return an application image.

    version, project: what the descriptor says, up to 31 letters, digits and any of "._+-".
    size: of the table in it, in bytes; the rest adds about 600.
    chip: one of CHIPS.
    seed: of the table; without one it depends on the version, so that two versions differ all over.

    Raises ValueError for a bad argument, RuntimeError if compiler or esptool is missing or fails.
    """
    for text in (version, project):
        if not re.fullmatch(r"[\w.+-]{1,31}", text, re.ASCII):
            raise ValueError(f"expected 1 to 31 letters, digits and any of '._+-', came {text!r}")
    if chip not in CHIPS:
        raise ValueError(f"chip {chip!r}: expected one of {', '.join(CHIPS)}")
    gcc = shutil.which(GCC)
    if gcc is None:
        raise RuntimeError(f"{GCC} is missing: install the Debian package gcc-riscv64-unknown-elf")
    if seed is None:
        seed = zlib.crc32(version.encode())
    frequency, iram, dram = CHIPS[chip]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "payload.bin").write_bytes(payload(size, seed))
        run(
            [
                gcc,
                *("-march=rv32imc", "-mabi=ilp32", "-Os", "-ffreestanding", "-fno-ident"),
                *("-nostdlib", "-nostartfiles", "-Wall", "-Wextra", "-Werror"),
                f'-DAPP_VERSION="{version}"',
                f'-DAPP_PROJECT="{project}"',
                f"-DAPP_SECURE_VERSION={secure_version}",
                f"-DAPP_SEED={seed}",
                *(
                    "-T",
                    str(HERE / "app.ld"),
                    f"-Wl,--defsym=iram_org={iram},--defsym=dram_org={dram}",
                ),
                *("-Wl,--build-id=none", "-s", str(HERE / "app.c"), "-o", "app.elf"),
            ],
            work,
        )
        run(
            [
                *(sys.executable, "-m", "esptool", "--chip", chip, "elf2image"),
                *("--flash-mode", "dio", "--flash-freq", frequency, "--flash-size", "4MB"),
                *("--elf-sha256-offset", "0xb0", "-o", "app.bin", "app.elf"),
            ],
            work,
        )
        return (work / "app.bin").read_bytes()


def run(command: list[str], cwd: Path) -> None:
    """Run a command, whose output matters only when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--size", type=int, default=DEFAULT_SIZE, help="of the table, default %(default)s"
    )
    parser.add_argument("--chip", choices=CHIPS, default="esp32c3")
    parser.add_argument("--project", default="https_ota_demo")
    parser.add_argument("--secure-version", type=int, default=0)
    parser.add_argument("--seed", type=int, help="of the table, default: made from the version")
    args = vars(parser.parse_args())
    output: Path = args.pop("output")
    try:
        image = build_app(**args)
    except (ValueError, RuntimeError) as e:
        parser.error(str(e))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(image)
    print(f"{output}: {len(image)} bytes")


if __name__ == "__main__":
    main()
