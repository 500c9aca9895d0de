"""`https-ota pack`: what it makes, read by others, and what other commands make of that."""

import gzip
import hashlib
import io
import ssl
import struct
import subprocess
import sys
import urllib.request
import zlib

import detools
import encfiles
import images
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from https_ota_tools import cli, delta, packed, sbv2, serve
from https_ota_tools.errors import ToolError
from https_ota_tools.keys import load_private

APP = images.app_image(size=100_000, version="2.0.0", seed=9, like_code=True)


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "app.bin"
    path.write_bytes(APP)
    return path


@pytest.fixture
def command(capsys):
    """Returns a function that runs a command line and returns exit code, output and errors."""

    def command(*args):
        code = cli.main([str(a) for a in args])
        return code, *capsys.readouterr()

    return command


def test_what_it_says(command, app):
    code, out, err = command("pack", app)
    made = app.with_name("app.bin.gz").read_bytes()
    assert (code, err) == (0, "")
    assert out == f"{app}.gz: compressed, {len(made)} bytes, {len(made) / 1000:.1f} % of 100000\n"
    assert len(made) < 60_000


@pytest.mark.parametrize("tool", [["gzip", "-dc"], ["pigz", "-dc"], ["bgzip", "-dc"], ["zcat"]])
@pytest.mark.parametrize("window", packed.WINDOWS)
def test_any_gzip_tool_opens_it(command, app, tool, window):
    out = app.with_name("out.gz")
    assert command("pack", app, "-o", out, "--window", window)[0] == 0
    done = subprocess.run([*tool, out], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (APP, b"")
    assert gzip.decompress(out.read_bytes()) == APP


def test_its_blocks():
    """By BGZF's own rules: each tells its length; from each on it is a file of its own, which needs the window and no more."""
    data = packed.pack(APP, 1024)
    at, out = 0, b""
    while at < len(data):
        assert data[at : at + 4] == b"\x1f\x8b\x08\x04"
        extra = data[at + 12 :][: int.from_bytes(data[at + 10 : at + 12], "little")]
        assert extra[:4] == b"BC\2\0"
        assert (extra[6:] == b"WS\5\0" + struct.pack("<BI", 10, len(APP))) == (at == 0)
        size = int.from_bytes(extra[4:6], "little") + 1
        piece = zlib.decompressobj(-10).decompress(data[at + 12 + len(extra) : at + size])
        assert data[at + size - 8 : at + size] == struct.pack("<II", zlib.crc32(piece), len(piece))
        assert len(piece) == packed.BLOCK or len(out) + len(piece) == len(APP)
        out += piece
        at += size
    assert out == APP
    assert data.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
    assert 65536 % packed.BLOCK == 0


@given(st.binary(max_size=5000), st.sampled_from(packed.WINDOWS), st.integers(1, 40))
def test_any_data_comes_back(data, window, times):
    found = packed.unpack(packed.pack(data * times, window))
    assert (found.data, found.window, found.total) == (
        data * times,
        window,
        len(data * times) or None,
    )


def test_unpacks_what_others_make():
    assert packed.unpack(gzip.compress(APP)).window == 32768
    assert packed.unpack(zlib.compress(APP)).data == APP
    small = zlib.compressobj(9, wbits=10)
    found = packed.unpack(small.compress(APP) + small.flush())
    assert (found.data, found.window) == (APP, 1024)
    assert packed.unpack(gzip.compress(APP) + gzip.compress(b"more")).data == APP + b"more"


def test_damage_is_found():
    data = packed.pack(APP)
    for n in (*range(1, 60, 7), len(data) // 2, len(data) - 29):
        with pytest.raises(ToolError):
            packed.unpack(data[:n])
    for more in (b"\0", b"x" * 30, gzip.compress(b"x")):
        with pytest.raises(ToolError):
            packed.unpack(data + more)
    for at in range(len(data) // 3, len(data) // 2, 501):
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(ToolError):
            packed.unpack(bytes(bad))
    for bad in (zlib.compress(APP)[:-1], zlib.compress(APP) + b"x", b"\x78\x9c\xff" * 9):
        with pytest.raises(ToolError):
            packed.unpack(bad)


def test_a_bomb_is_no_end_of_memory(monkeypatch):
    monkeypatch.setattr(packed, "LIMIT", 1 << 20)
    for data in (gzip.compress(bytes(2 << 20)), gzip.compress(bytes(1 << 19)) * 5):
        with pytest.raises(ToolError, match="more than 1048576 bytes"):
            packed.unpack(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no image", "the application can't be used: "),
        (gzip.compress(APP), "is compressed already"),
        (b"", "the file is empty"),
        (images.corrupt(APP, "data"), "the image is corrupt"),
    ],
)
def test_what_is_refused(command, tmp_path, data, words):
    (tmp_path / "in").write_bytes(data)
    code, out, err = command("pack", tmp_path / "in")
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "in.gz").exists()


def test_encrypted_images_are_refused(command, tmp_path, keys):
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (tmp_path / "in").write_bytes(encfiles.write(APP, public))
    assert "pack the image first" in command("pack", tmp_path / "in")[2]


@pytest.mark.parametrize("window", [0, 256, 1000, 65536])
def test_windows_that_can_not_be(command, app, window):
    code, _, err = command("pack", app, "--window", window)
    assert code == 2
    assert "expected one of 512, 1024, 2048, 4096, 8192, 16384, 32768" in err


def test_force(command, tmp_path):
    (tmp_path / "in").write_bytes(b"anything")
    assert command("pack", tmp_path / "in", "--force")[0] == 0
    assert gzip.decompress((tmp_path / "in.gz").read_bytes()) == b"anything"


# -- other commands


@pytest.mark.parametrize("how", ["ours", "gzip"])
def test_inspect_and_verify_look_into_it(command, app, how):
    data = packed.pack(APP) if how == "ours" else gzip.compress(APP)
    path = app.with_name("app.gz")
    path.write_bytes(data)
    for name, end in (("inspect", "image length 100000 of 100000 bytes"), ("verify", "takes")):
        code, out, _ = command(name, path)
        assert code == 0
        assert f"{len(data)} bytes, {len(data) / 1000:.1f} % of 100000; " in out
        assert ("4 blocks" not in out) or how == "ours"
        assert end in out
    for bad in (data[:-40], packed.pack(images.corrupt(APP, "data"))):
        path.write_bytes(bad)
        assert command("inspect", path)[0] == 1
        assert command("verify", path)[0] == 1


def test_encrypt_takes_it(command, app, keys):
    path = app.with_name("app.gz")
    path.write_bytes(packed.pack(APP))
    out = app.with_name("app.enc")
    assert command("encrypt", path, "--key", keys.public("p256"), "-o", out)[0] == 0
    code, said, _ = command("verify", out, "--decrypt-key", keys.private("p256"))
    assert (code, "compression" in said) == (0, True)
    path.write_bytes(packed.pack(b"no image"))
    assert command("encrypt", path, "--key", keys.public("p256"), "-o", out)[0] == 2


def test_serve_serves_it_as_it_is(app, root):
    """A Content-Encoding would let clients unpack it on their way."""
    path = app.with_name("app.gz")
    path.write_bytes(packed.pack(APP))
    context = ssl.create_default_context(cadata=root.pem.decode())
    identity = root.server()
    with serve.Server(app.parent, identity.pem + identity.key_pem) as server:
        request = urllib.request.Request(f"https://localhost:{server.port}/app.gz")
        with urllib.request.urlopen(request, context=context) as reply:
            assert reply.headers["Content-Encoding"] is None
            assert (
                hashlib.sha256(reply.read()).digest() == hashlib.sha256(path.read_bytes()).digest()
            )


# -- deltas

NEW = images.app_image(size=100_000, version="3.0.0", seed=9, like_code=True)


@pytest.fixture
def pair(app):
    """The paths of an old image, a new one, and a delta between them."""
    new = app.with_name("new.bin")
    new.write_bytes(NEW)
    path = app.with_name("delta.gz")
    path.write_bytes(delta.make(APP, NEW))
    return app, new, path


def test_a_delta_is_made(command, pair):
    old, new, _ = pair
    code, out, err = command("pack", new, "--from", old)
    made = old.with_name("new.bin.delta.gz").read_bytes()
    assert (code, err) == (0, "")
    assert out == (
        f"{new}.delta.gz: delta from app.bin, {len(made)} bytes, {len(made) / 1000:.1f} % of 100000\n"
    )
    assert len(made) < 1000
    bare = gzip.decompress(made)
    assert bare[:64] == bytes.fromhex("10decdfc") + APP[-32:] + NEW[-32:-4]
    # As detools itself applies it.
    out = io.BytesIO()
    detools.apply_patch(io.BytesIO(APP), io.BytesIO(bare[64:]), out)
    assert out.getvalue() == NEW


def test_a_signature_is_no_part_of_the_base(keys):
    signed = [sbv2.sign(APP, [load_private(keys.private(k))]) for k in ("p256", "rsa")]
    made = delta.make(signed[0], NEW)
    for base in (*signed, APP):
        assert delta.opened(made, base) == NEW


@pytest.mark.parametrize("what", ["inspect", "verify", "push"])
def test_what_is_said_of_a_delta(command, pair, what):
    old, _, path = pair
    name = APP[-32:].hex()
    if what == "inspect":
        code, out, _ = command("inspect", path)
        assert code == 0
        assert "makes an image of 100000 bytes" in out and name in out
        return
    if what == "push":
        code, _, err = command("push", path, "--port", "/dev/null")
        assert code == 2 and f"SHA-256 {name}: give that with --from" in err
        code, _, err = command("push", path, "--from", old.with_name("new.bin"))
        assert code == 1 and f"SHA-256 {name}, the base has {NEW[-32:].hex()}" in err
        return
    assert command("verify", path)[0] == 1
    assert command("verify", path, "--from", old.with_name("new.bin"))[0] == 1
    code, out, _ = command("verify", path, "--from", old)
    assert code == 0 and "a device takes this file" in out


def test_a_delta_is_encrypted(command, pair, keys):
    old, _, path = pair
    out = old.with_name("delta.enc")
    assert command("encrypt", path, "--key", keys.public("p256"), "-o", out)[0] == 0
    args = ["--decrypt-key", keys.private("p256"), "--from", old]
    assert command("verify", out, *args)[0] == 0


def test_bases_that_can_not_be(command, pair):
    _, new, path = pair
    bare = new.with_name("bare.bin")
    bare.write_bytes(images.app_image(hash_appended=False))
    for base, words in (
        (bare, "no SHA-256 at its end"),
        (path, "the application can't be used"),
        (new.with_name("none"), "cannot read"),
    ):
        code, _, err = command("pack", new, "--from", base)
        assert code == 2 and words in err and str(base) in err


def test_damaged_deltas(pair):
    bare = gzip.decompress(pair[2].read_bytes())
    for bad in (
        bare[:64],
        bare[:-5],
        bare[:40] + b"x" + bare[41:],
        bare[:64] + b"\x11" + bare[65:],
        bare[:65] + b"\xff" * 9,
    ):
        with pytest.raises(ToolError):
            delta.opened(bad, APP)


def test_without_detools(command, pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "detools", None)
    code, _, err = command("pack", pair[1], "--from", pair[0])
    assert code == 2 and "pip install detools" in err
    assert command("pack", pair[1])[0] == 0
