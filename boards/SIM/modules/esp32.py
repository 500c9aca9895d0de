# The esp32 module of the SIM board: Partition and NVS over the flash file.
#
# Exceptions are those of the esp32 port (MicroPython 1.23 to 1.26 on ESP-IDF 5).

import micropython
import simboot
import simerror
import simtable
from micropython import const
from simnvs import NVS, whole  # noqa: F401  NVS is re-exported

_SECTOR = const(4096)
_ENOENT = const(2)
_EINVAL = const(22)

_INIT = const(1)
_DEINIT = const(2)
_SYNC = const(3)
_BLOCK_COUNT = const(4)
_BLOCK_SIZE = const(5)
_BLOCK_ERASE = const(6)

# MALLOC_CAP_EXEC, MALLOC_CAP_8BIT
HEAP_EXEC = const(1)
HEAP_DATA = const(4)


def idf_heap_info(capabilities):
    """Regions as (total, free, largest free block, smallest free ever): what an ESP32 has with Wi-Fi up."""
    return [(113840, 97112, 94208, 89000)]


class Partition:
    """esp32.Partition; a block is a sector of 4096 bytes unless block_size says so."""

    BOOT = 0
    RUNNING = 1
    TYPE_APP = simtable.TYPE_APP
    TYPE_DATA = simtable.TYPE_DATA

    def __init__(self, which, block_size=_SECTOR):
        if which == Partition.BOOT:
            entry = simboot.boot_partition()
        elif which == Partition.RUNNING:
            entry = simboot.running
        elif isinstance(which, int):
            raise ValueError
        elif isinstance(which, str):
            entry = simtable.find_first(simboot.table, simtable.TYPE_APP, label=which)
            entry = entry or simtable.find_first(simboot.table, simtable.TYPE_DATA, label=which)
        else:
            raise TypeError("can't convert %s to str" % type(which).__name__)
        self._set(entry, block_size)

    def _set(self, entry, block_size):
        if entry is None:
            raise OSError(_ENOENT)
        self._entry = entry
        self._addr = entry[2]
        self._size = entry[3]
        self._block_size = block_size

    def __repr__(self):
        kind, subtype, addr, size, label, encrypted = self.info()
        return "<Partition type=%d, subtype=%d, address=%d, size=%d, label=%s, encrypted=%d>" % (
            kind,
            subtype,
            addr,
            size,
            label,
            encrypted,
        )

    @staticmethod
    def find(type=0, subtype=simtable.ANY, label=None, block_size=_SECTOR):
        found = []
        for entry in simtable.find(simboot.table, type, subtype, label):
            found.append(_partition(entry, block_size))
        return found

    def info(self):
        return self._entry[:6]

    def readblocks(self, block_num, buf, offset=0):
        at = block_num * self._block_size + offset
        self._check_range(at, len(buf))
        simboot.flash.read(self._addr + at, buf)

    def writeblocks(self, block_num, buf, offset=None):
        at = block_num * self._block_size
        n = len(buf)
        if offset is None:
            self._erase(at, n)
        else:
            at += offset
        self._check_writable()
        self._check_range(at, n)
        if _is_null(buf):
            simerror.fail(
                simerror.INVALID_ARG
            )  # as esp_flash_write() says; what was erased is erased
        simboot.flash.program(self._addr + at, buf, 0, n)

    def ioctl(self, cmd, arg):
        if cmd in (_INIT, _DEINIT, _SYNC):
            return 0
        if cmd == _BLOCK_COUNT:
            return self._size // self._block_size
        if cmd == _BLOCK_SIZE:
            return self._block_size
        if cmd == _BLOCK_ERASE:
            if self._block_size != _SECTOR:
                return -_EINVAL
            self._erase(arg * self._block_size, self._block_size)
            return 0
        return None

    def _erase(self, at, n):
        self._check_writable()
        self._check_range(at, n)
        if n % _SECTOR:
            simerror.fail(simerror.INVALID_SIZE)
        if at % _SECTOR:
            simerror.fail(simerror.INVALID_ARG)
        simboot.flash.erase(self._addr + at, n)

    # The IDF tells what begins beyond the end from what only ends there.
    def _check_range(self, at, n):
        if at < 0 or at > self._size:
            simerror.fail(simerror.INVALID_ARG)
        if at + n > self._size:
            simerror.fail(simerror.INVALID_SIZE)

    def _check_writable(self):
        if self._entry[6]:
            simerror.fail(simerror.NOT_ALLOWED)

    @whole
    def set_boot(self):
        simboot.set_boot(self._entry)

    def get_next_update(self):
        return _partition(simboot.next_update(self._entry), _SECTOR)

    @staticmethod
    @whole
    def mark_app_valid_cancel_rollback():
        simboot.mark_valid()


@micropython.viper
def _is_null(buf: ptr8) -> bool:
    return int(buf) == 0


def _partition(entry, block_size):
    part = object.__new__(Partition)
    part._set(entry, block_size)
    return part
