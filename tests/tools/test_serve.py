"""`https-ota serve`: files over HTTPS for boards, by a CA of one's own."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys

import pytest
import servers

from https_ota_tools import authority, cli, serve
from https_ota_tools.errors import ToolError


@pytest.fixture
def ca():
    """An authority."""
    return authority.make()


@pytest.fixture
def answered():
    """The requests that were answered."""
    return []


@pytest.fixture
def server(www, ca, answered):
    """A running server for www, known as localhost and 127.0.0.1."""
    identity = ca.issue(["localhost", "127.0.0.1"])
    with serve.Server(www, identity, on_request=answered.append) as server:
        yield server


@pytest.fixture
def get(server, ca):
    """Returns a function for one request; all of them go over one connection."""
    context = ssl.create_default_context(cadata=ca.pem.decode())
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)

    def get(path="/app.bin", method="GET", **headers):
        connection.request(
            method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    yield get
    connection.close()


def test_a_file_and_its_parts_over_one_connection(get, www, answered):
    body = (www / "app.bin").read_bytes()
    size = len(body)
    status, headers, got = get()
    assert (status, got, headers["Content-Length"]) == (200, body, str(size))
    assert headers["Accept-Ranges"] == "bytes"
    for text, part in (
        ("bytes=0-0", (0, 1)),
        ("bytes=100-299", (100, 300)),
        ("bytes=69000-", (69000, size)),
        ("bytes=-100", (size - 100, size)),
        ("bytes=69000-999999", (69000, size)),
    ):
        status, headers, got = get(Range=text)
        assert (status, got) == (206, body[slice(*part)])
        assert headers["Content-Range"] == f"bytes {part[0]}-{part[1] - 1}/{size}"
    assert answered[1].sent == 1
    assert answered[2].range == "bytes=100-299"


@pytest.mark.parametrize(
    "text", ["bytes=5-4", "bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b"]
)
def test_a_range_that_is_none_is_ignored(get, www, text):
    assert get(Range=text)[0::2] == (200, (www / "app.bin").read_bytes())


def test_a_range_beyond_the_end_is_refused(get, www):
    size = (www / "app.bin").stat().st_size
    for text in (f"bytes={size}-", "bytes=-0"):
        status, headers, _ = get(Range=text)
        assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")


def test_the_tag_is_strong_and_follows_the_content(get, www):
    first = get()[1]["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', first)
    # The same content with another date is the same file.
    os.utime(www / "app.bin", (1, 1))
    assert get()[1]["ETag"] == first
    content = bytearray((www / "app.bin").read_bytes())
    content[5000] ^= 1
    (www / "app.bin").write_bytes(content)
    assert get()[1]["ETag"] != first


def test_what_is_known_does_not_come_again(get):
    tag = get()[1]["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        status, headers, body = get(If_None_Match=known)
        assert (status, headers["ETag"], body) == (304, tag, b"")
    assert get(If_None_Match='"other"')[0] == 200


def test_a_part_of_another_file_does_not_come(get):
    tag = get()[1]["ETag"]
    assert get(Range="bytes=5-9", If_Range=tag)[0] == 206
    assert get(Range="bytes=5-9", If_Range='"other"')[0] == 200


def test_head_has_no_body(get):
    status, headers, body = get(method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "70000", b"")
    # The connection is still in step.
    assert get()[0] == 200


def test_nothing_outside_of_the_folder_is_served(get, www):
    (www.parent / "secret").write_text("secret")
    (www / "link").symlink_to(www.parent / "secret")
    (www / "folder").mkdir()
    for path in ("/../secret", "/%2e%2e/secret", "/link", "/folder", "/", "/none.bin", "/a%00b"):
        status, _, body = get(path)
        assert (status, body) == (404, b"")


def test_a_query_is_no_part_of_the_name(get):
    assert get("/app.bin?board=7")[0] == 200


def test_a_client_that_stalls_does_not_stop_the_others(get, server):
    with socket.create_connection((servers.HOST, server.port)):
        assert get()[0] == 200


def test_only_its_own_ca_vouches_for_it(server, root):
    context = ssl.create_default_context(cadata=root.pem.decode())
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/app.bin")
    connection.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_boards_update_from_it(any_board, server, ca, answered, host):
    any_board.update(f"https://{host}:{server.port}/app.bin", cadata=ca.pem.decode())
    assert any_board.running().version == "2.0.0"
    assert {a.status for a in answered} == ({206} if "4k" in str(any_board.interpreter) else {200})


def test_a_kept_ca_stays_the_same(tmp_path):
    first = authority.keep(tmp_path / "state")
    again = authority.keep(tmp_path / "state")
    assert first.pem == again.pem == (tmp_path / "state" / "ca.pem").read_bytes()
    assert (tmp_path / "state" / "ca-key.pem").stat().st_mode & 0o077 == 0
    (tmp_path / "state" / "ca.pem").write_bytes(authority.make().pem)
    with pytest.raises(ToolError, match="do not belong together"):
        authority.keep(tmp_path / "state")


def start(*args):
    """Start the command; return it and the lines that it prints first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "https_ota_tools", "serve", *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = []
    while not lines or "Ctrl-C ends it" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "the command ended"
    return process, lines


def stop(process):
    process.send_signal(signal.SIGINT)
    with process.stdout:
        rest = process.stdout.read()
    assert process.wait(20) == 0
    return rest


def test_ctrl_c_is_how_it_ends(www):
    """Once it serves, that is no failure, for systemd, for example; before, it is one as anywhere else."""
    process = subprocess.Popen(
        [sys.executable, "-m", "https_ota_tools", "serve", str(www), "--listen", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "Ctrl-C ends it" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def fetch(port, ca_pem):
    context = ssl.create_default_context(cadata=ca_pem)
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    connection.request("GET", "/app.bin", headers={"Range": "bytes=0-9"})
    body = connection.getresponse().read()
    connection.close()
    return body


def test_the_command_says_where_and_logs_each_request(www, tmp_path):
    process, lines = start(www, "--state", tmp_path / "state", "--listen", 0)
    port = int(re.search(r"on port (\d+)", lines[-1])[1])
    assert lines[0] == f"the CA for the boards' cadata: {tmp_path / 'state' / 'ca.pem'}\n"
    assert lines[1].endswith(f":{port}/app.bin\n")
    fetch(port, (tmp_path / "state" / "ca.pem").read_text())
    assert re.search(r"127\.0\.0\.1 GET /app\.bin bytes=0-9 206 10 -\n", stop(process))


def test_the_command_takes_a_certificate(www, tmp_path, root):
    files = root.server().write(tmp_path, "own")
    process, lines = start(www, "--cert", files.cert, "--key", files.key, "--listen", 0)
    port = int(re.search(r"on port (\d+)", lines[-1])[1])
    assert fetch(port, root.pem.decode()) == (www / "app.bin").read_bytes()[:10]
    stop(process)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["none"], "is no folder"),
        (["www", "--cert", "a.pem"], "belong together"),
        (["www", "--cert", "a.pem", "--key", "b.pem"], "can't be used"),
        (["www", "--cert", "a.pem", "--key", "b.pem", "--state", "s"], "made here"),
    ],
)
def test_what_can_not_be_served(www, monkeypatch, capsys, args, says):
    monkeypatch.chdir(www.parent)
    assert cli.main(["serve", *args]) == 2
    assert says in capsys.readouterr().err


def test_a_port_that_is_taken_is_an_error(www, server, ca):
    with pytest.raises(ToolError, match="cannot listen on port"):
        serve.Server(www, ca.issue(["localhost"]), port=server.port)
