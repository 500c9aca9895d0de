"""A chart as SVG: lines through points, both axes from 0. Libraries that draw are many times as large as what is drawn."""

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 640, 340
LEFT, TOP, RIGHT, BOTTOM = 70, 40, 150, 50
COLOURS = ("#0b6e99", "#d9730d", "#448361", "#8b5cf6", "#c4314b")

Points = list[tuple[float, float]]


def chart(path: Path, title: str, across: str, up: str, lines: dict[str, Points]) -> None:
    """Write a chart of lines, each named at its end; `across` and `up` name the axes."""
    every = [point for points in lines.values() for point in points]
    steps = [step(max(point[axis] for point in every)) for axis in (0, 1)]
    ends = [
        max(-(-max(p[axis] for p in every) // steps[axis]), 1) * steps[axis] for axis in (0, 1)
    ]

    def at(x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + x / ends[0] * width, 1), round(TOP + (1 - y / ends[1]) * height, 1)

    def text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> None:
        out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" {more}>{escape(words)}</text>')

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    text(WIDTH / 2, 20, title, more='font-size="14"')
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across)
    text(-(TOP + HEIGHT - BOTTOM) / 2, 16, up, more='transform="rotate(-90)"')
    for axis in (0, 1):
        for n in range(round(ends[axis] / steps[axis]) + 1):
            value = n * steps[axis]
            (x, y), end = (
                (at(value, 0), at(value, ends[1]))
                if axis == 0
                else (at(0, value), at(ends[0], value))
            )
            out.append(f'<path d="M{x},{y}L{end[0]},{end[1]}" stroke="#ddd"/>')
            text(
                *((x, y + 16) if axis == 0 else (x - 6, y + 4)),
                f"{value:g}",
                "middle" if axis == 0 else "end",
            )
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        places = [at(*point) for point in points]
        way = "L".join(f"{x},{y}" for x, y in places)
        out.append(f'<path d="M{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        text(places[-1][0] + 8, places[-1][1] + 4, name, "start", f'fill="{colour}"')
    path.write_text("\n".join([*out, "</svg>\n"]))


def step(most: float) -> float:
    """A round number, of which four to nine make `most`."""
    size = 1e-6
    while True:
        for factor in (1, 2, 5):
            if most / (size * factor) <= 9:
                return size * factor
        size *= 10
