# A page of NVS, as ESP-IDF lays it out (format version 2): a sector with a header, a table of two
# bits for each of 126 entries, and these entries of 32 bytes. An item is one entry, or one and its
# data in those behind it. Items are appended, and marked as erased when they are not wanted any more.
#
# The order of writes is the IDF's: content first, its mark in the table after it.
import binascii
import struct
import simboot
from micropython import const

PAGE_LEN = const(4096)
CHUNK_MAX = const(4000)  # 125 entries of data, after the item's own
_TABLE_AT = const(32)
_ENTRIES_AT = const(64)
ENTRY_LEN = const(32)
_ENTRIES = const(126)
_VERSION = const(0xFE)

# Page states: each clears a bit of the one before.
BLANK = b"\xff\xff\xff\xff"
ACTIVE = b"\xfe\xff\xff\xff"
FULL = b"\xfc\xff\xff\xff"
FREEING = b"\xf8\xff\xff\xff"
CORRUPT = b"\xf0\xff\xff\xff"

# Entry states, likewise.
_EMPTY = const(3)
_WRITTEN = const(2)
_ERASED = const(0)

# Item: namespace, kind, how many entries it spans, chunk (255 but for a piece of a blob), CRC, key, value
NS = const(0)
KIND = const(1)
SPAN = const(2)
CHUNK = const(3)
VALUE_AT = const(24)


def crc32(data, crc=0xFFFFFFFF):
    return binascii.crc32(data, crc)


def _item_crc(item):
    return crc32(item[8:], crc32(item[:4]))


def key_of(item):
    return item[8:VALUE_AT]


class Page:
    def __init__(self, addr):
        self._addr = addr
        self._table = bytearray(ENTRY_LEN)
        self._load()

    def _load(self):
        header = self._read(0, ENTRY_LEN)
        self.state = header[:4]
        self.seq, version, crc = struct.unpack_from("<IB19xI", header, 4)
        self.outdated = False
        self.next = 0  # the first free entry
        if self.state == BLANK:
            if self._read(0, PAGE_LEN) != b"\xff" * PAGE_LEN:
                self.state = CORRUPT
        elif crc != crc32(header[4:28]) or self.state not in (ACTIVE, FULL, FREEING):
            self.state = CORRUPT
        else:
            self.outdated = version < _VERSION
        if self.in_use():
            simboot.flash.read(self._addr + _TABLE_AT, self._table)
            self.next = _ENTRIES
            if self.state == ACTIVE:
                self._find_end()
            self._drop_torn_items()

    # An entry that the power failed in has content and no state yet.
    def _find_end(self):
        self.next = 0
        while self.next < _ENTRIES and self._entry_state(self.next) != _EMPTY:
            self.next += 1
        while self.next < _ENTRIES and self.entry(self.next)[:4] != BLANK:
            self.erase_entries(self.next, 1)

    # An item whose last entries are missing, and one that a later item of this page replaces.
    def _drop_torn_items(self):
        seen = {}
        for i, item in self.items():
            span = item[SPAN]
            if any(self._entry_state(j) != _WRITTEN for j in range(i, i + span)):
                self.erase_entries(i, span)
            elif self.state == ACTIVE:
                name = item[NS], item[CHUNK], key_of(item)
                if name in seen:
                    self.erase_entries(*seen[name])
                seen[name] = i, span

    def in_use(self):
        return self.state not in (BLANK, CORRUPT)

    def _read(self, at, n):
        buf = bytearray(n)
        simboot.flash.read(self._addr + at, buf)
        return bytes(buf)

    def entry(self, i):
        return self._read(_ENTRIES_AT + i * ENTRY_LEN, ENTRY_LEN)

    def read_data(self, i, buf):
        simboot.flash.read(self._addr + _ENTRIES_AT + (i + 1) * ENTRY_LEN, buf)

    # (index, item) of each item there is.
    def items(self):
        i = 0
        while i < self.next:
            span = 1
            if self._entry_state(i) == _WRITTEN:
                item = self.entry(i)
                if struct.unpack_from("<I", item, 4)[0] == _item_crc(item):
                    yield i, item
                    span = item[SPAN]
                else:
                    self.erase_entries(i, 1)
            i += span

    def _entry_state(self, i):
        return self._table[i >> 2] >> (i & 3) * 2 & 3

    # The table is written word by word, the last word first.
    def _mark(self, first, n, state):
        for i in range(first + n - 1, first - 1, -1):
            self._table[i >> 2] &= ~((state ^ 3) << (i & 3) * 2)
            if i == first or i % 16 == 0:
                word = i >> 4 << 2
                simboot.flash.program(self._addr + _TABLE_AT + word, self._table, word, 4)

    def erase_entries(self, first, n):
        self._mark(first, n, _ERASED)
        self.next = max(self.next, first + n)

    def unused(self):
        return sum(self._entry_state(i) != _WRITTEN for i in range(_ENTRIES))

    # How many bytes of data an item may bring.
    def room(self):
        if self.state == BLANK:
            return CHUNK_MAX
        return max(0, _ENTRIES - 1 - self.next) * ENTRY_LEN if self.state == ACTIVE else 0

    # Append an item; False if the page has no room for it.
    def write(self, ns, kind, chunk, field, value, data=b""):
        span = 1 + (len(data) + ENTRY_LEN - 1) // ENTRY_LEN
        if self.state not in (BLANK, ACTIVE) or self.next + span > _ENTRIES:
            return False
        value = value + BLANK * 2
        item = bytearray(struct.pack("<BBBBI16s8s", ns, kind, span, chunk, 0, field, value))
        struct.pack_into("<I", item, 4, _item_crc(item))
        self._append(item, ENTRY_LEN)
        whole = len(data) // ENTRY_LEN * ENTRY_LEN
        if whole:
            self._append(data, whole)
        if whole < len(data):
            self._append(
                bytes(data[whole:]) + b"\xff" * (whole + ENTRY_LEN - len(data)), ENTRY_LEN
            )
        return True

    def _append(self, buf, n):
        if self.state == BLANK:
            self._begin()
        simboot.flash.program(self._addr + _ENTRIES_AT + self.next * ENTRY_LEN, buf, 0, n)
        self._mark(self.next, n // ENTRY_LEN, _WRITTEN)
        self.next += n // ENTRY_LEN

    def _begin(self):
        self.state = ACTIVE
        header = ACTIVE + struct.pack("<IB", self.seq, _VERSION) + b"\xff" * 19
        header += struct.pack("<I", crc32(header[4:]))
        simboot.flash.program(self._addr, header, 0, ENTRY_LEN)
        self._table[:] = b"\xff" * ENTRY_LEN

    def set_state(self, state):
        simboot.flash.program(self._addr, state, 0, len(state))
        self.state = state

    def copy_to(self, other):
        for i, item in self.items():
            for j in range(i, i + item[SPAN]):
                other._append(self.entry(j), ENTRY_LEN)

    def erase(self):
        simboot.flash.erase(self._addr, PAGE_LEN)
        self._table[:] = b"\xff" * ENTRY_LEN
        self.state = BLANK
        self.next = 0
