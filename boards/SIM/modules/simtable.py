# The partition table at 0x8000: 32-byte entries, then (as gen_esp32part.py makes it) an MD5 of them.
import hashlib
import struct
from micropython import const

_OFFSET = const(0x8000)
_MAX_LEN = const(0xC00)
_ENTRY_LEN = const(32)
_MAGIC = b"\xaa\x50"
_MAGIC_MD5 = b"\xeb\xeb"
_FLAG_ENCRYPTED = const(1)
_FLAG_READONLY = const(2)

ANY = const(0xFF)
TYPE_APP = const(0)
TYPE_DATA = const(1)
FACTORY = const(0)
OTA_0 = const(0x10)
OTA_MAX = const(0x20)
TEST = const(0x20)
DATA_OTA = const(0)
DATA_NVS = const(2)


# A list of tuples as Partition.info() gives them, and a read-only flag at the end of each.
# ValueError says why the bootloader would refuse the table.
def load(flash):
    raw = bytearray(_MAX_LEN)
    flash.read(_OFFSET, raw)
    table = []
    checked = False
    for at in range(0, _MAX_LEN, _ENTRY_LEN):
        magic = raw[at : at + 2]
        if magic == _MAGIC:
            kind, subtype, addr, size, label, flags = struct.unpack_from("<BBII16sI", raw, at + 2)
            if addr + size > flash.size:
                raise ValueError(
                    "partition %d invalid - offset 0x%x size 0x%x exceeds flash chip size 0x%x"
                    % (len(table), addr, size, flash.size)
                )
            label = label.split(b"\0", 1)[0].decode()
            encrypted = bool(flags & _FLAG_ENCRYPTED)
            readonly = bool(flags & _FLAG_READONLY)
            table.append((kind, subtype, addr, size, label, encrypted, readonly))
        elif magic == _MAGIC_MD5:
            if checked:
                raise ValueError("Only one MD5 checksum is allowed")
            if hashlib.md5(raw[:at]).digest() != raw[at + 16 : at + 32]:
                raise ValueError("Incorrect MD5 checksum")
            checked = True
        elif magic == b"\xff\xff":
            return table
        else:
            raise ValueError("partition %d invalid magic number 0x%s" % (len(table), magic.hex()))
    raise ValueError("partition table has no terminating entry, not valid")


def find(table, kind, subtype=ANY, label=None):
    return [
        p
        for p in table
        if kind in (ANY, p[0]) and subtype in (ANY, p[1]) and label in (None, p[4])
    ]


def find_first(table, kind, subtype=ANY, label=None):
    found = find(table, kind, subtype, label)
    return found[0] if found else None
