"""`https-ota inspect`: what it shows, checked with esptool, and what it says of files that are no good."""

import contextlib
import functools
import io
import operator
import re
import struct
import subprocess
import sys

import encfiles
import esptool
import esptool.bin_image
import esptool.targets
import images
import pytest
import simflash
from esp_idf_defs import ImageMetadata
from hypothesis import example, given
from hypothesis import strategies as st
from keyfiles import KINDS, NAMES, espsecure

from https_ota_tools import cli, image, inspect, partition
from https_ota_tools.keys import load_public

SMALL = images.app_image(size=512)
CHIPS = {
    name: rom.IMAGE_CHIP_ID
    for name, rom in esptool.targets.CHIP_DEFS.items()
    if rom.IMAGE_CHIP_ID is not None  # the ESP8266's
}
CORRUPTIONS = {
    "magic": "not an image: expected first byte 0xe9, came 0xe8",
    "chip": "chip id 0xfffe belongs to no known chip",
    "segment count": "the header says 17 segments: expected 1 to 16",
    "segment size": "the image is cut off, the file has only 512 bytes",
    "descriptor": "no application: expected 0xabcd5432 at 0x20, came 0xabcd5433",
    "data": "the image is corrupt",
    "checksum": "checksum: expected",
    "hash": "SHA-256: expected",
    "cut": "cut off within its SHA-256, the file has only 511 bytes",
}


def command(capsys, tmp_path, data):
    """Return exit code and output."""
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    code = cli.main(["inspect", str(path)])
    done = capsys.readouterr()
    assert done.err == ""
    return code, done.out


def problems(data):
    report = image.examine(data)
    assert report.valid == (not report.problems)
    return "; ".join(report.problems)


def esptool_says(tmp_path, data):
    """Return what `esptool image-info` prints, its values by their names."""
    path = tmp_path / "app.bin"
    path.write_bytes(data)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        esptool.main(["image-info", str(path)])
    return dict(re.findall(r"^([^:\n]+): (.+)$", out.getvalue(), re.MULTILINE))


@pytest.fixture(scope="module")
def demo():
    """The compiled application."""
    return images.demo_app("1.2.3-rc.1+7", size=30_000, project="demo", secure_version=5)


# Good images


def test_the_compiled_app_is_at_least_1_mb_and_always_the_same():
    first = images.demo_app("1.2.0")
    assert len(first) > 1_000_000
    assert first == images.demo_app("1.2.0")
    assert first != images.demo_app("1.2.1")
    assert problems(first) == ""


def test_esptool_says_the_same(tmp_path, demo):
    says = esptool_says(tmp_path, demo)
    found = image.examine(demo).image
    assert says["Detected image type"] == "ESP32-C3"
    assert says["Chip ID"] == "5 (ESP32-C3)"
    assert (found.chip, found.chip_id) == ("esp32c3", 5)
    assert int(says["Entry point"], 0) == found.entry
    assert int(says["Segments"]) == len(found.segments)
    assert (says["Flash mode"], says["Flash freq"], says["Flash size"]) == (
        found.spi_mode,
        found.flash_freq,
        found.flash_size,
    )
    assert says["Checksum"] == f"{found.checksum:#04x} (valid)"
    assert says["Validation hash"] == f"{found.digest.hex()} (valid)"
    assert says["Project name"] == found.desc.project_name == "demo"
    assert says["App version"] == found.desc.version == "1.2.3-rc.1+7"
    assert says["ELF file SHA256"] == found.desc.app_elf_sha256
    assert says["ESP-IDF"] == found.desc.idf_ver
    assert says["Compile time"] == f"{found.desc.date} {found.desc.time}"
    assert int(says["Secure version"]) == found.desc.secure_version == 5
    assert says["MMU page size"] == f"{found.desc.mmu_page_size // 1024} KB"
    assert found.length == len(demo)


def test_another_reader_finds_the_same_segments(demo):
    theirs = ImageMetadata.from_bytes(demo, app_required=True)
    found = image.examine(demo).image
    assert [tuple(s) for s in theirs.segments] == [
        (s.offset, s.size, s.load_addr) for s in found.segments
    ]
    assert theirs.app_description.version == found.desc.version
    assert theirs.app_description.project_name == found.desc.project_name


def test_the_command_shows_it_all(capsys, tmp_path, demo):
    code, out = command(capsys, tmp_path, demo + b"more")
    assert code == 0
    shown = {line[:14].strip(): line[14:].strip() for line in out.splitlines()[:12]}
    assert shown["chip"] == "esp32c3 (id 5)"
    assert shown["flash"] == "DIO, 80m, 4MB"
    assert shown["project"] == "demo"
    assert shown["version"] == "1.2.3-rc.1+7"
    assert shown["secure version"] == "5"
    # What goes into a pipe is never folded or cut.
    assert re.search(rf"^SHA-256 +valid +{demo[-32:].hex()}$", out, re.MULTILINE)
    assert f"image length {len(demo)} of {len(demo) + 4} bytes, 4 bytes behind it" in out


@pytest.mark.parametrize("chip", CHIPS)
def test_every_chip_of_esptool(tmp_path, chip):
    data = images.app_image(chip_id=CHIPS[chip], size=512)
    assert image.load(data).chip == chip
    says = esptool_says(tmp_path, data)
    assert int(says["Chip ID"].split()[0]) == CHIPS[chip]


@pytest.mark.parametrize("chip", images.CHIP_IDS)
def test_esptool_knows_our_chips(chip):
    assert CHIPS[chip] == images.CHIP_IDS[chip]
    rom = esptool.targets.CHIP_DEFS[chip]
    offset = images.BOOTLOADER_OFFSETS.get(images.CHIP_IDS[chip], 0)
    assert offset == rom.BOOTLOADER_FLASH_OFFSET
    assert image.examine(images.app_image(chip_id=CHIPS[chip])).image.segments[0].mapped


@pytest.mark.parametrize("size", [512, 20_000, 65_536])
@pytest.mark.parametrize("hashed", [True, False])
def test_lengths(size, hashed):
    data = images.app_image(size=size + 7, hash_appended=hashed)
    report = image.examine(data)
    assert report.valid
    assert report.image.length == len(data) == size
    verdict = image.Verdict.VALID if hashed else image.Verdict.ABSENT
    assert report.checks[-1].verdict is verdict


def test_revisions(capsys, tmp_path):
    code, out = command(capsys, tmp_path, images.app_image(min_rev=301, max_rev=399))
    assert code == 0
    assert "v3.1 to v3.99" in out


def test_nothing_from_the_file_controls_the_terminal(capsys, tmp_path):
    data = images.app_image(version="\x1b[31m[bold]", project="\x9b\nevil")
    _, out = command(capsys, tmp_path, data)
    assert "?[31m[bold]" in out
    assert "???evil" in out
    assert not re.search(r"[^ -~\n]", out)


# Signed and encrypted images


@pytest.fixture(scope="session")
def signed(keys):
    """SMALL, signed by espsecure with three keys."""
    path = keys.folder / "small-signed.bin"
    path.write_bytes(SMALL)
    for kind in KINDS:
        key = keys.private(kind)
        espsecure("sign-data", "--keyfile", key, "--version", "2", "--append-signatures", path)
    return path.read_bytes()


def test_signatures(capsys, tmp_path, keys, signed):
    code, out = command(capsys, tmp_path, signed)
    assert code == 0
    for n, kind in enumerate(KINDS):
        detail = f"{NAMES[kind]}, key digest {keys.digests[kind]} *"
        assert re.search(rf"^signature {n} +valid +{detail}$", out, re.MULTILINE)
    assert out.endswith("image length 512 of 8192 bytes, 7680 bytes of padding and signatures\n")


def test_the_key_of_what_would_run(capsys, tmp_path, keys, signed):
    _, out = command(capsys, tmp_path, signed)
    assert f'trusted_keys="running" means {keys.digests["rsa"]} on it' in out
    at = len(signed) - 4096
    for first in (b"\xff" * 1216, signed[at : at + 100] + b"\0" + signed[at + 101 :][:1115]):
        _, out = command(capsys, tmp_path, signed[:at] + first + signed[at + 1216 :])
        assert 'trusted_keys="running" finds no key in it' in out


def test_more_behind_the_signatures(capsys, tmp_path, signed):
    _, out = command(capsys, tmp_path, signed + b"more")
    assert "7680 bytes of padding and signatures, 4 bytes behind it are no part of it" in out


def test_not_signed(capsys, tmp_path):
    code, out = command(capsys, tmp_path, SMALL)
    assert code == 0
    assert re.search(r"^signature +absent +none, the image is not signed *$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (100, "block 1: it was made for another image"),
        (4096 + 1216, "block 1: expected first byte 0xe7, came 0xe6"),
        (4096 + 1216 + 300, "block 1: CRC bad, it is damaged: expected 0x"),
    ],
    ids=["image", "magic", "CRC"],
)
def test_bad_signatures(capsys, tmp_path, signed, at, words):
    data = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    code, out = command(capsys, tmp_path, data)
    assert code == 1
    assert re.search(r"^signature 1 +invalid +" + re.escape(words), out, re.MULTILINE)


def test_signature_cut_off(capsys, tmp_path, signed):
    code, out = command(capsys, tmp_path, signed[: 4096 + 1000])
    assert code == 1
    assert "block 0: it is cut off: expected 1216 bytes, came 1000" in out


def esp8266(version):
    """An image as its SDK makes them: of version 1 with all in RAM, of 2 with code that is mapped first."""

    def segment(addr, content):
        return struct.pack("<II", addr, len(content)) + content

    ram = bytes(range(200)) * 2
    head = struct.pack("<BBBBI", 0xE9, 1, 2, 0x40, 0x40100004) + segment(0x40100000, ram)
    code = segment(0, bytes(1000)) if version == 2 else b""
    whole = (struct.pack("<BBBBI", 0xEA, 4, 2, 0x40, 0x40100004) if code else b"") + code + head
    checksum = functools.reduce(operator.xor, ram, 0xEF)
    whole = whole.ljust(len(whole) // 16 * 16 + 15, b"\0") + bytes([checksum])
    return whole + (struct.pack("<I", esptool.bin_image.esp8266_crc32(whole)) if code else b"")


@pytest.mark.parametrize("version", [1, 2])
def test_esp8266(capsys, tmp_path, version):
    data = esp8266(version)
    assert esptool_says(tmp_path, data)["Detected image type"] == "ESP8266"
    code, out = command(capsys, tmp_path, data)
    assert code == 1
    assert "an ESP8266 image: expected one for an ESP32" in out
    # What only resembles one is none.
    for bad in (data[:-30], data[:40] + b"x" + data[41:], data[:5]):
        code, out = command(capsys, tmp_path, bad)
        assert code == 1
        assert "ESP8266" not in out or (version == 2 and bad is not data[:5])


def test_zephyr(capsys, tmp_path):
    code, out = command(capsys, tmp_path, b"\x3d\xb8\xf3\x96" + bytes(5000))
    assert code == 1
    assert "an image for MCUboot, as Zephyr builds them" in out


@pytest.mark.parametrize("chip", sorted(images.DROM))
def test_image_without_a_descriptor(capsys, tmp_path, chip):
    """Good in all else: what it is gets said, and esptool's part of it is shown."""
    chip_id, drom = images.DROM[chip]
    data = images.image([(drom + 0x20, bytes(3000)), (images.RAM, bytes(64))], chip_id=chip_id)
    code, out = command(capsys, tmp_path, data)
    assert code == 1
    assert f"chip           {chip} (id {chip_id})" in out
    assert f"an {chip} image without the descriptor of ESP-IDF's applications, as Zephyr" in out
    assert re.search(r"^SHA-256 +valid", out, re.MULTILINE)


@pytest.mark.parametrize(("kind", "scheme"), [("rsa", "RSA-3072"), ("p256", "P-256")])
def test_encrypted_images(capsys, tmp_path, keys, kind, scheme):
    data = encfiles.write(SMALL, load_public(keys.public(kind)))
    code, out = command(capsys, tmp_path, data)
    assert code == 0
    assert f"an encrypted image (esp_encrypted_img), by its looks for a {scheme} key" in out
    assert re.search(r"^length +valid +512 \+ 512 bytes *$", out, re.MULTILINE)
    assert re.search(r"^application +absent +encrypted: ", out, re.MULTILINE)
    for size, words in (
        (1023, "it is cut off: expected 512 + 512 bytes by its header, came 1023"),
        (511, "ends within its header: expected 512 bytes, came 511"),
        (4, "ends within its header: expected 512 bytes, came 4"),
    ):
        code, out = command(capsys, tmp_path, data[:size])
        assert code == 1
        assert words in out
    code, out = command(capsys, tmp_path, data + b"\n")
    assert code == 1
    assert "something is behind it" in out


# Bad images


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_corrupt_images_are_found(capsys, tmp_path, what):
    code, out = command(capsys, tmp_path, images.corrupt(SMALL, what))
    assert code == 1
    assert CORRUPTIONS[what] in out


@pytest.mark.parametrize("what", ["checksum", "data"])
def test_the_checksum_alone_finds_it(what):
    data = images.corrupt(images.app_image(size=512, hash_appended=False), what)
    assert problems(data).startswith("checksum: expected")


@pytest.mark.parametrize("offset", [0, 1, 12, 23])
def test_every_truncation_is_found(offset):
    for end in range(offset, len(SMALL), 24):
        assert problems(SMALL[:end])


def test_a_segment_that_the_cache_cannot_map():
    data = images.image([(0x3C000024, SMALL[0x20:0x140])], chip_id=5)
    assert "both must agree modulo 0x10000" in problems(data)


def test_a_segment_of_odd_length():
    data = images.image([(0x3C000020, SMALL[0x20:0x140]), (images.RAM, b"12345")], chip_id=5)
    report = image.examine(data)
    assert "has 5 bytes: expected a multiple of 4" in report.problems[0]
    assert report.image.length == len(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"\xe9", "the file ends within the image header: expected 24 bytes, came 1"),
        (b"\x7fELF" + bytes(99), "an ELF file; `esptool elf2image` turns it into an image"),
        (b"UF2\n" + bytes(508), "a UF2 file"),
        (b"<!DOCTYPE html>", "a page of HTML or XML"),
        (b"\xff" * 4096, "expected first byte 0xe9, came 0xff"),
        (images.bootloader_image(), "the mark of a bootloader"),
    ],
    ids=["empty", "short", "ELF", "UF2", "HTML", "erased", "bootloader"],
)
def test_other_files_are_named(capsys, tmp_path, data, words):
    code, out = command(capsys, tmp_path, data)
    assert code == 1
    assert words in out


@pytest.mark.parametrize("chip", images.CHIP_IDS)
def test_combined_images_are_named(chip):
    chip_id = images.CHIP_IDS[chip]
    app = images.app_image(chip_id=chip_id)
    data = images.combined_image(app, partition.encode(simflash.table()))
    start = data.index(app)
    assert f"(here it starts at {start:#x})" in problems(data)


# Any bytes


@example(8 * 23)
@given(st.integers(0, 8 * len(SMALL) - 1))
def test_every_flipped_bit_is_found(bit):
    data = bytearray(SMALL)
    data[bit // 8] ^= 1 << bit % 8
    if bit == 8 * 23:
        # The one bit that nothing guards: it says that there is a hash.
        assert image.examine(bytes(data)).checks[-1].verdict is image.Verdict.ABSENT
    else:
        assert problems(data)


@given(st.data())
def test_examine_never_raises(data):
    raw = bytearray(data.draw(st.one_of(st.just(SMALL), st.binary())))
    for _ in range(data.draw(st.integers(0, 4)) if raw else 0):
        raw[data.draw(st.integers(0, min(len(raw), 64) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    image.examine(raw)


@given(
    chip=st.sampled_from(list(CHIPS)),
    size=st.integers(450, 3000),
    rev=st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    secure_version=st.integers(0, 0xFFFFFFFF),
    version=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=31),
    hashed=st.booleans(),
)
def test_what_was_built_is_what_is_read(chip, size, rev, secure_version, version, hashed):
    data = images.app_image(
        chip_id=CHIPS[chip],
        size=size,
        min_rev=rev[0],
        max_rev=rev[1],
        secure_version=secure_version,
        version=version,
        hash_appended=hashed,
    )
    found = image.load(data)
    assert (found.chip, found.min_rev_full, found.max_rev_full) == (chip, *rev)
    assert (found.desc.secure_version, found.desc.version) == (secure_version, version)
    assert (found.length, found.digest is not None) == (len(data), hashed)


def test_a_script_can_call_it(tmp_path):
    (tmp_path / "app.bin").write_bytes(SMALL)
    report = inspect.inspect(tmp_path / "app.bin")
    assert report.valid
    assert report.image.desc.version == "1.0.0"


# Several files, and none with a name


def test_several_files(run_inspect, tmp_path):
    (tmp_path / "a.bin").write_bytes(images.app_image(version="1.0.0"))
    (tmp_path / "b.bin").write_bytes(images.app_image(version="2.0.0"))
    (tmp_path / "bad.bin").write_bytes(b"nothing")
    code, out, err = run_inspect(tmp_path / "a.bin", tmp_path / "b.bin")
    assert (code, err) == (0, "")
    assert out.index("a.bin:\n") < out.index("1.0.0") < out.index("b.bin:\n") < out.index("2.0.0")
    assert run_inspect(tmp_path / "bad.bin", tmp_path / "b.bin")[0] == 1
    # The others are shown all the same.
    code, out, err = run_inspect(tmp_path / "bad.bin", tmp_path / "none.bin", tmp_path / "b.bin")
    assert code == 2
    assert "2.0.0" in out
    assert err.startswith("https-ota: error: cannot read ")


def test_standard_input(tmp_path):
    command = [sys.executable, "-m", "https_ota_tools", "inspect", "-"]
    done = subprocess.run(
        command, input=images.app_image(version="1.2.3"), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"1.2.3" in done.stdout


@pytest.fixture
def run_inspect(capsys):
    def run(*paths):
        code = cli.main(["inspect", *map(str, paths)])
        return code, *capsys.readouterr()

    return run
