"""Real servers on 127.0.0.1 for the tests, each a context manager.

    with servers.Nginx(files, ca.server()) as server:
        fetch(server.url("app.bin"))
        assert server.requests()[-1].status == 206

They take a free port from the system, keep configuration and logs in a directory of their own, and have
finished starting when the `with` body begins.
"""

import contextlib
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from certs import Identity

HOST = "127.0.0.1"
DEADLINE_S = 10

# Lines for a server or location of nginx.
# A filter that may change the length makes nginx send Transfer-Encoding: chunked and no Accept-Ranges.
CHUNKED = "sub_filter_types *; sub_filter 'text that no firmware has' '';"
# Ranges are ignored: 200 and the whole file.
NO_RANGES = "max_ranges 0;"


class Server:
    """What all servers have: a port, a directory, URLs."""

    port: int
    directory: Path

    def __init__(self, identity: Identity | None) -> None:
        self.identity = identity

    def url(self, path: str = "", host: str = "localhost") -> str:
        """Return the URL of a path on this server."""
        scheme = "https" if self.identity else "http"
        return f"{scheme}://{host}:{self.port}/{path.removeprefix('/')}"

    def start(self) -> None:
        """Start, and return when connections are accepted."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop. Does nothing if it does not run."""
        raise NotImplementedError

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="server-"))
            )
            stack.callback(self.stop)
            self._prepare(stack)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        """Do what a later stop() and start() must not undo."""


class _ProcessServer(Server):
    """A server that is another program."""

    process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def output(self) -> str:
        """What the program printed."""
        return (self.directory / "output.log").read_text(errors="replace")

    def _spawn(self, command: Sequence[str], cwd: Path) -> None:
        if shutil.which(command[0]) is None:
            raise RuntimeError(
                f"{command[0]} is missing: install the Debian package of that name (nginx: nginx-light)"
            )
        with (self.directory / "output.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def _wait_until(self, ready: Callable[[], object]) -> None:
        end = time.monotonic() + DEADLINE_S
        assert self.process
        while not ready():
            # Waiting for the end of the process is both the pause and the check that it still runs.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.005)
                raise RuntimeError(f"{self.process.args[0]} did not start:\n{self.output}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.process.args[0]} is not ready:\n{self.output}")


class Logged(NamedTuple):
    """A request in nginx's log. `sent` counts body bytes; `connection` is equal for requests of one connection."""

    method: str
    path: str
    range: str
    status: int
    sent: int
    connection: int
    agent: str


class Nginx(_ProcessServer):
    """nginx, which serves the files below `root`. Without an identity it talks plain HTTP.

    `locations` maps the words after "location" to the lines in it, as {"= /old": "return 302 /new;"};
    `lines` are for the server block. `client_ca` (PEM) demands client certificates, `basic_auth` is (user, password).
    stop() and start() keep port and files: a server that goes away and comes back.
    """

    def __init__(
        self,
        root: Path,
        identity: Identity | None = None,
        *,
        locations: Mapping[str, str] | None = None,
        lines: str = "",
        protocols: str = "TLSv1.2",
        client_ca: bytes = b"",
        basic_auth: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(identity)
        self.root = root.resolve()
        self.locations = dict(locations or {})
        self.lines = lines
        self.protocols = protocols
        self.client_ca = client_ca
        self.basic_auth = basic_auth

    def requests(self) -> list[Logged]:
        """Return all requests that were answered."""
        if self.process:
            self._round_trip()
        keys = Logged._fields
        lines = (self.directory / "access.log").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [
            Logged(*(int(d[k]) if k in {"status", "sent", "connection"} else d[k] for k in keys))
            for d in found
        ]

    def start(self) -> None:
        self._spawn(
            ["nginx", "-p", str(self.directory), "-e", "error.log", "-c", "nginx.conf"],
            self.directory,
        )
        self._wait_until(self._accepts)

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        # Bound but not listening, this socket keeps the port ours; nginx may listen on it thanks to SO_REUSEPORT.
        reserved = stack.enter_context(socket.socket())
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((HOST, 0))
        self.port = reserved.getsockname()[1]
        (self.directory / "nginx.conf").write_text(self._configuration())

    def _configuration(self) -> str:
        tls = ""
        if self.identity:
            files = self.identity.write(self.directory, "server")
            tls = f"ssl_certificate {files.cert.name}; ssl_certificate_key {files.key.name};"
            tls += f" ssl_protocols {self.protocols};"
        if self.client_ca:
            (self.directory / "client-ca.pem").write_bytes(self.client_ca)
            tls += " ssl_client_certificate client-ca.pem; ssl_verify_client on;"
        auth = ""
        if self.basic_auth:
            user, password = self.basic_auth
            (self.directory / "passwords").write_text(f"{user}:{{PLAIN}}{password}\n")
            auth = "auth_basic test; auth_basic_user_file passwords;"
        # The temporary folders are by default those of the system's nginx, which belong to another user.
        folders = "".join(
            f"{kind}_temp_path temp-{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        locations = "".join(
            f"location {where} {{ {lines} }}\n" for where, lines in self.locations.items()
        )
        return f"""\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log info;
events {{ worker_connections 64; }}
http {{
{folders}
default_type application/octet-stream;
log_format requests escape=json '{{"method":"$request_method","path":"$request_uri","range":"$http_range",'
  '"status":"$status","sent":"$body_bytes_sent","connection":"$connection","agent":"$http_user_agent"}}';
access_log access.log requests;
server {{
listen {HOST}:{self.port} reuseport{" ssl" if self.identity else ""};
root "{self.root}";
{tls}
{auth}
{self.lines}
{locations}
}}
}}
"""

    def _accepts(self) -> bool:
        try:
            self._round_trip()
        except ConnectionRefusedError:
            return False
        return True

    def _round_trip(self) -> None:
        # A connection that says nothing is closed by nginx without a line in its log. As this nginx does one thing
        # after the other, all that it was at before is done, and logged, when our end sees that.
        with socket.create_connection((HOST, self.port), DEADLINE_S) as s:
            s.shutdown(socket.SHUT_WR)
            s.recv(1)


class OpenSSLServer(_ProcessServer):
    """`openssl s_server -WWW` over the files below `root`: HTTP/1.0, no Content-Length, no ranges."""

    def __init__(self, root: Path, identity: Identity, *options: str) -> None:
        super().__init__(identity)
        self.root = root
        self.options = options

    def start(self) -> None:
        assert self.identity
        files = self.identity.write(self.directory, "server")
        command = ["openssl", "s_server", "-WWW", "-accept", f"{HOST}:0"]
        command += ["-cert", str(files.leaf), "-key", str(files.key), *self.options]
        if self.identity.chain:
            command += ["-cert_chain", str(files.chain)]
        self._spawn(command, self.root)
        self._wait_until(self._port_known)

    def _port_known(self) -> bool:
        # It says "ACCEPT 127.0.0.1:12345" when it listens.
        for line in self.output.splitlines(keepends=True):
            if line.startswith("ACCEPT ") and line.endswith("\n"):
                self.port = int(line.rpartition(":")[2])
                return True
        return False


class _ThreadServer(Server):
    """A server in this process: a thread for each connection, which runs _serve()."""

    tcp: socketserver.ThreadingTCPServer | None = None

    def __init__(
        self, identity: Identity | None, tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ) -> None:
        super().__init__(identity)
        self.tls = tls
        #: What ended connections: a client that hung up or did not like the certificate.
        self.hangups: list[OSError] = []
        self._errors: list[Exception] = []
        self._open: set[socket.socket] = set()

    def start(self) -> None:
        context = None
        if self.identity:
            files = self.identity.write(self.directory, "server")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files.cert, files.key)
            context.maximum_version = self.tls
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._connection(self.request, context)

        self.tcp = socketserver.ThreadingTCPServer((HOST, 0), Handler)
        self.port = self.tcp.server_address[1]
        self._thread = threading.Thread(
            target=self.tcp.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def stop(self) -> None:
        tcp, self.tcp = self.tcp, None
        if tcp is None:
            return
        tcp.shutdown()
        self._thread.join()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        # Waits for the threads of the connections, too.
        tcp.server_close()
        if self._errors:
            raise self._errors[0]

    def _connection(self, raw: socket.socket, context: ssl.SSLContext | None) -> None:
        self._open.add(raw)
        connection = raw
        try:
            raw.settimeout(DEADLINE_S)
            if context:
                # Wrapping takes the descriptor over, so the copy is what stop() can still shut down.
                self._open.remove(raw)
                raw = raw.dup()
                self._open.add(raw)
                connection = context.wrap_socket(raw.dup(), server_side=True)
            self._serve(connection)
        except OSError as e:
            self.hangups.append(e)
        except Exception as e:  # an error of the test, which stop() reports
            self._errors.append(e)
        finally:
            self._open.discard(raw)
            connection.close()
            raw.close()

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError
