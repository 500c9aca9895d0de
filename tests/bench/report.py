"""The tables of tests/bench/README.md, which are never written by hand."""

import re
from pathlib import Path

README = Path(__file__).with_name("README.md")


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("| --- ", "|---")


def write(target: str, text: str) -> None:
    """Put what a target of make has found in its place, and print it."""
    print(text)
    pattern = rf"(<!-- make {target}: [^\n]*-->\n).*?(\n<!-- end -->)"
    old = README.read_text()
    if not re.search(pattern, old, re.DOTALL):
        raise LookupError(f"{README} has no place for make {target}")
    README.write_text(
        re.sub(pattern, lambda m: f"{m[1]}\n{text.strip()}\n{m[2]}", old, flags=re.DOTALL)
    )
