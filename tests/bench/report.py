"""The tables of figures in the manuals, which are never written by hand."""

import re
from pathlib import Path

ALL = Path(__file__).with_name("README.md")
SHORT = Path(__file__).resolve().parents[2] / "README.md"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("| --- ", "|---")


def write(target: str, text: str, manual: Path = ALL) -> None:
    """Put what a target of make has found in its place in a manual, and print it."""
    print(text)
    pattern = rf"(<!-- make {target}: [^\n]*-->\n).*?(\n<!-- end -->)"
    old = manual.read_text()
    if not re.search(pattern, old, re.DOTALL):
        raise LookupError(f"{manual} has no place for make {target}")
    manual.write_text(
        re.sub(pattern, lambda m: f"{m[1]}\n{text.strip()}\n{m[2]}", old, flags=re.DOTALL)
    )
