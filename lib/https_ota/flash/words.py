# Wrong-file diagnosis: what came in place of an application image. Loaded only for an error.

from ..errors import OTAError, as_text
from .info import HEAD_SIZE

_KINDS = (
    (b"\x7fELF", "an ELF file"),
    (b"\xcf\xb6\x88\x07", "a pre-encrypted image"),
    (b"\x1f\x8b", "a gzip file, which takes the slice pack"),
    (b"\x10\xde\xcd\xfc", "a delta, which takes the slice delta (or heatshrink)"),
    (b"PK\x03\x04", "a zip file"),
    (b"UF2\n", "a UF2 file"),
    (b"\xaa\x50", "a partition table"),
    (b":10", "an Intel HEX file"),
)


def wrong_file(head, n, decrypted):
    """The OTAError for a file that begins with head[:n]; `decrypted`: with a key, from another file."""
    code = OTAError.WRONG_FILE
    if n == 0:
        code = OTAError.NOT_AN_IMAGE
        what = "an empty file"
    elif head[0] == 0xE9:
        if n < HEAD_SIZE:
            code = OTAError.TRUNCATED
            what = "%d bytes, within its header" % n
        elif head[32] == 80:
            what = "a bootloader or combined image"
        else:
            # Bootloaders before ESP-IDF 5.1, and what begins with one.
            what = "one without descriptor: a bootloader, combined or damaged image"
    elif decrypted:
        # A wrong key makes noise.
        code = OTAError.DECRYPT_KEY
        what = "0x%02x first: made for another key, damaged, or no image" % head[0]
    else:
        what = _kind(bytes(head[: min(n, 8)]))
        if not what:
            code = OTAError.NOT_AN_IMAGE
            text = as_text(head, min(n, 80))
            what = "text: " if text else "0x%02x first" % head[0]
            if text[:1] == "<":
                what = "a web page: "
            elif text[:1] in ("{", "["):
                what = "JSON: "
            what += text
    return OTAError(code, "expected an application image, got " + what)


def _kind(start):
    for magic, what in _KINDS:
        if start.startswith(magic):
            return what
    return "erased flash, as in a dump" if start == b"\xff" * len(start) else None
