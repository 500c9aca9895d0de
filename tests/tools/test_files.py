"""Files as they come from other machines: encodings of text, odd kinds of files, and outputs that fail half-way."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from images import app_image

from https_ota_tools import cli, files, keys, roots, sbv2
from https_ota_tools.errors import ToolError

SCRIPT = "# für den Prüfstand\nassert 1 + 1 == 2\n"
ENCODINGS = {
    "UTF-8": SCRIPT.encode(),
    "CRLF": SCRIPT.replace("\n", "\r\n").encode(),
    "CR": SCRIPT.replace("\n", "\r").encode(),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + SCRIPT.replace("\n", "\r\n").encode(),
    "UTF-16 LE": b"\xff\xfe" + SCRIPT.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16 BE": b"\xfe\xff" + SCRIPT.encode("utf-16-be"),
    "UTF-16 LE without a mark": SCRIPT.encode("utf-16-le"),
    "UTF-16 BE without a mark": SCRIPT.encode("utf-16-be"),
    "UTF-32": b"\xff\xfe\0\0" + SCRIPT.encode("utf-32-le"),
}


@pytest.mark.parametrize("coding", ENCODINGS)
def test_text_is_read_as_it_was_meant(tmp_path, coding):
    (tmp_path / "t").write_bytes(ENCODINGS[coding])
    assert files.read_text(tmp_path / "t") == SCRIPT


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SCRIPT.encode("latin-1"), "line 1 has the byte 0xfc (Latin-1, perhaps)"),
        (b"a = 1\n" + "b = 'ö'\n".encode("cp850"), "line 2 has the byte 0x94"),
        (b"\xff\xfea", "is not text: expected a script"),
        (b"\xfe\xff\xd8\0a\0", "is not text: expected a script"),
        (b"a\0b\n", "is not text: expected a script"),
        (app_image(), "is not text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, words):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(ToolError, match=re.escape(words)):
        files.read_text(tmp_path / "t", "a script")


WINDOWS = {
    "UTF-8 with a mark": lambda pem: b"\xef\xbb\xbf" + pem,
    "UTF-16 LE": lambda pem: b"\xff\xfe" + pem.decode().encode("utf-16-le"),
    "UTF-16 BE": lambda pem: b"\xfe\xff" + pem.decode().encode("utf-16-be"),
    "UTF-16 without a mark": lambda pem: pem.decode().encode("utf-16-le"),
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "CR": lambda pem: pem.replace(b"\n", b"\r"),
    "Latin-1 comment": lambda pem: b"# Schl\xfcssel\n" + pem,
}


@pytest.mark.parametrize("how", WINDOWS)
def test_keys_and_certificates_from_windows(tmp_path, how, root, device_keys):
    change = WINDOWS[how]
    (tmp_path / "k").write_bytes(change(device_keys.private("p256").read_bytes()))
    (tmp_path / "k.pub").write_bytes(change(device_keys.public("p256").read_bytes()))
    key = keys.load_private(tmp_path / "k")
    assert sbv2.key_digest(key.public_key()) == sbv2.key_digest(
        keys.load_public(tmp_path / "k.pub")
    )
    (tmp_path / "ca.pem").write_bytes(change(root.pem))
    assert len(roots.load(tmp_path / "ca.pem")) == 1


@pytest.mark.parametrize("how", WINDOWS)
def test_a_partition_table_from_windows(tmp_path, capsys, how):
    source = Path("firmware/partitions-4MiB-ota.csv").read_bytes()
    (tmp_path / "t.csv").write_bytes(WINDOWS[how](source))
    (tmp_path / "app.bin").write_bytes(app_image())
    args = ["mkflash", tmp_path / "app.bin", "-o", tmp_path / "f", "--table", tmp_path / "t.csv"]
    status = cli.main([str(a) for a in args])
    err = capsys.readouterr().err
    if how == "Latin-1 comment":
        assert status == 2
        assert "save it as UTF-8" in err
        assert not (tmp_path / "f").exists()
    else:
        assert (status, err) == (0, "")


@pytest.fixture
def device_keys(keys):
    return keys


# Outputs


def test_what_was_there_stays_when_the_disk_is_full(tmp_path):
    """A limit on the size of files stands for a full disk."""
    (tmp_path / "app.bin").write_bytes(app_image())
    (tmp_path / "f").write_bytes(b"the one before")
    done = limited(tmp_path, "-f 1", "mkflash", "app.bin", "-o", "f")
    assert done.returncode == 2
    assert done.stderr == "https-ota: error: cannot write f: File too large\n"
    assert (tmp_path / "f").read_bytes() == b"the one before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["app.bin", "f"]


def test_a_file_that_is_replaced_keeps_its_permissions_and_links(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    files.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_a_link_that_leads_nowhere_yet_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("real")
    files.write(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "f", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_pipes_are_written_as_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write(tmp_path / "pipe", b"through")
    assert os.read(reader, 10) == b"through"
    os.close(reader)


def test_an_interrupt_leaves_no_half_file(tmp_path, monkeypatch):
    def interrupted(fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "f", b"new")
    assert not any(tmp_path.iterdir())


# Inputs


def test_3_gb_are_refused_before_they_are_read(tmp_path):
    with open(tmp_path / "huge.bin", "wb") as f:
        f.truncate(3 << 30)
    for command in ("inspect", "slots", "verify"):
        done = limited(tmp_path, f"-v {1 << 20}", command, "huge.bin")
        assert done.returncode == 2
        assert done.stderr == (
            "https-ota: error: huge.bin has 3221225472 bytes: expected 269484032 at most\n"
        )


def test_too_little_memory_is_told(tmp_path):
    with open(tmp_path / "large.bin", "wb") as f:
        f.truncate(200 << 20)
    done = limited(tmp_path, f"-v {240 << 10}", "inspect", "large.bin")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "https-ota: error: there is not enough memory on this machine for files of this size\n"
    )


def test_a_device_without_end(tmp_path):
    with pytest.raises(ToolError, match="has no end: expected 1000 bytes at most"):
        files.read(Path("/dev/zero"), 1000)


def test_the_output_of_another_program(tmp_path):
    """As `https-ota inspect <(...)` gives it."""
    read, write = os.pipe()
    os.write(write, b"some")
    os.close(write)
    assert files.read(Path(f"/dev/fd/{read}")) == b"some"
    os.close(read)


def limited(folder, limit, *args):
    """Run a command under a limit of the shell."""
    command = f'ulimit {limit}; exec "$@"'
    arguments = ["sh", "-c", command, "-", sys.executable, "-m", "https_ota_tools", *args]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_new_keys_are_written_all_or_none(tmp_path, monkeypatch, error):
    monkeypatch.chdir(tmp_path)
    opened = []

    def failing(*args, **options):
        if opened:
            raise error
        opened.append(args)
        return open(*args, **options)

    monkeypatch.setattr(keys, "open", failing, raising=False)
    new = [keys.NewFile(Path(name), b"secret", secret=True) for name in ("a", "b")]
    with pytest.raises((KeyboardInterrupt, ToolError)):
        keys.write_new(new)
    assert not any(tmp_path.iterdir())
