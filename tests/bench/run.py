"""All figures, for `make bench`: build/bench.json, the tables of README.md here and at the top, and two charts."""

import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import budgets
import draw
import figures
import instructions
import links
import ram
import report
import riscv

ROOT = Path(__file__).resolve().parents[2]

HERE = Path(__file__).parent
KIB = 1024
IMAGES = [n * KIB for n in (64, 256, 1024, 4096)]
RANGES = [n * KIB for n in (1, 2, 4, 8, 16)]

OF_ALL_RANGES = "ranged over the bare loop, by size of a range"
OF_ALL_IMAGES = "instructions by size of the image"


def count_instructions() -> dict:
    """What valgrind counts; {} without it."""
    if said := instructions.missing():
        print(said)
        return {}
    with figures.Bench(instructions.SIZES[0]) as bench:
        counter = instructions.Counter(bench)
        bare = counter.slope(counter.bare)
        plain = counter.slope(counter.ours)
        ranges = {n: counter.slope(lambda size, n=n: counter.ours(size, n)) for n in RANGES}
        # The SIM board's NVS is written in Python, a chip's is not.
        no_nvs = [
            counter.slope(lambda size, n=n: counter.ours(size, n, resume=False))
            for n in (0, 4 * KIB)
        ]
        unpacked = counter.slope(counter.packed)
        patched = counter.slope(counter.delta, instructions.base)
        sizes = {n: counter.count(counter.ours(n), n) for n in IMAGES}
    return {
        "plain GET, over the bare loop": plain / bare,
        "ranged, 4 KiB, over the bare loop": ranges[4 * KIB] / bare,
        "plain GET, without records in NVS": no_nvs[0] / bare,
        "ranged, 4 KiB, without records in NVS": no_nvs[1] / bare,
        "compressed, over the plain GET": unpacked / plain,
        "delta, over the plain GET": patched / plain,
        OF_ALL_RANGES: {n: figure / bare for n, figure in ranges.items()},
        OF_ALL_IMAGES: sizes,
    }


def model_by_size() -> dict[int, int]:
    """Milliseconds of the flash model for each size of an image."""
    found = {}
    for size in IMAGES:
        with figures.Bench(size) as bench:
            found[size] = bench.operations(bulk_erase=False).ms
    return found


def off_line(points: dict[int, int]) -> float:
    """How far points are from the straight line through the first and the last, at most, as a part of each."""
    (x0, y0), *_, (x1, y1) = points.items()
    return max(abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) / y for x, y in points.items())


def ratio(found: list[float]) -> str:
    """The median, and between what it was."""
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def tables(found: dict, sizes: dict) -> str:
    """All tables, for tests/bench/README.md."""
    memory = [
        [what, f"{figure:,}", f"{budgets.BUDGETS[what]:,}" if what in budgets.BUDGETS else ""]
        for what, figure in found["memory"].items()
    ]
    counts = [
        [what, f"{figure:,.5g}", f"{figures.COUNTS[what]:,.5g}"]
        for what, figure in found["counts"].items()
    ]
    cpu = [[w, f"{n:.2f}"] for w, n in found["instructions"].items() if isinstance(n, float)]
    risc = [[what, f"{figure:.2f}"] for what, figure in found["RV32"].items()]
    by_size = {
        "flash model": found["flash model, by size of the image"],
        "instructions": found["instructions"].get(OF_ALL_IMAGES),
    }
    lines = [
        [f"{what}: furthest from a straight line, 64 KiB to 4 MiB", f"{off_line(points):.1%}"]
        for what, points in by_size.items()
        if points
    ]
    slow = [
        [f"round trip {rtt} ms", "the same update from a file", ratio(r)]
        for rtt, r in found["links"]["over a file"].items()
    ] + [
        [f"round trip {rtt} ms, window of {links.WINDOW:,} B", "a plain GET there", ratio(r)]
        for rtt, r in found["links"]["over a plain GET"].items()
    ]
    heads = ["slice", *sizes, "needs", "its modules (xtensawin)"]
    return "\n".join(
        (
            report.table(["bytes", "figure", "budget"], memory),
            report.table(["an update of 1.45 MB", "figure", "budget"], counts),
            report.table(["instructions", "figure"], cpu + risc),
            instructions.missing(),
            report.table(["cost against size", "figure"], lines),
            report.table(["in ranges, 4 KiB TLS buffer, 1 MB", "over", "time"], slow),
            report.table(heads, ram.slices(sizes)),
        )
    )


def short(found: dict) -> str:
    """The five figures of README.md at the top."""
    memory, counts, cpu = found["memory"], found["counts"], found["instructions"]
    slow = found["links"]["over a file"]
    pairs = [
        (
            "memory that an update loads: frozen / from .mpy files; and keeps: frozen / from .mpy files",
            [
                f"{memory[what]:,} B"
                for what in (
                    budgets.FROZEN_UPDATE,
                    budgets.MPY_UPDATE,
                    budgets.FROZEN_LEFT,
                    budgets.MPY_LEFT,
                )
            ],
        ),
        (
            "room in the firmware: ESP32 / ESP32-C3",
            [f"{memory[what]:,} B" for what in (budgets.FROZEN_XTENSA, budgets.FROZEN_RISCV)],
        ),
        (
            "time of the flash, over what it needs at least: by sectors / by blocks",
            [f"{counts[figures.MODEL.format(unit)]:.2f}" for unit in ("sectors", "blocks")],
        ),
        (
            "instructions, over a bare loop of TLS, SHA-256 and writing: one GET / ranges of 4 KiB",
            [f"{n:.2f}" for n in list(cpu.values())[:2]] or ["not counted"],
        ),
        (
            "time in ranges through 4 KiB, over that from a file: round trip "
            + " / ".join(f"{rtt} ms" for rtt in slow),
            [f"{statistics.median(r):.2f}" for r in slow.values()],
        ),
    ]
    return report.table(["what", "figure"], [[what, " / ".join(n)] for what, n in pairs])


def charts(found: dict) -> None:
    """Draw what depends on something."""
    cpu, slow = found["instructions"], found["links"]
    model = found["flash model, by size of the image"]
    cost = {"flash model, s": [(n / KIB, ms / 1000) for n, ms in model.items()]}
    if cpu:
        cost["instructions, 10 M"] = [(n / KIB, c / 1e7) for n, c in cpu[OF_ALL_IMAGES].items()]
        draw.chart(
            *(HERE / "ranges.svg", "Instructions over the bare loop", "range, KiB", "ratio"),
            {"in ranges": [(n / KIB, figure) for n, figure in cpu[OF_ALL_RANGES].items()]},
        )
    draw.chart(HERE / "sizes.svg", "Cost against size", "image, KiB", "cost", cost)
    times = {
        what: [(rtt, statistics.median(r)) for rtt, r in points.items()]
        for what, points in slow.items()
        if points
    }
    draw.chart(HERE / "links.svg", "Time of an update in ranges", "round trip, ms", "ratio", times)


def main() -> None:
    """Measure, print and write."""
    with ProcessPoolExecutor(1) as pool:
        waiting = pool.submit(links.measure)
        cpu = count_instructions()
        model = model_by_size()
        rounds = waiting.result()
    bound, held, sizes = ram.measure()
    found = {
        "memory": bound | held,
        "counts": figures.counts(),
        "instructions": cpu,
        "RV32": riscv.measure(),
        "links": {
            "over a file": links.over_file(rounds),
            "over a plain GET": links.over_plain(rounds),
        },
        "flash model, by size of the image": model,
    }
    (ROOT / "build" / "bench.json").write_text(json.dumps(found, indent=2) + "\n")
    report.write("bench", tables(found, sizes))
    report.write("bench", short(found), report.SHORT)
    charts(found)


if __name__ == "__main__":
    main()
