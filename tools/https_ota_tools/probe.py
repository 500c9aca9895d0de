"""`probe`: what a server sends, and what TLS buffer and request size the device needs for it."""

from __future__ import annotations

import argparse
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.table import Column, Table

from https_ota_tools import output, roots, tls, web
from https_ota_tools.errors import ToolError

NAME = "probe"
HELP = "measure a server for the device's TLS buffer"

SIZES = (512, 1024, 2048, 3072, 4096, 8192, 16384)
# The smallest CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN that can be configured, and the smallest range that is asked for.
MIN_BUFFER = MIN_REQUEST = 512
# What a later reply's head may be longer by than the first one's.
MARGIN = 64
# The part of the file that is read to see how large the server's records become.
PLAIN_LIMIT = 65536
# request_size is rounded down to a multiple of this.
_STEP = 128
# As the device reads it.
_RANGE = re.compile(r"bytes[\s=]*0+\s*-\s*\d+\s*/\s*\d+", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Report:
    """What was measured. Sizes are in bytes."""

    # The servers on the way, the one with the file last; `tls13` tells of each whether it speaks TLS 1.3.
    hops: tuple[web.Hop, ...]
    tls13: tuple[bool, ...]
    # The reply to a plain GET, and those to ranged ones; empty when the server ignores ranges.
    plain: web.Reply
    ranged: tuple[web.Reply, ...]
    keep_alive: bool

    @property
    def ok(self) -> bool:
        """The server has the file, or nothing new (304)."""
        return self.plain.status in {200, 304}

    @property
    def ranges(self) -> bool:
        """The server answers ranged requests with ranges."""
        return bool(self.ranged)

    @property
    def size(self) -> int | None:
        """The size of the file, None if the server doesn't tell."""
        return self.plain.length if self.ok else None

    @property
    def etag(self) -> str:
        """The kind of ETag: "strong", "weak" or "none"."""
        tag = self.plain.headers.get("ETag", "")
        return ("weak" if tag.startswith("W/") else "strong") if tag else "none"

    @property
    def last_modified(self) -> bool:
        """The server tells when the file was changed."""
        return "Last-Modified" in self.plain.headers

    @property
    def way_buffer(self) -> int:
        """The buffer that it takes to come to the file: for each handshake and each redirect."""
        sizes = [hop.handshake.buffer for hop in self.hops]
        sizes += [hop.reply.record for hop in self.hops[:-1]]
        return max(MIN_BUFFER, *sizes)

    @property
    def head(self) -> int:
        """The longest head of a reply with the file or a part of it."""
        return max(reply.head for reply in (self.plain, *self.ranged))

    @property
    def plain_buffer(self) -> int:
        """The buffer that a plain GET takes. More than what was read of the file may take more."""
        return max(self.way_buffer, self.plain.record)

    @property
    def buffer(self) -> int:
        """The smallest buffer that works, with ranges if the server does them."""
        ranged = max(self.way_buffer, self.head + MARGIN + MIN_REQUEST)
        if not self.ranges:
            return self.plain_buffer
        return min(ranged, self.plain_buffer) if self.plain.complete else ranged

    def request_size(self, buffer: int) -> int | None:
        """Return the `request_size` for a device with this buffer; None if nothing will do, 0 for a plain GET.

        A reply, its head included, may come as one record: some servers do so always, some now and then.
        """
        if self.way_buffer > buffer:
            return None
        if not self.ranges:
            return 0 if self.plain_buffer <= buffer else None
        size = (buffer - self.head - MARGIN) // _STEP * _STEP
        return size if size >= MIN_REQUEST else None


def probe(
    url: str, trust: web.Trust, secrets: web.Secrets | None = None, timeout_s: float = 15
) -> Report:
    """Measure a file on a server, through redirects. Raises ToolError for what the device would refuse, too."""
    hops, client = web.follow(url, trust, secrets, timeout_s)
    try:
        ranged = []
        used = client.connections
        if hops[-1].reply.status == 206:
            ranged = [client.get(size, PLAIN_LIMIT) for size in SIZES]
        keep_alive = client.connections == used and all(reply.keep for reply in ranged)
        client.close()
        plain = client.get(0, PLAIN_LIMIT)
    finally:
        client.close()
    if not ranged:
        keep_alive = plain.keep
    for reply in ranged:
        _check_range(hops[-1].url, reply)
    tls13 = tuple(_speaks_1_3(hop.url, timeout_s) for hop in hops)
    return Report(tuple(hops), tls13, plain, tuple(ranged), keep_alive)


def show(report: Report, console: Console) -> None:
    """Print a report for people."""
    for hop, tls13 in zip(report.hops, report.tls13):
        _show_hop(hop, tls13, console)
    _show_replies(report, console)
    if report.ok:
        _show_advice(report, console)


def _check_range(url: web.Url, reply: web.Reply) -> None:
    said = reply.headers.get("Content-Range", "")
    if reply.status != 206 or not _RANGE.match(said):
        raise ToolError(
            f"{url} was asked for bytes 0-{reply.asked - 1} and answers {reply.status} with "
            f"Content-Range {said!r}: give the device request_size=0"
        )


def _speaks_1_3(url: web.Url, timeout_s: float) -> bool:
    connection = tls.Connection(url.host, url.port, timeout_s)
    try:
        connection.open(tls.context(None, ssl.TLSVersion.TLSv1_3))
    except ToolError:
        return False
    finally:
        connection.close()
    return True


def _table(*columns: str | Column) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _show_hop(hop: web.Hop, tls13: bool, console: Console) -> None:
    shake = hop.handshake
    through = f", through the proxy {shake.proxy}" if shake.proxy else ""
    console.print(f"{hop.url}{through}")
    console.print(f"  {shake.version}, {shake.suite}; TLS 1.3: {'yes' if tls13 else 'no'}")
    table = _table("  certificate", "key", "bytes", "valid until")
    for c in hop.chain:
        size = len(c.public_bytes(Encoding.DER))
        table.add_row(
            f"  {roots.name(c)}", roots.key(c), str(size), f"{c.not_valid_after_utc:%Y-%m-%d}"
        )
    console.print(table)
    root = "none of those known"
    if hop.root:
        root = f"{roots.name(hop.root)}, {roots.key(hop.root)}, "
        root += f"valid until {hop.root.not_valid_after_utc:%Y-%m-%d}"
        if len(hop.chain) > 1 and hop.root in hop.chain:
            root += " (sent by the server too, which it need not do)"
    console.print(f"  root: {root}")
    certificate, public = roots.pins(hop.chain[0])
    console.print(f"  pin of the certificate: {certificate}")
    console.print(f"  pin of its public key:  {public}")
    kind, size = shake.largest
    console.print(
        f"  handshake: Certificate {shake.certificate_bytes} bytes, largest message {size} ({kind}), "
        f"largest record {shake.record}"
    )
    if shake.split:
        console.print("  a message came in several records: mbedTLS takes that since 3.6.3")
    location = hop.reply.headers.get("Location", "") if 300 <= hop.reply.status < 400 else ""
    if location:
        console.print(
            f"  {hop.reply.status}, head {hop.reply.head} bytes, Location {len(location)} bytes"
        )
    console.print()


def _show_replies(report: Report, console: Console) -> None:
    table = _table("request", "status", "head", "body", "largest record")
    for reply in (report.plain, *report.ranged):
        asked = f"bytes 0-{reply.asked - 1}" if reply.asked else "plain GET"
        body = f"{reply.body}" if reply.complete else f"{reply.body} and more"
        table.add_row(asked, str(reply.status), str(reply.head), body, str(reply.record))
    console.print(table)
    facts = [
        report.plain.version,
        "ranges" if report.ranges else "no ranges",
        f"ETag {report.etag}",
        "Last-Modified" if report.last_modified else "no Last-Modified",
        "keeps the connection" if report.keep_alive else "closes after each reply",
    ]
    if report.size is not None:
        facts.append(f"{report.size} bytes")
    console.print(f"\n{', '.join(facts)}\n")


def _show_advice(report: Report, console: Console) -> None:
    partly = "" if report.plain.complete else f" (by the first {PLAIN_LIMIT} bytes of the file)"
    console.print("smallest CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN:")
    if report.ranges:
        console.print(f"  {report.buffer} with ranges")
    console.print(f"  {report.plain_buffer} for one plain GET{partly}")
    size = report.request_size(4096)
    if size is not None:
        console.print(f"for a buffer of 4096 bytes: request_size={size}")
    elif report.way_buffer > 4096:
        console.print(
            f"a buffer of 4096 bytes is too small: handshakes and redirects take {report.way_buffer}; "
            "serve a shorter certificate chain"
        )
    else:
        console.print(
            "a buffer of 4096 bytes is too small: this server does no ranges; "
            "use one that does, or make its records smaller"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("url", metavar="URL", help="https URL of a firmware file")
    parser.add_argument(
        "--ca", type=Path, metavar="FILE", help="certificates to trust (default: certifi's)"
    )
    parser.add_argument("--insecure", action="store_true", help="don't verify the server")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'N: v'", help="further request header"
    )
    parser.add_argument("--auth", metavar="USER:PASSWORD", help="for HTTP Basic")


def run(args: argparse.Namespace) -> int:
    """Do the command: 0, or 1 when the server answers with an error status."""
    source = str(args.ca) if args.ca else "certifi's bundle"
    trust = web.Trust(roots.load(args.ca), source, not args.insecure)
    report = probe(args.url, trust, _secrets(args.header, args.auth))
    console = output.console()
    show(report, console)
    if not report.ok:
        console.print(f"the server answers {report.plain.status}: expected 200")
        return 1
    return 0


def _secrets(headers: list[str], auth: str | None) -> web.Secrets:
    given = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip() or not header.isprintable():
            raise ToolError("--header: expected 'Name: value'")
        given[name.strip()] = value.strip()
    user, colon, password = (auth or "").partition(":")
    if auth is not None and not colon:
        raise ToolError("--auth: expected USER:PASSWORD")
    return web.Secrets(given, (user, password) if auth is not None else None)
