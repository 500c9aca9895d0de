"""Whatever kind of file an image comes in, all that an update says and does is as with the image itself."""

import hashlib
import random

import encfiles
import images
import pytest
import simflash
from board import PENDING_VERIFY, VALID, Board
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from faults import FaultServer, head
from forms import MAKE, regions

from https_ota_tools import delta, sbv2

SLOT = 0x190000
CODE = images.app_image(size=60_000, seed=1, like_code=True)[400:]
OLD = images.changed(CODE, 1, "1.0.0", 0)
NEW = images.changed(CODE, 2)


FILES = {kind: make(OLD, NEW) for kind, make in MAKE.items()}
DELTAS = ["delta", "bare delta", "esp_delta_ota"]
kinds = pytest.mark.parametrize("kind", FILES)
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"
HTTP = {"cadata": None, "insecure": True}


@pytest.fixture
def board(tmp_path, root):
    (tmp_path / "ca.pem").write_bytes(root.pem)
    board = Board(simflash.make_flash(tmp_path / "flash.bin", OLD))
    board.running()
    return board


def held(board, new=NEW):
    return board.flash.read_bytes()[SLOT : SLOT + len(new)]


def confirm(board):
    board.run("import https_ota\nhttps_ota.confirm()")
    assert board.running() == ("2.0.0", "ota_1", VALID)


# -- asked again


@kinds
@pytest.mark.parametrize("knows", ["etag", "date", "neither", "a new etag"])
def test_each_night(board, kind, knows):
    """Installed, confirmed; the next nights nothing is new, whatever the server tells, if what comes can tell."""
    with FaultServer(FILES[kind], {}, etag='"v1"' if "etag" in knows else "") as server:
        if knows == "date":
            server.faults = {0: head(Last_Modified=DATE)}
        url = server.url("x")
        assert "2.0.0" in board.update(url, **HTTP)
        confirm(board)
        if knows == "a new etag":
            server.etag = '"v2"'
        # A file says nothing of what it is to who has no record of it: it is installed once more, except for a delta.
        told = knows in ("etag", "date") or "delta" in kind
        if kind == "esp_delta_ota" and knows in ("neither", "a new etag"):
            assert board.refuse(url, **HTTP).startswith("OTAError: BASE: ")
            return
        flash = board.flash.read_bytes()[SLOT:], board.boots_from()
        for _ in range(2):
            said = board.update(url, **HTTP)
            assert (said == "None\n") == told, said
            if not told:
                return
        assert (board.flash.read_bytes()[SLOT:], board.boots_from()) == flash


@pytest.mark.parametrize("kind", DELTAS[:2])
@pytest.mark.parametrize(
    "how", ["no records", "resume", "aio", "another name", "file", "step by step"]
)
def test_a_delta_to_what_ran_before(board, kind, how):
    """It is not installed, and no error, wherever it comes from."""
    with FaultServer(FILES[kind], {}, etag="") as server:
        board.update(server.url("x"), **HTTP)
        confirm(board)
        flash = bytearray(board.flash.read_bytes())
        options = dict(HTTP)
        if how == "no records":
            flash[0x9000:0xD000] = b"\xff" * 0x4000
            board.flash.write_bytes(flash)
        elif how == "resume":
            options["resume"] = False
        elif how == "aio":
            options["aio"] = True
        if how == "file":
            (board.flash.parent / "came").write_bytes(FILES[kind])
            said = board.run("import https_ota\nprint(https_ota.install('came'))")
        elif how == "step by step":
            said = board.run(
                f"import https_ota\nwith https_ota.OTA({server.url('x')!r}, insecure=True) as ota:\n"
                "    print(ota.begin())\n    assert ota.refusal is None and ota.info.version == '2.0.0'\n"
            )
        else:
            said = board.update(server.url("y"), **options)
        assert said == "None\n"
    assert board.running() == ("2.0.0", "ota_1", VALID)


def test_another_delta_is_an_error_as_ever(board):
    """One to a release that never ran here, and makes another one."""
    with FaultServer(FILES["delta"], {}, etag="") as server:
        board.update(server.url("x"), **HTTP)
        confirm(board)
        server.data = delta.make(
            images.changed(CODE, 5, "1.5.0"), images.changed(CODE, 6, "3.0.0")
        )
        assert board.refuse(server.url("x"), **HTTP).startswith("OTAError: BASE: ")
        # The next one is for this board.
        third = images.changed(CODE, 6, "3.0.0")
        server.data = delta.make(NEW, third)
        assert "3.0.0" in board.update(server.url("x"), **HTTP)
    assert board.flash.read_bytes()[0x10000:][: len(third)] == third


@kinds
@pytest.mark.parametrize("etag", ['"v1"', ""], ids=["etag", "no etag"])
def test_after_a_rollback(board, kind, etag):
    """It is not installed again, but for who wants it."""
    with FaultServer(FILES[kind], {}, etag=etag) as server:
        url = server.url("x")
        board.update(url, **HTTP)
        assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
        assert board.running() == ("1.0.0", "ota_0", VALID)
        for _ in range(2):
            assert board.refuse(url, **HTTP).startswith("OTAError: FAILED_BEFORE: ")
        assert "2.0.0" in board.update(url, retry_failed=True, **HTTP)
        confirm(board)
        if etag or "delta" in kind[-5:]:
            assert board.update(url, retry_failed=True, **HTTP) == "None\n"


@kinds
@pytest.mark.parametrize("etag", ['"v1"', ""], ids=["etag", "no etag"])
def test_before_the_reset(board, kind, etag):
    """Asked again, taken back, asked again: it stays, it goes, it comes back without a download."""
    with FaultServer(FILES[kind], {}, etag=etag) as server:
        url = server.url("x")
        text = board.code(url, **HTTP) + "\n"
        said = board.run(text + text + "assert https_ota.cancel()\n" + text)
        # Whether it is told or comes again: it is there.
        assert said.count("2.0.0") == 3
        if etag:
            assert sum(b"If-None-Match" in r for r in server.requests) == 2
        assert held(board) == NEW
        confirm(board)


@kinds
def test_manifests_way(board, kind):
    """With size and SHA-256 of the image: what runs is seen before anything is asked for."""
    options = {"size": len(NEW), "sha256": hashlib.sha256(NEW).hexdigest(), **HTTP}
    with FaultServer(FILES[kind], {}, etag="") as server:
        text = board.code(server.url("x"), **options) + "\n"
        assert board.run(text + text).count("2.0.0") == 2
        confirm(board)
        assert board.run(text) == "None\n"
        assert len(server.requests) == 1
    for wrong, code in (({"size": len(NEW) + 16}, "SIZE"), ({"sha256": bytes(32)}, "DIGEST")):
        board.flash.unlink()
        board = Board(simflash.make_flash(board.flash, OLD))
        board.running()
        with FaultServer(FILES[kind], {}) as server:
            assert board.refuse(server.url("x"), **{**options, **wrong}).startswith(
                f"OTAError: {code}: "
            )


# -- what is asked, told and counted


@kinds
@pytest.mark.parametrize("buffer", [None, 65536])
def test_what_is_told_on_the_way(board, kind, buffer):
    """Sizes, positions and events are those of the image."""
    with FaultServer(FILES[kind], {}) as server:
        said = board.run(
            f"import https_ota\nseen, events = [], []\nNEW = {len(NEW)}\n"
            f"ota = https_ota.OTA({server.url('x')!r}, insecure=True, progress=lambda *x: seen.append(x),\n"
            f"    event=lambda e, v: events.append(e), buffer={buffer} and bytearray({buffer}))\n"
            "assert ota.image_size is None and ota.image_len_read == 0\n"
            "info = ota.begin()\n"
            "print(info.version, ota.image_size, info.size, ota.status_code, ota.is_complete_data_received(), ota.slot)\n"
            "assert 0 <= ota.image_len_read <= 1024\n"
            "while ota.perform():\n    assert ota.image_len_read == seen[-1][0]\n"
            "assert ota.image_len_read == NEW and ota.is_complete_data_received()\n"
            "ota.finish()\n"
            "step = buffer = len(seen) > 2 and 4096 or 65536\n"
            "assert [s[0] for s in seen] == [min(i + step, NEW) for i in range(0, NEW, step)], seen\n"
            "print({s[1] for s in seen}, events[:5], len(events))\n"
        ).split("\n")
    total = None if kind in ("gzip", "zlib") else len(NEW)
    assert said[0] == f"2.0.0 {total} {total} 200 False ota_1"
    writes = -(-len(NEW) // (buffer or 4096))
    # START, CONNECTED, GET_IMG_DESC, VERIFY_CHIP_ID, VERIFY_CHIP_REVISION; UPDATE_BOOT_PARTITION, FINISH
    assert said[1] == f"{{{total}}} [0, 1, 2, 3, 4] {5 + writes + 2}", said[1]
    assert held(board) == NEW


@kinds
def test_who_decides_is_asked(board, kind):
    """check= with what would be installed, before the first erase; none of the board's own rules is passed by."""
    with FaultServer(FILES[kind], {}) as server:
        url = server.url("x")
        code = "import https_ota\nprint(https_ota.update({!r}, insecure=True, check={}))".format
        said = board.run(code(url, "lambda info: print(info.version, info.size) or False"))
        size = None if kind in ("gzip", "zlib") else len(NEW)
        assert said == f"2.0.0 {size}\nNone\n"
        assert board.fail(code(url, "lambda info: 1 // 0")).startswith("ZeroDivisionError")
        assert board.run(code(url, "[https_ota.same_project, https_ota.newer_only]"))
        assert held(board) == NEW
        board.run("import https_ota\nhttps_ota.cancel()")
    for made, code in (
        (images.changed(CODE, 3, "0.9.0"), "VERSION"),
        (
            images.app_image(size=60_000, version="2.0.0", chip_id=images.CHIP_IDS["esp32s3"]),
            "CHIP",
        ),
        (images.app_image(size=60_000, version="2.0.0", min_rev=399), "CHIP_REVISION"),
    ):
        data = MAKE[kind](OLD, made)
        with FaultServer(data, {}) as server:
            said = board.fail(
                f"import https_ota\nhttps_ota.update({server.url('x')!r}, insecure=True, check=https_ota.newer_only)"
            )
        assert said.startswith(f"OTAError: {code}: "), said


@kinds
@pytest.mark.parametrize("way", ["file", "stream", "aio", "bulk_erase", "no events"])
def test_ways_in(board, kind, way):
    (board.flash.parent / "came").write_bytes(FILES[kind])
    call = {
        "file": "https_ota.install('came')",
        # One that has nothing now and then, and gives little.
        "stream": "https_ota.update(Slow())",
        "aio": "asyncio.run(https_ota.aio.update(Slow()))",
        "bulk_erase": "https_ota.update(open('came', 'rb'), bulk_erase=True)",
        "no events": "https_ota.update(open('came', 'rb'), bulk_erase=False, verify_spi_mode=False)",
    }[way]
    said = board.run(
        "import asyncio, https_ota\n"
        "class Slow:\n"
        "    def __init__(self):\n        self.f, self.n = open('came', 'rb'), 0\n"
        "    def readinto(self, buf):\n"
        "        self.n += 1\n"
        "        if self.n % 3 == 0:\n            return None\n"
        "        return self.f.readinto(memoryview(buf)[:self.n * 37 % 501 + 1])\n"
        f"print({call})"
    )
    assert "2.0.0" in said
    assert held(board) == NEW


@kinds
def test_signed(board, keys, kind):
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)
    signed = sbv2.sign(NEW, [key])
    options = {"trusted_keys": keys.digests["p256"], **HTTP}
    with FaultServer(FILES[kind], {}) as server:
        assert board.refuse(server.url("x"), **options).startswith("OTAError: UNSIGNED: ")
        server.data, server.etag = MAKE[kind](OLD, signed), '"v2"'
        other = {**options, "trusted_keys": keys.digests["rsa"]}
        assert board.refuse(server.url("x"), **other).startswith("OTAError: UNKNOWN_KEY: ")
        board.update(server.url("x"), **options)
        assert held(board, signed) == signed
        confirm(board)
        assert board.update(server.url("x"), **options) == "None\n"


@kinds
def test_encrypted(board, keys, kind):
    public = load_pem_public_key(keys.public("p256").read_bytes())
    given = f", decrypt={keys.opener('p256')}))"
    with FaultServer(encfiles.write(FILES[kind], public), {}) as server:
        code = board.code(server.url("x"), **HTTP)[:-2] + given
        assert "2.0.0" in board.run(code)
        assert held(board) == NEW
        confirm(board)
        assert board.run(code) == "None\n"
        if "delta" in kind[-5:]:
            server.etag = ""
            assert board.run(code) == "None\n"


@kinds
def test_fetch_and_data_partitions_take_the_file(board, kind):
    """Nobody unpacks what is no firmware."""
    with FaultServer(FILES[kind], {}) as server:
        digest = hashlib.sha256(FILES[kind]).hexdigest()
        said = board.run(
            "import https_ota\ngot = bytearray()\n"
            f"n = https_ota.fetch({server.url('x')!r}, got.extend, sha256={digest!r}, insecure=True)\n"
            f"assert n == len(got) == {len(FILES[kind])}\n"
            f"print(https_ota.update({server.url('x')!r}, partition='vfs', sha256={digest!r}, insecure=True))"
        )
    assert "vfs" in said
    assert FILES[kind] in board.flash.read_bytes()


# -- bad files

EACH = """
import hashlib, os, https_ota
from esp32 import Partition
part = Partition("ota_1")
def digest(size):
    buf, h = bytearray(4096), hashlib.sha256()
    for i in range(0, size, 4096):
        part.readblocks(i // 4096, buf)
        h.update(memoryview(buf)[:size - i])
    return h.digest()
for name in sorted(os.listdir("all")):
    try:
        https_ota.install("all/" + name)
        assert https_ota.cancel()
        print(name, 0, digest({size}).hex())
    except https_ota.OTAError as e:
        print(name, e.code, Partition(Partition.BOOT).info()[4])
"""
SMALL_CODE = images.app_image(size=40_000, seed=5, like_code=True)[400:]
SMALL_OLD, SMALL = images.changed(SMALL_CODE, 1, "1.0.0", 0), images.changed(SMALL_CODE, 2)


@kinds
def test_damage_anywhere_never_leads_to_a_switch(tmp_path, root, kind):
    """A flipped bit in each region, a cut and more at each border: refused, or what came out is right all the same."""
    data = MAKE[kind](SMALL_OLD, SMALL)
    rand = random.Random(kind)
    bad = {}
    for n, (_, first, end) in enumerate(regions(data)):
        for at in sorted(rand.sample(range(first, end), min(end - first, 6))):
            flipped = bytearray(data)
            flipped[at] ^= 1 << rand.randrange(8)
            bad[f"{n:03}-flip-{at}"] = bytes(flipped)
        for at in {first, first + 1, end - 1, (first + end) // 2} - {len(data)}:
            bad[f"{n:03}-cut-{at}"] = data[:at]
        bad[f"{n:03}-less-{first}"] = data[:first] + data[end:]
        bad[f"{n:03}-twice-{first}"] = data[:end] + data[first:]
    for n, more in enumerate((b"\0", bytes(100), b"x" * 5000, data)):
        bad[f"more-{n}-0"] = data + more
    (tmp_path / "all").mkdir()
    for name, content in bad.items():
        (tmp_path / "all" / name).write_bytes(content)
    board = Board(simflash.make_flash(tmp_path / "flash.bin", SMALL_OLD))
    board.running()
    lines = board.run(EACH.format(size=len(SMALL))).splitlines()
    assert len(lines) == len(bad)
    right = hashlib.sha256(SMALL).hexdigest()
    taken = 0
    for name, code, what in map(str.split, lines):
        assert what == (right if code == "0" else "ota_0"), name
        taken += code == "0"
    # What nobody looks at: times, sizes of members, an end that may be missing.
    assert taken < len(bad) / 3
    assert board.running().version == "1.0.0"
