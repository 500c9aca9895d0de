"""`https-ota manifest --slot-size`: releases are held to the slots of the boards that are out there."""

import argparse
import re

import encfiles
import images
import pytest
from board import VALID
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from partitions import board_with_data

from https_ota_tools import cli, delta, packed, partition, room, sbv2

APP = images.app_image(size=70_000, version="1.4.0")
FITS = 0x12000  # the next multiple of a sector
TABLE = """nvs, data, nvs, 0x9000, 0x4000
otadata, data, ota, 0xd000, 0x2000
a, app, ota_0, 0x10000, 0x20000
b, app, ota_1, 0x30000, {:#x}
"""


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Returns a function that runs the command in tmp_path, and returns exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.bin").write_bytes(APP)

    def command(*args):
        code = cli.main(["manifest", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out + err

    return command


def make(command, *args, file="app.bin"):
    return command("--file", file, *args, "--release", 1, "-o", "m.json")


def sealed(tmp_path, keys, command):
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (tmp_path / "app.enc").write_bytes(encfiles.write(APP, public))
    return make(command, file="app.bin,encrypted=app.enc")


def smaller(tmp_path, keys, command):
    base = images.app_image(size=70_000, version="1.3.0")
    (tmp_path / "app.gz").write_bytes(packed.pack(APP))
    (tmp_path / "delta.gz").write_bytes(delta.make(base, APP))
    return make(command, "--packed", "app.gz", "--delta", "delta.gz")


def sealed_smaller(tmp_path, keys, command):
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (tmp_path / "app.enc").write_bytes(encfiles.write(APP, public))
    (tmp_path / "app.gz").write_bytes(packed.pack(APP))
    (tmp_path / "gz.enc").write_bytes(encfiles.write(packed.pack(APP), public))
    return make(command, "--packed", "app.gz,encrypted=gz.enc", file="app.bin,encrypted=app.enc")


def gone(tmp_path, keys, command):
    """The manifest says how large it is, wherever the file lies."""
    done = make(command)
    (tmp_path / "app.bin").unlink()
    return done


@pytest.mark.parametrize("form", [sealed, smaller, sealed_smaller, gone, None])
def test_what_ends_in_the_flash_must_fit(command, tmp_path, keys, form):
    code, said = form(tmp_path, keys, command) if form else make(command)
    assert code == 0, said
    for size, good in ((FITS, True), (FITS - 4096, False), ("1M", True)):
        code, said = command("--check", "m.json", "--slot-size", size)
        assert code == (0 if good and form is not gone else 1), said
        verdict = re.search(r"^slot for ESP32-C3 +(\w+) +([\d,]+) of ([\d,]+) bytes", said, re.M)
        assert verdict[1] == ("valid" if good else "invalid"), said
        assert verdict[2] == f"{len(APP):,}"
    code, said = command("--check", "m.json")
    assert "slot for" not in said


def test_signature_is_part_of_what_must_fit(command, tmp_path, keys):
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)
    (tmp_path / "app.bin").write_bytes(sbv2.sign(APP, [key]))
    make(command)
    assert command("--check", "m.json", "--slot-size", FITS)[0] == 1
    assert command("--check", "m.json", "--slot-size", FITS + 4096)[0] == 0


def test_a_manifest_is_not_made_for_slots_that_are_too_small(command, tmp_path):
    code, said = make(command, "--slot-size", "64K")
    assert code == 2
    assert "slot for ESP32-C3: 70,000 of 65,536 bytes, 4,464 too many" in said
    assert not (tmp_path / "m.json").exists()
    assert make(command, "--slot-size", FITS)[0] == 0
    before = (tmp_path / "m.json").read_bytes()
    code, said = command("--update", "m.json", "--rollout", 5, "--slot-size", "64K")
    assert code == 2 and (tmp_path / "m.json").read_bytes() == before
    assert command("--update", "m.json", "--rollout", 5, "--slot-size", FITS)[0] == 0


def test_little_room_is_told(command):
    make(command)
    words = "little room for the releases to come"
    assert words in command("--check", "m.json", "--slot-size", FITS)[1]
    assert words not in command("--check", "m.json", "--slot-size", "128K")[1]


def test_slots_by_kind(command, tmp_path):
    (tmp_path / "s3.bin").write_bytes(images.app_image(chip_id=9, version="1.4.0", size=120_000))
    kinds = ("app.bin,board=lamp", "app.bin,board=lamp,variant=big", "s3.bin,board=lamp")
    files = [word for kind in kinds for word in ("--file", kind)]
    assert command(*files, "--release", 1, "-o", "m.json")[0] == 0

    def judged(*slots):
        code, said = command("--check", "m.json", *(w for s in slots for w in ("--slot-size", s)))
        found = re.findall(r"^slot for (.*?) +(valid|invalid|absent) ", said, re.M)
        assert code == int(any(verdict == "invalid" for _, verdict in found)), said
        return {name: verdict[0] for name, verdict in found}

    c3, big, s3 = "ESP32-C3 lamp", "ESP32-C3 lamp big", "ESP32-S3 lamp"
    assert judged("72K") == {c3: "v", big: "v", s3: "i"}
    # What is named goes before what is not.
    assert judged("72K", "ESP32-S3=120K") == {c3: "v", big: "v", s3: "v"}
    assert judged("esp32s3=120K") == {c3: "a", big: "a", s3: "v"}
    assert judged("lamp=72K") == {c3: "v", big: "v", s3: "i"}
    assert judged("big=64K") == {c3: "a", big: "i", s3: "a"}
    # Of several the smallest: all those boards are out there.
    assert judged("lamp=1M", "lamp=64K") == {c3: "i", big: "i", s3: "i"}
    assert judged("ESP32-C3 lamp big=64K", "1M") == {c3: "v", big: "i", s3: "v"}
    code, said = command("--check", "m.json", "--slot-size", "lmap=64K")
    assert code == 2
    assert (
        "--slot-size lmap=: no file is for it; expected one of ESP32-C3 lamp, ESP32-C3 lamp big"
        in said
    )


@pytest.mark.parametrize("form", ["csv", "binary", "flash"])
@pytest.mark.parametrize(("size", "good"), [(0x12000, True), (0x11000, False)])
def test_slots_of_a_table(command, tmp_path, form, size, good):
    text = TABLE.format(size)
    data = partition.encode(partition.read_csv(text))
    if form == "flash":
        data = b"\xff" * partition.TABLE_OFFSET + data.ljust(0x1000, b"\xff")
    (tmp_path / "table").write_bytes(text.encode() if form == "csv" else data)
    make(command)
    code, said = command("--check", "m.json", "--slot-size", "ESP32-C3=table")
    assert code == (0 if good else 1), said
    assert f"of {size:,} bytes" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected the bytes of a slot"),
        ("=1M", "expected the bytes of a slot"),
        ("0", "a multiple of 4096, such as 1920K or 0x1e0000, or a partition table"),
        ("-4096", "a multiple of 4096"),
        ("1000000", "a multiple of 4096"),
        ("1920KB", "expected the bytes of a slot"),
        ("lamp=none.csv", "expected the bytes of a slot"),
        ("1.5M", "expected the bytes of a slot"),
        ("1G", "expected the bytes of a slot"),
        ("0x20000000", "expected the bytes of a slot"),
    ],
)
def test_sizes_that_are_none(text, words):
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        room.parse(text)


def test_tables_without_slots(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("nvs, data, nvs, 0x9000, 0x4000\nfactory, app, factory, 0x10000, 0x100000\n")
    with pytest.raises(argparse.ArgumentTypeError, match="has no two OTA slots"):
        room.parse(str(path))
    path.write_text("nvs; data\n")
    with pytest.raises(argparse.ArgumentTypeError, match="line 1"):
        room.parse(str(path))


@pytest.mark.parametrize("over", [0, 1, 4096])
def test_it_is_what_boards_do(command, tmp_path, keys, root, www, nginx, over):
    """An image that a manifest names is written as a whole: no padding may reach beyond the slot."""
    board = board_with_data(tmp_path, root)
    slot = 0x100000
    app = images.app_image(size=slot - 70_000, version="2.0.0").ljust(slot + over, b"\xff")
    (www / "app.bin").write_bytes(app)
    words = ("--sign", keys.private("p256"), "--unsigned-images", "--release", 1)
    code, said = command("--file", www / "app.bin", *words, "-o", www / "m.json")
    assert code == 0, said
    code, said = command("--check", www / "m.json", "--slot-size", "1M")
    assert code == (1 if over else 0), said
    update = (
        f"import https_ota\nhttps_ota.update_from({nginx.url('m.json')!r}, cadata=open('ca.pem').read(), "
        f"trusted_keys={keys.digests['p256']!r}, image_keys=None)"
    )
    if over:
        assert "TOO_BIG" in board.fail(update)
        assert board.running() == ("1.0.0", "ota_0", VALID)
    else:
        board.run(update)
        assert board.running().version == "2.0.0"
