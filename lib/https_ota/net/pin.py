# Pins: the SHA-256 of a server's certificate, or of the public key in it.

from binascii import a2b_base64, hexlify, unhexlify
from hashlib import sha256

from ..errors import OTAError
from ..hot import equal


def pin_digests(value):
    """A list of digests, 32 bytes each, from the value of the option `pin`.

    One, or a list or tuple, of 32 bytes, 64 hex digits, or curl's "sha256//" and base64.
    Raises ValueError for anything else.
    """
    result = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        digest = item
        if isinstance(item, str):
            try:
                digest = a2b_base64(item[8:]) if item.startswith("sha256//") else unhexlify(item)
            except ValueError:
                digest = b""
        if not isinstance(digest, (bytes, bytearray)) or len(digest) != 32:
            raise ValueError(
                "pin: expected a SHA-256 as 32 bytes, 64 hex digits or 'sha256//' and base64, got %r"
                % (item,)
            )
        result.append(bytes(digest))
    if not result:
        raise ValueError("pin: expected at least one SHA-256, got none")
    return result


def check(cert, pins, host):
    """Raise OTAError(CERT_PIN) unless `cert` (DER) or its public key has one of the digests `pins`."""
    whole = sha256(cert).digest()
    key = sha256(public_key(cert)).digest()
    found = False
    for pin in pins:
        found = equal(pin, whole) or equal(pin, key) or found
    if not found:
        raise OTAError(
            OTAError.CERT_PIN,
            "%s is none of the pinned servers: the SHA-256 of its certificate is %s, that of its public key %s"
            % (host, hexlify(whole).decode(), hexlify(key).decode()),
        )


def public_key(cert):
    """The SubjectPublicKeyInfo in a certificate, both DER (RFC 5280, section 4.1), as a memoryview."""
    return _field(cert, 5)  # behind serial number, signature algorithm, issuer, validity, subject


def names(cert):
    """Issuer and subject of a certificate, as memoryviews of its DER."""
    return _field(cert, 2), _field(cert, 4)


def _field(cert, n):
    mv = memoryview(cert)
    at = _content(mv, _content(mv, 0))  # of TBSCertificate
    if mv[at] == 0xA0:
        at = _after(mv, at)  # version
    for _ in range(n):
        at = _after(mv, at)
    return mv[at : _after(mv, at)]


def _content(mv, at):
    return at + 2 + (mv[at + 1] & 127 if mv[at + 1] & 128 else 0)


def _after(mv, at):
    start = _content(mv, at)
    size = mv[at + 1]
    if size & 128:
        size = int.from_bytes(bytes(mv[at + 2 : start]), "big")
    return start + size
