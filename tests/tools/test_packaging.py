"""The host package as people install it: what is in it, and that it runs on each Python that is here."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import images
import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
BUILD = "from setuptools import build_meta as b; print(b.build_{}('dist'))"


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A copy of what is kept of the project, as building leaves files in it."""
    folder = tmp_path_factory.mktemp("sources")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dist").mkdir()
    return folder


def build(folder, what):
    command = [sys.executable, "-c", BUILD.format(what)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist" / done.stdout.split()[-1]


@pytest.fixture(scope="session")
def sdist(sources):
    return build(sources, "sdist")


@pytest.fixture(scope="session")
def wheel(sources, sdist):
    return build(sources, "wheel")


def in_wheel(wheel):
    with zipfile.ZipFile(wheel) as z:
        return {name for name in z.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_tools_the_tables_and_the_device_package(wheel):
    tools = {p.name for p in (ROOT / "tools/https_ota_tools").glob("*.py")} | {"py.typed"}
    package = ROOT / "lib/https_ota"
    device = {f"device/{p.relative_to(package)}" for p in package.rglob("*.py")}
    tables = {f"tables/{p.name}" for p in (ROOT / "firmware").glob("partitions-*.csv")}
    assert in_wheel(wheel) == {f"https_ota_tools/{n}" for n in tools | device | tables}


def test_the_sdist_holds_what_the_wheel_is_made_of(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as t:
        names = {name.partition("/")[2] for name in t.getnames()}
        t.extractall(tmp_path, filter="data")
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert not any(name.endswith("manifest.py") and "/https_ota" not in name for name in names)
    assert not any(name.startswith(("tests", "build", "boards")) for name in names)
    (folder,) = tmp_path.iterdir()
    (folder / "dist").mkdir()
    assert in_wheel(build(folder, "wheel")) == in_wheel(wheel)


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as z:
        (name,) = (n for n in z.namelist() if n.endswith("/METADATA"))
        found = email.message_from_bytes(z.read(name))
        assert any(n.endswith("/licenses/LICENSE") for n in z.namelist())
    assert found["License-Expression"] == "MIT"
    assert found["Requires-Python"] == f">={PYTHONS[0]}"
    assert found.get_all("Project-URL")
    classifiers = found.get_all("Classifier")
    named = [c.rpartition(" ")[2] for c in classifiers if re.search(r":: 3\.\d+$", c)]
    assert named == list(PYTHONS)
    assert "Typing :: Typed" in classifiers
    assert found.get_payload().startswith("# https_ota")


def interpreter(version):
    """Python of this version, on the way or where pyenv and uv put theirs; None if it is not here."""
    found = [shutil.which(f"python{version}")]
    for root in (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"):
        found += sorted(root.glob(f"*{version}.*/bin/python{version}"))
    for path in filter(None, found):
        # pyenv has stand-ins for all that it knows, used or not.
        if not subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode:
            return path
    return None


def need(version):
    found = interpreter(version)
    if found is None:
        pytest.skip(f"Python {version} is not here")
    return found


@pytest.mark.parametrize("version", PYTHONS)
def test_it_compiles(version, tmp_path):
    """Each file, the device's too: pip compiles all that it installs."""
    command = [need(version), "-W", "error", "-m", "compileall", "-q", "-f"]
    folders = [ROOT / "tools/https_ota_tools", ROOT / "lib/https_ota"]
    done = subprocess.run(
        [*command, *map(str, folders)],
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


EVERYTHING = """\
import shlex, sys
from https_ota_tools import cli, package
for line in sys.stdin:
    status = cli.main(shlex.split(line))
    assert status == 0, (status, line)
print(len(package.prepare(0).files))
"""


def use(command, folder):
    """Do some of everything with an installed package: its command, and all others in one process of its Python."""
    app = images.app_image(version="1.2.3")
    (folder / "app.bin").write_bytes(app)
    # Tools of their own are linked from where they are.
    python = command.resolve().with_name("python")
    lines = (
        "inspect app.bin",
        "mkflash app.bin -o flash.bin",
        "slots flash.bin",
        "keygen sign-p256 -o key.pem",
        "sign app.bin --key key.pem -o signed.bin",
        "verify signed.bin --trusted key.pub.pem",
        "manifest --file signed.bin --release 1 --sign key.pem -o m.json",
        "manifest --check m.json --trusted key.pub.pem",
        "keygen encrypt-p256 -o device.pem",
        "encrypt signed.bin --key device.pub.pem -o sent.bin",
        "decrypt sent.bin --key device.pem -o back.bin",
    )
    for line, text in (
        ([command, "--version"], ""),
        ([python, "-c", EVERYTHING], "\n".join(lines)),
    ):
        done = subprocess.run(
            line, cwd=folder, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert int(done.stdout.split()[-1]) == len(list((ROOT / "lib/https_ota").rglob("*.py")))


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.timeout(600)
def test_pip_installs_it(version, wheel, tmp_path):
    """With what it depends on, where an index is within reach; test_it_compiles is what pip does afterwards."""
    python = need(version)
    # The pip that a venv is given is the one that Python came with: where that is there, it serves.
    pip = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
    options = [] if pip.returncode else ["--without-pip", "--system-site-packages"]
    subprocess.run([python, "-m", "venv", *options, tmp_path / "venv"], check=True)
    commands = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    done = subprocess.run(
        [commands / "python", "-m", "pip", "install", "-q", "--no-compile", wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pip gets no dependencies here: {done.stderr.strip()[-200:]}")
    use(commands / "https-ota", tmp_path)


def test_pip_installs_the_folder(sources, tmp_path):
    """`pip install .`, as the manual has it; the dependencies are those of the tests."""
    target = tmp_path / "site"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"),
            *("--target", target, "."),
        ],
        cwd=sources,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "https_ota_tools", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("https-ota 0."), done.stderr


@pytest.mark.parametrize("tool", ["pipx", "uv"])
@pytest.mark.timeout(600)
def test_other_installers(tool, wheel, tmp_path):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not here")
    environment = {
        **os.environ,
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "UV_TOOL_DIR": str(tmp_path / "uv"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
    }
    command = {"pipx": ["pipx", "install"], "uv": ["uv", "tool", "install"]}[tool]
    done = subprocess.run(
        [*command, wheel], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"{tool} gets no dependencies here: {done.stderr.strip()[-200:]}")
    use(tmp_path / "bin" / "https-ota", tmp_path)
