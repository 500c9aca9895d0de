# Secure Boot V2 signatures, verified by the running firmware before it switches to another.
#
# Format: ESP-IDF's ets_secure_boot_sig_block_t and espsecure. Behind the image, at the next multiple of
# 4096 bytes, a sector has room for three blocks, each with a key, a signature of all that precedes the
# sector, and a CRC. The caller knows the digests of good keys; nothing else that a block says of the image
# or the key, and is not covered by the signature or by that digest, is used.

from binascii import crc32, hexlify, unhexlify
from hashlib import sha256
from struct import pack, unpack_from

from micropython import const

from .errors import OTAError
from .hot import equal
from .steps import run

_SECTOR = const(4096)
_BLOCK = const(1216)
_MAX_BLOCKS = const(3)
_MAX_SEGMENTS = const(16)
_CRC_AT = const(1196)

_RSA = const(2)  # versions of a block
_ECDSA = const(3)


def verify(part, trusted, buf, feed=None, size=None):
    """Run verify_steps() to its end."""
    return run(verify_steps(part, trusted, buf, feed, size))


def verify_steps(part, trusted, buf, feed, size, end=None):
    """Raise OTAError unless a trusted key signed the image in a partition; return that key's digest.

    part     esp32.Partition, or what has its readblocks() and info()
    trusted  key digests, 32 bytes each: see trusted_digests()
    buf      bytearray of 4096 bytes to read with
    feed     called at least once a sector: for a watchdog
    size     bytes of the partition that were written, None for all of it: what lies behind them is an earlier
             image's
    end      where the signature sector is; None finds the end of an image (verify_steps() only)

    One block with a trusted key and a good signature will do, whatever the others hold. Otherwise the code is
    SIGNATURE when a trusted key signed something else, or what is wrong with the first block:
    SIGNATURE_BLOCK, KEY_TYPE, UNKNOWN_KEY. UNSIGNED: there is no block. NOT_AN_IMAGE, SEGMENTS: there is no image.

    A generator (see steps.py) with a step a sector; the arithmetic of a signature is one step.
    """
    if end is None:
        end = _end(part)
    return (
        yield from _check(
            _blocks(part, end, buf, size),
            trusted,
            lambda candidates: _hash(_sectors(part, end, buf), candidates, feed),
            "image",
            "a signature sector behind the image, at %d" % end,
            feed,
        )
    )


def verify_data(data, blocks, trusted, what):
    """Raise OTAError unless a trusted key signed `data`; return that key's digest.

    blocks   one to three signature blocks of 1216 bytes: as behind an image, but of the bytes in `data`
    trusted  as for verify_steps(), and so are the errors
    what     names the data in them

    Of P-384 the SHA-384 of the data is signed, of the other keys its SHA-256.
    """
    size = len(blocks)
    if not size or size % _BLOCK or size > _BLOCK * _MAX_BLOCKS:
        raise OTAError(
            OTAError.SIGNATURE_BLOCK,
            "the signature of the %s: expected one to %d blocks of %d bytes, came %d bytes"
            % (what, _MAX_BLOCKS, _BLOCK, size),
        )
    mv = memoryview(blocks)
    return run(
        _check(
            ((i // _BLOCK, mv[i : i + _BLOCK]) for i in range(0, size, _BLOCK) if mv[i] == 0xE7),
            trusted,
            lambda candidates: _hash((data,), candidates, None),
            what,
            "blocks that begin with e7",
            None,
        )
    )


# Judges the blocks, which come with their numbers. `hashes` is called with the candidates, see _hash(); `place`
# says what was expected where there is none.
def _check(blocks, trusted, hashes, what, place, feed):
    code = 0
    words = []
    candidates = []
    for number, block in blocks:
        try:
            digest, curve, numbers = _parse(block)
            if _among(trusted, digest):
                candidates.append((number, digest, curve, numbers))
                continue
            raise OTAError(
                OTAError.UNKNOWN_KEY,
                "signed by the key %s, which is not trusted" % _hex(digest),
            )
        except OTAError as e:
            code = code or e.code
            words.append("block %d: %s" % (number, e.detail))
    narrow, wide = yield from hashes(candidates)
    for number, digest, curve, numbers in candidates:
        if curve is None:
            good = _verify_rsa(narrow, *numbers)
        else:
            from .ec import verify as verify_ecdsa

            good = verify_ecdsa(curve, wide if curve.size == 48 else narrow, *numbers)
        if good:
            return digest
        if feed:
            feed()
        code = OTAError.SIGNATURE
        words.append(
            "block %d: the signature by the trusted key %s does not match the %s"
            % (number, _hex(digest), what)
        )
    if not code:
        raise OTAError(
            OTAError.UNSIGNED,
            "expected %s, and found none: sign the %s with `https-ota` or espsecure and the key of this device"
            % (place, what),
        )
    raise OTAError(code, "; ".join(words))


def trusted_digests(value):
    """A list of key digests, 32 bytes each, from the value of the option trusted_keys.

    One, or a list or tuple, of 32 bytes or 64 hex digits (`espsecure digest-sbv2-public-key` makes them) or
    "running": the keys in the running firmware's own signature blocks, OTAError(UNSIGNED) when it has none.
    Raises ValueError for anything else.
    """
    result = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(item, str):
            if item == "running":
                result.extend(_running_digests())
                continue
            try:
                digest = unhexlify(item)
            except ValueError:
                digest = b""
            if len(digest) != 32:
                raise ValueError(
                    'trusted_keys: expected 64 hex digits or "running", got %r' % item[:80]
                )
        elif isinstance(item, (bytes, bytearray, memoryview)):
            digest = bytes(item)
            if len(digest) != 32:
                raise ValueError(
                    "trusted_keys: expected the 32 bytes of a key digest, got %d bytes: make it with espsecure"
                    " digest-sbv2-public-key" % len(digest)
                )
        else:
            raise ValueError(
                "trusted_keys: expected key digests as bytes or str, got %s" % type(item).__name__
            )
        result.append(digest)
    if not result:
        raise ValueError("trusted_keys: expected at least one key digest, got none")
    return result


def _running_digests():
    from esp32 import Partition

    part = Partition(Partition.RUNNING)
    result = []
    why = ""
    for number, block in _blocks(part, _end(part), bytearray(_BLOCK), None):
        try:
            result.append(_parse(block)[0])
        except OTAError as e:
            why += " (block %d: %s)" % (number, e.detail)
    if not result:
        raise OTAError(
            OTAError.UNSIGNED,
            'trusted_keys="running": the running firmware has no signature to take the keys from%s; install a'
            " signed one over USB, or give the digests of the keys" % why,
        )
    return result


def _hex(digest):
    return hexlify(digest).decode()


def _among(trusted, digest):
    found = False
    for known in trusted:
        found = equal(known, digest) or found
    return found


# Where the signature sector is: the end of the image, by its segments, up to a multiple of a sector.
def _end(part):
    limit, label = part.info()[3:5]
    head = bytearray(24)
    part.readblocks(0, head, 0)
    if head[0] != 0xE9:
        raise OTAError(
            OTAError.NOT_AN_IMAGE,
            "expected an image in %s, which begins with e9, came %02x" % (label, head[0]),
        )
    segments = head[1]
    if not 1 <= segments <= _MAX_SEGMENTS:
        raise OTAError(
            OTAError.SEGMENTS,
            "expected 1 to %d segments, the header says %d" % (_MAX_SEGMENTS, segments),
        )
    small = bytearray(8)
    end = 24
    for number in range(segments):
        if end + 8 <= limit:
            part.readblocks(end // _SECTOR, small, end % _SECTOR)
            size = small[4] | small[5] << 8 | small[6] << 16
            if small[7] or size & 3:
                raise OTAError(
                    OTAError.SEGMENTS,
                    "segment %d: its length is no multiple of 4 below 16 MiB" % number,
                )
            end += size
        end += 8
    # The checksum is the last byte of a row of 16; the image's own SHA-256 follows it.
    end = (end // 16 + 1) * 16 + (32 if head[23] == 1 else 0)
    if end > limit:
        raise OTAError(
            OTAError.SEGMENTS,
            "the image ends at %d by its segments, %s at %d" % (end, label, limit),
        )
    return (end + _SECTOR - 1) // _SECTOR * _SECTOR


# The blocks that are there, each with its number, read into the start of buf.
def _blocks(part, end, buf, size):
    if end + _SECTOR > (part.info()[3] if size is None else size):
        return
    block = memoryview(buf)[:_BLOCK]
    for number in range(_MAX_BLOCKS):
        part.readblocks(end // _SECTOR, block, number * _BLOCK)
        if block[0] == 0xE7:
            yield number, block


# A block's key digest; its curve, None for RSA; and the numbers that tell whether it is good, of a hash.
def _parse(block):
    if crc32(block[:_CRC_AT]) != unpack_from("<I", block, _CRC_AT)[0]:
        raise OTAError(
            OTAError.SIGNATURE_BLOCK, "it is damaged, its CRC does not match its content"
        )
    kind = block[1]
    if kind == _RSA:
        # modulus, exponent, two numbers that hardware calculates with; then the signature
        return (
            sha256(block[36:812]).digest(),
            None,
            (_number(block, 36, 384), _number(block, 420, 4), _number(block, 812, 384)),
        )
    # The SHA-256 or SHA-384 of the image precedes: curve, point, signature.
    at = 52 if block[2] == 1 else 36
    curve_id = block[at]
    if kind != _ECDSA:
        what = "version %d" % kind
    elif block[2] > 1:
        what = "ECDSA with hash %d" % block[2]
    elif curve_id == 1:
        what = "ECDSA P-192, which is too weak"
    elif curve_id != block[2] + 2:
        what = "ECDSA with curve %d and hash %d" % (curve_id, block[2])
    else:
        from .ec import P256, P384

        curve = P384 if curve_id == 3 else P256
        size = curve.size
        x, y, r, s = [_number(block, at + 1 + size * i, size) for i in range(4)]
        return sha256(block[at : at + 1 + 2 * size]).digest(), curve, (r, s, x, y)
    raise OTAError(
        OTAError.KEY_TYPE,
        "expected RSA-3072, ECDSA P-256 or ECDSA P-384, came " + what,
    )


def _number(block, at, size):
    return int.from_bytes(block[at : at + size], "little")


# What is signed, sector by sector, in buf.
def _sectors(part, end, buf):
    for i in range(end // _SECTOR):
        part.readblocks(i, buf)
        yield buf


# The SHA-256 and the SHA-384 of what is signed, each if a candidate needs it. A step a piece.
def _hash(pieces, candidates, feed):
    narrow = wide = None
    for _, _, curve, _ in candidates:
        if curve is None or curve.size == 32:
            narrow = narrow or sha256()
        elif wide is None:
            from .sha384 import SHA384

            wide = SHA384()
    if candidates:
        for piece in pieces:
            if narrow:
                narrow.update(piece)
            if wide:
                wide.update(piece, len(piece))
            if feed:
                feed()
            yield False
    return narrow and narrow.digest(), wide and wide.digest()


# RFC 8017, 8.1.2 and 9.1.2: RSASSA-PSS with 3072 bits, SHA-256, MGF1 with SHA-256 and 32 bytes of salt.
def _verify_rsa(digest, n, e, s):
    if n >> 3071 != 1 or s >= n:
        return False
    em = pow(s, e, n).to_bytes(384, "big")
    # 351 bytes masked DB, 32 bytes H, the trailer. EM has a bit less than the modulus.
    h = em[351:383]
    if em[0] & 0x80 or em[383] != 0xBC:
        return False
    mask = b"".join(sha256(h + pack(">I", i)).digest() for i in range(11))
    db = int.from_bytes(em[:351], "big") ^ int.from_bytes(mask[:351], "big")
    db &= (1 << 2807) - 1
    # DB is zeros, a one, the salt.
    if db >> 256 != 1:
        return False
    salt = (db & ((1 << 256) - 1)).to_bytes(32, "big")
    return equal(h, sha256(bytes(8) + digest + salt).digest())
