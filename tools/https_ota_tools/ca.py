"""`ca`: the root certificates that the device needs to reach servers."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from rich.table import Column, Table

from https_ota_tools import files, output, roots, web
from https_ota_tools.errors import ToolError

NAME = "ca"
HELP = "write the root certificates needed to reach URLs"


@dataclass(frozen=True)
class Needed:
    """A server on the way to a URL, and the root that vouches for it. `status` is that of its answer."""

    host: str
    root: x509.Certificate
    status: int


def needed(urls: Sequence[str], bundle: Path | None = None, timeout_s: float = 15) -> list[Needed]:
    """Return what it takes to reach these URLs, redirects included, from a bundle (default: certifi's).

    Each server was verified with its root alone. Raises ToolError when no root fits, or a server can't be reached.
    """
    source = str(bundle) if bundle else "certifi's bundle"
    trust = web.Trust(roots.load(bundle), source)
    found: dict[tuple[str, x509.Certificate], Needed] = {}
    for url in urls:
        hops, client = web.follow(url, trust, timeout_s=timeout_s)
        client.close()
        for hop in hops:
            if hop.root is None:
                raise ToolError(
                    f"{hop.url.host}: {roots.no_root(hop.chain, trust.certificates, source)}"
                )
            alone = web.Client(
                hop.url,
                web.Trust((hop.root,), repr(roots.name(hop.root))),
                web.Secrets(),
                timeout_s,
            )
            try:
                alone.connect()
            finally:
                alone.close()
            found[hop.url.host, hop.root] = Needed(hop.url.host, hop.root, hop.reply.status)
    return list(found.values())


def encode(found: Sequence[Needed]) -> bytes:
    """Return the roots as PEM, each once, with a comment that says what it is and for which hosts."""
    hosts: dict[x509.Certificate, list[str]] = {}
    for n in found:
        hosts.setdefault(n.root, []).append(n.host)
    return "".join(
        f"# {roots.name(root)}, valid until {root.not_valid_after_utc:%Y-%m-%d}, "
        f"for {', '.join(names)}\n{roots.pem([root])}"
        for root, names in hosts.items()
    ).encode()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("url", nargs="+", metavar="URL", help="https URL of a firmware file")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="PEM file to write"
    )
    parser.add_argument(
        "--from",
        dest="bundle",
        type=Path,
        metavar="PEM",
        help="certificates to choose from (default: those that browsers trust, from certifi)",
    )


def run(args: argparse.Namespace) -> int:
    """Do the command."""
    found = needed(args.url, args.bundle)
    data = encode(found)
    files.write(args.output, data)
    table = Table("host", "root", "key", "valid until", Column("answer"), box=None, pad_edge=False)
    for n in found:
        until = f"{n.root.not_valid_after_utc:%Y-%m-%d}"
        table.add_row(n.host, roots.name(n.root), roots.key(n.root), until, str(n.status))
    console = output.console()
    console.print(table)
    for n in found:
        if n.status >= 400:
            console.print(
                f"{n.host} answers {n.status}: redirects of the real file may need more roots"
            )
    count = data.count(b"BEGIN")
    console.print(f"{args.output}: {count} certificate{'s' * (count != 1)}, {len(data)} bytes")
    return 0
