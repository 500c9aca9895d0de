# Application images made of nothing, and streams to read them from; shared by the tests.

from hashlib import sha256
from struct import pack

DROM = 0x3C000020  # where data segments are seen in memory; the flash page offset fits a first segment
RAM = 0x3FCA0000


@micropython.viper
def _fill(out: ptr8, n: int, x: int):
    for i in range(n):
        x = (x * 1021 + 12345) & 0xFFFFF
        out[i] = x >> 9


@micropython.viper
def _xor(data: ptr8, n: int) -> int:
    x = 0
    for i in range(n):
        x ^= data[i]
    return x


def noise(n, seed=1):
    """n bytes that do not repeat early; the same for the same seed."""
    out = bytearray(n)
    _fill(out, n, seed * 40503 & 0xFFFFFF | 1)
    return bytes(out)


def descriptor(version="1.2.3", project="test", secure_version=0, desc_spi_mode=0):
    """esp_app_desc_t, 256 bytes."""
    return pack(
        "<II8x32s32s16s16s32s32sHHBB74x",
        *(0xABCD5432, secure_version, version.encode(), project.encode()),
        *(b"12:34:56", b"Jan  2 2026", b"v5.5.2", bytes(range(32))),
        *(0, 99, 16, desc_spi_mode),
    )


def header(segments, chip_id=5, min_rev=0, max_rev=65535, spi_mode=2, hashed=1):
    """esp_image_header_t, 24 bytes."""
    return pack("<BBBBI", 0xE9, segments, spi_mode, 0x20, 0x40380000) + pack(
        "<BBBBHBHH4xB", 0xEE, 0, 0, 0, chip_id, 0, min_rev, max_rev, hashed
    )


def build(sizes, seed=1, hashed=1, desc=None, **fields):
    """An image with segments of these sizes, the first of which begins with a descriptor."""
    out = bytearray(header(len(sizes), hashed=hashed, **fields))
    checksum = 0xEF
    for i, size in enumerate(sizes):
        data = noise(size, seed + i)
        if i == 0:
            data = ((desc or descriptor()) + data)[:size]
        out += pack("<II", RAM if i else DROM, size) + data
        checksum ^= _xor(data, len(data))
    out += bytes(15 - len(out) % 16) + bytes([checksum])
    if hashed == 1:
        out += sha256(out).digest()
    return bytes(out)


def image(size=3000, **fields):
    """An image of two segments and `size` bytes, or up to 15 less: it ends on a multiple of 16."""
    tail = 36 if fields.get("hashed", 1) == 1 else 4
    return build((size // 16 * 16 - 24 - 8 - 8 - 64 - tail, 64), **fields)


def segment_starts(data):
    """Where each segment's header is, and where the data of the last ends."""
    at = 24
    starts = []
    for _ in range(data[1]):
        starts.append(at)
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return starts, at


def flip(data, at, bits=0x01):
    """`data` with these bits of byte `at` turned over."""
    out = bytearray(data)
    out[at] ^= bits
    return bytes(out)


class Stream:
    """A source of bytes that gives at most `step` of them a read; with `error`, that at the end instead of 0."""

    def __init__(self, data, step=None, error=None):
        self.data = data
        self.step = step
        self.error = error
        self.at = 0
        self.reads = 0

    def readinto(self, buf):
        self.reads += 1
        n = min(len(buf), len(self.data) - self.at)
        if self.step:
            n = min(n, self.step)
        if n == 0 and self.error:
            raise self.error
        buf[:n] = self.data[self.at : self.at + n]
        self.at += n
        return n
