# Secure Boot V2 signatures, verified by the running firmware before it switches to another.
#
# Format: ESP-IDF's ets_secure_boot_sig_block_t and espsecure. Behind the image, at the next multiple of
# 4096 bytes, a sector has room for three blocks, each with a key, a signature of all that precedes the
# sector, and a CRC. The caller knows the digests of good keys; nothing else that a block says of the image
# or the key, and is not covered by the signature or by that digest, is used. The key of the running firmware
# is one of these only once its signature has been verified.

from binascii import crc32, hexlify
from hashlib import sha256
from struct import pack, unpack_from

from micropython import const

from ..der import digest32
from ..errors import OTAError
from ..hot import equal
from ..steps import run

_SECTOR = const(4096)
_BLOCK = const(1216)
_MAX_BLOCKS = const(3)
_MAX_SEGMENTS = const(16)
_CRC_AT = const(1196)
_FIRST = b"\0"  # behind a digest: of an image, block 0 must be of that key

_RSA = const(2)  # versions of a block
_ECDSA = const(3)


def verify(part, trusted, buf, feed=None, size=None):
    """Run verify_steps() to its end."""
    return run(verify_steps(part, trusted, buf, feed, size))


def verify_steps(part, trusted, buf, feed, size, end=None):
    """Raise OTAError unless a trusted key signed the image in a partition; return that key's digest.

    part     esp32.Partition, or what has its readblocks() and info()
    trusted  key digests: see trusted_digests()
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
    else:
        trusted = _anywhere(trusted)  # what is no firmware tells nobody whom to trust
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
    trusted  as for verify_steps(), and so are the errors; but any block will do
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
            _anywhere(trusted),
            lambda candidates: _hash((data,), candidates, None),
            what,
            "blocks that begin with e7",
            None,
        )
    )


# Judges the blocks, which come with their numbers; with None for `trusted` any key will do. `hashes` is called with
# the candidates, see _hash(); None is for a first look: nothing is verified, so no digest is returned. `place` says
# what was expected where there is none.
def _check(blocks, trusted, hashes, what, place, feed):
    code = 0
    words = []
    candidates = []
    for number, block in blocks:
        try:
            digest, curve, numbers = _parse(block)
            if trusted is None or _among(trusted, digest, number):
                candidates.append((number, digest, curve, numbers))
                continue
            raise OTAError(
                OTAError.UNKNOWN_KEY,
                "signed by the key %s, which is not trusted%s"
                % (
                    _hex(digest),
                    ' here: "running" asks for it in block 0'
                    if _among(trusted, digest, 0)
                    else "",
                ),
            )
        except OTAError as e:
            code = code or e.code
            words.append("block %d: %s" % (number, e.detail))
    if hashes:
        narrow, wide = yield from hashes(candidates)
    elif candidates:
        return None
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
            "block %d: the signature by the key %s does not match the %s"
            % (number, _hex(digest), what)
        )
    if not code:
        raise OTAError(
            OTAError.UNSIGNED,
            "expected %s, and found none: sign the %s with `https-ota` or espsecure and the key of this device"
            % (place, what),
        )
    raise OTAError(code, "; ".join(words))


def trusted_digests(value, feed=None):
    """The keys to trust, from the value of the option trusted_keys: what key_digests() and running_steps() make of it."""
    return run(running_steps(key_digests(value), bytearray(_SECTOR), feed))


def key_digests(value):
    """A list of key digests, 32 bytes each, from the value of the option trusted_keys; "running" stays as it is.

    One, or a list or tuple, of 32 bytes or 64 hex digits (`espsecure digest-sbv2-public-key` makes them) or
    "running". Raises ValueError for anything else, OTAError(UNSIGNED) when a first look at the running firmware finds
    no signature; running_steps() verifies it.
    """
    result = []
    for item in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(item, str) and item == "running":
            run(_running_steps(bytearray(_BLOCK), None, False))
            result.append(item)
        elif isinstance(item, bytes) and item[32:] == _FIRST:
            result.append(item)  # as trusted_digests() made it
        else:
            result.append(digest32(item, "trusted_keys"))
    if not result:
        raise ValueError("trusted_keys: expected at least one key digest, got none")
    return result


def running_steps(keys, buf, feed):
    """A generator (see steps.py) that puts the running firmware's key in place of each "running" in a list of keys.

    That is the key of its block 0, which must be a good signature of it: behind that one anybody can write a block, and
    sign what is public. Of images, it then counts in block 0 alone, as the next firmware's key will be that one: the
    digest has a byte more. Raises OTAError(UNSIGNED) when there is no such key.
    """
    own = None
    result = []
    for key in keys:
        if isinstance(key, str):
            if own is None:
                own = yield from _running_steps(buf, feed, True)
            key = own + _FIRST
        result.append(key)
    return result


def _running_steps(buf, feed, whole):
    from esp32 import Partition

    part = Partition(Partition.RUNNING)
    try:
        end = _end(part)
        return (
            yield from _check(
                (block for block in _blocks(part, end, buf, None) if block[0] == 0),
                None,
                whole and (lambda found: _hash(_sectors(part, end, buf), found, feed)),
                "running firmware",
                "a signature sector behind it, at %d" % end,
                feed,
            )
        )
    except OTAError as e:
        raise OTAError(
            OTAError.UNSIGNED,
            'trusted_keys="running": the first signature of the running firmware is none to take a key from; install a'
            " signed one over USB, or give the digests of the keys (%s)" % e.detail,
        )


def _hex(digest):
    return hexlify(digest).decode()


def _among(trusted, digest, number):
    found = False
    for known in trusted:
        if len(known) == 32 or number == 0:
            found = equal(known[:32], digest) or found
    return found


# The same keys, for what may have them in any block.
def _anywhere(trusted):
    return [key[:32] for key in trusted]


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
            from .p384 import SHA384

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
    # Shifted there and back: a mask would be compiled in, all 845 digits of it.
    db -= db >> 2807 << 2807
    # DB is zeros, a one, the salt.
    if db >> 256 != 1:
        return False
    salt = (db - (db >> 256 << 256)).to_bytes(32, "big")
    return equal(h, sha256(bytes(8) + digest + salt).digest())
