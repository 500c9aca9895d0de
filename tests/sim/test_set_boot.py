"""What Partition.set_boot() of the SIM board checks of an image, and what it takes unchecked, as the IDF does."""

import hashlib
import struct

import images
import pytest
import simflash
from board import Board

OTA_1 = 0x190000
SLOT = 0x180000
CHIPS = sorted(images.CHIP_IDS)
# In memory of some chip, and not where any of them maps flash.
RAM = 0x3FFE0000
# Chips whose IDF looks for an application descriptor.
WITH_DESCRIPTOR_CHECK = ["esp32c2", "esp32c6", "esp32c61", "esp32h2"]

SET_BOOT = """
from esp32 import Partition
try:
    Partition("ota_1").set_boot()
    print("taken")
except OSError as e:
    print(*e.args)
"""
TAKEN = "taken\n"
REFUSED = "-5379 ESP_ERR_OTA_VALIDATE_FAILED\n"
RUNNING = "from esp32 import Partition as P; print(P(P.RUNNING).info()[4])"


@pytest.fixture
def board(tmp_path):
    return Board(simflash.make_flash(tmp_path / "flash.bin"))


def put(board: Board, image: bytes) -> None:
    with board.flash.open("r+b") as f:
        f.seek(OTA_1)
        f.write(image)


def set_boot(board: Board, image: bytes, **env: str) -> str:
    put(board, image)
    return board.run(SET_BOOT, **env)


def why(board: Board, image: bytes, **env: str) -> str:
    """Return what the IDF would print about an image that it refuses."""
    put(board, image)
    done = board.start(SET_BOOT, SIM_VERBOSE="1", **env)
    assert done.stdout == REFUSED
    return done.stderr.rstrip().rpartition("esp_image: ")[2]


def patched(image: bytes, at: int, data: bytes, *, rehash: bool = False) -> bytes:
    out = bytearray(image)
    out[at : at + len(data)] = data
    return resealed(out) if rehash else bytes(out)


def resealed(image: bytearray) -> bytes:
    """Give an image the SHA-256 that suits it."""
    image[-32:] = hashlib.sha256(image[:-32]).digest()
    return bytes(image)


def app_of(chip: str) -> bytes:
    """Return an application for a chip, in mapped flash alone."""
    chip_id, drom = images.DROM[chip]
    data = images.app_image(chip_id=chip_id)[32:8032]
    return images.image([(drom + 0x20, data)], chip_id=chip_id)


def bootloader_of(chip: str) -> bytes:
    """Return what starts with the descriptor of a bootloader, in memory alone."""
    chip_id = images.CHIP_IDS[chip]
    return images.image([(RAM, images.bootloader_image(chip_id)[32:1032])], chip_id=chip_id)


def with_descriptor(**revisions: int) -> bytes:
    """Return an image whose descriptor asks for these revisions of the eFuse block."""
    image = images.app_image()
    limits = struct.pack("<HH", revisions.get("least", 0), revisions.get("most", 99))
    # In its place in the checksum: the bytes that made it are 0, 0, 99, 0.
    checksum = image[-33] ^ 99
    for byte in limits:
        checksum ^= byte
    image = patched(image, 32 + 176, limits)
    return patched(image, len(image) - 33, bytes([checksum]), rehash=True)


# -- taken


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"spi_mode": 0},
        {"project": "something else"},
        {"version": ""},
        {"secure_version": 0},
        {"idf_ver": "v4.4"},
        {"hash_appended": False},
        {"min_rev": 3},
        {"max_rev": 0},
        {"max_rev": 3},
        {"size": SLOT},
    ],
    ids=str,
)
def test_takes(board, options):
    assert set_boot(board, images.app_image(**options)) == TAKEN
    assert board.run(RUNNING) == "ota_1\n"


def test_takes_what_follows_the_image(board):
    assert set_boot(board, images.app_image() + b"trailing") == TAKEN


@pytest.mark.parametrize("chip", CHIPS)
def test_takes_images_of_each_chip(tmp_path, chip):
    board = Board(simflash.make_flash(tmp_path / "flash.bin", app_of(chip)))
    assert board.run("import simboard; print(simboard.chip())") == chip + "\n"
    assert set_boot(board, app_of(chip)) == TAKEN
    assert board.run(RUNNING) == "ota_1\n"


@pytest.mark.parametrize("chip", CHIPS)
def test_bootloader_in_place_of_the_application(tmp_path, chip):
    """Most chips take it and do not start it then; those with a check for a descriptor refuse it."""
    board = Board(simflash.make_flash(tmp_path / "flash.bin", app_of(chip)))
    checked = chip in WITH_DESCRIPTOR_CHECK
    assert set_boot(board, bootloader_of(chip)) == (REFUSED if checked else TAKEN)
    assert board.run(RUNNING) == "ota_0\n"


# -- refused


@pytest.mark.parametrize("magic", [0x00, 0xE8, 0xFF])
def test_magic(board, magic):
    image = patched(images.app_image(), 0, bytes([magic]), rehash=True)
    assert why(board, image) == "image at 0x190000 has invalid magic byte (nothing flashed here?)"


def test_chip(board):
    other = images.app_image(chip_id=images.CHIP_IDS["esp32s3"])
    assert why(board, other) == "mismatch chip ID, expected 5, found 9"


def test_lowest_revision(board):
    image = images.app_image(min_rev=4)
    said = why(board, image, SIM_CHIP_REV="3")
    assert said == "chip revision check failed. Required >= v0.4, found v0.3."
    assert set_boot(board, image, SIM_CHIP_REV="4") == TAKEN
    assert set_boot(board, image, SIM_CHIP_REV="101") == TAKEN
    # No eFuse lifts this one.
    assert set_boot(board, image, SIM_CHIP_REV="3", SIM_NO_MAX_REV="1") == REFUSED


def test_highest_revision(board):
    image = images.app_image(max_rev=99)
    said = why(board, image, SIM_CHIP_REV="100")
    assert said == "chip revision check failed. Required <= v0.99, found v1.0."
    assert set_boot(board, image, SIM_CHIP_REV="100", SIM_NO_MAX_REV="1") == TAKEN
    assert set_boot(board, image, SIM_CHIP_REV="99") == TAKEN


def test_block_revision(board):
    least, most = with_descriptor(least=5), with_descriptor(most=4)
    said = why(board, least, SIM_BLK_REV="4")
    assert said == "efuse blk rev check failed. Required >= v0.5, found v0.4."
    assert set_boot(board, least, SIM_BLK_REV="5") == TAKEN
    said = why(board, most, SIM_BLK_REV="5")
    assert said == "efuse blk rev check failed. Required <= v0.4, found v0.5."
    assert set_boot(board, most, SIM_BLK_REV="4") == TAKEN
    assert set_boot(board, most, SIM_BLK_REV="5", SIM_NO_MAX_REV="1") == TAKEN


def test_number_of_segments(board):
    def image(n):
        segments = [(RAM, bytes(16))] * n
        return images.image(segments, chip_id=images.CHIP_IDS["esp32c3"])

    assert set_boot(board, image(16)) == TAKEN
    said = why(board, image(17))
    assert said == "image at 0x190000 segment count 17 exceeds max 16"


def test_odd_segment(board):
    image = images.image([(RAM, bytes(402))], chip_id=images.CHIP_IDS["esp32c3"])
    assert why(board, image) == "invalid segment length 0x192"


def test_segment_of_16_mib(board):
    image = patched(images.app_image(), 28, struct.pack("<I", 1 << 24), rehash=True)
    assert why(board, image) == "invalid segment length 0x1000000"


def test_segment_that_flash_pages_cannot_map(board):
    chip_id = images.CHIP_IDS["esp32c3"]
    good = images.image([(0x3C000020, bytes(400))], chip_id=chip_id)
    bad = images.image([(0x3C000030, bytes(400))], chip_id=chip_id)
    ram = images.image([(RAM + 0x10, bytes(400))], chip_id=chip_id)
    assert set_boot(board, good) == set_boot(board, ram) == TAKEN
    assert "Segment 0 load address 0x3c000030, doesn't match data" in why(board, bad)


def test_every_byte_is_in_checksum_or_hash(board):
    image = images.app_image()
    # Of the descriptor, of a segment, of the second segment's header, of the padding, the checksum, the hash.
    for at in (
        100,
        5000,
        len(image) - 32 - 16 - 64 - 8,
        len(image) - 34,
        len(image) - 33,
        len(image) - 1,
    ):
        assert set_boot(board, patched(image, at, bytes([image[at] ^ 1]))) == REFUSED, at


def test_two_changes_that_the_checksum_misses(board):
    image = images.app_image()
    changed = patched(image, 5000, bytes(b ^ 1 for b in image[5000:5002]))
    assert why(board, changed).startswith("Image hash failed - image is corrupt: calculated ")
    image = images.app_image(hash_appended=False)
    changed = patched(image, 5000, bytes(b ^ 1 for b in image[5000:5002]))
    assert set_boot(board, changed) == TAKEN


@pytest.mark.parametrize("lost", [1, 32, 33, 5000])
def test_cut_off(board, lost):
    image = images.app_image()
    assert set_boot(board, image[:-lost] + b"\xff" * lost) == REFUSED


def test_larger_than_the_slot(board):
    image = images.app_image(size=SLOT + 16)
    said = why(board, image)
    assert said == "Image length 1572880 doesn't fit in partition length 1572864"


def test_beyond_the_end_of_flash(board):
    image = patched(images.app_image(), 28, struct.pack("<I", 0x300000), rehash=True)
    assert why(board, image).startswith("bootloader_mmap(0x")


def test_refused_images_change_nothing(board):
    board.run("import machine")
    before = board.flash.read_bytes()[:OTA_1]
    assert set_boot(board, b"") == REFUSED
    assert board.flash.read_bytes()[:OTA_1] == before
