"""A TLS connection as the device makes it, and the sizes of what the server sends on it.

The TLS library is given one record at a time, so that each record's content can be counted; the messages of a
TLS 1.2 handshake are read from the wire, where they are not encrypted until the last.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

from https_ota_tools.errors import ToolError

# What the device offers, in its order.
SUITES = (
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    *("ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384"),
    *("ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA"),
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256"),
    *("ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA"),
    *("AES256-GCM-SHA384", "AES256-SHA256", "AES256-SHA"),
    *("AES128-GCM-SHA256", "AES128-SHA256", "AES128-SHA"),
)
# The largest content of a record (RFC 5246, section 6.2.1), and so the largest buffer that makes sense.
MAX_CONTENT = 16384
# Seconds for a handshake, and for what is read of an answer: a server that drips would hold the tool for ever.
ANSWER_S = 120.0

_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _APPLICATION_DATA = range(20, 24)
_CERTIFICATE = 11
_MESSAGES = {
    2: "ServerHello",
    4: "NewSessionTicket",
    _CERTIFICATE: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    22: "CertificateStatus",
}


@dataclass
class Handshake:
    """What the server sent until both sides were agreed. Sizes are in bytes."""

    version: str = ""
    suite: str = ""
    # The largest content of a record, and the number of records.
    record: int = 0
    records: int = 0
    # Type and size, with its header of 4 bytes, of each message.
    messages: list[tuple[str, int]] = field(default_factory=list)
    # The certificates in DER, the server's own first.
    chain: list[bytes] = field(default_factory=list)
    # A message has come in several records.
    split: bool = False
    # Host and port of the proxy that is in between.
    proxy: str = ""

    @property
    def largest(self) -> tuple[str, int]:
        """The largest message."""
        return max(self.messages, key=lambda message: message[1])

    @property
    def certificate_bytes(self) -> int:
        """The size of the Certificate message."""
        return dict(self.messages).get("Certificate", 0)

    @property
    def buffer(self) -> int:
        """The smallest input buffer that takes it: a record and a message must fit as a whole."""
        return max(self.record, self.largest[1])


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that passes connections on, and what it is to be told of who asks."""

    host: str
    port: int
    authorization: str = ""

    def request(self, host: str, port: int) -> bytes:
        """Return the request for a connection."""
        there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def proxy_for(host: str) -> Proxy | None:
    """Return the proxy that HTTPS_PROXY and NO_PROXY ask for, None without one. Raises ToolError for one of another kind."""
    proxies = urllib.request.getproxies_environment()
    url = proxies.get("https") or proxies.get("all")
    if not url or urllib.request.proxy_bypass(host):
        return None
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        name, port = parts.hostname, parts.port
    except ValueError:
        name = port = None
    if not name or parts.scheme != "http":
        shown = url.rpartition("@")[2]
        raise ToolError(
            f"HTTPS_PROXY is {shown!r}: expected http://host:port; NO_PROXY names hosts to reach without it"
        )
    authorization = ""
    if parts.username:
        pair = (
            f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        )
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(name, port or 80, authorization)


def context(cadata: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """Return a client's context that trusts these certificates (PEM), as anchors of any level; None trusts all.

    Its one version of TLS is `newest`.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = made.maximum_version = newest
    made.set_ciphers(":".join(SUITES))
    if cadata is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_verify_locations(cadata=cadata)
        # mbedTLS trusts what it is given, be it a root or not.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


class Connection:
    """A TLS connection. `handshake` is complete once open() has returned, and holds what came if it has not.

    `record` is the largest content of a record of application data since the last send().
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.host = host
        self.port = port
        self.handshake = Handshake()
        self.record = 0
        self._timeout_s = timeout_s
        self._due = 0.0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._socket: socket.socket | None = None
        self._plain = b""  # what of the handshake has come without encryption
        self._encrypted = False

    def open(self, context: ssl.SSLContext) -> None:
        """Connect and shake hands. Raises ToolError, for a certificate that is refused ssl.SSLCertVerificationError."""
        self._due = time.monotonic() + ANSWER_S
        try:
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname=self.host.rstrip(".")
            )
            self._socket = self._connect()
        except OSError as e:
            raise self._failed(e) from e
        except ValueError as e:
            raise ToolError(f"{self.host!r} is no name of a host: {e}") from e
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    if not self._feed():
                        raise self._ended("within the handshake") from None
            self._flush()
        except ssl.SSLCertVerificationError:
            self._read_messages()
            raise
        except ssl.SSLError as e:
            raise self._refused(e) from e
        self._read_messages()
        suite = self._tls.cipher()
        self.handshake.version = self._tls.version() or ""
        self.handshake.suite = suite[0] if suite else ""

    def _connect(self) -> socket.socket:
        proxy = proxy_for(self.host)
        if proxy is None:
            return socket.create_connection((self.host, self.port), self._timeout_s)
        self.handshake.proxy = f"{proxy.host}:{proxy.port}"
        try:
            made = socket.create_connection((proxy.host, proxy.port), self._timeout_s)
        except OSError as e:
            raise self._of_proxy(str(e.strerror or e)) from e
        try:
            made.sendall(proxy.request(self.host, self.port))
            # Byte by byte: what follows the head is the server's.
            answer = b""
            while not answer.endswith((b"\r\n\r\n", b"\n\n")):
                if not (byte := made.recv(1)) or len(answer) > MAX_CONTENT:
                    raise self._of_proxy("it ended the connection, or is no proxy")
                answer += byte
        except OSError as e:
            made.close()
            raise self._of_proxy(str(e.strerror or e)) from e
        except ToolError:
            made.close()
            raise
        line = answer.partition(b"\n")[0].split(None, 2)
        if len(line) < 2 or not line[0].startswith(b"HTTP/") or line[1][:1] != b"2":
            made.close()
            said = b" ".join(line[1:]).decode("latin-1").strip() or "no HTTP"
            raise self._of_proxy(f"it answers {said}")
        return made

    def _of_proxy(self, why: str) -> ToolError:
        return ToolError(
            f"{self.host}:{self.port}: no way through the proxy {self.handshake.proxy} (HTTPS_PROXY): {why}; "
            "NO_PROXY names hosts to reach without it"
        )

    def send(self, data: bytes) -> None:
        """Send data."""
        assert self._tls
        self.record = 0
        self._due = time.monotonic() + ANSWER_S
        self._tls.write(data)
        self._flush()

    def read(self) -> bytes:
        """Return the content of the next record with data; b"" at the end of the connection."""
        assert self._tls
        while True:
            try:
                data = self._tls.read(MAX_CONTENT)
            except ssl.SSLWantReadError:
                self._flush()
                if not self._feed():
                    return b""
            except ssl.SSLError as e:
                raise self._refused(e) from e
            else:
                self.record = max(self.record, len(data))
                return data

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        if self._socket is not None:
            self._socket.close()

    def _feed(self) -> bool:
        """Pass one record on to the TLS library; False at the end of the connection."""
        header = self._receive(5)
        if not header:
            return False
        kind, size = header[0], int.from_bytes(header[3:5], "big")
        if not _CHANGE_CIPHER_SPEC <= kind <= _APPLICATION_DATA or header[1] != 3:
            raise ToolError(
                f"{self.host}:{self.port} does not speak TLS: its answer starts with {header!r}"
            )
        content = self._receive(size)
        if kind == _CHANGE_CIPHER_SPEC:
            self._encrypted = True
        elif kind == _HANDSHAKE and not self._encrypted:
            self._plain += content
            self.handshake.record = max(self.handshake.record, size)
            self.handshake.records += 1
            # A record that begins or ends within a message.
            self.handshake.split |= sum(4 + len(m) for _, m in _messages(self._plain)) != len(
                self._plain
            )
        self._incoming.write(header + content)
        return True

    def _read_messages(self) -> None:
        for kind, body in _messages(self._plain):
            self.handshake.messages.append((_MESSAGES.get(kind, f"type {kind}"), 4 + len(body)))
            if kind == _CERTIFICATE:
                at = 3
                while at < len(body):
                    size = int.from_bytes(body[at : at + 3], "big")
                    self.handshake.chain.append(body[at + 3 : at + 3 + size])
                    at += 3 + size

    def _receive(self, size: int) -> bytes:
        """Return so many bytes, or b"" if the connection ends before."""
        assert self._socket
        data = b""
        while len(data) < size:
            if time.monotonic() > self._due:
                raise ToolError(
                    f"{self.host}:{self.port} was not done in {ANSWER_S:g} s: what it sends comes too slowly"
                )
            try:
                more = self._socket.recv(size - len(data))
            except OSError as e:
                raise self._failed(e) from e
            if not more:
                return b""
            data += more
        return data

    def _flush(self) -> None:
        assert self._socket
        try:
            self._socket.sendall(self._outgoing.read())
        except OSError as e:
            raise self._failed(e) from e

    def _failed(self, e: OSError) -> ToolError:
        if isinstance(e, TimeoutError):
            return ToolError(f"{self.host}:{self.port} did not answer in {self._timeout_s:g} s")
        return ToolError(f"{self.host}:{self.port}: {e.strerror or e}")

    def _ended(self, when: str) -> ToolError:
        return ToolError(f"{self.host}:{self.port} closed the connection {when}")

    def _refused(self, e: ssl.SSLError) -> ToolError:
        reason = e.reason or str(e)
        if reason in {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"}:
            why = "it does not speak TLS 1.2, the version that the device speaks"
        elif reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
            why = "it speaks none of the device's cipher suites, or wants a client certificate"
        else:
            why = reason.lower().replace("_", " ")
        return ToolError(f"no TLS connection to {self.host}:{self.port}: {why}")


def _messages(plain: bytes) -> Iterator[tuple[int, bytes]]:
    """Return type and body of each complete handshake message."""
    at = 0
    while at + 4 <= len(plain):
        end = at + 4 + int.from_bytes(plain[at + 1 : at + 4], "big")
        if end > len(plain):
            return
        yield plain[at], plain[at + 4 : end]
        at = end
