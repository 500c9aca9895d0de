"""What is built of one MicroPython is never taken for that of another."""

import os
import subprocess

import built
import pytest


@pytest.fixture
def make(tmp_path):
    """Make what says whose build a folder is."""

    def run(checkout, version):
        made = tmp_path / "build" / f"mpy-{version}" / "made-with"
        words = ["make", f"BUILD={tmp_path / 'build'}", f"MPY_DIR={checkout}", str(made)]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "MPY_"))}
        return made, subprocess.run(
            words, cwd=built.ROOT, env=env, check=False, capture_output=True, text=True
        )

    return run


@pytest.fixture
def checkout(tmp_path):
    def checkout(name, version):
        folder = tmp_path / name
        (folder / "lib" / "mbedtls" / "library").mkdir(parents=True)
        (folder / "py").mkdir()
        numbers, _, preview = version.partition("-")
        names = ("MAJOR", "MINOR", "MICRO", "PRERELEASE")
        values = (*numbers.split("."), "1" if preview else "0")
        lines = [f"#define MICROPY_VERSION_{n} {v}\n" for n, v in zip(names, values, strict=True)]
        (folder / "py" / "mpconfig.h").write_text("".join(lines))
        return folder

    return checkout


@pytest.mark.parametrize("version", ["1.26.1", "1.29.0-preview"])
def test_each_version_has_a_folder_and_each_checkout_its_objects(make, checkout, version):
    one, other = checkout("one", version), checkout("other", version)
    made, done = make(one, version)
    assert done.returncode == 0, done.stderr
    assert made.read_text() == f"{version} {one}\n"
    made.with_name("sim").mkdir()
    make(os.path.relpath(one, built.ROOT), version)
    assert made.with_name("sim").exists()
    make(other, version)
    assert made.read_text() == f"{version} {other}\n"
    assert not made.with_name("sim").exists()


def test_no_checkout(make, tmp_path):
    _, done = make(tmp_path / "none", "")
    assert done.returncode
    assert f"MPY_DIR={tmp_path / 'none'}: expected a checkout of MicroPython" in done.stderr


def test_submodule_missing(make, checkout):
    folder = checkout("one", "1.30.0")
    (folder / "lib" / "mbedtls" / "library").rmdir()
    made, done = make(folder, "1.30.0")
    assert done.returncode and not made.exists()
    assert f"MPY_DIR={folder}: the submodule lib/mbedtls is empty" in done.stderr
    assert f"git -C {folder} submodule update --init lib/mbedtls" in done.stderr
