"""`https-ota probe`: what it measures, compared with what boards do, and what it refuses."""

import hashlib
import socket
import subprocess
import threading

import certs
import images
import proxy
import pytest
import servers
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from https_ota_tools import cli, probe, roots, tls, web
from https_ota_tools.errors import ToolError

SUITE_NUMBERS = {
    cipher["id"] & 0xFFFF: cipher["name"] for cipher in tls.context(None).get_ciphers()
}


def trust(root):
    return web.Trust((root.cert,), "ca.pem")


def look(server, root, path="app.bin", **secrets):
    return probe.probe(server.url(path), trust(root), web.Secrets(**secrets))


def refused(url, root, **secrets):
    with pytest.raises(ToolError) as e:
        probe.probe(url, trust(root), web.Secrets(**secrets))
    return str(e.value)


@pytest.fixture
def command(capsys, tmp_path, root):
    """Returns a function that runs the command, trusting `root`, and returns exit code, output and errors."""
    (tmp_path / "root.pem").write_bytes(root.pem)

    def command(*args):
        code = cli.main(["probe", "--ca", str(tmp_path / "root.pem"), *args])
        return code, *capsys.readouterr()

    return command


def replies(*heads_and_bodies):
    """Scripts that answer each connection's one request so, in one TLS record; the last for all that come."""

    def script(answer):
        def serve(peer):
            if peer.request():
                peer.send(answer)

        return serve

    scripts = [script(answer) for answer in heads_and_bodies]
    return scripts + scripts[-1:] * 10


# What is measured


def test_offers_what_a_board_offers(any_board):
    """The same suites in the same order, or a server might pick another certificate."""
    hello = bytearray()

    def listen():
        connection, _ = listener.accept()
        with connection:
            hello.extend(connection.recv(4096))

    with socket.create_server((servers.HOST, 0)) as listener:
        thread = threading.Thread(target=listen)
        thread.start()
        any_board.refuse(f"https://localhost:{listener.getsockname()[1]}/", timeout_s=0.2)
        thread.join()
    # A record's header of 5 bytes, a message's of 4, version, random; then session id and suites.
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    numbers = [int.from_bytes(hello[i : i + 2], "big") for i in range(at + 2, end, 2)]
    # 0x00FF says that renegotiation is not wanted.
    assert [SUITE_NUMBERS[n] for n in numbers if n != 0xFF] == list(tls.SUITES)


@pytest.mark.parametrize(("kind", "key"), [("rsa", "RSA"), ("ec", "ECDSA")])
def test_handshake(www, kind, key):
    root = certs.root(kind)
    identity = root.intermediate(kind=kind).server(kind=kind)
    with servers.Nginx(www, identity) as server:
        report = look(server, root)
    (hop,) = report.hops
    assert hop.handshake.version == "TLSv1.2"
    assert hop.handshake.suite == f"ECDHE-{key}-AES256-GCM-SHA384"
    assert hop.chain == (identity.cert, *identity.chain)
    assert hop.root == root.cert
    # The message's header, the list's length, and a length before each certificate.
    size = 4 + 3 + sum(3 + len(der) for der in hop.handshake.chain)
    assert hop.handshake.certificate_bytes == size
    assert hop.handshake.largest == ("Certificate", size)
    assert hop.handshake.buffer == size
    assert [kind for kind, _ in hop.handshake.messages] == [
        *("ServerHello", "Certificate", "ServerKeyExchange", "ServerHelloDone"),
        "NewSessionTicket",
    ]
    assert not hop.handshake.split


def test_replies(nginx, www, root):
    (www / "app.bin").write_bytes(images.app_image(size=100_000))
    report = look(nginx, root)
    assert (report.plain.status, report.plain.body, report.plain.record) == (200, 65536, 16384)
    assert not report.plain.complete
    assert [reply.asked for reply in report.ranged] == list(probe.SIZES)
    for reply in report.ranged:
        assert (reply.status, reply.body, reply.complete) == (206, reply.asked, True)
        # nginx puts head and body into one record.
        assert reply.record == min(reply.head + reply.asked, 16384)
    assert (report.ranges, report.keep_alive, report.etag) == (True, True, "strong")
    assert (report.last_modified, report.size) == (True, (www / "app.bin").stat().st_size)
    assert report.plain.version == "HTTP/1.1"
    # All ranges on one connection, the plain GET on another.
    requests = nginx.requests()
    assert len({r.connection for r in requests}) == 2
    assert requests[-1].range == ""


def test_smaller_records(www, root):
    with servers.Nginx(www, root.server(), lines="ssl_buffer_size 2k;") as server:
        report = look(server, root)
    assert report.plain.record == 2048
    assert report.plain_buffer == 2048


@pytest.mark.parametrize(("protocols", "tls13"), [("TLSv1.2", False), ("TLSv1.2 TLSv1.3", True)])
def test_tls_1_3_is_noticed(www, root, protocols, tls13):
    with servers.Nginx(www, root.server(), protocols=protocols) as server:
        report = look(server, root)
    assert report.tls13 == (tls13,)
    assert report.hops[0].handshake.version == "TLSv1.2"


def test_server_without_ranges(www, root):
    with servers.Nginx(www, root.server(), lines=servers.NO_RANGES) as server:
        report = look(server, root)
    assert (report.ranges, report.ranged, report.keep_alive) == (False, (), True)
    assert report.buffer == report.plain_buffer == 16384
    assert report.request_size(4096) is None
    assert report.request_size(16384) == 0


def test_chunks(www, root):
    with servers.Nginx(www, root.server(), lines=servers.CHUNKED) as server:
        report = look(server, root)
    assert (report.plain.body >= 65536 - 6, report.ranges, report.size) == (True, False, None)


def test_small_file_in_chunks(root):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    body = b"5;x=y\r\nfirst\r\n6\r\nsecond\r\n0\r\nA: b\r\n\r\n"
    with servers.ScriptServer(root.server(), *replies(head + body)) as server:
        report = look(server, root)
    assert (report.plain.complete, report.plain.head, report.plain.body) == (
        True,
        len(head),
        len(body),
    )
    assert report.plain.record == len(head + body)


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        (b"\r\n", b"Content-Length: 5"),
        (b"", b"Content-Length : 5"),
        (b"", b"Content-Length: 5, 5\r\nContent-Length: 5"),
        (b"", b"Content-Length:\r\n\t5 "),
        (b"", b"no header\r\n: x\r\nA B: c\r\n\xff: x\r\nContent-Length: 5"),
        (b"", b" of no line\r\nContent-Length: 5\r\nTransfer-Encoding: Identity "),
    ],
)
def test_odd_heads_that_a_device_reads(root, before, lines):
    answer = before + b"HTTP/1.1 200 OK\r\n" + lines + b'\r\nETag: "x"\r\n\r\nabcde'
    with servers.ScriptServer(root.server(), *replies(answer)) as server:
        report = look(server, root)
    assert (report.size, report.etag, report.plain.body) == (5, "strong", 5)


@pytest.mark.parametrize("said", [b"Bytes 0-0/1", b"bytes=0-0/1", b"bytes  0 - 0 / 1"])
def test_odd_ranges_that_a_device_reads(root, said):
    part = b"HTTP/1.1 206 P\r\nContent-Length: 1\r\nContent-Range: " + said + b"\r\n\r\nx"
    with servers.ScriptServer(root.server(), *replies(part)) as server:
        assert look(server, root).ranges


def test_many_headers(root):
    head = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 2000 + b"Content-Length: 0\r\n\r\n"
    with servers.ScriptServer(root.server(), *replies(head)) as server:
        report = look(server, root)
    assert (report.plain.head, report.size) == (len(head), 0)


def test_server_that_closes_after_each_reply(www, root):
    with servers.Nginx(www, root.server(), lines="keepalive_timeout 0;") as server:
        report = look(server, root)
        assert len({r.connection for r in server.requests()}) == len(probe.SIZES) + 2
    assert not report.keep_alive


def test_server_that_closes_without_a_word(www, root):
    """A kept connection may end at any time."""
    part = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/1\r\n\r\nx"
    )
    with servers.ScriptServer(root.server(), *replies(part)) as server:
        report = look(server, root)
    assert report.ranges
    assert not report.keep_alive


@pytest.mark.parametrize(("tag", "kind"), [('"x"', "strong"), ('W/"x"', "weak"), (None, "none")])
def test_etags(www, root, tag, kind):
    lines = "etag off;" + (f" add_header ETag '{tag}';" if tag else "")
    with servers.Nginx(www, root.server(), lines=lines) as server:
        assert look(server, root).etag == kind


def test_handshake_message_in_several_records(www, root):
    with servers.OpenSSLServer(www, chain_of(root, 1000), "-max_send_frag", "512") as server:
        (hop,) = look(server, root).hops
    assert hop.handshake.split
    assert (hop.handshake.record, hop.handshake.buffer) == (512, 1000)


# Compared with boards


def chain_of(root, size):
    """A server's identity whose Certificate message has exactly this size."""
    pad = size - 500
    # Signatures differ by a byte or two in length, so what came out last time is no more than a good guess.
    for _ in range(100):
        identity = root.server("localhost", "x" * pad + ".example")
        missing = size - (4 + 3 + 3 + len(identity.der))
        if missing == 0:
            return identity
        pad += missing
    raise AssertionError(f"{missing} bytes off")


@pytest.mark.parametrize("size", [4096, 4097])
def test_certificates_and_the_4k_buffer(www, root, any_board, size):
    with servers.Nginx(www, chain_of(root, size)) as server:
        report = look(server, root)
        assert report.way_buffer == report.buffer == size
        assert (report.request_size(4096) is None) == (size > 4096)
        if size > 4096 and any_board.interpreter.parent.name == "sim-tls4k":
            assert "TLS_BUFFER" in any_board.refuse(server.url("app.bin"))
        else:
            any_board.update(server.url("app.bin"))


def test_split_certificates_and_the_4k_buffer(www, root, any_board):
    """A message of the buffer's size in small records. (mbedTLS 3.6.6 takes a few bytes more, undocumented.)"""
    with servers.OpenSSLServer(www, chain_of(root, 4096), "-max_send_frag", "512") as server:
        assert look(server, root).buffer == 4096
        any_board.update(server.url("app.bin"), timeout_s=servers.SILENT_S)


@pytest.mark.parametrize("size", [4096, 4097])
def test_records_and_the_4k_buffer(root, any_board, size):
    """A whole answer of so many bytes in one record."""
    image = images.app_image(size=3200, version="2.0.0")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(image)}\r\nX-Filler: \r\n\r\n"
    filler = "x" * (size - len(head) - len(image))
    answer = head.replace("Filler: ", f"Filler: {filler}").encode() + image
    with servers.ScriptServer(root.server(), *replies(answer)) as server:
        report = look(server, root)
        assert report.plain.complete
        assert report.plain_buffer == size
        assert report.request_size(4096) == (None if size > 4096 else 0)
        if size > 4096 and any_board.interpreter.parent.name == "sim-tls4k":
            assert "TLS_BUFFER" in any_board.refuse(server.url("app.bin"), request_size=0)
        else:
            any_board.update(server.url("app.bin"), request_size=0)


def test_advice_works(nginx, www, root, any_board):
    size = look(nginx, root).request_size(4096)
    assert 3500 < size < 4096
    before = len(nginx.requests())
    any_board.update(nginx.url("app.bin"), request_size=size)
    requests = nginx.requests()[before:]
    assert len({r.connection for r in requests}) == 1
    assert len(requests) == -(-(www / "app.bin").stat().st_size // size)


# Redirects


def test_redirects(www, nginx, root):
    hops = {"/a/start": "../b?token=secret", "/b?token=secret": nginx.url("app.bin")}
    with servers.RedirectServer(root.server(), hops) as first:
        report = look(first, root, "a/start")
    assert [hop.reply.status for hop in report.hops] == [302, 302, 206]
    assert [hop.url.path for hop in report.hops] == ["/a/start", "/b", "/app.bin"]
    assert len(report.tls13) == 3
    assert report.plain.status == 200


@pytest.mark.parametrize(
    "location",
    ["/new folder/ä.bin", "HTTPS://LOCALHOST.:{port}/new%20folder/ä.bin#x", "\\new folder/ä.bin"],
)
def test_redirects_are_read_as_the_device_does(www, root, location):
    hops = {"/start": location, "/new%20folder/%C3%A4.bin": "/mirror/https://x/y"}
    need = 'if ($http_x_key != "k") { return 401; }'
    with servers.RedirectServer(root.server(), hops) as first:
        hops["/start"] = location.format(port=first.port)
        with servers.Nginx(www, root.server(), lines=need) as last:
            hops["/mirror/https://x/y"] = last.url("app.bin")
            report = look(first, root, "start", headers={"X-Key": "k"})
        assert all(b"X-Key" in r for r in first.requests)
    assert len(report.hops) == 4


def test_a_redirect_may_need_the_largest_buffer(www, nginx, root):
    """The Location of a presigned URL, or a chain longer than that of the server with the file."""
    location = nginx.url("app.bin?" + "x" * 1900)
    with servers.RedirectServer(root.server(), {"/": location}) as first:
        report = look(first, root, "/")
    assert report.way_buffer == report.hops[0].reply.record > 1900
    with servers.RedirectServer(chain_of(root, 4200), {"/": nginx.url("app.bin")}) as first:
        report = look(first, root, "/")
    assert (report.way_buffer, report.request_size(4096)) == (4200, None)


def test_secrets_stay_with_their_host(www, root):
    secret = ("Authorization: Basic dTpw", "X-Key: k")
    with servers.Nginx(www, root.server()) as other:
        away = {"/here": "/there", "/there": other.url("app.bin")}
        with servers.RedirectServer(root.server(), away) as first:
            report = look(first, root, "here", headers={"X-Key": "k"}, auth=("u", "p"))
            for request in first.requests:
                assert all(line in request.decode() for line in secret)
    assert report.plain.status == 200


def test_secrets_do_not_go_to_another_port(root):
    with servers.ScriptServer(root.server(), *replies(b"HTTP/1.1 204 No\r\n\r\n")) as other:
        with servers.RedirectServer(root.server(), {"/": other.url()}) as first:
            report = look(first, root, "/", headers={"X-Key": "k"}, auth=("u", "p"))
        assert not report.ok
        assert not any(b"X-Key" in r or b"Authorization" in r for r in other.requests)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://example.com/x?t=secret", "redirects from https to http://example.com, which"),
        ("/" + "x" * 2048, "redirects to a URL of 2049 bytes, the device takes 2048"),
        ("/start", "more than 5 redirects"),
        ("ftp://example.com/x", "expected https://host/path, got ftp://example.com/x"),
        ("https://a:b@example.com/", "name and password belong into --auth"),
        ("https://example.com:99999/?t=secret", "https://example.com:99999/: Port out of range"),
    ],
)
def test_redirects_that_are_refused(root, location, words):
    with servers.RedirectServer(root.server(), {"/start": location}) as server:
        message = refused(server.url("start"), root)
    assert words in message
    assert "secret" not in message


def test_redirect_without_a_location(root):
    with servers.ScriptServer(root.server(), *replies(b"HTTP/1.1 302 Found\r\n\r\n")) as server:
        assert "answers 302 without a Location" in refused(server.url(), root)


# What is refused


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (("other.example", "10.0.0.1"), certs.NOW, "it is for other.example, 10.0.0.1, not for "),
        ((), certs.EXPIRED, "'localhost' has expired on 20"),
        ((), certs.NOT_YET, "'localhost' is not valid before 20"),
    ],
)
def test_bad_certificates(www, root, names, days, words):
    with servers.Nginx(www, root.server(*names, days=days)) as server:
        message = refused(server.url("app.bin?token=secret"), root)
        assert not server.requests()
    assert message.startswith(f"the certificate of localhost is refused: {words}"), message


def test_unknown_root(nginx):
    message = refused(nginx.url("app.bin"), certs.root(name="Other"))
    assert message == (
        "the certificate of localhost is refused: none of the 1 certificates in ca.pem vouches for it; "
        "the server sends 'localhost', issued by 'Test Root ec'"
    )


def test_missing_intermediate(www, root):
    identity = root.intermediate("The Missing").server()
    with servers.Nginx(www, certs.Identity(identity.cert, identity.key)) as server:
        assert "issued by 'The Missing'" in refused(server.url(), root)


def test_insecure(www):
    """What can be measured, of a server that no one vouches for."""
    with servers.Nginx(www, certs.root().server("other.example")) as server:
        report = probe.probe(server.url("app.bin"), web.Trust((), "nothing", verify=False))
    assert report.plain.status == 200
    assert report.hops[0].root is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost/", "http://localhost/: http is neither encrypted nor verified"),
        ("localhost/app.bin", "expected https://host/path, got localhost/app.bin"),
        ("https:///app.bin", "expected https://host/path"),
        ("https://u:p@localhost/", "name and password belong into --auth"),
        ("https://localhost:x/?t=secret", "https://localhost:x/: Port could not be cast"),
        ("https://localhost/ü?t=secret", "a URL must be percent-encoded"),
        ("https://localhost/a b", "a URL must be percent-encoded"),
        ("https://" + "x" * 64 + "/", "is no name of a host: "),
        ("https://.localhost/", "'.localhost' is no name of a host: "),
        ("https://no-such-host.invalid/?t=secret", "no-such-host.invalid:443: "),
    ],
)
def test_urls_that_are_refused(root, url, words):
    message = refused(url, root)
    assert words in message
    assert "secret" not in message


def test_no_tls_there(www, root):
    with servers.Nginx(www) as server:
        url = server.url("app.bin").replace("http:", "https:")
        assert f"localhost:{server.port} does not speak TLS: " in refused(url, root)


def test_tls_1_3_alone(www, root):
    with servers.Nginx(www, root.server(), protocols="TLSv1.3") as server:
        assert "it does not speak TLS 1.2, the version" in refused(server.url(), root)


def test_no_common_suite(www, root):
    with servers.Nginx(
        www, root.server(), lines="ssl_ciphers ECDHE-ECDSA-CHACHA20-POLY1305;"
    ) as server:
        assert "none of the device's cipher suites" in refused(server.url(), root)


def test_nobody_listens(nginx, root):
    url = nginx.url("app.bin")
    nginx.stop()
    assert refused(url, root) == f"localhost:{nginx.port}: Connection refused"


def test_no_answer(root):
    with (
        servers.ScriptServer(root.server(), servers.Peer.stall) as server,
        pytest.raises(ToolError, match=r"did not answer in 0\.2 s"),
    ):
        probe.probe(server.url(), trust(root), timeout_s=0.2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection within its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection within its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "closed the connection within"),
        (b"SSH-2.0-OpenSSH\r\n", "expected an answer in HTTP/1.1, got 'SSH-2.0-OpenSSH'"),
        (b"HTTP/2 200\r\n\r\n", "expected an answer in HTTP/1.1, got 'HTTP/2 200'"),
        (b"\xff\r\n\r\n", "expected an answer in HTTP/1.1"),
        (b"HTTP/1.\xff 200\r\n\r\n", "expected an answer in HTTP/1.1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "expected an answer in HTTP/1.1, got 'HTTP/1.1 2000 OK'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "the size of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the size of a chunk"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 3000 + b"\r\n", "head of the answer is longer"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 33000, "a line of more than 16384 bytes"),
        (b"HTTP/1.1 206 Part\r\nContent-Length: 0\r\n\r\n", "give the device request_size=0"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", "expected one number, got '5, 6'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length : 6\r\n\r\n", "one number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "expected one number, got '-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length 5\r\n\r\n", "expected 'name: value' in the head"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "chunked or none"),
        (
            b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-0/*\r\nContent-Length: 1\r\n\r\nx",
            "give the device request_size=0",
        ),
    ],
)
def test_answers_that_are_refused(root, answer, words):
    with servers.ScriptServer(root.server(), *replies(answer)) as server:
        assert words in refused(server.url("?token=secret"), root)


def test_reset(root):
    with servers.ScriptServer(root.server(), servers.Peer.reset) as server:
        assert refused(server.url(), root) == f"localhost:{server.port}: Connection reset by peer"


# The command


def test_report(command, www, root):
    (www / "app.bin").write_bytes(images.app_image(size=100_000))
    with servers.Nginx(www, root.intermediate().server()) as server:
        location = server.url("app.bin?X-Amz-Signature=secret")
        with servers.RedirectServer(root.server(), {"/x": location}) as first:
            code, out, err = command(first.url("x?token=secret2"))
        # The redirecting server knows its paths with their queries.
        assert (code, err) == (1, "")
        assert "the server answers 404: expected 200" in out
        with servers.RedirectServer(root.server(), {"/x?token=secret2": location}) as first:
            code, out, err = command(first.url("x?token=secret2"))
    assert (code, err) == (0, "")
    assert "secret" not in out
    lines = out.splitlines()
    assert lines[0] == f"https://localhost:{first.port}/x?..."
    assert f"https://localhost:{server.port}/app.bin?..." in lines
    assert "  TLSv1.2, ECDHE-ECDSA-AES256-GCM-SHA384; TLS 1.3: no" in lines
    assert sum("  root: Test Root ec, ECDSA secp256r1, valid until" in line for line in lines) == 2
    assert "HTTP/1.1, ranges, ETag strong, Last-Modified, keeps the connection, 100000 bytes" in (
        lines
    )
    assert "  16384 for one plain GET (by the first 65536 bytes of the file)" in lines
    assert lines[-1] == "for a buffer of 4096 bytes: request_size=3712"


def openssl(*words, data=None):
    command = ["openssl", *map(str, words)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def openssl_pins(path):
    """SHA-256 of the certificate in a file and of its public key, as openssl encodes them."""
    whole = openssl("x509", "-in", path, "-outform", "DER")
    public = openssl("x509", "-in", path, "-noout", "-pubkey")
    public = openssl("pkey", "-pubin", "-outform", "DER", data=public)
    return tuple(hashlib.sha256(data).hexdigest() for data in (whole, public))


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_pins(command, www, root, tmp_path, kind):
    identity = root.intermediate().server(kind=kind)
    with servers.Nginx(www, identity) as server:
        _, out, _ = command(server.url("app.bin"))
    whole, public = openssl_pins(identity.write(tmp_path, "leaf").leaf)
    assert f"  pin of the certificate: {whole}\n" in out
    assert f"  pin of its public key:  {public}\n" in out


def test_pins_of_a_certificate_of_version_1(tmp_path):
    key, request, path = (tmp_path / name for name in ("key.pem", "csr.pem", "cert.pem"))
    openssl("genpkey", "-algorithm", "ED25519", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", "/CN=old", "-out", request)
    openssl("x509", "-req", "-in", request, "-key", key, "-out", path)
    (certificate,) = roots.load(path)
    assert certificate.version is x509.Version.v1
    assert roots.pins(certificate) == openssl_pins(path)


def test_pins_of_a_key_for_pss_alone(tmp_path):
    """Encoded anew it would pass for a key without that limit."""
    path = tmp_path / "cert.pem"
    new = ("-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-nodes")
    openssl("req", "-x509", *new, "-subj", "/CN=pss", "-keyout", tmp_path / "key", "-out", path)
    (certificate,) = roots.load(path)
    assert roots.pins(certificate) == openssl_pins(path)


def test_pins_of_every_root_of_the_browsers():
    for certificate in roots.load():
        public = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        whole = certificate.public_bytes(Encoding.DER)
        expected = tuple(hashlib.sha256(data).hexdigest() for data in (whole, public))
        assert roots.pins(certificate) == expected


def test_report_of_a_chain_that_is_too_long(command, www, root):
    with servers.Nginx(www, chain_of(root, 4200)) as server:
        code, out, _ = command(server.url("app.bin"))
    assert code == 0
    assert out.splitlines()[-1] == (
        "a buffer of 4096 bytes is too small: handshakes and redirects take 4200; "
        "serve a shorter certificate chain"
    )


def test_report_of_a_server_without_ranges(command, www, root):
    with servers.Nginx(www, root.server(), lines=servers.NO_RANGES) as server:
        code, out, _ = command(server.url("app.bin"))
    assert code == 0
    assert "a buffer of 4096 bytes is too small: this server does no ranges; use" in out


def test_report_of_a_root_that_is_sent(command, www, root):
    server = root.server()
    identity = certs.Identity(server.cert, server.key, (root.cert,))
    with servers.Nginx(www, identity) as server:
        assert " (sent by the server too, which it need not do)" in command(server.url())[1]


@pytest.mark.parametrize("speed", [100, 4000], ids=["handshake", "answer"])
def test_server_that_drips(www, root, monkeypatch, speed):
    """Each byte comes in time; the tool ends all the same."""
    monkeypatch.setattr(tls, "ANSWER_S", 1.0)
    slow = "limit_rate 1;" if speed > 1000 else ""
    with (
        servers.Nginx(www, root.server(), lines=slow) as server,
        proxy.Proxy(server, bytes_s=speed, fast=0 if speed < 1000 else 2000) as link,
    ):
        assert "was not done in 1 s" in refused(link.url("app.bin"), root)


def test_password_and_headers(command, www, root):
    need = 'if ($http_x_key != "a: b") { return 403; }'
    with servers.Nginx(www, root.server(), lines=need, basic_auth=("user", "sesame")) as server:
        url = server.url("app.bin")
        code, out, _ = command(url)
        assert code == 1
        assert out.endswith("the server answers 403: expected 200\n")
        assert command(url, "--header", "X-Key: a: b")[0] == 1
        code, out, _ = command(url, "--header", "X-Key: a: b", "--auth", "user:sesame")
        assert code == 0
        assert "sesame" not in out


@pytest.mark.parametrize(
    ("option", "value"),
    [("--header", "no colon"), ("--header", "A: b\r\nC: d"), ("--auth", "user")],
)
def test_options_that_are_refused(command, option, value):
    code, out, err = command("https://localhost/", option, value)
    assert (code, out) == (2, "")
    assert err.startswith(f"https-ota: error: {option}: expected ")


def test_insecure_must_be_said(capsys, nginx):
    """Without --ca the roots are those that browsers trust; ours is none of these."""
    assert cli.main(["probe", nginx.url("app.bin")]) == 2
    assert "certificates in certifi's bundle vouches for it" in capsys.readouterr().err
    assert cli.main(["probe", "--insecure", nginx.url("app.bin")]) == 0
    assert "root: none of those known" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"junk", b"\x30junk"])
def test_file_without_certificates(capsys, tmp_path, data):
    (tmp_path / "ca.pem").write_bytes(data)
    assert cli.main(["probe", "--ca", str(tmp_path / "ca.pem"), "https://localhost/"]) == 2
    assert "expected certificates, PEM or DER, found none" in capsys.readouterr().err


def test_ca_as_der(capsys, tmp_path, nginx, root):
    (tmp_path / "ca.der").write_bytes(root.der)
    assert cli.main(["probe", "--ca", str(tmp_path / "ca.der"), nginx.url("app.bin")]) == 0
