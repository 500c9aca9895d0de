"""The kinds of files that an image may come in, and what of them is where."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator

import detools

from https_ota_tools import delta, packed


def espressifs(old: bytes, new: bytes) -> bytes:
    """The delta that esp_delta_ota's generator makes."""
    patch = io.BytesIO()
    detools.create_patch(io.BytesIO(old), io.BytesIO(new), patch, compression="heatshrink")
    return delta.MAGIC + old[-32:] + bytes(28) + patch.getvalue()


def bare(old: bytes, new: bytes) -> bytes:
    """A delta that is not compressed."""
    return packed.unpack(delta.make(old, new)).data


MAKE = {
    "plain": lambda old, new: new,
    "packed": lambda old, new: packed.pack(new),
    "gzip": lambda old, new: gzip.compress(new),
    "zlib": lambda old, new: zlib.compress(new),
    "delta": delta.make,
    "bare delta": bare,
    "esp_delta_ota": espressifs,
}


def filled(data: bytes, size: int) -> bytes:
    """A packed file that has `size` bytes, by empty members with extra fields at its end."""
    while left := size - len(data):
        extra = left - 22 if left <= 600 else 500
        if extra < 0:
            raise ValueError(f"there is no member of {left} bytes")
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", extra)
        data += head + bytes(extra) + b"\x03\0" + bytes(8)
    return data


def regions(data: bytes) -> Iterator[tuple[str, int, int]]:
    """What is where in a file of any of these kinds: (name, first byte, one past the last)."""
    if data.startswith(b"\x1f\x8b"):
        at = 0
        while at < len(data):
            body = at + 10
            yield "header", at, body
            if data[at + 3] & 4:
                body += 2 + int.from_bytes(data[body : body + 2], "little")
                yield "extra field", at + 10, body
            stream = zlib.decompressobj(-15)
            stream.decompress(data[body:])
            end = len(data) - len(stream.unused_data)
            yield "deflate", body, end
            yield "CRC", end, end + 4
            yield "ISIZE", end + 4, end + 8
            at = end + 8
    elif data.startswith(delta.MAGIC):
        yield "delta's magic", 0, 4
        yield "base", 4, 36
        yield "made", 36, 64
        size = 66
        while data[size - 1] & 128:
            size += 1
        yield "kind", 64, 65
        yield "size", 65, size
        yield "data's first", size, size + 40
        yield "data", size + 40, len(data)
    elif data[0] == 0xE9:
        yield "image", 0, len(data)
    else:
        yield "zlib's header", 0, 2
        yield "deflate", 2, len(data) - 4
        yield "Adler-32", len(data) - 4, len(data)
