# Which chip the SIM board is: its id, its revision, its eFuse registers, where it maps flash.
#
# SIM_CHIP names it (unset: the boot step takes it from the first valid app), SIM_CHIP_REV and
# SIM_BLK_REV are the revisions of wafer and eFuse block as major * 100 + minor, and
# SIM_NO_MAX_REV=1 burns the eFuses that switch the check for a highest revision off.
import os
from micropython import const

# What a field of the eFuses holds, and from which of its bits on.
_MINOR = const(0)
_MAJOR = const(1)
_BLK_MINOR = const(2)
_BLK_MAJOR = const(3)
_NO_MAX = const(4)
_NO_MAX_BLK = const(5)

# Fields: (what, its lowest bit here, eFuse block, word, position, length)
_NO_MAX_IN_0 = ((_NO_MAX, 0, 0, 5, 0, 1), (_NO_MAX_BLK, 0, 0, 5, 1, 1))
_S2 = _NO_MAX_IN_0 + (
    (_MAJOR, 0, 1, 3, 18, 2),
    (_MINOR, 3, 1, 3, 20, 1),
    (_MINOR, 0, 1, 4, 4, 3),
    (_BLK_MAJOR, 0, 1, 3, 25, 2),
    (_BLK_MINOR, 0, 2, 4, 4, 3),
)
_S3_C3 = _NO_MAX_IN_0 + (
    (_MINOR, 0, 1, 3, 18, 3),
    (_MINOR, 3, 1, 5, 23, 1),
    (_MAJOR, 0, 1, 5, 24, 2),
    (_BLK_MINOR, 0, 1, 3, 24, 3),
    (_BLK_MAJOR, 0, 2, 4, 0, 2),
)
_C2 = (
    (_NO_MAX, 0, 0, 1, 27, 1),
    (_NO_MAX_BLK, 0, 0, 1, 28, 1),
    (_MINOR, 0, 2, 1, 16, 4),
    (_MAJOR, 0, 2, 1, 20, 2),
    (_BLK_MINOR, 0, 2, 1, 25, 3),
    (_BLK_MAJOR, 0, 2, 1, 28, 2),
)
_C6 = _NO_MAX_IN_0 + (
    (_MINOR, 0, 1, 3, 18, 4),
    (_MAJOR, 0, 1, 3, 22, 2),
    (_BLK_MINOR, 0, 1, 3, 27, 3),
    (_BLK_MAJOR, 0, 1, 3, 30, 2),
)
_H2 = (
    (_MINOR, 0, 1, 3, 18, 3),
    (_MAJOR, 0, 1, 3, 21, 2),
    (_NO_MAX, 0, 1, 3, 23, 1),
    (_BLK_MINOR, 0, 2, 4, 2, 3),
    (_BLK_MAJOR, 0, 2, 4, 5, 2),
    (_NO_MAX_BLK, 0, 2, 4, 7, 1),
)
_P4_C5_C61 = (
    (_MINOR, 0, 1, 2, 0, 4),
    (_MAJOR, 0, 1, 2, 4, 2),
    (_NO_MAX, 0, 1, 2, 6, 1),
    (_NO_MAX_BLK, 0, 1, 2, 7, 1),
    (_BLK_MINOR, 0, 1, 2, 8, 3),
    (_BLK_MAJOR, 0, 1, 2, 11, 2),
)
_P4 = _P4_C5_C61 + ((_MAJOR, 2, 1, 2, 23, 1),)

# Flash seen as memory: (first code address, end, first data address, end)
_MAP_S3 = (0x42000000, 0x44000000, 0x3C000000, 0x3E000000)
_MAP_C6 = (0x42000000, 0x43000000, 0x42000000, 0x43000000)
_MAP_C5 = (0x42000000, 0x44000000, 0x42000000, 0x44000000)

# name: (chip id, revision unless SIM_CHIP_REV says so, eFuse base, eFuse fields, flash maps)
_CHIPS = {
    "esp32": (0, 301, 0x3FF5A000, None, (0x400D0000, 0x40400000, 0x3F400000, 0x3F800000)),
    "esp32s2": (2, 100, 0x3F41A000, _S2, (0x40080000, 0x40800000, 0x3F000000, 0x3FF80000)),
    "esp32c3": (5, 3, 0x60008800, _S3_C3, (0x42000000, 0x42800000, 0x3C000000, 0x3C800000)),
    "esp32s3": (9, 2, 0x60007000, _S3_C3, _MAP_S3),
    "esp32c2": (12, 102, 0x60008800, _C2, (0x42000000, 0x42400000, 0x3C000000, 0x3C400000)),
    "esp32c6": (13, 1, 0x600B0800, _C6, _MAP_C6),
    "esp32h2": (16, 2, 0x600B0800, _H2, _MAP_C6),
    "esp32p4": (18, 103, 0x5012D000, _P4, (0x40000000, 0x44000000, 0x40000000, 0x44000000)),
    "esp32c61": (20, 100, 0x600B4800, _P4_C5_C61, _MAP_C5),
    "esp32c5": (23, 100, 0x600B4800, _P4_C5_C61, _MAP_C5),
}

# Chips whose flash page can be other than 64 KiB (SOC_MMU_PAGE_SIZE_CONFIGURABLE).
_FLEXIBLE_PAGE = ("esp32c2", "esp32c6", "esp32c61", "esp32h2")

# Register of the ESP32 with the third bit of its major revision.
_APB_CTL_DATE = 0x3FF6607C


# General-purpose timers; two on all others.
_TIMERS = {"esp32": 4, "esp32s2": 4, "esp32s3": 4, "esp32p4": 4, "esp32c2": 1}


class Chip:
    def __init__(self, name):
        if name not in _CHIPS:
            raise ValueError("SIM_CHIP=%s: one of %s" % (name, " ".join(sorted(_CHIPS))))
        self.name = name
        self.id, rev, self._base, self._fields, self._maps = _CHIPS[name]
        self.rev = int(os.getenv("SIM_CHIP_REV") or rev)
        # The ESP32 has neither a block revision nor the bit that lifts the highest revision.
        self.blk_rev = None if name == "esp32" else int(os.getenv("SIM_BLK_REV") or 3)
        self.no_max_rev = name != "esp32" and os.getenv("SIM_NO_MAX_REV") == "1"
        self.timers = _TIMERS.get(name, 2)
        self.flexible_page = name in _FLEXIBLE_PAGE

    # Is this address one of flash that is seen as memory?
    def maps(self, addr):
        code, code_end, data, data_end = self._maps
        return code <= addr < code_end or data <= addr < data_end

    def register(self, addr):
        if self._fields is None:
            return self._esp32_register(addr)
        value = 0
        for what, low, block, word, pos, length in self._fields:
            if addr == self._block(block) + 4 * word:
                value |= (self._fuses(what) >> low & (1 << length) - 1) << pos
        return value

    def _block(self, n):
        if self.name == "esp32c2":
            return self._base + (0x2C, 0x34, 0x40)[n]
        return self._base + (0x2C, 0x44, 0x5C)[n]

    def _fuses(self, what):
        return (
            self.rev % 100,
            self.rev // 100,
            self.blk_rev % 100,
            self.blk_rev // 100,
            self.no_max_rev,
            self.no_max_rev,
        )[what]

    # The major revision is unary and its bits are in three registers.
    def _esp32_register(self, addr):
        major = self.rev // 100
        if addr == self._base + 12:
            return (major >= 1) << 15
        if addr == self._base + 20:
            return (major >= 2) << 20 | self.rev % 100 << 24
        if addr == _APB_CTL_DATE:
            return (major >= 3) << 31
        return 0


def by_id(chip_id):
    for name in _CHIPS:
        if _CHIPS[name][0] == chip_id:
            return Chip(name)
    return None
