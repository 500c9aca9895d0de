"""The package as a whole: documents that match it, and code for every architecture."""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import mip_package
import pytest
from built import MPY_CROSS, ROOT

LIB = ROOT / "lib" / "https_ota"
MANUAL = (ROOT / "lib" / "README.md").read_text()
# Whose keyword arguments are the options, in the order in which help() tells them.
CLASSES = (("ota.py", "OTA"), ("net/exchange.py", "Exchange"), ("net/download.py", "Download"))
MODULES = sorted(str(path.relative_to(LIB)) for path in LIB.rglob("*.py"))


def table(heading: str) -> list[list[str]]:
    """The rows of the manual's table below a heading."""
    section = MANUAL.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def init_arguments(module: str, name: str) -> ast.arguments:
    tree = ast.parse((LIB / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for f in node.body:
                if isinstance(f, ast.FunctionDef) and f.name == "__init__":
                    return f.args
    raise LookupError(name)


def test_error_table_is_the_class_with_the_advice():
    source = (LIB / "errors.py").read_text()
    codes = re.findall(r"^    ([A-Z_]+) = (\d+)  # (.*)$", source, re.MULTILINE)
    text = re.search(r'_ADVICE = """\n(.*?)"""', (LIB / "words.py").read_text(), re.DOTALL)[1]
    advice = dict(line.split(" ", 1) for line in text.splitlines())
    assert [name for name, *_ in codes] == list(advice)
    rows = [[f"`{name}`", number, words, advice[name]] for name, number, words in codes]
    assert rows == table("Errors")
    numbers = [number for _, number, _ in codes]
    assert len(set(numbers)) == len(numbers) > 20


def test_event_table_is_the_module():
    source = (LIB / "events.py").read_text()
    events = re.findall(r"^([A-Z_]+) = (\d+)  # (.*)$", source, re.MULTILINE)
    assert [[f"`{name}`", number, words] for name, number, words in events] == table("Events")


def test_slice_table_is_that_of_the_manifest():
    slices = mip_package.manifest()["SLICES"]
    there = {name: needs for name, (_, needs) in slices.items() if name != "core"}
    assert {name: needs for name, _, needs in table("Slices")} == there


def test_every_error_code_is_raised_somewhere():
    source = "".join((LIB / name).read_text() for name in MODULES)
    for name, *_ in table("Errors"):
        assert f"OTAError.{name.strip('`')}" in source, name


def test_option_table_is_the_signature():
    documented = {}
    for names, default, _ in table("Options"):
        for name in names.replace("`", "").split(", "):
            documented[name] = default
    real = {}
    for module, cls in CLASSES:
        arguments = init_arguments(module, cls)
        for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            real[arg.arg] = ast.unparse(default)
    assert documented.pop("url") == ""
    assert documented == real


def test_package_json_lists_the_package():
    text = mip_package.listing(mip_package.manifest()["files"], "lib/")
    assert (ROOT / "package.json").read_text() == text, "run `make package`"
    package = json.loads(text)
    assert package["urls"] == [[f"https_ota/{name}", f"lib/https_ota/{name}"] for name in MODULES]


def test_the_names_are_those_of_the_modules():
    """What is said to be in a module is in it, or is a name of the module itself."""
    text = re.search(r"_NAMES = (\(.*?\n\))", (LIB / "names.py").read_text(), re.DOTALL)[1]
    text = ast.literal_eval(text)
    groups = [group.split() for group in text.split("|") if group]
    for home, *listed in groups:
        names = [name for name in listed if name[0] != "*"]
        source = ast.parse((LIB / f"{home.replace('.', '/')}.py").read_text()).body
        there = {n.name for n in source if isinstance(n, ast.ClassDef | ast.FunctionDef)}
        assert there >= set(names), home


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["project"]["version"]
    assert json.loads((ROOT / "package.json").read_text())["version"] == version
    assert f'__version__ = "{version}"' in (LIB / "__init__.py").read_text()
    assert f'version="{version}"' in (ROOT / "lib" / "manifest.py").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
    short = version.rpartition(".")[0]
    assert f'"https_ota/{short}"' in (LIB / "net/request.py").read_text()


@pytest.mark.parametrize("arch", ["xtensawin", "rv32imc", "x86", "x64"])
def test_compiles_for(arch, tmp_path):
    for name in MODULES:
        out = tmp_path / Path(name).with_suffix(".mpy").name
        done = subprocess.run(
            [MPY_CROSS, f"-march={arch}", "-o", out, LIB / name],
            check=True,
            capture_output=True,
            text=True,
        )
        # A branch that does not reach its target is told here, and compiled all the same.
        assert done.stdout + done.stderr == "", name
        assert out.stat().st_size


def test_events_have_the_same_numbers_everywhere():
    """Who does not import them has them as constants with an underscore; and each happens somewhere."""
    events = dict(re.findall(r"^([A-Z_]+) = (\d+)", (LIB / "events.py").read_text(), re.M))
    used = set()
    for name in MODULES:
        source = (LIB / name).read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "events":
                used |= {a.name for a in node.names if re.search(rf"emit\(.*\b{a.name}\b", source)}
        for event in re.findall(r"\b(?:emit|event)\(_([A-Z_]+)\b", source):
            assert f"\n_{event} = const({events[event]})\n" in source, name
            used.add(event)
    assert used == set(events)


def test_help_names_the_options_of_the_signatures():
    tree = ast.parse((LIB / "repl.py").read_text())
    values = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign)}
    named = ast.literal_eval(values["_OPTIONS"]).split()
    real = []
    for module, cls in CLASSES:
        real += [arg.arg for arg in init_arguments(module, cls).kwonlyargs]
    assert named == real


def test_no_viper_store_at_a_constant_place():
    """MicroPython 1.25 makes a store of another register of `p[3] = x` on Xtensa; 1.26 does not."""
    for name in MODULES:
        for function in ast.walk(ast.parse((LIB / name).read_text())):
            if not isinstance(function, ast.FunctionDef) or "viper" not in "".join(
                ast.unparse(d) for d in function.decorator_list
            ):
                continue
            for node in ast.walk(function):
                targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
                for target in targets:
                    if isinstance(target, ast.Subscript) and isinstance(
                        target.slice, ast.Constant
                    ):
                        assert target.slice.value == 0, f"{name}:{target.lineno}"
