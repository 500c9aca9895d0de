# esp32.NVS of the SIM board: keys and values on the nvs partition, in ESP-IDF's format (version 2)
# and with its order of writes, so that a power cut leaves what it leaves on a chip.
#
# A value is replaced by writing the new item first and marking the old one as erased then; when the
# power failed in between, both are found at the next start and the later one counts. One page is
# always free: when all others are full, the page with the least in use is copied there and erased.
import struct
import _sim
import simboot
import simerror
import simtable
from micropython import const
from simnvspage import ACTIVE, CORRUPT, FREEING, FULL
from simnvspage import CHUNK, KIND, NS, SPAN, VALUE_AT
from simnvspage import CHUNK_MAX, ENTRY_LEN, PAGE_LEN, Page, crc32, key_of

_U8 = const(0x01)
_I32 = const(0x14)
_BLOB_DATA = const(0x42)
_BLOB_INDEX = const(0x48)

_NAMESPACES = const(0)  # the namespace whose keys are the namespaces
_NO_CHUNK = const(0xFF)
# Chunks of a blob are numbered from 0, or from here on when it replaces one that is numbered from 0.
_OTHER_START = const(0x80)
_CHUNK_MIN = const(400)  # a blob that is larger does not begin in less room
_MAX_KEY = const(15)


# A key as items hold it; the IDF looks no further either.
def _field(key):
    return struct.pack("<15sx", key)


def _check_key(key):
    if len(memoryview(key)) > _MAX_KEY:
        simerror.fail(simerror.NVS_KEY_TOO_LONG)


# Which version of which blob an item belongs to.
def _blob_of(item):
    start = item[VALUE_AT + 5] if item[KIND] == _BLOB_INDEX else item[CHUNK] & _OTHER_START
    return item[NS], key_of(item), start


class _Store:
    def __init__(self, part):
        # MicroPython starts over with an empty partition when the IDF can't use what is there.
        if not self._load(part):
            simboot.flash.erase(part[2], part[3])
            if not self._load(part):
                simerror.fail(simerror.NVS_NOT_INITIALIZED)

    def _load(self, part):
        pages = [Page(part[2] + at) for at in range(0, part[3], PAGE_LEN)]
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
        for page in self._pages[:-1]:
            for i, item in page.items():
                same = last and item[:2] == last[:2] and item[CHUNK] == last[CHUNK]
                if same and key_of(item) == key_of(last) and page.state != FREEING:
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
        missing = {}
        for _, _, item in self._all(_BLOB_INDEX):
            missing[_blob_of(item)] = list(struct.unpack_from("<IB", item, VALUE_AT))
        for _, _, item in self._all(_BLOB_DATA):
            blob = missing.get(_blob_of(item))
            if blob:
                blob[0] -= struct.unpack_from("<H", item, VALUE_AT)[0]
                blob[1] -= 1
        for kind in (_BLOB_INDEX, _BLOB_DATA):
            for page, i, item in self._all(kind):
                if missing.get(_blob_of(item)) != [0, 0]:
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
        page = max(self._pages, key=Page.unused)
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
                if item[NS] == ns and item[CHUNK] == chunk and key_of(item) == field:
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
        _check_key(key)
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
        if item[KIND] == _BLOB_INDEX:
            self._erase_blob(_BLOB_INDEX, _blob_of(item))
            self._erase_blob(_BLOB_DATA, _blob_of(item))
        else:
            page, i, _ = self._find(item[NS], key_of(item), item[KIND])
            page.erase_entries(i, item[SPAN])

    def _erase_blob(self, kind, blob):
        for page, i, item in self._all(kind):
            if _blob_of(item) == blob:
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
            page, i, item = self._find(index[NS], key_of(index), _BLOB_DATA, chunk)
            size, _, crc = struct.unpack_from("<HHI", item, VALUE_AT)
            page.read_data(i, buf[:size])
            if crc32(buf[:size]) != crc:
                return False
            buf = buf[size:]
        return True

    def set_blob(self, ns, key, data):
        field = _field(key)
        start = 0
        old = self._find(ns, field, _BLOB_INDEX) or self._find(ns, field)
        old = old and old[2]
        if old and old[KIND] == _BLOB_INDEX:
            if self._is_blob(old, data):
                return
            start = old[VALUE_AT + 5] ^ _OTHER_START
        _check_key(key)
        if len(data) > (len(self._pages) + len(self._free) - 1) * CHUNK_MAX:
            simerror.fail(simerror.NVS_VALUE_TOO_LONG)
        try:
            self._write_blob(ns, field, memoryview(data), start)
        except OSError:
            self._erase_blob(_BLOB_DATA, (ns, field, start))
            raise
        if old:
            self._erase_item(old)

    def _is_blob(self, index, data):
        if len(data) != struct.unpack_from("<I", index, VALUE_AT)[0]:
            return False
        present = bytearray(len(data))
        return self._read_blob(index, memoryview(present)) and present == data

    def _write_blob(self, ns, field, data, start):
        size = len(data)
        room = self._pages[-1].room()
        if room < _CHUNK_MIN and (room < size or not room):
            self._next_page()
        chunk = start
        while chunk == start or len(data):
            room = self._pages[-1].room()
            if not room:
                simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)
            n = min(room, len(data))
            value = struct.pack("<HHI", n, 0xFFFF, crc32(data[:n]))
            self._pages[-1].write(ns, _BLOB_DATA, chunk, field, value, data[:n])
            chunk += 1
            data = data[n:]
            if len(data) or room - n < ENTRY_LEN:
                self._next_page()  # for the next chunk, or the index
        value = struct.pack("<IBBH", size, chunk - start, start, 0xFFFF)
        if not self._pages[-1].write(ns, _BLOB_INDEX, _NO_CHUNK, field, value):
            simerror.fail(simerror.NVS_NOT_ENOUGH_SPACE)

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


# No callback runs within it, as it is C on the chip.
def whole(function):
    def run(*args):
        _sim.hold(True)
        try:
            return function(*args)
        finally:
            _sim.hold(False)

    return run


class NVS:
    @whole
    def __init__(self, namespace):
        self._store = _open_store()
        self._ns = self._store.open(namespace)

    def __repr__(self):
        return "<NVS namespace>"

    @whole
    def set_i32(self, key, value):
        if not -(1 << 31) <= value < 1 << 31:
            raise OverflowError("overflow converting long int to machine word")
        self._store.set(self._ns, key, _I32, struct.pack("<i", value))

    def get_i32(self, key):
        return struct.unpack("<i", self._store.get(self._ns, key, _I32)[:4])[0]

    @whole
    def set_blob(self, key, value):
        self._store.set_blob(self._ns, key, value)

    @whole
    def get_blob(self, key, value):
        return self._store.get_blob(self._ns, key, value)

    @whole
    def erase_key(self, key):
        self._store.erase(self._ns, key)

    # Everything is in flash already.
    def commit(self):
        pass
