"""What most tests need: certificates, files to serve, a server, a board."""

import os
import signal

import certs
import images
import keyfiles
import pytest
import servers
from board import make_board
from hypothesis import settings
from simserial import SerialBoard

# A job in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A slow example on a busy machine is no fault.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


def pytest_collection_modifyitems(items):
    """What may take minutes begins first, so that processes which share the tests end together."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def root():
    """A root certificate that the boards trust."""
    return certs.root()


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Keys for signing and encrypting: making one of RSA takes long."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return keyfiles.Keys(tmp_path_factory.mktemp("keys"), shared / "common-keys")


@pytest.fixture(scope="session")
def bad_keys(tmp_path_factory):
    """A folder with key files that are refused."""
    folder = tmp_path_factory.mktemp("bad-keys")
    keyfiles.make_bad(folder)
    return folder


@pytest.fixture
def www(tmp_path):
    """The folder that is served; holds app.bin, version 2.0.0."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "app.bin").write_bytes(images.app_image(size=70_000, version="2.0.0", seed=2))
    return folder


@pytest.fixture
def nginx(www, root):
    """A running nginx."""
    with servers.Nginx(www, root.server()) as server:
        yield server


@pytest.fixture
def board(tmp_path, root):
    """A board with version 1.0.0 in ota_0 and 16 KiB of TLS input buffer."""
    return make_board(tmp_path, root, "sim")


@pytest.fixture
def serial(board):
    """The same board, on and behind a serial port."""
    with SerialBoard(board) as serial:
        yield serial


@pytest.fixture(params=["sim", "sim-tls4k"])
def any_board(tmp_path, root, request):
    """The same with each size of the TLS buffer."""
    return make_board(tmp_path, root, request.param)
