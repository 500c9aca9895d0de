"""The table of servers that updates come from: `make zoo` writes it into README.md."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import certs  # noqa: E402  they are found only now
import images  # noqa: E402
import report  # noqa: E402
import zoo  # noqa: E402

from https_ota_tools import probe, web  # noqa: E402

IMAGE = images.app_image(size=40_000, version="2.0.0", seed=2)
FACTS = ("HTTP", "ranges", "ETag", "keep-alive")


def facts(report: probe.Report) -> list[str]:
    """Return what a server does, in the order of FACTS."""
    yes = {True: "yes", False: "no"}
    http = report.plain.version.removeprefix("HTTP/")
    return [http, yes[report.ranges], report.etag, yes[report.keep_alive]]


def row(entry: zoo.Entry, folder: Path, chains: list[tuple[certs.Authority, certs.Identity]]):
    """Try a server with each chain, and return its row: facts, then the results of each mode."""
    results: dict[str, list[str]] = {mode: [] for mode in zoo.MODES}
    for root, identity in chains:
        with entry.start(folder / "www", identity) as server:
            url = server.url("app.bin")
            found = facts(probe.probe(url, web.Trust((root.cert,), "the test's root")))
            for mode, (build, options) in zoo.MODES.items():
                board = zoo.new_board(folder, build)
                said = zoo.update(board, url, IMAGE, root, timeout_s=entry.timeout_s, **options)
                results[mode].append(zoo.result(said))
    return [entry.name, *found, *(" / ".join(results[mode]) for mode in zoo.MODES)]


def main() -> None:
    """Try all and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zoo.make_folder(folder, IMAGE)
        chains = [zoo.chain(kind) for kind in zoo.KINDS]
        rows = [row(entry, folder, chains) for entry in zoo.ZOO]
    kinds = " / ".join({"rsa": "RSA", "ec": "ECDSA"}[kind] for kind in zoo.KINDS)
    heads = ["server", *FACTS, *(f"{mode}, {kinds}" for mode in zoo.MODES)]
    report.write("zoo", report.table(heads, rows))


if __name__ == "__main__":
    main()
