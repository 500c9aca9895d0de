"""`https-ota ca`: the roots that it chooses, used by boards, and what it refuses."""

import dataclasses
import subprocess

import certs
import pytest
import servers
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from https_ota_tools import ca, cli, roots
from https_ota_tools.errors import ToolError


@pytest.fixture
def bundle(tmp_path, root):
    """A file with the tests' root among others."""
    path = tmp_path / "bundle.pem"
    others = [certs.root(kind, name) for kind, name in (("rsa", "Other"), ("ec", "Another"))]
    path.write_bytes(others[0].pem + b"# Ours\n" + root.pem + others[1].pem)
    return path


@pytest.fixture
def command(capsys, tmp_path, bundle):
    """Returns a function that runs the command with the bundle, and returns exit code, output and errors."""

    def command(*args):
        code = cli.main(["ca", "--from", str(bundle), "-o", str(tmp_path / "ca.pem"), *args])
        return code, *capsys.readouterr()

    return command


def test_the_root_is_found_and_a_board_takes_it(command, any_board, www, root):
    """One root in place of three, through an intermediate."""
    with servers.Nginx(www, root.intermediate().server()) as server:
        code, out, err = command(server.url("app.bin"))
        written = (any_board.flash.parent / "ca.pem").read_text()
        any_board.update(server.url("app.bin"), cadata=written)
    assert (code, err) == (0, "")
    assert written.startswith("# Test Root ec, valid until 20")
    assert written.split("\n")[0].endswith(", for localhost")
    assert written.endswith(root.pem.decode())
    assert written.count("BEGIN") == 1
    header, line, last = out.splitlines()
    assert header.split() == ["host", "root", "key", "valid", "until", "answer"]
    assert line.split()[:6] == ["localhost", "Test", "Root", "ec", "ECDSA", "secp256r1"]
    assert last.endswith(f"ca.pem: 1 certificate, {len(written)} bytes")


def test_redirect_to_a_server_of_another_root(command, any_board, www, nginx, bundle):
    other = certs.root("rsa", "Redirects")
    bundle.write_bytes(bundle.read_bytes() + other.pem)
    away = {"/start": nginx.url("app.bin")}
    with servers.RedirectServer(other.server(kind="rsa"), away) as first:
        code, out, _ = command(first.url("start", host="127.0.0.1"))
        written = (any_board.flash.parent / "ca.pem").read_text()
        any_board.update(first.url("start", host="127.0.0.1"), cadata=written)
    assert code == 0
    assert "# Redirects rsa, valid until" in written
    assert "# Test Root ec, valid until" in written
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["127.0.0.1", "localhost"]
    assert "ca.pem: 2 certificates, " in out


def test_each_root_is_written_once(command, nginx, tmp_path):
    assert command(nginx.url("app.bin"), nginx.url("app.bin", host="127.0.0.1"))[0] == 0
    written = (tmp_path / "ca.pem").read_text()
    assert written.count("BEGIN") == 1
    assert written.split("\n")[0].endswith(", for localhost, 127.0.0.1")


def test_the_root_nearest_to_the_server(nginx, www, root, tmp_path):
    """What a server sends may lead on to an older root, which is not needed."""
    newer = root.intermediate("Newer Root")
    path = tmp_path / "both.pem"
    path.write_bytes(root.pem + newer.pem)
    with servers.Nginx(www, newer.intermediate("Below").server()) as server:
        (found,) = ca.needed([server.url()], path)
    assert found.root == newer.cert


def test_root_that_the_server_sends(www, root, bundle):
    server = root.server()
    with servers.Nginx(www, certs.Identity(server.cert, server.key, (root.cert,))) as nginx:
        (found,) = ca.needed([nginx.url()], bundle)
    assert found.root == root.cert


def test_roots_of_equal_names(nginx, root, tmp_path):
    """A new root may have the name of the one before it; its key tells."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(certs.root().pem + root.pem + certs.root().pem)
    (found,) = ca.needed([nginx.url()], path)
    assert found.root == root.cert


def test_error_page(command, nginx):
    """The root is known, the redirects of a file that is not there aren't."""
    code, out, _ = command(nginx.url("none.bin"))
    assert code == 0
    assert "localhost answers 404: redirects of the real file may need more roots" in out


def test_none_fits(command, www, tmp_path):
    with servers.Nginx(www, certs.root(name="Unknown").server()) as server:
        code, out, err = command(server.url("app.bin?token=secret"))
    assert (code, out) == (2, "")
    assert err == (
        "https-ota: error: the certificate of localhost is refused: none of the 3 certificates in "
        f"{tmp_path / 'bundle.pem'} vouches for it; "
        "the server sends 'localhost', issued by 'Unknown ec'\n"
    )
    assert not (tmp_path / "ca.pem").exists()


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (("other.example",), certs.NOW, "it is for other.example, not for localhost"),
        ((), certs.EXPIRED, "'localhost' has expired on 20"),
    ],
)
def test_bad_certificates(command, www, root, names, days, words):
    with servers.Nginx(www, root.server(*names, days=days)) as server:
        code, _, err = command(server.url())
    assert code == 2
    assert f"the certificate of localhost is refused: {words}" in err


def test_plain_http(command):
    code, _, err = command("http://localhost/app.bin")
    assert code == 2
    assert "http is neither encrypted nor verified" in err


def test_browsers_roots_are_the_default(nginx):
    """The tests' root is none of them."""
    with pytest.raises(ToolError, match=r"none of the \d\d+ certificates in certifi's bundle"):
        ca.needed([nginx.url()])


def test_every_root_of_the_browsers_can_be_described():
    for root in roots.load():
        assert roots.name(root)
        assert roots.key(root).split()[0] in {"RSA", "ECDSA"}
        assert roots.find([root], [root]) == root


def test_bundle_with_something_unreadable(nginx, root, tmp_path):
    path = tmp_path / "bundle.pem"
    junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    path.write_bytes(junk + root.pem)
    assert [n.root for n in ca.needed([nginx.url()], path)] == [root.cert]


def test_file_that_cannot_be_written(command, nginx, tmp_path):
    (tmp_path / "ca.pem").mkdir()
    code, _, err = command(nginx.url())
    assert code == 2
    assert "cannot write" in err


# Servers that nobody known vouches for


@pytest.fixture
def private(capsys, tmp_path):
    """As `command`, without certificates to choose from."""

    def private(*args):
        code = cli.main(["ca", "-o", str(tmp_path / "ca.pem"), *args])
        return code, *capsys.readouterr()

    return private


def by_openssl(folder):
    """As people make it: an authority that is a server, without any key usage."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=box"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "own.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    cert = x509.load_pem_x509_certificate((folder / "own.pem").read_bytes())
    return certs.Identity(cert, load_pem_private_key((folder / "key.pem").read_bytes(), None))


@pytest.mark.parametrize("openssl", [True, False])
def test_self_signed_server(private, any_board, www, tmp_path, openssl):
    identity = by_openssl(tmp_path) if openssl else certs.self_signed()
    with servers.Nginx(www, identity) as server:
        code, out, _ = private(server.url("app.bin"))
        assert code == 0
        digest = identity.cert.fingerprint(hashes.SHA256()).hex()
        assert out.startswith("nobody known vouches for localhost: it says itself")
        assert f"\nSHA-256 {digest}\n" in out
        (any_board.flash.parent / "ca.pem").write_bytes((tmp_path / "ca.pem").read_bytes())
        any_board.run(
            f"import https_ota\nhttps_ota.update({server.url('app.bin')!r}, cadata=open('ca.pem').read())"
        )


def test_private_root_that_the_server_sends(private, www, root, tmp_path):
    with servers.Nginx(www, dataclasses.replace(root.server(), chain=(root.cert,))) as server:
        code, out, _ = private(server.url("app.bin"))
    assert code == 0
    assert root.cert.fingerprint(hashes.SHA256()).hex() in out
    assert [c.subject for c in roots.load(tmp_path / "ca.pem")] == [root.cert.subject]


def test_private_root_that_it_does_not_send(private, nginx, tmp_path):
    code, _, err = private(nginx.url("app.bin"))
    assert code == 2
    assert (
        "it sends no certificate of its issuer: give that with --from, or the device pin=" in err
    )
    assert not (tmp_path / "ca.pem").exists()


def test_self_signed_for_another_host(private, www, tmp_path):
    with servers.Nginx(www, certs.self_signed("other.example")) as server:
        code, _, err = private(server.url("app.bin"))
    assert code == 2
    assert "it is for other.example, not for localhost" in err
    assert not (tmp_path / "ca.pem").exists()
