# PEM and DER, and digests and keys of 32 bytes: what callers hand in as they have it.

from binascii import a2b_base64, unhexlify

_BEGIN = b"-----BEGIN "
_END = b"-----END "


def digest32(value, what):
    """32 bytes, given as such or as 64 hex digits (str or bytes); ValueError for anything else, which `what` names.

    The value is not shown: it may be a key.
    """
    n = 0
    found = b""
    try:
        n = len(value)
        if n == 64:
            found = unhexlify(value)
        elif not isinstance(value, str):
            found = bytes(memoryview(value))
    except (TypeError, ValueError):
        pass
    if len(found) != 32:
        raise ValueError(
            "%s: expected 32 bytes or 64 hex digits, came %s, %d long"
            % (what, type(value).__name__, n)
        )
    return found


def to_der(data, what, bad=None):
    """A list of DER byte strings from PEM or DER data (str, bytes, or a list of these).

    PEM (RFC 7468) is decoded here because some builds of mbedTLS parse DER only. What is no good is a ValueError, or
    words in the list `bad`.
    """
    return [der for _, der in blocks(data, what, bad)]


def blocks(data, what, bad=None):
    """As to_der(), each behind what its PEM block is called, b"" without one."""
    if isinstance(data, (list, tuple)):
        return [block for part in data for block in blocks(part, what, bad)]
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            "%s: expected PEM or DER as str or bytes, got %s" % (what, type(data).__name__)
        )
    data = bytes(data)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        # UTF-16, as Windows writes it: what is of interest is ASCII.
        data = data.replace(b"\0", b"")
    # A digit 0 may also begin the text around PEM blocks, as openssl writes it.
    if data[:1] == b"\x30" and _BEGIN not in data:
        return [(b"", data)]
    found = []
    at = data.find(_BEGIN)
    if at < 0:
        _refuse(what, "neither PEM nor DER: it starts with %r" % data[:16], bad)
    while at >= 0:
        start = data.find(b"-----", at + len(_BEGIN))
        end = data.find(_END, start)
        after = data.find(_BEGIN, start)
        label = data[at + len(_BEGIN) : start]
        if start < 0 or end < 0 or 0 <= after < end:
            _refuse(what, "a PEM block does not end", bad)
        elif b"EC PARAMETERS" not in label:  # openssl puts these before the key
            try:
                found.append((label, a2b_base64(data[start + 5 : end])))
            except ValueError:
                _refuse(what, "a PEM block is not base64", bad)
        at = after
    return found


def _refuse(what, words, bad):
    if bad is None:
        raise ValueError("%s: %s" % (what, words))
    bad.append(words)


def element(der, at, tag=None):
    """Where the content of the DER element at `at` begins and ends; IndexError when it is none, or has another tag."""
    if tag is not None and der[at] != tag:
        raise IndexError
    n = der[at + 1]
    at += 2
    if n & 128:
        size = n & 127 or len(der)  # DER has no indefinite lengths
        n = int.from_bytes(der[at : at + size], "big")
        at += size
    if at + n > len(der):
        raise IndexError
    return at, at + n
