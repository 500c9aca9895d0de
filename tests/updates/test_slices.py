"""The core and its slices: each works on top of the core alone, and what is left out is missed by who asks for it."""

import hashlib
import re
import subprocess
import sys

import encfiles
import images
import mip_package
import pytest
import servers
import zoo
from built import ROOT
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from forms import espressifs
from partitions import DATA, board_with_data, content

from https_ota_tools import cli, delta, packed, sbv2

SLICES = mip_package.manifest()["SLICES"]
CORE = mip_package.manifest("")["files"]
APP = images.app_image(size=40_000, version="2.0.0", seed=4)

# What somebody types who uses a slice. {site} is a server with the files below, {ca} its CA.
USES = {
    "core": "assert u('{site}app.bin', cadata=ca)",
    "aio": "import asyncio\nassert asyncio.run(https_ota.aio.update('{site}app.bin', cadata=ca))",
    "auth": "assert u('{apache}app.bin', cadata=ca, auth=('board', 'sesame', 'digest'))",
    "chip": "assert u('{site}rev.bin', cadata=ca)",
    "delta": "assert u('{site}delta.gz', cadata=ca)",
    "encrypted": "assert u('{site}app.enc', cadata=ca, decrypt={opener})",
    "fetch": "d = bytearray()\nhttps_ota.fetch('{site}data.bin', d.extend, cadata=ca)\nassert len(d) == 50_001\n"
    "assert u('{site}app.bin', cadata=ca)",
    "fleet": "assert https_ota.update_from('{site}m.json', cadata=ca)",
    "guard": "https_ota.guard(300)\nassert u('{site}app.bin', cadata=ca)",
    "heatshrink": "assert u('{site}delta.esp', cadata=ca)",
    "history": "https_ota.last_result()\nassert u('{site}app.bin', cadata=ca, check=https_ota.newer_only)",
    "p384": "assert u('{site}p384.bin', cadata=ca, trusted_keys='{p384}')",
    "partitions": "assert u('{site}data.bin', cadata=ca, partition='storage', sha256='{data}')",
    "pack": "assert u('{site}app.bin.gz', cadata=ca)",
    "pin": "assert u('{site}app.bin', pin='{pin}')",
    "repl": "https_ota.status()\nassert u('{site}app.bin', cadata=ca, progress=https_ota.bar)",
    "signed": "assert u('{site}rsa.bin', cadata=ca, trusted_keys='{rsa}')",
}
# Where there are better words than "ImportError: no module named ...".
SAID = {
    "chip": "OTAError: CHIP_REVISION: ",  # what runs bounds the revisions
    "delta": "OTAError: WRONG_FILE: .*, got a gzip file, which takes the slice pack",
    "heatshrink": "OTAError: WRONG_FILE: .*, got a delta, which takes the slice delta",
    "pack": "OTAError: WRONG_FILE: .*, got a gzip file, which takes the slice pack",
    "p384": "OTAError: KEY_TYPE: .* left out of this build",
}
# And the slices that say them.
SAYS = {"delta": "words", "heatshrink": "words", "pack": "words", "p384": "signed"}
START = "import https_ota\nca = open('ca.pem').read()\nu = https_ota.update\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `make package` writes, for the SIM board's processor."""
    folder = tmp_path_factory.mktemp("mip")
    command = [sys.executable, ROOT / "firmware/mip_package.py", "-o", folder, "x86"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "x86"


@pytest.fixture(scope="module")
def site(tmp_path_factory, root, keys):
    """A server with all that is updated from; returns what USES is filled in with."""
    www = tmp_path_factory.mktemp("site") / "www"
    www.mkdir()
    private = {
        k: load_pem_private_key(keys.private(k).read_bytes(), None) for k in ("rsa", "p384")
    }
    public = load_pem_public_key(keys.public("p256").read_bytes())
    for name, data in {
        "app.bin": APP,
        "rev.bin": images.app_image(version="2.0.0", min_rev=3),
        "app.bin.gz": packed.pack(APP),
        "delta.esp": espressifs(images.app_image(), APP),
        "delta.gz": delta.make(images.app_image(), APP),
        "app.enc": encfiles.write(APP, public),
        "data.bin": DATA,
        **{f"{kind}.bin": sbv2.sign(APP, [key]) for kind, key in private.items()},
    }.items():
        (www / name).write_bytes(data)
    command = f"manifest --file {www}/app.bin --release 1 -o {www}/m.json"
    assert cli.main(command.split()) == 0
    secret = hashlib.md5(b"board:boards:sesame").hexdigest()
    identity = root.server()
    with (
        servers.Nginx(www, identity) as nginx,
        zoo.Apache(www, identity, digest=f"board:boards:{secret}\n") as apache,
    ):
        yield {
            "site": nginx.url(),
            "apache": apache.url(),
            "opener": keys.opener("p256"),
            "data": hashlib.sha256(DATA).hexdigest(),
            "pin": hashlib.sha256(identity.der).hexdigest(),
            **keys.digests,
        }


@pytest.fixture
def use(made, site, tmp_path, root):
    """Let a board with the core and some slices do what a slice is for; return what the board's `run` or `fail` does."""
    board = board_with_data(tmp_path, root)

    def install(slices):
        for source in mip_package.manifest(slices)["files"]:
            name = f"https_ota/{source.removesuffix('.py')}.mpy"
            (tmp_path / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "lib" / name).write_bytes((made / name).read_bytes())
        return f"{tmp_path / 'lib'}:.frozen"

    def use(slices, what, how="run"):
        code = START + USES[what].format(**site) + "\nprint(https_ota.__file__)"
        return getattr(board, how)(code, MICROPYPATH=install(slices))

    use.board, use.install = board, install
    return use


def test_each_slice_has_its_use():
    # These do their part in others; boards without words are those of all other cases.
    assert set(SLICES) - set(USES) == {"ec", "words"}


@pytest.mark.parametrize("name", USES)
def test_alone_on_top_of_the_core(use, tmp_path, name):
    said = use("" if name == "core" else name, name)
    assert said.endswith(f"{tmp_path}/lib/https_ota/__init__.mpy\n")
    if name == "partitions":
        assert content(use.board, "storage") == DATA
    else:
        assert use.board.running().version == "2.0.0"


@pytest.mark.parametrize("name", [n for n in USES if n != "core"])
def test_asked_for_but_left_out(use, name):
    """Python's own words name the module, or the room that is not there at all; and the running firmware stays."""
    modules = SLICES[name][0].split()
    if f"{modules[0]}.py" in CORE:
        pytest.skip("the core needs it still")
    before = use.board.boots_from()
    said = use(SAYS.get(name, ""), name, "fail")
    names = [m.replace("/", ".") for m in modules]
    names += [
        m.partition("/")[0] for m in modules if not any(m.partition("/")[0] in n for n in CORE)
    ]
    missing = f"ImportError: no module named 'https_ota.({'|'.join(map(re.escape, names))})'$"
    assert re.match(SAID.get(name, missing), said)
    assert use.board.boots_from() == before


def test_compressed_delta_with_half_of_what_it_takes(use):
    said = use("pack", "delta", "fail")
    assert said.endswith("OTAError: NOT_AN_IMAGE: expected an application image")
    said = use("pack words", "delta", "fail")
    assert ", got a delta, which takes the slice delta" in said


# -- mip


@pytest.fixture
def mpremote(serial, tmp_path):
    """Returns a function that runs mpremote on the board and returns what it printed."""

    def run(*args):
        command = [sys.executable, "-m", "mpremote", "connect", serial.port, *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [["package"], ["core"], ["p384", "guard"]])
def test_mip_installs_from_any_web_server(mpremote, serial, board, made, root, site, names):
    """And what it has installed updates the board."""
    with servers.Nginx(made.parent) as server:
        mpremote("mip", "install", *(server.url(f"x86/{name}.json") for name in names))
    slices = None if names == ["package"] else " ".join(names).replace("core", "")
    there = {p.relative_to(serial.folder / "lib") for p in (serial.folder / "lib").rglob("*.mpy")}
    files = mip_package.manifest(slices)["files"]
    assert {str(p) for p in there} == {f"https_ota/{f.removesuffix('.py')}.mpy" for f in files}
    # The SIM board has the package frozen, too; that would come first.
    code = "import sys\nsys.path.remove('.frozen')\n" + START.replace(
        "open('ca.pem').read()", repr(root.pem)
    )
    code += "print(https_ota.__file__)\n" + USES["p384" if "p384" in names else "core"].format(
        **site
    )
    assert "lib/https_ota/__init__.mpy" in mpremote("exec", code)
    serial.power_off()
    assert board.running().version == "2.0.0"
