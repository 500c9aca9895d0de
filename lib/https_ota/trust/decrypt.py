# An encrypted file as a stream of what is in it. What the format is, and the key, is the cipher's matter.
#
# A cipher, encrypted.EncryptedImage or one's own, has
#
#   header_size     bytes before the ciphertext, 0 or more
#   begin(header)   takes these bytes (bytes, all of them) and gets ready, from any state; returns how many bytes
#                   of plaintext are to come, None when the header does not tell; raises OTAError for a header
#                   that can't be right
#   decrypt(buf, n) decrypts buf[:n], the next bytes, in place; n is 1 to len(buf), as the network has it. The
#                   plaintext is as long as the ciphertext. Should allocate nothing
#   finish()        raises OTAError unless all that went through is authentic; until then nothing is relied on
#   wipe()          forgets all that begin() and decrypt() derived; harmless at any time. begin() may follow
#
# and, if it can,
#
#   replay(buf, n)  goes on as if the ciphertext of buf[:n] had come, and leaves buf as it was; without it a
#                   download does not go on after a reset
#   feed            set to a function, or None, to be called now and then in what takes long: for a watchdog
#   check(start)    raises OTAError when no file of this format begins like that; for files that end within the
#                   header

from ..errors import OTAError


class Decrypt:
    """The plaintext of an encrypted stream: begin() or resume(), readinto() until it returns 0, finish(); close().

    source  the encrypted file: an object with readinto(buf) -> n (0 at the end)
    cipher  what decrypts it, see above; TypeError when it lacks one of these
    feed    for a watchdog: handed to a cipher that has an attribute of this name

    `header` is the file's (bytes), `size` the plaintext's length (None while unknown), `position` how much of it
    was handed out, or replayed. Nothing is authentic before finish(). begin() and resume() may be called again
    when the source starts over.
    """

    def __init__(self, source, cipher, feed=None):
        for name in ("header_size", "begin", "decrypt", "finish", "wipe"):
            if not hasattr(cipher, name):
                raise TypeError(
                    "decrypt: expected EncryptedImage(...) or an object like it, got %s, which has no %s"
                    % (type(cipher).__name__, name)
                )
        if hasattr(cipher, "feed"):
            cipher.feed = feed
        self._source = source
        self._cipher = cipher
        self._part = None  # of the header
        self._got = 0
        self.header = None
        self.size = None
        self.position = 0

    @property
    def can_replay(self):
        """Whether the cipher can go on where an earlier session stopped."""
        return hasattr(self._cipher, "replay")

    def begin(self):
        """Read the header from the source and make the cipher ready: True then, None while it has not come.

        Raises OTAError, or what the source raises.
        """
        size = self._cipher.header_size
        if self._part is None:
            self._part = memoryview(bytearray(size))
            self._got = 0
        while self._got < size:
            n = self._source.readinto(self._part[self._got :])
            if n is None:
                return None
            if not n:
                if hasattr(self._cipher, "check"):
                    self._cipher.check(self._part[: self._got])
                raise OTAError(
                    OTAError.TRUNCATED,
                    "the file ends after %d bytes, within the %d of its header"
                    % (self._got, size),
                )
            self._got += n
        header, self._part = bytes(self._part), None
        self.resume(header)
        return True

    def restart(self):
        """The source starts over: begin() reads the header from its first byte."""
        self._part = None

    def resume(self, header):
        """Make the cipher ready with a header that an earlier session kept; replay() what it wrote then."""
        self.header = header
        self.position = 0
        self.size = self._cipher.begin(header)
        # A download knows beforehand whether this can be true.
        total = getattr(self._source, "total", None)
        if total is not None and self.size is not None and total != len(header) + self.size:
            raise OTAError(
                OTAError.TRUNCATED if total < len(header) + self.size else OTAError.SIZE,
                "by its header the encrypted file has %d bytes, but it has %d"
                % (len(header) + self.size, total),
            )

    def size_of(self, total):
        """The plaintext's length, where the whole file has `total` bytes (None: unknown)."""
        if self.size is None and total is not None:
            return total - len(self.header)
        return self.size

    def replay(self, buf, n):
        """Pass buf[:n], the next bytes of plaintext that an earlier session wrote; buf keeps them."""
        self._check(n)
        self._cipher.replay(buf, n)
        self.position += n

    def readinto(self, buf):
        """Read and decrypt the next bytes into buf; return how many, 0 at the end. Allocates nothing itself."""
        n = self._source.readinto(buf)
        if n is None:
            return None
        if not n:
            self._complete()
            return 0
        self._check(n)
        self._cipher.decrypt(buf, n)
        self.position += n
        return n

    def finish(self):
        """Raise OTAError unless everything came and is authentic."""
        self._complete()
        self._cipher.finish()

    def close(self):
        """Make the cipher forget what it derived; the source is the caller's. Harmless at any time."""
        self._cipher.wipe()

    def _check(self, n):
        if self.size is not None and n > self.size - self.position:
            raise OTAError(
                OTAError.SIZE,
                "by its header the encrypted file holds %d bytes, but there are more" % self.size,
            )

    def _complete(self):
        if self.size is not None and self.position != self.size:
            raise OTAError(
                OTAError.TRUNCATED,
                "by its header the encrypted file holds %d bytes, but it ended after %d"
                % (self.size, self.position),
            )
