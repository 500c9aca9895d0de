"""The parts that tests share do what the tests rely on, as CPython's own TLS and HTTP clients see it."""

import gc
import http.client
import socket
import ssl
import time

import certs
import pytest
import servers
from proxy import Proxy


def trusting(root, client=None, tmp_path=None):
    context = ssl.create_default_context(cadata=root.pem.decode())
    if client:
        files = client.write(tmp_path, "client")
        context.load_cert_chain(files.cert, files.key)
    return context


def get(server, path, root=None, *, context=None, **headers):
    """Return status, headers and body of one request."""
    if server.identity:
        context = context or trusting(root)
        connection = http.client.HTTPSConnection(
            "localhost", server.port, timeout=10, context=context
        )
    else:
        connection = http.client.HTTPConnection("localhost", server.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.fixture
def connect(root):
    """Returns a function that makes a connection to a server, which ends with the test."""
    opened = []

    def connect(server):
        raw = socket.create_connection((servers.HOST, server.port), 10)
        opened.append(raw)
        if server.identity:
            opened[-1] = trusting(root).wrap_socket(
                raw, server_hostname="localhost", suppress_ragged_eofs=False
            )
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def test_nginx_serves_ranges_and_logs_them(nginx, www, root):
    body = (www / "app.bin").read_bytes()
    status, headers, got = get(nginx, "/app.bin", root, Range="bytes=100-299")
    assert (status, got) == (206, body[100:300])
    assert headers["Content-Range"] == f"bytes 100-299/{len(body)}"
    assert get(nginx, "/none.bin", root)[0] == 404
    first, second = nginx.requests()
    assert (first.method, first.path, first.range) == ("GET", "/app.bin", "bytes=100-299")
    assert (first.status, first.sent, second.status) == (206, 200, 404)
    assert first.connection != second.connection


def test_nginx_comes_back_on_its_port(nginx, root):
    port = nginx.port
    nginx.stop()
    with pytest.raises(ConnectionRefusedError):
        get(nginx, "/app.bin", root)
    nginx.start()
    assert nginx.port == port
    assert get(nginx, "/app.bin", root)[0] == 200
    assert len(nginx.requests()) == 1


def test_nginx_without_an_identity_is_plain_http(www):
    with servers.Nginx(www) as server:
        assert server.url("/app.bin") == f"http://localhost:{server.port}/app.bin"
        assert get(server, "/app.bin")[2] == (www / "app.bin").read_bytes()


def test_nginx_locations_and_lines(www, root):
    locations = {"/chunked/": f"alias {www}/; {servers.CHUNKED}", "= /old": "return 302 /app.bin;"}
    with servers.Nginx(www, root.server(), locations=locations, lines=servers.NO_RANGES) as server:
        body = (www / "app.bin").read_bytes()
        status, headers, got = get(server, "/chunked/app.bin", root)
        assert (status, headers["Transfer-Encoding"], got) == (200, "chunked", body)
        assert headers["Content-Length"] is None
        status, headers, _ = get(server, "/old", root)
        assert (status, headers["Location"]) == (302, server.url("app.bin"))
        assert get(server, "/app.bin", root, Range="bytes=0-9")[::2] == (200, body)


def test_nginx_demands_a_client_certificate(www, root, tmp_path):
    with servers.Nginx(www, root.server(), client_ca=root.pem) as server:
        assert get(server, "/app.bin", root)[0] == 400
        context = trusting(root, root.client(), tmp_path)
        assert get(server, "/app.bin", context=context)[0] == 200
        stranger = certs.root(name="Stranger").client()
        context = trusting(root, stranger, tmp_path)
        assert get(server, "/app.bin", context=context)[0] == 400


def test_nginx_demands_a_password(www, root):
    with servers.Nginx(www, root.server(), basic_auth=("user", "pass word")) as server:
        assert get(server, "/app.bin", root)[0] == 401
        good = {"Authorization": "Basic dXNlcjpwYXNzIHdvcmQ="}
        assert get(server, "/app.bin", root, **good)[0] == 200


def test_openssl_knows_no_lengths_and_no_ranges(www, root):
    with servers.OpenSSLServer(www, root.server()) as server:
        status, headers, got = get(server, "/app.bin", root, Range="bytes=0-9")
    assert (status, got) == (200, (www / "app.bin").read_bytes())
    assert headers["Content-Length"] is None


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("server_class", [servers.Nginx, servers.OpenSSLServer])
def test_a_chain_is_sent_with_its_intermediate(www, server_class, kind):
    root = certs.root(kind)
    with server_class(www, root.intermediate(kind=kind).server(kind=kind)) as server:
        assert get(server, "/app.bin", root)[0] == 200


@pytest.mark.parametrize(
    ("names", "days", "code"),
    [
        ((), certs.EXPIRED, 10),
        ((), certs.NOT_YET, 9),
        (("other.example",), certs.NOW, 62),
    ],
    ids=["expired", "not yet valid", "other host"],
)
def test_bad_certificates_have_one_fault(www, root, names, days, code):
    with (
        servers.Nginx(www, root.server(*names, days=days)) as server,
        pytest.raises(ssl.SSLCertVerificationError) as refused,
    ):
        get(server, "/app.bin", root)
    assert refused.value.verify_code == code


def test_unknown_authority(nginx):
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        get(nginx, "/app.bin", certs.root(name="Other"))
    assert refused.value.verify_code == 20  # unable to get local issuer certificate


@pytest.fixture(params=["tls", "plain"])
def identity(request, root):
    """Of a server that talks TLS, and of one that doesn't."""
    return root.server() if request.param == "tls" else None


def test_script_sends_what_the_test_says(identity, connect):
    def two(peer):
        assert peer.request() == b"GET /1 HTTP/1.1\r\nA: b\r\n\r\n"
        peer.send(b"nonsense")
        assert peer.request() == b"GET /2 HTTP/1.1\r\n\r\n"
        peer.send(b"\0\xff")
        assert peer.request() == b""

    with servers.ScriptServer(identity, two) as server:
        client = connect(server)
        client.sendall(b"GET /1 HTTP/1.1\r\nA: b\r\n\r\nGET /2 HT")
        assert client.recv(100) == b"nonsense"
        client.sendall(b"TP/1.1\r\n\r\n")
        assert client.recv(100) == b"\0\xff"
        client.close()
    assert [r.split()[1] for r in server.requests] == [b"/1", b"/2"]
    assert not server.hangups


def test_script_for_each_connection(identity, connect):
    scripts = [lambda peer, n=n: peer.send(b"%d" % n) for n in range(3)]
    with servers.ScriptServer(identity, *scripts) as server:
        for n in range(3):
            client = connect(server)
            assert client.recv(9) == b"%d" % n
            assert client.recv(9) == b""


def test_script_closes_in_every_way(root, connect):
    ways = [servers.Peer.close, servers.Peer.drop, servers.Peer.reset]
    with servers.ScriptServer(root.server(), *ways) as server:
        # A close_notify.
        assert connect(server).recv(9) == b""
        # FIN alone.
        with pytest.raises(ssl.SSLEOFError):
            connect(server).recv(9)
        # CPython's TLS takes a reset for an EOF, so look below it.
        client = connect(server)
        with pytest.raises(ConnectionResetError):
            socket.socket.recv(client, 9)


def test_script_resets_a_plain_connection(connect):
    # Now and then it comes while one connects.
    with (
        servers.ScriptServer(None, servers.Peer.reset) as server,
        pytest.raises(ConnectionResetError),
    ):
        connect(server).recv(9)


def test_script_that_stalls_ends_with_the_server(identity, connect):
    with servers.ScriptServer(identity, servers.Peer.stall) as server:
        connect(server)
        start = time.monotonic()
    assert time.monotonic() - start < servers.DEADLINE_S / 2


def test_what_is_wrong_in_a_script_fails_the_test(connect):
    def wrong(peer):
        assert peer.request().startswith(b"POST")

    def talk():
        with servers.ScriptServer(None, wrong) as server:
            client = connect(server)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(9) == b""

    with pytest.raises(AssertionError, match=r"assert False|POST"):
        talk()


def test_one_connection_too_many_fails_the_test(connect):
    def talk():
        with servers.ScriptServer(None) as server:
            assert connect(server).recv(9) == b""

    with pytest.raises(AssertionError, match="connection 1, there are 0 scripts"):
        talk()


def test_clients_that_hang_up_are_noted(root, connect):
    with (
        servers.ScriptServer(root.server("other.example"), servers.Peer.request) as stranger,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        connect(stranger)
    assert len(stranger.hangups) == 1
    with servers.ScriptServer(None, servers.Peer.request) as server:
        client = connect(server)
        client.sendall(b"GET /")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(9) == b""
    (hangup,) = server.hangups
    assert "within a request" in str(hangup)


def test_redirects(identity, root):
    with servers.RedirectServer(identity, {"/old": "https://example.com/new"}, 307) as server:
        status, headers, body = get(server, "/old", root, Secret="x")
        assert (status, headers["Location"], body) == (307, "https://example.com/new", b"")
        assert get(server, "/else", root)[0] == 404
    assert b"Secret: x\r\n" in server.requests[0]


def test_tls_version_is_the_one_asked_for(root, connect):
    for version, name in (
        (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ):
        with servers.ScriptServer(root.server(), servers.Peer.stall, tls=version) as server:
            assert connect(server).version() == name


def _talks(peer):
    peer.request()
    peer.send(3 * b"\x17\x03\x03\0\x05hello")
    peer.stall()


@pytest.mark.parametrize("link", [{}, {"rtt_s": 0.2}, {"bytes_s": 100}, {"cut_at": 2}], ids=str)
@pytest.mark.parametrize("moment", ["connected", "through", "asked", "answered", "hung up"])
def test_a_proxy_leaves_nothing_behind(connect, link, moment):
    """Wherever it is when it ends: what it forgets comes up as an error once the garbage is collected."""
    for _ in range(3):
        with servers.ScriptServer(None, _talks, _talks) as server, Proxy(server, **link) as proxy:
            client = connect(proxy)
            if moment != "connected":
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if moment == "through":
                servers.wait_for(lambda: server.requests)
            if moment == "answered":
                assert client.recv(1) == b"\x17"
            if moment == "hung up":
                client.close()
            connect(proxy)
        gc.collect()
