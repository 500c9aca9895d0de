"""Encrypted images: the format of Espressif's component esp_encrypted_img, both schemes.

A header of 512 bytes, then the application by AES-256-GCM. The AES key is new for each image; the header holds it
for the device, encrypted by RSA-3072 (PKCS#1 v1.5) or by ECIES on P-256. Nothing in it says which, and nothing says
who encrypted it: an image is signed first. All of the header but the reserved bytes is guarded by the tag or by the
length of the file. Source: esp_enc_img_gen.py and esp_encrypted_img.c of that component, version 2.7.1.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from https_ota_tools import files, image, keys
from https_ota_tools.errors import BadFileError, ToolError

# sha256("esp_encrypted_img"), its first 4 bytes as a big-endian number, stored little-endian.
MAGIC = bytes.fromhex("cfb68807")
HEADER_BYTES = 512
KEY_BYTES = 32
RSA_3072, P256 = "RSA-3072", "P-256"

_HEADER = struct.Struct("<4s384s16sI16s88x")
_INFO = b"_esp_enc_img_ecc"
_POINT_BYTES = 64
# Both are part of the format: the device derives the same key.
_PBKDF2_SALT = bytes.fromhex("0e2160642dae76d33448e43d7720123d9f3b1eceb88e573a4e8f7fb94ff0c869")
_PBKDF2_ROUNDS = 2048
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Header:
    """The fields of a header. `wrapped` holds the AES key: an RSA ciphertext, or point, salt and zeros."""

    wrapped: bytes
    iv: bytes
    length: int
    tag: bytes

    @property
    def scheme(self) -> str:
        """The scheme by its looks: the zeros that ECIES leaves never come out of RSA."""
        return RSA_3072 if self.wrapped[_POINT_BYTES + 32 :].strip(b"\0") else P256


def is_encrypted(data: bytes) -> bool:
    """Whether a file begins as encrypted images do."""
    return data.startswith(MAGIC)


def parse(data: bytes) -> Header:
    """Return the header of an encrypted image. Raises BadFileError for other files and for one of the wrong length."""
    if not is_encrypted(data):
        raise BadFileError(
            f"not an encrypted image: expected first bytes {MAGIC.hex()}, came {data[:4].hex() or 'none'}"
        )
    if len(data) < HEADER_BYTES:
        raise BadFileError(
            f"the encrypted image ends within its header: expected {HEADER_BYTES} bytes, came {len(data)}"
        )
    _, wrapped, iv, length, tag = _HEADER.unpack_from(data)
    if len(data) != HEADER_BYTES + length:
        fault = "it is cut off" if len(data) < HEADER_BYTES + length else "something is behind it"
        raise BadFileError(
            f"the encrypted image has the wrong length, {fault}: expected {HEADER_BYTES} + {length} bytes "
            f"by its header, came {len(data)}"
        )
    return Header(wrapped, iv, length, tag)


def checks(data: bytes) -> list[image.Check]:
    """Check what can be checked without a key."""
    try:
        header = parse(data)
    except ToolError as e:
        return [image.Check("encryption", image.Verdict.INVALID, str(e))]
    detail = f"an encrypted image (esp_encrypted_img), by its looks for a {header.scheme} key"
    hidden = "encrypted: `https-ota verify --decrypt-key` checks what is in it"
    return [
        image.Check("encryption", image.Verdict.VALID, detail),
        image.Check("length", image.Verdict.VALID, f"{HEADER_BYTES} + {header.length} bytes"),
        image.Check("application", image.Verdict.ABSENT, hidden),
    ]


def scheme(key: keys.Private | keys.Public) -> str:
    """Return the scheme of a key. Raises ToolError for one that neither has."""
    kind = keys.kind(key)
    if kind not in (RSA_3072, P256):
        raise ToolError(f"a key for encrypted images is {RSA_3072} or {P256}, this one is {kind}")
    return kind


def encrypt(data: bytes, key: keys.Public) -> bytes:
    """Return data encrypted for the device that has the private key. Raises ToolError for a key of no scheme."""
    scheme(key)
    if isinstance(key, rsa.RSAPublicKey):
        aes_key = os.urandom(KEY_BYTES)
        wrapped = key.encrypt(aes_key, padding.PKCS1v15())
    else:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        salt = os.urandom(32)
        aes_key = _derive(ephemeral.exchange(ec.ECDH(), key), salt)
        wrapped = _point(ephemeral.public_key()) + salt
    iv = os.urandom(16)
    sealed = AESGCM(aes_key).encrypt(iv, data, None)
    return _HEADER.pack(MAGIC, wrapped, iv, len(data), sealed[-16:]) + sealed[:-16]


def decrypt(data: bytes, *candidates: keys.Private) -> bytes:
    """Return the contents of an encrypted image, by the first of these keys that opens it; load_keys() returns some.

    Raises BadFileError if the file is no encrypted image, if no key opens it, and if anything in it was changed.
    """
    header = parse(data)
    for key in candidates:
        scheme(key)
        aes_key = _unwrap(header, key)
        if aes_key:
            try:
                return AESGCM(aes_key).decrypt(header.iv, data[HEADER_BYTES:] + header.tag, None)
            except InvalidTag:
                continue
    kinds = sorted({keys.kind(key) for key in candidates})
    if header.scheme not in kinds:
        raise BadFileError(
            f"the key is {' or '.join(kinds)}, by its looks the image was encrypted for {header.scheme}"
        )
    raise BadFileError(
        "the key does not open it: the image was encrypted for another key, or was changed since"
    )


def derive_scalar(hmac_key: bytes) -> bytes:
    """Return the P-256 private key (32 bytes, big-endian) that the device derives from its HMAC key (32 bytes).

    Raises ToolError in the rare case (1 in 2**32) that it derives no key.
    """
    scalar = hashlib.pbkdf2_hmac("sha256", hmac_key, _PBKDF2_SALT, _PBKDF2_ROUNDS, KEY_BYTES)
    if not _is_scalar(scalar):
        raise ToolError("no P-256 key can be derived from this HMAC key: make another one")
    return scalar


def from_scalar(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key with this private number (32 bytes, big-endian). Raises ToolError if there is none."""
    if not _is_scalar(scalar):
        raise ToolError("not a P-256 private key: expected a number above 0 and below the order")
    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())


def to_scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the private number of a P-256 key: 32 bytes, big-endian."""
    return key.private_numbers().private_value.to_bytes(KEY_BYTES, "big")


def load_keys(path: Path) -> list[keys.Private]:
    """Return the private keys that a file may mean. Raises ToolError if there is none.

    A PEM file holds one; 32 bytes are a P-256 scalar or the HMAC key that one is derived from, and only an image
    tells which.
    """
    data = files.read_pem(path)
    if len(data) == KEY_BYTES:
        meant = [from_scalar(data)] if _is_scalar(data) else []
        with contextlib.suppress(ToolError):
            meant.append(from_scalar(derive_scalar(data)))
        if not meant:
            raise ToolError(f"{path}: its {KEY_BYTES} bytes are no scalar and no HMAC key")
        return list(meant)
    if b"-----BEGIN" not in data:
        raise ToolError(
            f"{path}: expected a private key as PEM, or {KEY_BYTES} bytes that are a scalar or an HMAC key; "
            f"{len(data)} bytes of something else came"
        )
    key = keys.load_private(path)
    try:
        scheme(key)
    except ToolError as e:
        raise ToolError(f"{path}: {e}") from e
    return [key]


def _unwrap(header: Header, key: keys.Private) -> bytes | None:
    """Return the AES key, None if there is none for this key. A wrong one is found by the tag."""
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            aes_key = key.decrypt(header.wrapped, padding.PKCS1v15())
            return aes_key if len(aes_key) == KEY_BYTES else None
        point = b"\x04" + header.wrapped[:_POINT_BYTES]
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        salt = header.wrapped[_POINT_BYTES : _POINT_BYTES + 32]
        return _derive(key.exchange(ec.ECDH(), theirs), salt)
    except ValueError:
        return None


def _derive(shared: bytes, salt: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt, _INFO).derive(shared)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    n = key.public_numbers()
    return n.x.to_bytes(32, "big") + n.y.to_bytes(32, "big")


def _is_scalar(scalar: bytes) -> bool:
    return 0 < int.from_bytes(scalar, "big") < P256_ORDER
