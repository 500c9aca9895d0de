"""More real servers, and the list of all that updates are tried with: test_zoo.py and tests/bench/zoo.py."""

import asyncio
import http.server
import os
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import certs
import simflash
from aiohttp import web
from board import PENDING_VERIFY, Board, message
from s3 import S3
from servers import (
    DEADLINE_S,
    HOST,
    SILENT_S,
    Nginx,
    OpenSSLServer,
    ProcessServer,
    Server,
    reserve_port,
    tls_1_2,
)

APACHE_MODULES = ("mpm_event", "authz_core", "ssl")


class Apache(ProcessServer):
    """Apache httpd, which serves the files that are below `root` when it starts."""

    def __init__(self, root: Path, identity: certs.Identity, digest: str = "") -> None:
        super().__init__(identity)
        self.root = root
        self.digest = digest  # a line of htdigest: whom Digest authentication lets in

    def start(self) -> None:
        # -X: one process, in the foreground.
        self._spawn(["apache2", "-X", "-f", str(self.directory / "httpd.conf")], self.directory)
        self._wait_until(self._accepts)

    def _prepare(self, stack: ExitStack) -> None:
        self.port = reserve_port(stack)
        # Started by root, Apache gives up root's rights and could not read what is in a test's folder.
        self.directory.chmod(0o755)
        shutil.copytree(self.root, self.directory / "www")
        files = self.identity.write(self.directory, "server")
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in APACHE_MODULES
        )
        login = ""
        if self.digest:
            (self.directory / "digest").write_text(self.digest)
            names = ("authn_core", "authn_file", "authz_user", "auth_digest")
            modules += "".join(
                f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
                for name in names
            )
            login = (
                f"<Location />\nAuthType Digest\nAuthName boards\nAuthUserFile {self.directory}/digest\n"
                "Require valid-user\n</Location>\n"
            )
        account = "User nobody\nGroup nogroup\n" if os.geteuid() == 0 else ""
        (self.directory / "httpd.conf").write_text(f"""\
{modules}{account}{login}
ServerRoot "{self.directory}"
DefaultRuntimeDir "{self.directory}"
PidFile httpd.pid
ErrorLog error.log
ServerName localhost
Listen {HOST}:{self.port}
DocumentRoot "{self.directory}/www"
SSLEngine on
SSLProtocol TLSv1.2
SSLCertificateFile {files.cert.name}
SSLCertificateKeyFile {files.key.name}
""")


class Lighttpd(ProcessServer):
    """lighttpd, which serves the files below `root`."""

    def __init__(self, root: Path, identity: certs.Identity) -> None:
        super().__init__(identity)
        self.root = root.resolve()

    def start(self) -> None:
        self._spawn(["lighttpd", "-D", "-f", "lighttpd.conf"], self.directory)
        self._wait_until(self._accepts)

    def _prepare(self, stack: ExitStack) -> None:
        self.port = reserve_port(stack)
        files = self.identity.write(self.directory, "server")
        (self.directory / "lighttpd.conf").write_text(f"""\
server.modules = ("mod_openssl")
server.bind = "{HOST}"
server.port = {self.port}
server.document-root = "{self.root}"
server.upload-dirs = ("{self.directory}")
# As in Debian's configuration; without a type there is no ETag.
mimetype.assign = (".bin" => "application/octet-stream")
ssl.engine = "enable"
ssl.pemfile = "{files.cert}"
ssl.privkey = "{files.key}"
ssl.openssl.ssl-conf-cmd = ("MinProtocol" => "TLSv1.2", "MaxProtocol" => "TLSv1.2")
""")


class PythonServer(Server):
    """What `python -m http.server` serves files with, over TLS: HTTP/1.0, no ranges."""

    _listener: http.server.ThreadingHTTPServer | None = None

    def __init__(self, root: Path, identity: certs.Identity) -> None:
        super().__init__(identity)
        self.root = root

    def start(self) -> None:
        context = tls_1_2(self)
        root = str(self.root)

        class Handler(http.server.SimpleHTTPRequestHandler):
            timeout = DEADLINE_S

            def __init__(self, *args: object) -> None:
                super().__init__(*args, directory=root)

            def log_message(self, *args: object) -> None:
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = False  # server_close() waits for them

            def get_request(self):
                connection, address = super().get_request()
                return context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                ), address

            def handle_error(self, *args: object) -> None:
                """A client that hung up, as the 4 KiB boards do."""

        self._listener = Listener((HOST, self.port), Handler)
        self.port = self._listener.server_port
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        if self._listener is None:
            return
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()
        self._listener = None


class Aiohttp(Server):
    """aiohttp's static files, which are web.FileResponse."""

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, root: Path, identity: certs.Identity) -> None:
        super().__init__(identity)
        self.root = root

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        app = web.Application()
        app.router.add_static("/", self.root)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        listener = socket.create_server((HOST, self.port))
        self.port = listener.getsockname()[1]
        self._run(self._serve(listener))

    def stop(self) -> None:
        if self._loop is None:
            return
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    async def _serve(self, listener: socket.socket) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, listener, ssl_context=tls_1_2(self)).start()

    def _run(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)


class Entry(NamedTuple):
    """A server of the zoo."""

    name: str
    start: Callable[[Path, certs.Identity], Server]
    ranges: bool
    # Why the 4 KiB board can't have the file: the code of the OTAError; "ok" when it can.
    tls4k: str = "ok"
    # The option of updates from it.
    timeout_s: int = 15


def _openssl_small(root: Path, identity: certs.Identity) -> Server:
    return OpenSSLServer(root, identity, "-max_send_frag", "2048")


ZOO = (
    Entry("nginx", Nginx, ranges=True),
    Entry("Apache", Apache, ranges=True),
    Entry("lighttpd", Lighttpd, ranges=True),
    Entry("S3 (moto)", S3, ranges=True),
    Entry("aiohttp", Aiohttp, ranges=True),
    Entry("python http.server", PythonServer, ranges=False, tls4k="TLS_BUFFER"),
    Entry(
        "openssl s_server",
        OpenSSLServer,
        ranges=False,
        tls4k="TLS_BUFFER",
        timeout_s=SILENT_S,
    ),
    # Without ranges too, but no record is larger than 2048 bytes.
    Entry("openssl s_server, 2 KiB records", _openssl_small, ranges=False, timeout_s=SILENT_S),
)

KINDS = ("rsa", "ec")

# Board and options of an update.
MODES = {
    "sim plain": ("sim", {"request_size": 0}),
    "sim ranged": ("sim", {"request_size": 4096}),
    "sim-tls4k": ("sim-tls4k", {}),
}


def make_folder(parent: Path, image: bytes) -> Path:
    """Make the folder that is served, with app.bin in it; return it."""
    www = parent / "www"
    www.mkdir()
    (www / "app.bin").write_bytes(image)
    # While a file is younger than a second, Apache calls its ETag weak.
    os.utime(www / "app.bin", (1_700_000_000, 1_700_000_000))
    return www


def chain(kind: str) -> tuple[certs.Authority, certs.Identity]:
    """Return a root and a server below an intermediate, all with keys of this kind."""
    root = certs.root(kind)
    return root, root.intermediate(kind=kind).server(kind=kind)


def expected(entry: Entry, mode: str) -> str:
    """Return what update() has to say."""
    return entry.tls4k if mode == "sim-tls4k" else "ok"


def result(said: str) -> str:
    """Return what update() said in a word: "ok", the name of an OTAError's code, or of another exception."""
    words = said.split(": ")
    return words[1] if words[0] == "OTAError" else words[0]


def update(board: Board, url: str, image: bytes, ca: certs.Identity, **options: object) -> str:
    """Install from a URL on a board that runs version 1.0.0; return "ok" or the error's words.

    "ok" is more than the update's own word: the image, of version 2.0.0, is in the slot and runs.
    """
    before = board.boots_from()
    (board.flash.parent / "ca.pem").write_bytes(ca.pem)
    done = board.start(
        f"import https_ota\nhttps_ota.update({url!r}, cadata=open('ca.pem').read(), **{options!r})"
    )
    if done.returncode:
        assert board.boots_from() == before, "the boot selection changed"
        return message(done.stderr)
    slot = next(p for p in simflash.table() if p.name == "ota_1")
    assert board.flash.read_bytes()[slot.offset :][: len(image)] == image
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
    return "ok"


def new_board(folder: Path, build: str) -> Board:
    """Return a board with version 1.0.0 that has been started once."""
    board = Board(simflash.make_flash(folder / "flash.bin"), build)
    assert board.running().version == "1.0.0"
    return board
