"""The boards' firmware, as far as it can be checked without ESP-IDF.

Upstream's own CMakeLists.txt, makemanifest.py and mpy-tool.py run; ESP-IDF is played by fakeidf.
"""

import json
import re
import shutil
import subprocess
import sys

import built
import fakeidf
import freezing
import pytest
from fakeidf import BOARDS, PORT, ROOT, Idf, configure

MODULES = {str(path.relative_to(ROOT / "lib")) for path in ROOT.glob("lib/https_ota/**/*.py")}
# Upstream has the Ethernet of qemu since 1.29.
QEMU = "ESP32_C3_QEMU_OTA"
FRAGMENTS = [
    *ROOT.glob("firmware/sdkconfig.*"),
    *ROOT.glob("boards/*/sdkconfig.*"),
]


def pinned(name):
    versions = (ROOT / "firmware" / "versions.mk").read_text()
    return re.search(rf"^{name} *:= (\S+)$", versions, re.MULTILINE)[1]


@pytest.fixture
def upstream_with_qemu(tmp_path):
    """Upstream's port as later versions have it: with a QEMU variant of the ESP32-C3."""
    if (PORT / "boards" / "ESP32_GENERIC_C3" / "mpconfigvariant_QEMU.cmake").exists():
        return PORT
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


def test_qemu_board_says_what_it_needs(tmp_path, upstream_with_qemu):
    if upstream_with_qemu != PORT:
        with pytest.raises(subprocess.CalledProcessError) as e:
            configure(tmp_path, QEMU)
        assert "expected a MicroPython with the QEMU variant" in e.value.stderr
    seen = configure(tmp_path / "with", QEMU, port=upstream_with_qemu)
    assert seen["IDF_TARGET"] == "esp32c3"
    assert seen["sdkconfig"]["ETH_USE_OPENETH"] == "y"


# Options


def test_options_exist_in_esp_idf():
    lines = (ROOT / "tests" / "data" / "kconfig_names.txt").read_text().splitlines()
    known = {line.split()[0]: line.split()[1] for line in lines if not line.startswith("#")}
    assert all(re.search(r"(^|/)Kconfig(\.\w+)?$", source) for source in known.values())
    used = set()
    for path in [*FRAGMENTS, ROOT / "firmware" / "https_ota.cmake"]:
        used |= set(re.findall(r"^(?:\$\{_more\})?CONFIG_(\w+)=", path.read_text(), re.MULTILINE))
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
    frozen = freezing.freeze(tmp_path / "frozen", seen)
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
    build = idf.build / "firmware" / "ESP32_GENERIC"
    values = fakeidf.settings((build / "sdkconfig").read_text())
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"
    assert "const(4096)" in (build / "https_ota" / "https_ota_board.py").read_text()
    assert "PROJECT_VER=0.0.0\n" in (build / "seen").read_text()


def test_changed_options_reach_a_build_that_exists(tmp_path):
    # ESP-IDF keeps an sdkconfig it finds; cmake keeps what it was told the last time.
    idf = Idf(tmp_path)
    manifest = tmp_path / "manifest.py"
    manifest.write_text('include("$(PORT_DIR)/boards/manifest.py")\n')
    first = f"TLS_IN=16384 FLASH=8 FW_VERSION=1.0 FROZEN_MANIFEST={manifest} PARTITIONS=firmware/partitions-4MiB-ota.csv"
    assert idf.make(f"firmware MPY_DIR={idf.mpy} {first}").returncode == 0
    build = idf.build / "firmware" / "ESP32_GENERIC"
    assert f"MICROPY_MANIFEST_FROZEN_MANIFEST={manifest}\n" in (build / "seen").read_text()
    text = (build / "sdkconfig").read_text()
    assert 'partitions-4MiB-ota.csv"' in text and "CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y" in text
    assert idf.make(f"firmware MPY_DIR={idf.mpy}").returncode == 0
    values = fakeidf.settings((build / "sdkconfig").read_text())
    assert values["MBEDTLS_SSL_IN_CONTENT_LEN"] == "4096"
    assert values["ESPTOOLPY_FLASHSIZE_4MB"] == "y" and "ESPTOOLPY_FLASHSIZE_8MB" not in values
    assert "const(4096)" in (build / "https_ota" / "https_ota_board.py").read_text()
    assert values["PARTITION_TABLE_CUSTOM_FILENAME"].endswith('/partitions-4MiB-ota-large.csv"')
    seen = (build / "seen").read_text()
    assert "PROJECT_VER=0.0.0\n" in seen
    assert "MICROPY_MANIFEST_FROZEN_MANIFEST=" in seen and str(manifest) not in seen


def test_unchanged_options_keep_the_build(tmp_path):
    # A new sdkconfig would mean compiling all of ESP-IDF again; another version number must not.
    idf = Idf(tmp_path)
    assert idf.make(f"firmware MPY_DIR={idf.mpy} FW_VERSION=1.0").returncode == 0
    sdkconfig = idf.build / "firmware" / "ESP32_GENERIC" / "sdkconfig"
    with sdkconfig.open("a") as f:
        f.write("# kept\n")
    assert idf.make(f"firmware MPY_DIR={idf.mpy} FW_VERSION=1.1").returncode == 0
    assert sdkconfig.read_text().endswith("# kept\n")


def test_what_is_frozen_is_what_the_manifest_says_now(tmp_path):
    """Upstream looks at the age of the modules alone."""
    idf = Idf(tmp_path)
    binary = idf.build / "firmware" / "ESP32_GENERIC" / "micropython.bin"
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
    "text",
    [
        "",
        'metadata(version="1.0")\ninclude("$(PORT_DIR)/boards/manifest.py")\n',
        'freeze("$(GEN_DIR)", "https_ota_board.py")\n',
        f'include("{ROOT / "lib"}/manifest.py")\n',
        f'package("https_ota", base_path="{ROOT / "lib"}")\n',
        f'include("{ROOT / "firmware"}/manifest.py")\n',
        f'include("{ROOT / "boards" / "ESP32_GENERIC_OTA"}/manifest.py")\n',
    ],
)
def test_package_is_frozen_once_whatever_a_manifest_names(tmp_path, text):
    manifest = tmp_path / "manifest.py"
    manifest.write_text(text + f'module("app.py", base_path="{tmp_path}")\n')
    (tmp_path / "app.py").touch()
    seen = configure(tmp_path, "ESP32_GENERIC_C3", f"-DMICROPY_FROZEN_MANIFEST={manifest}")
    names = freezing.names(tmp_path, seen)
    assert len(names) == len(set(names))
    assert set(names) >= MODULES | {"app.py", "https_ota_board.py"}
    assert ("_boot.py" in names) == ("boards" in text or "firmware" in text)


def test_manifest_that_needs_the_boards(tmp_path):
    idf = Idf(tmp_path)
    manifest = tmp_path / "manifest.py"
    manifest.write_text('include("$(BOARD_DIR)/manifest.py")\n')
    words = f"firmware MPY_DIR={idf.mpy} FROZEN_MANIFEST={manifest} BOARD="
    done = idf.make(words + "ESP32_GENERIC")
    assert done.returncode
    assert (
        "it includes $(BOARD_DIR)/manifest.py, but ESP32_GENERIC has no manifest of" in done.stderr
    )
    assert 'include("$(PORT_DIR)/boards/manifest.py")' in done.stderr
    for board in ("UM_TINYPICO", "ESP32_GENERIC_OTA"):
        assert idf.make(words + board).returncode == 0
    done = idf.make(words + "ESP32_GENERIC FROZEN_MANIFEST=nowhere.py")
    assert done.returncode and "FROZEN_MANIFEST=nowhere.py: there is no such file" in done.stderr


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
    folder = idf.build / "firmware" / "ESP32_GENERIC"
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


def test_a_release_of_a_series_that_goes_needs_the_users_word(tmp_path):
    it = Idf(tmp_path, version=(5, 5, 4))
    it.pretend("1.28.0", TAKES["1.28.0"])
    it.words = []
    done = it.make(f"firmware MPY_DIR={it.mpy}")
    assert done.returncode
    assert "ESP-IDF v5.5.4 does not go with MicroPython 1.28.0, whose" in done.stderr
    words = re.findall(r"near to one of them, .* want: (\w+=\S+)", done.stderr)
    assert words == ["IDF_VERSION=v5.5.4"]
    done = it.make(f"firmware MPY_DIR={it.mpy} {words[0]}")
    assert done.returncode == 0, done.stderr


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
    idf = Idf(tmp_path)
    for name in ("ESP32_GENERIK", "SIM"):
        done = idf.make(f"firmware BOARD={name} MPY_DIR={idf.mpy}")
        assert done.returncode
        assert (
            f"BOARD={name}: {idf.mpy}/ports/esp32/boards/{name}/mpconfigboard.cmake" in done.stderr
        )
        assert (
            " is not there; expected a board's folder, BOARD_DIR=path, or one of:\n" in done.stderr
        )
        theirs = sorted(p.parent.name for p in PORT.glob("boards/*/mpconfigboard.cmake"))
        assert " ".join([*BOARDS, *theirs]) in done.stderr
    done = idf.make(f"firmware BOARD=ESP32_GENERIC_S3 BOARD_VARIANT=OCT MPY_DIR={idf.mpy}")
    assert done.returncode and "leave it away, or expected one of:\n    " in done.stderr
    assert "SPIRAM_OCT\n" in done.stderr


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
    seen = configure(tmp_path, "ESP32_GENERIC_C3", f"-DMICROPY_FROZEN_MANIFEST={manifest}")
    return set(freezing.names(tmp_path, seen)) - {"https_ota_board.py"}


def test_slices_are_added_to_the_core(tmp_path):
    core = frozen_with(tmp_path / "core", "slices=''")
    two = frozen_with(tmp_path / "two", "slices='p384 aio'")
    assert "https_ota/ota.py" in core
    more = {"aio", "trust/ec", "trust/p384", "trust/signature"}
    assert two - core == {f"https_ota/{name}.py" for name in more}
    assert core < two < MODULES
    assert frozen_with(tmp_path / "all", "opt=None") == MODULES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("slices='aio crypt'", "slices: expected names of core, .*, got 'crypt'"),
        ("slices='release'", "slices: .* fleet, .* got 'release'"),
        ("without='aio'", "without: name what to take instead"),
    ],
)
def test_slices_that_do_not_exist(tmp_path, options, said):
    with pytest.raises(Exception, match=said):
        frozen_with(tmp_path, options)
