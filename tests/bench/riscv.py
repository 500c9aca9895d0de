"""Instructions of an ESP32-C3's instruction set, counted by QEMU on the RV32 board, for `make bench`.

MicroPython's allocator and collector are among them.
"""

import tempfile
from pathlib import Path

import images
import rv32
import simflash

SIZES = 200_000, 600_000
# Each takes n bytes at once.
LOOPS = """
import time
from hashlib import sha256
from https_ota.hot import xor
from https_ota.trust import gcm
buf, stream, state, block = bytearray(4096), bytearray(4096), bytearray(272), bytearray(16)
state[144:160] = bytes(range(16))
gcm.table(state)
def cost(function, *args):
    function(*args)
    start = time.ticks_us()
    for _ in range(50):
        function(*args)
    return time.ticks_diff(time.ticks_us(), start) * 20
def key_stream():
    for at in range(0, 4096, 512):
        gcm.counters(stream, 512, block)
    gcm.xor(buf, 0, stream, 0, 4096)
print(cost(xor, buf, 0, 4096, 0), cost(gcm.absorb, state, 0, buf, 0, 4096), cost(key_stream), cost(sha256().update, buf))
"""
# From a file: there is no network here.
BARE = """
import time
from esp32 import Partition
from hashlib import sha256
file = open("/rom/{size}.bin", "rb")
start = time.ticks_us()
part = Partition(Partition.RUNNING).get_next_update()
buf = bytearray(4096)
sha = sha256()
i = 0
while file.readinto(buf):
    sha.update(buf)
    part.writeblocks(i, buf)
    i += 1
part.set_boot()
print(time.ticks_diff(time.ticks_us(), start))
"""
OURS = """
import time, https_ota
file = open("/rom/{size}.bin", "rb")
start = time.ticks_us()
https_ota.update(file)
print(time.ticks_diff(time.ticks_us(), start))
"""
NAMES = ("image's checksum", "GHASH", "counters and XOR of CTR", "for comparison: SHA-256")


def measure() -> dict[str, float]:
    """Return instructions a byte of each loop, and those of an update from a file over the bare loop's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flash = simflash.make_flash(folder / "flash.bin").read_bytes()
        rom = folder / "rom"
        rom.mkdir()
        for size in SIZES:
            image = images.app_image(size=size, version="2.0.0", seed=2)
            (rom / f"{size}.bin").write_bytes(image)
        with rv32.Machine(folder, flash, rv32.ALL_HEAP, counted=True) as machine:

            def slope(code: str) -> int:
                found = []
                for size in SIZES:
                    machine.restore_flash()
                    machine.run("")
                    start = machine.insert_rom(rom)
                    found.append(int(machine.run(start + code.format(size=size), timeout_s=300)))
                return found[1] - found[0]

            loops = machine.run(LOOPS, timeout_s=300).split()
            found = {
                f"RV32, instructions a byte, {what}": int(cost) / 4096
                for what, cost in zip(NAMES, loops, strict=True)
            }
            found["RV32, from a file, over the bare loop"] = slope(OURS) / slope(BARE)
    return found
