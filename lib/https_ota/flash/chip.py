# This chip's revision, read from its eFuses. MicroPython does not offer it.
#
# Fields: the eFuse tables of ESP-IDF and esptool (WAFER_VERSION_MINOR, WAFER_VERSION_MAJOR,
# DISABLE_WAFER_VERSION_MAJOR of each chip).

from machine import mem32

# chip id, base, register of minor, shift, mask, register of minor's high bit, shift, its weight,
#           register of major, shift, register of "disable", bit; registers as offsets from the base
_FIELDS = (
    (2, 0x3F41A000, 0x54, 4, 7, 0x50, 20, 8, 0x50, 18, 0x40, 0),  # ESP32-S2
    (5, 0x60008800, 0x50, 18, 7, 0x58, 23, 8, 0x58, 24, 0x40, 0),  # ESP32-C3
    (9, 0x60007000, 0x50, 18, 7, 0x58, 23, 8, 0x58, 24, 0x40, 0),  # ESP32-S3
    (12, 0x60008800, 0x44, 16, 15, 0, 0, 0, 0x44, 20, 0x30, 27),  # ESP32-C2
    (13, 0x600B0800, 0x50, 18, 15, 0, 0, 0, 0x50, 22, 0x40, 0),  # ESP32-C6
    (16, 0x600B0800, 0x50, 18, 7, 0, 0, 0, 0x50, 21, 0x50, 23),  # ESP32-H2
    (18, 0x5012D000, 0x4C, 0, 15, 0, 0, 0, 0x4C, 4, 0x4C, 6),  # ESP32-P4
    (20, 0x600B4800, 0x4C, 0, 15, 0, 0, 0, 0x4C, 4, 0x4C, 6),  # ESP32-C61
    (23, 0x600B4800, 0x4C, 0, 15, 0, 0, 0, 0x4C, 4, 0x4C, 6),  # ESP32-C5
)


def revision(chip_id):
    """(revision as major * 100 + minor, True when the maximum is not to be checked); (None, False) for an unknown chip."""
    if chip_id == 0:
        return _esp32(), False
    for fields in _FIELDS:
        if fields[0] == chip_id:
            break
    else:
        return None, False
    _, base, minor, shift, mask, high, high_shift, weight, major, major_shift, disable, bit = (
        fields
    )
    low = (mem32[base + minor] >> shift) & mask
    if weight:
        low += weight * ((mem32[base + high] >> high_shift) & 1)
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
    wide = (
        4 * ((up >> 19) & 1) if chip_id == 18 else 0
    )  # ESP32-P4: a third bit, apart from the others
    return ((up & 3) + wide) * 100 + low, any_major


def _esp32():
    # Three bits that were burnt one after the other, in two eFuse words and a bus register.
    word5 = mem32[0x3FF5A014]
    bits = (
        (mem32[0x3FF5A00C] >> 15) & 1
        | ((word5 >> 20) & 1) << 1
        | ((mem32[0x3FF6607C] >> 31) & 1) << 2
    )
    return {1: 1, 3: 2, 7: 3}.get(bits, 0) * 100 + ((word5 >> 24) & 3)
