"""Connections that end too early, in each way there is: what came is never taken for all of it."""

import hashlib

import images
import partitions
import pytest
from board import PENDING_VERIFY
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from faults import FaultServer
from forms import filled

from https_ota_tools import delta, packed, sbv2

IMAGE = images.app_image(size=30_000, version="2.0.0", seed=5)
# Whole sectors come before each cut: what was written last is a good place to stop.
DATA = hashlib.shake_128(b"truncated").digest(30_000)
CUTS = (0, 4096, 12_288, 29_999)
DIGEST = hashlib.sha256(DATA).hexdigest()

WAYS = ["close", "drop", "reset", "stall"]
FRAMES = ["length", "chunks", "end"]
every = pytest.mark.parametrize("how", WAYS)


@pytest.fixture
def board(tmp_path, root):
    return partitions.board_with_data(tmp_path, root)


@pytest.fixture(params=["tls", "plain"])
def identity(request, root):
    return root.server() if request.param == "tls" else None


@pytest.fixture
def tls(root):
    return root.server()


def ends(frame, after, how, *, last=b"0\r\n\r\n"):
    """Send so many bytes of the body, framed like that, and end the connection; None sends all of it."""

    def fault(peer, reply):
        # Nobody can ask for the rest only.
        if reply.status != 200:
            reply.status = 200
            reply.headers = {"ETag": '"v1"'}
        body = fault.data
        reply.headers.pop("Content-Range", None)
        reply.headers["Content-Length"] = str(len(body))
        if frame != "length":
            del reply.headers["Content-Length"]
        if frame == "chunks":
            reply.headers["Transfer-Encoding"] = "chunked"
        reply.line = f"HTTP/1.{int(frame != 'end')} 200 OK"
        part = body if after is None else body[:after]
        peer.send(reply.head())
        if frame == "chunks":
            for i in range(0, len(part), 1000):
                piece = part[i : i + 1000]
                # The last of a part is a whole chunk, too.
                peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            if after is None:
                peer.send(last)
        elif part:
            peer.send(part)
        getattr(peer, how)()
        return True

    return fault


def serve(data, faults, identity):
    for fault in faults.values():
        fault.data = data
    return FaultServer(data, faults, identity)


QUICK = {"timeout_s": 0.2, "stall_s": 0.3}
DATA_OPTIONS = {"nothing": {}, "size": {"size": len(DATA)}, "sha256": {"sha256": DIGEST}}

FETCH = """
import https_ota
with open("got", "wb") as f:
    print(https_ota.fetch({url!r}, f.write, insecure=True{options}))
"""


def call(board, what, url, **options):
    """Run it; return whether it said that all went well."""
    if what == "fetch":
        given = "".join(f", {k}={v!r}" for k, v in options.items())
        done = board.start(FETCH.format(url=url, options=given))
    else:
        options |= {"partition": "storage"} if what == "data" else {}
        done = board.start(board.code(url, cadata=None, insecure=True, **options))
    assert done.returncode in (0, 1), done.stderr
    return done


def got(board, what):
    if what == "fetch":
        return (board.flash.parent / "got").read_bytes()
    if what == "data":
        return partitions.content(board, "storage", len(DATA))
    return board.flash.read_bytes()[0x110000:][: len(IMAGE)]


@every
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(
    ("what", "known"),
    [("data", "nothing"), ("data", "size"), ("data", "sha256"), ("fetch", "nothing")],
)
def test_never_success(board, identity, how, frame, what, known):
    """Cut each time at the same byte: the update fails, whatever is known of the file."""
    for after in CUTS if known == "nothing" else CUTS[2:3]:
        faults = {0: ends(frame, after, how)}
        with serve(DATA, faults, identity) as server:
            done = call(
                board, what, server.url("f"), **QUICK, **DATA_OPTIONS[known], **NO_RECORD[what]
            )
        assert done.returncode == 1, (after, done.stdout)
        # A reset destroys what was on its way.
        if frame == "end" and known == "nothing" and after and how != "reset":
            assert "OTAError: SIZE: " in done.stderr
            assert "Content-Length" in done.stderr


NO_RECORD = {"data": {"resume": False}, "fetch": {}, "image": {"resume": False}}


@every
@pytest.mark.parametrize("frame", FRAMES)
def test_image_is_never_half(board, tls, how, frame):
    """An image tells where it ends: what is missing is fetched."""
    for after in CUTS:
        with serve(IMAGE, {0: ends(frame, after, how)}, tls) as server:
            done = call(board, "image", server.url("f"), **QUICK, resume=False)
        assert done.returncode == 1, (after, done.stdout)
    with serve(IMAGE, {1: ends(frame, 9000, how), 2: ends(frame, None, "close")}, tls) as server:
        done = call(board, "image", server.url("f"), timeout_s=0.5)
    assert done.returncode == 0, done.stderr
    assert got(board, "image") == IMAGE
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


# What is unpacked on its way, as long as IMAGE.
CODE = images.app_image(size=40_000, seed=1, like_code=True)[400:]
MADE = images.changed(CODE, 2, places=60)
FORMS = {
    "packed": filled(packed.pack(MADE), len(IMAGE)),
    "delta": filled(delta.make(images.app_image(), MADE), len(IMAGE)),
}


@every
@pytest.mark.parametrize("frame", FRAMES)
def test_what_is_unpacked_is_never_half(board, tls, how, frame):
    """Each way with one of the forms."""
    data = FORMS[["packed", "delta"][(WAYS.index(how) + FRAMES.index(frame)) % 2]]
    for after in (4096, 15_000, 29_999):
        with serve(data, {0: ends(frame, after, how)}, tls) as server:
            done = call(board, "image", server.url("f"), **QUICK, resume=False)
        assert done.returncode == 1, (after, done.stdout)
    if frame == "end":
        return  # nobody knows that there was more
    with serve(data, {1: ends(frame, 9000, how), 2: ends(frame, None, "close")}, tls) as server:
        done = call(board, "image", server.url("f"), timeout_s=0.5)
    assert done.returncode == 0, done.stderr
    assert board.flash.read_bytes()[0x110000:][: len(MADE)] == MADE
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


@every
@pytest.mark.parametrize(
    ("frame", "known"), [("length", "nothing"), ("chunks", "nothing"), ("end", "size")]
)
@pytest.mark.parametrize("what", ["data", "fetch"])
def test_what_is_missing_is_fetched(board, tls, how, frame, known, what):
    faults = {1: ends(frame, 8192, how), 2: ends(frame, 500, how), 3: ends(frame, None, "close")}
    with serve(DATA, faults, tls) as server:
        done = call(board, what, server.url("f"), timeout_s=0.5, **DATA_OPTIONS[known])
    assert done.returncode == 0, done.stderr
    assert got(board, what) == DATA


@every
@pytest.mark.parametrize("known", ["size", "sha256"])
@pytest.mark.parametrize("what", ["data", "fetch"])
def test_end_without_a_length(board, tls, how, known, what):
    """All has come, and whoever knows what it is to be is content with any end but a reset."""
    with serve(DATA, {0: ends("end", None, how)}, tls) as server:
        options = {"timeout_s": 0.5, "stall_s": 20} if how == "stall" else QUICK
        done = call(board, what, server.url("f"), **options, **DATA_OPTIONS[known])
    if how == "reset" and known == "sha256":
        return  # it may come before the data is read
    assert done.returncode == 0, done.stderr
    assert got(board, what) == DATA


@pytest.mark.parametrize("how", ["close", "drop", "stall"])
@pytest.mark.parametrize("last", [b"0\r\n\r\n", b"0;x=y\r\nX-Sum: 1\r\n\r\n"])
def test_last_chunk_is_an_end(board, tls, how, last):
    with serve(DATA, {0: ends("chunks", None, how, last=last)}, tls) as server:
        done = call(board, "data", server.url("f"), timeout_s=30)
        assert len(server.requests) == 1
    assert done.returncode == 0, done.stderr
    assert got(board, "data") == DATA


@pytest.mark.parametrize("last", [b"", b"0", b"0\r\n", b"0\r\nX-Sum: 1\r\n", b"\r\n", b"5\r\nab"])
@every
def test_last_chunk_must_be_whole(board, tls, how, last):
    with serve(DATA, {0: ends("chunks", None, how, last=last)}, tls) as server:
        done = call(board, "data", server.url("f"), **QUICK, resume=False)
    assert done.returncode == 1, done.stdout


@every
def test_signed_data_without_a_length(board, keys, tls, how):
    """The signature says whether it is all; it stands at the end."""
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)
    data = DATA[:28_672]
    signed = data + sbv2.sign_data(data, [key]).ljust(4096, b"\xff")
    options = {"trusted_keys": keys.digests["p256"], "resume": False}
    for after in (4096, 28_672):
        with serve(signed, {0: ends("end", after, how)}, tls) as server:
            done = call(board, "data", server.url("f"), **QUICK, **options)
        assert done.returncode == 1, (after, done.stdout)
    with serve(signed, {0: ends("end", None, "close")}, tls) as server:
        done = call(board, "data", server.url("f"), **options)
    assert done.returncode == 0, done.stderr


MANIFEST = (
    b'{"format": 1, "release": 2, "version": "2.0.0", "expires": "9999-12-31T23:59:59Z", "files":'
    b' [{"chip": "esp32c3", "url": "app.bin", "size": 30000, "sha256": "%s"}]}' % (b"00" * 32)
)


@every
@pytest.mark.parametrize("frame", FRAMES)
def test_manifest_is_never_half(board, tls, how, frame):
    """Its last brace is its end."""
    code = (
        "import https_ota\nprint(https_ota.check({!r}, insecure=True, timeout_s=0.3, stall_s=0.5))"
    )
    for after in (100, len(MANIFEST) - 1):
        with serve(MANIFEST, {0: ends(frame, after, how)}, tls) as server:
            done = board.start(code.format(server.url("m.json")))
        assert done.returncode == 1, (after, done.stdout)
    with serve(MANIFEST, {0: ends(frame, None, "close")}, tls) as server:
        assert "Decision" in board.run(code.format(server.url("m.json")))
