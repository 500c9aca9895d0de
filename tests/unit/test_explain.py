# net/words.py: words for what the network answers. The texts and numbers are those that mbedTLS and
# the esp32 port give (seen on stock firmware).

from errno import ENOMEM

from fakenet import Clock
from https_ota import OTAError
from https_ota.net import words as explain
from https_ota.net.words import connect_error, record_error, status_error
from https_ota.net.tls import tls_buffer
from https_ota.errors import as_text

FUTURE = "\nThe certificate validity starts in the future\n"
EXPIRED = "\nThe certificate validity has expired\n"
NAME = "\nThe certificate Common Name (CN) does not match with the expected CN\n"
SIGNER = "\nThe certificate is not correctly signed by the trusted CA\n"


def refused(text, year=2026):
    """What a verification that fails with this text is told as."""
    explain.time = Clock(year)
    e = connect_error(ValueError(text), "example.com", 443, True)
    assert isinstance(e, OTAError)
    assert "example.com" in e.detail or e.code == OTAError.CLOCK
    return e


def failed(number, *words, reached=True):
    return connect_error(OSError(number, *words), "example.com", 8443, reached)


# -- certificates


def test_clock_that_was_never_set():
    for year in (1970, 2000, 2023):
        for text in (FUTURE, EXPIRED, FUTURE + SIGNER):
            e = refused(text, year)
            assert e.code == OTAError.CLOCK
            assert "%d-03-04" % year in e.detail and "no certificate can be checked" in e.detail


def test_certificate_not_valid_yet():
    e = refused(FUTURE)
    assert e.code == OTAError.CERT_DATE
    assert "not valid yet" in e.detail and "2026-03-04" in e.detail


def test_certificate_expired():
    e = refused(EXPIRED)
    assert e.code == OTAError.CERT_DATE
    assert "expired" in e.detail and "2026-03-04" in e.detail


def test_certificate_of_another_host():
    assert refused(NAME).code == OTAError.CERT_HOST
    assert refused(NAME + SIGNER).code == OTAError.CERT_HOST
    # A clock that is not set has no part in this.
    assert refused(NAME, 2000).code == OTAError.CERT_HOST


def test_certificate_of_an_unknown_ca():
    e = refused(SIGNER)
    assert e.code == OTAError.CERT_CA and "cadata" in e.detail
    assert refused(SIGNER, 2000).code == OTAError.CERT_CA


def test_date_is_told_before_the_signer():
    assert refused(EXPIRED + SIGNER).code == OTAError.CERT_DATE


def test_other_reasons_are_shown():
    for text in (
        "\nThe certificate is signed with an unacceptable hash.\n",
        "\nThe certificate is signed with an unacceptable key (eg bad curve, RSA too short).\n",
        "\nUsage does not match the extendedKeyUsage extension\n",
        "\nThe certificate has been revoked (is on a CRL)\n",
    ):
        e = refused(text)
        assert e.code == OTAError.CERT_CA and text.strip() in e.detail


def test_reasons_are_put_on_one_line():
    e = refused(
        "\nThe certificate has been revoked (is on a CRL)\nUsage does not match the keyUsage extension\n"
    )
    assert "\n" not in e.detail and "revoked" in e.detail and "keyUsage" in e.detail


def test_verification_that_failed_without_words():
    e = failed(-9984, "MBEDTLS_ERR_X509_CERT_VERIFY_FAILED")
    assert e.code == OTAError.CERT_CA
    explain.time = Clock(2000)
    assert failed(-9984).code == OTAError.CLOCK


def test_bad_arguments_stay_what_they_are():
    for text in ("invalid cert", "invalid key"):
        e = connect_error(ValueError(text), "example.com", 443, True)
        assert type(e) is ValueError and text in str(e)


# -- sockets


def test_numbers_are_kept():
    for number, words in (
        (104, ()),
        (113, ()),
        (116, ()),
        (-30336, ("MBEDTLS_ERR_SSL_CA_CHAIN_REQUIRED",)),
    ):
        e = failed(number, *words)
        assert isinstance(e, OSError) and e.errno == number
        assert "example.com:8443" in str(e)
        for word in words:
            assert word in str(e)


def test_name_that_does_not_resolve():
    e = failed(-202, reached=False)
    assert isinstance(e, OSError) and e.errno == -202
    assert "no address found for example.com" in str(e)


def test_error_without_number():
    e = connect_error(OSError(), "example.com", 443, True)
    assert isinstance(e, OSError)


def test_no_memory():
    for number in (ENOMEM, 12, -32512, -17168, -10368, -203):
        e = failed(number)
        assert e.code == OTAError.MEMORY, number
        assert "heap" in e.detail and "40000" in str(e)


def test_handshake_too_large_for_the_buffer():
    for number in (-29184, -28928):
        e = failed(number)
        assert "example.com:8443" in e.detail
        if number == -29184 and tls_buffer() == 16384:
            # TLS has no longer record.
            assert e.code == OTAError.HTTP_PROTOCOL and "expected TLS" in e.detail
        else:
            assert e.code == OTAError.TLS_BUFFER and "up to %d bytes" % tls_buffer() in e.detail


def test_server_that_hangs_up_within_the_handshake():
    e = failed(-30592)
    assert type(e) is OSError and e.errno == -30592 and "https-ota probe" in str(e)


def test_record_too_big():
    e = record_error("the server ignores ranges")
    assert e.code == OTAError.TLS_BUFFER
    assert "up to %d bytes" % tls_buffer() in e.detail and "ignores ranges" in e.detail


# -- statuses


def test_status_error_tells_number_and_place():
    for status in (401, 403, 404, 416, 418, 503, 599):
        e = status_error(status, "https://host/fw.bin", "", 0)
        assert e.code == OTAError.HTTP_STATUS
        assert e.detail == "https://host/fw.bin answered %d" % status
    assert "expected 200 or 206" in status_error(300, "https://host/", "", 0).detail


def test_query_is_not_shown():
    assert "secret" not in status_error(403, "https://host/fw.bin?sig=secret&x?y", "", 0).detail


def test_words_of_the_server():
    assert status_error(404, "https://host/", "no such key", 0).detail.endswith("404: no such key")
    for page in ("<html><body>no", "<!DOCTYPE html>no", "<HTML>no"):
        assert "no" not in status_error(404, "https://host/", page, 0).detail


def test_server_that_says_when_to_come_back():
    assert "in 30 s" in status_error(503, "https://host/", "", 30).detail


# -- text


def test_bytes_as_text():
    assert as_text(b"hello\r\n\tworld!!", 13) == "hello world"
    assert as_text(bytearray(b"a\x00bcdefgh"), 9) == "a.bcdefgh"
    assert as_text(b"", 0) == ""
    assert as_text(b"   \r\n", 5) == ""


def test_bytes_that_are_no_text():
    assert as_text(bytes(20), 20) == ""
    assert as_text(b"\xe9\x02\x02\x20ab\x01\x40", 8) == ""
