"""Throw-away keys for signing and encrypting, made anew for each run of the tests, and Espressif's command for them."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import certs
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

# Espressif's names of the kinds of keys that sign.
SCHEMES = {"rsa": "rsa3072", "p256": "ecdsa256", "p384": "ecdsa384"}
KINDS = tuple(SCHEMES)
NAMES = {"rsa": "RSA-3072", "p256": "P-256", "p384": "P-384"}


def espsecure(*args, refused=False):
    """Run Espressif's command and return what it prints."""
    command = [sys.executable, "-m", "espsecure", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == refused, done.stdout + done.stderr
    return done.stdout


class Keys:
    """A folder with `rsa.pem`, `p256.pem`, `p384.pem` and their public halves, `rsa.pub.pem` and so on.

    All were made by espsecure; `digests` are those of the public keys, also by it. Processes that test at the same time
    take them from a folder they have in common, where the first that needs one makes it.
    """

    def __init__(self, folder: Path, common: Path | None = None) -> None:
        self.folder = folder
        self.common = common or folder / "common"
        self.common.mkdir(exist_ok=True)
        self.digests = {}
        for kind in KINDS:
            self.make(kind, SCHEMES[kind])
            self.digests[kind] = (folder / f"{kind}.digest").read_bytes().hex()

    def make(self, name, scheme):
        """Make a key of one of espsecure's schemes, unless it is there."""
        if self.private(name).exists():
            return
        private, public, digest = (
            self.common / f"{name}.{end}" for end in ("pem", "pub.pem", "digest")
        )
        with (self.common / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not private.exists():
                espsecure("generate-signing-key", "--version", "2", "--scheme", scheme, private)
                espsecure("extract-public-key", "--version", "2", "--keyfile", private, public)
                if name in KINDS:
                    espsecure("digest-sbv2-public-key", "--keyfile", public, "-o", digest)
        for path in (private, public, digest):
            if path.exists():
                shutil.copy(path, self.folder)

    def opener(self, kind):
        """Return the device's option `decrypt` for one of the keys, as Python."""
        data = self.private(kind).read_bytes()
        if kind == "rsa":
            return f"https_ota.EncryptedImage(rsa_key={data!r})"
        scalar = load_pem_private_key(data, None).private_numbers().private_value
        return f"https_ota.EncryptedImage(ec_key={scalar.to_bytes(32, 'big')!r})"

    def private(self, name):
        return self.folder / f"{name}.pem"

    def public(self, name):
        return self.folder / f"{name}.pub.pem"


def make_bad(folder: Path) -> None:
    """Write keys that no command takes: rsa2048, p192, ed25519, each with its public half, and files that are none."""
    weak = rsa.generate_private_key(65537, 2048)
    for name, key in (
        ("rsa2048", weak),
        ("p192", ec.generate_private_key(ec.SECP192R1())),
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
    ):
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub.pem").write_bytes(public)
    lock = BestAvailableEncryption(b"passphrase")
    for name, form in (
        ("secret", PrivateFormat.TraditionalOpenSSL),
        ("secret8", PrivateFormat.PKCS8),
    ):
        (folder / f"{name}.pem").write_bytes(weak.private_bytes(Encoding.PEM, form, lock))
    for name, lines in (
        ("damaged", (folder / "rsa2048.pem").read_bytes().splitlines()),
        ("damaged.pub", (folder / "rsa2048.pub.pem").read_bytes().splitlines()),
    ):
        (folder / f"{name}.pem").write_bytes(b"\n".join([*lines[:2], *lines[3:]]))
    (folder / "cert.pem").write_bytes(certs.root().pem)
