"""The proxy that HTTPS_PROXY names: used by `probe` and `ca`, unless NO_PROXY says otherwise."""

import base64

import pytest
from connectproxy import ConnectProxy

from https_ota_tools import cli

NAMES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def command(capsys, tmp_path, root, nginx):
    (tmp_path / "root.pem").write_bytes(root.pem)
    lines = {
        "probe": ["probe", nginx.url("app.bin"), "--ca", str(tmp_path / "root.pem")],
        "ca": [
            *("ca", nginx.url("app.bin"), "--from", str(tmp_path / "root.pem")),
            *("-o", str(tmp_path / "ca.pem")),
        ],
    }

    def command(name):
        code = cli.main(lines[name])
        return code, *capsys.readouterr()

    return command


@pytest.mark.parametrize("name", ["probe", "ca"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_used(command, environment, nginx, name, variable):
    with ConnectProxy() as proxy:
        environment.setenv(variable, f"http://{proxy.address}")
        code, out, err = command(name)
        assert (code, err) == (0, "")
        assert proxy.asked[0].startswith(f"CONNECT localhost:{nginx.port} HTTP/1.1\r\n")
        if name == "probe":
            assert f"through the proxy {proxy.address}" in out


@pytest.mark.parametrize("hosts", ["localhost", "example.com,localhost", "*"])
def test_not_used_for_hosts_that_are_named(command, environment, hosts):
    with ConnectProxy() as proxy:
        environment.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        environment.setenv("NO_PROXY", hosts)
        assert command("probe")[0] == 0
        assert not proxy.asked


def test_name_and_password(command, environment):
    with ConnectProxy() as proxy:
        environment.setenv("HTTPS_PROXY", f"http://me:p%40ss@{proxy.address}/")
        assert command("probe")[0] == 0
        code = base64.b64encode(b"me:p@ss").decode()
        assert f"Proxy-Authorization: Basic {code}\r\n" in proxy.asked[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it answers 407 Proxy Auth"),
        (b"HTTP/1.0 503\r\n\r\n", "it answers 503"),
        (b"SSH-2.0-x\n\n", "it answers no HTTP"),
        (b"HTTP/1.1 200 OK\r\nVia", "it ended the connection, or is no proxy"),
    ],
)
def test_refused(command, environment, answer, words):
    with ConnectProxy(answer) as proxy:
        environment.setenv("HTTPS_PROXY", f"http://me:secret@{proxy.address}")
        code, _, err = command("probe")
        assert code == 2
        assert f"no way through the proxy {proxy.address} (HTTPS_PROXY): {words}" in err
        assert "NO_PROXY names hosts" in err
        assert "secret" not in err


def test_not_there(command, environment):
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    code, _, err = command("ca")
    assert code == 2
    assert "no way through the proxy 127.0.0.1:1 (HTTPS_PROXY): Connection refused" in err


@pytest.mark.parametrize("url", ["socks5://h:1", "https://me:secret@h:1", "http://", "http://h:x"])
def test_of_another_kind(command, environment, url):
    environment.setenv("HTTPS_PROXY", url)
    code, _, err = command("probe")
    assert code == 2
    assert "expected http://host:port" in err
    assert "secret" not in err
