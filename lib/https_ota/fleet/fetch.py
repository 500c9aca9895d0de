# A file from a server, piece by piece, to wherever the caller puts it.

import hashlib

from ..der import digest32
from ..errors import OTAError, refuse
from ..hot import equal
from ..memory import no_memory, work
from ..net.download import Download


def fetch(url, write, *, sha256=None, size=None, decrypt=None, wdt=None, **http):
    """Download a file, over all that can go wrong, and hand it to write(memoryview) piece by piece; return its size.

    sha256   of what is handed over, if known: 32 bytes or 64 hex digits; OTAError(DIGEST) at the end if it is another
    size     its bytes, if known, likewise; OTAError(SIZE)
    decrypt  as OTA's; only after the return is what came authentic
    wdt      a machine.WDT to feed
    The other options are those of download.Download. The pieces are at most 1024 bytes long, and the memory is used again
    for the next. When the file changes on the server meanwhile, this ends with OTAError(CHANGED).
    """
    try:
        with work:
            return _fetch(url, write, sha256, size, decrypt, wdt, http)
    except MemoryError:
        raise no_memory()


def _fetch(url, write, sha256, size, decrypt, wdt, http):
    if size and not (isinstance(size, int) and size > 0):
        refuse("size", "bytes", size)
    if wdt and not hasattr(wdt, "feed"):
        refuse("wdt", "a WDT", wdt)
    expected = None if sha256 is None else digest32(sha256, "sha256")
    feed = wdt.feed if wdt else None
    source = file = Download(url, **http)
    if decrypt is not None:
        from ..trust.decrypt import Decrypt

        source = Decrypt(file, decrypt, feed)
    if size:
        file.least = file.offset + size
    sha = hashlib.sha256()
    got = 0
    vouched = size or expected or decrypt is not None
    try:
        for piece in pieces(source, bytearray(1024), feed):
            if file.open_end and not vouched:
                break
            sha.update(piece)
            write(piece)
            got += len(piece)
        # Only the end of the connection ends it: whether that is all nobody can tell then.
        if file.open_end and not vouched:
            from ..net.words import no_length

            raise no_length(url)
        if decrypt is not None:
            source.finish()
    finally:
        file.close()
        if decrypt is not None:
            source.close()
    if size and got != size:
        raise OTAError(OTAError.SIZE, "expected %d bytes, got %d" % (size, got))
    if expected and not equal(sha.digest(), expected):
        raise OTAError(OTAError.DIGEST, "the SHA-256 is not the one expected")
    return got


def pieces(source, buf, feed, identity=None):
    """A generator of what comes from a source from its beginning, as memoryviews of buf; it waits. `feed` feeds a watchdog.

    identity: what is there already, see Download.open(); nothing comes then when it is that.
    """
    view = memoryview(buf)
    status = source.open(0, identity)
    while status is None:
        _wait(source, feed)
        status = source.open(0, identity)
    while status not in (204, 304):
        n = source.readinto(buf)
        if n is None:
            _wait(source, feed)
        elif n:
            yield view[:n]
            if feed:
                feed()
        else:
            break


def _wait(source, feed):
    source.wait()
    if feed:
        feed()
