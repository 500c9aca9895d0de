"""What an update costs on the 32-bit builds, whose objects have the chip's sizes."""

import encfiles
import images
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from kept import KEPT, steady


@pytest.fixture(autouse=True)
def large_image(www):
    (www / "app.bin").write_bytes(images.app_image(size=400_000, version="2.0.0", seed=3))


def test_plain_get_runs_with_the_heap_locked(board, nginx):
    assert board.run(steady(nginx.url("app.bin"), True)) == "0\n"


# A response that ends within a sector leaves a slice of the buffer, 16 bytes in 32-bit builds; another where what was read
# with its head ends.
GARBAGE = 64


@pytest.mark.parametrize("size", [3072, 8192])
def test_garbage_of_a_ranged_response(any_board, nginx, size):
    if size > 4096 and any_board.interpreter.parent.name == "sim-tls4k":
        size = 1024
    garbage = int(any_board.run(steady(nginx.url("app.bin"), False, request_size=size)))
    assert garbage <= GARBAGE * (50 * 4096 // size + 2)


@pytest.fixture(params=["rsa", "p256"])
def opener(request, keys, www):
    """Let the image be encrypted; return what makes the option `decrypt`."""
    kind = request.param
    public = load_pem_public_key(keys.public(kind).read_bytes())
    (www / "app.bin").write_bytes(encfiles.write((www / "app.bin").read_bytes(), public))
    return keys.opener(kind)


def test_decryption_runs_with_the_heap_locked(board, nginx, opener):
    text = steady(nginx.url("app.bin"), True, request_size=0)
    assert board.run(text.replace("resume=False", f"resume=False, decrypt={opener}")) == "0\n"


def test_garbage_of_a_ranged_response_that_is_decrypted(board, nginx, opener):
    text = steady(nginx.url("app.bin"), False, request_size=3072)
    garbage = int(board.run(text.replace("resume=False", f"resume=False, decrypt={opener}")))
    assert garbage <= GARBAGE * (50 * 4096 // 3072 + 2)


def test_decryption_keeps_at_most_6_kib_more(board, www, keys, opener):
    """Tables, buffers, the modules' own memory when frozen, and the key."""
    plain = www / "plain.bin"
    plain.write_bytes(images.app_image(size=400_000, version="2.0.0", seed=3))
    alone = int(board.run(KEPT.format(path=str(plain), options="")))
    options = f", decrypt={opener}"
    more = int(board.run(KEPT.format(path=str(www / "app.bin"), options=options))) - alone
    assert 1000 < more <= 6 * 1024
