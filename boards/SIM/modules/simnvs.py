# esp32.NVS of the SIM board: keys and values on the nvs partition, in the page format of ESP-IDF
# (version 2), with its order of writes, so that a power cut leaves what it leaves on a chip.
#
# A partition is a ring of pages of one sector. A page is a header, a table of two bits for each of
# 126 entries, and the entries of 32 bytes. A value is replaced by writing the new item first and
# marking the old one erased then; load() finds both when the power failed in between, and the
# later one counts. One page is always free: when none other is, the page with the least in use is
# copied there and erased (state FREEING).
import binascii
import struct
import simboot
import simerror
import simtable
from micropython import const

_PAGE_LEN = const(4096)
_TABLE_AT = const(32)
_ENTRIES_AT = const(64)
_ENTRY_LEN = const(32)
_ENTRIES = const(126)
_CHUNK_MAX = const(4000)  # 125 entries, after the item's own
_CHUNK_MIN = const(400)  # a blob does not begin in less room than that
_VERSION = const(0xFE)

# Page states: each clears a bit of the one before.
_BLANK = b"\xff\xff\xff\xff"
_ACTIVE = b"\xfe\xff\xff\xff"
_FULL = b"\xfc\xff\xff\xff"
_FREEING = b"\xf8\xff\xff\xff"
_CORRUPT = b"\xf0\xff\xff\xff"

# Entry states
_EMPTY = const(3)
_WRITTEN = const(2)
_ERASED = const(0)

# Item: namespace, kind, entries it spans, chunk, CRC, key, value
_NS = const(0)
_KIND = const(1)
_SPAN = const(2)
_CHUNK = const(3)
_VALUE_AT = const(24)

_U8 = const(0x01)
_I32 = const(0x14)
_BLOB_DATA = const(0x42)
_BLOB_INDEX = const(0x48)

_NAMESPACES = const(0)  # the namespace whose keys are the namespaces
_NO_CHUNK = const(0xFF)
# A blob's chunks are numbered from 0, and from 128 on when it replaces one that is numbered from 0.
_OTHER_START = const(0x80)


def _crc(data, crc=0xFFFFFFFF):
    return binascii.crc32(data, crc)


def _item_crc(item):
    return _crc(item[8:], _crc(item[:4]))


def _is_whole(item):
    return struct.unpack_from("<I", item, 4)[0] == _item_crc(item)


# The key as an item holds it. The IDF looks no further than this either.
def _field(key):
    return struct.pack("<15sx", key)


def _check_length(key):
    if len(memoryview(key)) > 15:
        simerror.fail(simerror.NVS_KEY_TOO_LONG)


class _Store:
    def __init__(self, part):
        # MicroPython starts over with an empty partition when the IDF can't use what is there.
        if not self._load(part):
            simboot.flash.erase(part[2], part[3])
            if not self._load(part):
                simerror.fail(simerror.NVS_NOT_INITIALIZED)

    def _load(self, part):
        pages = [_Page(part[2] + at) for at in range(0, part[3], PAGE_LEN)]
        self._pages = sorted((p for p in pages if p.in_use()), key=lambda p: p.seq)
        self._free = [p for p in pages if not p.in_use()]
        if any(p.outdated for p in self._pages):
            return False
        self._seq = self._pages[-1].seq + 1 if self._pages else 0
        if self._pages:
            self._drop_replaced()
            self._finish_freeing()
        elif self._free:
            self._activate()
        self._drop_torn_blobs()
        return bool(self._free)

    # The last item of all may replace one of an earlier page.
    def _drop_replaced(self):
        last = None
        for _, last in self._pages[-1].items():
            pass
        if last is None:
            return
        for page in self._pages[:-1]:
            for i, item in page.items():
                same = item[NS : KIND + 1] + item[8:24] == last[NS : KIND + 1] + last[8:24]
                if same and item[CHUNK] == last[CHUNK] and page.state != FREEING:
                    page.erase_entries(i, item[SPAN])
                    return

    def _finish_freeing(self):
        for page in self._pages:
            if page.state == FREEING:
                copy = self._pages[-1]
                if copy.state == ACTIVE:
                    copy.erase()
                    self._pages.remove(copy)
                    self._free.append(copy)
                self._activate()
                self._free_page(page)
                return

    # A blob is there once its index is. Chunks without one, and an index without its chunks, go.
    def _drop_torn_blobs(self):
        wanted = {}
        for page, i, item in self._all(_BLOB_INDEX):
            size, count, start = struct.unpack_from("<IBB", item, VALUE_AT)
            wanted[(item[NS], item[8:24], start)] = [size, count, page, i]
        for _, _, item in self._all(_BLOB_DATA):
            blob = wanted.get((item[NS], item[8:24], item[CHUNK] & _OTHER_START))
            if blob:
                blob[0] -= struct.unpack_from("<H", item, VALUE_AT)[0]
                blob[1] -= 1
        for name in list(wanted):
            size, count, page, i = wanted[name]
            if size or count:
                page.erase_entries(i, 1)
                del wanted[name]
        for page, i, item in self._all(_BLOB_DATA):
            if (item[NS], item[8:24], item[CHUNK] & _OTHER_START) not in wanted:
                page.erase_entries(i, item[SPAN])

    # --- pages

    def _activate(self):
        page = self._free.pop(0)
        if page.state == CORRUPT:
            page.erase()
        page.seq = self._seq
        self._seq += 1
        self._pages.append(page)

    # The last page is full: a free one, or else one that gets free when only what is valid is kept.
    def _next_page(self):
        if self._pages[-1].state != FULL:
            self._pages[-1].set_state(FULL)
        if len(self._free) > 1:
            self._activate()
            return
        page = max(self._pages, key=_Page.unused)
        if not page.unused():
            simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)
        page.set_state(FREEING)
        self._activate()
        self._free_page(page)

    def _free_page(self, page):
        page.copy_to(self._pages[-1])
        page.erase()
        self._pages.remove(page)
        self._free.append(page)

    # --- items

    def _all(self, kind):
        for page in self._pages:
            for i, item in page.items():
                if item[KIND] == kind:
                    yield page, i, item

    # (page, index, item) of the oldest that fits; what is about to be replaced is older.
    def _find(self, ns, field, kind=None, chunk=_NO_CHUNK):
        for page in self._pages:
            for i, item in page.items():
                if item[NS] == ns and item[CHUNK] == chunk and item[8:24] == field:
                    if kind in (None, item[KIND]):
                        return page, i, item
        return None

    def _find_or_fail(self, ns, key, kind=None):
        return self._find(ns, _field(key), kind) or simerror.fail(simerror.NVS_NOT_FOUND)

    def get(self, ns, key, kind):
        return self._find_or_fail(ns, key, kind)[2][VALUE_AT:]

    def set(self, ns, key, kind, value):
        field = _field(key)
        old = self._find(ns, field, kind) or self._find(ns, field)
        if old and old[2][KIND] == kind and old[2][VALUE_AT:].startswith(value):
            return
        _check_length(key)
        if not self._pages[-1].write(ns, kind, _NO_CHUNK, field, value):
            self._next_page()
            if not self._pages[-1].write(ns, kind, _NO_CHUNK, field, value):
                simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)
        if old:
            self._erase_item(old[2])

    def erase(self, ns, key):
        self._erase_item(self._find_or_fail(ns, key)[2])

    # Looks the item up again, as its page may have been freed since it was read.
    def _erase_item(self, item):
        ns, kind, field = item[NS], item[KIND], item[8:24]
        if kind == _BLOB_INDEX:
            start = item[VALUE_AT + 5]
            for page, i, other in self._all(_BLOB_INDEX):
                if other[NS] == ns and other[8:24] == field and other[VALUE_AT + 5] == start:
                    page.erase_entries(i, 1)
                    break
            self._erase_chunks(ns, field, start)
        else:
            page, i, _ = self._find(ns, field, kind)
            page.erase_entries(i, item[SPAN])

    def _erase_chunks(self, ns, field, start):
        for page, i, item in self._all(_BLOB_DATA):
            if item[NS] == ns and item[8:24] == field and item[CHUNK] & _OTHER_START == start:
                page.erase_entries(i, item[SPAN])

    # --- blobs: chunks, each in one page, and then the index

    def get_blob(self, ns, key, buf):
        index = self._find_or_fail(ns, key, _BLOB_INDEX)[2]
        size = struct.unpack_from("<I", index, VALUE_AT)[0]
        if len(buf) < size:
            simerror.fail(simerror.NVS_INVALID_LENGTH)
        if not self._read_blob(index, memoryview(buf)[:size]):
            self._erase_item(index)
            simerror.fail(simerror.NVS_NOT_FOUND)
        return size

    # False if a chunk is not what it was.
    def _read_blob(self, index, buf):
        count, start = index[VALUE_AT + 4], index[VALUE_AT + 5]
        for chunk in range(start, start + count):
            page, i, item = self._find(index[NS], index[8:24], _BLOB_DATA, chunk)
            size, _, crc = struct.unpack_from("<HHI", item, VALUE_AT)
            page.read_data(i, buf[:size])
            if _crc(buf[:size]) != crc:
                return False
            buf = buf[size:]
        return True

    def set_blob(self, ns, key, data):
        field = _field(key)
        start = 0
        old = self._find(ns, field, _BLOB_INDEX) or self._find(ns, field)
        if old and old[2][KIND] == _BLOB_INDEX:
            size, _, start = struct.unpack_from("<IBB", old[2], VALUE_AT)
            present = bytearray(size)
            if size == len(data) and self._read_blob(old[2], memoryview(present)) and present == data:
                return
            start ^= _OTHER_START
        _check_length(key)
        if len(data) > (len(self._pages) + len(self._free) - 1) * CHUNK_MAX:
            simerror.fail(simerror.NVS_VALUE_TOO_LONG)
        try:
            self._write_blob(ns, field, memoryview(data), start)
        except OSError:
            self._erase_chunks(ns, field, start)
            raise
        if old:
            self._erase_item(old[2])

    def _write_blob(self, ns, field, data, start):
        size = len(data)
        room = self._pages[-1].room()
        if room < _CHUNK_MIN and (room < size or not room):
            self._next_page()
            if self._pages[-1].room() == room:
                simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)
        chunk = start
        while True:
            room = self._pages[-1].room()
            if not room:
                simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)
            n = min(room, len(data))
            value = struct.pack("<HHI", n, 0xFFFF, _crc(data[:n]))
            self._pages[-1].write(ns, _BLOB_DATA, chunk, field, value, data[:n])
            chunk += 1
            data = data[n:]
            # Full, or no entry left for the index.
            if len(data) or room - n < _ENTRY_LEN:
                self._next_page()
            if not len(data):
                break
        value = struct.pack("<IBBH", size, chunk - start, start, 0xFFFF)
        self._pages[-1].write(ns, _BLOB_INDEX, _NO_CHUNK, field, value)

    # --- namespaces

    def open(self, name):
        found = self._find(_NAMESPACES, _field(name), _U8)
        if found:
            return found[2][VALUE_AT]
        used = [item[VALUE_AT] for _, _, item in self._all(_U8) if item[NS] == _NAMESPACES]
        for ns in range(1, 255):
            if ns not in used:
                self.set(_NAMESPACES, name, _U8, bytes((ns,)))
                return ns
        simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)


_store = None


def _open_store():
    global _store
    if _store is None:
        part = simtable.find_first(simboot.table, simtable.TYPE_DATA, simtable.DATA_NVS, "nvs")
        if part is None:
            simerror.fail(simerror.NVS_NOT_INITIALIZED)
        _store = _Store(part)
    return _store


class NVS:
    def __init__(self, namespace):
        self._store = _open_store()
        self._ns = self._store.open(namespace)

    def __repr__(self):
        return "<NVS namespace>"

    def set_i32(self, key, value):
        if not -(1 << 31) <= value < 1 << 31:
            raise OverflowError("overflow converting long int to machine word")
        self._store.set(self._ns, key, _I32, struct.pack("<i", value))

    def get_i32(self, key):
        return struct.unpack("<i", self._store.get(self._ns, key, _I32)[:4])[0]

    def set_blob(self, key, value):
        self._store.set_blob(self._ns, key, value)

    def get_blob(self, key, value):
        return self._store.get_blob(self._ns, key, value)

    def erase_key(self, key):
        self._store.erase(self._ns, key)

    # Everything is in flash already.
    def commit(self):
        pass
