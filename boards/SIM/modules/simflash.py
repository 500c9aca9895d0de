# The SIM board's flash chip: a file with the rules of NOR flash.
#
# Erasing sets a sector of 4096 bytes, or a block of 64 KiB, to 0xFF, programming only clears bits. Each
# erase and each program call (cut at sector ends) is one operation: they cost time in a model of a
# typical chip, and the power can fail in the middle of any of them. Counted are the sectors.
#
# erase() and program() allocate nothing, as their likes on the chip: buffers are made once,
# numbers stay below 2**30, and file methods take lengths instead of slices.
import os
import time
import _sim
import simerror
from micropython import const

_SECTOR = const(4096)
_BLOCK = const(65536)
_PAGE = const(256)

# Typical times of W25Q32JV and GD25Q32 class chips; reading is the SPI bus at 40 MHz, two lines.
_ERASE_US = const(45000)
_ERASE_BLOCK_US = const(150000)
_PAGE_US = const(700)
_READ_BYTES_PER_US = const(8)

# Bootloader and partition table: touching them stops the program as well.
_TABLE_END = const(0x8C00)


@micropython.viper
def _clear_bits(old: ptr8, new: ptr8, off: int, n: int):
    for i in range(n):
        old[i] = old[i] & new[off + i]


class Flash:
    def __init__(self, path):
        self._file = open(path, "r+b")
        self.size = self._file.seek(0, 2)
        self._old = bytearray(_SECTOR)
        self._blank = b"\xff" * _SECTOR
        self._realtime = os.getenv("SIM_FLASH_REALTIME") == "1"
        # The region of the running app, set by the boot step: see _guard().
        self.running = 0
        self.running_end = 0
        self.reset_counters()

    def reset_counters(self):
        self.erases = self.programs = self.reads = self.bytes = 0
        self.ms = self._us = 0

    def read(self, addr, buf):
        n = len(buf)
        self._file.seek(addr)
        self._file.readinto(buf)
        self.reads += 1
        self._spend(n // _READ_BYTES_PER_US)

    # addr and n are multiples of a sector. ESP-IDF takes a block wherever a whole one is meant.
    def erase(self, addr, n):
        self._guard(addr, n)
        end = addr + n
        while addr < end:
            size = _BLOCK if addr % _BLOCK == 0 and end - addr >= _BLOCK else _SECTOR
            if _sim.cut():
                self._tear_erase(addr, size)
            self._make_blank(addr, size)
            self.erases += size // _SECTOR
            self._spend(_ERASE_US if size == _SECTOR else _ERASE_BLOCK_US)
            addr += size

    def _make_blank(self, addr, n):
        self._file.seek(addr)
        while n:
            self._file.write(self._blank)
            n -= _SECTOR

    def program(self, addr, buf, off, n):
        self._guard(addr, n)
        while n > 0:
            m = min(n, _SECTOR - addr % _SECTOR)
            self._load(addr, m)
            if _sim.cut():
                self._tear_program(addr, buf, off, m)
            _clear_bits(self._old, buf, off, m)
            self._file.seek(addr)
            self._file.write(self._old, 0, m)
            self.programs += 1
            self.bytes += m
            self._spend(((addr + m - 1) // _PAGE - addr // _PAGE + 1) * _PAGE_US)
            addr += m
            off += m
            n -= m

    def _load(self, addr, n):
        self._file.seek(addr)
        self._file.readinto(self._old, n)

    def _spend(self, us):
        if self._realtime:
            time.sleep_us(us)
        us += self._us
        self.ms += us // 1000
        self._us = us % 1000

    # The IDF stops a program that is about to saw off the branch it sits on
    # (CONFIG_SPI_FLASH_DANGEROUS_WRITE_ABORTS, on by default).
    def _guard(self, addr, n):
        if addr <= _TABLE_END or (addr < self.running_end and addr + n > self.running):
            simerror.die(
                simerror.EXIT_ABORT,
                "abort() was called at PC 0x40081234 on core 0 "
                "(flash write to 0x%x: bootloader, partition table or running app)" % addr,
            )

    # The power fails in an erase: half of it is blank. Of a sector here and there bits of the rest are set.
    def _tear_erase(self, start, n):
        addr = start
        if n > _SECTOR:
            self._make_blank(addr, n // 2)
            addr += n // 2
        self._load(addr, _SECTOR)
        old = self._old
        old[: _SECTOR // 2] = self._blank[: _SECTOR // 2]
        for i in range(_SECTOR // 2, _SECTOR, 64):
            old[i] |= 0xA5
        self._file.seek(addr)
        self._file.write(old)
        self._power_off("erase", start)

    # The power fails in a program: the first half is there, and some bits of the byte after it.
    def _tear_program(self, addr, buf, off, n):
        half = n // 2
        _clear_bits(self._old, buf, off, half)
        self._old[half] &= buf[off + half] | 0x55
        self._file.seek(addr)
        self._file.write(self._old, 0, half + 1)
        self._power_off("program", addr)

    def _power_off(self, what, addr):
        simerror.die(simerror.EXIT_CUT, "SIM: power cut in flash %s at 0x%x" % (what, addr))
