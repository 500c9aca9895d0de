"""What was refused, or whose verification a power cut forestalled, never boots: not even when otadata is lost.

The firmware in ota_1 runs. With otadata blank or damaged the bootloader starts with ota_0, where the update goes.
"""

import hashlib
import shutil

import images
import keyfiles
import pytest
import simflash
from board import VALID, Board

CUT = 75
OTADATA = (0xD000, 0xE000)
IMAGE = images.app_image(size=20_000, version="2.0.0", seed=7)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A flash whose ota_1 runs, confirmed."""
    folder = tmp_path_factory.mktemp("start")
    board = Board(simflash.make_flash(folder / "flash.bin"))
    (folder / "own.bin").write_bytes(images.app_image(size=12_000, version="1.5.0", seed=5))
    board.run("import https_ota; https_ota.update(open('own.bin', 'rb'))")
    board.run("import https_ota; https_ota.confirm()")
    assert board.running() == ("1.5.0", "ota_1", VALID)
    return board.flash


def with_otadata(board, kind):
    """The flash with otadata blank, or with checksums that are wrong."""
    flash = bytearray(board.flash.read_bytes())
    for at in OTADATA:
        if kind == "blank":
            flash[at : at + 4096] = b"\xff" * 4096
        elif kind == "damaged":
            flash[at + 28] ^= 1
    return flash


REFUSALS = {
    "unsigned": (IMAGE, {"trusted_keys": bytes(32)}),
    "another digest": (IMAGE, {"sha256": bytes(32)}),
    "corrupt": (images.corrupt(IMAGE, "data"), {}),
    "another size": (IMAGE, {"size": len(IMAGE) + 16}),
    "cut off": (IMAGE[:-20], {}),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_refused(tmp_path, start, why):
    data, options = REFUSALS[why]
    never(tmp_path, start, data, options, "OTAError")


def test_signed_by_another_key(tmp_path, start, keys):
    (tmp_path / "plain.bin").write_bytes(IMAGE)
    keyfiles.espsecure(
        *("sign-data", "--version", "2", "--keyfile", keys.private("p256")),
        *("-o", tmp_path / "signed.bin", tmp_path / "plain.bin"),
    )
    data = (tmp_path / "signed.bin").read_bytes()
    options = {"trusted_keys": keys.digests["rsa"], "sha256": hashlib.sha256(data).digest()}
    never(tmp_path, start, data, options, "UNKNOWN_KEY")


def never(folder, start, data, options, error):
    """Install `data`, which is refused, cut in each flash operation: it never starts."""
    board = Board(folder / "flash.bin")
    (folder / "new.bin").write_bytes(data)
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    text = f"import https_ota\nhttps_ota.update(open('new.bin', 'rb'){given})"
    n = 0
    while True:
        n += 1
        shutil.copyfile(start, board.flash)
        done = board.start(text, SIM_CUT=str(n))
        left = board.flash.read_bytes()
        for kind in ("as it is", "blank", "damaged"):
            # Before anything was written, what was in ota_0 before may start.
            untouched = left[0x10000:0x11000] == start.read_bytes()[0x10000:0x11000]
            board.flash.write_bytes(with_otadata(board, kind))
            version = board.running().version
            assert version == "1.5.0" or (untouched and version == "1.0.0"), (n, kind)
            board.flash.write_bytes(left)
        if done.returncode == 1:
            assert error in done.stderr
            break
        assert done.returncode == CUT, done.stderr
    assert n > 8
