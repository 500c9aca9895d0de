"""What the tests of `status` and `push` have in common."""

import images
import pytest

from https_ota_tools import cli


@pytest.fixture
def app(tmp_path):
    """A new firmware's file."""
    path = tmp_path / "new.bin"
    path.write_bytes(images.app_image(size=30_000, version="2.0.0", seed=2))
    return path


@pytest.fixture
def on_board(capsys):
    """Returns a function that runs a command with the port of a board, and returns all that it printed."""

    def run(serial, command, *args, status=0):
        came = cli.main([command, "--port", serial.port, *map(str, args)])
        said = capsys.readouterr()
        assert came == status, said.out + said.err
        return said.out + said.err

    return run
