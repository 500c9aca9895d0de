"""Key files: how they are read, named and written.

What is secret in them never comes into an output or the words of an error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from https_ota_tools import files
from https_ota_tools.errors import ToolError

Private = Union[rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey]
Public = Union[rsa.RSAPublicKey, ec.EllipticCurvePublicKey]

_CURVES = {"secp192r1": "P-192", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True)
class NewFile:
    """A file to be made."""

    path: Path
    data: bytes
    secret: bool


def load_private(path: Path) -> Private:
    """Return the private key in a PEM file. Raises ToolError for anything else."""
    data = files.read_pem(path)
    if b"PRIVATE KEY-----" not in data:
        raise ToolError(f"{path}: expected a private key (PEM), {_what(data)} came")
    try:
        key = load_pem_private_key(data, None)
    except TypeError as e:
        raise ToolError(
            f"{path} is protected by a passphrase: expected a private key without one "
            "(`openssl pkey` takes it off)"
        ) from e
    except (ValueError, UnsupportedAlgorithm):
        # Without what the parser said: it had the key before it.
        raise ToolError(f"{path}: the private key in it is damaged, or of no known kind") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise ToolError(f"{path}: expected an RSA or EC key, another kind came")
    return key


def load_public(path: Path) -> Public:
    """Return the public key in a PEM file. Raises ToolError for anything else, a private key too."""
    data = files.read_pem(path)
    if b"PRIVATE KEY-----" in data:
        raise ToolError(
            f"{path} is a private key: expected the public one, which `https-ota keygen` wrote beside it "
            "and `openssl pkey -pubout` makes from it"
        )
    if b"PUBLIC KEY-----" not in data:
        raise ToolError(f"{path}: expected a public key (PEM), {_what(data)} came")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise ToolError(f"{path}: the public key in it is damaged, or of no known kind") from e
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        raise ToolError(f"{path}: expected an RSA or EC key, another kind came")
    return key


def kind(key: Private | Public) -> str:
    """Return the kind of a key, as "RSA-3072" or "P-256"."""
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        return f"RSA-{key.key_size}"
    return _CURVES.get(key.curve.name, key.curve.name)


def private_pem(key: Private) -> bytes:
    """Return a private key as Espressif's tools write it: PKCS#1 or SEC1 in PEM, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def public_pem(key: Public) -> bytes:
    """Return a public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_path(path: Path) -> Path:
    """Return where the public key goes: `.pub.pem` in place of the private file's ending."""
    return beside(path, ".pub.pem")


def beside(path: Path, ending: str) -> Path:
    """Return a file's path with another ending. Raises ToolError if it has no name."""
    if not path.name:
        raise ToolError(f"{path} is a folder: expected the name of a file")
    return path.with_suffix(ending)


def refuse_to_replace(output: Path, inputs: Sequence[Path]) -> None:
    """Raise ToolError if writing `output` would destroy one of these key files."""
    for path in inputs:
        with contextlib.suppress(OSError):
            if output.samefile(path):
                raise ToolError(f"{output} is a key of this command: choose another output")


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raise ToolError if one of these files exists."""
    for path in paths:
        if os.path.lexists(path):
            raise ToolError(
                f"{path} exists already: keys are never overwritten, choose another name"
            )


def write_new(new: Sequence[NewFile]) -> None:
    """Write files, all or none; those with secrets are for their owner alone.

    Raises ToolError if one of them exists or can't be written.
    """
    refuse_existing([n.path for n in new])
    made: list[Path] = []
    try:
        for n in new:
            # "x": nothing that has come meanwhile is overwritten either, nor followed if it is a link.
            with open(n.path, "xb", opener=_open_secret if n.secret else None) as f:
                made.append(n.path)
                f.write(n.data)
    except BaseException as e:
        for path in made:
            path.unlink(missing_ok=True)
        if not isinstance(e, OSError):
            raise
        raise ToolError(f"cannot write {n.path}: {e.strerror}") from e


def _open_secret(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _what(data: bytes) -> str:
    if b"PUBLIC KEY-----" in data:
        return "a public one"
    if b"-----BEGIN CERTIFICATE" in data:
        return "a certificate"
    return "something else"
