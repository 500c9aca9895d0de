# For MicroPython before 1.24: what micropython.RingIO is there later. A call for each byte makes it slow.

import io


class RingIO(io.IOBase):
    """A buffer that is written at its end and read at its beginning."""

    def __init__(self, size):
        self._data = b""
        self._at = 0

    def any(self):
        """How many bytes are in it."""
        return len(self._data) - self._at

    def write(self, buf, n=None):
        """Take buf[:n]; return how many bytes."""
        buf = bytes(buf) if n is None else bytes(buf[:n])
        self._data = self._data[self._at :] + buf
        self._at = 0
        return len(buf)

    def readinto(self, buf):
        """Fill buf, as far as there is something."""
        n = min(len(buf), self.any())
        buf[:n] = self._data[self._at : self._at + n]
        self._at += n
        return n
