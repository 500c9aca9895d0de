"""Releases, from the command that makes a manifest to the board that follows it, over real servers."""

import json
import os
import random
import shutil
import time

import certs
import encfiles
import images
import keyfiles
import pytest
import servers
import simflash
from board import PENDING_VERIFY, VALID, Board, make_board
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from proxy import Proxy

from https_ota_tools import cli, release, sbv2
from https_ota_tools.errors import ToolError

CUT = 75


class Fleet:
    """A folder on a server, and the person who publishes there: m.json and app.bin, signed with the key `p256`."""

    def __init__(self, www, keys) -> None:
        self.www = www
        self.keys = keys
        self.manifest = www / "m.json"

    def publish(self, number, version, *args, kind="p256", seed=1, chip="esp32c3", sealed=False):
        """Sign an image and make its manifest; `args` go to the command."""
        app = images.app_image(
            size=60_000, version=version, seed=seed, chip_id=images.CHIP_IDS[chip]
        )
        key = load_pem_private_key(self.keys.private(kind).read_bytes(), None)
        app = sbv2.sign(app, [key])
        (self.www / "app.bin").write_bytes(app)
        file = self.www / "app.bin"
        if sealed:
            public = load_pem_public_key(self.keys.public("p256").read_bytes())
            (self.www / "app.enc").write_bytes(encfiles.write(app, public))
            file = f"{file},encrypted={self.www / 'app.enc'}"
        self.command(
            *("--file", file, "--release", number, "--sign", self.keys.private(kind)),
            *("-o", self.manifest, *args),
        )

    def command(self, *args):
        assert cli.main(["manifest", *map(str, args)]) == 0

    def options(self, kind="p256", **more):
        return {"trusted_keys": self.keys.digests[kind], **more}


@pytest.fixture
def fleet(www, keys):
    return Fleet(www, keys)


def code(what, url, decrypt="", **options):
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    if not {"cadata", "insecure", "pin"} & set(options):
        given += ", cadata=open('ca.pem').read()"
    if decrypt:
        given += f", decrypt={decrypt}"
    return f"import https_ota\nd = https_ota.{what}({url!r}{given})\n"


def check(board, url, env=None, **options):
    """The name of the reason for the decision."""
    names = "{getattr(d, n): n for n in dir(d) if n[0].isupper()}"
    return board.run(
        code("check", url, **options) + f"print({names}[d.reason])", **(env or {})
    ).strip()


def refuse(board, url, env=None, what="update_from", **options):
    before = board.boots_from()
    message = board.fail(code(what, url, **options), **(env or {}))
    assert board.boots_from() == before, "the boot selection changed"
    return message


# -- the whole way


@pytest.mark.parametrize("kind", keyfiles.KINDS)
def test_release_reaches_a_board(any_board, fleet, nginx, kind):
    fleet.publish(1, "2.0.0", kind=kind)
    url, options = nginx.url("m.json"), fleet.options(kind)
    assert check(any_board, url, **options) == "UPDATE"
    assert "test 2.0.0 for ESP32-C3" in any_board.run(
        code("update_from", url, **options) + "print(d)"
    )
    assert any_board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


def test_client_certificate_is_for_the_manifest_and_its_signature(any_board, fleet, www, root):
    """The images lie on another server, which would take it."""
    devices = certs.root(name="Devices")
    device = devices.client()
    fleet.publish(1, "2.0.0")
    nosy = "ssl_verify_client optional_no_ca; if ($ssl_client_raw_cert) { return 400; }"
    nosy += " if ($http_x_key) { return 400; } if ($http_authorization) { return 400; }"
    with (
        servers.Nginx(www, root.server(), lines=nosy) as store,
        servers.Nginx(www, root.server(), client_ca=devices.pem) as first,
    ):
        manifest = json.loads(fleet.manifest.read_bytes())
        manifest["files"][0]["url"] = store.url("app.bin")
        fleet.manifest.write_bytes(json.dumps(manifest).encode())
        key = load_pem_private_key(fleet.keys.private("p256").read_bytes(), None)
        signature = sbv2.sign_data(fleet.manifest.read_bytes(), [key])
        fleet.manifest.with_name("m.json.sig").write_bytes(signature)
        options = fleet.options(cert=device.pem, key=device.key_pem, headers={"X-Key": "k"})
        options["auth"] = ("a", "b")
        any_board.run(code("update_from", first.url("m.json"), **options) + "assert d")
        assert {r.path for r in first.requests()} == {"/m.json", "/m.json.sig"}
    assert any_board.running()[0] == "2.0.0"


def test_board_follows_one_release_after_the_other(any_board, fleet, nginx):
    url, options = nginx.url("m.json"), fleet.options()
    confirm = "import https_ota; https_ota.confirm()"
    for number, version in enumerate(("2.0.0", "2.1.0", "2.10.0"), 1):
        fleet.publish(number, version, seed=number)
        # Started once to see it run; what is on trial is lost at the next start, unless that is confirmed.
        any_board.run(code("update_from", url, **options) + "assert d")
        any_board.run(confirm)
        assert any_board.running()[::2] == (version, VALID)
        assert check(any_board, url, **options) == "UP_TO_DATE"
        assert check(any_board, url, **options) == "NOT_MODIFIED"
        any_board.run(code("update_from", url, **options) + "assert d is None")
    asked = [r.path for r in nginx.requests()]
    assert asked.count("/app.bin") >= 3


def test_images_of_one_name_size_and_time(board, fleet, nginx):
    """nginx gives them one ETag; what the manifest says of them counts."""
    url, options = nginx.url("m.json"), fleet.options()
    for number, version in enumerate(("2.0.0", "2.1.0"), 1):
        fleet.publish(number, version, seed=number)
        os.utime(fleet.www / "app.bin", (1_700_000_000, 1_700_000_000))
        board.run(code("update_from", url, **options) + "assert d")
        board.run("import https_ota; https_ota.confirm()")
        assert board.running().version == version


def test_encrypted_release(any_board, fleet, nginx, keys):
    fleet.publish(1, "2.0.0", sealed=True)
    url, options = nginx.url("m.json"), fleet.options()
    assert "DECRYPT_KEY: the image is encrypted" in refuse(any_board, url, **options)
    any_board.run(code("update_from", url, decrypt=keys.opener("p256"), **options) + "assert d")
    assert any_board.running().version == "2.0.0"


def test_plain_release_for_boards_that_decrypt(board, fleet, nginx, keys):
    fleet.publish(1, "2.0.0")
    message = refuse(board, nginx.url("m.json"), decrypt=keys.opener("p256"), **fleet.options())
    assert "NOT_ENCRYPTED" in message
    assert "/app.bin" not in [r.path for r in nginx.requests()]


def test_unsigned_release(board, www, nginx):
    (www / "app.bin").write_bytes(images.app_image(version="2.0.0", seed=4))
    make = f"manifest --file {www}/app.bin --release 1 -o {www}/m.json"
    assert cli.main(make.split()) == 0
    url = nginx.url("m.json")
    message = refuse(board, url, trusted_keys="00" * 32)
    assert "UNSIGNED: expected the manifest's signature at" in message
    board.run(code("update_from", url) + "assert d")
    assert board.running().version == "2.0.0"


def test_image_without_a_signature(board, fleet, nginx, keys):
    """Refused with the keys of the manifest, unless its signature alone is to vouch for the image."""
    (fleet.www / "app.bin").write_bytes(images.app_image(version="2.0.0", seed=4))
    fleet.command(
        *("--file", fleet.www / "app.bin", "--release", 1, "-o", fleet.manifest),
        *("--unsigned-images", "--sign", keys.private("p256")),
    )
    url, options = nginx.url("m.json"), fleet.options()
    assert "UNSIGNED: expected a signature sector" in refuse(board, url, **options)
    board.run(code("update_from", url, image_keys=None, **options) + "assert d")
    assert board.running().version == "2.0.0"


def test_images_and_manifests_with_keys_of_their_own(board, fleet, nginx, keys):
    fleet.publish(1, "2.0.0", kind="rsa")
    fleet.manifest.unlink()
    fleet.manifest.with_name("m.json.sig").unlink()
    fleet.command(
        *("--file", fleet.www / "app.bin", "--release", 1, "-o", fleet.manifest),
        *("--sign", keys.private("p256")),
    )
    url, options = nginx.url("m.json"), fleet.options()
    assert "UNKNOWN_KEY" in refuse(board, url, **options)
    board.run(code("update_from", url, image_keys=keys.digests["rsa"], **options) + "assert d")


def test_key_of_the_running_firmware(tmp_path, root, fleet, nginx, keys):
    """The manifest may have it in any block, as while one takes the place of another; the image in the first."""
    own, other = (
        load_pem_private_key(keys.private(k).read_bytes(), None) for k in ("p256", "rsa")
    )
    (tmp_path / "ca.pem").write_bytes(root.pem)
    running = sbv2.sign(images.app_image(), [own, other])
    board = Board(simflash.make_flash(tmp_path / "flash.bin", running))
    board.running()
    url, options = nginx.url("m.json"), {"trusted_keys": "running"}
    fleet.publish(1, "2.0.0", kind="rsa")
    assert "UNKNOWN_KEY" in refuse(board, url, **options)
    fleet.publish(2, "2.0.0", kind="p256")
    manifest = fleet.manifest.read_bytes()
    fleet.manifest.with_name("m.json.sig").write_bytes(sbv2.sign_data(manifest, [other, own]))
    # The running firmware is verified once, the manifest and the image by what comes of that.
    count = """
from https_ota import sign
log = []
verify = sign._running
def counted(buf, whole):
    log.append(whole)
    return verify(buf, whole)
sign._running = counted
"""
    assert board.run(count + code("update_from", url, **options) + "print(log)") == (
        "[False, True]\n"
    )
    assert board.running().version == "2.0.0"


def test_update_that_fails_is_tried_again(board, fleet, nginx):
    fleet.publish(1, "2.0.0")
    text = code("update_from", nginx.url("m.json"), **fleet.options())
    assert board.start(text, SIM_CUT="20").returncode == CUT
    assert board.running().version == "1.0.0"
    board.run(text + "assert d")
    assert board.running().version == "2.0.0"


# -- what must be refused


def test_any_changed_byte(board, fleet, nginx):
    fleet.publish(1, "2.0.0")
    data = fleet.manifest.read_bytes()
    for at in [*random.Random(1).sample(range(len(data)), 4), 0, len(data) - 1]:
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        fleet.manifest.write_bytes(changed)
        assert "SIGNATURE: block 0" in refuse(board, nginx.url("m.json"), **fleet.options())


def test_other_key(board, fleet, nginx, keys):
    fleet.publish(1, "2.0.0", kind="rsa")
    message = refuse(board, nginx.url("m.json"), **fleet.options())
    assert f"UNKNOWN_KEY: block 0: signed by the key {keys.digests['rsa']}" in message


def test_expired(board, fleet, nginx, root):
    fleet.publish(1, "2.0.0", "--expires-days", 10)
    url, options = nginx.url("m.json"), fleet.options(insecure=True)
    now = int(time.time())
    day = 86400
    assert check(board, url, {"SIM_CLOCK": str(now + 9 * day)}, **options) == "UPDATE"
    message = refuse(board, url, {"SIM_CLOCK": str(now + 11 * day)}, **options)
    assert "MANIFEST_EXPIRED: the manifest was good until" in message
    message = refuse(board, url, {"SIM_CLOCK": "unset"}, **options)
    assert "CLOCK: the board's clock says 2000-01-01: no expiry date can be checked" in message
    fleet.command(
        "--update", fleet.manifest, "--expires-days", 60, "--sign", fleet.keys.private("p256")
    )
    assert check(board, url, {"SIM_CLOCK": str(now + 11 * day)}, **options) == "UPDATE"


def test_manifest_that_does_not_expire_needs_no_clock(board, fleet, nginx):
    fleet.publish(1, "2.0.0", "--expires-days", 0)
    options = fleet.options(insecure=True)
    assert check(board, nginx.url("m.json"), {"SIM_CLOCK": "unset"}, **options) == "UPDATE"


def test_replay(board, fleet, nginx, tmp_path):
    url, options = nginx.url("m.json"), fleet.options()
    fleet.publish(1, "1.5.0")
    for name in ("m.json", "m.json.sig", "app.bin"):
        shutil.copy(fleet.www / name, tmp_path / name)
    fleet.publish(2, "2.0.0", "--rollout", 0)
    assert check(board, url, **options) == "ROLLOUT"
    for name in ("m.json", "m.json.sig", "app.bin"):
        shutil.copy(tmp_path / name, fleet.www / name)
    message = refuse(board, url, **options)
    assert "MANIFEST_REPLAY: the manifest is of release 1, serial " in message
    assert "; this board has seen release 2, serial " in message


def test_a_release_that_was_stopped_stays_so(board, fleet, nginx, keys):
    """The file of before has the same release, and the new signature vouches for it as well: boards may still get it."""
    url, options = nginx.url("m.json"), fleet.options()
    sign = ("--sign", keys.private("p256"))
    fleet.publish(1, "2.0.0", "--rollout", 50)
    versions = [fleet.manifest.read_bytes()]
    for rollout in (10, 50, 0):
        fleet.command("--update", fleet.manifest, "--rollout", rollout, *sign)
        versions.append(fleet.manifest.read_bytes())
    signature = fleet.manifest.with_name("m.json.sig")
    both = signature.read_bytes()
    assert len(both) == 2 * 1216
    # Before it has seen the new one, a board may get the old one with the new signature.
    fleet.manifest.write_bytes(versions[-2])
    assert check(board, url, **options) in ("UPDATE", "ROLLOUT")
    fleet.manifest.write_bytes(versions[-1])
    assert check(board, url, **options) == "ROLLOUT"
    assert check(board, url, **options) == "NOT_MODIFIED"
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)
    for old in versions[:-1]:
        fleet.manifest.write_bytes(old)
        for blocks in (both, sbv2.sign_data(old, [key])):
            signature.write_bytes(blocks)
            refused = refuse(board, url, **options)
            assert "MANIFEST_REPLAY: " in refused or "SIGNATURE: " in refused
        assert "MANIFEST_REPLAY: the manifest is of release 1, serial " in refused
    fleet.manifest.write_bytes(versions[-1])
    signature.write_bytes(both)
    fleet.command("--update", fleet.manifest, "--rollout", 100, *sign)
    assert check(board, url, **options) == "UPDATE"


def test_power_cut_while_a_manifest_is_remembered(board, fleet, nginx, keys):
    """Wherever it is cut: the same manifest is taken at the next start, and then none before it."""
    url, options = nginx.url("m.json"), fleet.options()
    sign = ("--sign", keys.private("p256"))
    fleet.publish(1, "2.0.0", "--rollout", 0)
    fleet.command("--update", fleet.manifest, "--rollout", 0, "--notes", "a", *sign)
    assert check(board, url, **options) == "ROLLOUT"
    start = board.flash.read_bytes()
    key = load_pem_private_key(keys.private("p256").read_bytes(), None)

    def put(serial, number=2):
        found = json.loads(fleet.manifest.read_bytes()) | {"release": number, "serial": serial}
        fleet.manifest.write_bytes(release.encode(found))
        os.utime(fleet.manifest, (next(moments),) * 2)  # so that nginx has another ETag
        fleet.manifest.with_name("m.json.sig").write_bytes(
            sbv2.sign_data(fleet.manifest.read_bytes(), [key])
        )

    moments = iter(range(1_700_000_000, 1_800_000_000))
    text = code("check", url, **options)
    for n in range(1, 40):
        board.flash.write_bytes(start)
        put(5)  # lower than that of release 1, which is the time
        done = board.start(text, SIM_CUT=str(n))
        if done.returncode == 0:
            break
        assert done.returncode == CUT, done.stderr
        put(4294967295, 1)
        old = board.start(text)
        assert old.returncode == 0 or "MANIFEST_REPLAY" in old.stderr
        put(5)
        assert check(board, url, **options) == "ROLLOUT", n
        for old in ((4, 2), (4294967295, 1)):
            put(*old)
            assert "MANIFEST_REPLAY" in refuse(board, url, **options), n
    assert n > 3


def test_other_chip(board, fleet, nginx):
    fleet.publish(1, "2.0.0", chip="esp32s3")
    message = refuse(board, nginx.url("m.json"), **fleet.options())
    assert "NO_FILE: the manifest has no file for this board (ESP32-C3" in message
    assert "only for: ESP32-S3" in message


def test_manifest_that_lies_about_the_chip(board, fleet, nginx, keys):
    fleet.publish(1, "2.0.0", chip="esp32s3")
    found = json.loads(fleet.manifest.read_bytes())
    found["files"][0]["chip"] = "ESP32-C3"
    fleet.manifest.write_text(json.dumps(found))
    message = refuse(board, nginx.url("m.json"))
    assert "CHIP: the image is for ESP32-S3" in message


def test_file_that_is_not_the_one_of_the_manifest(any_board, fleet, nginx):
    fleet.publish(1, "2.0.0")
    app = bytearray((fleet.www / "app.bin").read_bytes())
    app[-1] ^= 1
    (fleet.www / "app.bin").write_bytes(app)
    assert "DIGEST" in refuse(any_board, nginx.url("m.json"), **fleet.options())


def test_too_large(any_board, www, nginx):
    (www / "m.json").write_bytes(b"{" + b" " * 8190 + b"}")
    assert "MANIFEST: the manifest can't be used: release" in refuse(
        any_board, nginx.url("m.json")
    )
    (www / "m.json").write_bytes(b"{" + b" " * 8191 + b"}")
    message = refuse(any_board, nginx.url("m.json"))
    assert "MANIFEST: expected at most 8192 bytes" in message
    message = refuse(any_board, nginx.url("app.bin"))
    assert "MANIFEST: expected at most 8192 bytes" in message


def test_min_version(board, fleet, nginx):
    url, options = nginx.url("m.json"), fleet.options()
    fleet.publish(1, "3.0.0", "--min-version", "2.0")
    assert check(board, url, **options) == "MIN_VERSION"
    board.run(code("update_from", url, **options) + "assert d is None")
    fleet.publish(2, "3.0.0", "--min-version", "1.0")
    assert check(board, url, **options) == "UPDATE"


def test_release_that_failed_here_before(board, fleet, nginx):
    """It ran, nobody confirmed it, and the board went back: it is not installed by each poll again."""
    fleet.publish(1, "2.0.0")
    url, options = nginx.url("m.json"), fleet.options()
    board.run(code("update_from", url, **options))
    assert [board.running().version for _ in range(2)] == ["2.0.0", "1.0.0"]
    assert check(board, url, **options) == "FAILED"
    board.run(code("update_from", url, **options) + "assert d is None")
    assert check(board, url, retry_failed=True, **options) == "UPDATE"
    fleet.publish(2, "2.0.1", seed=2)
    assert check(board, url, **options) == "UPDATE"


# -- where it lies


def test_urls_after_redirects(any_board, fleet, www, root):
    """The latest release by an address that leads to its folder."""
    fleet.publish(1, "2.0.0")
    (www / "v1").mkdir()
    for name in ("m.json", "m.json.sig", "app.bin"):
        shutil.move(www / name, www / "v1" / name)
    moves = {"~ ^/latest/(.*)$": "return 302 /v1/$1;"}
    with servers.Nginx(www, root.server(), locations=moves) as server:
        any_board.run(
            code("update_from", server.url("latest/m.json"), **fleet.options()) + "assert d"
        )
        paths = [r.path for r in server.requests()]
        assert "/latest/m.json.sig" in paths and "/v1/app.bin" in paths
        assert "/latest/app.bin" not in paths
    assert any_board.running().version == "2.0.0"


def test_files_on_another_server(board, fleet, www, root, nginx, tmp_path):
    """Manifest behind a password, images on a server that must not see it."""
    (tmp_path / "api").mkdir()
    fleet.publish(1, "2.0.0", "--url-prefix", nginx.url())
    for name in ("m.json", "m.json.sig"):
        shutil.move(www / name, tmp_path / "api" / name)
    password = ("fleet", "secret")
    with servers.Nginx(tmp_path / "api", root.server(), basic_auth=password) as api:
        board.run(
            code("update_from", api.url("m.json"), auth=password, **fleet.options()) + "assert d"
        )
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("chain", ["ec", "rsa", "rsa rsa"])
def test_what_a_poll_costs(tmp_path, fleet, www, root, chain):
    """Bytes on the wire, TLS and all; TCP's own headers aside. `pytest -s` shows them."""
    board = make_board(tmp_path, root, "sim")
    fleet.publish(1, "1.0.0", "--notes", "x" * 300)
    *above, kind = chain.split()
    issuer = root.intermediate(kind=above[0]) if above else root
    with servers.Nginx(www, issuer.server(kind=kind)) as server, Counter(server) as wire:
        url, options = wire.url("m.json"), fleet.options()
        assert check(board, url, **options) == "UP_TO_DATE"
        first, wire.bytes = wire.bytes, 0
        assert check(board, url, **options) == "NOT_MODIFIED"
        poll = wire.bytes
        requests = [(r.path, r.status, r.sent) for r in server.requests()]
    size = fleet.manifest.stat().st_size
    print(f"\n{chain}: a manifest of {size} bytes and its signature {first} bytes, a poll {poll}")
    assert [r[:2] for r in requests] == [("/m.json", 200), ("/m.json.sig", 200), ("/m.json", 304)]
    assert requests[2][2] == 0
    assert poll < 4000
    assert poll + size + 1216 < first


class Counter(Proxy):
    """Counts what passes, both ways."""

    bytes = 0

    async def _pieces(self, reader):
        async for data in super()._pieces(reader):
            self.bytes += len(data)
            yield data


def test_publishing_in_order_leaves_no_moment_without_a_good_pair(board, fleet, nginx, keys):
    """Signature first, then the manifest: a board may see the first with the manifest of before."""
    url, options = nginx.url("m.json"), fleet.options()
    fleet.publish(1, "2.0.0", "--rollout", 0)
    before = fleet.manifest.read_bytes()
    fleet.publish(2, "2.1.0", "--rollout", 0)
    after = fleet.manifest.read_bytes()
    for data, number in ((before, 1), (after, 2)):
        fleet.manifest.write_bytes(data)
        said = board.run(code("check", url, **options) + "print(d.release)")
        assert said.split() == [str(number)]


# -- staged rollouts


def test_rollout_by_one_file(board, fleet, www):
    """120 polls: without TLS and signature, which the choice does not look at and which take a board its time."""
    fleet.publish(1, "2.0.0", "--rollout", 10)
    ids = [f"board {n}" for n in range(40)]
    seen = []
    with servers.Nginx(www) as server:
        for percent in (10, 50, 100):
            if percent > 10:
                fleet.command(
                    *("--update", fleet.manifest, "--rollout", percent),
                    *("--sign", fleet.keys.private("p256")),
                )
                # nginx makes the ETag of size and second.
                os.utime(fleet.manifest, (percent, percent))
            many = code("check", server.url("m.json"), device_id="ID", insecure=True)
            many = many.replace("'ID'", "i").split("\n")
            text = f"{many[0]}\nfor i in {ids!r}:\n {many[1]}\n if d.update:\n  print(i)"
            seen.append(set(board.run(text).splitlines()))
    assert seen[0] <= seen[1] <= seen[2] == set(ids)
    assert 0 < len(seen[0]) < len(seen[1]) < 40


def test_rollout_of_a_thousand_boards(board):
    """As many as said, within 4 standard deviations; who is in stays in; each release chooses anew."""
    percents = (0, 1, 5, 10, 25, 50, 75, 90, 99, 100)
    text = (
        "from https_ota.fleet.manifest import _chosen\n"
        "for release in (1, 2, 7, 1000000, 2147483647):\n"
        f" for percent in {percents!r}:\n"
        "  print(release, percent, *(i for i in range(1000)"
        " if _chosen(b'\\x7c\\xdf\\xa1' + i.to_bytes(3, 'big'), release, percent)))\n"
    )
    chosen = {}
    for line in board.run(text).splitlines():
        number, percent, *ids = map(int, line.split())
        chosen[number, percent] = set(ids)
    for (number, percent), ids in chosen.items():
        p = percent / 100
        assert abs(len(ids) - 1000 * p) <= 4 * (1000 * p * (1 - p)) ** 0.5, (number, percent)
        for larger in percents[percents.index(percent) :]:
            assert ids <= chosen[number, larger]
    # Independent: of the 500 of one release, about half are among those of another.
    assert abs(len(chosen[1, 50] & chosen[2, 50]) - 250) < 60


# -- both readers of the format


def test_board_takes_what_the_command_takes(board):
    """Manifests with all manner of values: each that the command accepts is one that the board can read."""
    rng = random.Random(3)
    digest = "Ab" * 32
    values = {
        "release": [1, 2147483647, 0, 1.0, "1", None, True, 1 << 31],
        "version": ["", "1.0", "v2.0-rc1+x", "nightly", "\u00e4\u4e2d\U0001f600", 'a"\\\n\0', 5],
        "expires": [
            "2030-01-01T00:00:00Z",
            "2030-02-30T00:00:00Z",
            "\u0662030-01-01T00:00:00Z",
            "",
        ],
        "min_version": ["", "1", "v1.0", ".5", "V..7x", "x1", "+1", "1-2-g", "1.0-dirty"],
        "secure_version": [0, 4294967295, 4294967296, -0],
        "rollout": [0, 100, 101, 10.0],
        "notes": ["", "x" * 3000, "\u2028", None],
        "other": [None, [[[[]]]], {"a": {"b": 1e300}}, -1.5e-7, 10**40, "\ud800"],
    }
    of_file = {
        "chip": ["ESP32-C3", "esp32c3", 5, 0, 99, "", True, None],
        "board": ["", "A", "\u00e9", 1],
        "variant": ["", "B", []],
        "url": [
            *(
                "fw.bin",
                "../a/../b.bin?x=://#y",
                "?q",
                "/",
                "#",
                "%20",
                "HTTPS://h/x",
                "https://h",
            ),
            *(
                "https://[::1]:8443/x",
                "https://h:65535?x",
                "https://h:99999/",
                "//h/x",
                "a:b",
                "a/b:c",
            ),
            *("http://h\\x/", "https://h:080/a", "https://a..b/", "..", "./:"),
        ],
        "size": [1, 268435456, 268435457, 0],
        "sha256": [digest, digest[:-1], digest[:-1] + "g"],
        "encrypted": [True, False, 0, None],
    }
    good = {"release": 1, "version": "1", "files": []}
    file = {"chip": 5, "url": "a", "size": 1, "sha256": digest}
    accepted = []
    for _ in range(4000):
        files = []
        for _ in range(rng.randrange(1, 3)):
            files.append(dict(file))
            for name in rng.sample(sorted(of_file), 2):
                files[-1][name] = rng.choice(of_file[name])
        found = good | {"files": files}
        for name in rng.sample(sorted(values), 2):
            found[name] = rng.choice(values[name])
        data = json.dumps(found, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
        try:
            release.parse(data)
        except ToolError:
            continue
        accepted.append(data)
    assert len(accepted) > 300
    (board.flash.parent / "cases").write_bytes(
        b"".join(len(d).to_bytes(2, "big") + d for d in accepted)
    )
    said = board.run(
        """
import https_ota
from https_ota.fleet.manifest import Manifest, decide
n = 0
info = https_ota.running_info()
info.secure_version = 0
with open("cases", "rb") as f:
    while True:
        size = int.from_bytes(f.read(2), "big")
        if not size:
            break
        data = f.read(size)
        try:
            for board, variant in ((None, None), ("A", "B")):
                decide(Manifest(data), "https://h/m.json", info, board, variant, b"", None, 0, https_ota.release.runs)
        except https_ota.OTAError as e:
            if e.code != e.NO_FILE:
                print(data, e)
        n += 1
print(n)
"""
    )
    assert said.split("\n")[-2] == str(len(accepted)), said[:3000]
    assert said.count("\n") == 1, said[:3000]
