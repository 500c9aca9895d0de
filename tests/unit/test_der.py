# der.py: 32 bytes in every form, and elements of DER; PEM is looked at in test_trust.py.

import gc

from binascii import hexlify

from fakenet import raises
from https_ota.der import digest32, element

RAW = bytes(range(200, 232))
HEX = hexlify(RAW).decode()


def test_32_bytes_in_every_form():
    forms = (RAW, bytearray(RAW), memoryview(RAW), memoryview(b"x" + RAW)[1:])
    for value in forms + (HEX, HEX.upper(), HEX.encode(), bytearray(HEX.encode())):
        found = digest32(value, "it")
        assert found == RAW and type(found) is bytes, value


def test_what_is_no_32_bytes():
    for value, shown in (
        (None, "NoneType, 0 long"),
        (5, "int, 0 long"),
        ("", "str, 0 long"),
        (b"", "bytes, 0 long"),
        (RAW[:31], "bytes, 31 long"),
        (RAW + b"x", "bytes, 33 long"),
        (HEX[:32], "str, 32 long"),
        (HEX[:-1], "str, 63 long"),
        (HEX + "00", "str, 66 long"),
        ("g" * 64, "str, 64 long"),
        (HEX[:-1] + "\n", "str, 64 long"),
        (" " + HEX[1:], "str, 64 long"),
        ("\u00e9" * 32, "str, 32 long"),
        ([1] * 32, "list, 32 long"),
        ([1] * 64, "list, 64 long"),
        ({}, "dict, 0 long"),
    ):
        e = str(raises(ValueError, digest32, value, "sha256"))
        assert e == "sha256: expected 32 bytes or 64 hex digits, came " + shown, e


def test_a_key_is_not_shown():
    secret = "5ec2e7" + HEX[6:-1]
    assert "5ec2e7" not in str(raises(ValueError, digest32, secret, "hmac_key"))


def test_elements():
    for n in (0, 1, 127, 128, 255, 256, 65535, 65536):
        if gc.mem_free() < 8 * n:
            continue  # more than a chip has in one piece
        size = bytes([n]) if n < 128 else n.to_bytes(4, "big").lstrip(b"\0")
        if n >= 128:
            size = bytes([128 + len(size)]) + size
        der = b"??" + b"\x04" + size + bytes(n) + b"behind"
        start = 3 + len(size)
        for data in (der, memoryview(der)):
            assert element(data, 2) == element(data, 2, 4) == (start, start + n), n
            raises(IndexError, element, data, 2, 5)
        for cut in (2, 3, start + n - 1):
            raises(IndexError, element, der[:cut], 2)


def test_lengths_that_lead_nowhere():
    for der in (b"\x30\x80\0\0", b"\x30\x81", b"\x30\x84\xff\xff\xff\xff"):
        raises(IndexError, element, der, 0)
