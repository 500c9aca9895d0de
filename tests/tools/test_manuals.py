"""The commands in the manuals, as they stand there, in a folder like a checkout and with a board on a serial port."""

import os
import re
import shlex
import subprocess
import sys

import built
import images
import pytest
from built import ROOT

from https_ota_tools import cli

MANUALS = sorted(
    p
    for p in ROOT.rglob("*.md")
    if not {"build", ".venv", ".git"} & set(p.relative_to(ROOT).parts)
)
PROGRAMS = ("https-ota", "mpremote", "make", "pip", "pytest", "esptool.py", "git", "SIM_FLASH=")

# What can't be run here, and why. The first that matches counts.
NOT_HERE = {
    r"git |esp-idf/(install|tools)|export MPY_DIR|cd https_ota": "fetches ESP-IDF and MicroPython, for firmware",
    r"make (flash|monitor|qemu|firmware)|esptool\.py": "needs ESP-IDF; test_firmware.py runs what goes without",
    r"make test-chip": "needs ESP-IDF and its qemu; tests/device runs on a SIM board without",
    r"make test-device": "needs a board; tests/device runs on a SIM board without one",
    r"make (demo|test|bench|bench-crypto|budgets|zoo|package|soak|sim|sim-serial|sim-builds|rv32-build)\b": (
        "takes long, or waits for somebody: it is looked whether make knows it"
    ),
    r"pytest|MPY_BUILD=": "is a part of the tests: it is looked whether there is such a part",
    r"pip install \.": "test_packaging.py does",
    r"https-ota (push|serve|status|probe|ca|keygen) .*\b[A-Z]{3,}\b": "has words in place of arguments",
    r"https-ota ca https://your\.server": "test_ca.py has servers",
    r"mpremote connect /dev/pts/N|https-ota push --port /dev/pts/N": "has a word in place of a port",
    r"mpremote$": "waits for somebody to type",
    r"mpremote mip install http://HOST": "has a word in place of a server; test_slices.py has one",
    r"https-ota [a-z]+( --[a-z-]+)*$|mpremote mip install$": "is the name of a command or an option",
}


def commands(path):
    """All commands in a manual: the lines of its blocks of shell, and those that stand in a sentence."""
    text = path.read_text()
    found = []
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        found += [re.sub(r"\s+# .*", "", line).strip() for line in block.splitlines()]
    for words in re.findall(r"(?<!`)`([^`]+)`(?!`)", text.replace("\n", " ")):
        if words.startswith(PROGRAMS) and " " in words.strip():
            found.append(re.sub(r" +", " ", words))
    return [c for c in found if c]


def reason(command):
    return next((why for pattern, why in NOT_HERE.items() if re.match(pattern, command)), None)


ALL = {c: None for path in MANUALS for c in commands(path)}
HERE = [c for c in ALL if not reason(c)]


def test_there_are_commands():
    assert len(HERE) > 15
    assert any(c.startswith("mpremote mip install package.json") for c in HERE)


def anchors(path):
    """What a manual's headings are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", MANUALS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert path.read_text().count("```") % 2 == 0
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert ROOT in target.parents, link
        assert not anchor or anchor in anchors(target), link


def test_the_first_manual_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("make ")])
def test_make_knows_the_target(command):
    target = shlex.split(command)[1]
    makefiles = (ROOT / "Makefile", *(ROOT / "firmware").glob("*.mk"))
    assert any(re.search(rf"^{target}:", m.read_text(), re.MULTILINE) for m in makefiles)


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("pytest ")])
def test_there_are_such_tests(command):
    args = [sys.executable, "-m", *shlex.split(command), "--collect-only", "-q"]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def checkout(tmp_path, serial):
    """A folder with what the commands ask for, and its programs first on the way."""
    folder = tmp_path / "checkout"
    (folder / "build").mkdir(parents=True)
    for name in ("lib", "firmware", "tools", "package.json", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "build" / "sim").symlink_to(built.FOLDER / "sim")
    names = ("micropython.bin", "build/micropython.bin", "APP.bin", "app.bin", "ca.pem")
    for name in (*names, "lamp-1.3.0.bin"):
        (folder / name).write_bytes(images.app_image(version="1.4.0", seed=4))
    bin = tmp_path / "bin"
    bin.mkdir()
    python, port = shlex.quote(sys.executable), serial.port
    programs = {
        "mpremote": f'exec {python} -m mpremote connect {port} "$@"\n',
        "https-ota": (
            f'case $1 in push|status) exec {python} -m https_ota_tools "$@" --port {port};; esac\n'
            f'exec {python} -m https_ota_tools "$@"\n'
        ),
    }
    for name, text in programs.items():
        (bin / name).write_text("#!/bin/sh\n" + text)
        (bin / name).chmod(0o755)
    words = ("keygen", "sign-p256", "-o", folder / "key.pem")
    assert cli.main([str(w) for w in words]) == 0
    return folder, {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}


@pytest.mark.timeout(600)
def test_all_commands_in_their_order(checkout, serial):
    """What one makes, the next one takes."""
    folder, environment = checkout
    for command in HERE:
        if command.startswith("https-ota verify new.bin"):
            for name in ("new.bin", "old.bin"):
                (folder / name).write_bytes((folder / "signed.bin").read_bytes())
        if command.startswith("https-ota verify FILE"):
            words = ["encrypt", "signed.bin", "--key", "device.pub.pem", "-o", "FILE"]
            assert (
                cli.main([str(folder / w) if "." in w or w == "FILE" else w for w in words]) == 0
            )
        if command == "https-ota inspect FILE":
            (folder / "FILE").write_bytes((folder / "APP.bin").read_bytes())
        done = subprocess.run(
            ["sh", "-c", command.replace("mpremote connect PORT ", "mpremote ")],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert (serial.folder / "lib/https_ota/ota.py").exists()
