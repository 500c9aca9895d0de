# Images that are filled up with 0xFF beyond the size of their slot: the image itself may fit.

from .errors import OTAError


def check(file, total, region, whole):
    """A generator that raises OTAError(TOO_BIG) unless the file of `total` bytes ends in 0xFF; it closes the source."""
    tail = bytearray(256)
    n = 0
    # Without ranges it can't be had beforehand.
    if not whole and region.holds_back:
        known = _Known(file)
        file.close()
        try:
            while (status := file.open(total - len(tail), known)) is None:
                yield None
            while status == 206 and n < len(tail):
                got = file.readinto(memoryview(tail)[n:])
                if got is None:
                    yield None
                elif got:
                    n += got
                else:
                    break
        except OSError:
            n = 0
    file.close()
    if n < len(tail) or tail != b"\xff" * n:
        raise OTAError(
            OTAError.TOO_BIG,
            "the image has %d bytes, slot %s only %d" % (total, region.label, region.size),
        )


class _Known:
    # What the file is known by, while it is asked for once more.

    def __init__(self, file):
        self.validator = file.validator
        self.total = file.total
