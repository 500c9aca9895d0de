# Pins: the SHA-256 of a server's certificate, or of the public key in it.

from binascii import a2b_base64, hexlify
from hashlib import sha256

from ..der import digest32, element
from ..errors import OTAError
from ..hot import equal


def pin_digests(value):
    """A list of digests, 32 bytes each, from the value of the option `pin`.

    One, or a list or tuple, of 32 bytes, 64 hex digits, or curl's "sha256//" and base64.
    Raises ValueError for anything else.
    """
    result = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(item, str) and item.startswith("sha256//"):
            try:
                item = a2b_base64(item[8:])
            except ValueError:
                pass
        result.append(digest32(item, "pin"))
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


def _field(cert, n):
    mv = memoryview(cert)
    at = element(mv, element(mv, 0)[0])[0]  # of TBSCertificate
    if mv[at] == 0xA0:
        at = element(mv, at)[1]  # version
    for _ in range(n):
        at = element(mv, at)[1]
    return mv[at : element(mv, at)[1]]
