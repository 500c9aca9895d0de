# flash/words.py: what a file is that is no application image.

from https_ota import OTAError
from https_ota.flash.words import wrong_file
from makeimage import header, image


def told(data, decrypted=False):
    """(code, detail) for a file that begins so."""
    n = min(len(data), 288)
    e = wrong_file(bytearray(data[:n]), n, decrypted)
    assert isinstance(e, OTAError)
    return e.code, e.detail


def bootloader():
    return header(1) + bytes(8) + b"\x50\0\0\0" + bytes(600)


def combined(table):
    """Bootloader, partition table at `table`, application."""
    data = bytearray(b"\xff" * (table + 32))
    data[:632] = bootloader()[:632]
    data[table : table + 2] = b"\xaa\x50"
    return data


def test_empty_file():
    code, detail = told(b"")
    assert code == OTAError.NOT_AN_IMAGE and "empty" in detail


def test_short_file():
    data = image()
    for n in (1, 24, 287):
        code, detail = told(data[:n])
        assert code == OTAError.TRUNCATED and "%d bytes" % n in detail


def test_combined_image():
    for table in (0x8000, 0x7000, 0x6000):
        code, detail = told(combined(table))
        assert code == OTAError.WRONG_FILE
        assert "combined image" in detail


def test_bootloader():
    code, detail = told(bootloader())
    assert code == OTAError.WRONG_FILE and "a bootloader or combined image" in detail


def test_image_without_descriptor():
    data = bytearray(image())
    data[32] = 0
    code, detail = told(data)
    assert code == OTAError.WRONG_FILE and "without descriptor" in detail


def test_files_known_by_their_first_bytes():
    for start, word in (
        (b"\x7fELF\x01\x01", "ELF"),
        (b"\xcf\xb6\x88\x07", "pre-encrypted"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"UF2\nWQ]\x9e", "UF2"),
        (b"\xaa\x50\x01\x02", "partition table"),
        (b":10000000", "HEX"),
    ):
        for tail in (b"", bytes(400)):
            code, detail = told(start + tail)
            assert code == OTAError.WRONG_FILE and word in detail


def test_erased_flash():
    for n in (1, 7, 8, 400):
        code, detail = told(b"\xff" * n)
        assert code == OTAError.WRONG_FILE and "erased flash" in detail


def test_text_is_shown():
    for text, kind in (
        (b"<!DOCTYPE html><html><title>Sign in</title>", "a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
        (b'{"message": "Not Found"}', "JSON"),
        (b"[1, 2, 3]", "JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "text"),
        (b"\r\n  hello", "text"),
    ):
        for tail in (b"", b" " * 400):
            code, detail = told(text + tail)
            assert code == OTAError.NOT_AN_IMAGE
            assert "got %s: " % kind in detail
            assert text.decode().split()[0] in detail


def test_long_text_is_cut():
    detail = told(b"<html>" + b"x" * 1000)[1]
    assert "x" * 60 in detail and "x" * 80 not in detail


def test_anything_else():
    code, detail = told(bytes(range(1, 200)))
    assert code == OTAError.NOT_AN_IMAGE and "got 0x01" in detail
    assert "got 0x00" in told(bytes(400))[1]


def test_what_the_wrong_key_makes():
    code, detail = told(b"\x37" + bytes(400), decrypted=True)
    assert code == OTAError.DECRYPT_KEY
    assert "0x37" in detail and "another key" in detail
    # What was encrypted is the wrong file; the key is right.
    assert told(combined(0x8000), decrypted=True)[0] == OTAError.WRONG_FILE
