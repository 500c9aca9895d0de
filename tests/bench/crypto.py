"""The table of what signatures and decryption cost: `make bench-crypto` writes it into README.md.

Times and instructions are those of the 32-bit SIM board on this computer, good for comparing one row with another;
instructions are counted by valgrind. Memory is the chip's: the smallest heap that does it, less the one that only loads.
"""

import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import built
import encfiles
import images
import keyfiles
import report
import simflash
from board import Board
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from https_ota_tools import keys as key_files
from https_ota_tools import sbv2

# Each takes n, how often it is done.
VERIFY = """
from esp32 import Partition
from https_ota.trust.signature import Signature
part = Partition("ota_1")
trusted = Signature({digest!r})
buf = bytearray(4096)
def run(n):
    for _ in range(n):
        for _ in trusted.check(part, buf, 0x180000):
            pass
"""
UNWRAP = """
import https_ota
key = {opener}
header = open("image.enc", "rb").read(512)
def run(n):
    for _ in range(n):
        key.begin(header)
        key.wipe()
"""
DECRYPT = """
from https_ota.trust.gcm import GCM
gcm = GCM(bytes(32), bytes(16))
buf = bytearray(4096)
def run(n):
    for _ in range(n * 256):
        gcm.decrypt(buf, 4096)
"""
SHA256 = """
from hashlib import sha256
sha = sha256()
buf = bytearray(4096)
def run(n):
    for _ in range(n * 256):
        sha.update(buf)
"""
TIME = """
import time
run(1)
best = 0
for _ in range(9):
    start = time.ticks_us()
    run(1)
    took = time.ticks_diff(time.ticks_us(), start)
    best = took if not best else min(best, took)
print(best)
"""


def instructions(board: Board, code: str) -> int:
    """Return how many instructions one run takes."""
    counts = []
    for n in (1, 2):
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
                *(built.interpreter("sim"), "-c", f"{code}\nrun({n})"),
            ],
            env={"SIM_FLASH": str(board.flash)},
            cwd=board.flash.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        counts.append(int(re.search(r"Collected : (\d+)", done.stderr)[1]))
    return counts[1] - counts[0]


def smallest_heap(board: Board, code: str) -> int:
    """Return the smallest heap, in KiB, that code runs in."""
    low, high = 16, 512
    while low < high:
        middle = (low + high) // 2
        done = subprocess.run(
            [built.interpreter("sim"), "-X", f"heapsize={middle}k", "-c", code],
            env={"SIM_FLASH": str(board.flash)},
            cwd=board.flash.parent,
            capture_output=True,
            check=False,
        )
        low, high = (low, middle) if done.returncode == 0 else (middle + 1, high)
    return low


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        keys = keyfiles.Keys(work)
        board = Board(simflash.make_flash(work / "flash.bin"))
        board.running()
        flash = board.flash.read_bytes()
        image = images.app_image(size=4000, version="2.0.0")
        cases = []
        for kind in keyfiles.KINDS:
            signed = sbv2.sign(image, [key_files.load_private(keys.private(kind))])
            content = flash[:0x190000] + signed + flash[0x190000 + len(signed) :]
            digest = keys.digests[kind]
            cases.append((f"verify {keyfiles.NAMES[kind]}", content, VERIFY.format(digest=digest)))
        for kind, what in (("rsa", "unwrap RSA-3072"), ("p256", "unwrap ECIES P-256")):
            public = load_pem_public_key(keys.public(kind).read_bytes())
            (work / f"{kind}.enc").write_bytes(encfiles.write(image, public))
            code = UNWRAP.format(opener=keys.opener(kind)).replace("image.enc", f"{kind}.enc")
            cases.append((what, flash, code))
        cases.append(("decrypt and authenticate 1 MiB (AES-256-GCM)", flash, DECRYPT))
        cases.append(("for comparison: SHA-256 of 1 MiB", flash, SHA256))
        rows = []
        for what, content, code in cases:
            board.flash.write_bytes(content)
            took = statistics.median(int(board.run(code + TIME)) for _ in range(3)) / 1000
            count = instructions(board, code) if shutil.which("valgrind") else 0
            heap = smallest_heap(board, code + "run(1)") - smallest_heap(board, code)
            counted = f"{count / 1e6:.1f} M" if count else "no valgrind here"
            rows.append([what, f"{took:.1f} ms", counted, f"{heap} KiB"])
        report.write(
            "bench-crypto", report.table(["what", "time", "instructions", "heap needed"], rows)
        )


if __name__ == "__main__":
    main()
