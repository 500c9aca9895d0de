"""Each board that upstream's port has, and those here: configured by upstream's own CMakeLists.txt, up to ESP-IDF.

Which boards there are depends on the MicroPython at hand.
"""

import re
import subprocess

import budgets
import freezing
import pytest
from fakeidf import BOARDS, PORT, ROOT, Idf, configure

from https_ota_tools import partition

MODULES = {str(path.relative_to(ROOT / "lib")) for path in ROOT.glob("lib/https_ota/**/*.py")}
# Slots must hold upstream's code and what is frozen.
FROZEN_MAX = {
    "xtensawin": budgets.allowed(budgets.FROZEN_XTENSA),
    "rv32imc": budgets.allowed(budgets.FROZEN_RISCV),
}


def table_path(values):
    assert values["PARTITION_TABLE_CUSTOM"] == "y"
    return PORT / values["PARTITION_TABLE_CUSTOM_FILENAME"].strip('"')


def flash_size(values):
    """Bytes: of several sizes the last one counts."""
    sizes = re.findall(
        r"ESPTOOLPY_FLASHSIZE_(\d+)MB=y", "\n".join(f"{k}={v}" for k, v in values.items())
    )
    return int(sizes[-1]) << 20


def upstream_boards():
    """Each board of the checkout, and each with each of its variants."""
    for path in sorted(PORT.glob("boards/*/mpconfigboard.cmake")):
        yield path.parent.name, ""
        for variant in sorted(path.parent.glob("mpconfigvariant_*.cmake")):
            yield path.parent.name, variant.stem.partition("_")[2]


# What a board may say otherwise once it updates itself.
OURS = re.compile(
    "APP_EXCLUDE_PROJECT_|PARTITION_TABLE_CUSTOM|COMPILER_OPTIMIZATION_|LWIP_TCP_(WND_D|RECVM)|MBEDTLS_SSL_IN_CONTENT_LEN$"
    "|MBEDTLS_ASYMMETRIC_CONTENT_LEN$|BOOTLOADER_APP_ROLLBACK_ENABLE$"
)


@pytest.mark.parametrize(("board", "variant"), list(upstream_boards()))
def test_upstreams_board(tmp_path, board, variant):
    """Upstream's own CMakeLists.txt, without and with ours: what the board says stays, and it can update itself."""
    words = [f"-DMICROPY_BOARD_VARIANT={variant}"] if variant else []
    bare = configure(tmp_path / "bare", board, *words, ours=False)
    before = bare["sdkconfig"]
    flash = flash_size(before)
    if flash < 4 << 20:
        with pytest.raises(subprocess.CalledProcessError) as e:
            configure(tmp_path, board, *words)
        said = (
            f"{board}{variant and '-'}{variant} has {flash >> 20} MB of flash: expected 4 or more"
        )
        assert said in " ".join(e.value.stderr.split())
        return
    seen = configure(tmp_path, board, *words)
    values = seen["sdkconfig"]
    for name in ("IDF_TARGET", "MICROPY_BOARD_DIR"):
        assert seen[name] == bare[name]
    assert seen["MICROPY_MANIFEST_FROZEN_MANIFEST"] == bare["MICROPY_FROZEN_MANIFEST"]
    assert {
        k for k in before | values if before.get(k) != values.get(k) and not OURS.match(k)
    } == set()
    assert (
        values["BOOTLOADER_APP_ROLLBACK_ENABLE"] == values["MBEDTLS_ASYMMETRIC_CONTENT_LEN"] == "y"
    )
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"
    assert values["APP_EXCLUDE_PROJECT_VER_VAR"] == values["APP_EXCLUDE_PROJECT_NAME_VAR"] == "n"
    # What the reason for not using dynamic buffers rests on.
    assert values["MBEDTLS_SSL_PROTO_DTLS"] == "y"

    table = partition.read_csv(table_path(values).read_text())
    partition.check(table, flash)
    sizes = [p.size for p in partition.ota_slots(table)]
    assert len(sizes) == 2 and sizes[0] == sizes[1] >= 1536 << 10
    said = partition.read_csv(table_path(before).read_text())
    files = {"vfs", "ffat"}
    if partition.ota_slots(said):
        assert table == said  # boards that have it are out there
    else:
        assert sizes[0] == {4: 0x1E0000, 8: 0x270000, 16: 0x300000, 32: 0x400000}[flash >> 20]
        assert values.get("COMPILER_OPTIMIZATION_SIZE") == "y" or flash > 4 << 20
        end = max(p.end for p in table)
        assert end == flash or end < flash - (128 << 10)  # no room, or room for a file system
    # Where upstream leaves the file system to MicroPython, it finds room behind the table.
    assert files & {p.name for p in table} == files & {p.name for p in said}

    frozen = freezing.names(tmp_path, seen)
    theirs = freezing.names(tmp_path, bare | {"MICROPY_MANIFEST_GEN_DIR": ""})
    assert len(frozen) == len(set(frozen))
    assert set(frozen) == {*theirs, *MODULES, "https_ota_board.py"}
    assert {"_boot.py", "asyncio/core.py"} < set(theirs)


OLD = {
    "ESP32_GENERIC_OTA": ("esp32", 0x1E0000),
    "ESP32_GENERIC_S3_OTA": ("esp32s3", 0x270000),
    "ESP32_GENERIC_C3_OTA": ("esp32c3", 0x1E0000),
    "ESP32_GENERIC_C6_OTA": ("esp32c6", 0x1E0000),
}


@pytest.mark.parametrize("board", OLD)
def test_names_of_before(tmp_path, board):
    """Who has a board of ours, and a manifest for it, goes on as before."""
    target, slot = OLD[board]
    manifest = tmp_path / "manifest.py"
    manifest.write_text('include("$(BOARD_DIR)/manifest.py")\nmodule("app.py")\n')
    (tmp_path / "app.py").touch()
    seen = configure(tmp_path, board, f"-DMICROPY_FROZEN_MANIFEST={manifest}")
    assert seen["IDF_TARGET"] == target
    table = partition.read_csv(table_path(seen["sdkconfig"]).read_text())
    partition.check(table, flash_size(seen["sdkconfig"]))
    assert [p.size for p in partition.ota_slots(table)] == [slot, slot]
    names = freezing.names(tmp_path, seen)
    assert len(names) == len(set(names))
    assert set(names) >= MODULES | {"app.py", "https_ota_board.py", "_boot.py", "asyncio/core.py"}
    folder = ROOT / "boards" / board
    upstream = PORT / "boards" / board.removesuffix("_OTA")
    for path in folder.glob("mpconfigboard.*"):
        assert f"boards/{upstream.name}/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("firmware/partitions-*.csv")), ids=lambda p: p.stem
)
def test_partition_tables_can_update(path):
    size = int(re.search(r"-(\d+)MiB-", path.name)[1]) << 20
    table = partition.read_csv(path.read_text(), path.name)
    partition.check(table, size)  # offsets, overlaps, otadata, the flash's end
    slots = partition.ota_slots(table)
    assert len(slots) == 2
    assert slots[0].size == slots[1].size
    assert all(p.size % 0x10000 == 0 for p in slots)
    assert {p.name for p in table} >= {"nvs", "otadata", "vfs"}
    # No room is left over: a table can't be changed once the board hangs on a wall.
    assert max(p.end for p in table) == size


def test_4mib_table_is_that_of_upstreams_ota_variant():
    ours = partition.read_csv((ROOT / "firmware/partitions-4MiB-ota.csv").read_text())
    theirs = partition.read_csv((PORT / "partitions-4MiB-ota.csv").read_text())
    # Later versions leave the file system to MicroPython.
    assert ours[: len(theirs)] == theirs and {p.name for p in ours[len(theirs) :]} <= {"vfs"}


@pytest.mark.parametrize("board", BOARDS)
def test_board_header_builds_on_upstreams(board):
    header = ROOT / "boards" / board / "mpconfigboard.h"
    command = ["gcc", "-E", "-dM", "-Werror", "-x", "c", f"-I{PORT}", header]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.search(r'^#define MICROPY_HW_MCU_NAME "ESP32', macros, re.MULTILINE)


def test_octal_psram_variant(tmp_path):
    board = "ESP32_GENERIC_S3_OTA"
    values = configure(tmp_path, board, "-DMICROPY_BOARD_VARIANT=SPIRAM_OCT")["sdkconfig"]
    assert values["SPIRAM"] == values["SPIRAM_MODE_OCT"] == "y"
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"


# One of each instruction set, and with modules of its own.
@pytest.mark.parametrize("board", ["UM_TINYPICO", "ESP32_GENERIC_C3"])
def test_board_freezes(tmp_path, board):
    seen = configure(tmp_path, board)
    frozen = freezing.freeze(tmp_path / "frozen", seen)
    assert frozen.names == freezing.names(tmp_path, seen)
    size = frozen.size - freezing.freeze(tmp_path / "bare", freezing.bare(seen)).size
    assert 30_000 < size <= FROZEN_MAX[freezing.arch(seen)]


# A board of one's own


@pytest.fixture
def own(tmp_path):
    """A folder as upstream's out-of-tree boards have it, with files of its own beside and behind it."""
    folder = tmp_path / "mine" / "boards" / "LAMP"
    folder.mkdir(parents=True)
    (folder / "mpconfigboard.cmake").write_text(
        "set(IDF_TARGET esp32s3)\n"
        "set(SDKCONFIG_DEFAULTS boards/sdkconfig.base ${MICROPY_BOARD_DIR}/sdkconfig.lamp)\n"
        "set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)\n"
    )
    (folder / "mpconfigvariant_BIG.cmake").write_text(
        "list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/../sdkconfig.big)\n"
    )
    (folder / "sdkconfig.lamp").write_text("CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y\n")
    (folder.parent / "sdkconfig.big").write_text("CONFIG_ESPTOOLPY_FLASHSIZE_32MB=y\n")
    (folder / "manifest.py").write_text(
        'include("$(PORT_DIR)/boards/manifest.py")\nfreeze("modules")\nfreeze("$(BOARD_DIR)/../../src")\n'
    )
    for path in (folder / "modules" / "lamp.py", tmp_path / "mine" / "src" / "app.py"):
        path.parent.mkdir()
        path.touch()
    (folder / "mpconfigboard.h").touch()
    return folder


TABLE = """nvs, data, nvs, 0x9000, 0x4000
otadata, data, ota, 0xd000, 0x2000
a, app, ota_0, 0x10000, 0x200000
b, app, {}, 0x210000, 0x200000
vfs, data, fat, 0x410000, 0x100000
"""


def slots(seen):
    table = partition.read_csv(table_path(seen["sdkconfig"]).read_text())
    partition.check(table, flash_size(seen["sdkconfig"]))
    return [p.size for p in partition.ota_slots(table)]


def test_own_board(tmp_path, own):
    seen = configure(tmp_path, own)
    assert seen["IDF_TARGET"] == "esp32s3" and seen["MICROPY_BOARD_DIR"] == str(own)
    assert slots(seen) == [0x270000, 0x270000]
    names = freezing.names(tmp_path, seen)
    assert len(names) == len(set(names))
    assert set(names) >= MODULES | {"lamp.py", "app.py", "_boot.py", "https_ota_board.py"}
    seen = configure(tmp_path, own, "-DMICROPY_BOARD_VARIANT=BIG")
    assert slots(seen) == [0x400000, 0x400000]


def test_table_of_ones_own(tmp_path, own):
    """One that can be updated stays; of one slot alone ours takes the place."""
    (own / "table.csv").write_text(TABLE.format("ota_1"))
    with (own / "sdkconfig.lamp").open("a") as f:
        f.write(f'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="{own / "table.csv"}"\n')
    assert slots(configure(tmp_path / "1", own)) == [0x200000, 0x200000]
    assert slots(configure(tmp_path / "1", own, "-DHTTPS_OTA_FLASH=16")) == [0x300000, 0x300000]
    (own / "table.csv").write_text(TABLE.format("factory"))
    assert slots(configure(tmp_path / "2", own)) == [0x270000, 0x270000]


@pytest.mark.parametrize(
    ("said", "given", "words"),
    [
        ("2MB=y", "", "LAMP has 2 MB of flash: expected 4 or more"),
        ("8MB=y", "2", "LAMP has 2 MB of flash: expected 4 or more"),
        ("8MB=y", "8MB", "FLASH: expected the MB of flash, 4, 8, 16 or 32, came '8MB'"),
        (
            "8MB=y\nCONFIG_PARTITION_TABLE_OFFSET=0x10000",
            "",
            "LAMP has its partition table elsewhere",
        ),
        ("64MB=y", "", "no partition table here for 64 MB of flash: give one of your own"),
        ("8MB=y", "6", "no partition table here for 6 MB of flash: give one of your own"),
        (
            "",
            "",
            "LAMP does not say how much flash it has: expected CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y",
        ),
    ],
)
def test_flash_that_can_not_have_two_slots(tmp_path, own, said, given, words):
    cmake = own / "mpconfigboard.cmake"
    cmake.write_text(cmake.read_text().replace("boards/sdkconfig.base", ""))
    (own / "sdkconfig.lamp").write_text(said and f"CONFIG_ESPTOOLPY_FLASHSIZE_{said}\n")
    with pytest.raises(subprocess.CalledProcessError) as e:
        configure(tmp_path, own, f"-DHTTPS_OTA_FLASH={given}")
    assert words in " ".join(e.value.stderr.split())


@pytest.mark.parametrize("ours", [True, False])
def test_board_that_includes_it_itself(tmp_path, own, ours):
    """For a build without our Makefile, and by it all the same; the variant still has its word."""
    with (own / "mpconfigboard.cmake").open("a") as f:
        f.write(f"set(HTTPS_OTA_BOARD_PARTITIONS {own}/table.csv)\n")
        f.write(f"include({ROOT}/firmware/https_ota.cmake)\n")
    (own / "table.csv").write_text(TABLE.format("ota_1"))
    for _ in range(2):
        seen = configure(tmp_path, own, "-DMICROPY_BOARD_VARIANT=BIG", ours=ours)
        assert slots(seen) == [0x200000, 0x200000]
        assert flash_size(seen["sdkconfig"]) == 32 << 20
        assert set(freezing.names(tmp_path, seen)) >= MODULES | {"lamp.py", "https_ota_board.py"}
        sdkconfig = tmp_path / "build" / "sdkconfig"
        sdkconfig.touch()
    configure(tmp_path, own, "-DMICROPY_BOARD_VARIANT=BIG", ours=ours)
    assert sdkconfig.exists()  # nothing has changed


def test_make_with_a_board_of_ones_own(tmp_path, own):
    idf = Idf(tmp_path / "idf")
    words = f"firmware BOARD_DIR={own}/ BOARD_VARIANT=BIG MPY_DIR={idf.mpy}"
    done = idf.make(words, BOARD="ESP32_GENERIC_C3")
    assert done.returncode == 0, done.stdout + done.stderr
    build = idf.build / "firmware" / "LAMP-BIG"
    assert f"{build}/micropython.bin" in done.stdout
    assert re.search("^partition table: .*/partitions-32MiB-ota.csv$", done.stdout, re.MULTILINE)
    assert b"app.py\0" in (build / "micropython.bin").read_bytes()
    assert idf.make(words + " BOARD=OTHER").returncode == 0
    assert (idf.build / "firmware" / "OTHER-BIG").exists()
    done = idf.make(f"firmware BOARD_DIR={own.parent} MPY_DIR={idf.mpy}")
    assert f"BOARD=boards: {own.parent}/mpconfigboard.cmake is not there" in done.stderr


def test_make_says_how_to_have_larger_slots(tmp_path, own):
    """Where the file system is what is left behind the table, it fits any flash: larger ones may have larger slots."""
    idf = Idf(tmp_path / "idf")
    (own / "table.csv").write_text("factory, app, factory, 0x10000, 0x1f0000\n")
    (own / "sdkconfig.lamp").write_text(
        f'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="{own}/table.csv"\n'
    )
    done = idf.make(f"firmware BOARD_DIR={own} MPY_DIR={idf.mpy}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "files: all that is left of the flash behind" in done.stdout and "FLASH=8" in done.stdout
    )
    done = idf.make(f"firmware BOARD_DIR={own} MPY_DIR={idf.mpy} FLASH=16")
    assert done.returncode == 0 and "FLASH=8" not in done.stdout
    assert "of ota_0" in done.stdout


def test_window_is_the_boards_where_it_says_one(tmp_path, own):
    values = configure(tmp_path / "1", own)["sdkconfig"]
    assert values["LWIP_TCP_WND_DEFAULT"] == "11520" and values["LWIP_TCP_RECVMBOX_SIZE"] == "10"
    with (own / "sdkconfig.lamp").open("a") as f:
        f.write("CONFIG_LWIP_TCP_WND_DEFAULT=5760\nCONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE=n\n")
    values = configure(tmp_path / "2", own)["sdkconfig"]
    assert values["LWIP_TCP_WND_DEFAULT"] == "5760" and values["LWIP_TCP_RECVMBOX_SIZE"] == "10"
    assert values["BOOTLOADER_APP_ROLLBACK_ENABLE"] == "y"


def test_folders_with_spaces(tmp_path, own):
    folder = tmp_path / "my boards" / "LAMP"
    folder.parent.mkdir()
    own.rename(folder)
    (folder / "mpconfigboard.cmake").write_text(
        "set(IDF_TARGET esp32)\nset(SDKCONFIG_DEFAULTS boards/sdkconfig.base)\n"
    )
    seen = configure(tmp_path / "a b", folder)
    assert slots(seen) == [0x1E0000, 0x1E0000]
    table = tmp_path / "my boards" / "table.csv"
    table.write_text(
        TABLE.format("ota_1")
        .replace("0x410000, 0x100000", "0x3f0000, 0x10000")
        .replace("0x200000", "0x1e0000")
    )
    assert slots(configure(tmp_path / "c d", folder, f"-DHTTPS_OTA_PARTITIONS={table}"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "factory, app, factory, 0x10000, 0x100000\n",
        TABLE.format("ota_1").replace("otadata", "#"),
    ],
)
def test_table_that_can_not_update(tmp_path, text):
    idf = Idf(tmp_path / "idf")
    (tmp_path / "t.csv").write_text(text)
    done = idf.make(f"firmware MPY_DIR={idf.mpy} PARTITIONS={tmp_path}/t.csv")
    assert done.returncode and not idf.log.exists()
    assert f"PARTITIONS={tmp_path}/t.csv: a board with this table can't be updated" in done.stderr
    assert "expected ota_0, ota_1 and otadata, came " in done.stderr
