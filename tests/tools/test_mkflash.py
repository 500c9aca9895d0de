"""`https-ota mkflash` and partition tables, checked with Espressif's own partition tool and with esptool.

esp_idf_defs.partitions is Espressif's gen_esp32part.py, made importable.
"""

import contextlib
import dataclasses
import string

import esptool.bin_image
import images
import pytest
import simflash
from esp_idf_defs import partitions as espressif
from hypothesis import given, settings
from hypothesis import strategies as st

from https_ota_tools import cli, mkflash, otadata, partition
from https_ota_tools.errors import ToolError

APP = images.app_image(size=5000)
MIB = 1 << 20


def fields(p):
    """What a partition is, from our objects or from Espressif's."""
    return (p.name, p.type, p.subtype, p.offset, p.size)


def espressif_table(flash):
    """What Espressif's tool reads at 0x8000, verified by it."""
    table = espressif.PartitionTable.from_binary(flash[0x8000:0x8C00])
    table.verify(partition_table_offset=0x8000)
    return table


def command(tmp_path, *options, app=APP):
    (tmp_path / "app.bin").write_bytes(app)
    args = ["mkflash", tmp_path / "app.bin", "-o", tmp_path / "flash.bin", *options]
    return cli.main([str(a) for a in args])


# The flash file


@pytest.mark.parametrize("size", ["4MB", "8MB", "16MB", "32MB"])
def test_espressif_reads_our_table(tmp_path, size):
    assert command(tmp_path, "--size", size) == 0
    flash = (tmp_path / "flash.bin").read_bytes()
    assert len(flash) == mkflash.flash_bytes(size)
    table = espressif_table(flash)
    csv = partition.default_csv(len(flash)).read_text()
    assert table == espressif.PartitionTable.from_csv(csv)
    assert [fields(p) for p in table] == [fields(p) for p in simflash.table(size)]
    table.verify_size_fits(len(flash))


@pytest.mark.parametrize("slot", ["ota_0", "ota_1"])
def test_esptool_reads_the_app_out_of_the_flash(tmp_path, slot):
    app = images.demo_app("3.1.4", size=50_000)
    assert command(tmp_path, "--slot", slot, app=app) == 0
    flash = (tmp_path / "flash.bin").read_bytes()
    p = espressif_table(flash)[slot]
    read = esptool.bin_image.LoadFirmwareImage("esp32c3", flash[p.offset : p.offset + p.size])
    assert read.chip_id == 5
    assert read.checksum == read.calculate_checksum()
    assert read.stored_digest == read.calc_digest == app[-32:]
    assert flash[p.offset : p.offset + p.size] == app.ljust(p.size, b"\xff")


def test_all_else_is_erased(tmp_path):
    assert command(tmp_path) == 0
    flash = bytearray((tmp_path / "flash.bin").read_bytes())
    assert otadata.active(otadata.decode(flash[0xD000:0xF000])) is None
    flash[0x8000:0x8C00] = b"\xff" * 0xC00
    flash[0x10000 : 0x10000 + len(APP)] = b"\xff" * len(APP)
    assert flash.count(0xFF) == 4 * MIB


@pytest.mark.parametrize(
    ("chip", "offset"), [("esp32", 0x1000), ("esp32c3", 0), ("esp32c5", 0x2000)]
)
def test_bootloader_is_where_the_chip_starts(tmp_path, chip, offset):
    boot = images.bootloader_image(images.CHIP_IDS[chip])
    (tmp_path / "boot.bin").write_bytes(boot)
    app = images.app_image(chip_id=images.CHIP_IDS[chip], size=2000)
    assert command(tmp_path, "--bootloader", tmp_path / "boot.bin", app=app) == 0
    flash = (tmp_path / "flash.bin").read_bytes()
    assert flash[:0x8000] == (b"\xff" * offset + boot).ljust(0x8000, b"\xff")


def test_a_table_of_ones_own(tmp_path):
    csv = "factory, app, factory, , 1M\nfs, data, littlefs, , 0xF0000, readonly\n"
    (tmp_path / "t.csv").write_text(csv)
    assert (
        command(tmp_path, "--table", tmp_path / "t.csv", "--size", "2MB", "--slot", "factory") == 0
    )
    factory, fs = espressif_table((tmp_path / "flash.bin").read_bytes())
    assert fields(factory) == ("factory", 0, 0, 0x10000, MIB)
    assert fields(fs) == ("fs", 1, 0x83, 0x110000, 0xF0000)
    assert fs.readonly


def test_flash_files_of_the_tests(tmp_path):
    record = otadata.Entry.make(2, otadata.State.VALID)
    contents = {"otadata": otadata.encode(record), "ota_1": APP}
    path = simflash.make_flash(tmp_path / "f", slot="ota_0", contents=contents)
    flash = path.read_bytes()
    assert flash[0x10000 : 0x10000 + 20000] == images.app_image()
    assert flash[0x190000 : 0x190000 + len(APP)] == APP
    assert otadata.decode(flash[0xD000:])[0] == record
    with pytest.raises(ValueError, match="don't fit into 'otadata'"):
        simflash.make_flash(tmp_path / "f", contents={"otadata": bytes(0x2001)})


# What can't be done


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "5MB"], "flash size '5MB': expected one of 2MB, 4MB"),
        (
            ["--size", "64MB"],
            "no partition table for 0x4000000 bytes of flash (only 4MB, 8MB, 16MB, 32MB)",
        ),
        (["--slot", "ota_2"], "no partition 'ota_2' in the table, which has nvs, otadata"),
        (["--slot", "vfs"], "'vfs' is a data partition, expected an app partition"),
        (["--table", "/nowhere.csv"], "cannot read /nowhere.csv: No such file or directory"),
        (["-o", "/nowhere/flash.bin"], "cannot write /nowhere/flash.bin"),
    ],
)
def test_bad_arguments(tmp_path, capsys, options, words):
    assert command(tmp_path, *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "flash.bin").exists()


def test_too_large_an_app(tmp_path, capsys):
    assert command(tmp_path, app=images.app_image(size=0x180010)) == 2
    assert "has 1572880 bytes, 'ota_0' has room for 1572864" in capsys.readouterr().err
    assert command(tmp_path, app=images.app_image(size=0x180000)) == 0


def test_bad_app(tmp_path, capsys):
    assert command(tmp_path, app=images.corrupt(APP, "hash")) == 2
    assert "the application can't be used: SHA-256: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("boot", "words"),
    [
        (images.bootloader_image(9), "is for esp32s3, the application for esp32c3"),
        (images.corrupt(images.bootloader_image(), "checksum"), "the image is corrupt"),
        (images.corrupt(images.bootloader_image(), "cut"), "cut off within its SHA-256"),
        (APP, "it is an application"),
        (images.bootloader_image().ljust(0x8001, b"\xff"), "is room for 32768"),
    ],
    ids=["chip", "checksum", "cut", "app", "size"],
)
def test_bad_bootloader(tmp_path, capsys, boot, words):
    (tmp_path / "boot.bin").write_bytes(boot)
    assert command(tmp_path, "--bootloader", tmp_path / "boot.bin") == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a, app, ota_0", "expected name, type, subtype, offset, size, flags; came 3 fields"),
        (", app, ota_0, , 1M", "expected a name of 1 to 16 bytes, came ''"),
        ("a_name_of_17_byte, app, ota_0, , 1M", "expected a name of 1 to 16 bytes"),
        ("a, ap, ota_0, , 1M", "type 'ap': expected a number or one of app, data"),
        ("a, app, ota_16, , 1M", "subtype 'ota_16': expected a number or one of factory"),
        ("a, app, ota_0, x, 1M", "offset 'x': expected a number"),
        ("a, app, ota_0, ,", "size '': expected a number"),
        ("a, app, ota_0, , 0", "size 0x0 is out of range"),
        ("a, app, ota_0, , 1M, fast", "unknown flag 'fast': expected encrypted or readonly"),
        ("a, 0xff, 0, , 1M", "type 0xff is out of range"),
    ],
)
def test_bad_lines_are_named(tmp_path, capsys, line, words):
    (tmp_path / "t.csv").write_text(f"# comment\n\n{line}\n")
    assert command(tmp_path, "--table", tmp_path / "t.csv") == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}/t.csv, line 3: " in message
    assert words in message


def test_a_table_that_is_not_text(tmp_path, capsys):
    (tmp_path / "t.csv").write_bytes(b"\xaa\x50\xff")
    assert command(tmp_path, "--table", tmp_path / "t.csv") == 2
    assert "is not text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"otadata": {"size": 0x1000}}, "the size of 'otadata' must be 0x2000"),
        ({"nvs": {"subtype": 0}}, "more than one otadata partition"),
        ({"nvs": {"name": "ota_0"}}, "partition 'ota_0' is there twice"),
        ({"nvs": {"offset": 0x8000}}, "'nvs' starts at 0x8000, but up to 0x9000"),
        ({"nvs": {"offset": 0x9100}}, "'nvs' at 0x9100 must start at a multiple of 4 KiB"),
        ({"nvs": {"size": 0x2000}}, "the size 0x2000 of 'nvs' must be at least 0x3000"),
        ({"nvs": {"size": 0x5000}}, "'otadata' at 0xd000 overlaps 'nvs'"),
        ({"otadata": {"flags": 2}}, "'otadata' is written to by its nature"),
        ({"otadata": {"subtype": 0x06}}, "there are OTA slots but no otadata partition"),
        ({"ota_0": {"offset": 0x11000}}, "it is an app, 0x10000"),
        ({"ota_0": {"size": 0x17FFFF}}, "the size 0x17ffff of 'ota_0' must be a multiple"),
        ({"ota_0": {"subtype": 0x12}}, "OTA slots must be ota_0, ota_1, … once each"),
        ({"ota_1": {"subtype": 0x10}}, "OTA slots must be ota_0, ota_1, … once each"),
        ({"vfs": {"size": 0xF1000}}, "'vfs' ends at 0x401000, the flash at 0x400000"),
    ],
)
def test_tables_that_cannot_work(change, words):
    table = [dataclasses.replace(p, **change.get(p.name, {})) for p in simflash.table()]
    with pytest.raises(ToolError, match="the partition table can't be used") as refused:
        partition.check(table, 4 * MIB)
    assert words in str(refused.value)


# The binary form, for any table

names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=16)
kinds = st.one_of(
    st.tuples(
        st.just(partition.APP), st.sampled_from(list(partition.SUBTYPES[partition.APP].values()))
    ),
    st.tuples(
        st.just(partition.DATA), st.sampled_from(list(partition.SUBTYPES[partition.DATA].values()))
    ),
    st.tuples(st.integers(0x40, 0xFE), st.integers(0, 0xFE)),
)


def build(rows):
    """Partitions one behind the other, as a CSV without offsets gives; sizes are in sectors."""
    table = []
    for name, (kind, subtype), sectors, flags in rows:
        align = 0x10000 if kind == partition.APP else 0x1000
        offset = -(-(table[-1].end if table else 0x9000) // align) * align
        table.append(partition.Partition(name, kind, subtype, offset, sectors * 0x1000, flags))
    return table


rows = st.tuples(names, kinds, st.integers(1, 0x80), st.integers(0, 3))
tables = st.lists(rows, min_size=1, max_size=20, unique_by=lambda row: row[0]).map(build)


@st.composite
def working_tables(draw):
    """Tables with an app, and with otadata if there are OTA slots."""
    slots = draw(st.integers(0, 4))
    wanted = [("app", (partition.APP, partition.FACTORY), draw(st.integers(2, 64)), 0)]
    for i in range(slots):
        wanted.append(
            (f"slot{i}", (partition.APP, partition.OTA_0 + i), draw(st.integers(2, 64)), 0)
        )
    if slots:
        wanted.append(
            ("boot", (partition.DATA, partition.OTADATA), 2, draw(st.sampled_from([0, 1])))
        )
    if draw(st.booleans()):
        wanted.append(("nvs", (partition.DATA, partition.NVS), draw(st.integers(3, 16)), 0))
    other = st.tuples(st.integers(0x40, 0xFE), st.integers(0, 0xFE))
    for i in range(draw(st.integers(0, 3))):
        wanted.append((f"own{i}", draw(other), draw(st.integers(1, 64)), draw(st.integers(0, 3))))
    return build(draw(st.permutations(wanted)))


@given(tables)
def test_decode_inverts_encode(table):
    assert partition.decode(partition.encode(table)) == table


@given(tables)
def test_espressif_encodes_the_same_and_decodes_ours(table):
    theirs = espressif.PartitionTable.from_binary(partition.encode(table))
    assert [fields(p) for p in theirs] == [fields(p) for p in table]
    assert [p.encrypted + 2 * p.readonly for p in theirs] == [p.flags for p in table]
    assert theirs.to_binary() == partition.encode(table)


@given(tables, st.booleans())
def test_both_read_the_same_from_a_csv(table, simple):
    csv = espressif.PartitionTable.from_binary(partition.encode(table)).to_csv(simple)
    assert partition.read_csv(csv) == table


@given(st.one_of(tables, working_tables()))
def test_espressif_finds_no_fault_where_we_find_none(table):
    with contextlib.suppress(ToolError):
        partition.check(table, 16 * MIB)
        theirs = espressif.PartitionTable.from_binary(partition.encode(table))
        theirs.verify(partition_table_offset=0x8000)
        theirs.verify_size_fits(16 * MIB)


@given(tables, st.data())
def test_damage_is_found(table, data):
    binary = bytearray(partition.encode(table))
    used = 32 * (len(table) + 1)
    bit = data.draw(st.integers(0, 8 * used - 1))
    binary[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ToolError):
        partition.decode(bytes(binary))


@given(st.binary(max_size=partition.TABLE_BYTES + 64), st.booleans())
@settings(max_examples=300)
def test_decoding_anything_gives_a_table_or_a_ToolError(data, begins_like_one):
    data = b"\xaa\x50" + data if begins_like_one else data
    with contextlib.suppress(ToolError):
        assert partition.decode(data)


@given(st.text())
@settings(max_examples=300)
def test_reading_any_text_gives_a_table_or_a_ToolError(text):
    with contextlib.suppress(ToolError):
        partition.read_csv(text)


def test_a_full_table():
    many = [partition.Partition(f"p{i}", 0x40, i, 0x9000 + i * 0x1000, 0x1000) for i in range(94)]
    assert partition.decode(partition.encode(many)) == many
    assert len(espressif.PartitionTable.from_binary(partition.encode(many))) == 94
    one_more = [*many, partition.Partition("p94", 0x40, 94, 0x67000, 0x1000)]
    with pytest.raises(ToolError, match="95 partitions are too many: 94 fit"):
        partition.encode(one_more)


@given(working_tables())
def test_every_table_that_works_makes_a_flash(table):
    app = next(p for p in table if p.type == partition.APP)
    flash = mkflash.make_flash(APP, table, 4 * MIB, app.name)
    assert [fields(p) for p in espressif_table(flash)] == [fields(p) for p in table]
    assert flash[app.offset :].startswith(APP)
