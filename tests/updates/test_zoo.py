"""Updates from every server of the zoo, on every board, with RSA and with ECDSA chains."""

import images
import pytest
import servers
import zoo

from https_ota_tools import probe, web

# A server that closes after each reply, as moto does, makes this a TLS handshake for every 3 or 4 KiB.
IMAGE = images.app_image(size=24_000, version="2.0.0", seed=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What is served."""
    return zoo.make_folder(tmp_path_factory.mktemp("zoo"), IMAGE)


@pytest.fixture(scope="module", params=zoo.KINDS)
def chain(request):
    """A root, and a server's certificate below an intermediate."""
    return zoo.chain(request.param)


@pytest.fixture(scope="module", params=zoo.ZOO, ids=lambda entry: entry.name)
def animal(request, folder, chain):
    """An entry of the zoo, its running server, and the root to trust."""
    root, identity = chain
    with request.param.start(folder, identity) as server:
        yield request.param, server, root


@pytest.fixture
def s3(folder, chain):
    """A store whose clock a test may put forward."""
    with zoo.S3(folder, chain[1]) as server:
        yield server


@pytest.mark.parametrize("mode", zoo.MODES)
def test_update(animal, tmp_path, mode):
    entry, server, root = animal
    build, options = zoo.MODES[mode]
    board = zoo.new_board(tmp_path, build)
    said = zoo.update(
        board, server.url("app.bin"), IMAGE, root, timeout_s=entry.timeout_s, **options
    )
    assert zoo.result(said) == zoo.expected(entry, mode), said
    if said != "ok":
        assert "expected TLS records of up to 4096 bytes" in said


def test_probe_foresees_what_a_4k_board_can_have(animal):
    entry, server, root = animal
    report = probe.probe(server.url("app.bin"), web.Trust((root.cert,), "the root"))
    assert report.ranges == entry.ranges
    assert report.request_size(16384) is not None
    assert (report.request_size(4096) is not None) == (entry.tls4k == "ok")


def test_release_assets(s3, chain, tmp_path):
    """A store of release files: a relative Location, then a presigned URL of another host, into the 4 KiB buffer."""
    root, identity = chain
    stored = s3.url("app.bin")
    assert 1400 < len(stored.partition("?")[2]) < 1700
    hops = {
        "/owner/project/releases/latest/download/app.bin": "../../download/v2.0.0/app.bin",
        "/owner/project/releases/download/v2.0.0/app.bin": stored,
    }
    with servers.RedirectServer(identity, hops) as server:
        board = zoo.new_board(tmp_path, "sim-tls4k")
        url = server.url(next(iter(hops)))
        assert zoo.update(board, url, IMAGE, root) == "ok"
        paths = [request.split()[1].decode() for request in server.requests]
        assert paths[:2] == list(hops)


@pytest.mark.parametrize("build", ["sim", "sim-tls4k"])
def test_expired_presigned_url(s3, chain, tmp_path, build):
    url = s3.url("app.bin", expires_s=300)
    s3.ahead_s = 301
    said = zoo.update(zoo.new_board(tmp_path, build), url, IMAGE, chain[0])
    at = url.partition("?")[0]
    assert said.startswith(f"OTAError: HTTP_STATUS: {at} answered 403"), said
    assert "Request has expired" in said
    for secret in ("X-Amz-", url.rpartition("Signature=")[2], "IQoJ"):
        assert secret not in said


def test_presigned_url_of_something_else(s3, chain, tmp_path):
    """The signature is good for the query it was made with, and for GET."""
    url = s3.url("app.bin").replace("app.bin", "other.bin")
    said = zoo.update(zoo.new_board(tmp_path, "sim"), url, IMAGE, chain[0])
    assert " answered 403" in said
    assert "X-Amz-" not in said
