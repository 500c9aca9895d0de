"""A server that does everything right but for one thing, at one request."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import servers


@dataclass
class Reply:
    """A response that is about to be sent; a fault changes it, or takes over by returning True."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    line: str = ""

    def head(self) -> bytes:
        """The head as bytes."""
        lines = [self.line or f"HTTP/1.1 {self.status} Whatever"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Fault = Callable[[servers.Peer, Reply], object]


class FaultServer(servers._ThreadServer):
    """Serves `data` with ranges, ETag and keep-alive. `faults` maps the number of a request, from 1, to a fault.

    Number 0 stands for every request that has none of its own. `data` may be changed while it runs.
    """

    def __init__(
        self, data: bytes, faults: Mapping[int, Fault], identity=None, etag='"v1"'
    ) -> None:
        super().__init__(identity)
        self.data = data
        self.faults = faults
        self.etag = etag
        self.sent = 0

    def _serve(self, peer: servers.Peer, number: int) -> None:
        while request := peer.request():
            reply = self._reply(request.decode("latin-1"))
            fault = self.faults.get(len(self.requests)) or self.faults.get(0)
            if fault and fault(peer, reply):
                return
            peer.send(reply.head() + reply.body)
            self.sent += len(reply.body)
            if reply.headers.get("Connection") == "close":
                return

    def _reply(self, request: str) -> Reply:
        data = self.data
        headers = {"ETag": self.etag} if self.etag else {}
        wanted = re.search(r"\r\nRange: bytes=(\d+)-(\d*)\r\n", request)
        condition = re.search(r"\r\nIf-Range: (.*)\r\n", request)
        if f"\r\nIf-None-Match: {self.etag}\r\n" in request:
            return Reply(304, b"", headers)
        if not wanted or (condition and condition[1] != self.etag):
            return Reply(200, data, headers | {"Content-Length": str(len(data))})
        first = int(wanted[1])
        last = min(int(wanted[2] or len(data)), len(data) - 1)
        if first >= len(data):
            return Reply(
                416,
                b"",
                headers | {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"},
            )
        body = data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return Reply(206, body, headers | {"Content-Length": str(len(body))})


# Ends of a connection. `after` counts bytes of head and body.


def cut(after: int, how: str = "close") -> Fault:
    """Send so much of the response and end the connection: close, drop (no close_notify), reset or stall."""

    def fault(peer, reply):
        peer.send((reply.head() + reply.body)[:after])
        getattr(peer, how)()
        return True

    return fault


def drip(fast: int, each_s: float) -> Fault:
    """Send so much of the response at once, and the rest byte by byte."""

    def fault(peer, reply):
        data = reply.head() + reply.body
        peer.send(data[:fast])
        pause = threading.Event()
        for i in range(fast, len(data)):
            pause.wait(each_s)
            peer.send(data[i : i + 1])

    return fault


def head(**headers: str) -> Fault:
    """Set headers (underscores for hyphens); an empty one is left out."""

    def fault(peer, reply):
        for key, value in headers.items():
            name = key.replace("_", "-")
            if value:
                reply.headers[name] = value
            else:
                del reply.headers[name]

    return fault


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with this status."""

    def fault(peer, reply):
        reply.status, reply.body = code, body
        reply.headers = {"Content-Length": str(len(body))}
        head(**headers)(peer, reply)

    return fault


def raw(data: bytes) -> Fault:
    """Send these bytes and close."""

    def fault(peer, reply):
        peer.send(data)
        peer.close()
        return True

    return fault


def before(data: bytes) -> Fault:
    """Send these bytes before the response."""

    def fault(peer, reply):
        peer.send(data)

    return fault


def chunked(*, sizes=(1000,), end=b"0\r\n\r\n", spoil=lambda chunk: chunk) -> Fault:
    """Send the body in chunks; `spoil` changes each of them."""

    def fault(peer, reply):
        del reply.headers["Content-Length"]
        reply.headers["Transfer-Encoding"] = "chunked"
        at, i, out = 0, 0, b""
        while at < len(reply.body):
            part = reply.body[at : at + sizes[i % len(sizes)]]
            out += spoil(b"%x\r\n%s\r\n" % (len(part), part))
            at += len(part)
            i += 1
        peer.send(reply.head() + out + end)
        peer.close()
        return True

    return fault
