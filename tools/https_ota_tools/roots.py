"""Root certificates: where they come from, which of them a server's chain needs, and words for those refused."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import ssl
import warnings
from collections.abc import Sequence
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from https_ota_tools import files
from https_ota_tools.errors import ToolError

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Of OpenSSL's X509_verify().
_EXPIRED, _NOT_YET, _WRONG_HOST, _WRONG_ADDRESS = 10, 9, 62, 64
# Self-signed, alone or in the chain; issuer not found; leaf not verified.
_NO_ROOT = {2, 18, 19, 20, 21}


class UnknownRootError(ToolError):
    """Nobody trusted vouches for a server; `chain` is what it sent, its own certificate first."""

    def __init__(self, text: str, chain: Sequence[x509.Certificate]) -> None:
        super().__init__(text)
        self.chain = tuple(chain)


def load(path: Path | None = None) -> tuple[x509.Certificate, ...]:
    """Return the certificates in a file, PEM or a single DER; without a path, those that browsers trust (certifi).

    Those that can't be parsed are left out. Raises ToolError if none is left.
    """
    data = files.read_pem(path or Path(certifi.where()))
    blocks = [data] if data[:1] == b"\x30" else _PEM.findall(data)
    found = []
    with warnings.catch_warnings():
        # Some old roots break a rule of today, such as that for serial numbers.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for block in blocks:
            parse = (
                x509.load_der_x509_certificate
                if block[:1] == b"\x30"
                else x509.load_pem_x509_certificate
            )
            with contextlib.suppress(ValueError):
                found.append(parse(block))
    if not found:
        raise ToolError(f"{path}: expected certificates, PEM or DER, found none")
    return tuple(found)


def pem(certificates: Sequence[x509.Certificate]) -> str:
    """Return certificates as PEM."""
    return "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates)


def find(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """Return the trusted certificate that vouches for a chain, the server's own certificate first; None without one.

    When more than one can, it is the one nearest to the server, as mbedTLS takes it.
    """
    by_name: dict[x509.Name, list[x509.Certificate]] = {}
    for c in trusted:
        by_name.setdefault(c.subject, []).append(c)
    known = set(trusted)
    current = chain[0]
    for _ in range(len(chain) + 1):
        if current in known:
            return current
        for candidate in by_name.get(current.issuer, ()):
            if _issued(current, candidate):
                return candidate
        above = next((c for c in chain if c != current and _issued(current, c)), None)
        if above is None:
            return None
        current = above
    return None


def name(certificate: x509.Certificate) -> str:
    """Return what people call a certificate."""
    return _short(certificate.subject)


def key(certificate: x509.Certificate) -> str:
    """Return the kind of its key, as "RSA 2048"."""
    try:
        public = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"
    if isinstance(public, rsa.RSAPublicKey):
        return f"RSA {public.key_size}"
    if isinstance(public, ec.EllipticCurvePublicKey):
        return f"ECDSA {public.curve.name}"
    return type(public).__name__.removesuffix("PublicKey")


def pins(certificate: x509.Certificate) -> tuple[str, str]:
    """Return what a device can pin, as 64 hex digits each: SHA-256 of the certificate, and of its public key.

    The latter is of the SubjectPublicKeyInfo in DER, as it stands in the certificate.
    """
    # A key that is parsed and encoded anew need not have the same bytes.
    tbs = certificate.tbs_certificate_bytes
    at = _content(tbs, 0)
    if tbs[at] == 0xA0:  # the version, which the oldest certificates don't have
        at = _end(tbs, at)
    for _ in ("serialNumber", "signature", "issuer", "validity", "subject"):
        at = _end(tbs, at)
    public = hashlib.sha256(tbs[at : _end(tbs, at)])
    return certificate.fingerprint(hashes.SHA256()).hex(), public.hexdigest()


def refusal(
    e: ssl.SSLCertVerificationError,
    host: str,
    chain: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    source: str,
) -> ToolError:
    """Return what to raise for a certificate that was refused; `source` names where `trusted` comes from."""
    now = datetime.datetime.now(datetime.timezone.utc)
    root = find(chain, trusted)
    concerned = [*chain, root] if root else chain
    if e.verify_code == _EXPIRED:
        old = next((c for c in concerned if c.not_valid_after_utc < now), chain[0])
        text = f"{name(old)!r} has expired on {old.not_valid_after_utc:%Y-%m-%d}"
    elif e.verify_code == _NOT_YET:
        new = next((c for c in concerned if c.not_valid_before_utc > now), chain[0])
        text = f"{name(new)!r} is not valid before {new.not_valid_before_utc:%Y-%m-%d}"
    elif e.verify_code in {_WRONG_HOST, _WRONG_ADDRESS}:
        text = f"it is for {', '.join(_names(chain[0])) or 'no host at all'}, not for {host}"
    elif e.verify_code in _NO_ROOT:
        text = no_root(chain, trusted, source)
    else:
        text = e.verify_message
    text = f"the certificate of {host} is refused: {text}"
    return UnknownRootError(text, chain) if e.verify_code in _NO_ROOT else ToolError(text)


def no_root(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], source: str
) -> str:
    """Return words for a chain without a trusted certificate above it."""
    last = chain[-1]
    sent = ", ".join(repr(name(c)) for c in chain)
    text = f"none of the {len(trusted)} certificates in {source} vouches for it; the server sends {sent}"
    if last.issuer != last.subject:
        text += f", issued by {_short(last.issuer)!r}"
    return text


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


def _content(der: bytes, at: int) -> int:
    """Return where the content of the DER element at this offset begins."""
    return at + 2 + (der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0)


def _end(der: bytes, at: int) -> int:
    """Return where the DER element at this offset ends."""
    start = _content(der, at)
    # One byte below 0x80 is the length itself.
    return start + int.from_bytes(der[at + 2 : start] or der[at + 1 : at + 2], "big")


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    found = names.get_values_for_type(x509.DNSName)
    found += map(str, names.get_values_for_type(x509.IPAddress))
    return found[:5] + ["..."] * (len(found) > 5)


def _short(full: x509.Name) -> str:
    for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME):
        if found := full.get_attributes_for_oid(oid):
            return str(found[0].value)
    return full.rfc4514_string()
