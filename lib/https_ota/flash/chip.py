# Chip revision, read from the eFuses: MicroPython does not offer it.
#
# Fields: the eFuse tables of ESP-IDF and esptool (WAFER_VERSION_MINOR, WAFER_VERSION_MAJOR,
# DISABLE_WAFER_VERSION_MAJOR of each chip).

from machine import mem32

# One text, of which the row of the chip that runs is read: tuples of numbers would take three times the memory.
# chip id: base, register of minor, shift, mask, register of minor's high bit (0: none), shift,
#          register of major, shift, register of "disable", bit; in hex, registers as offsets from the base
_FIELDS = (
    "2: 3f41a000 54 4 7 50 14 50 12 40 0;"  # ESP32-S2
    "5: 60008800 50 12 7 58 17 58 18 40 0;"  # ESP32-C3
    "9: 60007000 50 12 7 58 17 58 18 40 0;"  # ESP32-S3
    "12: 60008800 44 10 f 0 0 44 14 30 1b;"  # ESP32-C2
    "13: 600b0800 50 12 f 0 0 50 16 40 0;"  # ESP32-C6
    "16: 600b0800 50 12 7 0 0 50 15 50 17;"  # ESP32-H2
    "18: 5012d000 4c 0 f 0 0 4c 4 4c 6;"  # ESP32-P4
    "20: 600b4800 4c 0 f 0 0 4c 4 4c 6;"  # ESP32-C61
    "23: 600b4800 4c 0 f 0 0 4c 4 4c 6;"  # ESP32-C5
)


def revision(chip_id):
    """(revision as major * 100 + minor, True when the maximum is not to be checked); (None, False) for an unknown chip."""
    if chip_id == 0:
        return _esp32(), False
    _, _, row = (";" + _FIELDS).partition(";%d: " % chip_id)
    if not row:
        return None, False
    base, minor, shift, mask, high, high_shift, major, major_shift, disable, bit = [
        int(n, 16) for n in row.partition(";")[0].split()
    ]
    low = (mem32[base + minor] >> shift) & mask
    if high:
        low += (mask + 1) * ((mem32[base + high] >> high_shift) & 1)
    up = mem32[base + major] >> major_shift
    any_major = bool((mem32[base + disable] >> bit) & 1)
    # The first ESP32-S3 (v0.0, eFuse block v1.1) keeps something else where the major version is.
    if (
        chip_id == 9
        and low & 7 == 0
        and mem32[base + 0x6C] & 3 == 1
        and (mem32[base + 0x50] >> 24) & 7 == 1
    ):
        return 0, any_major
    # ESP32-P4: a third bit, apart from the others.
    wide = 4 * ((up >> 19) & 1) if chip_id == 18 else 0
    return ((up & 3) + wide) * 100 + low, any_major


def _esp32():
    # Three bits that were burnt one after the other, in two eFuse words and a bus register.
    word5 = mem32[0x3FF5A014]
    bits = (
        (mem32[0x3FF5A00C] >> 15) & 1
        | ((word5 >> 20) & 1) << 1
        | ((mem32[0x3FF6607C] >> 31) & 1) << 2
    )
    return b"\0\1\0\2\0\0\0\3"[bits] * 100 + ((word5 >> 24) & 3)
