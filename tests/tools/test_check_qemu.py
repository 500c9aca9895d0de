"""What `make test-chip` says of a qemu and a MicroPython that will not do."""

import os
import subprocess

import pytest
from built import ROOT

ESP32C3 = "esp32c3              Espressif ESP32-C3 machine"
QEMU = """\
#!/bin/sh
case $1 in
-M) echo "{machine}" ;;
-netdev) echo "{network}" ;;
esac
"""


def check(tmp_path, machine=ESP32C3, network="user", *, qemu=True, variant=True):
    program = tmp_path / "qemu"
    if qemu:
        program.write_text(QEMU.format(machine=machine, network=network))
        program.chmod(0o755)
    port = tmp_path / "mpy" / "ports" / "esp32"
    (port / "boards" / "ESP32_GENERIC_C3").mkdir(parents=True)
    (port / "CMakeLists.txt").touch()
    if variant:
        (port / "boards" / "ESP32_GENERIC_C3" / "mpconfigvariant_QEMU.cmake").touch()
    return subprocess.run(
        [ROOT / "firmware" / "check-qemu.sh", program, tmp_path / "mpy"],
        env=os.environ | {"IDF_PATH": "/idf"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_will_do(tmp_path):
    done = check(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"qemu": False}, ("qemu is not in PATH", "/idf/tools/idf_tools.py install qemu-riscv32")),
        (
            {"machine": "virt    RISC-V VirtIO board"},
            ("no machine esp32c3", "idf_tools.py install"),
        ),
        ({"network": "tap"}, ("no user network", "QEMU=")),
        ({"variant": False}, ("no qemu variant of ESP32_GENERIC_C3", "cherry-pick")),
        ({"qemu": False, "variant": False}, ("is not in PATH", "no qemu variant")),
    ],
)
def test_what_is_missing_and_where_to_get_it(tmp_path, given, words):
    done = check(tmp_path, **given)
    assert done.returncode == 1
    assert done.stdout == ""
    for some in words:
        assert some in done.stderr


def test_all_that_is_missing_is_said_at_once():
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "MPY", "IDF"))
    }
    done = subprocess.run(
        ["make", "-s", "check-chip", "QEMU=/no/qemu"],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode
    for words in ("MPY_DIR is not set", "IDF_PATH is not set", "/no/qemu is not in PATH"):
        assert words in done.stderr
