"""Verified TLS: what is accepted, what is refused, and in which words."""

import hashlib
import shutil

import certs
import pytest
import servers
import zoo
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def fetch(board, url, **options):
    """Download, and leave the board's firmware as it is."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    board.run(f"import https_ota\nhttps_ota.fetch({url!r}, len{given})")


def test_server_of_an_rsa_chain_with_an_intermediate(any_board, www):
    root = certs.root("rsa")
    identity = root.intermediate().server(kind="rsa")
    with servers.Nginx(www, identity) as server:
        any_board.update(server.url("app.bin"), cadata=root.pem)


def test_ca_as_der(board, nginx, root):
    board.update(nginx.url("app.bin"), cadata=root.der)


def test_ca_among_others(board, nginx, root):
    bundle = certs.root("rsa").pem + b"# Ours\n" + root.pem
    board.update(nginx.url("app.bin"), cadata=bundle.decode())


def test_ca_list_of_pem_and_der(board, nginx, root):
    board.update(nginx.url("app.bin"), cadata=[certs.root().der, root.pem.decode()])


def test_server_reached_by_address(board, nginx):
    board.update(nginx.url("app.bin", host="127.0.0.1"))


def test_unknown_ca(any_board, nginx):
    message = any_board.refuse(nginx.url("app.bin"), cadata=certs.root().pem)
    assert message == (
        "OTAError: CERT_CA: the certificate of localhost is not signed by a CA in cadata"
    )
    assert not nginx.requests(), "a request went to a server that is not verified"


def test_intermediate_that_is_not_sent(any_board, www, root):
    """Browsers find it elsewhere, so that nobody notices before a board comes."""
    identity = root.intermediate().server()
    lone = certs.Identity(identity.cert, identity.key)
    other = certs.root(name="Other").pem
    with servers.Nginx(www, lone) as server:
        url = server.url("app.bin")
        for cadata in (root.pem, other + root.pem, [root.der, other]):
            message = any_board.refuse(url, cadata=cadata)
            assert message.startswith("OTAError: CERT_CA: the certificate of localhost is not")
        # Whoever trusts that one needs no more.
        fetch(any_board, url, cadata=identity.chain_pem)


def test_roots_that_can_not_be_used_are_told_when_none_fits(board, nginx):
    key = ed25519.Ed25519PrivateKey.generate()
    odd = certs.odd_root(key)
    crl = b"-----BEGIN X509 CRL-----\nMAAA\n-----END X509 CRL-----\n"
    message = board.refuse(nginx.url("app.bin"), cadata=odd + crl + certs.root(name="Other").pem)
    assert message.startswith("OTAError: CERT_CA: ")
    assert "of cadata it can't use: CERTIFICATE: " in message
    assert "X509 CRL: " in message


def test_bundle_with_roots_that_can_not_be_used(any_board, nginx, root):
    odd = certs.odd_root(ed25519.Ed25519PrivateKey.generate())
    odd += certs.odd_root(ec.generate_private_key(ec.BrainpoolP512R1()))
    for cadata in (odd + root.key_pem + root.pem, root.pem + odd, [odd, "junk", root.der]):
        fetch(any_board, nginx.url("app.bin"), cadata=cadata)


@pytest.mark.parametrize("aio", [False, True])
@pytest.mark.parametrize("protocols", ["TLSv1.3", "TLSv1.1"])
def test_other_versions_of_tls(any_board, www, root, protocols, aio):
    lines = "ssl_ciphers DEFAULT:@SECLEVEL=0;" if protocols == "TLSv1.1" else ""
    with servers.Nginx(www, root.server(), protocols=protocols, lines=lines) as server:
        message = any_board.refuse(server.url("app.bin"), aio=aio)
    expected = {
        "TLSv1.3": "the server broke the TLS 1.2 handshake off",
        "TLSv1.1": "expected TLS 1.2, the server has an older one",
    }
    assert message.startswith("OSError: (")
    assert f"localhost:{server.port}: {expected[protocols]}" in message


@pytest.mark.parametrize("aio", [False, True])
def test_redirect_to_a_dead_host_says_so_at_once(board, www, root, nginx, aio):
    nginx.stop()
    for there, words in (
        (nginx.url("app.bin"), f"localhost:{nginx.port}: "),
        ("https://no-such-host.invalid/x", "no address found for no-such-host.invalid"),
    ):
        with servers.RedirectServer(root.server(), {"/x": there}) as first:
            message = board.refuse(first.url("x"), aio=aio)
            assert words in message and "(a redirect led there)" in message
            assert len(first.requests) == 1


def test_wrong_host(any_board, www, root):
    with servers.Nginx(www, root.server("updates.example")) as server:
        message = any_board.refuse(server.url("app.bin"))
        assert message == "OTAError: CERT_HOST: the certificate of localhost is for another host"
        assert not server.requests()


def test_name_is_sent(www, root, board):
    """SNI: servers of many names pick the certificate by it."""
    need_name = 'if ($ssl_server_name != "localhost") { return 421; }'
    with servers.Nginx(www, root.server(), lines=need_name) as server:
        board.update(server.url("app.bin"))


def test_expired(board, www, root):
    with servers.Nginx(www, root.server(days=certs.EXPIRED)) as server:
        message = board.refuse(server.url("app.bin"))
    assert message.startswith("OTAError: CERT_DATE: the certificate of localhost has expired")


def test_not_valid_yet(board, www, root):
    with servers.Nginx(www, root.server(days=certs.NOT_YET)) as server:
        message = board.refuse(server.url("app.bin"))
    assert message.startswith("OTAError: CERT_DATE: the certificate of localhost is not valid yet")


def test_clock_never_set(any_board, nginx):
    any_board.env["SIM_CLOCK"] = "unset"
    message = any_board.refuse(nginx.url("app.bin"))
    assert message == (
        "OTAError: CLOCK: the board's clock says 2000-01-01: no certificate can be checked"
    )


def test_no_ca_is_refused_before_connecting(board, nginx):
    message = board.fail(f"import https_ota; https_ota.update({nginx.url('app.bin')!r})")
    assert message == (
        "ValueError: no server can be verified without cadata=(CA certificates) or pin=; "
        "or say insecure=True"
    )


def test_insecure_must_be_said(board, nginx):
    board.update(nginx.url("app.bin"), cadata=None, insecure=True)


def test_plain_http_must_be_said(any_board, www):
    with servers.Nginx(www) as server:
        message = any_board.fail(
            f"import https_ota; https_ota.update({server.url('app.bin')!r}, cadata=b'0')"
        )
        assert message.startswith("ValueError: http:// is neither encrypted nor verified")
        assert not server.requests()
        any_board.update(server.url("app.bin"), cadata=None, insecure=True)


@pytest.mark.parametrize("junk", ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_junk_for_a_ca(board, nginx, junk):
    message = board.refuse(nginx.url("app.bin"), cadata=junk)
    assert message.startswith("ValueError: cadata: ")


def test_client_certificate(any_board, www, root):
    device_root = certs.root(name="Devices")
    device = device_root.client()
    with servers.Nginx(www, root.server(), client_ca=device_root.pem) as server:
        any_board.update(server.url("app.bin"), cert=device.pem, key=device.key_pem)


def test_client_certificate_and_key_in_one_file(board, www, root):
    device_root = certs.root(name="Devices")
    device = device_root.intermediate("Devices below").client()
    with servers.Nginx(www, root.server(), client_ca=device_root.pem) as server:
        whole = device.pem + device.chain_pem
        for text in (whole + device.key_pem, device.key_pem + whole):
            fetch(board, server.url("app.bin"), cadata=root.pem, cert=text, key=text)


def test_client_certificate_missing(board, www, root):
    with servers.Nginx(www, root.server(), client_ca=certs.root(name="Devices").pem) as server:
        message = board.refuse(server.url("app.bin"))
    assert message.startswith("OTAError: HTTP_STATUS: ")
    assert " answered 400" in message


# A server that asks for a certificate, and answers 400 to those who show one.
ANONYMOUS = "ssl_verify_client optional_no_ca; if ($ssl_client_raw_cert) { return 400; }"


@pytest.fixture
def device():
    """A client certificate and the root that made it."""
    made = certs.root(name="Devices")
    return made.client(), made.pem


@pytest.mark.parametrize("aio", [False, True], ids=["blocking", "asyncio"])
def test_client_certificate_stays_with_its_origin(any_board, www, root, device, aio):
    """A redirect leads to a server that would take it, and back to the first when the link has expired."""
    client, ca = device
    once = "if ($http_range ~ bytes=[1-3]....-) { set $late 1; } if ($args = 1) { set $late 0; }"
    lines = f"{ANONYMOUS} set $late 0; {once} if ($late = 1) {{ return 403; }}"
    with servers.Nginx(www, root.server(), lines=lines) as other:
        # The second link is good to the end.
        url = other.url("app.bin")
        away = {
            "/": f"set $n 0; if ($http_range ~ bytes=[1-9]....-) {{ set $n 1; }} return 302 {url}?$n;"
        }
        with servers.Nginx(www, root.server(), client_ca=ca, locations=away) as first:
            any_board.update(
                first.url("x"), cert=client.pem, key=client.key_pem, request_size=3000, aio=aio
            )
            assert [r.status for r in first.requests()] == [302, 302]
        statuses = [r.status for r in other.requests()]
        # Those behind the first that was refused had been sent.
        assert 1 <= statuses.count(403) <= 12 and 400 not in statuses
    assert any_board.running().version == "2.0.0"


def test_the_4k_buffer_names_the_way_out(nginx, any_board):
    """One plain GET into a 4 KiB buffer cannot work with nginx's records of 16 KiB."""
    if any_board.interpreter.parent.name == "sim":
        any_board.update(nginx.url("app.bin"), request_size=0)
        return
    message = any_board.refuse(nginx.url("app.bin"), request_size=0)
    assert message == (
        "OTAError: TLS_BUFFER: expected TLS records of up to 4096 bytes, got a larger one:"
        " to a request for all bytes"
    )


def test_long_chain_into_the_4k_buffer(www, root, any_board):
    """A certificate message larger than the buffer is told from a large reply."""
    # 40 names make a certificate of more than 4 KiB.
    names = ["localhost", *(f"{'x' * 60}{i}.{'y' * 60}.example" for i in range(40))]
    identity = root.server(*names)
    with servers.Nginx(www, identity) as server:
        if any_board.interpreter.parent.name == "sim":
            any_board.update(server.url("app.bin"))
            return
        message = any_board.refuse(server.url("app.bin"))
    assert message.startswith("OTAError: TLS_BUFFER: ")
    assert "records of up to 4096 bytes, got a larger one: localhost:" in message
    assert "its certificate chain" in message


def test_chain_of_several_into_the_4k_buffer(www, any_board):
    """Certificates that would fit one by one."""
    authority = root = certs.root("rsa")
    for i in range(6):
        authority = authority.intermediate(f"Level {i}", kind="rsa")
    identity = authority.server(kind="rsa")
    with servers.Nginx(www, identity) as server:
        if any_board.interpreter.parent.name == "sim":
            any_board.update(server.url("app.bin"), cadata=root.pem)
            return
        message = any_board.refuse(server.url("app.bin"), cadata=root.pem)
    assert message.startswith("OTAError: TLS_BUFFER: ")
    assert "records of up to 4096 bytes, got a larger one: localhost:" in message


def test_no_tls_there(board, www):
    with servers.Nginx(www) as server:
        message = board.refuse(server.url("app.bin").replace("http:", "https:"))
    assert message == (
        f"OTAError: HTTP_PROTOCOL: localhost:{server.port}: expected TLS, got something else"
    )


def test_nobody_listens(board, nginx):
    url = nginx.url("app.bin")
    nginx.stop()
    message = board.refuse(url)
    assert message.startswith("OSError: [Errno 111]")
    assert str(nginx.port) in message


def test_host_unknown(board):
    message = board.refuse("https://no-such-host.invalid/app.bin")
    assert "no address found for no-such-host.invalid: is the network up?" in message


def test_basic_auth_and_headers(any_board, www, root):
    with servers.Nginx(www, root.server(), basic_auth=("board", "sesame")) as server:
        message = any_board.refuse(server.url("app.bin"))
        assert message.endswith(" answered 401")
        any_board.update(server.url("app.bin"), auth=("board", "sesame"))


def test_secrets_stay_with_their_host(any_board, www, root):
    """A redirect to another port: neither credentials nor own headers go there."""
    refuse = "if ($http_authorization) { return 400; } if ($http_x_key) { return 400; }"
    need = 'if ($http_authorization = "") { return 401; } if ($http_x_key != "k") { return 401; }'
    with servers.Nginx(www, root.server(), lines=refuse) as other:
        away = {"/": f"{need} return 302 {other.url('app.bin')};"}
        with servers.Nginx(www, root.server(), locations=away) as first:
            any_board.update(first.url("x"), auth=("a", "b"), headers={"X-Key": "k"})


@pytest.mark.parametrize(
    "location",
    [
        "HTTPS://LOCALHOST:{port}/new%20folder/%C3%BC.bin",
        "//Localhost.:{port}/new folder/ü.bin",
        "/new folder/./x/../ü.bin#part",
        "\\new folder\\ü.bin",
        "https:/new folder/ü.bin",
    ],
)
def test_secrets_go_along_to_the_same_name(board, www, root, location):
    """However it is spelt; and what a browser would encode is found."""
    (www / "new folder").mkdir()
    shutil.move(www / "app.bin", www / "new folder" / "ü.bin")
    need = 'if ($http_authorization = "") { return 401; } if ($http_x_key != "k") { return 401; }'
    hops = {}
    with (
        servers.Nginx(www, root.server(), locations={"/": need}) as server,
        servers.RedirectServer(root.server(), hops) as first,
    ):
        hops["/x"] = location.format(port=first.port)
        hops["/new%20folder/%C3%BC.bin"] = "/mirror/https://other/y"
        hops["/mirror/https://other/y"] = "/last"
        url = first.url("x").replace("localhost", "LocalHost")
        message = board.refuse(url, auth=("a", "b"), headers={"X-Key": "k"})
        assert "answered 404" in message and "/last" in message
        assert all(b"X-Key" in r and b"Authorization" in r for r in first.requests)
        hops["/last"] = server.url("new folder/ü.bin")
        # Another port is another server.
        assert "answered 401" in board.refuse(url, auth=("a", "b"), headers={"X-Key": "k"})


def test_secrets_go_along_on_the_same_host(board, www, root):
    need = 'if ($http_authorization = "") { return 401; } if ($http_x_key != "k") { return 401; }'
    away = {"= /x": f"{need} return 302 /app.bin;", "/": need}
    with servers.Nginx(www, root.server(), locations=away) as server:
        board.update(server.url("x"), auth=("a", "b"), headers={"X-Key": "k"})


@pytest.mark.parametrize("name", ['bo"ard', "bo\\ard", 'b\\"', "Gerät é", "a, realm=b"])
def test_digest_auth_with_quotes(board, www, root, name):
    secret = hashlib.md5(f"{name}:boards:sesame".encode()).hexdigest()
    with zoo.Apache(www, root.server(), digest=f"{name}:boards:{secret}\n") as server:
        board.update(server.url("app.bin"), auth=(name, "sesame", "digest"))
    assert board.running().version == "2.0.0"


def test_digest_auth(any_board, www, root):
    realm = hashlib.md5(b"board:boards:sesame").hexdigest()
    with zoo.Apache(www, root.server(), digest=f"board:boards:{realm}\n") as server:
        message = any_board.refuse(server.url("app.bin"), auth=("board", "wrong", "digest"))
        assert message.endswith("it does not take this name and password")
        any_board.update(server.url("app.bin"), auth=("board", "sesame", "digest"))
    assert any_board.running().version == "2.0.0"
