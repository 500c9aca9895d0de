"""The examples, as they are but for their settings, from power-on to the new firmware, over real servers."""

import ast
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tty
from pathlib import Path

import certs
import images
import pytest
import s3
import servers
from board import VALID
from built import ROOT
from proxy import Proxy
from simserial import SerialBoard

from https_ota_tools import cli, sbv2
from https_ota_tools import keys as key_files

EXAMPLES = ROOT / "lib" / "examples"
# A computer that does other work meanwhile may take this long for an update.
DEADLINE_S = 30


class Device:
    """A board with minimal/boot.py and an example as its main.py."""

    def __init__(self, board) -> None:
        self.board = board
        self.files = board.flash.parent / "fs"
        self.files.mkdir()
        shutil.copy(board.flash.parent / "ca.pem", self.files)
        self.put("minimal/boot.py", "boot.py", WIFI_KEY="secret")

    def put(self, example: str, name: str = "main.py", **settings: object) -> None:
        """Copy an example to the board, with other values for the constants at its top."""
        lines = (EXAMPLES / example).read_text().splitlines()
        for node in reversed(ast.parse("\n".join(lines)).body):
            if isinstance(node, ast.Assign) and node.targets[0].id in settings:
                setting = node.targets[0].id
                lines[node.lineno - 1 : node.end_lineno] = [
                    f"{setting} = {settings.pop(setting)!r}"
                ]
        assert not settings, "the example has no such settings"
        (self.files / name).write_text("\n".join(lines) + "\n")

    @contextlib.contextmanager
    def on(self, **env: str):
        """Within the body it is switched on; gives a Console."""
        with SerialBoard(self.board, self.files, **env) as serial:
            yield Console(serial)

    def running(self):
        return self.board.running()


class Console:
    """What a board prints, read from its beginning to its end."""

    def __init__(self, serial: SerialBoard) -> None:
        self.serial = serial
        self.read = 0

    def wait(self, text: str) -> str:
        """Wait for a text, behind what was waited for before; return all that came until then."""
        try:
            servers.wait_for(lambda: text.encode() in self.serial.said[self.read :], DEADLINE_S)
        except TimeoutError:
            said = self.serial.said[self.read :].decode(errors="replace")
            raise AssertionError(f"expected {text!r}, the board printed:\n{said}") from None
        start, self.read = self.read, self.serial.said.index(text.encode(), self.read) + len(text)
        return self.serial.said[start : self.read].decode(errors="replace")

    def type(self, line: str) -> None:
        """Type a line."""
        port = os.open(self.serial.port, os.O_WRONLY | os.O_NOCTTY)
        os.write(port, line.encode() + b"\r")
        os.close(port)


@pytest.fixture
def device(board):
    return Device(board)


def test_each_is_in_the_list():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*.py"):
        assert f"({path.relative_to(EXAMPLES)})" in listed


@pytest.mark.parametrize("command", ["cp", "run"])
def test_commands_of_the_list(device, command, tmp_path):
    """They bring boot.py and an example to a board that has neither, or run them there."""
    listed = (EXAMPLES / "README.md").read_text()
    args = re.search(rf"mpremote ({command} .*?)(?:`|$)", listed, re.M)[1].split()
    for name in ("boot.py", "ca.pem"):
        (device.files / name).unlink()
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    with device.on() as console:
        console.wait(">>> ")
        subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", console.serial.port, *args],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        console.wait("running 1.0.0")


# -- minimal


def test_minimal_updates_when_asked(device, nginx):
    boot = device.files / "boot.py"
    boot.write_text(f"import network\nnetwork.WLAN(0).active(False)\n{boot.read_text()}")
    device.put("minimal/main.py", URL=nginx.url("app.bin"), EVERY_S=0.02)
    with device.on() as console:
        console.wait("running 1.0.0")
        (device.files / "update").touch()
        console.wait("running 2.0.0")
    assert not (device.files / "update").exists()
    assert device.running() == ("2.0.0", "ota_1", VALID)


def test_minimal_goes_on_without_an_update(device, nginx):
    device.put("minimal/main.py", URL=nginx.url("none.bin"), EVERY_S=0.02)
    (device.files / "update").touch()
    with device.on() as console:
        console.wait("no update: HTTP_STATUS")
        servers.wait_for(lambda: not (device.files / "update").exists())
    assert device.running() == ("1.0.0", "ota_0", VALID)


def test_minimal_goes_back_from_what_does_not_start(device, nginx):
    device.put("minimal/main.py", URL=nginx.url("app.bin"), EVERY_S=0.02, TRIAL_S=0.1)
    # The new firmware's Wi-Fi fails.
    with (device.files / "boot.py").open("a") as boot:
        boot.write("import https_ota\n")
        boot.write("if https_ota.running_info().version == '2.0.0':\n")
        boot.write("    network.WLAN(network.STA_IF).active(False)\n")
    (device.files / "update").touch()
    with device.on() as console:
        console.wait("not yet: no network")
        console.wait("running 1.0.0")
    assert device.running() == ("1.0.0", "ota_0", VALID)
    told = "import https_ota\nr = https_ota.last_result()\nprint(r.result, r.why, r.version)"
    assert device.board.run(told) == "rolled back guard 2.0.0\n"


# A firmware without Wi-Fi, as of a chip that has none: the first LAN() says what there is, the others are that one.
ETHERNET = """\
import network
del network.WLAN
class LAN:
    first = ()
    up = False
    def __init__(self, **given):
        if LAN.first == ():
            LAN.first = given
            assert given == dict()
    def active(self, on):
        LAN.up = on
    def isconnected(self):
        return LAN.up
network.LAN = LAN
"""


def over_ethernet(device, qemu=False):
    """Take the board's Wi-Fi away, and give it what boot.py is to find in place of it."""
    boot = device.files / "boot.py"
    lan = ETHERNET
    if qemu:
        lan += "network.PHY_OPENETH = 9\n"
        lan = lan.replace("dict()", "dict(phy_type=9, phy_addr=1)")
    boot.write_text(lan + boot.read_text())


@pytest.mark.parametrize("qemu", [False, True])
def test_minimal_over_ethernet(device, nginx, qemu):
    over_ethernet(device, qemu)
    device.put("minimal/main.py", URL=nginx.url("app.bin"), EVERY_S=0.02)
    (device.files / "update").touch()
    with device.on() as console:
        console.wait("running 2.0.0")


def test_minimal_after_a_power_cut_waits_for_wifi(device, nginx):
    """The firmware is confirmed; the access point takes longer to start than the board."""
    device.put("minimal/main.py", URL=nginx.url("app.bin"), EVERY_S=0.02, START_S=0.2)
    with (device.files / "boot.py").open("a") as boot:
        boot.write("import os\nnetwork.WLAN(network.STA_IF).active('there' in os.listdir())\n")
    with device.on() as console:
        # It starts over again and again, and never ends in the REPL.
        for _ in range(2):
            console.wait("rst:")
            assert ">>>" not in console.wait("not yet: no network")
        (device.files / "there").touch()
        console.wait("running 1.0.0")


ENDS = {"CR": b"\r", "LF": b"\n", "CR LF": b"\r\n"}


@pytest.mark.parametrize("end", ENDS)
def test_asyncio_app_takes_lines_as_they_end(board, end):
    """From a serial line, which changes none of what is typed."""
    source = (EXAMPLES / "asyncio_app.py").read_text()
    source = "import asyncio, sys\n" + re.search(r"class Broker:.*?\n\n\n", source, re.DOTALL)[0]
    source += (
        "async def main():\n    broker = Broker()\n    print('ready')\n"
        "    print([await broker.receive(), await broker.receive()])\nasyncio.run(main())\n"
    )
    host, terminal = os.openpty()
    tty.setraw(terminal)
    with os.fdopen(host, "r+b", buffering=0) as line:
        process = subprocess.Popen(
            [board.interpreter, "-c", source],
            stdin=terminal,
            stdout=terminal,
            env={**os.environ, "SIM_FLASH": str(board.flash)},
        )
        os.close(terminal)
        said = b""
        while b"ready" not in said:
            said += line.read(100)
        line.write(b"update" + ENDS[end] + b"stop" + ENDS[end])
        while b"]" not in said:
            said += line.read(100)
        assert b"['update', 'stop']" in said
        assert process.wait(30) == 0


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_minimal_sets_the_clock(device, nginx, lost):
    """`lost` answers of the time server do not come; it asks three times."""
    device.put("minimal/main.py", URL=nginx.url("app.bin"), EVERY_S=0.02)
    now = (*time.gmtime()[:3], 0, *time.gmtime()[3:6], 0)
    (device.files / "ntptime.py").write_text(
        f"import machine\nlost = {lost}\ndef settime():\n    global lost\n    lost -= 1\n"
        f"    if lost >= 0:\n        raise OSError(110)\n    machine.RTC().datetime({now})\n"
    )
    (device.files / "update").touch()
    with device.on(SIM_CLOCK="unset") as console:
        console.wait("no update: CLOCK" if lost == 3 else "running 2.0.0")


def test_minimal_without_a_time_server(device, nginx):
    device.put("minimal/main.py", URL=nginx.url("app.bin"), EVERY_S=0.02)
    (device.files / "update").touch()
    with device.on(SIM_CLOCK="unset") as console:
        console.wait("running 1.0.0")
        console.wait("no update: CLOCK")


# -- the others


def test_asyncio_app(device, nginx):
    device.put("asyncio_app.py", URL=nginx.url("app.bin"), EVERY_S=0.02, RESTART_S=0.05)
    with device.on(SIM_FLASH_REALTIME="1") as console:
        console.wait("device/version 1.0.0")
        console.type("update")
        said = console.wait("written 16384")
        assert "device/update connected 200" in said
        # It is measured meanwhile: about once a sector.
        assert said.count("device/measured 42") >= 3
        console.type("update")  # one at a time
        console.type("stop")
        console.wait("device/update stopped")
        console.wait("device/measured")
        console.type("stop")
        console.type("update")
        said = console.wait("device/update restart")
        assert "goes on at" in said
        assert said.count("device/update connected") == 1
        console.wait("device/version 2.0.0")
        console.type("update")
        console.wait("device/update nothing new")
    assert device.running() == ("2.0.0", "ota_1", VALID)


def test_asyncio_app_reports_what_fails(device, nginx):
    device.put("asyncio_app.py", URL=nginx.url("none.bin"))
    with device.on() as console:
        console.wait("device/version")
        console.type("update")
        console.wait("device/update failed: HTTP_STATUS")
        # And can try again.
        console.type("update")
        console.wait("device/update failed: HTTP_STATUS")


@pytest.fixture
def publish(nginx, www, keys, device):
    """A function that makes or changes the manifest, signed. The device polls it."""
    app = www / "app.bin"
    key = key_files.load_private(keys.private("p256"))
    app.write_bytes(sbv2.sign(app.read_bytes(), [key]))
    trusted = keys.digests["p256"]
    url = nginx.url("fleet.json")
    device.put("manifest_poller.py", URL=url, TRUSTED_KEYS=trusted, EVERY_S=0.05, FIRST_S=0.1)

    def publish(*args):
        assert cli.main(["manifest", *map(str, args), "--sign", str(keys.private("p256"))]) == 0

    return publish


def test_manifest_poller(device, publish, www):
    fleet = www / "fleet.json"
    publish("--file", www / "app.bin", "--release", 7, "--rollout", 0, "-o", fleet)
    release = "release: release 7 (2.0.0)"
    with device.on() as console:
        console.wait("last update: None")
        console.wait(f"{release} is for 0 % of the boards, and not yet for this one")
        publish("--update", fleet, "--rollout", 100)
        console.wait("running 2.0.0")
        assert "result='updated'" in console.wait(f"{release} has the version that runs")
        shutil.copy(fleet, www / "fleet.json.sig")  # anything but a signature
        os.utime(fleet, (1_700_000_000, 1_700_000_000))
        console.wait("no update: SIGNATURE_BLOCK")
    assert device.running() == ("2.0.0", "ota_1", VALID)


def test_manifest_poller_reports_what_failed(device, publish, www):
    publish("--file", www / "app.bin", "--release", 7, "-o", www / "fleet.json")
    with (device.files / "boot.py").open("a") as boot:
        boot.write("import https_ota, machine\n")
        boot.write("if https_ota.running_info().version == '2.0.0':\n    machine.reset()\n")
    with device.on() as console:
        console.wait("last update: None")
        console.wait("last update: Result(result='rolled back', why='reset', version='2.0.0'")
        console.wait("release: release 7 (2.0.0) is what this board went back from")
    assert device.running() == ("1.0.0", "ota_0", VALID)


@pytest.mark.parametrize("token", [None, "ghp_secret"])
def test_github_release(device, www, root, token):
    """Two hosts with roots of their own; the token reaches the first only."""
    store_root = certs.root("rsa", "Store Root")
    (device.files / "github.pem").write_bytes(root.pem + store_root.pem)
    path = "/o/r/releases/latest/download/app.bin"
    with s3.S3(www, store_root.server()) as store:
        located = {path: store.url("app.bin")}
        with servers.RedirectServer(root.server(), located) as github:
            device.put("github_release.py", URL=github.url(path), TOKEN=token)
            with device.on() as console:
                console.wait("running 2.0.0")
                console.wait("nothing new")
            heads = [head.decode() for head in github.requests]
    assert len(heads) >= 2
    assert all(("Authorization: Bearer ghp_secret\r\n" in head) == bool(token) for head in heads)
    assert device.running() == ("2.0.0", "ota_1", VALID)


class ExpiringS3(s3.S3):
    """An S3 whose clock jumps by an hour after the first answer."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.ranges: list[str] = []

    def _answer(self, environ, start_response):
        self.ahead_s = 3600 if self.ranges else 0
        self.ranges.append(environ.get("HTTP_RANGE", ""))
        return super()._answer(environ, start_response)


def test_s3_presigned(device, root, www):
    """The connection ends midway, and meanwhile the URL has expired: the rest comes by another one."""
    image = images.app_image(size=200_000, version="2.0.0")
    (www / "app.bin").write_bytes(image)

    def answer(expires_s):
        def script(peer):
            assert b"Authorization: Bearer mine\r\n" in peer.request()
            url = None
            if expires_s is not None:
                url = store.url("app.bin", expires_s=expires_s)
                url = url.replace(f":{store.port}/", f":{link.port}/", 1)
            body = json.dumps({"url": url}).encode()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        return script

    scripts = [answer(300), answer(7200), answer(None)]
    with (
        ExpiringS3(www, root.server()) as store,
        Proxy(store, cut_at=15) as link,
        servers.ScriptServer(root.server(), *scripts) as own,
    ):
        headers = {"Authorization": "Bearer mine"}
        device.put("s3_presigned.py", ASK_URL=own.url("firmware-for-me"), ASK_HEADERS=headers)
        with device.on() as console:
            console.wait("expired: HTTP_STATUS")
            console.wait("running 2.0.0")
            console.wait(">>> ")
    assert len(own.requests) == 3
    # What has come is kept.
    plain, refused, rest = (r.removeprefix("bytes=") for r in store.ranges)
    assert not plain
    assert int(refused.rstrip("-")) >= int(rest.rstrip("-")) >= 65536
    assert device.running() == ("2.0.0", "ota_1", VALID)


def test_s3_presigned_says_what_is_no_answer(device, root, www):
    www.joinpath("me").write_text("<html>")
    with servers.Nginx(www, root.server()) as own:
        device.put("s3_presigned.py", ASK_URL=own.url("me"))
        with device.on() as console:
            console.wait("no update:")
            console.wait(">>> ")
    assert device.running().state == VALID


def test_button(device, nginx):
    device.put("button.py", URL=nginx.url("app.bin"), LONG_MS=1000)
    with device.on() as console:
        assert "no change" not in console.wait(">>> ")
    assert not nginx.requests()
    with device.on(SIM_HOLD="4:500") as console:
        console.wait("100% [####################]")
        console.wait("installed 2.0.0")
        console.wait("running 2.0.0")
        console.wait(">>> ")
    assert device.running() == ("2.0.0", "ota_1", VALID)
    with device.on(SIM_HOLD="4:2000") as console:
        console.wait("running 2.0.0")
        console.wait("running 1.0.0")
        console.wait(">>> ")
    assert device.running() == ("1.0.0", "ota_0", VALID)
    with device.on(SIM_HOLD="4:2000") as console:
        console.wait("no change: ROLLBACK")
        console.wait(">>> ")


@pytest.mark.parametrize("network", ["Wi-Fi", "Ethernet"])
def test_self_test(device, nginx, www, network):
    if network == "Ethernet":
        over_ethernet(device)
    (www / "alive.txt").write_text("yes")
    device.put("self_test.py", ALIVE_URL=nginx.url("alive.txt"))
    device.board.update(nginx.url("app.bin"))
    with device.on() as console:
        console.wait("running 2.0.0 after Result(result='on trial'")
        on_trial = device.board.boots_from()
        servers.wait_for(lambda: device.board.boots_from() != on_trial)
    assert "/alive.txt" in [r.path for r in nginx.requests()]
    assert device.running() == ("2.0.0", "ota_1", VALID)


def test_self_test_fails(device, nginx, www):
    device.put("self_test.py", ALIVE_URL=nginx.url("alive.txt"), EVERY_S=0.02)
    device.board.update(nginx.url("app.bin"))
    with device.on() as console:
        console.wait("self-test failed: update_server: HTTP_STATUS")
        console.wait(
            "running 1.0.0 after Result(result='rolled back', why='update_server: HTTP_STATUS"
        )
        console.wait("self-test failed")  # and works on
    assert device.running() == ("1.0.0", "ota_0", VALID)


def test_encrypted_signed(device, nginx, www, tmp_path):
    """The commands of its first lines; then an older image, and a changed one."""
    stamps = itertools.count(1_700_000_000)

    def tool(*args):
        assert cli.main([str(a) for a in args]) == 0

    def publish(version, secure_version, key="release.pem"):
        plain = images.app_image(size=60_000, version=version, secure_version=secure_version)
        (tmp_path / "app.bin").write_bytes(plain)
        tool("sign", "app.bin", "--key", key, "-o", "signed.bin")
        tool("encrypt", "signed.bin", "--key", "device.pub.pem", "-o", "update.bin")
        # nginx makes its ETag of time and size: two files of one size within a second would be one to it.
        stamp = next(stamps)
        os.utime("update.bin", (stamp, stamp))
        os.replace("update.bin", www / "update.bin")
        Path("signed.bin").unlink()

    with contextlib.chdir(tmp_path):
        tool("keygen", "sign-p256", "-o", "release.pem")
        tool("keygen", "encrypt-p256", "-o", "device.pem")
        shutil.copy("device.scalar.bin", device.files)
        digest = sbv2.key_digest(key_files.load_public(tmp_path / "release.pub.pem"))
        device.put(
            "encrypted_signed.py", URL=nginx.url("update.bin"), TRUSTED_KEYS=("00" * 32, digest)
        )
        publish("2.0.0", 1)
        with device.on() as console:
            console.wait("running 2.0.0 with secure version 1")
            console.wait("nothing new")
        publish("3.0.0", 0)
        with device.on() as console:
            console.wait("ALARM: SECURE_VERSION")
        publish("3.0.0", 1)
        changed = bytearray((www / "update.bin").read_bytes())
        changed[-100] ^= 1
        (www / "update.bin").write_bytes(changed)
        with device.on() as console:
            console.wait("ALARM: TAG")
        tool("keygen", "sign-p256", "-o", "stranger.pem")
        publish("3.0.0", 1, "stranger.pem")
        with device.on() as console:
            console.wait("ALARM: UNKNOWN_KEY")
        publish("1.9.0", 1)
        with device.on() as console:
            console.wait("no update: VERSION")
        (www / "update.bin").unlink()
        with device.on() as console:
            console.wait("no update: HTTP_STATUS")
    assert device.running() == ("2.0.0", "ota_1", VALID)
