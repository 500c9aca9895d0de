"""Requests as the device makes them, through redirects, and what it takes to receive the replies."""

from __future__ import annotations

import base64
import email.parser
import http.client
import re
import ssl
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cryptography import x509

from https_ota_tools import roots, tls
from https_ota_tools.errors import ToolError

# The device's own limits.
MAX_REDIRECTS = 5
MAX_HEAD = 16384
MAX_LOCATION = 2048

_VERSION = re.compile(rb"HTTP/1\.\d")
_STATUS = re.compile(rb"[1-5]\d\d")
# 15 digits are more than enough.
_LENGTH = re.compile(r"\d{1,15}", re.ASCII)
_NAME = re.compile(rb"[!-9;-~]+")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,15}")
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class Url:
    """An https URL. As text it has no query: that may hold a signature or a token."""

    host: str
    port: int
    path: str
    query: str = ""

    @property
    def origin(self) -> str:
        """Return host and port as they stand in a URL and in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What is asked for."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"https://{self.origin}{self.path}" + ("?..." if self.query else "")


@dataclass(frozen=True)
class Trust:
    """Who may vouch for servers: certificates, and words for where they come from. `verify` False lets all pass."""

    certificates: tuple[x509.Certificate, ...]
    source: str
    verify: bool = True


@dataclass(frozen=True)
class Secrets:
    """What only the first host may see."""

    headers: Mapping[str, str] = field(default_factory=dict)
    # Name and password, for HTTP Basic.
    auth: tuple[str, str] | None = None


@dataclass(frozen=True)
class Reply:
    """A response, or its beginning. Sizes are in bytes."""

    # Bytes asked for; 0 is the whole file.
    asked: int
    version: str
    status: int
    headers: http.client.HTTPMessage
    head: int
    # Content-Length, None without one.
    length: int | None
    body: int
    # The body was read to its end.
    complete: bool
    # The largest content of a TLS record.
    record: int
    # The server keeps the connection, by what it says.
    keep: bool


@dataclass(frozen=True)
class Hop:
    """A server on the way, and its reply to the first request."""

    url: Url
    handshake: tls.Handshake
    chain: tuple[x509.Certificate, ...]
    # The trusted certificate that vouches for the chain.
    root: x509.Certificate | None
    reply: Reply


def parse(url: str) -> Url:
    """Return the parts of a URL that the device would take. Raises ToolError for any other."""
    shown = url.partition("?")[0]
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ToolError(f"{shown}: a URL must be percent-encoded")
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise ToolError(f"{shown}: {e}") from e
    if parts.scheme == "http":
        raise ToolError(f"{shown}: http is neither encrypted nor verified, expected https://")
    if parts.scheme != "https" or not parts.hostname:
        raise ToolError(f"expected https://host/path, got {shown}")
    if "@" in parts.netloc:
        raise ToolError("name and password belong into --auth, not into the URL")
    return Url(
        parts.hostname.removesuffix("."),
        443 if port is None else port,
        parts.path or "/",
        parts.query,
    )


class Client:
    """Requests to one server, on one connection as long as that serves. `connections` counts them."""

    def __init__(self, url: Url, trust: Trust, secrets: Secrets, timeout_s: float) -> None:
        self.url = url
        self.connections = 0
        self._trust = trust
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._context = tls.context(roots.pem(trust.certificates) if trust.verify else None)
        self._connection: tls.Connection | None = None

    def connect(self) -> tls.Handshake:
        """Connect anew and return the handshake. Raises ToolError."""
        self.close()
        connection = tls.Connection(self.url.host, self.url.port, self._timeout_s)
        self._connection = connection
        try:
            connection.open(self._context)
        except ssl.SSLCertVerificationError as e:
            chain = certificates(connection.handshake)
            trust = self._trust
            raise roots.refusal(e, self.url.host, chain, trust.certificates, trust.source) from e
        self.connections += 1
        return connection.handshake

    def get(self, size: int = 0, limit: int = 65536) -> Reply:
        """Get the first `size` bytes of the file, or with 0 the file; read at most `limit` of what is sent."""
        reused = self._connection is not None
        if not reused:
            self.connect()
        try:
            reply = self._get(size, limit)
        except _Silent:
            # A server may close a connection that it keeps at any time.
            if not reused:
                raise
            self.connect()
            reply = self._get(size, limit)
        if not (reply.keep and reply.complete):
            self.close()
        return reply

    def close(self) -> None:
        """Close the connection; harmless without one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, size: int, limit: int) -> Reply:
        assert self._connection
        self._connection.send(self._request(size))
        return _read(_Stream(self._connection, str(self.url)), self._connection, size, limit)

    def _request(self, size: int) -> bytes:
        lines = [f"GET {self.url.target} HTTP/1.1", f"Host: {self.url.origin}"]
        lines += ["Accept-Encoding: identity", "User-Agent: https_ota"]
        lines += [f"{name}: {value}" for name, value in self._secrets.headers.items()]
        if self._secrets.auth:
            code = base64.b64encode(":".join(self._secrets.auth).encode()).decode()
            lines.append(f"Authorization: Basic {code}")
        if size:
            lines.append(f"Range: bytes=0-{size - 1}")
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def follow(
    url: str, trust: Trust, secrets: Secrets | None = None, timeout_s: float = 15
) -> tuple[list[Hop], Client]:
    """Ask for the first bytes of a file, through redirects; return all servers asked, and the last one's client.

    Raises ToolError for what the device would refuse, too.
    """
    secrets = secrets or Secrets()
    here = parse(url)
    hops: list[Hop] = []
    while True:
        client = Client(here, trust, secrets, timeout_s)
        try:
            handshake = client.connect()
            reply = client.get(size=512)
        except BaseException:
            client.close()
            raise
        chain = certificates(handshake)
        root = roots.find(chain, trust.certificates)
        hops.append(Hop(here, handshake, chain, root, reply))
        if reply.status not in _REDIRECTS:
            return hops, client
        client.close()
        if len(hops) > MAX_REDIRECTS:
            raise ToolError(f"more than {MAX_REDIRECTS} redirects, the device follows no more")
        there = _redirected(here, reply)
        if there.origin != here.origin:
            secrets = Secrets()
        here = there


def certificates(handshake: tls.Handshake) -> tuple[x509.Certificate, ...]:
    """Return the certificates that a server has sent."""
    try:
        return tuple(map(x509.load_der_x509_certificate, handshake.chain))
    except ValueError as e:
        raise ToolError(f"the server sent a certificate that can't be read: {e}") from e


def _redirected(url: Url, reply: Reply) -> Url:
    location = reply.headers.get("Location", "")
    if not location:
        raise ToolError(f"{url} answers {reply.status} without a Location")
    if len(location) > MAX_LOCATION:
        raise ToolError(
            f"{url} redirects to a URL of {len(location)} bytes, the device takes {MAX_LOCATION}"
        )
    joined = urllib.parse.urljoin(f"https://{url.origin}{url.target}", _encoded(location))
    if joined.lower().startswith("http://"):
        host = urllib.parse.urlsplit(joined).netloc
        raise ToolError(f"{url} redirects from https to http://{host}, which the device refuses")
    return parse(joined)


def _encoded(location: str) -> str:
    """Return a Location as browsers and the device read it: without what they drop, with all encoded that must be."""
    raw = location.strip().translate(dict.fromkeys(b"\t\r\n"))
    path, mark, query = raw.partition("#")[0].partition("?")
    path = path.replace("\\", "/")
    # The head was read byte by byte.
    return urllib.parse.quote(
        f"{path}{mark}{query}".encode("latin-1"), safe="!#$%&'()*+,/:;=?@[]\\|~"
    )


class _Silent(ToolError):
    """The server closed the connection before its answer began."""


class _Stream:
    """What a connection receives, by lines and by numbers of bytes; `taken` counts them."""

    def __init__(self, connection: tls.Connection, url: str) -> None:
        self._connection = connection
        self._url = url
        self._buffer = b""
        self.taken = 0

    def line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_HEAD:
                raise ToolError(f"{self._url}: a line of more than {MAX_HEAD} bytes in the head")
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        self.taken += len(line) + 1
        return line + b"\n"

    def skip(self, size: int) -> None:
        while len(self._buffer) < size:
            self._more()
        self._buffer = self._buffer[size:]
        self.taken += size

    def rest(self, limit: int) -> bool:
        """Take at most `limit` bytes; True if the connection ended before."""
        while len(self._buffer) < limit:
            if not (data := self._connection.read()):
                break
            self._buffer += data
        ended = len(self._buffer) < limit
        self.skip(min(len(self._buffer), limit))
        return ended

    def _more(self) -> None:
        data = self._connection.read()
        if not data:
            error = ToolError if self.taken or self._buffer else _Silent
            raise error(f"{self._url}: the server closed the connection within its answer")
        self._buffer += data


def _read(stream: _Stream, connection: tls.Connection, asked: int, limit: int) -> Reply:
    while True:
        version, status, headers = _read_head(stream)
        if status >= 200:
            break
    head = stream.taken
    codings = {value.strip().lower() for value in headers.get_all("Transfer-Encoding", [])}
    if codings - {"chunked", "identity"}:
        raise ToolError(f"Transfer-Encoding: expected chunked or none, got {', '.join(codings)}")
    length = _length(headers)
    said = headers.get("Connection", "").lower()
    keep = "close" not in said and (version != "HTTP/1.0" or "keep-alive" in said)
    if status in {204, 304}:
        complete = True
    elif "chunked" in codings:
        complete = _skip_chunks(stream, limit)
    elif length is not None:
        complete = length <= limit
        stream.skip(min(length, limit))
    else:
        keep = False
        complete = stream.rest(limit)
    body = stream.taken - head
    return Reply(
        asked, version, status, headers, head, length, body, complete, connection.record, keep
    )


def _read_head(stream: _Stream) -> tuple[str, int, http.client.HTTPMessage]:
    while not (words := stream.line().split(None, 2)) and stream.taken <= MAX_HEAD:
        pass  # some servers end a body with an empty line
    if len(words) < 2 or not _VERSION.fullmatch(words[0]) or not _STATUS.fullmatch(words[1]):
        first = b" ".join(words).strip()[:40].decode("ascii", "replace")
        raise ToolError(f"expected an answer in HTTP/1.1, got {first!r}")
    lines = []
    while (line := stream.line()).strip():
        lines.append(line)
        if stream.taken > MAX_HEAD:
            raise ToolError(f"the head of the answer is longer than {MAX_HEAD} bytes")
    parser = email.parser.Parser(_class=http.client.HTTPMessage)
    headers = parser.parsestr(b"".join(_clear(lines)).decode("latin-1"), headersonly=True)
    return words[0].decode(), int(words[1]), headers


def _clear(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines that are headers, and their folds; Python's parser takes any other for the end of the head."""
    good = False
    for line in lines:
        if line[:1] in b" \t":
            if good:
                yield line
            continue
        name, colon, value = line.partition(b":")
        name = name.strip()
        if not colon and name.lower().startswith((b"content-length", b"transfer-encoding")):
            raise ToolError(
                f"expected 'name: value' in the head, got {name[:40].decode('latin-1')!r}"
            )
        good = bool(colon and _NAME.fullmatch(name))
        if good:
            yield name + colon + value


def _length(headers: http.client.HTTPMessage) -> int | None:
    # Proxies write it twice, in two lines or one.
    said = ",".join(headers.get_all("Content-Length", []))
    if not said:
        return None
    values = [value.strip() for value in said.split(",")]
    if not all(_LENGTH.fullmatch(value) for value in values) or len({*map(int, values)}) > 1:
        raise ToolError(f"Content-Length: expected one number, got {said[:60]!r}")
    return int(values[0])


def _skip_chunks(stream: _Stream, limit: int) -> bool:
    """Take the chunks of a body up to `limit` bytes; True if these were all."""
    left = limit
    while True:
        line = stream.line().partition(b";")[0].strip()
        if not _CHUNK.fullmatch(line):
            raise ToolError(f"expected the size of a chunk, got {line[:20]!r}")
        size = int(line, 16)
        if size == 0:
            while stream.line().strip():
                pass
            return True
        if size > left:
            stream.skip(left)
            return False
        stream.skip(size + 2)
        left -= size
