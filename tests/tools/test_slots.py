"""`https-ota slots` and otadata, checked with the SIM board's bootloader and with Espressif's numbers."""

import contextlib
import itertools
import re

import images
import pytest
import simflash
from board import Board
from hypothesis import given
from hypothesis import strategies as st

from https_ota_tools import cli, files, otadata, partition, slots
from https_ota_tools.errors import ToolError
from https_ota_tools.otadata import Entry, State

FIRST = images.app_image(size=2000, version="1.0.0")
SECOND = images.app_image(size=3000, version="2.0.0", seed=2)


def flash_file(tmp_path, *records, first=FIRST, second=SECOND):
    """A flash with two apps and these records in otadata."""
    contents = {"otadata": otadata.encode(*records), "ota_1": second}
    return simflash.make_flash(tmp_path / "flash.bin", first, contents=contents)


def command(capsys, path):
    """Return exit code and output."""
    code = cli.main(["slots", str(path)])
    done = capsys.readouterr()
    assert done.err == ""
    return code, done.out


# The command


def test_a_new_board(capsys, tmp_path):
    code, out = command(capsys, simflash.make_flash(tmp_path / "flash.bin", FIRST))
    assert code == 0
    assert re.search(r"^vfs +data +fat +0x310000 +0xf0000 *$", out, re.MULTILINE)
    assert re.search(r"^0 +erased *$", out, re.MULTILINE)
    assert re.search(r"^ota_0 +test +1\.0\.0 +esp32c3 +2000 +valid +next boot$", out, re.MULTILINE)
    assert re.search(r"^ota_1 +erased *$", out, re.MULTILINE)


def test_after_an_update(capsys, tmp_path):
    records = Entry.make(1, State.VALID), Entry.make(2, State.NEW)
    code, out = command(capsys, flash_file(tmp_path, *records))
    assert code == 0
    assert re.search(r"^0 +1 +VALID +good +ota_0 *$", out, re.MULTILINE)
    assert re.search(r"^1 +2 +NEW +good +ota_1 +active$", out, re.MULTILINE)
    assert re.search(r"^ota_1 +test +2\.0\.0 +esp32c3 +2992 +valid +next boot$", out, re.MULTILINE)


def test_strange_records_are_shown(capsys, tmp_path):
    records = Entry(7, 2, crc=0), Entry.make(2, 0x55)
    code, out = command(capsys, flash_file(tmp_path, *records))
    assert code == 0
    assert re.search(r"^0 +7 +VALID +bad +ota_0 *$", out, re.MULTILINE)
    assert re.search(r"^1 +2 +0x55 +good +ota_1 +active$", out, re.MULTILINE)


def test_a_bad_app_that_would_boot_is_1(capsys, tmp_path):
    path = flash_file(tmp_path, Entry.make(2, State.NEW), second=images.corrupt(SECOND, "hash"))
    code, out = command(capsys, path)
    assert code == 1
    assert "the image is corrupt" in out
    # The same app where nothing would boot it.
    path = flash_file(tmp_path, Entry.make(1, State.NEW), second=images.corrupt(SECOND, "hash"))
    assert command(capsys, path)[0] == 0


def test_an_erased_slot_that_would_boot_is_1(capsys, tmp_path):
    path = flash_file(tmp_path, Entry.make(2, State.NEW), second=b"")
    assert command(capsys, path)[0] == 1


def test_without_ota_the_factory_app_boots(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("factory, app, factory, 0x10000, 1M\n")
    (tmp_path / "app.bin").write_bytes(FIRST)
    path = tmp_path / "flash.bin"
    options = ["--table", tmp_path / "t.csv", "--slot", "factory", "-o", path]
    assert cli.main(["mkflash", str(tmp_path / "app.bin"), *map(str, options)]) == 0
    capsys.readouterr()
    code, out = command(capsys, path)
    assert code == 0
    assert re.search(r"^factory +test .* next boot$", out, re.MULTILINE)
    assert "otadata" not in out


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no flash with a partition table at 0x8000"),
        (FIRST, "no flash with a partition table at 0x8000"),
        (b"\xff" * 0x400000, "expected AA 50 at its offset 0x0, came ff ff"),
    ],
    ids=["empty", "app", "erased"],
)
def test_what_is_no_flash(capsys, tmp_path, data, words):
    (tmp_path / "f").write_bytes(data)
    assert cli.main(["slots", str(tmp_path / "f")]) == 2
    assert words in capsys.readouterr().err


def test_a_part_of_a_flash(capsys, tmp_path):
    path = flash_file(tmp_path)
    files.write(path, files.read(path)[:0x200000])
    assert cli.main(["slots", str(path)]) == 2
    assert "the file has 0x200000 bytes, but 'vfs' ends at 0x400000" in capsys.readouterr().err


def test_a_damaged_table(capsys, tmp_path):
    path = flash_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[0x8004] ^= 1
    path.write_bytes(data)
    assert cli.main(["slots", str(path)]) == 2
    assert "the partition table is damaged: its MD5 is wrong" in capsys.readouterr().err


# What boots

RECORDS = [
    None,
    Entry.make(1, State.UNDEFINED),
    Entry.make(1, State.VALID),
    Entry.make(2, State.NEW),
    Entry.make(2, State.PENDING_VERIFY),
    Entry.make(3, State.INVALID),
    Entry.make(4, State.ABORTED),
    Entry(6, State.VALID, crc=0),
]


@pytest.mark.parametrize("pair", list(itertools.product(range(len(RECORDS)), repeat=2)))
def test_the_sim_board_boots_what_we_say(tmp_path, pair):
    path = flash_file(tmp_path, *(RECORDS[i] for i in pair))
    said = slots.read_flash(path.read_bytes()).next_boot.partition.name
    done = Board(path).run(
        "import esp32\nprint(esp32.Partition(esp32.Partition.RUNNING).info()[4])"
    )
    assert done.strip() == said


# The records


@pytest.mark.parametrize(("seq", "crc"), [(1, 0x4743989A), (2, 0x55F63774), (3, 0xED4A5011)])
def test_crc_is_that_of_espressif(seq, crc):
    assert Entry.make(seq, State.NEW).crc == crc


def test_an_erased_record():
    erased, other = otadata.decode(otadata.encode(None, Entry.make(1, State.NEW)))
    assert erased.erased
    assert not erased.valid
    assert not other.erased
    assert otadata.active([erased, erased]) is None


def test_too_little_for_otadata():
    with pytest.raises(ToolError, match="otadata is two sectors, 0x2000 bytes; 0x1fff came"):
        otadata.decode(bytes(0x1FFF))


seqs = st.integers(0, 0xFFFFFFFF)
words = st.one_of(st.sampled_from(list(State)), seqs)
made = st.builds(Entry.make, seqs, st.sampled_from(list(State)))
entries = st.one_of(made, st.builds(Entry, seqs, words, seqs, st.binary(min_size=20, max_size=20)))


@given(entries, entries)
def test_decode_inverts_encode(first, second):
    data = otadata.encode(first, second)
    assert len(data) == partition.OTADATA_BYTES
    assert otadata.decode(data) == (first, second)


@given(st.lists(entries, min_size=2, max_size=2))
def test_the_active_record_is_the_newest_valid_one(pair):
    active = otadata.active(pair)
    if active is None:
        assert not any(e.valid for e in pair)
        return
    assert pair[active].valid
    other = pair[1 - active]
    assert not other.valid or (other.seq, active) <= (pair[active].seq, active)
    assert not (active == 1 and other.valid and other.seq == pair[1].seq)


@given(st.lists(made, min_size=2, max_size=2))
def test_a_bootloader_never_chooses_what_was_not_confirmed(pair):
    left = otadata.at_boot(pair)
    active = otadata.active(left)
    assert all(e.state != State.PENDING_VERIFY for e in left)
    assert active is None or pair[active].state not in (State.PENDING_VERIFY, State.ABORTED)


@given(made, st.integers(0, 255))
def test_damage_to_the_number_makes_a_record_invalid(entry, bit):
    raw = bytearray(entry.encode())
    raw[bit // 8] ^= 1 << bit % 8
    damaged = Entry.decode(bytes(raw))
    in_seq_or_crc = bit < 32 or bit >= 224
    assert damaged.crc_ok != in_seq_or_crc


@pytest.mark.parametrize(
    ("seq", "count", "slot"),
    [(1, 2, 0), (2, 2, 1), (3, 2, 0), (1, 1, 0), (3, 3, 2), (4, 3, 0), (0xFFFFFFFE, 2, 1)],
)
def test_slot_of_a_record(seq, count, slot):
    assert Entry.make(seq, State.NEW).slot(count) == slot


def test_slot_of_sequence_0_is_unsigned_as_in_the_bootloader():
    # 0xFFFFFFFF % 5 and % 7
    assert [Entry.make(0, State.NEW).slot(n) for n in (5, 7)] == [0, 3]


@given(st.binary(max_size=300), st.sampled_from([0, 0x7FF0, 0x8000]))
def test_reading_anything_gives_a_flash_or_a_ToolError(data, at):
    raw = b"\xff" * at + data
    with contextlib.suppress(ToolError):
        slots.read_flash(raw)
