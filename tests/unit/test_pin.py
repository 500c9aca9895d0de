# pin.py: SHA-256 of certificates and of the keys in them.

from binascii import a2b_base64, b2a_base64, hexlify
from hashlib import sha256

from fakenet import fails, raises
from https_ota import OTAError
from https_ota.net.pin import check, pin_digests, public_key

# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -days 9999; the key was
# thrown away. Its public key is what `openssl x509 -noout -pubkey` prints.
CERT = a2b_base64(
    b"MIIBdTCCARugAwIBAgIUe5IqLiya44p4Wq/1VmzPj6BUXq0wCgYIKoZIzj0EAwIwDzENMAsGA1UEAwwEdGVzdDAg"
    b"Fw0yNjExMjQwNzE5MzdaGA8yMDU0MDQxMDA3MTkzN1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqG"
    b"SM49AwEHA0IABNZunLsUJirZJst+EofFmavY7l5JCxLD6yQd5ly67viqJUOMvqEp896KN7jjNQN6VkOcLyKpUOgm"
    b"msPoUiOTxiSjUzBRMB0GA1UdDgQWBBQtfwegLG2PaLPFD7PtjV4QPhj2xjAfBgNVHSMEGDAWgBQtfwegLG2PaLPF"
    b"D7PtjV4QPhj2xjAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIGFAMnmbhHDfLvaGbTCijKc9KE1l"
    b"xTFOKjfLbZTlcyQIAiEA+aOggm4/4eVicNsNrrevSG7QrgSPTIuxG1LxJZAjpiU="
)
KEY = a2b_base64(
    b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1m6cuxQmKtkmy34Sh8WZq9juXkkLEsPrJB3mXLru+KolQ4y+oSnz"
    b"3oo3uOM1A3pWQ5wvIqlQ6Caaw+hSI5PGJA=="
)


def element(tag, content):
    n = len(content)
    size = bytes((n,)) if n < 128 else bytes((0x82, n >> 8, n & 255))
    return bytes((tag,)) + size + content


def test_public_key():
    assert bytes(public_key(CERT)) == KEY


def test_public_key_of_a_certificate_of_version_1():
    key = element(0x30, b"k" * 300)
    fields = [element(2, b"\x01")] + [element(0x30, bytes(n)) for n in (5, 200, 30, 0)] + [key]
    cert = element(0x30, element(0x30, b"".join(fields)) + element(0x30, b"") + element(3, b"s"))
    assert bytes(public_key(cert)) == key


def test_pinned_certificate_or_key():
    whole, key, other = sha256(CERT).digest(), sha256(KEY).digest(), bytes(32)
    for pins in ([whole], [key], [other, key], [whole, other]):
        check(CERT, pins, "host")


def test_another_server_is_told_what_it_has():
    detail = fails(OTAError.CERT_PIN, check, CERT, [bytes(32)], "host")
    assert detail.startswith("host is none of the pinned servers")
    for data in (CERT, KEY):
        assert hexlify(sha256(data).digest()).decode() in detail


def test_every_bit_counts():
    digest = bytearray(sha256(KEY).digest())
    for i in range(256):
        digest[i // 8] ^= 1 << i % 8
        fails(OTAError.CERT_PIN, check, CERT, [bytes(digest)], "host")
        digest[i // 8] ^= 1 << i % 8


def test_forms():
    digest = sha256(KEY).digest()
    text = hexlify(digest).decode()
    curl = "sha256//" + b2a_base64(digest).decode().strip()
    for value in (digest, bytearray(digest), text, text.upper(), curl):
        assert pin_digests(value) == [digest]
    assert pin_digests([digest, text, curl]) == [digest] * 3


def test_what_is_no_pin():
    for value in ("", "ab", "x" * 64, "sha256//AAAA", b"short", 5, None, [], ["zz"], [None]):
        assert "pin: expected" in str(raises(ValueError, pin_digests, value))
