# A stream of one's own as a source: a file, a UART, a socket.

import time

from micropython import const

_WAIT_MS = const(10)


class Local:
    """What has readinto(buf) -> n (0 at the end, None when nothing has come yet), as a source: see lib/README.md.

    It begins where the stream stands, once. `total` is its length, None where that is not known.
    """

    url = validator = None
    status = position = least = offset = 0
    open_end = content_checked = False

    def __init__(self, stream, total):
        self._stream = stream
        self.total = total

    def open(self, position=0, identity=None):
        """Nothing is to be done: 0."""
        return 0

    def readinto(self, buf):
        """As the stream's."""
        n = self._stream.readinto(buf)
        if n:
            self.position += n
        return n

    def close(self):
        """The stream is the caller's."""

    def waits_for(self):
        """A time, as the stream does not say when."""
        return None, False, _WAIT_MS

    def wait(self):
        """Let that time pass."""
        time.sleep_ms(_WAIT_MS)
