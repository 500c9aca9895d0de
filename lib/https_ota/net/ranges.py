# How much a request asks for: the sizes of ranges.

from micropython import const

from ..errors import refuse
from .tls import tls_buffer

_SMALLEST = const(512)  # the smallest TLS buffer the chip can be built with
_SECTOR = const(4096)
_MAX_RECORD = const(16384)  # TLS has none that are longer
_MARGIN = const(64)  # a later response's head may be longer than the first one's
_ALL = const(0x10000000)
_BEGINNING = const(2048)  # who looks at that only, wants no more
_MOST = const(12)  # requests at once: an erase of 64 KiB takes 150 ms, a round trip 200
_PATIENCE = const(16)


class Ranges:
    """The `size` of the next range, 0 for all that is left: as given, or what suits the TLS buffer when that is None.

    A record that does not fit looks like one that someone put on the way: what is learned from it (by retry.py) is only
    for this download, and tried again.
    """

    def __init__(self, size):
        if size is not None and not (isinstance(size, int) and (not size or size >= _SMALLEST)):
            refuse("request_size", "None, 0 or at least 512", size)
        self.auto = size is None
        self.size = size
        self.roof = None  # what it was before it shrank
        self.since = 0  # the position where it became what it is
        self.patience = _PATIENCE  # responses until it may grow again
        self.grown = False  # it is more than before
        self.deep = True  # more than one request may be out

    def choose(self, tls, position):
        """Begin with a server."""
        if self.auto:
            # Below 16 KiB a whole response, head and body, may come as one record: the first leaves a quarter for the
            # head, whose length it tells.
            room = tls_buffer()
            self.roof = None
            self.resize(room * 3 // 4 if tls and room < _MAX_RECORD else 0, position, False)

    def fit(self, head_size):
        """The first response had a head of so many bytes: server and proxies add much the same lines to each."""
        size = tls_buffer() - head_size - _MARGIN
        if self.auto and self.size and _SMALLEST <= size < _MAX_RECORD:
            if self.roof is None:
                self.size = size
            else:
                self.roof = size

    def grow(self, position):
        """Once smaller ones have gone well for a while."""
        if self.roof is not None and position - self.since >= self.size * self.patience:
            size = self.size * 2
            if size >= (self.roof or _MAX_RECORD):
                size, self.roof = self.roof, None
            self.resize(size, position, True)

    def resize(self, size, position, grown):
        """Ask for so much from now on; `grown`: that is more than before."""
        self.size = size
        self.since = position
        self.grown = grown

    def reach(self, position):
        """Up to where all may be asked for before what is at `position` was read: so that the way is never empty."""
        if not self.deep or position < _BEGINNING:
            return 0
        size = self.size
        return position + (size if size < _SECTOR else _SECTOR) * (_MOST - 1)

    def stop(self, first, offset, total):
        """One past the last byte of the range at `first`, in a file of so many bytes or None, whose sectors begin at `offset`."""
        stop = first + (self.size or _ALL)
        if self.size > _SECTOR:
            # So that the next request goes out before a sector is written.
            stop -= (stop - offset) % _SECTOR
        return stop if total is None or stop < total else total
