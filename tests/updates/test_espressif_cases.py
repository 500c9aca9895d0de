"""Espressif's own tests of esp_https_ota (advanced_https_ota/pytest_advanced_ota.py), by the same names.

The servers are nginx in place of their Python server with ranges, and `openssl s_server -WWW` as there.
"""

import random

import images
import pytest
import servers
from board import PENDING_VERIFY

GOOD = images.app_image(size=200_000, version="2.0.0", seed=2)


@pytest.fixture
def openssl(www, root):
    """HTTP/1.0, no Content-Length, no ranges."""
    with servers.OpenSSLServer(www, root.server()) as server:
        yield server


def accept(board, url, **options):
    """Update, and see the new firmware run."""
    board.update(url, **options)
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


def test_base(any_board, www, nginx):
    """A1: three updates in a row."""
    board = any_board
    for version, slot in (("2.0.0", "ota_1"), ("3.0.0", "ota_0"), ("4.0.0", "ota_1")):
        name = f"app-{version}.bin"
        (www / name).write_bytes(images.app_image(size=100_000, version=version, seed=7))
        board.update(nginx.url(name))
        assert board.running() == (version, slot, PENDING_VERIFY)
        # The start that confirms must be the first one.
        board.update(nginx.url(name), retry_failed=True)
        assert board.run("import https_ota; print(https_ota.confirm())") == "True\n"


def test_truncated_bin(any_board, www, nginx):
    """A5: the first 64000 bytes, with a Content-Length that suits them."""
    (www / "app.bin").write_bytes(GOOD[:64000])
    message = any_board.refuse(nginx.url("app.bin"))
    assert message.startswith("OTAError: TRUNCATED: the file has 64000 bytes"), message


def test_truncated_header(any_board, www, nginx):
    """A6: the first 180 bytes."""
    (www / "app.bin").write_bytes(GOOD[:180])
    message = any_board.refuse(nginx.url("app.bin"))
    assert message.startswith(
        "OTAError: TRUNCATED: expected an application image, got 180 bytes"
    ), message


def test_random(any_board, www, nginx):
    """A7: 32000 bytes of noise, the first of them 0."""
    noise = random.Random(7).randbytes(32000)
    (www / "app.bin").write_bytes(b"\0" + noise[1:])
    message = any_board.refuse(nginx.url("app.bin"))
    assert message.startswith("OTAError: NOT_AN_IMAGE: expected an application image"), message
    assert "got 0x00" in message


def test_invalid_chip_id(any_board, www, nginx):
    """A8: byte 13 is 0xFE."""
    head = bytearray(GOOD[:2000])
    head[13] = 0xFE
    (www / "app.bin").write_bytes(head)
    message = any_board.refuse(nginx.url("app.bin"))
    assert message.startswith(
        "OTAError: CHIP: the image is for chip id 65029, this board has ESP32-C3"
    )


def test_chunked(board, www, openssl):
    """A9: closed by the end of the connection, in spite of its name."""
    (www / "app.bin").write_bytes(GOOD)
    accept(board, openssl.url("app.bin"), timeout_s=servers.SILENT_S)


def test_chunked_for_real(board, www, root):
    """A9 with Transfer-Encoding: chunked, which Espressif does not test."""
    (www / "app.bin").write_bytes(GOOD)
    with servers.Nginx(www, root.server(), lines=servers.CHUNKED) as server:
        accept(board, server.url("app.bin"))


def test_redirect_url(any_board, www, root, nginx):
    """A10: two hops over other ports of the same host."""
    (www / "app.bin").write_bytes(GOOD)
    to_app = {"/": f"return 301 {nginx.url('app.bin')};"}
    with servers.Nginx(www, root.server(), locations=to_app) as second:
        to_second = {"/": f"return 301 {second.url('app.bin')};"}
        with servers.Nginx(www, root.server(), locations=to_second) as first:
            accept(any_board, first.url("app.bin"))
            assert [r.status for r in first.requests()] == [301]
            assert [r.status for r in second.requests()] == [301]


@pytest.mark.parametrize("request_size", [None, 512, 2048, 3072])
def test_partial_request(www, nginx, any_board, request_size):
    """A12: ranges, all on one connection (Espressif reconnects for each)."""
    (www / "app.bin").write_bytes(GOOD)
    accept(any_board, nginx.url("app.bin"), request_size=request_size)
    requests = nginx.requests()
    if request_size:
        assert len(requests) == -(-len(GOOD) // request_size)
        assert {r.status for r in requests} == {206}
    assert len({r.connection for r in requests}) == 1
    assert sum(r.sent for r in requests) == len(GOOD)


def test_openssl_aligned_bin(board, www, openssl):
    """A15: bytes behind the image are tolerated."""
    padding = random.Random(15).randbytes(-len(GOOD) % 289 + 289)
    (www / "app.bin").write_bytes(GOOD + padding)
    accept(board, openssl.url("app.bin"), timeout_s=servers.SILENT_S)


def test_verify_min_chip_revision(any_board, www, nginx):
    """A16: an ESP32-C3 v0.3, an image for v0.4."""
    (www / "app.bin").write_bytes(images.app_image(version="2.0.0", min_rev=4))
    any_board.env["SIM_CHIP_REV"] = "3"
    message = any_board.refuse(nginx.url("app.bin"))
    expected = (
        "OTAError: CHIP_REVISION: the image is for chip revision v0.4 or later, this chip is v0.3"
    )
    assert message == expected


def test_verify_max_chip_revision(any_board, www, nginx):
    """A17: an ESP32-C3 v0.3, an image for up to v0.2."""
    (www / "app.bin").write_bytes(images.app_image(version="2.0.0", min_rev=0, max_rev=2))
    any_board.env["SIM_CHIP_REV"] = "3"
    message = any_board.refuse(nginx.url("app.bin"))
    expected = "OTAError: CHIP_REVISION: the image is for chip revision v0.2 or earlier, this chip is v0.3"
    assert message == expected
