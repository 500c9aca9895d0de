"""Real servers on 127.0.0.1 for the tests, each a context manager.

    with servers.Nginx(files, ca.server()) as server:
        fetch(server.url("app.bin"))
        assert server.requests()[-1].status == 206

They take a free port from the system, keep configuration and logs in a directory of their own, and have
finished starting when the `with` body begins.
"""

import contextlib
import itertools
import json
import shutil
import socket
import ssl
import struct
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
# How long updates may wait for a server that is known to say nothing at its end.
SILENT_S = 3

# Lines for a server or location of nginx.
# A filter that may change the length makes nginx send Transfer-Encoding: chunked and no Accept-Ranges.
CHUNKED = "sub_filter_types *; sub_filter 'text that no firmware has' '';"
# Ranges are ignored: 200 and the whole file.
NO_RANGES = "max_ranges 0;"


def wait_for(ready: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Wait until something that another process or thread does has happened."""
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while not ready():
        pause.wait(0.005)
        if time.monotonic() > end:
            raise TimeoutError("it has not happened")


class Server:
    """What all servers have: a port, a directory, URLs."""

    port = 0
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


class ProcessServer(Server):
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
                f"{command[0]} is missing: install the Debian package of that name"
                " (nginx: nginx-light, apache2: apache2-bin)"
            )
        with (self.directory / "output.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def _accepts(self) -> bool:
        """Try to connect. The server sees a connection that says nothing."""
        try:
            socket.create_connection((HOST, self.port), DEADLINE_S).close()
        except ConnectionRefusedError:
            return False
        return True

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


class Nginx(ProcessServer):
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


class OpenSSLServer(ProcessServer):
    """`openssl s_server -WWW` over the files below `root`: HTTP/1.0, no Content-Length, no ranges.

    It leaves the TCP connection open behind the end of TLS: an update waits for its timeout_s, see SILENT_S.
    """

    def __init__(self, root: Path, identity: Identity, *options: str) -> None:
        super().__init__(identity)
        self.root = root
        self.options = options

    def start(self) -> None:
        assert self.identity
        files = self.identity.write(self.directory, "server")
        command = ["openssl", "s_server", "-WWW", "-accept", f"{HOST}:{self.port}"]
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


class Peer:
    """One connection, from the server's side. A read or write that takes too long raises TimeoutError."""

    def __init__(self, connection: socket.socket, requests: list[bytes]) -> None:
        self._connection = connection
        self._requests = requests
        self._received = b""
        self._ended = False

    def request(self) -> bytes:
        """Return the head of the next request, up to its empty line; b"" if the client has hung up.

        Raises ConnectionError if it hangs up within the head.
        """
        while b"\r\n\r\n" not in self._received:
            data = self._connection.recv(4096)
            if not data and self._received:
                raise ConnectionError(f"the client hung up within a request: {self._received!r}")
            if not data:
                return b""
            self._received += data
        head, mark, self._received = self._received.partition(b"\r\n\r\n")
        self._requests.append(head + mark)
        return head + mark

    def send(self, data: bytes) -> None:
        """Send these bytes. Up to 16384 of them are one TLS record."""
        self._connection.sendall(data)

    def close(self) -> None:
        """Close in order: TLS's close_notify, then TCP's FIN. The end of a script does so, too."""
        if self._ended:
            return
        if isinstance(self._connection, ssl.SSLSocket):
            # Not blocking, it sends ours without waiting for the client's, which may never come.
            self._connection.settimeout(0)
            with contextlib.suppress(OSError):
                self._connection.unwrap()
            self._connection.settimeout(DEADLINE_S)
        self.drop()

    def drop(self) -> None:
        """Send FIN without a close_notify: to TLS, data may be missing."""
        self._ended = True
        with contextlib.suppress(OSError):
            _shutdown(self._connection, socket.SHUT_WR)
        # Closing with something unread would send a reset, which can destroy what is on its way to the client.
        self.stall()

    def reset(self) -> None:
        """Send a TCP reset, as when a machine or a NAT box on the way restarts."""
        self._ended = True
        linger = struct.pack("ii", 1, 0)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._connection.close()

    def stall(self) -> None:
        """Say nothing until the client hangs up."""
        with contextlib.suppress(OSError):
            # Below TLS, so that nothing is answered either.
            while socket.socket.recv(self._connection, 4096):
                pass


class _ThreadServer(Server):
    """A server in this process: a thread for each connection, which runs _serve().

    `tls` is the newest version that it talks. `requests` are the heads of all requests, `hangups` what
    ended connections before their time: a client that went away or did not like the certificate.
    """

    def __init__(
        self, identity: Identity | None, tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ) -> None:
        super().__init__(identity)
        self.tls = tls
        self.requests: list[bytes] = []
        self.hangups: list[OSError] = []
        self._errors: list[Exception] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        self.port = reserve_port(stack)

    def start(self) -> None:
        context = None
        if self.identity:
            context = tls_1_2(self)
            context.maximum_version = self.tls
        # A server that comes back has the port it had.
        self._listener = socket.create_server((HOST, self.port))
        self._run(self._accept, self._listener, context)

    def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        # Wakes accept().
        listener.shutdown(socket.SHUT_RDWR)
        # The first thread is the one that would add more.
        self._threads.pop(0).join()
        listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                _shutdown(connection, socket.SHUT_RDWR)
        while self._threads:
            self._threads.pop().join()
        self._open.clear()
        if self._errors:
            raise self._errors.pop(0)

    def _run(self, function: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=function, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        for number in itertools.count():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(DEADLINE_S)
            # Every write goes out at once, also one that is smaller than a packet.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                connection = context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            self._open.append(connection)
            self._run(self._handle, connection, number)

    def _handle(self, connection: socket.socket, number: int) -> None:
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            peer = Peer(connection, self.requests)
            self._serve(peer, number)
            peer.close()
        except OSError as e:
            self.hangups.append(e)
        except Exception as e:  # an error of the test, which stop() reports
            self._errors.append(e)
        finally:
            connection.close()

    def _serve(self, peer: Peer, number: int) -> None:
        raise NotImplementedError


class ScriptServer(_ThreadServer):
    """A server that does what a test says: the first script with the first connection, and so on.

        def torn(peer):
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\ntoo ")
            peer.reset()

        with servers.ScriptServer(identity, torn, torn) as server:

    What a script raises, save OSErrors of the connection, is raised at the end of the `with` body; so is an
    AssertionError for a connection without a script.
    """

    def __init__(
        self,
        identity: Identity | None,
        *scripts: Callable[[Peer], None],
        tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    ) -> None:
        super().__init__(identity, tls)
        self.scripts = scripts

    def _serve(self, peer: Peer, number: int) -> None:
        if number >= len(self.scripts):
            raise AssertionError(f"connection {number + 1}, there are {len(self.scripts)} scripts")
        self.scripts[number](peer)


class RedirectServer(_ThreadServer):
    """Redirects: `locations` maps paths to where they are now, any other path is 404. It keeps connections."""

    def __init__(
        self, identity: Identity | None, locations: Mapping[str, str], status: int = 302
    ) -> None:
        super().__init__(identity)
        self.locations = locations
        self.status = status

    def _serve(self, peer: Peer, number: int) -> None:
        while head := peer.request():
            location = self.locations.get(head.split()[1].decode())
            first = f"HTTP/1.1 {self.status} Moved\r\nLocation: {location}\r\n"
            if location is None:
                first = "HTTP/1.1 404 Not Found\r\n"
            peer.send(f"{first}Content-Length: 0\r\n\r\n".encode())


def tls_1_2(server: Server) -> ssl.SSLContext:
    """Return the context of a server in this process that talks TLS 1.2 as its identity."""
    assert server.identity
    files = server.identity.write(server.directory, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def reserve_port(stack: contextlib.ExitStack) -> int:
    """Return a port that is ours until the stack is closed, also while no server runs on it."""
    # Bound but not listening, this socket keeps it; a server may listen on it thanks to SO_REUSEADDR.
    reserved = stack.enter_context(socket.socket())
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((HOST, 0))
    return int(reserved.getsockname()[1])


def _shutdown(connection: socket.socket, how: int) -> None:
    # TCP's, not TLS's: ssl's own would also forget the session that another thread may be using.
    socket.socket.shutdown(connection, how)
