"""A certificate authority of one's own, for a bench: made on the spot, or kept in a folder."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from https_ota_tools import files, keys
from https_ota_tools.errors import ToolError

CERT = "ca.pem"
KEY = "ca-key.pem"

_CA_DAYS = 3650
_SERVER_DAYS = 397
_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Authority:
    """A root certificate and its key (P-256)."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate: what boards are given as `cadata`."""
        return self.cert.public_bytes(Encoding.PEM)

    def issue(self, names: Sequence[str]) -> bytes:
        """Return a server certificate for these host names and addresses, and its key, as PEM in one."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _sign(self, names[0], key, names)
        return cert.public_bytes(Encoding.PEM) + _key_pem(key)


def make() -> Authority:
    """Make an authority that nobody else knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: TLS libraries look an issuer up by name.
    name = f"https-ota bench {x509.random_serial_number() & 0xFFFFFFFF:08x}"
    return Authority(_sign(None, name, key, ()), key)


def keep(folder: Path) -> Authority:
    """Return the authority kept in a folder, made there the first time.

    Raises ToolError when the folder can't be written to, or what is in it does not belong together.
    """
    if not (folder / KEY).exists():
        made = make()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The certificate first: without its key it is replaced next time.
            files.write(folder / CERT, made.pem)
            keys.write_new([keys.NewFile(folder / KEY, _key_pem(made.key), secret=True)])
        except OSError as e:
            raise ToolError(f"cannot keep a CA in {folder}: {e.strerror}") from e
        return made
    try:
        cert = x509.load_pem_x509_certificate(files.read_pem(folder / CERT))
        key = load_pem_private_key(files.read_pem(folder / KEY), None)
    except (ValueError, TypeError) as e:
        raise ToolError(f"{folder} does not hold a CA: {e}") from e
    if not isinstance(key, ec.EllipticCurvePrivateKey) or cert.public_key() != key.public_key():
        raise ToolError(f"{folder}: {CERT} and {KEY} do not belong together")
    return Authority(cert, key)


def own_names() -> list[str]:
    """Return the names and addresses by which other machines may reach this one, the likeliest first."""
    found = []
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        address = own_address(there, family)
        if address:
            found.append(address)
    name = socket.gethostname()
    return [
        *found,
        name,
        *([f"{name}.local"] if "." not in name else []),
        "localhost",
        "127.0.0.1",
    ]


def own_address(there: str, family: socket.AddressFamily = socket.AF_INET) -> str | None:
    """Return the address of this machine on the way to another one, None when there is no way."""
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        try:
            # Nothing is sent: the system only looks its routes up.
            s.connect((there, 9))
        except OSError:
            return None
        return str(s.getsockname()[0])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _sign(
    issuer: Authority | None, name: str, key: ec.EllipticCurvePrivateKey, names: Sequence[str]
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    is_ca = issuer is None
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    days = _CA_DAYS if is_ca else _SERVER_DAYS
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A board's clock may be years behind.
        .not_valid_before(_BEGIN)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(_key_usage(is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer:
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = (
            builder.add_extension(by, critical=False)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        )
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        # Older mbedTLS knows no IP addresses here, and compares the text with the host names.
        found.append(x509.DNSName(name))
        with contextlib.suppress(ValueError):
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
    return found


def _key_usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
