# trust/signature.py without signatures: what trusted_keys= may be, and images whose segments lead nowhere.
# Signatures themselves: tests/updates/test_sign.py, which has something to make them with.

from struct import pack

from fakenet import fails, raises
from https_ota import sign
from https_ota.errors import OTAError

DIGEST = bytes(range(100, 132))
HEX = "6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f80818283"


class Part:
    """A partition of so many sectors with this at its start, erased behind it. Strict about ranges."""

    def __init__(self, data, sectors=4):
        self.data = data + b"\xff" * (sectors * 4096 - len(data))
        self.size = sectors * 4096
        self.read = []

    def info(self):
        return 0, 17, 0x10000, self.size, "ota_1", False

    def readblocks(self, block, buf, offset=0):
        at = block * 4096 + offset
        assert 0 <= at and at + len(buf) <= self.size, (at, len(buf))
        buf[:] = self.data[at : at + len(buf)]
        self.read.append(at)


def image(*sizes, sha=1, magic=0xE9, count=None):
    data = pack("<BB21xB", magic, len(sizes) if count is None else count, sha)
    for n in sizes:
        data += pack("<II", 0x3C000020, n) + bytes(min(n, 20000))
    return data


def verify(part, size=None, firmware=True):
    steps = sign.Signature(DIGEST).check(part, bytearray(4096), size or part.size, firmware)
    for _ in steps:
        pass


def code_of(part, size=None, firmware=True):
    try:
        verify(part, size, firmware)
    except OTAError as e:
        return e.code
    raise AssertionError("accepted")


# -- trusted_digests


def test_digests_in_every_form():
    for value in (DIGEST, bytearray(DIGEST), memoryview(DIGEST), HEX, HEX.upper(), HEX.encode()):
        assert sign.trusted_digests(value) == [DIGEST], value
        assert sign.trusted_digests([value]) == [DIGEST], value
    assert sign.trusted_digests((HEX, bytes(32))) == [DIGEST, bytes(32)]


def test_no_digest_is_a_value_error():
    for value in (
        None,
        5,
        b"",
        "",
        DIGEST[:31],
        DIGEST + b"x",
        HEX[:-1],
        HEX[:-2],
        HEX + "00",
        "g" * 64,
        HEX[:-1] + "\n",
        "RUNNING",
        "-----BEGIN PUBLIC KEY-----",
        [],
        (),
        [None],
        [DIGEST, ""],
        [[DIGEST]],
    ):
        message = str(raises(ValueError, sign.trusted_digests, value))
        assert message.startswith("trusted_keys: expected "), (value, message)


def test_the_running_firmware_of_this_board_is_not_signed():
    assert "running" in fails(OTAError.UNSIGNED, sign.trusted_digests, "running")
    fails(OTAError.UNSIGNED, sign.trusted_digests, [DIGEST, "running"])
    fails(OTAError.UNSIGNED, sign.Signature, "running")


def test_keys_stay_as_they_are_without_running():
    given = [HEX, DIGEST + b"\0"]
    signature = sign.Signature(given)
    assert list(signature.resolve(bytearray(4096))) == []
    assert signature.keys == [DIGEST, DIGEST + b"\0"] and given[0] == HEX


# -- other files than images


def block_at(part, end):
    part.data = part.data[:end] + b"\xe7" + part.data[end + 1 :]
    return part


def test_a_file_has_the_sector_at_its_end():
    for sectors in (2, 3, 4):
        end = (sectors - 1) * 4096
        part = block_at(Part(b"any file"), end)
        assert code_of(part, end + 4096, False) == OTAError.SIGNATURE_BLOCK, sectors
        assert part.read == [end, end + 1216, end + 2432]
        # Not where another length puts it.
        for size in (end, end + 1, end + 1215, end + 1216, end + 4095, end + 4097):
            part = block_at(Part(b"any file"), end)
            if size <= part.size:
                assert code_of(part, size, False) == OTAError.UNSIGNED, size


def test_a_signature_of_nothing_is_none():
    for size in (0, 1, 4095, 4096):
        part = block_at(Part(b"", 1), 0)
        steps = sign.Signature(DIGEST).check(part, bytearray(4096), size, False)
        fails(OTAError.UNSIGNED, list, steps)
        assert part.read == []


# -- P-384, which may be left out


def test_p384_left_out():
    import sys
    from binascii import crc32

    block = bytearray(1216)
    block[:3] = b"\xe7\3\1"
    block[52] = 3
    block[1196:1200] = pack("<I", crc32(block[:1196]))
    for name in ("p384", "ec"):
        sys.modules.pop("https_ota.trust." + name, None)
    fails(OTAError.UNKNOWN_KEY, sign.verify_data, b"data", block, [DIGEST], "file")
    assert "https_ota.trust.p384" in sys.modules
    sys.modules["https_ota.trust.p384"] = sys  # it has nothing of it
    detail = fails(OTAError.KEY_TYPE, sign.verify_data, b"data", block, [DIGEST], "file")
    assert "P-384" in detail and "left out" in detail


# -- the way to the signature sector


def test_an_unsigned_image_is_unsigned():
    part = Part(image(256, 64))
    assert "4096" in fails(OTAError.UNSIGNED, verify, part)
    # Nothing but the header, the segments' headers and the three places of a block.
    assert part.read == [0, 24, 288, 4096, 5312, 6528]


def test_where_the_sector_is_for_images_of_any_end():
    # 24 bytes of header, 8 of a segment's; the checksum is in the last byte of 16; then 32 bytes of SHA-256.
    for size, sha, expected in (
        (4096 - 32 - 4, 0, 4096),
        (4096 - 32, 0, 8192),
        (4096 - 32 - 36, 1, 4096),
        (4096 - 32 - 32, 1, 8192),
        (8192 - 32 - 36, 1, 8192),
        (0, 0, 4096),
    ):
        part = Part(image(size, sha=sha))
        assert code_of(part) == OTAError.UNSIGNED
        assert part.read[2] == expected, size


def test_an_image_that_leaves_no_room_for_the_sector_is_unsigned():
    assert code_of(Part(image(3 * 4096 - 68))) == OTAError.UNSIGNED
    full = Part(image(4 * 4096 - 68))
    assert code_of(full) == OTAError.UNSIGNED
    assert full.read == [0, 24]


def test_no_image_at_all():
    for data in (b"", b"\0" * 100, image(256, magic=0xE8)):
        fails(OTAError.NOT_AN_IMAGE, verify, Part(data))


def test_segments_that_lead_nowhere():
    for sizes in (
        (4 * 4096,),
        (4 * 4096 - 32,),
        (4 * 4096 - 36,),  # the checksum would be beyond the end
        (4 * 4096 - 64,),  # the hash would be
        (4 * 4096 - 40, 0),
        (256, 0xFFFFFC),
        (0xFFFFFC,),
    ):
        assert code_of(Part(image(*sizes)[: 4 * 4096])) == OTAError.SEGMENTS, sizes


def test_segments_of_impossible_length():
    for n in (1, 2, 255, 0x1000000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8):
        assert code_of(Part(image(256, n)[:4096])) == OTAError.SEGMENTS, n


def test_impossible_numbers_of_segments():
    for count in (0, 17, 255):
        assert code_of(Part(image(256, count=count))) == OTAError.SEGMENTS, count
    assert code_of(Part(image(*([64] * 16)))) == OTAError.UNSIGNED


def test_sixteen_empty_segments():
    part = Part(image(*([0] * 16), sha=0))
    assert code_of(part) == OTAError.UNSIGNED
    assert len(part.read) == 1 + 16 + 3


def test_a_segment_header_across_two_sectors():
    part = Part(image(4096 - 32 - 4, 64))
    assert code_of(part) == OTAError.UNSIGNED
    assert 4096 - 4 in part.read and 8192 in part.read
