# esp32.NVS of the SIM board within one life: values, errors, and what is written.

import simboard
from esp32 import NVS, Partition
from fakenet import raises

NOT_FOUND = (-4354, "ESP_ERR_NVS_NOT_FOUND")
NOT_ENOUGH_SPACE = (-4357, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
KEY_TOO_LONG = (-4361, "ESP_ERR_NVS_KEY_TOO_LONG")
INVALID_LENGTH = (-4364, "ESP_ERR_NVS_INVALID_LENGTH")
VALUE_TOO_LONG = (-4366, "ESP_ERR_NVS_VALUE_TOO_LONG")


def oserror(args, function, *params):
    e = raises(OSError, function, *params)
    assert e.args == args, e


def blob(nvs, key, room=20000):
    buf = bytearray(room)
    return bytes(buf[: nvs.get_blob(key, buf)])


def pattern(n, seed=0):
    return bytes((i * 7 + seed) & 255 for i in range(n))


def writes(function, *args):
    """Erases, program operations and bytes programmed of one call."""
    simboard.reset_counters()
    function(*args)
    erases, programs, _, n = simboard.counters()
    return erases, programs, n


# -- values


def test_integers():
    nvs = NVS("test")
    values = (0, 1, -1, 0x7FFFFFFF, -0x80000000, 0x40000000)
    for value in values:
        nvs.set_i32("key", value)
        assert nvs.get_i32("key") == value
    for i, value in enumerate(values):
        nvs.set_i32("key%d" % i, value)
    assert tuple(nvs.get_i32("key%d" % i) for i in range(len(values))) == values
    assert nvs.commit() is None


def test_integers_of_more_than_32_bits():
    nvs = NVS("test")
    for value in (0x80000000, -0x80000001):
        raises(OverflowError, nvs.set_i32, "key", value)
    raises(TypeError, nvs.set_i32, "key", 1.5)
    raises(TypeError, nvs.set_i32, "key", None)
    oserror(NOT_FOUND, nvs.get_i32, "key")


def test_blobs_of_every_length():
    nvs = NVS("test")
    for n in (0, 1, 31, 32, 33, 64, 500, 3999, 4000, 4001, 7000):
        nvs.set_blob("key", pattern(n))
        assert blob(nvs, "key") == pattern(n), n


def test_blob_that_fills_its_page():
    # 124 entries of data behind the namespace and the item: the index goes into the next page.
    nvs = NVS("test")
    nvs.set_blob("key", pattern(3968))
    assert blob(nvs, "key") == pattern(3968)


def test_blob_of_other_buffers():
    nvs = NVS("test")
    nvs.set_blob("a", bytearray(b"abc"))
    nvs.set_blob("b", memoryview(b"0abc")[1:])
    assert blob(nvs, "a") == blob(nvs, "b") == b"abc"


def test_blob_into_a_larger_buffer():
    nvs = NVS("test")
    nvs.set_blob("key", b"abc")
    buf = bytearray(b"......")
    assert nvs.get_blob("key", buf) == 3
    assert buf == b"abc..."


def test_namespaces_are_apart():
    a, b = NVS("a"), NVS("b")
    a.set_i32("key", 1)
    b.set_i32("key", 2)
    assert (a.get_i32("key"), b.get_i32("key")) == (1, 2)
    b.erase_key("key")
    assert a.get_i32("key") == NVS("a").get_i32("key") == 1
    oserror(NOT_FOUND, NVS("b").get_i32, "key")


def test_another_kind_replaces_the_value():
    nvs = NVS("test")
    nvs.set_i32("key", 1)
    nvs.set_blob("key", b"abc")
    oserror(NOT_FOUND, nvs.get_i32, "key")
    assert blob(nvs, "key") == b"abc"
    nvs.set_i32("key", 2)
    oserror(NOT_FOUND, nvs.get_blob, "key", bytearray(9))
    assert nvs.get_i32("key") == 2


def test_a_name_may_be_bytes():
    nvs = NVS(b"test")
    nvs.set_i32(b"key", 1)
    assert NVS("test").get_i32("key") == 1


# -- errors


def test_missing_key():
    nvs = NVS("test")
    oserror(NOT_FOUND, nvs.get_i32, "key")
    oserror(NOT_FOUND, nvs.get_blob, "key", bytearray(1))
    oserror(NOT_FOUND, nvs.erase_key, "key")


def test_erased_key():
    nvs = NVS("test")
    nvs.set_i32("int", 1)
    nvs.set_blob("blob", pattern(5000))
    nvs.erase_key("int")
    nvs.erase_key("blob")
    oserror(NOT_FOUND, nvs.get_i32, "int")
    oserror(NOT_FOUND, nvs.get_blob, "blob", bytearray(5000))
    oserror(NOT_FOUND, nvs.erase_key, "int")


def test_names_of_fifteen_bytes():
    nvs = NVS("n" * 15)
    nvs.set_i32("k" * 15, 1)
    nvs.set_blob("ä" * 7, b"abc")
    assert NVS("n" * 15).get_i32("k" * 15) == 1
    oserror(KEY_TOO_LONG, NVS, "m" * 16)
    oserror(KEY_TOO_LONG, nvs.set_i32, "l" * 16, 1)
    oserror(KEY_TOO_LONG, nvs.set_blob, "l" * 16, b"abc")
    oserror(KEY_TOO_LONG, nvs.set_i32, "ö" * 8, 1)
    oserror(NOT_FOUND, nvs.get_i32, "l" * 16)


def test_buffer_too_small():
    nvs = NVS("test")
    nvs.set_blob("key", b"abc")
    oserror(INVALID_LENGTH, nvs.get_blob, "key", bytearray(2))


def test_larger_than_the_partition():
    nvs = NVS("test")
    nvs.set_blob("key", b"old")
    oserror(VALUE_TOO_LONG, nvs.set_blob, "key", bytes(3 * 4000 + 1))
    # It would fit an empty partition, not one with a namespace in it.
    oserror(NOT_ENOUGH_SPACE, nvs.set_blob, "key", bytes(3 * 4000))
    assert blob(nvs, "key") == b"old"
    nvs.set_blob("key", pattern(11000))
    assert blob(nvs, "key") == pattern(11000)


def test_full_of_integers():
    nvs = NVS("test")
    # Three pages of 126 entries, one of which is the namespace.
    for i in range(3 * 126 - 1):
        nvs.set_i32("key%d" % i, i)
    oserror(NOT_ENOUGH_SPACE, nvs.set_i32, "more", 1)
    oserror(NOT_ENOUGH_SPACE, nvs.set_blob, "more", b"abc")
    oserror(NOT_ENOUGH_SPACE, NVS, "more")
    for i in range(3 * 126 - 1):
        assert nvs.get_i32("key%d" % i) == i
    nvs.erase_key("key5")
    nvs.set_i32("more", 1)
    assert nvs.get_i32("more") == 1
    oserror(NOT_ENOUGH_SPACE, nvs.set_i32, "key6", 7)
    assert nvs.get_i32("key6") == 6


def test_written_over_and_over():
    nvs = NVS("test")
    nvs.set_blob("blob", pattern(3000))
    nvs.set_i32("fixed", 42)
    for i in range(1000):
        nvs.set_i32("counter", i)
        if i % 50 == 0:
            nvs.set_blob("small", pattern(100, i))
    assert nvs.get_i32("counter") == 999
    assert nvs.get_i32("fixed") == 42
    assert blob(nvs, "blob") == pattern(3000)
    assert blob(nvs, "small") == pattern(100, 950)


# -- what is written


def test_an_integer_costs_an_entry_and_two_marks():
    nvs = NVS("test")
    nvs.set_i32("key", 1)
    # New entry, its mark, and the mark of the old one.
    assert writes(nvs.set_i32, "key", 2) == (0, 3, 32 + 4 + 4)


def test_an_unchanged_value_is_not_written():
    nvs = NVS("test")
    nvs.set_i32("int", 1)
    nvs.set_blob("blob", pattern(4500))
    assert writes(nvs.set_i32, "int", 1) == (0, 0, 0)
    assert writes(nvs.set_blob, "blob", pattern(4500)) == (0, 0, 0)
    assert writes(NVS, "test") == (0, 0, 0)
    assert writes(nvs.set_blob, "blob", pattern(4500, 1)) > (0, 0, 4500)


def test_reading_writes_nothing():
    nvs = NVS("test")
    nvs.set_i32("int", 1)
    nvs.set_blob("blob", b"abc")
    assert writes(nvs.get_i32, "int") == (0, 0, 0)
    assert writes(nvs.get_blob, "blob", bytearray(3)) == (0, 0, 0)
    assert writes(nvs.commit) == (0, 0, 0)


def test_a_new_value_leaves_the_old_one_in_place():
    nvs = NVS("test")
    nvs.set_i32("key", 0x11223344)
    nvs.set_i32("key", 0x55667788)
    page = bytearray(4096)
    Partition("nvs").readblocks(0, page)
    assert b"\x44\x33\x22\x11" in page
    assert b"\x88\x77\x66\x55" in page


def test_flipped_bit_in_a_blob():
    nvs = NVS("test")
    nvs.set_blob("key", b"\xff" * 40)
    page = bytearray(4096)
    Partition("nvs").readblocks(0, page)
    Partition("nvs").writeblocks(0, b"\xfe", page.find(b"\xff" * 40, 64))
    oserror(NOT_FOUND, nvs.get_blob, "key", bytearray(40))
    nvs.set_blob("key", b"new")
    assert blob(nvs, "key") == b"new"
