"""Compressed images: the format that boards unpack.

It is BGZF: members of gzip, that any gzip tool reads, each of which can be the first.
In the first member a subfield "WS" beside BGZF's own tells the base-2 logarithm of the window, and the size of it all.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from https_ota_tools import image
from https_ota_tools.errors import BadFileError, ToolError

WINDOW = 1024
WINDOWS = tuple(1 << bits for bits in range(9, 16))
# Boards go on at the beginning of a block. 65536 is a multiple of it: that is how often they note where they are.
BLOCK = 32768
# What unpacks to more fits no flash.
LIMIT = 256 << 20

_GZIP = b"\x1f\x8b"
_HEAD = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
# An empty member: so htslib tells a whole file from one that was cut off.
_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_EXTRA, _NAME, _COMMENT, _CRC = 4, 8, 16, 2


@dataclass(frozen=True)
class Unpacked:
    """What is in a compressed file. `window` is what a board needs for it; `total` what it says of itself, if it does."""

    data: bytes
    window: int
    blocks: int
    total: int | None


def is_packed(data: bytes) -> bool:
    """Return whether a file is compressed: by gzip, or by zlib in a way that no image looks like."""
    zlibs = len(data) > 2 and data[0] & 0x8F == 8 and not data[1] & 32
    return data.startswith(_GZIP) or (zlibs and int.from_bytes(data[:2], "big") % 31 == 0)


def open_checked(data: bytes) -> tuple[bytes | None, list[image.Check]]:
    """Return what is in a file, None if that can't be had, and the check of its being compressed, if it is."""
    if not is_packed(data):
        return data, []
    try:
        found = unpack(data)
    except BadFileError as e:
        return None, [image.Check("compression", image.Verdict.INVALID, str(e))]
    percent = 100 * len(data) / max(len(found.data), 1)
    detail = f"{len(data)} bytes, {percent:.1f} % of {len(found.data)}; "
    detail += f"{found.blocks} blocks, a window of {found.window} bytes"
    return found.data, [image.Check("compression", image.Verdict.VALID, detail)]


def content(data: bytes) -> bytes:
    """Return what is in a compressed file, any other file as it is. Raises BadFileError for a damaged one."""
    return unpack(data).data if is_packed(data) else data


def pack(data: bytes, window: int = WINDOW) -> bytes:
    """Return a compressed file of some data; it was unpacked and compared."""
    if window not in WINDOWS:
        raise ToolError(f"window: expected one of {', '.join(map(str, WINDOWS))}, got {window}")
    out = bytearray()
    for at in range(0, max(len(data), 1), BLOCK):
        out += _member(data[at : at + BLOCK], window, None if at else len(data))
    packed = bytes(out + _END)
    found = unpack(packed)
    if found.data != data or found.window != window or (found.total or 0) != len(data):
        raise ToolError("what was compressed does not unpack to what it was: this zlib is broken")
    return packed


def unpack(data: bytes) -> Unpacked:
    """Return what is in a compressed file, by the rules of a board. Raises BadFileError for a damaged one."""
    if not data.startswith(_GZIP):
        return _unpack_zlib(data)
    out = bytearray()
    at = blocks = 0
    window, total = 1 << 15, None
    while at < len(data):
        body, given, said = _parse_head(data, at)
        if blocks == 0:
            window, total = given or window, said or None
        piece, end = _inflate(data, body, 1 - window.bit_length(), len(out))
        if len(data) < end + 8:
            raise BadFileError(f"the compressed file ends early, after {len(data)} bytes")
        crc, size = struct.unpack_from("<II", data, end)
        if zlib.crc32(piece) != crc or len(piece) != size:
            raise BadFileError(f"the compressed file is damaged in the block at byte {at}")
        at = end + 8
        out += piece
        blocks += 1
    if total not in (None, len(out)):
        raise BadFileError(f"expected {total} bytes in the compressed file, came {len(out)}")
    return Unpacked(bytes(out), window, blocks, total)


def _member(data: bytes, window: int, total: int | None) -> bytes:
    bits = window.bit_length() - 1
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -bits, 9)
    body = squeeze.compress(data) + squeeze.flush()
    ours = b"" if total is None else struct.pack("<2sHBI", b"WS", 5, bits, total)
    size = len(_HEAD) + 2 + 6 + len(ours) + len(body) + 8
    head = _HEAD + struct.pack("<H2sHH", 6 + len(ours), b"BC", 2, size - 1) + ours
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def _parse_head(data: bytes, at: int) -> tuple[int, int | None, int | None]:
    """Return where a member's content begins, and, if it tells, the window and the size of it all."""
    bad = BadFileError(f"the compressed file has no block of gzip at byte {at}")
    head = data[at : at + 10]
    if len(head) < 10 or head[:3] != _GZIP + b"\x08" or head[3] & 0xE0:
        raise bad
    window = total = None
    at += 10
    if head[3] & _EXTRA:
        extra = data[at + 2 : at + 2 + int.from_bytes(data[at : at + 2], "little")]
        at += 2 + len(extra)
        while len(extra) > 4:
            size = int.from_bytes(extra[2:4], "little")
            if extra[:4] == b"WS\5\0" and len(extra) >= 9:
                bits, total = struct.unpack_from("<BI", extra, 4)
                window = 1 << min(max(bits, 8), 15)
            extra = extra[4 + size :]
    for flag in (_NAME, _COMMENT):
        if head[3] & flag:
            at = data.find(b"\0", at) + 1
            if not at:
                raise bad
    return at + (2 if head[3] & _CRC else 0), window, total


def _inflate(data: bytes, at: int, bits: int, before: int = 0) -> tuple[bytes, int]:
    """Inflate one stream; return what is in it and where it ends. `before`: bytes that others had in them."""
    stream = zlib.decompressobj(bits)
    try:
        out = stream.decompress(memoryview(data)[at:], LIMIT - before + 1)
    except zlib.error as e:
        raise BadFileError(f"the compressed file is damaged behind byte {at} ({e})") from e
    if len(out) > LIMIT - before:
        raise BadFileError(f"the compressed file has more than {LIMIT} bytes in it")
    if not stream.eof:
        raise BadFileError(f"the compressed file ends early, after {len(data)} bytes")
    return out, len(data) - len(stream.unused_data)


def _unpack_zlib(data: bytes) -> Unpacked:
    out, end = _inflate(data, 0, zlib.MAX_WBITS)
    if end < len(data):
        raise BadFileError(f"{len(data) - end} bytes are behind the compressed file's end")
    return Unpacked(out, 1 << ((data[0] >> 4) + 8), 1, None)
