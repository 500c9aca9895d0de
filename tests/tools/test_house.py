"""The rules of the house, over the source of lib/https_ota: imports go down only, and nobody reads another's private names.

    ground < flash, net, trust, pack < boot < ota < fleet, fetch, together, aio, repl

`pytest -s tests/tools/test_house.py` also tells the share of comments and the longest files.
"""

import ast
from pathlib import Path

import mip_package
import pytest

LIB = Path(__file__).resolve().parents[2] / "lib" / "https_ota"
TREES = {
    p.relative_to(LIB).with_suffix("").as_posix().replace("/", "."): ast.parse(p.read_text())
    for p in sorted(LIB.rglob("*.py"))
}
HOME = dict.fromkeys(TREES, "core") | {
    name.removesuffix(".py").replace("/", "."): slice_
    for name, slice_ in mip_package.manifest()["HOME"].items()
}
MAX_LINES = 350

# The higher, the more it may import. What is called like no room is on the ground; __init__ only passes names on.
FLOORS = ({"flash", "net", "trust", "pack"}, {"boot"}, {"ota", "find", "steps"})
TOP = {"fleet", "fetch", "together", "aio", "repl"}

# Where the core may import a slice, when an option asks for it; and anywhere if `except ImportError` does without.
ASKED = {
    "ota.OTA.__init__": {"trust.decrypt"},
    "ota.OTA.begin_steps": {"trust.signature"},
    "ota.OTA.claim": {"flash.data"},
    "net.download.Download.__init__": {"net.auth", "net.pin"},
    "net.download.Download._open": {"net.pin"},
}

# Not ours: MicroPython's asyncio offers no other way to wait for a stream.
OTHERS = {"_io_queue"}

# What breaks a rule still. It only gets shorter: what is mended must go from here.
STILL: dict[str, dict[str, str]] = {
    "up": {
        "flash.data": "net.download net.words steps trust.decrypt",
        "flash.resume": "net.http",
        "flash.slot": "boot.history",
        "flash.words": "steps",
    },
    "circle": {
        "net.http": "itself",
        "net.odd": "itself",
        "net.tls": "itself",
        "net.words": "itself",
    },
    "private": {
        "find": "_checker _crypt _download _emit _feed _go_on _hash _resume _sector _sector_view _sha256 _size _start _unit _use_resume _verify_spi_mode",
        "flash.words": "_start",
        "ota": "_used",
    },
    "core": {
        "find": "flash.words",
        "flash.slot": "boot.history",
        "net.download": "net.words",
        "net.http": "net.words",
        "net.odd": "net.words",
        "net.retry": "net.words",
        "net.tls": "net.words",
        "ota": "boot.history boot.version flash.words net.words",
    },
    "length": {
        "net.download": "long",
        "net.http": "long",
        "ota": "long",
    },
}


def floor(module):
    room = module.partition(".")[0]
    if room == "__init__":
        return 9
    if room in TOP:
        return len(FLOORS) + 1
    return next((i + 1 for i, rooms in enumerate(FLOORS) if room in rooms), 0)


def imported(module, node):
    """The modules of the package that an import statement names, and the names it takes out of each."""
    if isinstance(node, ast.Import):
        names = [a.name.removeprefix("https_ota.") for a in node.names]
        return [(n, []) for n in names if n in TREES]
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return []
    home = module.split(".")[: -node.level] if module != "__init__" else []
    base = ".".join([*home, *filter(None, [node.module])])
    taken = [a.name for a in node.names]
    if base in TREES:
        return [(base, taken)]
    return [(".".join(filter(None, [base, n])), []) for n in taken]


def walk(node, where, guarded=False):
    """All nodes with the name of the function that they are in, and whether `except ImportError` is around."""
    for child in ast.iter_child_nodes(node):
        inner, safe = where, guarded
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{where}.{child.name}"
        if isinstance(child, ast.Try):
            safe |= any("ImportError" in ast.unparse(h.type or child) for h in child.handlers)
        yield child, inner, safe
        yield from walk(child, inner, safe)


IMPORTS = [
    (module, where, safe, target, taken)
    for module, tree in TREES.items()
    for node, where, safe in walk(tree, module)
    for target, taken in imported(module, node)
]


def breaks_up():
    """Imports that don't go down, nor stay in their room."""
    for module, _, _, target, _ in IMPORTS:
        same = module.partition(".")[0] == target.partition(".")[0] and "." in module
        ground = floor(module) == floor(target) == 0 or {floor(module), floor(target)} == {3}
        if not same and not ground and floor(module) <= floor(target):
            yield module, target


def breaks_circle():
    """Modules that reach themselves."""
    arrows = {m: {t for a, _, _, t, _ in IMPORTS if a == m} for m in TREES}
    for module in TREES:
        seen, todo = set(), [module]
        while todo:
            new = arrows.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        if module in seen:
            yield module, "itself"


def breaks_private():
    """Private names of others: x._y, unless x is self or cls, and `from m import _y`."""
    for module, _, _, _, taken in IMPORTS:
        yield from ((module, n) for n in taken if n.startswith("_") and n != "__version__")
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr[:1] == "_" and node.attr[:2] != "__":
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if owner not in ("self", "cls") and node.attr not in OTHERS:
                    yield module, node.attr


def breaks_core():
    """The core's imports of slices that no option asks for."""
    for module, where, safe, target, _ in IMPORTS:
        into_slice = HOME[module] == "core" and HOME[target] != "core"
        if into_slice and not safe and target not in ASKED.get(where, ()):
            yield module, target


def breaks_length():
    """Files that are too long."""
    for module in TREES:
        path = LIB / (module.replace(".", "/") + ".py")
        if len(path.read_text().splitlines()) > MAX_LINES:
            yield module, "long"


RULES = {
    "up": breaks_up,
    "circle": breaks_circle,
    "private": breaks_private,
    "core": breaks_core,
    "length": breaks_length,
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule):
    broken = set(RULES[rule]())
    still = {(m, what) for m, words in STILL.get(rule, {}).items() for what in words.split()}
    assert broken - still == set(), RULES[rule].__doc__
    assert still - broken == set(), "mended: take it out of STILL"


def test_what_may_be_asked_for_is(capsys):
    """ASKED has nothing too much; and the shares of comments, for who reads this with -s."""
    used = {(where, target) for _, where, _, target, _ in IMPORTS}
    assert {(w, t) for w, targets in ASKED.items() for t in targets} <= used
    print()
    for module in TREES:
        lines = (LIB / (module.replace(".", "/") + ".py")).read_text().splitlines()
        why = sum(line.lstrip().startswith("#") for line in lines)
        print(f"{module:20} {len(lines):4} lines, {100 * why // len(lines):3} % comments")
