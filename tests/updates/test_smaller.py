"""A fleet whose releases are compressed, and deltas: each board takes the shortest form that it can, or the next."""

import json
import shutil

import encfiles
import images
import pytest
import simflash
from board import VALID, Board
from built import ROOT
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from https_ota_tools import cli, delta, packed, sbv2

CODE = images.app_image(size=80_000, seed=1, like_code=True)[400:]
OLD, OLDER = images.changed(CODE, 1, "1.0.0", 0), images.changed(CODE, 4, "0.9.0", 3)


class Fleet:
    """A folder on a server, with release 8: the image, compressed, and as deltas to OLD and OLDER."""

    def __init__(self, www, keys, url, sealed=False):
        self.www, self.keys, self.url = www, keys, url
        key = load_pem_private_key(keys.private("p256").read_bytes(), None)
        self.new = sbv2.sign(images.changed(CODE, 2), [key])
        public = load_pem_public_key(keys.public("p256").read_bytes())
        files = {
            "app.bin": self.new,
            "app.gz": packed.pack(self.new),
            "old.gz": delta.make(OLD, self.new),
            "older.gz": delta.make(OLDER, self.new),
        }
        args = []
        for name, data in files.items():
            (www / name).write_bytes(data)
            args += [
                "--file" if name == "app.bin" else "--packed" if name == "app.gz" else "--delta"
            ]
            args += [f"{www / name}"]
            if sealed:
                (www / f"{name}.enc").write_bytes(encfiles.write(data, public))
                args[-1] += f",encrypted={www / name}.enc"
        args += ["--release", "8", "--sign", str(keys.private("p256")), "-o", str(www / "m.json")]
        assert cli.main(["manifest", *args]) == 0
        # The SIM's clock and the certificate's are of today.
        assert json.loads((www / "m.json").read_bytes())["files"][0]["deltas"][1]["bytes"] < 5000

    def code(self, **options):
        given = "".join(f", {name}={value}" for name, value in options.items())
        digest = self.keys.digests["p256"]
        return (
            f"import https_ota\nprint(https_ota.update_from({self.url('m.json')!r}, "
            f"cadata=open('ca.pem').read(), trusted_keys={digest!r}{given}))"
        )


@pytest.fixture
def fleet(www, keys, nginx):
    return Fleet(www, keys, nginx.url)


def board_with(folder, root, image, build="sim"):
    (folder / "ca.pem").write_bytes(root.pem)
    board = Board(simflash.make_flash(folder / "flash.bin", image), build)
    board.running()
    return board


def asked(nginx):
    """The files that were asked for behind the manifest and its signature, and their statuses."""
    return [
        (r.path.rpartition("/")[2], r.status) for r in nginx.requests() if "m.json" not in r.path
    ]


def follow(board, fleet, **env):
    assert "2.0.0" in board.run(fleet.code(), **env)
    assert board.flash.read_bytes()[0x190000:][: len(fleet.new)] == fleet.new


@pytest.mark.parametrize(
    ("runs", "takes"),
    [(OLD, "old.gz"), (OLDER, "older.gz"), (images.app_image(version="1.0.0"), "app.gz")],
)
def test_the_shortest_that_fits(tmp_path, root, fleet, nginx, runs, takes):
    board = board_with(tmp_path, root, runs)
    follow(board, fleet)
    assert asked(nginx) == [(takes, 200)]
    board.run("import https_ota\nhttps_ota.confirm()")
    assert board.running() == ("2.0.0", "ota_1", VALID)
    assert board.run(fleet.code()) == "None\n"


def test_with_a_small_tls_buffer(tmp_path, root, fleet, nginx):
    follow(board_with(tmp_path, root, OLD, "sim-tls4k"), fleet)
    assert {name for name, _ in asked(nginx)} == {"old.gz"}


def spoil(path, how):
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "flipped":
        data[len(data) // 2] ^= 1
    elif how == "cut":
        del data[-50:]
    elif how == "another":
        data = packed.pack(images.app_image(size=20_000, version="2.0.0"))
    elif how == "text":
        data = b"<html>not here</html>" * 50
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "flipped", "cut", "another", "text"])
def test_what_is_no_good_is_passed_over(tmp_path, root, fleet, nginx, www, how):
    """For a reason of its own: the next shorter one, at last the image as it is."""
    board = board_with(tmp_path, root, OLD)
    start = board.flash.read_bytes()
    spoil(www / "old.gz", how)
    follow(board, fleet)
    assert [name for name, _ in asked(nginx)] == ["old.gz", "app.gz"]
    board.flash.write_bytes(start)
    spoil(www / "app.gz", how)
    before = len(asked(nginx))
    follow(board, fleet)
    assert [name for name, _ in asked(nginx)][before:] == ["old.gz", "app.gz", "app.bin"]


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_what_was_no_good_is_not_fetched_again(tmp_path, root, fleet, nginx, www, how):
    """While the image itself does not come through, each poll goes straight to it; nothing else is refused by that."""
    board = board_with(tmp_path, root, OLD)
    for name in ("old.gz", "app.gz"):
        spoil(www / name, how)
    image = (www / "app.bin").read_bytes()
    (www / "app.bin").unlink()
    assert board.fail(fleet.code()).startswith("OTAError: HTTP_STATUS: ")
    assert [name for name, _ in asked(nginx)] == ["old.gz", "app.gz", "app.bin"]
    for _ in range(2):
        assert board.fail(fleet.code()).startswith("OTAError: HTTP_STATUS: ")
        assert asked(nginx)[-1] == ("app.bin", 404)
    assert len(asked(nginx)) == 5
    # Who wants it again, wants all of it.
    board.fail(fleet.code(retry_failed=True))
    assert [name for name, _ in asked(nginx)][5:] == ["old.gz", "app.gz", "app.bin"]
    # Full records are no way to forget the image.
    (www / "app.bin").write_bytes(image)
    follow(board, fleet)
    assert [name for name, _ in asked(nginx)][8:] == ["app.bin"]
    board.run("import https_ota\nhttps_ota.confirm()")
    # Another release has files of its own, under whatever names.
    fleet.new = release(fleet, www, 9, "3.0.0")
    assert "3.0.0" in board.run(fleet.code())
    assert asked(nginx)[-1] == ("app.gz", 200)


def release(fleet, www, number, version):
    """Publish another release, compressed only, in the place of the first; return its image."""
    key = load_pem_private_key(fleet.keys.private("p256").read_bytes(), None)
    new = sbv2.sign(images.changed(CODE, number, version), [key])
    (www / "app.bin").write_bytes(new)
    (www / "app.gz").write_bytes(packed.pack(new))
    args = [
        "--file",
        str(www / "app.bin"),
        "--packed",
        str(www / "app.gz"),
        "--release",
        str(number),
    ]
    args += ["--sign", str(fleet.keys.private("p256")), "-o", str(www / "m.json")]
    assert cli.main(["manifest", *args]) == 0
    return new


def test_what_may_pass_is_tried_again(tmp_path, root, fleet, nginx, www):
    """A file that is missing, a page in its place, want of memory: the next time it may be there."""
    board = board_with(tmp_path, root, OLD)
    (www / "app.bin").unlink()
    for how in ("missing", "text"):
        kept = {name: (www / name).read_bytes() for name in ("old.gz", "app.gz")}
        for name in kept:
            spoil(www / name, how)
        before = len(asked(nginx))
        for _ in range(2):
            board.fail(fleet.code())
        assert [name for name, _ in asked(nginx)][before:] == ["old.gz", "app.gz", "app.bin"] * 2
        for name, data in kept.items():
            (www / name).write_bytes(data)
    follow(board, fleet)
    assert asked(nginx)[-1] == ("old.gz", 200)


def test_few_are_remembered(tmp_path, root, fleet, nginx, www):
    """The last ones; a full or broken store stops nothing."""
    board = board_with(tmp_path, root, OLD)
    said = board.run(
        "from https_ota import OTAError\nfrom https_ota.fleet.manifest import Decision\n"
        "from https_ota.fleet.smaller import pass_over, shorter\nfrom https_ota.flash import nvs\n"
        "d = Decision(0, '')\nd.sha256 = bytes(32)\n"
        "d.smaller = [(n, 'https://h/%d?X-Amz-Signature=%d' % (n, n), None) for n in range(9)]\n"
        "for code in range(100):\n"
        "    known = [OTAError.SEGMENTS, OTAError.TRUNCATED, OTAError.CHECKSUM, OTAError.DIGEST, OTAError.SIZE, OTAError.TAG]\n"
        "    nvs.drop('smaller')\n"
        "    if pass_over(d, d.smaller[0][1], code):\n"
        "        assert (len(shorter(d, False)) == 8) == (code in known), code\n"
        "for _, url, _ in d.smaller:\n"
        "    assert pass_over(d, url, OTAError.DIGEST)\n"
        "assert len(shorter(d, True)) == 9\n"
        "assert [u[:11] for u in shorter(d, False)] == ['https://h/%d' % n for n in range(3)]\n"
        "d.smaller = [(8, 'https://h/8?X-Amz-Signature=other', None)]\n"
        "print(shorter(d, False))\n"
        "nvs.put('smaller', bytes(100))\n"
        "print(len(shorter(d, False)))\n"
        "nvs.put('smaller', b'x' * 13)\n"
        "print(len(shorter(d, False)))"
    )
    assert said == "[]\n1\n1\n"


def test_a_failure_of_the_image_is_one(tmp_path, root, fleet, www, nginx):
    """And what somebody's check() raises is not of the file: it is not fetched in all its forms."""
    board = board_with(tmp_path, root, OLD)
    assert board.fail(fleet.code(check="lambda info: 1 // 0")).startswith("ZeroDivisionError")
    assert asked(nginx) == [("old.gz", 200)]
    for name in ("old.gz", "app.gz"):
        spoil(www / name, "another")
    spoil(www / "app.bin", "text")
    assert board.fail(fleet.code()).startswith("OTAError: NOT_AN_IMAGE: ")


@pytest.mark.parametrize(("without", "takes"), [("patch", "app.gz"), ("inflate", "app.bin")])
def test_a_build_without_the_slices(tmp_path, root, fleet, nginx, without, takes):
    """It takes what it can, and asks for nothing else."""
    lib = tmp_path / "lib" / "https_ota"
    shutil.copytree(ROOT / "lib" / "https_ota", lib)
    (lib / "pack" / f"{without}.py").unlink()
    if without == "inflate":
        shutil.rmtree(lib / "pack")
    follow(board_with(tmp_path, root, OLD), fleet, MICROPYPATH=f"{tmp_path}/lib:.frozen")
    assert asked(nginx) == [(takes, 200)]


def test_encrypted(tmp_path, root, www, keys, nginx):
    fleet = Fleet(www, keys, nginx.url, sealed=True)
    board = board_with(tmp_path, root, OLD)
    board.run(fleet.code(decrypt=keys.opener("p256")))
    assert board.flash.read_bytes()[0x190000:][: len(fleet.new)] == fleet.new
    assert asked(nginx) == [("old.gz.enc", 200)]
