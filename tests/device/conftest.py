"""A real board, or the SIM board, on a serial port: `make test-device PORT=/dev/ttyUSB0`.

DEVICE_PORT names the port; without it the tests start a SIM board. WIFI_SSID and WIFI_KEY tell a real board the way
into a network that this machine is in as well. The board gets its first firmware back at the end.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

import built
import images
import pytest
import simflash
from board import Board
from built import ROOT
from simserial import SerialBoard

from https_ota_tools import authority, image, link, package, push, serve, status
from https_ota_tools.errors import ToolError

# Read from the board once; on a line of 115200 baud that takes minutes.
CACHE = ROOT / "build" / "device"

# The application's length by its own header, and its copy into the mounted folder.
_READ_BACK = """\
from esp32 import Partition
from struct import unpack
p = Partition(Partition.RUNNING)
b = bytearray(24)
p.readblocks(0, b, 0)
hashed = b[23]
end = 24
s = bytearray(8)
for _ in range(b[1]):
    p.readblocks(end // 4096, s, end % 4096)
    end += 8 + unpack("<I", s[4:])[0]
end = end // 16 * 16 + 16 + 32 * hashed
b = bytearray(4096)
with open("/remote/app.bin", "wb") as f:
    for i in range(0, end, 4096):
        p.readblocks(i // 4096, b)
        f.write(b if end - i >= 4096 else b[: end - i])
        print(i)
"""

# One update, as the board sees it. `stop` bytes received reset the chip, 0 never does.
_UPDATE = """\
import gc, time, machine, https_ota
stop = {stop}
gc.collect()
free = [gc.mem_free(), None]
def progress(done, total):
    if free[1] is None:
        gc.collect()
        free[1] = gc.mem_free()
    if stop and done >= stop:
        machine.reset()
t = time.ticks_ms()
error = info = None
try:
    info = https_ota.install({source}, progress=progress, {options})
except https_ota.OTAError as e:
    error = e.code
ms = time.ticks_diff(time.ticks_ms(), t)
gc.collect()
_say(repr(dict(error=error, version=info and info.version, ms=ms, free=free, after=gc.mem_free())))
"""

_FIND_STATE = """\
import https_ota
_say(repr(https_ota.state()))
"""


class Device:
    """The board under test: runs code, updates, restarts; `rows` become the table at the end."""

    def __init__(self, port: str, folder: Path) -> None:
        self.board = link.Link(port)
        self.folder = folder
        self.rows: list[tuple[str, ...]] = []
        self.asked: list[serve.Answered] = []
        self.url = ""
        self.ca = b""

    def ask(self) -> status.Status:
        """Ask for slots and firmware."""
        return status.read(self.board)

    def reset(self) -> status.Status:
        """Restart the chip as an application would, and ask what runs."""
        self.board.reset(60)
        return self.ask()

    def state(self) -> int:
        """The running firmware's state by the package."""
        return int(self.board.ask(_FIND_STATE))

    def connect(self) -> str | None:
        """Get into the network, with the right time; returns the board's address, None without one."""
        found = self.ask()
        if not found.clock_set:
            push.set_clock(self.board)
        address = found.address
        ssid = os.environ.get("WIFI_SSID")
        if address or not ssid:
            return address
        options = push.Options(ssid=ssid, wifi_key=os.environ.get("WIFI_KEY", ""))
        return push.find_address(self.board, self.ask(), options)

    def update(self, case: str, data: bytes, way: str = "wifi", *, stop: int = 0, **options):
        """Install these bytes, starting from a fresh heap. Returns what the board says of it, None when it was reset."""
        name = f"{hashlib.sha256(data).hexdigest()[:12]}.bin"
        (self.folder / name).write_bytes(data)
        self.board.soft_reset()
        self.asked.clear()
        with contextlib.ExitStack() as stack:
            if way == "usb":
                stack.enter_context(self.board.mounted(self.folder))
                source = f"/remote/{name}"
            else:
                assert self.connect()
                source = self.url + name
                options.setdefault("cadata", self.ca.decode())
            given = ", ".join(f"{k}={v!r}" for k, v in options.items())
            code = _UPDATE.format(source=repr(source), options=given, stop=stop)
            try:
                said = self.board.ask(code, 150)
            except link.RestartedError:
                said = None
        if said is None:
            self.board.reopen(60)
            return None
        seconds = said["ms"] / 1000
        self.rows.append(
            (
                f"{case} ({way})",
                f"{seconds:.1f} s",
                f"{len(data) / 1024 / seconds:.0f} KB/s" if said["version"] and seconds else "",
                f"{said['free'][0]}",
                f"{said['free'][1] or ''}",
                f"{said['after']}",
            )
        )
        return said


_device: Device | None = None


@pytest.fixture(scope="session")
def port(tmp_path_factory):
    """The port of the board under test."""
    given = os.environ.get("DEVICE_PORT")
    if given:
        yield given
        return
    app = images.app_image(size=200_000, seed=7)
    flash = simflash.make_flash(tmp_path_factory.mktemp("device") / "flash.bin", app)
    with SerialBoard(Board(flash)) as serial:
        yield serial.port


@pytest.fixture(scope="session")
def device(port):
    """The board, with the package on it; skips when it is not one that can be updated."""
    global _device  # noqa: PLW0603  for the table at the end
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        try:
            device = Device(port, Path(name))
        except ToolError as e:
            pytest.skip(str(e))
        stack.callback(device.board.close)
        found = device.ask()
        if found.target is None:
            pytest.skip("no OTA table: expected ota_0, ota_1 and otadata")
        if found.running.state == "PENDING_VERIFY":
            pytest.skip("the running firmware is on trial: confirm it first, or reset the board")
        if not found.package or found.package[1].startswith("/"):
            compiler = built.MPY_CROSS
            made = package.prepare(found.mpy, compiler if compiler.exists() else None)
            package.install(device.board, made, found.path)
            device.board.soft_reset()
        _device = device
        yield device
        device.board.run_main()


@pytest.fixture(scope="session")
def original(device):
    """The firmware that the board came with, read back from its slot; it is put back at the end."""
    found = device.ask()
    assert found.running.desc
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = (
        CACHE
        / f"{found.running.desc.app_elf_sha256[:16]}-{hashlib.sha256(found.running.head).hexdigest()[:8]}.bin"
    )
    if not kept.exists() or not image.examine(kept.read_bytes()).valid:
        start = time.monotonic()
        with device.board.mounted(device.folder):
            device.board.exec(_READ_BACK, on_line=lambda line: None, limit_s=1200)
        (device.folder / "app.bin").replace(kept)
        seconds = f"{time.monotonic() - start:.1f} s"
        device.rows.append(("the running firmware read back", seconds, "", "", "", ""))
    data = kept.read_bytes()
    assert image.examine(data).valid
    yield data
    now = device.ask()
    if now.running.head != found.running.head:
        if now.running.state == "PENDING_VERIFY":
            device.board.exec("import https_ota\nhttps_ota.confirm()")
        device.update("the first firmware again", data, "usb")
        device.reset()
        device.board.exec("import https_ota\nhttps_ota.confirm()")


@pytest.fixture(scope="session")
def build(original):
    """Returns a function that gives the board's own firmware another version: it boots, as nothing else is changed."""

    def build(version: str) -> bytes:
        head = bytearray(original)
        head[images.DESC_OFFSET + 16 : images.DESC_OFFSET + 48] = version.encode().ljust(32, b"\0")
        return images.seal(bytes(head))

    return build


@pytest.fixture(scope="session")
def network(device):
    """An HTTPS server on this machine that the board can reach; skips when there is none."""
    try:
        address = device.connect()
    except ToolError as e:
        pytest.skip(str(e))
    if not address:
        pytest.skip("the board is in no network, and WIFI_SSID is not set")
    here = authority.own_address(address)
    if not here:
        pytest.skip(f"this machine has no way to the board at {address}")
    ca = authority.make()
    with serve.Server(device.folder, ca.issue([here]), on_request=device.asked.append) as server:
        device.url = f"https://{here}:{server.port}/"
        device.ca = ca.pem
        yield server


@pytest.fixture
def settled(device, original):
    """The board with a confirmed firmware running; returns its status."""
    found = device.ask()
    if found.running.state == "PENDING_VERIFY":
        device.board.exec("import https_ota\nhttps_ota.confirm()")
        found = device.ask()
    return found


def pytest_terminal_summary(terminalreporter):
    """Print what the cases took."""
    if _device is None or not _device.rows:
        return
    titles = ("case", "time", "rate", "heap free before", "in progress", "after")
    rows = [titles, *_device.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(titles))]
    terminalreporter.section("updates on the board")
    for row in rows:
        cells = zip(row, widths, strict=True)
        terminalreporter.write_line("  ".join(c.ljust(w) for c, w in cells).rstrip())
