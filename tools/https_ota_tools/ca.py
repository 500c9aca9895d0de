"""`ca`: the root certificates that the device needs to reach servers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rich.table import Column, Table

from https_ota_tools import files, output, roots, web
from https_ota_tools.errors import ToolError

NAME = "ca"
HELP = "write the root certificates needed to reach URLs"


@dataclass(frozen=True)
class Needed:
    """A server on the way to a URL, and the root that vouches for it. `status` is that of its answer.

    private: nobody known vouches for the root, it came from the server itself.
    """

    host: str
    root: x509.Certificate
    status: int
    private: bool = False


def needed(
    urls: Sequence[str],
    bundle: Path | None = None,
    timeout_s: float = 15,
    private: bool = False,
) -> list[Needed]:
    """Return what it takes to reach these URLs, redirects included, from a bundle (default: certifi's).

    private: where none of it vouches for a server, believe the server's own root.

    Each server was verified with its root alone. Raises ToolError when no root fits, or a server can't be reached.
    """
    source = str(bundle) if bundle else "certifi's bundle"
    known = roots.load(bundle)
    trust = web.Trust(known, source)
    found: dict[tuple[str, x509.Certificate], Needed] = {}
    for url in urls:
        while True:
            try:
                hops, client = web.follow(url, trust, timeout_s=timeout_s)
                break
            except roots.UnknownRootError as e:
                if not private:
                    raise
                root = _own_root(e)
                if root in trust.certificates:
                    raise
                trust = web.Trust((*trust.certificates, root), source)
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
            found[hop.url.host, hop.root] = Needed(
                hop.url.host, hop.root, hop.reply.status, hop.root not in known
            )
    return list(found.values())


def _own_root(e: roots.UnknownRootError) -> x509.Certificate:
    """Return what a device can trust of what a server sent. mbedTLS takes a server's own certificate if it is self-signed."""
    top = e.chain[-1]
    if len(e.chain) == 1 and top.issuer != top.subject:
        raise ToolError(
            f"{e}; it sends no certificate of its issuer: give that with --from, or the device "
            f"pin={roots.pins(top)[1]!r}, which is its public key's"
        ) from e
    return top


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
    console = output.console()
    # Whoever names the certificates to choose from wants no other.
    found = needed(args.url, args.bundle, private=args.bundle is None)
    for n in found:
        if n.private:
            console.print(
                f"nobody known vouches for {n.host}: it says itself that {roots.name(n.root)!r} does. Before you "
                "rely on it, compare this with what the server's keeper says (openssl x509 -noout -fingerprint -sha256):\n"
                f"SHA-256 {n.root.fingerprint(hashes.SHA256()).hex()}\n"
            )
    data = encode(found)
    files.write(args.output, data)
    table = Table("host", "root", "key", "valid until", Column("answer"), box=None, pad_edge=False)
    for n in found:
        until = f"{n.root.not_valid_after_utc:%Y-%m-%d}"
        table.add_row(n.host, roots.name(n.root), roots.key(n.root), until, str(n.status))
    console.print(table)
    for n in found:
        if n.status >= 400:
            console.print(
                f"{n.host} answers {n.status}: redirects of the real file may need more roots"
            )
    count = data.count(b"BEGIN")
    console.print(f"{args.output}: {count} certificate{'s' * (count != 1)}, {len(data)} bytes")
    return 0
