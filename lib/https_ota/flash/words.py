# What a file is that is no application image. Loaded only once one has come.

from ..errors import OTAError
from ..net.words import as_text
from .image import HEAD_SIZE
from ..steps import Again, retry

_APP = "use the application image: micropython.bin of the build folder, or the .app-bin among the downloads"
_MAGICS = (
    (b"\x7fELF", "an ELF file; " + _APP),
    (b"\xcf\xb6\x88\x07", "a pre-encrypted image; give decrypt=EncryptedImage(...) with its key"),
    (b"\x1f\x8b", "a gzip file; unpack it on the server"),
    (b"PK\x03\x04", "a zip file; unpack it on the server"),
    (b"UF2\n", "a UF2 file; " + _APP),
    (b"\xaa\x50", "a partition table; " + _APP),
    (b":10", "an Intel HEX file; " + _APP),
)
# Where the partition table lies in a combined image: 0x8000 less the bootloader's offset (0x1000 on
# ESP32 and S2, 0x2000 on P4 and C5, 0 elsewhere), as such files begin with the bootloader.
_TABLES = (0x6000, 0x7000, 0x8000)


def wrong_file(head, n, source, decrypted):
    """The OTAError for a file that begins with head[:n]; `source` gives the rest, which may be read.

    `decrypted` tells that this is what a key made of another file.
    """
    if decrypted and n and head[0] != 0xE9:
        return OTAError(
            OTAError.DECRYPT_KEY,
            "what was decrypted does not begin like an image (0xe9) but with 0x%02x: it was encrypted for another"
            " key, changed on its way, or is no image" % head[0],
        )
    if n == 0:
        return OTAError(OTAError.NOT_AN_IMAGE, "the file is empty")
    if head[0] == 0xE9:
        if n < HEAD_SIZE:
            return OTAError(
                OTAError.TRUNCATED,
                "the file ends after %d bytes, in the middle of the image's header" % n,
            )
        table = _find_table(head, n, source)
        if table is not None:
            return OTAError(
                OTAError.WRONG_FILE,
                "this is a combined image (bootloader, partition table and application, for flashing over USB);"
                " the application starts at 0x%x in it; %s" % (table + 0x8000, _APP),
            )
        if head[32] == 80:
            return OTAError(OTAError.WRONG_FILE, "this is a bootloader image; " + _APP)
        return OTAError(
            OTAError.WRONG_FILE,
            "no application descriptor in it: a bootloader or combined image, or a damaged file; "
            + _APP,
        )
    start = bytes(head[: min(n, 8)])
    for magic, what in _MAGICS:
        if start.startswith(magic):
            return OTAError(OTAError.WRONG_FILE, "this is " + what)
    if start == b"\xff" * len(start):
        return OTAError(
            OTAError.WRONG_FILE,
            "this begins with erased flash: a dump or merged image from address 0; " + _APP,
        )
    text = as_text(head, min(n, 80))
    if text:
        what = "a web page" if text[0] == "<" else "JSON" if text[0] in "{[" else "text"
        return OTAError(
            OTAError.NOT_AN_IMAGE,
            "expected an ESP image, the server sent %s: %s; check the URL" % (what, text),
        )
    return OTAError(
        OTAError.NOT_AN_IMAGE,
        "expected an ESP image (first byte 0xe9), got 0x%02x; check the file on the server"
        % head[0],
    )


def padding(ota, download):
    """Raise OTAError(TOO_BIG) unless the file that has begun to come ends in 0xFF: a generator, see steps.py.

    The image itself may fit then; its segments tell while it comes. Without ranges the end can't be had beforehand.
    """
    total, validator = download.total, download.validator
    tail = bytearray(256)
    view = memoryview(tail)
    n = got = 0

    def read():
        return download.readinto(view[n:])

    download.close()
    download.ask(total - len(tail), validator, total)
    try:
        if (yield from retry(download.answer)) == 206:
            got = 1
        while got and n < len(tail):
            got = yield from retry(read)
            n += got
    except OSError:
        n = 0
    download.close()
    if n < len(tail) or tail != b"\xff" * len(tail):
        raise ota.too_big(total)
    download.ask()
    yield from retry(ota._start)


def _find_table(head, n, source):
    # Nothing is written yet, so the rest of the file may be read to be sure.
    buf = bytearray(512)
    pos = n
    last = 0  # the byte before buf
    try:
        while pos <= _TABLES[-1] + 1:
            m = source.readinto(buf)
            if not m:
                break
            for at in _TABLES:
                i = (
                    at + 1 - pos
                )  # of its second byte; the first may have come with the piece before
                if 0 <= i < m and buf[i] == 0x50 and (buf[i - 1] if i else last) == 0xAA:
                    return at
            last = buf[m - 1]
            pos += m
    except (OSError, OTAError, Again):
        pass  # not seen to the end: the other messages do
    return None


def no_slot(running, found):
    """The OTAError for a board that has no slot to write to: `running` is its Partition, `found` that of a slot that is
    no use without otadata.
    """
    from esp32 import Partition

    from .otadata import slot_number

    once = "flash firmware with an OTA table (for example the OTA variant) once over USB"
    factory = [
        info for info in map(Partition.info, Partition.find(Partition.TYPE_APP)) if not info[1]
    ]
    if found:
        what = "the partition table has no otadata, which tells what to boot: " + once
    elif slot_number(running) < 0:
        what = "the partition table has no OTA slot to write to: " + once
    else:
        what = "%s, which runs, is the only OTA slot" % running.info()[4]
        if factory:
            what += (
                ": start the firmware in %s by esp32.Partition(%r).set_boot() and machine.reset(), and update from there;"
                " or " % (factory[0][4], factory[0][4])
            )
        else:
            what += ", and needs another beside it: "
        what += once
    return OTAError(OTAError.NO_SLOT, what)
