"""The SIM board's NVS: other people's partitions, its own as others read them, and every power cut."""

import struct
import subprocess
import sys

import nvsreader
import pytest
import simflash
from board import Board

from https_ota_tools import partition

NVS_AT, NVS_SIZE = 0x9000, 0x4000
PAGE = 4096
CUT = 75

OPEN = """
from esp32 import NVS
def blob(n, seed):
    return bytes((i * 7 + seed) & 255 for i in range(n))
nvs = NVS("test")
"""
# Prints the integers and blobs called k0 to k4 as far as they are there.
SHOW = """
for key in ("k0", "k1", "k2", "k3", "k4"):
    for get in (nvs.get_i32, lambda key: bytes(buf[:nvs.get_blob(key, buf)])):
        buf = bytearray(9000)
        try:
            print((key, get(key)), end=",")
        except OSError as e:
            assert e.args == (-4354, "ESP_ERR_NVS_NOT_FOUND")
"""


def blob(n: int, seed: int) -> bytes:
    return bytes((i * 7 + seed) & 255 for i in range(n))


@pytest.fixture(params=["sim", "sim64"])
def board(tmp_path, request):
    """A board that was started once; its NVS is erased."""
    return make_board(tmp_path, request.param)


@pytest.fixture
def one_board(tmp_path):
    """The same, for tests that take long."""
    return make_board(tmp_path, "sim")


def make_board(folder, build):
    board = Board(simflash.make_flash(folder / "flash.bin"), build)
    board.run("import machine")
    return board


def get(board: Board) -> bytes:
    with board.flash.open("rb") as f:
        f.seek(NVS_AT)
        return f.read(NVS_SIZE)


def put(board: Board, data: bytes, at: int = NVS_AT) -> None:
    with board.flash.open("r+b") as f:
        f.seek(at)
        f.write(data)


def parsed(board: Board) -> dict[str, int | bytes]:
    """Return the values of the namespace "test" as the reader finds them."""
    return nvsreader.read(get(board)).get("test", {})


def shown(board: Board, **env: str) -> dict[str, int | bytes]:
    """Power the board on and return what its NVS gives."""
    return dict(eval("[" + board.run(OPEN + SHOW, **env) + "]"))


# -- formats


def generate(folder, rows: str, size: int = NVS_SIZE) -> bytes:
    """Make a partition with Espressif's generator."""
    (folder / "rows.csv").write_text("key,type,encoding,value\n" + rows)
    subprocess.run(
        [
            *(sys.executable, "-m", "esp_idf_nvs_partition_gen", "generate"),
            *("rows.csv", "nvs.bin", hex(size)),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return (folder / "nvs.bin").read_bytes()


def rows_of(folder) -> str:
    (folder / "long.bin").write_bytes(blob(5000, 1))
    return (
        "other,namespace,,\n"
        "k0,data,i32,99\n"
        "test,namespace,,\n"
        "k0,data,i32,-123456789\n"
        "byte,data,u8,200\n"
        "text,data,string,hello\n"
        "k1,data,hex2bin,00112233\n"
        "k2,file,binary,long.bin\n"
    )


def test_generated_partition_is_read(board):
    put(board, generate(board.flash.parent, rows_of(board.flash.parent)))
    assert shown(board) == {"k0": -123456789, "k1": b"\x00\x11\x22\x33", "k2": blob(5000, 1)}


def test_generated_partition_is_written(board):
    put(board, generate(board.flash.parent, rows_of(board.flash.parent)))
    board.run(
        OPEN + "nvs.set_i32('k0', 7); nvs.set_blob('k2', blob(3000, 2)); nvs.set_i32('new', 1)"
    )
    assert shown(board) == {"k0": 7, "k1": b"\x00\x11\x22\x33", "k2": blob(3000, 2)}
    values = nvsreader.read(get(board))
    assert values["other"] == {"k0": 99}
    # What this API cannot reach stays.
    assert values["test"]["byte"] == b"\xc8"
    assert values["test"]["text"] == b"hello\0"
    assert values["test"]["new"] == 1


def test_reader_reads_the_generator(tmp_path):
    """So that its strictness is that of the format, not of the SIM board."""
    values = nvsreader.read(generate(tmp_path, rows_of(tmp_path)))
    assert values["test"]["k2"] == blob(5000, 1)


def test_same_bytes_as_the_generator(board):
    """One namespace, one integer, one short blob: entry by entry what Espressif's tool makes."""
    board.run(OPEN + "nvs.set_i32('k0', 5); nvs.set_blob('k1', bytes(range(40)))")
    rows = f"test,namespace,,\nk0,data,i32,5\nk1,data,hex2bin,{bytes(range(40)).hex()}\n"
    expected = generate(board.flash.parent, rows)
    assert get(board)[:PAGE] == expected[:PAGE]


def test_written_partition_is_parsed(board):
    board.run(
        OPEN + "for i in range(300): nvs.set_i32('k%d' % (i % 20), i)\n"
        "for n in (0, 1, 32, 33, 4000, 500): nvs.set_blob('blob%d' % n, blob(n, 3))\n"
        "nvs.erase_key('k5'); nvs.erase_key('blob1')"
    )
    expected: dict[str, int | bytes] = {f"k{i % 20}": i for i in range(280, 300)}
    expected |= {f"blob{n}": blob(n, 3) for n in (0, 32, 33, 500, 4000)}
    del expected["k5"]
    assert parsed(board) == expected


def test_values_outlive_the_power(board):
    board.run(OPEN + "nvs.set_i32('k0', -1); nvs.set_blob('k1', blob(6000, 1))")
    assert shown(board) == {"k0": -1, "k1": blob(6000, 1)}


def test_start_of_a_clean_partition_writes_nothing(board):
    board.run(OPEN + "nvs.set_i32('k0', 1); nvs.set_blob('k1', blob(6000, 1))")
    before = get(board)
    assert shown(board, SIM_CUT="1") == {"k0": 1, "k1": blob(6000, 1)}
    assert get(board) == before


# -- partitions that are not clean


def test_noise_is_free_space(board):
    put(board, bytes(range(256)) * (NVS_SIZE // 256))
    assert shown(board) == {}
    board.run(OPEN + "nvs.set_i32('k0', 1)")
    assert shown(board) == {"k0": 1}


def test_blank_page_that_is_not_blank(board):
    """As an erase leaves it that was cut: what is written there without another one is lost."""
    put(board, b"\x00" * 128, NVS_AT + 64)
    board.run(OPEN + "nvs.set_i32('k0', 1)")
    assert parsed(board) == {"k0": 1}


@pytest.mark.parametrize("version", [0xFD, 0xFE])
def test_no_free_page_or_newer_format(board, version):
    """MicroPython erases a partition that the IDF can't use."""
    pages = 4 if version == 0xFE else 1
    for seq in range(pages):
        header = struct.pack("<IB", seq, version) + b"\xff" * 19
        state = struct.pack("<I", nvsreader.FULL)
        crc = struct.pack("<I", nvsreader.crc(header))
        put(board, state + header + crc, NVS_AT + seq * PAGE)
    board.run(OPEN + "nvs.set_i32('k0', 1)")
    assert parsed(board) == {"k0": 1}


def test_wrong_crc_of_an_item(board):
    board.run(OPEN + "nvs.set_i32('k0', 1); nvs.set_i32('k1', 2)")
    at = get(board).index(b"k0\0")
    put(board, b"K", NVS_AT + at)
    assert shown(board) == {"k1": 2}
    assert parsed(board) == {"k1": 2}


def test_item_that_lost_an_entry(board):
    generated = bytearray(generate(board.flash.parent, rows_of(board.flash.parent)))
    # "hello" is entry 6, its item entry 5.
    assert generated[64 + 6 * 32 :].startswith(b"hello\0")
    generated[32 + 1] &= 0xCF
    put(board, generated)
    board.run(OPEN)
    values = parsed(board)
    assert "text" not in values
    assert values["k0"] == -123456789


def test_index_without_its_chunks(board):
    board.run(OPEN + "nvs.set_blob('k0', blob(100, 1)); nvs.set_i32('k1', 2)")
    at = get(board).index(b"k0\0")
    put(board, b"K", NVS_AT + at)
    assert shown(board) == {"k1": 2}
    assert parsed(board) == {"k1": 2}


NO_NVS = "ota_0, app, ota_0, 0x10000, 0x180000\n"
ONE_PAGE = "nvs, data, nvs, 0x9000, 0x1000\n" + NO_NVS
OTHER_LABEL = "settings, data, nvs, 0x9000, 0x4000\n" + NO_NVS


@pytest.mark.parametrize("table", [NO_NVS, ONE_PAGE, OTHER_LABEL], ids=["none", "small", "label"])
def test_no_partition(board, table):
    raw = partition.encode(partition.read_csv(table, "test.csv"))
    put(board, raw.ljust(0xC00, b"\xff"), partition.TABLE_OFFSET)
    said = board.fail("from esp32 import NVS\nNVS('test')")
    assert said == "OSError: (-4353, 'ESP_ERR_NVS_NOT_INITIALIZED')"


# -- every cut

# Three full pages but for some entries: 7 entries are in use in the first one, 12 and more in the others,
# so that it is the one to be freed, with a namespace, an integer and a blob to be copied.
FULL = """
def fill(n):
    for i in range(n): nvs.set_i32('k0', i)
nvs.set_i32('k1', 1); nvs.set_blob('k2', blob(70, 3)); fill(119)
nvs.set_blob('k3', blob(300, 4)); fill(114)
nvs.set_blob('k4', blob(300, 5)); fill(114 - %d)
"""
# What was there before, and what is done.
UPDATES = {
    "first key ever": ("", "nvs.set_i32('k0', 1)"),
    "new integer": ("nvs.set_i32('k1', 5)", "nvs.set_i32('k0', 1)"),
    "integer": ("nvs.set_i32('k0', 5)", "nvs.set_i32('k0', 1)"),
    "blob": ("nvs.set_blob('k0', blob(200, 1))", "nvs.set_blob('k0', blob(200, 2))"),
    "third blob": (
        "nvs.set_blob('k0', b'x'); nvs.set_blob('k0', b'y')",
        "nvs.set_blob('k0', blob(700, 2))",
    ),
    "blob over two pages": (
        "nvs.set_blob('k0', blob(2700, 1))",
        "nvs.set_blob('k0', blob(1300, 2))",
    ),
    "blob for an integer": ("nvs.set_i32('k0', 5)", "nvs.set_blob('k0', blob(40, 1))"),
    "integer for a blob": ("nvs.set_blob('k0', blob(40, 1))", "nvs.set_i32('k0', 5)"),
    "erased integer": ("nvs.set_i32('k0', 5)", "nvs.erase_key('k0')"),
    "erased blob": ("nvs.set_blob('k0', blob(5000, 1))", "nvs.erase_key('k0')"),
    "next page": ("for i in range(125): nvs.set_i32('k0', i)", "nvs.set_i32('k0', 125)"),
    "freed page": (FULL % 0, "nvs.set_i32('k0', 999)"),
    "freed page, blob": (FULL % 4, "nvs.set_blob('k3', blob(500, 6))"),
    "freed page, blob over two": (FULL % 20, "nvs.set_blob('k3', blob(1000, 6))"),
}
FREEING = [name for name in UPDATES if name.startswith("freed")]


@pytest.mark.parametrize("update", FREEING)
def test_freeing_a_page(one_board, update):
    """These are what their names say."""
    before, code = UPDATES[update]
    one_board.run(OPEN + before)
    first = get(one_board)[:PAGE]
    assert struct.unpack_from("<I", first)[0] == nvsreader.FULL
    one_board.run(OPEN + code)
    assert get(one_board)[:PAGE] == b"\xff" * PAGE
    assert get(one_board)[3 * PAGE :].count(b"k2\0") == 2


@pytest.mark.parametrize("update", UPDATES)
def test_every_cut(one_board, update):
    """Old or new, all other keys as they were, and what is cut while it is put in order is no worse."""
    board = one_board
    before, code = UPDATES[update]
    board.run(OPEN + before)
    start = get(board)
    old = shown(board)
    board.run(OPEN + code)
    new = shown(board)
    assert new == parsed(board) != old
    n = 0
    switched = False
    while True:
        n += 1
        put(board, start)
        if board.start(OPEN + code, SIM_CUT=str(n)).returncode != CUT:
            break
        torn = get(board)
        # The next start is cut too: in its first operation, and somewhere else each time.
        for m in (1, n % 20 + 1):
            if board.start(OPEN, SIM_CUT=str(m)).returncode == CUT:
                assert shown(board) in (old, new), (n, m)
                put(board, torn)
        found = shown(board)
        assert found in (old, new), n
        assert found == new or not switched, "the old value came back"
        switched = found == new
        assert parsed(board) == found, n
        # It is as good as any other.
        board.run(OPEN + code if found == old else OPEN)
        assert shown(board) == new, n
    assert switched


def test_cuts_of_a_long_life(one_board):
    """A counter that is cut again and again never goes back, through many pages."""
    board = one_board
    count = OPEN + "for i in range(nvs.get_i32('k0') + 1, 2000): nvs.set_i32('k0', i)"
    board.run(OPEN + "nvs.set_i32('k0', 0); nvs.set_blob('k1', blob(2500, 1))")
    last = 0
    cut = 97
    while board.start(count, SIM_CUT=str(cut)).returncode == CUT:
        values = shown(board)
        assert values["k1"] == blob(2500, 1)
        # Three operations for an integer.
        assert last + cut // 3 - 145 <= values["k0"] <= last + cut // 3 + 1
        assert values["k0"] >= last
        last = values["k0"]
        cut += 31
    assert shown(board)["k0"] == 1999
