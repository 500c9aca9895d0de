"""How every command ends when a file is odd, missing or can't be written: a status, one line, no traceback."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from typing import NamedTuple

import images
import pytest
from forking import Forking

from https_ota_tools import cli

ERROR = re.compile(r"https-ota: error: .+\n")


class Line(NamedTuple):
    """A command line that ends well, the words that name files it reads, and one it writes."""

    words: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    output: str = ""


LINES = {
    "mkflash": Line(
        ("mkflash", "app.bin", "-o", "OUT", "--table", "table.csv", "--bootloader", "boot.bin"),
        ("app.bin", "table.csv", "boot.bin"),
        "OUT",
    ),
    "inspect": Line(("inspect", "app.bin"), ("app.bin",)),
    "slots": Line(("slots", "flash.bin"), ("flash.bin",)),
    "keygen": Line(("keygen", "sign-p256", "-o", "OUT"), (), "OUT"),
    "sign": Line(
        ("sign", "app.bin", "--key", "p256.pem", "-o", "OUT"), ("app.bin", "p256.pem"), "OUT"
    ),
    "encrypt": Line(
        ("encrypt", "app.bin", "--key", "p256.pub.pem", "-o", "OUT"),
        ("app.bin", "p256.pub.pem"),
        "OUT",
    ),
    "pack": Line(("pack", "app.bin", "-o", "OUT"), ("app.bin",), "OUT"),
    "decrypt": Line(
        ("decrypt", "enc.bin", "--key", "p256.pem", "-o", "OUT"), ("enc.bin", "p256.pem"), "OUT"
    ),
    "verify": Line(
        ("verify", "enc.bin", "--trusted", "p256.pub.pem", "--decrypt-key", "p256.pem"),
        ("enc.bin", "p256.pub.pem", "p256.pem"),
    ),
    "manifest": Line(
        ("manifest", "--release", "3", "--file", "signed.bin", "--sign", "p256.pem", "-o", "OUT"),
        ("signed.bin", "p256.pem"),
        "OUT",
    ),
    "manifest update": Line(
        ("manifest", "--update", "m.json", "--rollout", "50", "--sign", "p256.pem", "-o", "OUT"),
        ("m.json", "p256.pem"),
        "OUT",
    ),
    "manifest check": Line(
        ("manifest", "--check", "m.json", "--trusted", "p256.pub.pem"), ("m.json", "p256.pub.pem")
    ),
    "probe": Line(("probe", "URL", "--ca", "ca.pem"), ("ca.pem",)),
    "ca": Line(("ca", "URL", "-o", "OUT", "--from", "ca.pem"), ("ca.pem",), "OUT"),
    # Without a board these fail for another reason: they are to get that far.
    "push": Line(
        ("push", "app.bin", "--port", "PORT", "--self-test", "test.py"), ("app.bin", "test.py")
    ),
    "status": Line(("status", "--port", "PORT"), ("PORT",)),
    "serve": Line(("serve", "www", "--listen", "99999"), ("www",)),
}
BOARDLESS = ("push", "status", "serve")

ODD = (
    *("missing", "folder", "empty", "noise", "zeros", "text", "utf-16", "latin-1", "huge"),
    *("/dev/zero", "/dev/null", "dangling", "loop", "x" * 300, "signed ü.bin", "no/such/folder"),
    *("text/below a file", "pem.pem", "ws://board", "\udcff"),
)
UNWRITABLE = (
    "no/such/folder/f",
    "folder",
    "/dev/full",
    "text/below a file",
    "loop",
    "x" * 300,
    "",
)


def test_every_command_is_here():
    assert {line.words[0] for line in LINES.values()} == {c.NAME for c in cli.COMMANDS}


@pytest.fixture(scope="module")
def forking():
    with Forking() as forking:
        yield forking


@pytest.fixture(scope="module")
def template(tmp_path_factory, keys, root):
    folder = tmp_path_factory.mktemp("template")
    app = images.app_image(version="1.0.0")
    (folder / "app.bin").write_bytes(app)
    (folder / "signed ü.bin").write_bytes(app)
    (folder / "boot.bin").write_bytes(images.bootloader_image())
    shutil.copy("firmware/partitions-4MiB-ota.csv", folder / "table.csv")
    shutil.copy(keys.private("p256"), folder / "p256.pem")
    shutil.copy(keys.public("p256"), folder / "p256.pub.pem")
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "test.py").write_text("print('ok')\n")
    (folder / "www").mkdir()
    lines = (
        ("mkflash", "app.bin", "-o", "flash.bin"),
        ("sign", "app.bin", "--key", "p256.pem", "-o", "signed.bin"),
        ("encrypt", "signed.bin", "--key", "p256.pub.pem", "-o", "enc.bin"),
        (
            "manifest",
            "--release",
            "2",
            "--file",
            "signed.bin",
            "--sign",
            "p256.pem",
            "-o",
            "m.json",
        ),
    )
    with contextlib.chdir(folder):
        assert [cli.main(words) for words in lines] == [0] * len(lines)
    (folder / "folder").mkdir()
    (folder / "empty").touch()
    (folder / "noise").write_bytes(bytes(i * 89 & 0xFF for i in range(5000)))
    (folder / "zeros").write_bytes(bytes(70_000))
    (folder / "text").write_text("hello\nworld\n")
    (folder / "utf-16").write_bytes(b"\xff\xfe" + "hello\r\n".encode("utf-16-le"))
    (folder / "latin-1").write_bytes("# für\nü: 1\n".encode("latin-1"))
    (folder / "pem.pem").write_text(
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    )
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    with open(folder / "huge", "wb") as f:
        f.truncate(3 << 30)
    return folder


@pytest.fixture
def folder(template, tmp_path, monkeypatch):
    """Links to what the template has, so that what is new in it is seen."""
    here = tmp_path / "here"
    here.mkdir()
    for path in template.iterdir():
        (here / path.name).symlink_to(path)
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def run(forking, folder, nginx):
    def run(words, **options):
        given = {"URL": nginx.url("app.bin"), "PORT": "no-such-port"}
        return forking.run(folder, *(given.get(w, w) for w in words), **options)

    return run


def check(done, statuses):
    assert "Traceback" not in done.err
    assert "Exception" not in done.err
    assert done.status in statuses, done
    if done.status == 2 and "usage:" not in done.err:
        assert ERROR.fullmatch(done.err), done.err


@pytest.mark.parametrize("name", LINES)
def test_as_it_is_meant(run, folder, name):
    done = run(LINES[name].words)
    check(done, {2} if name in BOARDLESS else {0})
    if LINES[name].output:
        assert (folder / "OUT").stat().st_size > 0


@pytest.mark.parametrize("name", [n for n in LINES if LINES[n].inputs])
def test_odd_inputs(run, folder, name):
    line = LINES[name]
    for what in line.inputs:
        for odd in ODD:
            before = sorted(os.listdir(folder))
            done = run([odd if w == what else w for w in line.words])
            # Some is fit for some use: an empty script, an own table without a line of it.
            check(done, {0, 1, 2})
            if done.status:
                assert sorted(os.listdir(folder)) == before, (what, odd)
            else:
                (folder / "OUT").unlink(missing_ok=True)
                (folder / "OUT.sig").unlink(missing_ok=True)


@pytest.mark.parametrize("name", [n for n in LINES if LINES[n].output])
def test_outputs_that_cannot_be_written(run, folder, name):
    line = LINES[name]
    for where in UNWRITABLE:
        before = sorted(os.listdir(folder))
        done = run([where if w == line.output else w for w in line.words])
        check(done, {2})
        assert sorted(os.listdir(folder)) == before, where


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("stdout", ["pipe", "/dev/full", "closed"])
def test_standard_output_that_cannot_be_written(run, name, stdout):
    done = run(LINES[name].words, stdout=stdout)
    if stdout == "closed" and name not in BOARDLESS:
        check(done, {0})  # nobody wanted to see it
    else:
        check(done, {2})


@pytest.mark.parametrize("stdout", ["pipe", "/dev/full"])
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["inspect", "--help"]])
def test_help_that_cannot_be_written(run, stdout, words):
    check(run(words, stdout=stdout), {2})


def test_version(run):
    done = run(["--version"])
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"https-ota \d+\.\d+\.\d+\n", done.out)


@pytest.mark.parametrize("port", ["99999", "-1", "x", "65536"])
def test_ports_that_there_are_not(run, port):
    check(run(["serve", "www", "--listen", port]), {2})


def test_names_that_the_terminal_has_not_the_letters_for(folder, monkeypatch):
    command = [
        sys.executable,
        "-m",
        "https_ota_tools",
        "sign",
        "signed ü.bin",
        "--key",
        "p256.pem",
    ]
    done = subprocess.run(
        [*command, "-o", "ü.bin"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xfc.bin: 1 signature" in done.stdout


@pytest.mark.parametrize("name", ["probe", "inspect", "import"])
def test_ctrl_c(name, folder, tmp_path):
    """Wherever it is: waiting for a server or for a pipe, or still loading its modules."""
    os.mkfifo(folder / "pipe")
    with socket.create_server(("localhost", 0)) as silent, contextlib.ExitStack() as stack:
        silent.settimeout(60)
        words = {
            "probe": ["probe", f"https://localhost:{silent.getsockname()[1]}/", "--insecure"],
            "inspect": ["inspect", "pipe"],
            "import": ["inspect", "pipe"],
        }[name]
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "https_ota_tools", *words]
            if name == "import"
            else [sys.executable, "-m", "https_ota_tools", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if name == "import":
            # As soon as it says that it loads the first of its own.
            for line in process.stderr:
                if "argparse" in line:
                    break
        elif name == "probe":
            connection, _ = silent.accept()
            stack.callback(connection.close)
        else:
            # Returns when it is being read.
            stack.callback(os.close, os.open(folder / "pipe", os.O_WRONLY))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert lines == ["https-ota: interrupted"]
