"""`serve`: an HTTPS server for a bench full of boards, and the one that `push` uses.

TLS 1.2, HTTP/1.1 with keep-alive, single ranges, strong ETags made of the content. Not for the open internet.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import socket
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, NamedTuple

from https_ota_tools import authority
from https_ota_tools.errors import ToolError

NAME = "serve"
HELP = "serve a folder over HTTPS to boards in the same network"

_TIMEOUT_S = 60
_PIECE = 64 << 10


class Answered(NamedTuple):
    """A request that was answered. `sent` counts bytes of the body."""

    client: str
    method: str
    path: str
    range: str
    status: int
    sent: int
    agent: str

    def __str__(self) -> str:
        what = f"{self.client} {self.method} {self.path}"
        return f"{what} {self.range or '-'} {self.status} {self.sent} {self.agent or '-'}"


class Server:
    """Serves the files below a folder while it is entered; `port` is chosen by the system unless given.

    identity: PEM of certificate(s) and key, in one or as (certificate, key) files.
    on_request: called with each Answered, from the thread of its connection.
    """

    def __init__(
        self,
        folder: Path,
        identity: bytes | tuple[Path, Path],
        *,
        port: int = 0,
        host: str = "",
        on_request: Callable[[Answered], None] | None = None,
    ) -> None:
        if not 0 <= port <= 0xFFFF:
            raise ToolError(f"cannot listen on port {port}: expected 0 to 65535")
        self._context = _context(identity)
        self._folder = folder.resolve()
        self._on_request = on_request
        self._tags: dict[tuple[Path, int, int], str] = {}
        try:
            self._http = _Listener((host, port), self._handler())
        except OSError as e:
            raise ToolError(f"cannot listen on port {port}: {e.strerror}") from e
        self._http.context = self._context
        self._http.owner = self
        # Connections that were begun, whatever became of them.
        self.connected = 0
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def find(self, path: str) -> Path | None:
        """Return the file that a request's path means, None when there is none below the folder."""
        name = urllib.parse.unquote(path.partition("?")[0]).lstrip("/")
        try:
            found = (self._folder / name).resolve()
            inside = found.is_relative_to(self._folder) and found.is_file()
        except (OSError, ValueError):
            return None
        return found if inside else None

    def tag(self, path: Path) -> str:
        """Return the ETag of a file: strong, and equal for equal contents."""
        stat = path.stat()
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._tags:
            digest = hashlib.sha256()
            with path.open("rb") as f:
                while piece := f.read(_PIECE):
                    digest.update(piece)
            self._tags[key] = f'"{digest.hexdigest()[:32]}"'
        return self._tags[key]

    def answered(self, what: Answered) -> None:
        """Note a request."""
        if self._on_request:
            self._on_request(what)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(_Handler):
            server_of = owner

        return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext
    owner: Server

    def get_request(self) -> tuple[socket.socket, object]:
        raw, address = super().get_request()
        self.owner.connected += 1
        raw.settimeout(_TIMEOUT_S)
        # The handshake is left to the connection's own thread: a board that stalls in it shall not stop the others.
        wrapped = self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, request: object, client_address: object) -> None:
        # Boards hang up, and those that do not like the certificate say so in TLS only.
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "https-ota"
    sys_version = ""
    timeout = _TIMEOUT_S
    disable_nagle_algorithm = True
    server_of: Server

    def do_GET(self) -> None:
        """Answer with a file, a part of it, or "not modified"."""
        self._sent = 0
        self._status = 0
        try:
            self._answer()
        finally:
            what = Answered(
                str(self.client_address[0]),
                self.command,
                _printable(self.path),
                _printable(self.headers.get("Range", "")),
                self._status,
                self._sent,
                _printable(self.headers.get("User-Agent", "")),
            )
            self.server_of.answered(what)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Leave the log to the owner."""

    def _answer(self) -> None:
        path = self.server_of.find(self.path)
        if path is None:
            self._head(404, 0)
            return
        with path.open("rb") as file:
            tag = self.server_of.tag(path)
            size = file.seek(0, 2)
            known = [t.strip().removeprefix("W/") for t in self._list("If-None-Match")]
            if tag in known or "*" in known:
                self._head(304, None, ETag=tag)
                return
            # A range of a file that has changed is of no use: all of it then.
            wanted = self.headers.get("Range")
            if self.headers.get("If-Range", tag) != tag:
                wanted = None
            part = _parse_range(wanted, size) if wanted else None
            extra = {
                "ETag": tag,
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
            }
            if part is None:
                start, end = 0, size
                self._head(200, size, **extra)
            elif part[0] >= size:
                self._head(416, 0, **{"Content-Range": f"bytes */{size}"})
                return
            else:
                start, end = part
                extra["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
                self._head(206, end - start, **extra)
            if self.command != "HEAD":
                self._body(file, start, end)

    def _list(self, name: str) -> list[str]:
        value = self.headers.get(name)
        return value.split(",") if value else []

    def _head(self, status: int, length: int | None, **fields: str) -> None:
        self._status = status
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self, file: BinaryIO, start: int, end: int) -> None:
        file.seek(start)
        while start < end:
            data = file.read(min(_PIECE, end - start))
            if not data:
                # The file has become shorter: the length that was promised can't be kept.
                self.close_connection = True
                return
            self.wfile.write(data)
            start += len(data)
            self._sent += len(data)


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (first, one past the last) of a single range; None for anything else, which is then ignored."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0) if int(last) else size, size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _printable(text: str) -> str:
    return re.sub(r"[^!-~ ]", "?", text)


def _context(identity: bytes | tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # What boards can speak. A TLS 1.3 server would also send them session tickets that they do not expect.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        if isinstance(identity, tuple):
            context.load_cert_chain(identity[0], identity[1], password=_no_password)
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "server.pem"
                file.touch(0o600)
                file.write_bytes(identity)
                context.load_cert_chain(file)
    except (OSError, ValueError) as e:
        raise ToolError(f"certificate and key can't be used: {e}") from e
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted: expected one without a password")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="what to serve")
    parser.add_argument(
        "--listen", type=int, default=8443, metavar="PORT", help="default %(default)s"
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FOLDER",
        help="where the CA is kept, so that boards can keep its ca.pem (default: a new one each time)",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a further host name or address of this machine, for the certificate",
    )
    parser.add_argument(
        "--cert", type=Path, metavar="PEM", help="your own certificate, with its chain"
    )
    parser.add_argument("--key", type=Path, metavar="PEM", help="its key")


def run(args: argparse.Namespace) -> int:
    """Do the command, until it is interrupted: that is how it ends, no failure."""
    if not args.folder.is_dir():
        raise ToolError(f"{args.folder} is no folder")
    if (args.cert is None) != (args.key is None):
        raise ToolError("--cert and --key belong together: give both or none")
    if args.cert and (args.state or args.name):
        raise ToolError("--state and --name are for a certificate made here, not for --cert")
    with contextlib.ExitStack() as stack:
        names = [*args.name, *authority.own_names()]
        ca_file = None
        identity: bytes | tuple[Path, Path]
        if args.cert:
            identity = (args.cert, args.key)
        else:
            folder = args.state or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ca = authority.keep(folder)
            ca_file = folder / authority.CERT
            identity = ca.issue(names)
        server = stack.enter_context(
            Server(args.folder, identity, port=args.listen, on_request=_log)
        )
        if ca_file:
            print(f"the CA for the boards' cadata: {ca_file}")
        for path in sorted(p for p in args.folder.rglob("*") if p.is_file()):
            where = urllib.parse.quote(os.fsencode(path.relative_to(args.folder).as_posix()))
            print(f"https://{names[0]}:{server.port}/{where}")
        with contextlib.suppress(KeyboardInterrupt):
            print(f"serving {args.folder} on port {server.port}; Ctrl-C ends it", flush=True)
            threading.Event().wait()
    return 0


def _log(what: Answered) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)
