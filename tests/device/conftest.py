"""A real board, an emulated chip or the SIM board, on a serial port.

`make test-device PORT=/dev/ttyUSB0`: DEVICE_PORT names the port; without it the tests start a SIM board. WIFI_SSID and WIFI_KEY tell a
real board the way into a network that this machine is in as well. The board gets its first firmware back at the end.
`make test-chip`: DEVICE_CHIP is a folder with two firmwares that it has built, and their chip is an emulated one.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import built
import chipfigures
import images
import pytest
import simflash
from board import Board
from built import ROOT
from emulated import HOST, EmulatedChip
from simserial import Powered, SerialBoard

from https_ota_tools import authority, image, link, package, push, serve, status
from https_ota_tools.errors import ToolError

# The folders of the firmwares that make test-chip has built.
CHIP = os.environ.get("DEVICE_CHIP")
FIRST, NEXT = (
    Path(CHIP, version, "firmware", "ESP32_C3_QEMU_OTA") if CHIP else None
    for version in ("1.0.0", "2.0.0")
)

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

# One update, as the board sees it: MicroPython's heap and ESP-IDF's before, in the middle and after. At `stop` bytes {at_stop} is
# done, never at 0.
_UPDATE = """\
import gc, time, machine, https_ota
stop = {stop}
def heaps():
    gc.collect()
    try:
        import esp32
        idf = sum([region[1] for region in esp32.idf_heap_info(esp32.HEAP_DATA)])
    except (ImportError, AttributeError):
        idf = None
    return gc.mem_free(), idf
free = [heaps(), None]
def progress(done, total):
    if free[1] is None:
        free[1] = heaps()
    if stop and done >= stop:
        {at_stop}
late = turns = 0
async def beside():
    import asyncio
    from https_ota import aio
    async def tick():
        global late, turns
        while True:
            t = time.ticks_ms()
            await asyncio.sleep_ms(10)
            late = max(late, time.ticks_diff(time.ticks_ms(), t) - 10)
            turns += 1
    task = asyncio.create_task(tick())
    try:
        return await aio.update({source}, progress=progress, {options})
    finally:
        task.cancel()
t = time.ticks_ms()
error = info = None
try:
    if {tasks}:
        import asyncio
        info = asyncio.run(beside())
    else:
        info = https_ota.install({source}, progress=progress, {options})
except https_ota.OTAError as e:
    error = e.code
ms = time.ticks_diff(time.ticks_ms(), t)
free.append(heaps())
_say(repr(dict(error=error, version=info and info.version, ms=ms, free=free, late=late, turns=turns)))
"""

# What minimal/boot.py of the examples does, with this network's name and key.
_NETWORK = (ROOT / "lib/examples/minimal/boot.py").read_text()
_ADDRESS = """
nic = network.WLAN(network.STA_IF) if hasattr(network, "WLAN") else network.LAN()
_say(repr(nic.ifconfig()[0] if nic.isconnected() else None))
"""
_HAS_WIFI = """
import network
_say(repr(hasattr(network, "WLAN")))
"""

_FIND_STATE = """\
import https_ota
_say(repr(https_ota.state()))
"""


_CUT = "now"


class _CutError(Exception):
    """The moment has come."""


class Device:
    """The board under test: runs code, updates, restarts; `rows` become the table at the end."""

    def __init__(self, port: str, folder: Path, power: Powered | None) -> None:
        self.board = link.Link(port)
        self.folder = folder
        self.power = power
        self.rows: list[tuple[str, ...]] = []
        self.asked: list[serve.Answered] = []
        self.url = ""
        self.ca = b""
        self.versions = ("", "")

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
        ssid = os.environ.get("WIFI_SSID")
        if found.address or (not ssid and self.board.ask(_HAS_WIFI)):
            return found.address
        given = {"WIFI_SSID": ssid or "", "WIFI_KEY": os.environ.get("WIFI_KEY", "")}
        code = re.sub(
            r"(?m)^(WIFI_\w+) = .*", lambda line: f"{line[1]} = {given[line[1]]!r}", _NETWORK
        )
        return self.board.ask(code + _ADDRESS, 60)

    def update(
        self,
        case: str,
        data: bytes,
        way: str = "network",
        *,
        stop: int = 0,
        cut: bool = False,
        tasks: bool = False,
        **options,
    ):
        """Install these bytes, starting from a fresh heap. Returns what the board says of it, None when it was reset.

        stop: at so many bytes it resets itself, or, with `cut`, has its power cut. tasks: as a task of asyncio, beside another.
        """
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
            code = _UPDATE.format(
                source=repr(source),
                options=given,
                stop=stop,
                at_stop=f"print({_CUT!r}); time.sleep(99)" if cut else "machine.reset()",
                tasks=tasks,
            )
            try:
                said = self.board.ask(code, 150) if not cut else self._cut(code)
            except link.RestartedError:
                said = None
        if said is None:
            self.board.reopen(60)
            return None
        if way == "usb":
            case += ", over the serial line"
        self.rows.append(chipfigures.row(case, len(data), len(self.asked), said))
        return said

    def _cut(self, code: str) -> None:
        """Run code until it says that the power is to be cut; cut it, and switch it on again."""

        def power_off(line: str) -> None:
            if line == _CUT:
                raise _CutError

        with contextlib.suppress(_CutError):
            self.board.exec("_say = print\n" + code, 150, on_line=power_off)
        self.off_and_on()

    def off_and_on(self) -> None:
        """Cut the power of a board that can be switched, and wait until it answers again."""
        assert self.power
        self.power.power_off()
        self.power.power_on()
        self.board.reopen(60)


_device: Device | None = None


@pytest.fixture(scope="session")
def power(tmp_path_factory):
    """What the board under test is switched off and on with, None for a real one."""
    if os.environ.get("DEVICE_PORT"):
        yield None
        return
    flash = tmp_path_factory.mktemp("device") / "flash.bin"
    if FIRST:
        args = ("--chip", "esp32c3", "merge-bin", "--pad-to-size", "4MB", "-o", flash)
        subprocess.run(
            [sys.executable, "-m", "esptool", *args, "@flash_args"], cwd=FIRST, check=True
        )
        emulated: Powered = EmulatedChip(flash)
    else:
        simflash.make_flash(flash, images.app_image(size=200_000, seed=7))
        emulated = SerialBoard(Board(flash))
    with emulated:
        yield emulated


@pytest.fixture(scope="session")
def port(power):
    """The port of the board under test."""
    return power.port if power else os.environ["DEVICE_PORT"]


@pytest.fixture(scope="session")
def next_version():
    """The second firmware that `make test-chip` has built; skips with what is missing for that."""
    if NEXT:
        return (NEXT / "micropython.bin").read_bytes()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    said = subprocess.run(
        ["make", "-s", "check-chip"],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    missing = [
        line.partition(". Get it once")[0] + "."
        for line in said.stderr.splitlines()
        if not line.startswith((" ", "make"))
    ]
    pytest.skip("no emulated chip: " + (" ".join(missing) or "make test-chip runs this"))


@pytest.fixture(scope="session")
def device(port, power):
    """The board, with the package on it; skips when it is not one that can be updated."""
    global _device  # noqa: PLW0603  for the table at the end
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        try:
            device = Device(port, Path(name), power)
        except ToolError as e:
            pytest.skip(str(e))
        stack.callback(device.board.close)
        found = device.ask()
        if found.target is None:
            pytest.skip("no OTA table: expected ota_0, ota_1 and otadata")
        if found.running.state == "PENDING_VERIFY":
            pytest.skip("the running firmware is on trial: confirm it first, or reset the board")
        version = str(device.board.ask("import sys\n_say(repr(sys.version))"))
        version = version.partition("MicroPython ")[2].partition(" on ")[0]
        device.versions = (version, found.running.desc.idf_ver)
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
        device.rows.append(("the running firmware read back", seconds, *[""] * 8))
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
    here = HOST if FIRST else authority.own_address(address)
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
    try:
        found = device.ask()
    except link.LinkError:
        # Of an emulated one that stands still, one test is to fail, not all that come after it.
        if not device.power:
            raise
        device.off_and_on()
        found = device.ask()
    if found.running.state == "PENDING_VERIFY":
        device.board.exec("import https_ota\nhttps_ota.confirm()")
        found = device.ask()
    return found


@pytest.fixture(scope="session", autouse=True)
def figures(request):
    """Write what the cases took on an emulated chip into the manual, when all have passed."""
    yield
    if FIRST and _device and not request.session.testsfailed:
        chipfigures.write({"1.0.0": FIRST, "2.0.0": NEXT}, *_device.versions, _device.rows)


def pytest_terminal_summary(terminalreporter):
    """Print what the cases took."""
    if _device is None or not _device.rows:
        return
    rows = [chipfigures.TITLES, *_device.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("updates on the board")
    for row in rows:
        cells = zip(row, widths, strict=True)
        terminalreporter.write_line("  ".join(c.ljust(w) for c, w in cells).rstrip())
