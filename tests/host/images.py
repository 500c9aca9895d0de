"""Application images of any chip, made of bytes alone: small, and with every field a parameter.

Independent of esptool and of the device code, which are both checked against it.
"""

import functools
import hashlib
import importlib.util
import operator
import struct
from pathlib import Path

# Chip ids, as in byte 12 of an image, and where the chip maps the flash for reading data.
DROM = {
    "esp32": (0, 0x3F400000),
    "esp32s2": (2, 0x3F000000),
    "esp32c3": (5, 0x3C000000),
    "esp32s3": (9, 0x3C000000),
    "esp32c2": (12, 0x3C000000),
    "esp32c6": (13, 0x42800000),
    "esp32h2": (16, 0x42800000),
    "esp32p4": (18, 0x40000000),
    "esp32c61": (20, 0x42800000),
    "esp32c5": (23, 0x42000000),
}
CHIP_IDS = {name: chip_id for name, (chip_id, _) in DROM.items()}
# Where the first bootloader of a chip is in flash, 0 on all others.
BOOTLOADER_OFFSETS = {0: 0x1000, 2: 0x1000, 18: 0x2000, 23: 0x2000}

RAM = 0x3FCA0000
RAM_BYTES = 64


def app_image(
    *,
    chip_id: int = CHIP_IDS["esp32c3"],
    size: int = 20000,
    seed: int = 0,
    secure_version: int = 0,
    version: str = "1.0.0",
    project: str = "test",
    idf_ver: str = "v5.5.2",
    min_rev: int = 0,
    max_rev: int = 0xFFFF,
    hash_appended: bool = True,
    spi_mode: int = 2,
) -> bytes:
    """Return an application image of exactly `size` bytes, or up to 15 less, as it ends on a multiple of 16."""
    desc = struct.pack(
        "<II8x32s32s16s16s32s32sHHBB74x",
        *(0xABCD5432, secure_version, version.encode(), project.encode()),
        *(b"12:00:00", b"Jan  1 2026", idf_ver.encode(), bytes(range(32))),
        *(0, 99, 16, 0),
    )
    drom = dict(DROM.values()).get(chip_id, 0x3C000000) + 0x20
    tail = 4 + (32 if hash_appended else 0)
    room = size // 16 * 16 - tail - 24 - 8 - len(desc) - 8 - RAM_BYTES
    if room < 0:
        raise ValueError(f"no image is as small as {size} bytes")
    noise = hashlib.shake_128(seed.to_bytes(8, "little")).digest(room)
    return image(
        [(drom, desc + noise), (RAM, bytes(range(RAM_BYTES)))],
        chip_id=chip_id,
        min_rev=min_rev,
        max_rev=max_rev,
        hash_appended=hash_appended,
        spi_mode=spi_mode,
    )


def bootloader_image(chip_id: int = CHIP_IDS["esp32c3"]) -> bytes:
    """Return something that passes for a bootloader: all in RAM, with a bootloader descriptor first."""
    desc = struct.pack("<B3xI32s24s16x", 80, 1, b"v5.5.2", b"Jan  1 2026 12:00:00")
    return image([(RAM, desc + bytes(2000))], chip_id=chip_id)


def image(
    segments: list[tuple[int, bytes]],
    *,
    chip_id: int,
    min_rev: int = 0,
    max_rev: int = 0xFFFF,
    hash_appended: bool = True,
    spi_mode: int = 2,
) -> bytes:
    """Return an image with these segments: (load address, data)."""
    out = bytearray(struct.pack("<BBBBI", 0xE9, len(segments), spi_mode, 0x20, 0x40380000))
    out += struct.pack("<BBBBHBHH4xB", 0xEE, 0, 0, 0, chip_id, 0, min_rev, max_rev, hash_appended)
    checksum = 0xEF
    for load_addr, data in segments:
        out += struct.pack("<II", load_addr, len(data)) + data
        checksum = functools.reduce(operator.xor, data, checksum)
    out += bytes(15 - len(out) % 16) + bytes([checksum])
    if hash_appended:
        out += hashlib.sha256(out).digest()
    return bytes(out)


def combined_image(app: bytes, table: bytes, app_offset: int = 0x10000) -> bytes:
    """Return what MicroPython's build calls firmware.bin: from the bootloader's place in flash to the app's end."""
    chip_id = int.from_bytes(app[12:14], "little")
    start = BOOTLOADER_OFFSETS.get(chip_id, 0)
    out = bootloader_image(chip_id).ljust(0x8000 - start, b"\xff") + table
    return out.ljust(app_offset - start, b"\xff") + app


def demo_app(version: str = "1.0.0", **options: object) -> bytes:
    """Return the demo application, compiled: see build_app() in tests/data/app/build.py for the options."""
    path = Path(__file__).parents[1] / "data" / "app" / "build.py"
    spec = importlib.util.spec_from_file_location("demo_app_build", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result: bytes = module.build_app(version, **options)
    return result
