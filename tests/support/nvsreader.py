"""Reads an NVS partition strictly, independent of the SIM board's own code."""

import struct
import zlib

PAGE = 4096
U8, I32, STRING, BLOB_DATA, BLOB_INDEX = 0x01, 0x14, 0x21, 0x42, 0x48
ACTIVE, FULL = 0xFFFFFFFE, 0xFFFFFFFC

Values = dict[str, dict[str, int | bytes]]


def crc(*parts: bytes) -> int:
    return zlib.crc32(b"".join(parts), 0xFFFFFFFF)


def read(partition: bytes) -> Values:
    """Return {namespace: {key: value}}; raise AssertionError for what a clean partition has not."""
    items = [item for page in _pages(partition) for item in _items(page)]
    names = {value[0]: key for ns, kind, _, key, value, _ in items if ns == 0 and kind == U8}
    assert len(names) == len(set(names.values()))
    found: Values = {name: {} for name in names.values()}
    chunks = {}
    for ns, kind, chunk, key, _, data in items:
        if kind == BLOB_DATA:
            assert (ns, key, chunk) not in chunks, "a chunk is there twice"
            chunks[ns, key, chunk] = data
    for ns, kind, chunk, key, value, data in items:
        if ns == 0 or kind == BLOB_DATA:
            continue
        assert chunk == 0xFF
        assert key not in found[names[ns]], "a key is there twice"
        if kind == I32:
            found[names[ns]][key] = struct.unpack_from("<i", value)[0]
        elif kind == BLOB_INDEX:
            size, count, start = struct.unpack_from("<IBB", value)
            blob = b"".join(chunks.pop((ns, key, start + i)) for i in range(count))
            assert len(blob) == size
            found[names[ns]][key] = blob
        else:
            found[names[ns]][key] = data if kind == STRING else value[: kind & 15]
    assert not chunks, "chunks without an index"
    return found


def _pages(partition):
    """Return the pages in the order in which they were begun."""
    pages = {}
    for at in range(0, len(partition), PAGE):
        page = partition[at : at + PAGE]
        state, seq, version, header_crc = struct.unpack_from("<IIB19xI", page)
        if state == 0xFFFFFFFF or header_crc != crc(page[4:28]):
            continue  # free: blank, or torn and to be erased before its next use
        assert state in (ACTIVE, FULL)
        assert version == 0xFE
        assert seq not in pages
        pages[seq] = page
    assert len(pages) < len(partition) // PAGE, "no page is free"
    in_order = [pages[seq] for seq in sorted(pages)]
    states = [struct.unpack_from("<I", page)[0] for page in in_order]
    assert all(state == FULL for state in states[:-1])
    return in_order


def _items(page):
    """Yield (namespace, kind, chunk, key, value, data) of each item."""
    table = int.from_bytes(page[32:64], "little")
    states = [table >> 2 * i & 3 for i in range(126)]
    i = 0
    while i < 126:
        assert states[i] in (0, 2, 3)
        if states[i] != 2:
            i += 1
            continue
        entry = page[64 + 32 * i : 96 + 32 * i]
        ns, kind, span, chunk, entry_crc, raw = struct.unpack_from("<BBBBI16s", entry)
        assert entry_crc == crc(entry[:4], entry[8:])
        assert states[i : i + span] == [2] * span
        value = entry[24:]
        data = b""
        if kind in (STRING, BLOB_DATA):
            size, data_crc = struct.unpack("<HxxI", value)
            data = page[96 + 32 * i :][:size]
            assert span == 1 + (size + 31) // 32
            assert data_crc == crc(data)
        else:
            assert span == 1
        yield ns, kind, chunk, raw.rstrip(b"\0").decode(), value, data
        i += span
