"""The `https-ota` command as a whole: how it ends, and that no command is without tests."""

import subprocess
import sys
from pathlib import Path

import images
import pytest

from https_ota_tools import cli


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs the command in a process of its own, in an empty folder."""

    def run(*args):
        command = [sys.executable, "-m", "https_ota_tools", *map(str, args)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_every_command_has_tests():
    for command in cli.COMMANDS:
        assert Path(__file__).with_name(f"test_{command.NAME}.py").exists()


def test_help_names_every_command(run):
    done = run("--help")
    assert done.returncode == 0
    for command in cli.COMMANDS:
        assert f"{command.NAME} " in done.stdout
        assert command.HELP in done.stdout


def test_done_is_0(run, tmp_path):
    (tmp_path / "app.bin").write_bytes(images.app_image())
    done = run("inspect", "app.bin")
    assert (done.returncode, done.stderr) == (0, "")


def test_checked_and_found_bad_is_1(run, tmp_path):
    (tmp_path / "app.bin").write_bytes(images.corrupt(images.app_image(), "data"))
    done = run("inspect", "app.bin")
    assert (done.returncode, done.stderr) == (1, "")
    assert "the image is corrupt" in done.stdout


@pytest.mark.parametrize("command", ["inspect", "slots", "verify"])
def test_what_cannot_be_done_is_2_without_a_traceback(run, command):
    done = run(command, "no-such-file.bin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "https-ota: error: cannot read no-such-file.bin: No such file or directory\n"
    )


def test_no_command_is_2(run):
    assert run().returncode == 2
