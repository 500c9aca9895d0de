# Error codes: the one exception of this package, and what raising and showing it needs.
#
# A detail is short: what came, what was expected. What to do stands once per code in words.py. The table of errors in the
# manual is compared with both by a test.


class OTAError(Exception):
    """An update can't go on. `code` is one of the constants below; `detail` says what was expected, and what came."""

    # Use of the package and of the board.
    STATE = 1  # a method was called out of order
    NO_SLOT = 2  # the board has no OTA slot to write to
    PENDING_VERIFY = 3  # the running firmware is not confirmed yet
    MEMORY = 4  # not enough memory
    PARTITION = 5  # a partition that does not exist or must not be written
    IN_PROGRESS = 6  # another update writes to the partition
    RESET_NEEDED = 7  # what is selected waits for a reset, as deep sleep does not start it
    # Transport.
    CLOCK = 10  # the board's clock is not set
    CERT_DATE = 11  # the server's certificate is expired or not valid yet
    CERT_HOST = 12  # the server's certificate is for another host
    CERT_CA = 13  # the server's certificate is not signed by a CA that was given
    TLS_BUFFER = 14  # the server sent a TLS record larger than the firmware's buffer
    REDIRECT = 15  # a redirect that must not or cannot be followed
    HTTP_STATUS = 16  # the server answered with an error status
    HTTP_PROTOCOL = 17  # the server's answer breaks HTTP, or a limit
    DISCONNECTED = 18  # the connection ended before the data did
    DEADLINE = 19  # the update took longer than it may
    CHANGED = 20  # the file on the server keeps changing
    CERT_PIN = 21  # the server's certificate and key are none of those pinned
    # The image.
    NOT_AN_IMAGE = 30  # not an ESP application image at all
    WRONG_FILE = 31  # a firmware file, but not the application image
    CHIP = 32  # built for another chip
    CHIP_REVISION = 33  # built for another revision of this chip
    FLASH_MODE = 34  # built for another flash mode
    TOO_BIG = 35  # larger than the slot
    SEGMENTS = 36  # its segment table is broken
    TRUNCATED = 37  # ends too early
    CHECKSUM = 38  # its checksum does not match its content
    DIGEST = 39  # its SHA-256 is not the one expected
    SIZE = 40  # its size is not the one expected
    SECURE_VERSION = 41  # its secure version is below what this board takes
    VERSION = 42  # its version is older than the running one, or can't be compared
    PROJECT = 43  # it is of another project
    BASE = 44  # a delta to another image than the running one
    # The flash.
    READ_BACK = 50  # the flash does not hold what was written
    NOT_BOOTABLE = 51  # the firmware's own check refused the slot
    ROLLBACK = 52  # there is no firmware to go back to
    FAILED_BEFORE = 53  # it was installed here before, and rolled back
    # Encrypted images.
    NOT_ENCRYPTED = 60  # expected an encrypted image, another file came
    DECRYPT_KEY = 61  # the key does not open this encrypted image
    TAG = 62  # the encrypted image was changed on its way: its tag does not match
    # Signatures.
    UNSIGNED = 70  # no signature where one must be
    SIGNATURE_BLOCK = 71  # a signature block is damaged
    KEY_TYPE = 72  # a signature of a kind, curve or hash that is not supported
    UNKNOWN_KEY = 73  # signed by none of the trusted keys
    SIGNATURE = 74  # the signature does not match the image
    # Release manifests.
    MANIFEST = 90  # the release manifest is malformed or too large
    MANIFEST_EXPIRED = 91  # the release manifest has expired
    MANIFEST_REPLAY = 92  # the release manifest is older than one seen before
    NO_FILE = 93  # the release manifest has no file for this board

    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    # MicroPython prints tracebacks with __repr__.
    def __repr__(self):
        return "OTAError: " + str(self)

    # In the second line what to do, where that slice is there and memory allows.
    def __str__(self):
        for name in dir(OTAError):
            if name[0] != "_" and getattr(OTAError, name) == self.code:
                text = name + ": " + self.detail
                try:
                    from .words import advice

                    text += "\n" + advice(name)
                except (ImportError, MemoryError):
                    pass
                return text
        return self.detail


def refuse(option, expected, value):
    """Raise TypeError for a value that an option can't have, ValueError for a number and None."""
    kind = ValueError if value is None or isinstance(value, (int, float)) else TypeError
    raise kind("%s: expected %s, got %r" % (option, expected, value))


def as_text(buf, n):
    """buf[:n] as printable ASCII, '.' for other bytes; '' when that is mostly not text."""
    text = "".join(
        chr(c) if 32 <= c < 127 else " " if c in b"\r\n\t" else "." for c in bytes(buf[:n])
    )
    return "" if text.count(".") > n // 4 else " ".join(text.split())
