"""`keygen`: keys for signing images and for encrypting them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from https_ota_tools import encimg, keys, sbv2
from https_ota_tools.errors import ToolError

NAME = "keygen"
HELP = "make a key for signing or encrypting images"


def _rsa() -> keys.Private:
    return rsa.generate_private_key(65537, 3072)


_MAKERS: dict[str, Callable[[], keys.Private]] = {
    "sign-rsa3072": _rsa,
    "sign-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "sign-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "encrypt-rsa3072": _rsa,
    "encrypt-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
}
KINDS = tuple(_MAKERS)


@dataclass(frozen=True)
class Made:
    """A new key: its files, and for signing the digest that the device is given (64 hex digits)."""

    private: Path
    public: Path
    # The 32 bytes of a P-256 key for encrypted images.
    scalar: Path | None = None
    digest: str = ""


def make(kind: str, path: Path, hmac_key: bool = False) -> Made:
    """Make a key: the private one to `path`, the public one beside it, with the ending `.pub.pem`.

    kind: one of KINDS.
    hmac_key: for encrypt-p256, put into `path` 32 random bytes from which the device derives its key, in place of PEM.

    Nothing is overwritten, and only the owner can read what is secret. Raises ToolError for a file that exists or
    can't be written.
    """
    if kind not in _MAKERS:
        raise ToolError(f"kind of key {kind!r}: expected one of {', '.join(KINDS)}")
    if hmac_key and kind != "encrypt-p256":
        raise ToolError(f"only an encrypt-p256 key is derived from an HMAC key, not {kind}")
    public = keys.public_path(path)
    scalar = keys.beside(path, ".scalar.bin") if kind == "encrypt-p256" else None
    # First of all, as the user should not wait for RSA to be told.
    keys.refuse_existing([p for p in (path, public, scalar) if p])
    if hmac_key:
        secret = _new_hmac_key()
        key: keys.Private = encimg.from_scalar(encimg.derive_scalar(secret))
    else:
        key = _MAKERS[kind]()
        secret = keys.private_pem(key)
    new = [
        keys.NewFile(path, secret, secret=True),
        keys.NewFile(public, keys.public_pem(key.public_key()), secret=False),
    ]
    if scalar and isinstance(key, ec.EllipticCurvePrivateKey):
        new.append(keys.NewFile(scalar, encimg.to_scalar(key), secret=True))
    keys.write_new(new)
    digest = sbv2.key_digest(key.public_key()) if kind.startswith("sign-") else ""
    return Made(path, public, scalar, digest)


def _new_hmac_key() -> bytes:
    while True:
        secret = os.urandom(encimg.KEY_BYTES)
        try:
            encimg.derive_scalar(secret)
        except ToolError:
            continue
        return secret


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="file for the private key; the public one goes beside it, with the ending .pub.pem",
    )
    parser.add_argument(
        "--hmac-key",
        action="store_true",
        help="encrypt-p256: write the 32 bytes that the device's HMAC derives the key from, not PEM",
    )


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    made = make(args.kind, args.output, args.hmac_key)
    print(f"{made.private}: private key, keep it secret and safe")
    if made.digest:
        print(f"{made.public}: public key, for https-ota verify --trusted")
        print(f"key digest, for the device's trusted_keys: {made.digest}")
        return 0
    print(f"{made.public}: public key, for https-ota encrypt --key")
    if made.scalar is None:
        print(f"device: EncryptedImage(rsa_key=...), the contents of {made.private}")
        return 0
    print(f"{made.scalar}: the same private key as 32 bytes")
    given = f"the contents of {made.scalar}"
    if args.hmac_key:
        print(
            f"device: EncryptedImage(hmac_key=...), the contents of {made.private}; "
            f"or, which is faster, EncryptedImage(ec_key=...), {given}"
        )
    else:
        print(f"device: EncryptedImage(ec_key=...), {given}")
    return 0
