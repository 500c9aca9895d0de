"""Deltas, as `https-ota pack --from` and detools itself make them, from a server and from files."""

import gzip
import hashlib
import io
import subprocess
import zlib

import detools
import encfiles
import images
import pytest
import servers
import simflash
from board import VALID, Board
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cutting import CUT, cut_everywhere
from hypothesis import given, settings
from hypothesis import strategies as st
from kept import KEPT, steady
from proxy import Proxy

from https_ota_tools import delta, packed, sbv2
from https_ota_tools.errors import ToolError

SLOT = 0x190000
SIZE = 150_000


CODE = images.app_image(size=SIZE, seed=1, like_code=True)[400:]
OLD = images.changed(CODE, 1, "1.0.0", 0)
NEW = images.changed(CODE, 2)
DELTA = delta.make(OLD, NEW)


@pytest.fixture
def board(tmp_path, root):
    return with_old(tmp_path, root)


def with_old(folder, root, build="sim", old=OLD):
    (folder / "ca.pem").write_bytes(root.pem)
    board = Board(simflash.make_flash(folder / "flash.bin", old), build)
    board.running()
    return board


def held(board, new=NEW):
    return board.flash.read_bytes()[SLOT : SLOT + len(new)]


def install(board, data):
    (board.flash.parent / "came").write_bytes(data)
    return board.run("import https_ota\nprint(https_ota.install('came'))")


def refusal(board, data):
    """The error of a file that must be refused, and whether the slot was changed."""
    (board.flash.parent / "came").write_bytes(data)
    before = held(board)
    return board.refuse_file("came"), held(board) != before


def test_sizes():
    assert len(DELTA) < len(packed.pack(NEW)) / 5


@pytest.mark.parametrize("build", ["sim", "sim-tls4k"])
def test_over_tls(tmp_path, root, www, nginx, build):
    """The bytes counted at the server; size and digest are the new image's."""
    board = with_old(tmp_path, root, build)
    (www / "delta.gz").write_bytes(DELTA)
    digest = hashlib.sha256(NEW).hexdigest()
    board.update(nginx.url("delta.gz"), size=len(NEW), sha256=digest)
    assert held(board) == NEW
    assert sum(r.sent for r in nginx.requests()) == len(DELTA)
    board.run("import https_ota\nhttps_ota.confirm()")
    assert board.running() == ("2.0.0", "ota_1", VALID)
    # And from there on it is known.
    assert board.update(nginx.url("delta.gz")) == "None\n"
    assert nginx.requests()[-1].status == 304


def test_from_a_file_and_beside_other_tasks(board, www, nginx):
    fresh = board.flash.read_bytes()
    assert "2.0.0" in install(board, DELTA)
    assert held(board) == NEW
    board.flash.write_bytes(fresh)
    (www / "delta.gz").write_bytes(DELTA)
    board.update(nginx.url("delta.gz"), aio=True)
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("wrap", ["bare", "gzip", "zlib", "bgzip"])
def test_however_it_is_compressed(board, tmp_path, wrap):
    bare = packed.unpack(DELTA).data
    if wrap == "bgzip":
        (tmp_path / "x").write_bytes(bare)
        subprocess.run(["bgzip", tmp_path / "x"], check=True)
        data = (tmp_path / "x.gz").read_bytes()
    else:
        data = {"bare": bytes, "gzip": gzip.compress, "zlib": zlib.compress}[wrap](bare)
    install(board, data)
    assert held(board) == NEW


def test_signed(board, www, nginx, keys):
    """The signature is of the new image; that of the old one is no part of what the delta is to."""
    key = load_pem_private_key(keys.private("rsa").read_bytes(), None)
    signed = sbv2.sign(NEW, [key])
    (www / "delta.gz").write_bytes(delta.make(sbv2.sign(OLD, [key]), signed))
    (www / "bare.gz").write_bytes(DELTA)
    digest = keys.digests["rsa"]
    assert board.refuse(nginx.url("bare.gz"), trusted_keys=digest).startswith("OTAError: UNSIGNED")
    board.update(nginx.url("delta.gz"), trusted_keys=digest)
    assert held(board, signed) == signed


def test_encrypted(board, www, nginx, keys):
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (www / "delta.enc").write_bytes(encfiles.write(DELTA, public))
    code = board.code(nginx.url("delta.enc"))[:-2] + f", decrypt={keys.opener('p256')}))"
    board.run(code)
    assert held(board) == NEW


# -- what it is not for


def test_another_base(board, tmp_path, root):
    """Told before the first erase: which image it needs, which one is there."""
    other = images.changed(CODE, 5, "1.0.0")
    said, erased = refusal(board, delta.make(other, NEW))
    assert not erased
    digests = [image[-32:][:8].hex() for image in (other, OLD)]
    assert said == (
        f"OTAError: BASE: the delta is for the image with SHA-256 {digests[0]}..., ota_0 holds one with {digests[1]}..."
    )
    # Of the same version, and of the same content but for one byte.
    twin = bytearray(OLD)
    twin[5000] ^= 1
    said, erased = refusal(board, delta.make(images.seal(twin), NEW))
    assert (said[:15], erased) == ("OTAError: BASE:", False)


def test_base_without_a_digest(tmp_path, root):
    bare = images.app_image(size=40_000, hash_appended=False)
    board = with_old(tmp_path, root, old=bare)
    assert refusal(board, DELTA) == (
        f"OTAError: BASE: the delta is for the image with SHA-256 {OLD[-32:][:8].hex()}..., ota_0 holds one with ...",
        False,
    )


def test_too_large_for_the_slot(board):
    bare = bytearray(packed.unpack(DELTA).data)
    big = images.app_image(size=0x190000, version="2.0.0", seed=3)
    said, erased = refusal(board, delta.make(OLD, big))
    assert (said[:18], erased) == ("OTAError: TOO_BIG:", False)
    # One that says so, and one that makes more than it says.
    for size in (b"\xbf\xff\xff\x7f", b"\x80\x01"):
        n = 1
        while bare[64 + n] & 128:
            n += 1
        said, erased = refusal(board, bytes(bare[:65] + size + bare[65 + n :]))
        assert not erased
        assert said.startswith(("OTAError: TOO_BIG:", "OTAError: CHECKSUM", "OTAError: TRUNCATED"))


def test_damage_never_leads_to_a_switch(board, tmp_path):
    """A flipped bit in each region, bare and compressed; cuts; more behind it."""
    bare = packed.unpack(DELTA).data
    bad = {}
    ends = [i for i in range(1, len(DELTA)) if DELTA[i:].startswith(b"\x1f\x8b\x08\x04\0\0\0\0")]
    sizes = {end - n for end in [*ends, len(DELTA)] for n in (1, 2, 3, 4)}
    for kind, data in (("bare", bare), ("packed", DELTA)):
        for at in (
            *range(80),
            *range(80, len(data), len(data) // 60),
            len(data) - 40,
            len(data) - 30,
        ):
            if kind == "packed" and 3 < at < 12:
                continue  # time and system
            flipped = bytearray(data)
            flipped[at] ^= 1 << at % 8
            bad[f"{kind}-{at}"] = bytes(flipped)
        for n in (50, 300, len(data) // 2, len(data) - 60):
            bad[f"{kind}-cut-{n}"] = data[:n]
        bad[f"{kind}-more"] = data + bytes(10)
    (tmp_path / "all").mkdir()
    for name, content in bad.items():
        (tmp_path / "all" / name).write_bytes(content)
    said = board.run(
        "import https_ota, os\n"
        "for name in os.listdir('all'):\n"
        "    try:\n"
        "        https_ota.install('all/' + name)\n"
        "        print(name, 0)\n"
        "    except https_ota.OTAError as e:\n"
        "        print(name, e.code)\n"
    )
    codes = dict(line.split() for line in said.splitlines())
    assert len(codes) == len(bad)
    # What is not looked at changes nothing that is made: reserved bytes, times, sizes of members.
    for name in (name for name, code in codes.items() if code == "0"):
        try:
            assert delta.opened(bad[name], OLD) == NEW, name
        except ToolError:
            kind, at = name.split("-")
            assert 36 <= int(at) < 64 if kind == "bare" else int(at) in sizes, name
    assert board.running().version in ("1.0.0", "2.0.0")


def test_bomb(board):
    """64 MB behind the patch's end are not unpacked."""
    bomb = zlib.compress(packed.unpack(DELTA).data + bytes(1 << 26))
    assert len(bomb) < 200_000
    said, _ = refusal(board, bomb)
    assert "goes on behind its end" in said


# -- any images


@settings(max_examples=25)
@given(st.integers(0, 1 << 30), st.integers(1, 120), st.integers(2_000, 60_000))
def test_any_pair(pair_board, seed, places, size):
    """patch(base, delta) = new, by detools and by the board."""
    code = images.app_image(size=size + 1000, seed=seed % 7, like_code=bool(seed & 1))[400:]
    old, new = (
        images.changed(code, seed, "1.0.0", 0),
        images.changed(code, seed + 1, "2.0.0", places),
    )
    made = delta.make(old, new, 512 << seed % 7)
    assert delta.opened(made, old) == new
    folder = pair_board
    (folder / "came").write_bytes(made)
    board = Board(simflash.make_flash(folder / "flash.bin", old), "sim64")
    board.run("import https_ota\nhttps_ota.install('came')")
    assert held(board, new) == new


@pytest.fixture(scope="module")
def pair_board(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


def test_patches_of_detools_with_its_other_suffix_array(board):
    patch = io.BytesIO()
    detools.create_patch(
        io.BytesIO(OLD), io.BytesIO(NEW), patch, compression="none", suffix_array_algorithm="sais"
    )
    head = delta.MAGIC + OLD[-32:] + bytes(28)
    install(board, head + patch.getvalue())
    assert held(board) == NEW


@pytest.mark.parametrize("build", ["sim", "sim64"])
def test_espressifs_own(tmp_path, root, www, nginx, build):
    """As the generator of esp_delta_ota makes them: by heatshrink, 8 and 7."""
    board = with_old(tmp_path, root, build)
    patch = io.BytesIO()
    detools.create_patch(
        io.BytesIO(OLD),
        io.BytesIO(NEW),
        patch,
        compression="heatshrink",
        heatshrink_window_sz2=8,
        heatshrink_lookahead_sz2=7,
    )
    made = delta.MAGIC + OLD[-32:] + bytes(28) + patch.getvalue()
    assert delta.opened(made, OLD) == NEW
    (www / "delta").write_bytes(made)
    board.update(nginx.url("delta"))
    assert held(board) == NEW


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzma"},
        {"compression": "crle"},
        {"patch_type": "in-place", "memory_size": 1 << 20, "segment_size": 4096},
    ],
)
def test_other_patches_are_refused(board, options):
    patch = io.BytesIO()
    detools.create_patch(
        io.BytesIO(OLD), io.BytesIO(NEW), patch, **{"compression": "none"} | options
    )
    said, erased = refusal(board, delta.MAGIC + OLD[-32:] + bytes(28) + patch.getvalue())
    assert (said[:19], erased) == ("OTAError: CHECKSUM:", False)


# -- broken off


def test_after_a_power_cut_it_begins_anew_and_erases_nothing_twice(board, www, nginx):
    (www / "delta.gz").write_bytes(DELTA)
    url = nginx.url("delta.gz")
    assert board.start(board.code(url), SIM_CUT="40").returncode == CUT
    seen = board.run(
        "import https_ota\nfrom https_ota import events\nseen = []\n"
        f"https_ota.update({url!r}, cadata=open('ca.pem').read(), event=lambda e, v: seen.append(e))\n"
        "print(seen.count(events.SKIPPED), seen.count(events.WRITE_FLASH))"
    ).split()
    assert held(board) == NEW
    assert int(seen[0]) > 30 and int(seen[0]) + int(seen[1]) == -(-len(NEW) // 4096)


@pytest.mark.parametrize("request_size", [0, 4096])
def test_cut_in_every_operation(tmp_path, root, www, request_size):
    small = images.changed(CODE[:60_000], 2)
    made = delta.make(images.changed(CODE[:60_000], 1, "1.0.0", 0), small)
    (www / "delta.gz").write_bytes(made)
    start = with_old(tmp_path, root, old=images.changed(CODE[:60_000], 1, "1.0.0", 0)).flash
    with servers.Nginx(www) as plain:
        cuts = cut_everywhere(
            start,
            tmp_path,
            plain.url("delta.gz"),
            lambda: sum(r.sent for r in plain.requests()),
            len(made),
            request_size=request_size,
        )
    assert cuts > 30


@pytest.mark.parametrize("build", ["sim", "sim-tls4k"])
def test_connection_cut_before_every_record(tmp_path, root, www, nginx, build):
    (www / "delta.gz").write_bytes(DELTA)
    board = with_old(tmp_path, root, build)
    start = board.flash.read_bytes()
    cuts = 0
    with Proxy(nginx) as proxy:
        while True:
            board.flash.write_bytes(start)
            proxy.cut_at, proxy.records = cuts + 1, 0
            board.update(proxy.url("delta.gz"))
            assert held(board) == NEW, f"{cuts + 1}"
            if not proxy.was_cut:
                break
            cuts += 1
    assert cuts > 5


def test_file_that_changed_to_one_of_another_kind(board, www, nginx):
    """The record is of the compressed image, and there is a delta now, in the middle of it and from its beginning."""
    (www / "x").write_bytes(packed.pack(NEW))
    url = nginx.url("x")
    assert board.start(board.code(url), SIM_CUT="40").returncode == CUT
    (www / "x").write_bytes(DELTA)
    board.update(url)
    assert held(board) == NEW


# -- memory


def test_a_delta_keeps_at_most_8_kib_more(board, tmp_path):
    (tmp_path / "plain").write_bytes(NEW)
    (tmp_path / "delta").write_bytes(DELTA)
    code = "import https_ota.pack.inflate, https_ota.pack.patch, https_ota.pack.kinds, https_ota.ota\n"
    plain, more = (
        int(board.run(code + KEPT.format(path=name, options=""))) for name in ("plain", "delta")
    )
    assert more - plain <= 8192


def test_a_member_is_all_that_is_allocated_for(tmp_path, root, www, nginx):
    code = images.app_image(size=400_000, seed=1, like_code=True)[400:]
    old, new = images.changed(code, 1, "1.0.0", 0), images.changed(code, 2, places=300)
    board = with_old(tmp_path, root, old=old)
    (www / "delta.gz").write_bytes(delta.make(old, new))
    allocated = int(board.run(steady(nginx.url("delta.gz"), False)))
    # As many bytes of a patch as of the image.
    assert 0 < allocated <= 8 * 2800
