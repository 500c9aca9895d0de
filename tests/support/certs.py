"""Throw-away certificates, made anew for each run of the tests. No key of these is ever kept."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# Names that reach a server of this machine.
LOCAL = ("localhost", "127.0.0.1")

# First and last day of validity, counted from today.
NOW = (-1, 30)
EXPIRED = (-30, -1)
NOT_YET = (1, 30)
# An authority outlives what it issues, so that a bad date is the server certificate's alone.
AUTHORITY = (-60, 60)


class Files(NamedTuple):
    """What Identity.write() wrote."""

    cert: Path  # PEM, with the intermediates behind it: what a server is given
    key: Path  # PEM
    leaf: Path  # PEM, alone
    chain: Path  # PEM, the intermediates; empty without any
    der: Path  # DER, alone


@dataclass(frozen=True)
class Identity:
    """A certificate, its key, and the intermediates between it and its root (nearest first)."""

    cert: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The certificate alone, PEM."""
        return self.cert.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate alone, DER."""
        return self.cert.public_bytes(Encoding.DER)

    @property
    def chain_pem(self) -> bytes:
        """The intermediates, PEM."""
        return b"".join(c.public_bytes(Encoding.PEM) for c in self.chain)

    @property
    def key_pem(self) -> bytes:
        """The private key, PEM, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, directory: Path, name: str) -> Files:
        """Write PEM and DER files, which begin with this name, into a directory."""
        endings = ("cert.pem", "key.pem", "leaf.pem", "chain.pem", "leaf.der")
        files = Files(*(directory / f"{name}-{ending}" for ending in endings))
        contents = (self.pem + self.chain_pem, self.key_pem, self.pem, self.chain_pem, self.der)
        for path, data in zip(files, contents, strict=True):
            path.write_bytes(data)
        return files


class Authority(Identity):
    """A root or intermediate, which issues others."""

    def intermediate(self, name: str = "Test Intermediate", kind: str = "ec") -> "Authority":
        """Issue an authority below this one, whose name no other authority above it has."""
        key = make_key(kind)
        return Authority(_sign(self, name, key, AUTHORITY, ca=True), key, self._chain())

    def server(self, *names: str, days: tuple[int, int] = NOW, kind: str = "ec") -> Identity:
        """Issue a server certificate for host names and IP addresses, by default those of this machine.

        days: the first and the last of its validity, counted from today: NOW, EXPIRED, NOT_YET or your own.
        kind: "ec" or "rsa", as for make_key().
        """
        names = names or LOCAL
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        key = make_key(kind)
        cert = _sign(self, names[0], key, days, usage=usage, names=names)
        return Identity(cert, key, self._chain())

    def client(
        self, name: str = "test-device", *, days: tuple[int, int] = NOW, kind: str = "ec"
    ) -> Identity:
        """Issue a client certificate."""
        key = make_key(kind)
        cert = _sign(self, name, key, days, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        return Identity(cert, key, self._chain())

    def _chain(self) -> tuple[x509.Certificate, ...]:
        return () if self.cert.issuer == self.cert.subject else (self.cert, *self.chain)


def root(kind: str = "ec", name: str = "Test Root") -> Authority:
    """Make a root, with a P-256 ("ec") or RSA-2048 ("rsa") key."""
    key = make_key(kind)
    return Authority(_sign(None, f"{name} {kind}", key, AUTHORITY, ca=True), key)


def self_signed(*names: str, kind: str = "ec") -> Identity:
    """Make a server certificate that nobody but its key has signed."""
    names = names or LOCAL
    key = make_key(kind)
    return Identity(_sign(None, names[0], key, NOW, names=names), key)


def odd_root(key) -> bytes:
    """Return a certificate for any key of `cryptography`, PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Odd Root")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(30))
    )
    edwards = isinstance(key, ed25519.Ed25519PrivateKey)
    return builder.sign(key, None if edwards else hashes.SHA256()).public_bytes(Encoding.PEM)


def make_key(kind: str) -> Key:
    """Make a key: "ec" is P-256, "rsa" has 2048 bits."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    raise ValueError(f"unknown kind of key {kind!r}")


def _sign(
    issuer: Identity | None,
    name: str,
    key: Key,
    days: tuple[int, int],
    *,
    ca: bool = False,
    usage: x509.ObjectIdentifier | None = None,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days[0]))
        .not_valid_after(now + datetime.timedelta(days[1]))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
        .add_extension(_key_usage(ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(map(_san, names)), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
