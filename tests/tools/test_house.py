"""The rules of the house, over the source of lib/https_ota: imports go down only, and nobody reads another's private names.

    ground < flash, net, trust, pack < boot < ota < fleet, fetch, together, aio, repl

`pytest -s tests/tools/test_house.py` also tells the length of each file and its share of comments.
"""

import ast
import re
from pathlib import Path

import mip_package
import pytest

LIB = Path(__file__).resolve().parents[2] / "lib" / "https_ota"
TEXTS = {
    p.relative_to(LIB).with_suffix("").as_posix().replace("/", "."): p.read_text()
    for p in sorted(LIB.rglob("*.py"))
}
SLICE = {
    name.removesuffix(".py").replace("/", "."): slice_
    for name, slice_ in mip_package.manifest()["HOME"].items()
}
MAX_LINES = 350

# From below: the rooms of each floor. A file of any other name is on the ground; __init__ passes names on.
FLOORS = (
    {"ground"},
    {"flash", "net", "trust", "pack"},
    {"boot"},
    {"ota"},
    {"fleet", "fetch", "together", "aio", "repl"},
    {"__init__"},
)
ROOM = dict.fromkeys(("local", "padding", "session"), "ota")

# Where the core may import a slice, when an option asks for it; and anywhere if `except ImportError` does without.
ASKED = {
    "ota.OTA.__init__": {"trust.decrypt", "trust.signature"},
    "ota.OTA.claim": {"flash.data"},
    "net.exchange.Exchange.__init__": {"net.auth", "net.pin"},
    "net.exchange.Exchange._send": {"net.pin"},
}

# Not ours: MicroPython's asyncio offers no other way to wait for a stream.
OTHERS = {"_io_queue"}

# What breaks a rule still. It only gets shorter: what is mended must go from here.
STILL: dict[str, dict[str, str]] = {}


class House:
    """Modules by name, and their imports: (module, function, whether ImportError is caught, module, names taken out of it)."""

    def __init__(self, texts):
        self.texts = texts
        self.trees = {name: ast.parse(text) for name, text in texts.items()}
        self.imports = [
            (module, where, safe, target, names)
            for module, tree in self.trees.items()
            for node, where, safe in walk(tree, module)
            for target, names in self.targets(module, node)
        ]

    def targets(self, module, node):
        """The modules of the package that an import statement names, and the names that it takes out of each."""
        if isinstance(node, ast.Import):
            names = [a.name.removeprefix("https_ota.") for a in node.names]
            return [(n, []) for n in names if n in self.trees]
        if not isinstance(node, ast.ImportFrom) or not node.level:
            return []
        home = module.split(".")[: -node.level] if module != "__init__" else []
        base = ".".join([*home, *filter(None, [node.module])])
        names = [a.name for a in node.names]
        if base in self.trees:
            return [(base, names)]
        inside = [(".".join(filter(None, [base, n])), n) for n in names]
        return [(m, []) if m in self.trees else ("__init__", [n]) for m, n in inside]

    def up(self):
        """Imports that don't go down, nor stay in their room."""
        for module, _, _, target, _ in self.imports:
            if room(module) != room(target) and floor(module) <= floor(target):
                yield module, target

    def circle(self):
        """Modules that import themselves, by way of others."""
        arrows = {m: {t for a, _, _, t, _ in self.imports if a == m} for m in self.trees}
        for module in self.trees:
            seen, todo = set(), [module]
            while todo:
                new = arrows[todo.pop()] - seen
                seen |= new
                todo += new
            if module in seen:
                yield module, "itself"

    def private(self):
        """Private names of others: x._y, unless x is self or cls, and `from m import _y`."""
        for module, _, _, _, names in self.imports:
            yield from ((module, n) for n in names if private(n))
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and private(node.attr):
                    owner = node.value.id if isinstance(node.value, ast.Name) else ""
                    if owner not in ("self", "cls") and ast.unparse(node.value) != "super()":
                        yield module, node.attr

    def core(self):
        """The core's imports of slices that no option asks for."""
        for module, where, safe, target, _ in self.imports:
            asked = safe or target in ASKED.get(where, ())
            if module not in SLICE and target in SLICE and not asked:
                yield module, target

    def length(self):
        """Files that are too long."""
        yield from ((m, "long") for m, t in self.texts.items() if t.count("\n") > MAX_LINES)


def walk(node, where, safe=False):
    """All nodes with the name of the function that they are in, and whether `except ImportError` is around."""
    for child in ast.iter_child_nodes(node):
        inner, caught = where, safe
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{where}.{child.name}"
        if isinstance(child, ast.Try):
            caught |= any(h.type and "ImportError" in ast.unparse(h.type) for h in child.handlers)
        yield child, inner, caught
        yield from walk(child, inner, caught)


def room(module):
    name = module.partition(".")[0]
    return ROOM.get(name, name if any(name in rooms for rooms in FLOORS) else "ground")


def floor(module):
    return next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)


def private(name):
    return name.startswith("_") and not name.startswith("__") and name not in OTHERS


HOUSE = House(TEXTS)
RULES = ("up", "circle", "private", "core", "length")


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule):
    broken = set(getattr(HOUSE, rule)())
    still = {(m, what) for m, words in STILL.get(rule, {}).items() for what in words.split()}
    assert broken - still == set(), getattr(House, rule).__doc__
    assert still - broken == set(), "mended: take it out of STILL"


def test_each_module_is_in_one_slice():
    listed = [
        m for modules, _ in mip_package.manifest()["SLICES"].values() for m in modules.split()
    ]
    assert len(listed) == len(set(listed))


def test_machine_code_stays():
    """An ESP32 gives the memory of machine code back at a soft reset only: loaded anew each time, it would run out."""
    stays = re.search('_STAY = "(.*)"', TEXTS["memory"])[1].split()
    native = {
        name for name, text in TEXTS.items() if re.search(r"@micropython\.(viper|native)", text)
    }
    assert "hot" in native
    assert native <= set(stays)
    # What the package itself holds on to would keep a module that is forgotten.
    assert set(re.search('_STAY = "(.*)"', TEXTS["names"])[1].split()) <= set(stays)
    # As do the classes of what an update raises and returns, and what has begun something.
    assert {"errors", "memory", "flash.info", "boot.guard"} <= set(stays) <= set(TEXTS)


def test_what_may_be_asked_for_is():
    used = {(where, target) for _, where, _, target, _ in HOUSE.imports}
    assert {(w, t) for w, targets in ASKED.items() for t in targets} <= used


@pytest.mark.parametrize(
    ("rule", "module", "text"),
    [
        ("up", "net.tls", "def f():\n    from ..flash import nvs"),
        ("up", "flash.nvs", "from ..boot.confirm import confirm"),
        ("up", "der", "import https_ota.net.tls"),
        ("up", "aio", "from . import repl"),
        ("circle", "flash.nvs", "from . import slot"),
        ("private", "boot.confirm", "from ..flash.slot import _x"),
        ("private", "flash.nvs", "def f(x):\n    return x._y"),
        ("private", "flash.nvs", "class C:\n    def f(self):\n        self.x._y = 1"),
        ("core", "ota", "def f():\n    from .trust.signature import x"),
        ("length", "ota", "\n" * 351),
    ],
)
def test_rules_bite(rule, module, text):
    others = {
        "flash.slot": "from .nvs import x\nclass C:\n    def f(self, cls):\n        self._x = cls._y",
        **dict.fromkeys(("boot.confirm", "der", "net.tls", "repl", "trust.signature"), ""),
        "__init__": "from .boot.confirm import x",
        "ota": "try:\n    from .trust import signature\nexcept ImportError:\n    pass",
    }
    fine = House({"flash.nvs": "", "aio": "from . import ota", **others})
    assert [list(getattr(fine, r)()) for r in RULES] == [[]] * len(RULES)
    bad = House({"flash.nvs": "", **others, module: text})
    found = {r: {m for m, _ in getattr(bad, r)()} for r in RULES}
    assert module in found[rule]
    assert {r for r in RULES if found[r]} == {rule}


def test_shares_of_comments():
    print()
    for module, text in TEXTS.items():
        lines = text.splitlines()
        why = sum(line.lstrip().startswith("#") for line in lines)
        print(f"{module:20} {len(lines):4} lines, {100 * why // len(lines):3} % comments")
