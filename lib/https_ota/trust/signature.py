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

_SECTOR = const(4096)
_BLOCK = const(1216)
_MAX_BLOCKS = const(3)
_MAX_SEGMENTS = const(16)
_CRC_AT = const(1196)
_FIRST = b"\0"  # behind a digest: of an image, block 0 must be of that key

_RSA = const(2)  # versions of a block
_ECDSA = const(3)


class Signature:
    """Whom to trust, and whether one of these signed what a partition holds: what a session is given for trusted_keys=.

    trusted  one, or a list or tuple, of key digests as 32 bytes or 64 hex digits (`espsecure digest-sbv2-public-key`
             makes them), or "running": the key of the running firmware

    Raises ValueError for anything else, OTAError(UNSIGNED) when a first look at the running firmware finds no
    signature; resolve() verifies it. `keys` is the list of digests, 32 bytes each; "running" stays as it is until then.
    """

    def __init__(self, trusted):
        self.keys = keys = []
        for item in trusted if isinstance(trusted, (list, tuple)) else (trusted,):
            if isinstance(item, str) and item == "running":
                for _ in _running(bytearray(_BLOCK), False):
                    pass
            elif not (isinstance(item, bytes) and item[32:] == _FIRST):  # which resolve() made
                item = digest32(item, "trusted_keys")
            keys.append(item)
        if not keys:
            raise ValueError("trusted_keys: expected at least one key digest, got none")

    def resolve(self, buf):
        """A generator that puts the running firmware's key in place of each "running", and yields after each sector.

        That is the key of its block 0, which must be a good signature of it: behind that one anybody can write a
        block, and sign what is public. Of images, it then counts in block 0 alone, as the next firmware's key will be
        that one: the digest has a byte more. Raises OTAError(UNSIGNED) when there is no such key.
        """
        own = None
        for i, key in enumerate(self.keys):
            if isinstance(key, str):
                own = own or (yield from _running(buf, True)) + _FIRST
                self.keys[i] = own

    def check(self, part, buf, size, firmware=True):
        """A generator that raises OTAError unless a trusted key signed what a partition holds; it returns that key's digest.

        part      esp32.Partition, or what has its readblocks()
        buf       bytearray of at least 4096 bytes to read with
        size      bytes that were written: what lies behind them is an earlier image's
        firmware  False for any file, with the signature sector at its end: see flash/data.py

        It yields after each sector; the arithmetic of a signature is not cut in pieces. One block with a trusted key
        and a good signature will do, whatever the others hold. Otherwise the code is SIGNATURE when a trusted key
        signed something else, or what is wrong with the first block: SIGNATURE_BLOCK, KEY_TYPE, UNKNOWN_KEY.
        UNSIGNED: there is no block. NOT_AN_IMAGE, SEGMENTS: there is no image.
        """
        yield from self.resolve(buf)
        keys = self.keys
        if firmware:
            end = _end(part, size)
        else:
            keys = _anywhere(keys)  # what is no firmware tells nobody whom to trust
            end = size - _SECTOR
            if size % _SECTOR or end <= 0:
                end = size  # where no block is
        return (
            yield from _check(
                _blocks(part, end, buf, size, _MAX_BLOCKS),
                keys,
                _sectors(part, end, buf),
                "image" if firmware else "file",
                end,
            )
        )


def trusted_digests(value, feed=None):
    """The keys to trust, from the value of the option trusted_keys, that of the running firmware verified: 32 bytes each.

    feed  called once a sector: for a watchdog
    """
    signature = Signature(value)
    for _ in signature.resolve(bytearray(_SECTOR)):
        if feed:
            feed()
    return signature.keys


def verify_data(data, blocks, trusted, what):
    """Raise OTAError unless a trusted key signed `data`; return that key's digest.

    blocks   one to three signature blocks of 1216 bytes: as behind an image, but of the bytes in `data`
    trusted  digests of keys, as trusted_digests() makes them
    what     names the data in errors, which are those of Signature.check(); but any block will do

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
    numbered = ((i // _BLOCK, mv[i : i + _BLOCK]) for i in range(0, size, _BLOCK) if mv[i] == 0xE7)
    steps = _check(numbered, _anywhere(trusted), (data,), what, None)
    try:
        while True:
            next(steps)
    except StopIteration as e:
        return e.value


# Judges the blocks, which come with their numbers: `trusted` are digests, with None any key will do. `pieces` of what is
# signed are not asked for unless there is a candidate; None is for a first look: nothing is verified, so no digest is
# returned. `end` is where a signature sector was expected.
def _check(blocks, trusted, pieces, what, end):
    code = 0
    words = []
    candidates = []
    hashes = {}
    for number, block in blocks:
        try:
            digest, kind, good = _parse(block)
            if trusted is None or _among(trusted, digest, number):
                candidates.append((number, digest, kind, good))
                if kind not in hashes:
                    hashes[kind] = kind()
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
    if candidates:
        if pieces is None:
            return None
        for piece in pieces:
            for kind in hashes:
                hashes[kind].update(piece)
            yield False
        for kind in hashes:
            hashes[kind] = hashes[kind].digest()
    for number, digest, kind, good in candidates:
        if good(hashes[kind]):
            return digest
        yield False
        code = OTAError.SIGNATURE
        words.append(
            "block %d: the signature by the key %s does not match the %s"
            % (number, _hex(digest), what)
        )
    if not code:
        raise OTAError(
            OTAError.UNSIGNED,
            "expected %s, found none"
            % (
                "blocks that begin with e7"
                if end is None
                else "a signature sector behind the %s, at %d" % (what, end)
            ),
        )
    raise OTAError(code, "; ".join(words))


# The key of the running firmware's block 0; of a first look, not `whole`, nothing but that there may be one.
def _running(buf, whole):
    from esp32 import Partition

    part = Partition(Partition.RUNNING)
    try:
        size = part.info()[3]
        end = _end(part, size)
        return (
            yield from _check(
                _blocks(part, end, buf, size, 1),
                None,
                _sectors(part, end, buf) if whole else None,
                "running firmware",
                end,
            )
        )
    except OTAError as e:
        raise OTAError(
            OTAError.UNSIGNED,
            'trusted_keys="running": expected a good first signature of the running firmware, to take the key from: %s'
            % e.detail,
        )


def _hex(digest):
    return hexlify(digest).decode()


def _among(trusted, digest, number):
    return digest in trusted or (number == 0 and digest + _FIRST in trusted)


# The same keys, for what may have them in any block.
def _anywhere(trusted):
    return [key[:32] for key in trusted]


# Where the signature sector is: the end of the image, by its segments, up to a multiple of a sector.
def _end(part, limit):
    head = bytearray(24)
    part.readblocks(0, head, 0)
    small = bytearray(8)
    end = 24
    good = head[0] == 0xE9 and 1 <= head[1] <= _MAX_SEGMENTS
    for _ in range(head[1]):
        if end + 8 <= limit:
            part.readblocks(end // _SECTOR, small, end % _SECTOR)
            size = unpack_from("<I", small, 4)[0]
            good = good and size & 3 == 0
            end += size
        end += 8
    # The checksum is the last byte of a row of 16; the image's own SHA-256 follows it.
    end = (end // 16 + 1) * 16 + (32 if head[23] == 1 else 0)
    if not good or end > limit:
        raise OTAError(
            OTAError.SEGMENTS if head[0] == 0xE9 else OTAError.NOT_AN_IMAGE,
            "expected an image of up to %d bytes, it begins with %02x %02x and ends at %d"
            % (limit, head[0], head[1], end),
        )
    return (end + _SECTOR - 1) // _SECTOR * _SECTOR


# The blocks that are there, each with its number, read into the start of buf.
def _blocks(part, end, buf, size, most):
    if end + _SECTOR > size:
        return
    block = memoryview(buf)[:_BLOCK]
    for number in range(most):
        part.readblocks(end // _SECTOR, block, number * _BLOCK)
        if block[0] == 0xE7:
            yield number, block


# A block's key digest; what hashes that which it signs; and a function that tells of such a hash whether it is signed.
def _parse(block):
    if crc32(block[:_CRC_AT]) != unpack_from("<I", block, _CRC_AT)[0]:
        raise OTAError(
            OTAError.SIGNATURE_BLOCK, "it is damaged, its CRC does not match its content"
        )
    kind = block[1]
    if kind == _RSA:
        # modulus, exponent, two numbers that hardware calculates with; then the signature
        n, e, s = (
            _numbers(block, 36, 384, 1) + _numbers(block, 420, 4, 1) + _numbers(block, 812, 384, 1)
        )
        return sha256(block[36:812]).digest(), sha256, lambda hash: _pss(hash, n, e, s)
    # The SHA-256 or SHA-384 of the image precedes: curve, point, signature.
    wide = block[2]
    at = 52 if wide == 1 else 36
    curve_id = block[at]
    if kind != _ECDSA:
        what = "version %d" % kind
    elif wide > 1 or curve_id != wide + 2:
        what = "ECDSA with curve %d (1: P-192, too weak) and hash %d" % (curve_id, wide)
    else:
        from .ec import P256 as curve, verify

        kind = sha256
        try:
            if wide:
                from .p384 import P384 as curve, SHA384 as kind
            size = curve.size
            x, y, r, s = _numbers(block, at + 1, size, 4)
            digest = sha256(block[at : at + 1 + 2 * size]).digest()
            return digest, kind, lambda hash: verify(curve, hash, r, s, x, y)
        except ImportError:
            what = "ECDSA P-384, but the slice p384 is left out of this build"
    raise OTAError(
        OTAError.KEY_TYPE,
        "expected RSA-3072, ECDSA P-256 or P-384, came " + what,
    )


def _numbers(block, at, size, n):
    return [int.from_bytes(block[i : i + size], "little") for i in range(at, at + n * size, size)]


# What is signed, sector by sector, in buf.
def _sectors(part, end, buf):
    view = memoryview(buf)[:_SECTOR]
    for i in range(end // _SECTOR):
        part.readblocks(i, view)
        yield view


# RFC 8017, 8.1.2 and 9.1.2: RSASSA-PSS with 3072 bits, SHA-256, MGF1 with SHA-256 and 32 bytes of salt.
def _pss(digest, n, e, s):
    if n >> 3071 != 1 or s >= n:
        return False
    em = pow(s, e, n).to_bytes(384, "big")
    # 351 bytes masked DB, 32 bytes H, the trailer. EM has a bit less than the modulus.
    h = em[351:383]
    if em[0] & 0x80 or em[383] != 0xBC:
        return False
    mask = b"".join(sha256(h + pack(">I", i)).digest() for i in range(11))
    db = int.from_bytes(em[:351], "big") ^ int.from_bytes(mask[:351], "big")
    # DB is zeros but for the bit that EM lacks, a one, the salt. (A mask for that bit would be compiled in, all 845
    # digits of it.) None of this is secret: it takes the time it takes.
    if db - (db >> 2807 << 2807) >> 256 != 1:
        return False
    salt = (db - (db >> 256 << 256)).to_bytes(32, "big")
    return h == sha256(bytes(8) + digest + salt).digest()
