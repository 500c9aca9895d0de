# digest.py: answers to challenges.

from hashlib import md5

from binascii import hexlify
from fakenet import Net, fails, opened, patiently, raises, use
from https_ota import OTAError
from https_ota.net.auth import Digest
from https_ota.net.download import Download

URL = "http://host/fw.bin?key=secret"


class Rfc(Digest):
    """With the client's nonce of RFC 7616, section 3.9.1."""

    def _fresh(self):
        return "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def test_examples_of_the_rfc():
    for algorithm, response in (
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ):
        digest = Rfc("Mufasa", "Circle of Life")
        assert digest.header("/") is None
        challenge = (
            'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=%s, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        ) % algorithm
        digest.take(challenge.encode(), URL)
        header = digest.header("/dir/index.html")
        assert 'response="%s"' % response in header
        assert "algorithm=" + algorithm in header and "nc=00000001" in header
        assert 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in header
        # Each request has a number of its own.
        assert "nc=00000002" in digest.header("/dir/index.html")


def of(text):
    return hexlify(md5(text.encode()).digest()).decode()


def test_without_qop():
    """RFC 2069, which old servers speak."""
    digest = Digest("a", "b")
    digest.take(b'digest nonce="n",realm="r \\" q"', URL)
    header = digest.header("/x")
    expected = of(of('a:r " q:b') + ":n:" + of("GET:/x"))
    assert 'response="%s"' % expected in header
    assert "qop" not in header and "nc=" not in header and "algorithm" not in header


def test_session_algorithm():
    digest = Rfc("a", "b")
    digest.take(b'Digest nonce="n", realm="r", algorithm=MD5-sess, qop=auth', URL)
    own = digest._fresh()
    secret = of(of("a:r:b") + ":n:" + own)
    expected = of(secret + ":n:00000001:%s:auth:" % own + of("GET:/x"))
    assert 'response="%s"' % expected in digest.header("/x")


def refused(*challenges):
    digest = Digest("a", "sesame")
    for challenge in challenges[:-1]:
        digest.take(challenge, URL)
    detail = fails(OTAError.HTTP_STATUS, digest.take, challenges[-1], URL)
    assert "http://host/fw.bin answered 401" in detail
    assert "secret" not in detail and "sesame" not in detail
    return detail


def test_what_can_not_be_answered():
    assert "no Digest" in refused(b'Basic realm="x"')
    assert "no Digest" in refused(None)
    assert "qop auth-int" in refused(b'Digest nonce="n", qop="auth-int"')
    assert "algorithm SHA-512-256" in refused(b'Digest nonce="n", algorithm=SHA-512-256')
    assert "expected Digest" in refused(b'Digest realm="x"')


def test_wrong_password():
    assert "does not take" in refused(b'Digest nonce="1"', b'Digest nonce="2"')
    assert "does not take" in refused(b'Digest nonce="1"', b'Digest nonce="2", stale=false')


def test_old_nonces():
    stale = b'Digest nonce="2", stale=TRUE'
    digest = Digest("a", "b")
    for _ in range(20):
        digest.take(stale, URL)
        digest.header("/")
        digest.header("/")  # the first was taken
    # But not for ever without success.
    fails(OTAError.HTTP_STATUS, lambda: [digest.take(stale, URL) for _ in range(9)])


CHALLENGE = b'Digest realm="r", nonce="%s", qop="auth"\r\n'


def answer(status, body=b"", extra=b""):
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, extra, len(body)) + body


def challenge(nonce=b"n", extra=b""):
    extra += b'WWW-Authenticate: Basic realm="r"\r\nWWW-Authenticate: ' + CHALLENGE % nonce
    return answer(b"401 Unauthorized", b"no", extra)


def fetch(*answers, url=URL):
    net = use(Net(*answers))
    source = Download(url, insecure=True, auth=("a", "b", "digest"))
    opened(source)
    buf = bytearray(64)
    data = b""
    while True:
        n = patiently(source, source.readinto, buf)
        if not n:
            return data, net
        data += buf[:n]


def test_download():
    data, net = fetch(challenge(b"n" * 300), answer(b"200 OK", b"data"))
    assert data == b"data"
    assert b"Authorization" not in net.sent[0]
    assert b'Authorization: Digest username="a"' in net.sent[1]
    assert b'uri="/fw.bin?key=secret"' in net.sent[1]
    assert b"n" * 300 in net.sent[1]


def test_answer_stays_with_its_host():
    moved = answer(b"302 Found", b"", b"Location: http://other/x\r\n")
    _, net = fetch(challenge(), moved, answer(b"200 OK", b"data"))
    assert b"Digest" in net.sent[1] and b"Digest" not in net.sent[2]
    # Nor does another host get one by asking.
    use(Net(moved, challenge(), moved, challenge()))  # what is redirected to may have expired
    source = Download(URL, insecure=True, auth=("a", "b", "digest"))
    fails(OTAError.HTTP_STATUS, opened, source)


CONTROLS = [chr(c) for c in range(32) if c != 9] + ["\x7f", "\r\nX-Evil: 1", "\n Y: 1"]


def test_control_characters_in_name_or_password():
    for c in CONTROLS:
        for text in (c, "a" + c, c + "b", "a" + c + "b"):
            for name, password, what in ((text, "sesame", "name"), ("admin", text, "password")):
                for auth in ((name, password), (name, password, "digest")):
                    message = str(raises(ValueError, Download, URL, auth=auth))
                    assert message.startswith("auth: the %s has" % what), message
                    assert "sesame" not in message and text not in message
                raises(ValueError, Digest, name, password)


def test_control_characters_of_a_server_are_not_sent_back():
    # A line feed ends the line before this sees it.
    for c in [c for c in CONTROLS if "\n" not in c] + ["\r", "\rX-Evil: 1"]:
        for field in (
            'realm="r%s", nonce="n"',
            'realm="r\\%s", nonce="n"',
            'realm="r", nonce="n%sn"',
            'realm="r", nonce=n%sn',
            'realm="r", nonce="n", opaque="%s"',
            'realm="r", nonce="n", algorithm=%sMD5',
            'realm="r", nonce="n", algorithm="MD5%s"',
            'realm="r", nonce="n", %sx="y"',
        ):
            text = "Digest " + field % c
            detail = refused(text.encode())
            assert "control character" in detail
            # And as it comes over the net.
            reply = answer(b"401 Unauthorized", b"", b"WWW-Authenticate: %s\r\n" % text.encode())
            net = use(Net(reply, answer(b"200 OK", b"data")))
            source = Download(URL, insecure=True, auth=("a", "b", "digest"))
            fails(OTAError.HTTP_STATUS, opened, source)
            assert len(net.sent) == 1


def test_challenge_that_is_no_text():
    assert "UTF-8" in refused(b'Digest realm="Gr\xf6\xdfe", nonce="n"')


def fields_of(header):
    """What a server reads there, by RFC 9110: names and values, quoted or tokens."""
    assert header[:7] == "Digest "
    found = {}
    i = 7
    while i < len(header):
        name, _, rest = header[i:].partition("=")
        i += len(name) + 1
        value = ""
        if rest[0] == '"':
            i += 1
            while header[i] != '"':
                i += header[i] == "\\"
                value += header[i]
                i += 1
            i += 1
        else:
            while i < len(header) and header[i] != ",":
                assert header[i] not in ' "\\\t'
                value += header[i]
                i += 1
        found[name] = value
        assert header[i : i + 2] in (", ", "")
        i += 2
    return found


def test_quotes_and_backslashes():
    odd = (
        '"',
        "\\",
        '\\"',
        '"\\',
        'a"b',
        "a\\b",
        '", realm="evil',
        "\\\\",
        "é漢",
        "a:b",
        "a, b=c",
        "\t",
    )
    for text in odd:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        for name, realm, nonce, opaque, target in (
            (text, "r", "n", "o", "/x"),
            ("a", text, "n", "o", "/x"),
            ("a", "r", text, "o", "/x"),
            ("a", "r", "n", text, "/x"),
            ("a", "r", "n", "o", "/x?" + text),
        ):
            digest = Digest(name, "b")
            given = [escaped if v == text else v for v in (realm, nonce, opaque)]
            challenge = 'Digest realm="%s", nonce="%s", opaque="%s", algorithm=MD5' % tuple(given)
            digest.take(challenge.encode(), URL)
            found = fields_of(digest.header(target))
            assert found["username"] == name and found["realm"] == realm
            assert found["nonce"] == nonce and found["opaque"] == opaque
            assert found["uri"] == target and found["algorithm"] == "MD5"
            expected = of(of("%s:%s:b" % (name, realm)) + ":%s:" % nonce + of("GET:" + target))
            assert found["response"] == expected


def test_only_known_algorithms_are_named():
    for algorithm in ("MD5-sess-sess", "-sessMD5", "", "MD5, X=1", "MD5;x", "SHA-256-"):
        refused(('Digest nonce="n", algorithm="%s"' % algorithm).encode())
    for algorithm in ("md5", "MD5-SESS", "sha-256", "Sha-256-Sess"):
        digest = Digest("a", "b")
        digest.take(('Digest nonce="n", qop=auth, algorithm="%s"' % algorithm).encode(), URL)
        assert fields_of(digest.header("/"))["algorithm"] == algorithm


def test_arguments():
    for auth in (("a",), ("a", "b", "basic"), ("a", "b", "c", "d")):
        assert "auth: expected" in str(raises(ValueError, Download, URL, auth=auth))
