"""Secure Boot V2 signatures as espsecure makes them, and what is wrong with those that the board must refuse.

The board has the image in ota_1. Most of what is wrong is laid over it as patches when it is read, so that
one run of the board sees many cases.
"""

import hashlib
import io
import json
import random
import zlib
from pathlib import Path
from typing import NamedTuple

import espsecure
import images
import pytest
import simflash
from board import Board
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

UNSIGNED, SIGNATURE_BLOCK, KEY_TYPE, UNKNOWN_KEY, SIGNATURE = 70, 71, 72, 73, 74
SEGMENTS, NOT_AN_IMAGE = 36, 30

OTA_1 = 0x190000
SLOT = 0x180000
SECTOR = 4096
BLOCK = 1216
CRC_AT = 1196
SIGNED = ("rsa", "p256", "p384")

IMAGE = images.app_image(size=18_000, version="2.0.0", seed=5)
END = -(-len(IMAGE) // SECTOR) * SECTOR

# Prints a line a case: 0 and the digest of the key that signed, or the error's code and words.
CHECK = """
import json
from esp32 import Partition
from https_ota import sign
from https_ota.errors import OTAError

def finish(steps):
    try:
        while True:
            next(steps)
    except StopIteration as e:
        return e.value

class Patched:
    def __init__(self, part):
        self.part = part
        self.info = part.info
        self.patches = ()
    def readblocks(self, block, buf, offset=0):
        self.part.readblocks(block, buf, offset)
        start = block * 4096 + offset
        for at, data in self.patches:
            for i, c in enumerate(data, at - start):
                if 0 <= i < len(buf):
                    buf[i] = c

with open("cases.json") as f:
    trusted, cases = json.load(f)
trusted = sign.trusted_digests(trusted)
part = Patched(Partition("ota_1"))
buf = bytearray(4096)
for part.patches in cases:
    part.patches = [(at, bytes.fromhex(data)) for at, data in part.patches]
    try:
        print(0, finish(sign.Signature(trusted).check(part, buf, part.info()[3])).hex())
    except OTAError as e:
        print(e.code, e.detail)
"""


class Key(NamedTuple):
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    pem: bytes
    digest: str


class Result(NamedTuple):
    code: int
    detail: str


def make_key(kind: str) -> Key:
    if kind == "rsa":
        private = rsa.generate_private_key(65537, 3072)
    else:
        curve = {"p192": ec.SECP192R1, "p256": ec.SECP256R1, "p384": ec.SECP384R1}[kind]
        private = ec.generate_private_key(curve())
    return as_key(private)


def as_key(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Key:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    digest = espsecure._digest_sbv2_public_key(io.BytesIO(pem))
    return Key(private, pem, digest.hex())


@pytest.fixture(scope="session")
def keys():
    """A key of each kind, and a second of each, of someone else."""
    kinds = ("rsa", "p192", "p256", "p384")
    return {name: make_key(name.removesuffix(" 2")) for k in kinds for name in (k, k + " 2")}


@pytest.fixture(scope="session")
def signed(keys, tmp_path_factory):
    """The image, signed by each of these keys."""
    folder = tmp_path_factory.mktemp("signed")
    return {name: sign(folder, IMAGE, keys[name]) for name in keys}


@pytest.fixture(params=["sim", "sim64"])
def board(tmp_path, request):
    return Board(simflash.make_flash(tmp_path / "flash.bin"), request.param)


@pytest.fixture
def board32(tmp_path):
    return Board(simflash.make_flash(tmp_path / "flash.bin"))


def sign(folder: Path, image: bytes, *signers: Key) -> bytes:
    """Have espsecure sign an image, one key after the other."""
    (folder / "in.bin").write_bytes(image)
    for i, key in enumerate(signers):
        with (folder / "in.bin").open("rb") as data:
            espsecure.sign_data(
                "2", [io.BytesIO(key.pem)], folder / "out.bin", i > 0, False, None, [], [], data
            )
        (folder / "out.bin").replace(folder / "in.bin")
    return (folder / "in.bin").read_bytes()


def verify_all(board: Board, flashed: bytes, trusted, cases) -> list[Result]:
    """Return what the board says of an image in ota_1 with each list of patches, (offset, bytes), over it."""
    with board.flash.open("r+b") as f:
        f.seek(OTA_1)
        f.write(flashed.ljust(SLOT, b"\xff"))
    listed = [[(at, data.hex()) for at, data in case] for case in cases]
    (board.flash.parent / "cases.json").write_text(json.dumps([trusted, listed]))
    lines = board.run(CHECK).splitlines()
    assert len(lines) == len(cases)
    return [Result(int(line.split()[0]), line.partition(" ")[2]) for line in lines]


def verify(board: Board, flashed: bytes, *trusted: Key) -> Result:
    return verify_all(board, flashed, [key.digest for key in trusted], [[]])[0]


def block_of(flashed: bytes, number: int = 0) -> bytearray:
    at = END + BLOCK * number
    return bytearray(flashed[at : at + BLOCK])


def sealed(block: bytes) -> bytes:
    """Return a block with its CRC made anew."""
    return block[:CRC_AT] + zlib.crc32(block[:CRC_AT]).to_bytes(4, "little") + bytes(16)


def with_sector(*blocks: bytes) -> bytes:
    return IMAGE.ljust(END, b"\xff") + b"".join(blocks).ljust(SECTOR, b"\xff")


def numbers_at(kind: str) -> tuple[int, int]:
    """Return the offset of an ECDSA block's point and the size of its numbers."""
    return (53, 48) if kind == "p384" else (37, 32)


# What is accepted


@pytest.mark.parametrize("kind", SIGNED)
def test_signed_by_a_trusted_key(board, keys, signed, kind):
    assert verify(board, signed[kind], keys[kind]) == (0, keys[kind].digest)


@pytest.mark.parametrize("kind", SIGNED)
def test_signed_by_one_of_many_trusted_keys(board32, keys, signed, kind):
    trusted = [keys[name] for name in keys]
    assert verify(board32, signed[kind], *trusted) == (0, keys[kind].digest)


@pytest.mark.parametrize(
    "signers",
    [
        ("rsa 2", "rsa"),
        ("p256", "p256 2"),
        ("p384 2", "p256 2", "p384"),
        ("p192", "rsa"),
        ("rsa", "p256", "p384"),
        ("p384", "p256", "rsa"),
    ],
)
def test_any_block_by_a_trusted_key_will_do(board32, tmp_path, keys, signers):
    image = sign(tmp_path, IMAGE, *(keys[name] for name in signers))
    for name in signers:
        if name != "p192":
            assert verify(board32, image, keys[name]) == (0, keys[name].digest)
    others = [key for name, key in keys.items() if name not in signers]
    refused = verify(board32, image, *others)
    assert refused.code == (KEY_TYPE if signers[0] == "p192" else UNKNOWN_KEY)
    for i, name in enumerate(signers):
        assert f"block {i}: " in refused.detail
        assert name == "p192" or keys[name].digest in refused.detail


@pytest.mark.parametrize("kind", SIGNED)
@pytest.mark.parametrize("size", [4000, 4096, 4112, 8192, 70_000])
def test_images_of_any_size(board32, tmp_path, keys, kind, size):
    image = sign(tmp_path, images.app_image(size=size, hash_appended=size != 4112), keys[kind])
    assert verify(board32, image, keys[kind]).code == 0


def test_an_image_that_just_leaves_room_for_the_sector(board32, tmp_path, keys):
    image = sign(tmp_path, images.app_image(size=SLOT - SECTOR), keys["p256"])
    assert len(image) == SLOT
    assert verify(board32, image, keys["p256"]).code == 0


def test_the_rest_of_the_slot_does_not_matter(board32, keys, signed):
    image = signed["p256"] + bytes(range(256)) * 64
    assert verify(board32, image, keys["p256"]).code == 0


def test_the_digest_and_the_helpers_of_a_block_do_not_matter_unless_they_are_the_keys(
    board32, keys, signed
):
    for kind in SIGNED:
        block = block_of(signed[kind])
        block[4:36] = bytes(32)
        assert verify(board32, with_sector(sealed(block)), keys[kind]).code == 0
    block = block_of(signed["rsa"])
    block[424:812] = bytes(388)
    digest = hashlib.sha256(block[36:812]).hexdigest()
    patches = [(END, sealed(block))]
    results = verify_all(board32, signed["rsa"], [digest], [patches])
    assert results == [(0, digest)]
    assert verify_all(board32, signed["rsa"], keys["rsa"].digest, [patches])[0].code == UNKNOWN_KEY


@pytest.mark.parametrize("kind", SIGNED)
def test_it_yields_for_each_sector(board32, signed, kind, keys):
    verify(board32, signed[kind], keys[kind])
    fed = board32.run(
        "import esp32\n"
        "from https_ota import sign\n"
        f"trusted = sign.Signature({keys[kind].digest!r})\n"
        "print(len(list(trusted.check(esp32.Partition('ota_1'), bytearray(4096), 0x180000))))"
    )
    assert int(fed) >= END // SECTOR


# The keys of the running firmware


def running_board(folder: Path, image: bytes) -> Board:
    return Board(simflash.make_flash(folder / "flash.bin", image))


def block_over(image: bytes, *signers: Key) -> bytes:
    """Return a signature block by each key over an image: what anyone can make of public bytes."""
    contents = image.ljust(-(-len(image) // SECTOR) * SECTOR, b"\xff")
    return espsecure.generate_signature_block_using_private_key(
        [io.BytesIO(key.pem) for key in signers], contents
    )


def with_blocks(image: bytes, *blocks: bytes) -> bytes:
    contents = image.ljust(-(-len(image) // SECTOR) * SECTOR, b"\xff")
    return contents + b"".join(blocks).ljust(SECTOR, b"\xff")


RUNNING = images.app_image()
RUNNING_KEYS = """
from https_ota import sign
fed = []
print(sign.trusted_digests("running", lambda: fed.append(1))[0][:32].hex(), len(fed))
"""


@pytest.mark.parametrize("kind", SIGNED)
def test_running_is_the_key_of_block_0(tmp_path, keys, signed, kind):
    others = [k for k in SIGNED if k != kind]
    blocks = block_over(RUNNING, *(keys[k] for k in (kind, *others)))
    board = running_board(tmp_path, with_blocks(RUNNING, blocks))
    digest, fed = board.run(RUNNING_KEYS).split()
    assert digest == keys[kind].digest
    assert int(fed) >= len(RUNNING) // SECTOR
    assert verify_all(board, signed[kind], "running", [[]]) == [(0, digest)]
    for other in others:
        refused = verify_all(board, signed[other], "running", [[]])[0]
        assert refused.code == UNKNOWN_KEY
        assert keys[other].digest in refused.detail
        # Each item of a list keeps its own rule.
        for trusted in (["running", keys[other].digest], [keys[other].digest, "running"]):
            assert verify_all(board, signed[other], trusted, [[]]) == [(0, keys[other].digest)]
            assert verify_all(board, signed[kind], trusted, [[]]) == [(0, digest)]


@pytest.mark.parametrize("kind", SIGNED)
@pytest.mark.parametrize("attacker", [k + " 2" for k in SIGNED])
def test_a_block_behind_the_first_of_the_running_firmware_is_nobodys(
    tmp_path, keys, signed, kind, attacker
):
    good = block_over(RUNNING, keys[kind])
    for added in (
        block_over(IMAGE, keys[attacker]),  # right CRC, the signature of something else
        block_over(RUNNING, keys[attacker]),  # a valid signature: the release is public
    ):
        for blocks in ((good, added), (good, b"\xff" * BLOCK, added), (good, added, added)):
            board = running_board(tmp_path, with_blocks(RUNNING, *blocks))
            refused = verify_all(board, signed[attacker], "running", [[]])[0]
            assert refused.code == UNKNOWN_KEY
            assert verify_all(board, signed[kind], "running", [[]])[0].code == 0


@pytest.mark.parametrize("kind", SIGNED)
def test_of_the_new_image_only_block_0_counts_under_running(tmp_path, keys, kind):
    board = running_board(tmp_path, with_blocks(RUNNING, block_over(RUNNING, keys[kind])))
    own, theirs = keys[kind], keys["p256 2"]
    good, bad = block_over(IMAGE, own), block_over(IMAGE, theirs)
    damaged = bytearray(good)
    damaged[60] ^= 1
    damaged = sealed(damaged)  # another key
    for blocks, code in (
        ((good,), 0),
        ((good, bad), 0),
        ((good, bad, bad), 0),
        ((good, b"\0" * BLOCK), 0),
        # What installs now would decide on the next one.
        ((bad, good), UNKNOWN_KEY),
        ((bad, bad, good), UNKNOWN_KEY),
        ((b"\xff" * BLOCK, good), UNKNOWN_KEY),
        ((block_over(RUNNING, own), good), SIGNATURE),
        ((damaged, good), None),
        ((bad,), UNKNOWN_KEY),
        ((), UNSIGNED),
    ):
        result = verify_all(board, with_blocks(IMAGE, *blocks), "running", [[]])[0]
        assert result.code != 0 if code is None else result.code == code, blocks
        if good in blocks[1:]:
            assert "block 0" in result.detail
            # By its digest, any block of that key will do.
            flashed = with_blocks(IMAGE, *blocks)
            assert verify_all(board, flashed, ["running", own.digest], [[]])[0].code == 0


def test_the_attackers_block_first_in_what_runs(tmp_path, keys, signed):
    """Whoever put that there by cable, or by naming the key, meant it."""
    blocks = block_over(RUNNING, keys["p256 2"], keys["p256"])
    board = running_board(tmp_path, with_blocks(RUNNING, blocks))
    assert verify_all(board, signed["p256 2"], "running", [[]])[0].code == 0
    assert verify_all(board, signed["p256"], "running", [[]])[0].code == UNKNOWN_KEY


@pytest.mark.parametrize("kind", SIGNED)
def test_a_running_firmware_whose_first_block_is_no_good_tells_no_key(tmp_path, keys, kind):
    key = keys[kind]
    good = block_over(RUNNING, key)
    at = 900 if kind == "rsa" else 180 if kind == "p384" else 120
    bad_signature = bytearray(good)
    bad_signature[at] ^= 1
    crc = bytearray(good)
    crc[100] ^= 1
    cases = {
        "another image": (block_over(IMAGE, key), good),
        "signature": (sealed(bad_signature), good),
        "CRC": (bytes(crc), good),
        "no block 0": (b"\xff" * BLOCK, good),
        "P-192": (block_over(RUNNING, keys["p192"]), good),
        "none": (),
    }
    for what, blocks in cases.items():
        board = running_board(tmp_path, with_blocks(RUNNING, *blocks))
        for trusted in ("'running'", f"[{key.digest!r}, 'running']"):
            words = board.fail(f"from https_ota import sign\nsign.trusted_digests({trusted})")
            assert words.startswith('OTAError: UNSIGNED: trusted_keys="running": '), (what, words)
            assert "expected a good first signature" in words
        if what in ("CRC", "P-192"):
            assert what in words
    changed = bytearray(RUNNING)
    changed[9000] ^= 1
    # Checksum and SHA-256 are made anew, so that it runs.
    board = running_board(tmp_path, with_blocks(images.seal(bytes(changed)), good))
    words = board.fail("from https_ota import sign\nsign.trusted_digests('running')")
    assert "does not match" in words
    board = running_board(tmp_path, RUNNING)
    words = board.fail("from https_ota import sign\nsign.trusted_digests('running')")
    assert words.startswith('OTAError: UNSIGNED: trusted_keys="running": ')


# What is refused


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])
def test_an_unknown_key(board, keys, signed, kind):
    refused = verify(board, signed[kind + " 2"], keys[kind])
    assert refused.code == UNKNOWN_KEY
    assert keys[kind + " 2"].digest in refused.detail


def test_unsigned(board, keys):
    trusted = keys["rsa"]
    assert verify(board, IMAGE, trusted).code == UNSIGNED
    assert verify(board, with_sector(), trusted).code == UNSIGNED
    # What was in the flash before.
    left_over = IMAGE + hashlib.shake_128(b"").digest(3 * SECTOR)
    assert {left_over[END + BLOCK * i] for i in range(3)}.isdisjoint([0xE7])
    assert verify(board, left_over, trusted).code == UNSIGNED
    assert verify(board, images.app_image(size=SLOT), trusted).code == UNSIGNED


def test_no_image(board32, keys):
    assert verify(board32, b"", keys["rsa"]).code == NOT_AN_IMAGE
    assert verify(board32, images.corrupt(IMAGE, "magic"), keys["rsa"]).code == NOT_AN_IMAGE


@pytest.mark.parametrize("kind", SIGNED)
def test_a_damaged_block(board32, keys, signed, kind):
    image = signed[kind]
    at = [1, 3, 4, 36, 200, 500, CRC_AT - 1, *range(CRC_AT, CRC_AT + 4)]
    cases = [[(END + i, bytes([image[END + i] ^ 4]))] for i in at]
    for result in verify_all(board32, image, [keys[kind].digest], cases):
        assert result.code == SIGNATURE_BLOCK
        assert "CRC" in result.detail


def test_no_magic_in_the_first_block_but_a_good_second(board, tmp_path, keys):
    image = sign(tmp_path, IMAGE, keys["p256 2"], keys["p256"])
    trusted = [keys["p256"].digest]
    first = [(END, b"\xe6")]
    second = [(END + BLOCK, b"\xff")]
    damaged = [(END + 100, b"\0\0\0\0")]
    results = verify_all(board, image, trusted, [first, damaged, second, first + second])
    assert [r.code for r in results] == [0, 0, UNKNOWN_KEY, UNSIGNED]


def test_a_good_third_block_alone(board32, keys, signed):
    erased = b"\xff" * (2 * BLOCK)
    image = with_sector(erased, block_of(signed["rsa"]))
    assert verify(board32, image, keys["rsa"]).code == 0


def test_a_fourth_block_is_not_looked_for(board32, keys, signed):
    # There are 448 bytes behind the third: with a reader that goes on, the next sector would hold the rest.
    image = with_sector(b"\xff" * (3 * BLOCK), block_of(signed["p256"]))
    assert len(image) > END + SECTOR
    assert verify(board32, image, keys["p256"]).code == UNSIGNED


def test_a_sector_that_was_cut_short(board32, keys, signed):
    for length, code in ((0, UNSIGNED), (1, SIGNATURE_BLOCK), (700, SIGNATURE_BLOCK)):
        refused = verify(board32, signed["rsa"][: END + length], keys["rsa"])
        assert refused.code == code


def test_kinds_that_are_not_supported(board, keys, signed):
    refused = verify(board, signed["p192"], keys["p192"], keys["rsa"])
    assert refused.code == KEY_TYPE
    assert "P-192" in refused.detail
    p256, p384, rsa_ = (block_of(signed[kind]) for kind in ("p256", "p384", "rsa"))
    cases = []
    for block, at, values in (
        (rsa_, 1, (0, 1, 3, 4, 255)),
        (p256, 1, (0, 1, 4, 255)),
        (p256, 2, (1, 2, 255)),
        (p256, 36, (0, 1, 3, 4, 255)),
        (p384, 2, (0, 2, 255)),
        (p384, 52, (0, 1, 2, 4, 255)),
    ):
        for value in values:
            changed = bytearray(block)
            changed[at] = value
            cases.append([(END, sealed(changed))])
    trusted = [keys[kind].digest for kind in SIGNED]
    results = verify_all(board, signed["rsa"], trusted, cases)
    # As RSA for ECDSA, hash 0 for 1 and the like, it may look as if it had a key.
    assert {r.code for r in results} <= {KEY_TYPE, UNKNOWN_KEY}
    assert [r.code for r in results].count(UNKNOWN_KEY) <= 1
    changed = bytearray(p256)
    changed[2], changed[36] = 2, 4
    result = verify_all(board, signed["rsa"], trusted, [[(END, sealed(changed))]])[0]
    assert result.code == KEY_TYPE
    # An ECDSA block that says it is RSA's has another key.
    changed = bytearray(p256)
    changed[1] = 2
    result = verify_all(board, signed["rsa"], trusted, [[(END, sealed(changed))]])[0]
    assert result.code == UNKNOWN_KEY


@pytest.mark.parametrize("kind", SIGNED)
def test_the_signature_of_another_image(board, tmp_path, keys, kind):
    other = images.app_image(size=len(IMAGE), version="2.0.1", seed=5)
    assert len(other) == len(IMAGE)
    block = block_of(sign(tmp_path, other, keys[kind]))
    refused = verify(board, with_sector(block), keys[kind])
    assert refused.code == SIGNATURE
    assert keys[kind].digest in refused.detail


@pytest.mark.parametrize("kind", SIGNED)
def test_the_key_of_one_with_the_signature_of_another(board32, keys, signed, kind):
    block = block_of(signed[kind])
    other = block_of(signed[kind + " 2"])
    at, size = (812, 384) if kind == "rsa" else (149, 96) if kind == "p384" else (101, 64)
    block[at : at + size] = other[at : at + size]
    refused = verify(board32, with_sector(sealed(block)), keys[kind])
    assert refused.code == SIGNATURE


def test_a_bad_signature_is_what_is_told_if_other_blocks_are_of_unknown_keys(
    board32, tmp_path, keys
):
    other = images.app_image(size=len(IMAGE), seed=6)
    blocks = sign(tmp_path, other, keys["p256 2"], keys["p256"], keys["rsa 2"])[-SECTOR:]
    refused = verify(board32, with_sector(blocks[: 3 * BLOCK]), keys["p256"])
    assert refused.code == SIGNATURE
    assert "block 2" in refused.detail
    # And if one of two trusted keys made a good one, all is well.
    blocks = bytearray(sign(tmp_path, IMAGE, keys["p256"], keys["rsa"])[-SECTOR:])
    blocks[101] ^= 1
    image = with_sector(sealed(blocks[:BLOCK]), blocks[BLOCK : 2 * BLOCK])
    assert verify(board32, image, keys["p256"], keys["rsa"]) == (0, keys["rsa"].digest)
    assert verify(board32, image, keys["p256"]).code == SIGNATURE


@pytest.mark.parametrize("kind", SIGNED)
def test_one_changed_bit_anywhere(board, keys, signed, kind):
    image = signed[kind]
    choose = random.Random(kind)
    descriptor = [40, 48, 80, 176, 287]
    data = [*descriptor, *choose.sample(range(288, len(IMAGE)), 12)]
    padding = [len(IMAGE), END - 1, *choose.sample(range(len(IMAGE), END), 4)]
    header = [0, 1, 2, 3, 4, 8, 12, 15, 17, 19, 23, 24, 28, 29, 30, 31]
    if kind == "rsa":
        key, signature, free = (36, 812), (812, 1196), (4, 36)
    else:
        at, size = numbers_at(kind)
        key, signature, free = (at, at + 2 * size), (at + 2 * size, at + 4 * size), (4, at - 1)

    def flip(at: int) -> tuple[int, bytes]:
        return at, bytes([image[at] ^ 1 << choose.randrange(8)])

    def flip_and_seal(at: int) -> tuple[int, bytes]:
        block = block_of(image)
        block[at] ^= 1 << choose.randrange(8)
        return END, sealed(block)

    def ends(span: tuple[int, int], n: int) -> list[int]:
        return [span[0], span[1] - 1, *choose.sample(range(*span), n)]

    in_key = [flip_and_seal(at) for at in ends(key, 38)]
    in_signature = [flip_and_seal(at) for at in ends(signature, 38)]
    in_block = [flip(END + at) for at in (*ends(key, 10), *ends(signature, 10), *ends(free, 2))]
    expected = (
        [({SIGNATURE}, flip(at)) for at in data + padding]
        + [({SIGNATURE, UNSIGNED, SEGMENTS, NOT_AN_IMAGE}, flip(at)) for at in header]
        + [({UNKNOWN_KEY}, patch) for patch in in_key]
        + [({SIGNATURE}, patch) for patch in in_signature]
        + [({SIGNATURE_BLOCK}, patch) for patch in in_block]
    )
    cases = [[patch] for _, patch in expected]
    # The last one is the image as it is, so that it is known that all the others were looked at.
    results = verify_all(board, image, [keys[kind].digest], [*cases, []])
    assert results.pop() == (0, keys[kind].digest)
    for result, (codes, patch) in zip(results, expected, strict=True):
        assert result.code in codes, patch


# ECDSA

N = {
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "p384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_r_and_s_out_of_range(board, keys, signed, kind):
    at, size = numbers_at(kind)
    n = N[kind]
    cases = []
    for i in (2, 3):
        for value in (0, n, n + 1, (1 << 8 * size) - 1):
            block = block_of(signed[kind])
            block[at + i * size : at + (i + 1) * size] = value.to_bytes(size, "little")
            cases.append([(END, sealed(block))])
    both = block_of(signed[kind])
    both[at + 2 * size : at + 4 * size] = bytes(2 * size)
    cases.append([(END, sealed(both))])
    results = verify_all(board, signed[kind], [keys[kind].digest], cases)
    assert {r.code for r in results} == {SIGNATURE}


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_a_trusted_point_that_is_not_on_the_curve(board32, signed, kind):
    at, size = numbers_at(kind)
    for x, y in ((0, 0), (1, 1), ((1 << 8 * size) - 1,) * 2):
        block = block_of(signed[kind])
        block[at : at + 2 * size] = x.to_bytes(size, "little") + y.to_bytes(size, "little")
        digest = hashlib.sha256(block[at - 1 : at + 2 * size]).hexdigest()
        result = verify_all(board32, signed[kind], [digest], [[(END, sealed(block))]])[0]
        assert result.code == SIGNATURE


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_a_number_with_leading_zeros(board32, tmp_path, keys, kind):
    at, size = numbers_at(kind)
    # About one signature in 128 has an r or an s that is a byte shorter.
    for _ in range(5000):
        image = sign_quickly(keys[kind])
        block = block_of(image)
        if 0 in (block[at + 3 * size - 1], block[at + 4 * size - 1]):
            break
    assert verify(board32, image, keys[kind]).code == 0


def sign_quickly(key: Key) -> bytes:
    """The same as sign(), without files."""
    block = espsecure.generate_signature_block_using_private_key(
        [io.BytesIO(key.pem)], IMAGE.ljust(END, b"\xff")
    )
    return with_sector(block)


# RSA


def mgf1(seed: bytes, size: int) -> bytes:
    out = b"".join(
        hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(size // 32 + 1)
    )
    return out[:size]


def encode(
    salt: bytes, *, trailer: int = 0xBC, one: int = 1, pad: tuple[int, int] | None = None
) -> bytes:
    """Return what RFC 8017 calls EM for the image, with the parts that a verifier must look at as parameters."""
    digest = hashlib.sha256(IMAGE.ljust(END, b"\xff")).digest()
    h = hashlib.sha256(bytes(8) + digest + salt).digest()
    db = bytearray(351 - 1 - len(salt)) + bytes([one]) + salt
    if pad:
        db[pad[0]] = pad[1]
    masked = bytearray(a ^ b for a, b in zip(db, mgf1(h, 351), strict=True))
    masked[0] &= 0x7F
    return bytes(masked) + h + bytes([trailer])


def raw_sign(key: Key, em: bytes) -> int:
    numbers = key.private.private_numbers()
    return pow(int.from_bytes(em, "big"), numbers.d, numbers.public_numbers.n)


def rsa_patch(block: bytearray, signature: int) -> list[tuple[int, bytes]]:
    changed = bytearray(block)
    changed[812:1196] = signature.to_bytes(384, "little")
    return [(END, sealed(changed))]


def test_padding_that_is_not_pss(board, keys, signed):
    key = keys["rsa"]
    n = key.private.private_numbers().public_numbers.n
    block = block_of(signed["rsa"])
    salt = bytes(range(32))
    good = encode(salt)
    # A leading bit too many, with a salt that leaves the number below the modulus.
    tries = (bytes([i]) * 32 for i in range(256))
    high = (bytes([em[0] | 0x80]) + em[1:] for em in map(encode, tries))
    leading_bit = next(em for em in high if int.from_bytes(em, "big") < n)
    # A small signature, to which the modulus can be added.
    small = (raw_sign(key, encode(i.to_bytes(32, "big"))) for i in range(5000))
    signature = next(s for s in small if s + n < 1 << 3072)
    bad = {
        "salt of 31 bytes": encode(salt[:31]),
        "salt of 33 bytes": encode(salt + b"x"),
        "no salt": encode(b""),
        "longest salt": encode(bytes(350)),
        "trailer BD": encode(salt, trailer=0xBD),
        "trailer CC": encode(salt, trailer=0xCC),
        "leading bit": leading_bit,
        "padding, its first byte": encode(salt, pad=(0, 1)),
        "padding, in the middle": encode(salt, pad=(150, 0x80)),
        "padding, its last byte": encode(salt, pad=(317, 1)),
        "no one before the salt": encode(salt, one=0),
        "two before the salt": encode(salt, one=2),
        "another hash": good[:351] + bytes(32) + good[383:],
        "zeros": bytes(384),
        "PKCS #1 1.5": b"\0\1" + b"\xff" * 330 + b"\0" + good[-51:],
    }
    cases = {"good": rsa_patch(block, raw_sign(key, good))}
    cases |= {what: rsa_patch(block, raw_sign(key, em)) for what, em in bad.items()}
    cases["small"] = rsa_patch(block, signature)
    cases["small and the modulus"] = rsa_patch(block, signature + n)
    for what, value in (("0", 0), ("1", 1), ("n - 1", n - 1), ("n", n), ("n + 1", n + 1)):
        cases[what] = rsa_patch(block, value)
    cases["largest"] = rsa_patch(block, (1 << 3072) - 1)
    # What is refused here differs in one thing from what is accepted there.
    results = verify_all(board, signed["rsa"], [key.digest], list(cases.values()))
    codes = {what: result.code for what, result in zip(cases, results, strict=True)}
    assert codes.pop("good") == codes.pop("small") == 0
    assert codes == dict.fromkeys(codes, SIGNATURE)


def test_a_shorter_modulus(board32, signed):
    # 3064 bits, and encoded as for 3072, which a salt in 256 makes small enough.
    key = Key(rsa.generate_private_key(65537, 3064), b"", "")
    n = key.private.private_numbers().public_numbers.n
    encoded = (encode(i.to_bytes(32, "big")) for i in range(99_999))
    em = next(em for em in encoded if int.from_bytes(em, "big") < n)
    block = block_of(signed["rsa"])
    block[36:420] = n.to_bytes(384, "little")
    patch = rsa_patch(block, raw_sign(key, em))
    digest = hashlib.sha256(block[36:812]).hexdigest()
    assert verify_all(board32, signed["rsa"], [digest], [patch])[0].code == SIGNATURE


def test_moduli_that_are_no_numbers_to_calculate_with(board32, signed):
    for n in (0, 1, 1 << 3071, (1 << 3072) - 1):
        block = block_of(signed["rsa"])
        block[36:420] = n.to_bytes(384, "little")
        digest = hashlib.sha256(block[36:812]).hexdigest()
        result = verify_all(board32, signed["rsa"], [digest], [[(END, sealed(block))]])[0]
        assert result.code == SIGNATURE


def test_another_exponent(board32, tmp_path):
    key = as_key(rsa.generate_private_key(3, 3072))
    assert verify(board32, sign(tmp_path, IMAGE, key), key) == (0, key.digest)
