"""Signatures of applications: Secure Boot v2, ESP-IDF's format.

Behind the image, from the next multiple of 4096, is a sector with up to three blocks of 1216 bytes: a public key, the
signature of all that is before the sector, a CRC-32. Format: ESP-IDF, "Secure Boot v2", signature block format.
espsecure signs; checking is here, since each block is to be judged by the key in it, and in words.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import espsecure  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from https_ota_tools import image, keys
from https_ota_tools.errors import ToolError

SECTOR = 0x1000
BLOCK_BYTES = 1216
MAX_BLOCKS = 3
MAGIC = 0xE7

_CRC = slice(1196, 1200)
_RSA, _ECDSA = 2, 3
_P192 = 1


@dataclass(frozen=True)
class Scheme:
    """A kind of signature, and where its parts are in a block."""

    name: str
    hash: hashes.HashAlgorithm
    digest: slice
    key: slice
    signature: slice


RSA_3072 = Scheme("RSA-3072", hashes.SHA256(), slice(4, 36), slice(36, 812), slice(812, 1196))
P256 = Scheme("P-256", hashes.SHA256(), slice(4, 36), slice(36, 101), slice(101, 165))
P384 = Scheme("P-384", hashes.SHA384(), slice(4, 52), slice(52, 149), slice(149, 245))
SCHEMES = {s.name: s for s in (RSA_3072, P256, P384)}
# The byte before the point, and the curve.
_CURVES: dict[str, tuple[int, ec.EllipticCurve]] = {
    P256.name: (2, ec.SECP256R1()),
    P384.name: (3, ec.SECP384R1()),
}


@dataclass(frozen=True)
class Block:
    """One signature. `scheme` and `key_digest` (64 hex digits) are empty if they can't be told."""

    number: int
    scheme: str
    key_digest: str
    # What is wrong with it, empty when it is good by the key in it.
    problem: str

    @property
    def good(self) -> bool:
        """Whether it is the signature of this file by the key in it; whose key that is, is another question."""
        return not self.problem


def start(image_length: int) -> int:
    """Return where the sector with the signatures of an image of this length begins."""
    return -(-image_length // SECTOR) * SECTOR


def blocks(data: bytes, image_length: int) -> list[Block]:
    """Return the signatures behind an image; an empty list if there is no signature sector."""
    at = start(image_length)
    found = [data[at + n * BLOCK_BYTES :][:BLOCK_BYTES] for n in range(MAX_BLOCKS)]
    if all(raw[:1] != bytes([MAGIC]) for raw in found):
        return []
    # A block that was never written is erased flash.
    return [_judge(n, raw, data[:at]) for n, raw in enumerate(found) if raw.strip(b"\xff")]


def checks(found: Sequence[Block]) -> list[image.Check]:
    """Return checks of these signatures by the keys in them."""
    if not found:
        return [image.Check("signature", image.Verdict.ABSENT, "none, the image is not signed")]
    first = found[0]
    running = image.Check(
        "running", image.Verdict.VALID, f'trusted_keys="running" means {first.key_digest} on it'
    )
    if first.number or not first.good:
        detail = 'trusted_keys="running" finds no key in it, as block 0 is no good signature'
        running = image.Check("running", image.Verdict.ABSENT, detail)
    return [
        image.Check(
            f"signature {b.number}",
            image.Verdict.VALID if b.good else image.Verdict.INVALID,
            f"{b.scheme}, key digest {b.key_digest}"
            if b.good
            else f"block {b.number}: {b.problem}",
        )
        for b in found
    ] + [running]


def check_trust(
    found: Sequence[Block], trusted: Collection[str], running: str = ""
) -> image.Check:
    """Return the check that a device with these `trusted_keys` makes: one good signature by one of them is enough.

    running: what "running" in them stands for, see running_key(): block 0 must be by that key.
    """
    for b in found:
        if b.good and (b.key_digest in trusted or (b.number == 0 and b.key_digest == running)):
            detail = f"block {b.number}, {b.scheme}, by the trusted key {b.key_digest}"
            return image.Check("signature", image.Verdict.VALID, detail)
    if not found:
        detail = "the image is not signed: expected a signature by a trusted key; `https-ota sign` makes one"
        return image.Check("signature", image.Verdict.INVALID, detail)
    said = "; ".join(
        f"block {b.number}: "
        + (
            b.problem
            or f"the key {b.key_digest} is not trusted"
            + (
                " here: as that of the running firmware it must be in block 0"
                * (b.key_digest == running)
            )
        )
        for b in found
    )
    known = sorted(trusted) + [f"{running} in block 0"] * bool(running)
    detail = f"no good signature by a trusted key ({', '.join(known)}): {said}"
    return image.Check("signature", image.Verdict.INVALID, detail)


def running_key(data: bytes) -> str:
    """Return the digest of the key that `trusted_keys="running"` means on a device that runs this image.

    That is the one of block 0: whoever has a release can sign it once more behind that. Raises ToolError if there is
    no such block, or if it is no good.
    """
    found = blocks(data, image.load_app(data).length)
    if found and found[0].number == 0 and found[0].good:
        return found[0].key_digest
    why = "it is not signed"
    if found:
        why = f"block {found[0].number}: {found[0].problem or 'block 0 is empty'}"
    raise ToolError(f'trusted_keys="running" finds no key in this image: {why}')


def key_digest(key: keys.Public) -> str:
    """Return what identifies a key, in eFuses and in the device's `trusted_keys`: 64 hex digits.

    Raises ToolError for a key that can't sign images.
    """
    scheme(key)
    return hashlib.sha256(_encode_key(key)).hexdigest()


def scheme(key: keys.Private | keys.Public) -> Scheme:
    """Return how a key signs. Raises ToolError for one that can't sign images."""
    kind = keys.kind(key)
    if kind not in SCHEMES:
        raise ToolError(f"a key for signing is {' or '.join(SCHEMES)}, this one is {kind}")
    return SCHEMES[kind]


def sign(data: bytes, signers: Sequence[keys.Private], append: bool = False) -> bytes:
    """Return an application with a signature by each key, the first in block 0.

    append: keep the signatures that it has; without it, it must have none.

    Raises ToolError for what is no valid application, for keys that can't sign or sign twice, and if there is no
    room for that many.
    """
    length = image.load_app(data).length
    at = start(length)
    found = blocks(data, length)
    _refuse_bad_start(data, length, found, append)
    digests = [b.key_digest for b in found]
    for key in signers:
        digest = key_digest(key.public_key())
        if digest in digests:
            raise ToolError(f"the key with the digest {digest} has signed it already")
        digests.append(digest)
    if not signers:
        raise ToolError("expected a key to sign with, none came")
    if len(digests) > MAX_BLOCKS:
        raise ToolError(f"an image has room for {MAX_BLOCKS} signatures, not for {len(digests)}")
    contents = data[:at].ljust(at, b"\xff")
    sector = data[at : at + BLOCK_BYTES * len(found)] + sign_data(contents, signers)
    signed: bytes = contents + sector.ljust(SECTOR, b"\xff")
    made = blocks(signed, length)
    if [(b.key_digest, b.problem) for b in made] != [(digest, "") for digest in digests]:
        raise ToolError(
            "espsecure made a signature that does not verify: try another version of esptool"
        )
    return signed


def sign_data(data: bytes, signers: Sequence[keys.Private]) -> bytes:
    """Return a block with the signature of some bytes for each key, one after the other."""
    made: bytes = espsecure.generate_signature_block_using_private_key(
        [io.BytesIO(keys.private_pem(key)) for key in signers], data
    )
    return made


def data_blocks(data: bytes, signature: bytes) -> list[Block]:
    """Return the signatures in a file of blocks, as sign_data() makes them, judged by the data they are of."""
    pieces = [signature[at : at + BLOCK_BYTES] for at in range(0, len(signature), BLOCK_BYTES)]
    return [_judge(n, raw, data) for n, raw in enumerate(pieces)]


def _refuse_bad_start(data: bytes, length: int, found: Sequence[Block], append: bool) -> None:
    if found and not append:
        raise ToolError(
            f"it is signed already (blocks: {len(found)}): --append adds a signature; "
            "for another in its place sign the image as it was built"
        )
    if append and not found:
        raise ToolError("it is not signed yet: sign it without --append")
    for n, b in enumerate(found):
        if b.problem:
            raise ToolError(f"block {b.number}, which is there already, is no good: {b.problem}")
        if b.number != n:
            raise ToolError(
                f"block {n} is empty, block {b.number} is not: sign the image as it was built"
            )
    behind = data[start(length) + SECTOR :] if found else data[length:]
    if behind.strip(b"\xff"):
        raise ToolError(
            f"{len(behind)} bytes behind the image are no part of it, and the signature belongs there: "
            "expected an application as it was built"
        )


def _judge(number: int, raw: bytes, contents: bytes) -> Block:
    if len(raw) < BLOCK_BYTES:
        return Block(
            number, "", "", f"it is cut off: expected {BLOCK_BYTES} bytes, came {len(raw)}"
        )
    if raw[0] != MAGIC:
        return Block(number, "", "", f"expected first byte {MAGIC:#04x}, came {raw[0]:#04x}")
    crc, stored = zlib.crc32(raw[: _CRC.start]), int.from_bytes(raw[_CRC], "little")
    if crc != stored:
        words = f"CRC bad, it is damaged: expected {crc:#010x}, came {stored:#010x}"
        return Block(number, "", "", words)
    kind = _find_scheme(raw)
    if isinstance(kind, str):
        return Block(number, "", "", kind)
    digest = hashlib.sha256(raw[kind.key]).hexdigest()
    return Block(number, kind.name, digest, _verify(kind, raw, contents))


def _find_scheme(raw: bytes) -> Scheme | str:
    """Return how a block was signed, or what is wrong."""
    version, sha = raw[1:3]
    if version == _RSA:
        return RSA_3072
    if version == _ECDSA:
        for s in (P256, P384):
            if sha == (s is P384) and raw[s.key.start] == _CURVES[s.name][0]:
                return s
        if sha == 0 and raw[P256.key.start] == _P192:
            return f"P-192, which the device does not take: expected {' or '.join(SCHEMES)}"
    return f"unknown scheme (version {version}, hash {sha}): expected {' or '.join(SCHEMES)}"


def _verify(kind: Scheme, raw: bytes, contents: bytes) -> str:
    """Return what is wrong with a block whose scheme is known, empty if nothing is."""
    digest = hashlib.new(kind.hash.name, contents).digest()
    if raw[kind.digest] != digest:
        came = raw[kind.digest].hex()
        return f"it was made for another image: this one's digest is {digest.hex()}, the block's is {came}"
    try:
        key = _decode_key(kind, raw[kind.key])
    except ValueError:
        return f"the key in it is no {kind.name} key"
    if _encode_key(key) != raw[kind.key]:
        return "what the chip's RSA unit needs (R, M') does not fit the key in it"
    signature = raw[kind.signature]
    prehashed = utils.Prehashed(kind.hash)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(kind.hash), salt_length=32)
            key.verify(signature[::-1], digest, pss, prehashed)
        else:
            r, s = _pair(signature)
            key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(prehashed))
    except InvalidSignature:
        return "the signature is not by the key in it"
    return ""


def _encode_key(key: keys.Public) -> bytes:
    """Return a key as it is in a block; all numbers are little-endian."""
    if isinstance(key, rsa.RSAPublicKey):
        n, e = key.public_numbers().n, key.public_numbers().e
        # Montgomery's R² and M', which save the chip a division.
        r2, m = (1 << 2 * 3072) % n, -pow(n, -1, 1 << 32) % (1 << 32)
        return b"".join(
            v.to_bytes(size, "little") for v, size in ((n, 384), (e, 4), (r2, 384), (m, 4))
        )
    number, curve = _CURVES[keys.kind(key)]
    size = curve.key_size // 8
    point = key.public_numbers()
    return bytes([number]) + point.x.to_bytes(size, "little") + point.y.to_bytes(size, "little")


def _decode_key(kind: Scheme, raw: bytes) -> keys.Public:
    """Return the key of a block. Raises ValueError for numbers that are none."""
    if kind is RSA_3072:
        n, e = int.from_bytes(raw[:384], "little"), int.from_bytes(raw[384:388], "little")
        if n.bit_length() != 3072 or n % 2 == 0:
            raise ValueError
        return rsa.RSAPublicNumbers(e, n).public_key()
    x, y = _pair(raw[1:])
    return ec.EllipticCurvePublicNumbers(x, y, _CURVES[kind.name][1]).public_key()


def _pair(raw: bytes) -> tuple[int, int]:
    half = len(raw) // 2
    return int.from_bytes(raw[:half], "little"), int.from_bytes(raw[half:], "little")
