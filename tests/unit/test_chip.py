# chip.py: the revision as it is burnt into each chip's eFuses.
#
# Fields: ESP-IDF's esp_efuse_table.csv, esptool's efuse_defs. Block 0 begins at register 0x2c, block 1 at
# 0x44, block 2 at 0x5c of the eFuse controller (ESP32-C2: 0x2c, 0x34, 0x40).

from https_ota.flash import chip
from https_ota.flash.chip import revision

B0, B1, B2 = 0x2C, 0x44, 0x5C

S3_FIELDS = ((B1, 3, 18, 3), (B1, 5, 23, 1), (B1, 5, 24, 2), (B0, 5, 0, 1))
C5_FIELDS = ((B1, 2, 0, 4), None, (B1, 2, 4, 2), (B1, 2, 6, 1))
# chip id: (base, low bits of the minor version, its high bit, major version, "disable")
CHIPS = {
    2: (0x3F41A000, (B1, 4, 4, 3), (B1, 3, 20, 1), (B1, 3, 18, 2), (B0, 5, 0, 1)),
    5: (0x60008800,) + S3_FIELDS,
    9: (0x60007000,) + S3_FIELDS,
    12: (0x60008800, (0x40, 1, 16, 4), None, (0x40, 1, 20, 2), (B0, 1, 27, 1)),
    13: (0x600B0800, (B1, 3, 18, 4), None, (B1, 3, 22, 2), (B0, 5, 0, 1)),
    16: (0x600B0800, (B1, 3, 18, 3), None, (B1, 3, 21, 2), (B1, 3, 23, 1)),
    18: (0x5012D000,) + C5_FIELDS,
    20: (0x600B4800,) + C5_FIELDS,
    23: (0x600B4800,) + C5_FIELDS,
}


class Registers:
    """Takes the place of machine.mem32; what was not put reads as `rest`, in the whole word or in a part of it."""

    def __init__(self, base, rest=0):
        self.base = base
        self.rest = rest
        self.words = {}

    def put(self, field, value):
        block, word, pos, length = field
        mask = (1 << length) - 1
        assert value <= mask
        at = self.base + block + 4 * word
        self.words[at] = self[at] & ~(mask << pos) | value << pos

    def __getitem__(self, at):
        return self.words.get(at, self.rest)


def burn(chip_id, major, minor, disable=0, rest=0):
    """Make the chip one of this revision."""
    base, low, high, major_field, disable_field = CHIPS[chip_id]
    chip.mem32 = registers = Registers(base, rest)
    bits = low[3]
    registers.put(low, minor & (1 << bits) - 1)
    if high:
        registers.put(high, minor >> bits)
    registers.put(major_field, major & 3)
    registers.put(disable_field, disable)
    return registers


def test_each_revision_of_each_chip():
    for chip_id, fields in CHIPS.items():
        minors = 1 << fields[1][3] + (1 if fields[2] else 0)
        for major in range(4):
            for minor in range(minors):
                burn(chip_id, major, minor)
                assert revision(chip_id) == (major * 100 + minor, False), (chip_id, major, minor)


def test_other_fuses_do_not_matter():
    for chip_id in CHIPS:
        if chip_id == 18:
            continue  # all others set means one more bit of its major version
        for major, minor in ((0, 1), (1, 2), (3, 3), (0, 7)):
            burn(chip_id, major, minor, 0, 0xFFFFFFFF)
            assert revision(chip_id) == (major * 100 + minor, False), (chip_id, major, minor)


def test_maximum_that_is_not_to_be_checked():
    for chip_id in CHIPS:
        burn(chip_id, 1, 2, disable=1)
        assert revision(chip_id) == (102, True), chip_id


def test_third_bit_of_the_major_version():
    for major in range(8):
        registers = burn(18, major & 3, 1)
        registers.put((B1, 2, 23, 1), major >> 2)
        assert revision(18) == (major * 100 + 1, False)
    # Of the ESP32-P4 alone.
    for chip_id in (20, 23):
        registers = burn(chip_id, 1, 1)
        registers.put((B1, 2, 23, 1), 1)
        assert revision(chip_id) == (101, False)


def test_first_esp32s3():
    # Block version 1.1 with a minor version of 0 (or 8): an ESP32-S3 v0.0, whatever its major bits say.
    for minor, expected in ((0, 0), (8, 0), (1, 301), (2, 302)):
        registers = burn(9, 3, minor)
        registers.put((B2, 4, 0, 2), 1)
        registers.put((B1, 3, 24, 3), 1)
        assert revision(9) == (expected, False), minor
    for block_major, block_minor in ((0, 1), (1, 0), (1, 2), (2, 1)):
        registers = burn(9, 3, 0)
        registers.put((B2, 4, 0, 2), block_major)
        registers.put((B1, 3, 24, 3), block_minor)
        assert revision(9) == (300, False)
    registers = burn(5, 3, 0)  # the same bits in an ESP32-C3
    registers.put((B2, 4, 0, 2), 1)
    registers.put((B1, 3, 24, 3), 1)
    assert revision(5) == (300, False)


def test_esp32():
    # REV1, REV2 and a bit of APB_CTL_DATE were burnt one after the other.
    for bits, major in ((0, 0), (1, 1), (3, 2), (7, 3)):
        for minor in range(4):
            for rest in (0, 0xFFFFFFFF):
                chip.mem32 = registers = Registers(0x3FF5A000, rest)
                registers.put((0, 3, 15, 1), bits & 1)
                registers.put((0, 5, 20, 1), bits >> 1 & 1)
                registers.put((0xC07C, 0, 31, 1), bits >> 2)
                registers.put((0, 5, 24, 2), minor)
                assert revision(0) == (major * 100 + minor, False)


def test_unknown_chip():
    chip.mem32 = Registers(0, 0xFFFFFFFF)
    for chip_id in (1, 25, 28, 0xFFFF):
        assert revision(chip_id) == (None, False)


def test_this_board():
    from https_ota import running_info

    rev, any_major = revision(running_info().chip_id)
    assert any_major in (False, True)
    assert rev is None or rev >= running_info().min_chip_rev
