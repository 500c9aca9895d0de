"""Application images of any chip, made of bytes alone: small, and with every field a parameter.

Independent of esptool and of the device code, which are both checked against it.
"""

import functools
import hashlib
import importlib.util
import operator
import random
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

DESC_OFFSET = 0x20
RAM = 0x3FFE0000
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
    like_code: bool = False,
) -> bytes:
    """Return an application image of exactly `size` bytes, or up to 15 less, as it ends on a multiple of 16.

    The same seed gives the same content; with `like_code` it can be compressed as code can, to two thirds. Revisions are
    major * 100 + minor. See corrupt() for bad ones.
    """
    told = (chip_id, size, seed, secure_version, version, project, idf_ver, min_rev, max_rev)
    elf_sha256 = hashlib.sha256(repr(told).encode()).digest()
    desc = struct.pack(
        "<II8x32s32s16s16s32s32sHHBB74x",
        *(0xABCD5432, secure_version, version.encode(), project.encode()),
        *(b"12:00:00", b"Jan  1 2026", idf_ver.encode(), elf_sha256),
        *(0, 99, 16, 0),
    )
    drom = dict(DROM.values()).get(chip_id, 0x3C000000) + 0x20
    tail = 4 + (32 if hash_appended else 0)
    room = size // 16 * 16 - tail - 24 - 8 - len(desc) - 8 - RAM_BYTES
    if room < 0:
        raise ValueError(f"no image is as small as {size} bytes")
    noise = hashlib.shake_128(seed.to_bytes(8, "little")).digest(room)
    if like_code:
        noise = noise.translate(bytes(i**4 >> 27 for i in range(256)))
    return image(
        [(drom, desc + noise), (RAM, bytes(range(RAM_BYTES)))],
        chip_id=chip_id,
        min_rev=min_rev,
        max_rev=max_rev,
        hash_appended=hash_appended,
        spi_mode=spi_mode,
    )


def changed(content: bytes, seed: int, version: str = "2.0.0", places: int = 40) -> bytes:
    """Return an image of these bytes, changed as by a later build: pieces moved, numbers changed all over, new ones."""
    rand = random.Random(seed)
    body = bytearray(content)
    for _ in range(places):
        at = rand.randrange(0, len(body) - 700)
        what = rand.randrange(3)
        if what == 0:
            body[at:at] = rand.randbytes(rand.randrange(1, 200))
        elif what == 1:
            del body[at : at + rand.randrange(1, 60)]
        else:
            for i in range(at, at + 600, 24):
                body[i] = (body[i] + 4) & 255
    desc = app_image(version=version, seed=seed)[32 : 32 + 256]
    body = (desc + body)[: len(body) + 256 & ~3]
    return image([(0x3C000020, bytes(body)), (0x3FFE0000, bytes(64))], chip_id=5)


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
    """Return an image with these segments: (load address, data). Nothing is checked or filled up."""
    out = bytearray(struct.pack("<BBBBI", 0xE9, len(segments), spi_mode, 0x20, 0x40380000))
    out += struct.pack("<BBBBHBHH4xB", 0xEE, 0, 0, 0, chip_id, 0, min_rev, max_rev, hash_appended)
    for load_addr, data in segments:
        out += struct.pack("<II", load_addr, len(data)) + data
    return seal(out)


def seal(head: bytes) -> bytes:
    """Return an image with checksum and, if its header says so, hash made anew.

    `head` needs all segments; what is behind the last one is replaced. For tests that change bytes.
    """
    checksum = 0xEF
    end = 24
    for _ in range(head[1]):
        start, end = end + 8, end + 8 + int.from_bytes(head[end + 4 : end + 8], "little")
        checksum = functools.reduce(operator.xor, head[start:end], checksum)
    out = head[:end] + bytes(15 - end % 16) + bytes([checksum])
    return bytes(out + hashlib.sha256(out).digest() if head[23] == 1 else out)


def corrupt(image: bytes, what: str) -> bytes:
    """Return an image with one thing wrong; all that doesn't depend on it stays right.

    "magic": the first byte. "chip": a chip id that no chip has. "segment count": 17. "segment size": the
    first segment is longer than the file. "descriptor": its mark. "data": a bit in the middle of the image.
    "checksum": the checksum; the hash fits to it. "hash": the last bit of it. "cut": the last byte is missing.
    """
    out = bytearray(image)
    digest_at = len(out) - 32 if out[23] == 1 else len(out)
    if what == "magic":
        out[0] ^= 1
    elif what == "chip":
        out[12:14] = b"\xfe\xff"
        return seal(out)
    elif what == "segment count":
        out[1] = 17
    elif what == "segment size":
        out[28:32] = len(out).to_bytes(4, "little")
    elif what == "descriptor":
        out[DESC_OFFSET] ^= 1
        return seal(out)
    elif what == "data":
        out[len(out) // 2] ^= 0x10
    elif what == "checksum":
        out[digest_at - 1] ^= 1
        out[digest_at:] = hashlib.sha256(out[:digest_at]).digest() if out[23] == 1 else b""
    elif what == "hash" and out[23] == 1:
        out[-1] ^= 1
    elif what == "cut":
        out.pop()
    else:
        raise ValueError(f"can't corrupt {what!r} of this image")
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
