"""Other partitions over a real server, and a firmware together with what belongs to it, cut everywhere."""

import hashlib
import os
import shutil

import images
import keyfiles
import pytest
import servers
from board import PENDING_VERIFY, VALID, Board
from faults import FaultServer
from partitions import CUT, DATA, OFFSETS, board_with_data, content

from https_ota_tools import mkflash, partition

APP = images.app_image(size=40_000, version="2.0.0", seed=4)


@pytest.fixture
def board(tmp_path, root):
    return board_with_data(tmp_path, root)


FACTORY = """\
nvs,      data, nvs,     0x9000,   0x4000,
otadata,  data, ota,     0xd000,   0x2000,
phy_init, data, phy,     0xf000,   0x1000,
factory,  app,  factory, 0x10000,  0x100000,
ota_0,    app,  ota_0,   0x110000, 0x100000,
"""


def test_factory_and_one_slot(tmp_path, www, nginx, root):
    """From ota_0 there is nothing to write to; the error says the way round, and that way works."""
    (tmp_path / "ca.pem").write_bytes(root.pem)
    table = partition.read_csv(FACTORY, "table")
    flash = tmp_path / "flash.bin"
    flash.write_bytes(mkflash.make_flash(images.app_image(), table, 4 << 20, "factory"))
    board = Board(flash)
    assert board.running().slot == "factory"
    (www / "app.bin").write_bytes(APP)
    board.update(nginx.url("app.bin"))
    board.run("import https_ota; https_ota.confirm()")
    assert board.running() == ("2.0.0", "ota_0", VALID)
    later = images.app_image(size=50_000, version="3.0.0", seed=5)
    (www / "app.bin").write_bytes(later)
    message = board.refuse(nginx.url("app.bin"))
    assert message.startswith("OTAError: NO_SLOT: ") and "no OTA slot beside ota_0" in message
    board.run('import esp32; esp32.Partition("factory").set_boot()')
    assert board.running().slot == "factory"
    board.update(nginx.url("app.bin"))
    assert board.running() == ("3.0.0", "ota_0", PENDING_VERIFY)


@pytest.mark.parametrize("build", ["sim", "sim-tls4k"])
@pytest.mark.parametrize("staging", [None, True, "romfs_0"])
def test_data(board, www, nginx, build, staging):
    (www / "data.bin").write_bytes(DATA)
    board.interpreter = board.interpreter.parents[1] / build / "micropython"
    digest = hashlib.sha256(DATA).hexdigest()
    board.update(nginx.url("data.bin"), partition="storage", staging=staging, sha256=digest)
    assert content(board, "storage") == DATA
    assert board.running() == ("1.0.0", "ota_0", VALID)
    # Once more: nothing new.
    before = len(nginx.requests())
    board.update(nginx.url("data.bin"), partition="storage", staging=staging)
    assert [r.status for r in nginx.requests()[before:]] == [304]


@pytest.mark.parametrize("kind", keyfiles.KINDS)
def test_signed_data(board, tmp_path, www, nginx, keys, kind):
    (tmp_path / "data.bin").write_bytes(DATA)
    out = www / "data.bin"
    key = keys.private(kind)
    keyfiles.espsecure(
        *("sign-data", "--version", "2", "--keyfile", key, "-o", out, tmp_path / "data.bin")
    )
    url = nginx.url("data.bin")
    options = {"partition": "storage", "staging": "romfs_0"}
    board.update(url, trusted_keys=keys.digests[kind], **options)
    assert content(board, "storage") == DATA
    data = bytearray(out.read_bytes())
    data[1000] ^= 1
    out.write_bytes(data)
    os.utime(out, (1, 1))  # nginx makes the ETag of size and second
    message = board.refuse(url, trusted_keys=keys.digests[kind], **options)
    assert message.startswith("OTAError: SIGNATURE: ")
    out.write_bytes(DATA)
    os.utime(out, (2, 2))
    message = board.refuse(url, trusted_keys=keys.digests[kind], **options)
    assert message.startswith("OTAError: UNSIGNED: ")
    assert content(board, "storage") == DATA


def fill(board, label, size):
    """Put something else there, so that each sector is erased."""
    flash = bytearray(board.flash.read_bytes())
    flash[OFFSETS[label] : OFFSETS[label] + size] = hashlib.shake_128(b"before").digest(size)
    board.flash.write_bytes(flash)


def test_data_goes_on_after_a_reset(board):
    large = hashlib.shake_128(b"large").digest(200_000)
    fill(board, "storage", len(large))
    with FaultServer(large, {}) as server:
        text = board.code(server.url("x.bin"), cadata=None, insecure=True, partition="storage")
        assert board.start(text, SIM_CUT="70").returncode == CUT
        board.run(text)
        assert b"Range: bytes=131072-" in server.requests[-1]
    assert content(board, "storage", len(large)) == large


TOGETHER = """
import https_ota
romfs = https_ota.OTA({romfs!r}, insecure=True, partition=https_ota.beside("romfs"))
print(https_ota.together(https_ota.OTA({app!r}, insecure=True), romfs))
"""


def test_firmware_and_romfs_cut_everywhere(board, www, tmp_path, capsys):
    """Whatever is cut: the firmware that runs has the ROMFS that belongs to it, whole."""
    old = hashlib.shake_128(b"old").digest(50_001)
    flash = bytearray(board.flash.read_bytes())
    flash = flash[: OFFSETS["romfs_0"]] + old + flash[OFFSETS["romfs_0"] + len(old) :]
    start = tmp_path / "start.bin"
    start.write_bytes(flash)
    (www / "romfs.bin").write_bytes(DATA)
    (www / "app.bin").write_bytes(APP)
    cuts = 0
    with servers.Nginx(www) as server:
        text = TOGETHER.format(romfs=server.url("romfs.bin"), app=server.url("app.bin"))
        while True:
            shutil.copyfile(start, board.flash)
            done = board.start(text, SIM_CUT=str(cuts + 1))
            running = board.running()
            pair = {"ota_0": ("1.0.0", "romfs_0", old), "ota_1": ("2.0.0", "romfs_1", DATA)}
            version, label, romfs = pair[running.slot]
            assert running.version == version and content(board, label) == romfs, cuts
            if done.returncode == 0:
                break
            assert done.returncode == CUT, done.stderr
            if running.slot == "ota_0":
                board.run(text)
                assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
                assert content(board, "romfs_1") == DATA
            cuts += 1
    with capsys.disabled():
        print(f"\n{cuts} power cuts of a firmware and its ROMFS")
    assert cuts > 2 * (len(DATA) + len(APP)) // 4096
    assert board.running().version == "1.0.0"


def test_copy_that_is_cut_is_made_again(board, www, tmp_path):
    """In every operation of the copy: the next update ends well."""
    (www / "data.bin").write_bytes(DATA)
    for label in ("storage", "romfs_0"):
        fill(board, label, len(DATA))
    start = tmp_path / "start.bin"
    shutil.copyfile(board.flash, start)
    sectors = -(-len(DATA) // 4096)
    with servers.Nginx(www) as server:
        text = board.code(
            server.url("data.bin"),
            cadata=None,
            insecure=True,
            partition="storage",
            staging="romfs_0",
        )
        for cut in range(2 * sectors, 4 * sectors + 2, 3):
            shutil.copyfile(start, board.flash)
            assert board.start(text, SIM_CUT=str(cut)).returncode == CUT
            board.run(text)
            assert content(board, "storage") == DATA, cut


def test_large_buffer_over_tls(board, www, nginx):
    (www / "app.bin").write_bytes(APP)
    text = board.code(nginx.url("app.bin"), buffer="BUFFER").replace(
        "'BUFFER'", "bytearray(65536)"
    )
    board.run(text)
    assert board.running().version == "2.0.0"


def test_large_buffer_goes_on_after_a_reset(board):
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(large, {}) as server:
        text = board.code(server.url("x.bin"), cadata=None, insecure=True, buffer="BUFFER")
        text = text.replace("'BUFFER'", "bytearray(65536)")
        assert board.start(text, SIM_CUT="120").returncode == CUT
        board.run(text)
        assert b"Range: bytes=" in server.requests[-1]
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("cut", [5, 40, 90, 130])
def test_bulk_erase_cut_anywhere(board, cut):
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(large, {}) as server:
        text = board.code(server.url("x.bin"), cadata=None, insecure=True, bulk_erase=True)
        assert board.start(text, SIM_CUT=str(cut)).returncode == CUT
        assert board.running() == ("1.0.0", "ota_0", VALID)
        board.run(text)
    assert board.running().version == "2.0.0"
