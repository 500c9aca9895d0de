# trust.py: certificates and keys as callers have them.

import tls
from binascii import a2b_base64

from fakenet import fails, raises
from https_ota.der import to_der
from https_ota.net.tls import context

# openssl ecparam -name prime256v1 -genkey -noout -out key.pem
# openssl req -x509 -key key.pem -out cert.pem -days 36500 -subj /CN=t -set_serial 1
CERT = """\
-----BEGIN CERTIFICATE-----
MIIBXDCCAQKgAwIBAgIBATAKBggqhkjOPQQDAjAMMQowCAYDVQQDDAF0MCAXDTI2
MTEyNDAwMTgzOFoYDzIxMjYxMDMxMDAxODM4WjAMMQowCAYDVQQDDAF0MFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAEND6taWF/vgjvZ92H96p/bqsQGzxuMNxDJhfy
Yrw07h61eDcNyVmci2QQkzu8buz2qNBRQdYmgyje53CPKj8mmKNTMFEwHQYDVR0O
BBYEFPS9Xvg+li1lXP19oXShh5KdTPCkMB8GA1UdIwQYMBaAFPS9Xvg+li1lXP19
oXShh5KdTPCkMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAL5q
ogqhYNFkiZIziRbaQP8D9j2nkExoTNkzXiUhSEdXAiB+g/ACq68cQ2NA3QO6/UMz
2KQ4FhtPbPV+EAAhvGkEmA==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPG8qdkbeWlRqJ/rw6mZJ6xQl/iiJrcYMnToNhw/RlKIoAoGCCqGSM49
AwEHoUQDQgAEND6taWF/vgjvZ92H96p/bqsQGzxuMNxDJhfyYrw07h61eDcNyVmc
i2QQkzu8buz2qNBRQdYmgyje53CPKj8mmA==
-----END EC PRIVATE KEY-----
"""


def payload(pem):
    return a2b_base64("".join(line for line in pem.split("\n") if not line.startswith("-")))


CERT_DER = payload(CERT)
KEY_DER = payload(KEY)


# -- PEM and DER


def test_pem_as_text_or_bytes():
    for data in (CERT, CERT.encode(), bytearray(CERT.encode()), memoryview(CERT.encode())):
        assert to_der(data, "cadata") == [CERT_DER]


def test_pem_from_windows():
    text = CERT.replace("\n", "\r\n")
    little = bytes(b for c in text for b in (ord(c), 0))
    big = bytes(b for c in text for b in (0, ord(c)))
    for data in (
        text,
        "\ufeff" + text,
        b"\xef\xbb\xbf" + text.encode(),
        b"\xff\xfe" + little,
        b"\xfe\xff" + big,
        b"# Schl\xfcssel\r\n" + text.encode(),
        text.replace("\r\n", "\r"),
    ):
        assert to_der(data, "cadata") == [CERT_DER], data[:10]


def test_der_in_any_buffer():
    for data in (CERT_DER, bytearray(CERT_DER), memoryview(CERT_DER)):
        assert to_der(data, "cadata") == [CERT_DER]


def test_line_ends():
    for end in ("\r\n", "\n\n", " \n"):
        assert to_der(CERT.replace("\n", end), "cadata") == [CERT_DER]
    assert to_der(CERT.strip(), "cadata") == [CERT_DER]


def test_many_in_one():
    assert to_der(CERT + CERT + CERT, "cadata") == [CERT_DER] * 3


def test_text_around():
    # As openssl and browsers write them.
    for before in ("# my CA\n", "0 s:CN = t\n   i:CN = t\n", "\n\n", "subject=CN = t\n", "\ufeff"):
        assert (
            to_der(before + CERT + "\nbetween\n" + CERT + "after\n", "cadata") == [CERT_DER] * 2
        ), before


def test_lists():
    assert to_der([CERT, CERT_DER], "cadata") == [CERT_DER] * 2
    assert to_der((CERT + CERT, [CERT_DER]), "cadata") == [CERT_DER] * 3


def test_curve_before_the_key_is_left_out():
    params = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert to_der(params + KEY, "key") == [KEY_DER]


def test_junk_is_refused_by_name():
    for junk in ("", b"", "junk", b"\0\1\2", "-----BEGIN nothing", b"<html>"):
        assert "cadata" in str(raises(ValueError, to_der, junk, "cadata")), junk


def test_junk_in_a_list_is_refused():
    raises(ValueError, to_der, [CERT, "junk"], "cadata")


def test_unfinished_pem_is_refused():
    for n in (20, 40, 200, len(CERT) - 28):
        assert "key" in str(raises(ValueError, to_der, CERT[:n], "key")), n
    assert "end" in str(raises(ValueError, to_der, CERT + CERT[:200], "cadata"))


def test_bad_base64_is_refused():
    bad = CERT.replace("MIIB", "MII")
    assert "base64" in str(raises(ValueError, to_der, bad, "cadata"))


def test_other_types_are_refused():
    for other in (None, 5, {"ca": CERT}, object()):
        assert "cadata" in str(raises(TypeError, to_der, other, "cadata"))


# -- the context


def test_server_is_verified():
    for cadata in (CERT, CERT_DER, [CERT, CERT_DER]):
        assert context(cadata, False, None, None).verify_mode == tls.CERT_REQUIRED


def test_nothing_to_verify_against():
    raises(TypeError, context, None, False, None, None)
    assert "cadata" in str(raises(ValueError, context, [], False, None, None))


def test_insecure():
    assert context(None, True, None, None).verify_mode == tls.CERT_NONE
    # Who says so does not need the CA data to be good.
    assert context("junk", True, None, None).verify_mode == tls.CERT_NONE


def test_own_certificate():
    for cert, key in ((CERT, KEY), (CERT_DER, KEY_DER), (CERT.encode(), KEY_DER)):
        context(CERT, False, cert, key)


CRL = "-----BEGIN X509 CRL-----\nMAAA\n-----END X509 CRL-----\n"
JUNK = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"
# openssl req -x509 -newkey ed25519 -noenc -days 36500 -subj /CN=t -out cert.pem
ED25519 = """\
-----BEGIN CERTIFICATE-----
MIIBLjCB4aADAgECAhR2SUClYqrJE9ZFaCLr2wErnuDFqzAFBgMrZXAwDDEKMAgG
A1UEAwwBdDAgFw0yNjExMjcwNTUxMDdaGA8yMTI2MTEwMzA1NTEwN1owDDEKMAgG
A1UEAwwBdDAqMAUGAytlcAMhAGd+mGomZfYe0mBhpML1zYMQT40TIRxdJjHcSew6
ZD13o1MwUTAdBgNVHQ4EFgQUTSiIkbzQVnwGxZP/8Z7M3Z5rGQYwHwYDVR0jBBgw
FoAUTSiIkbzQVnwGxZP/8Z7M3Z5rGQYwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXAD
QQBuix0sToxRRf2+dOFxme/c1sqMRv4uklZsuNS4/JWGUFo+SEKI+kbLTGBC7Zix
qBm9ACcxW1BB298dbzCgqi4G
-----END CERTIFICATE-----
"""
BRAINPOOL = """\
-----BEGIN CERTIFICATE-----
MIIB8zCCAVigAwIBAgIUERykvkPbp6EYVX0BjWa0z4+2SEcwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBdDAgFw0yNjExMjcwNTUxMDdaGA8yMTI2MTEwMzA1NTEwN1ow
DDEKMAgGA1UEAwwBdDCBmzAUBgcqhkjOPQIBBgkrJAMDAggBAQ4DgYIABDcLxCcC
WFxYNKeavy4Zu3HwK/pSZXAkoent9uYjwx5TfQNRDlmmrdIOszp7wDpYnhWEh6yn
YapjoDDRGkxh/TEzQ5DI201eGXm0jpbGnhWxuc2g9Iz7lBPk46yz/1uK4yAXiPwR
qzVEhVrtqRYPfZFeKMxJ+lnS/Xyik/YlW2P2o1MwUTAdBgNVHQ4EFgQUKUEC5Sez
7qhMMnRGFaEJ4cYZghEwHwYDVR0jBBgwFoAUKUEC5Sez7qhMMnRGFaEJ4cYZghEw
DwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgOBiAAwgYQCQBaM7VCqRyQSHpdQ
DBdlMO54hHSSv5cK13jmiMoXYSoPSyropDV3HlIse9Ijeh1qrUYwYEqZf4KCs83f
FX9gASkCQEWZa7SgBeZvKDzzH3hEIyEPRx87SO5Qx8CMYJWhkPXJrNG/n3nFibKW
ar7ub9X58n5zDJnjFaNbehDYy8ygzWE=
-----END CERTIFICATE-----
"""
PARAMS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
BAD = (CRL, KEY, JUNK, ED25519, PARAMS, BRAINPOOL, "junk", JUNK.replace("MAAA", "M"), CERT[:200])


def test_one_bad_root_among_good_ones():
    """What the library can't parse, and what is no certificate: in a bundle or a list, in any place."""
    for bad in BAD:
        end = "" if bad.endswith("\n") else "\n"
        for data in (
            CERT + bad,
            bad + end + CERT,
            CERT + bad + end + CERT,
            [CERT, bad],
            [bad, CERT],
            [bad, CERT_DER],
            (CERT_DER, [bad]),
        ):
            assert context(data, False, None, None).verify_mode == tls.CERT_REQUIRED, bad
    context("".join(BAD[:5]) + CERT, False, None, None)
    context(
        [CERT_DER[:100], CERT_DER[:100] + bytes(50) + CERT_DER[150:], CERT_DER], False, None, None
    )


def test_none_is_left():
    for bad, words in (
        (CRL, "X509 CRL: "),
        (KEY, "EC PRIVATE KEY: "),
        (JUNK, "CERTIFICATE: "),
        (ED25519, "CERTIFICATE: "),
        (
            CRL + KEY + JUNK,
            "X509 CRL: invalid cert; EC PRIVATE KEY: invalid cert; CERT",
        ),
        ([ED25519, "junk"], "CERTIFICATE: "),
        (["junk", ED25519], "neither PEM nor DER"),
        (CERT[:200], "a PEM block does not end"),
        (CERT.replace("MIIB", "MII"), "a PEM block is not base64"),
    ):
        message = str(raises(ValueError, context, bad, False, None, None))
        assert message.startswith("cadata: ") and words in message, message


def test_certificate_and_key_in_one_text():
    for text in (
        CERT + KEY,
        KEY + CERT,
        PARAMS + KEY + CERT,
        CERT + PARAMS + KEY,
    ):
        context(CERT, False, text, text)
        context(CERT, False, text.encode(), text.encode())
        context(CERT, False, text, KEY)
        context(CERT, False, CERT, text)
    assert "key: no PRIVATE KEY in it" in str(raises(ValueError, context, CERT, False, CERT, CERT))
    assert "cert: no CERTIFICATE in it" in str(raises(ValueError, context, CERT, False, KEY, KEY))


def test_chain_and_key_in_one_text():
    context(CERT, False, KEY + CERT + CERT, KEY + CERT + CERT)


def test_what_the_tls_library_refuses_is_named():
    bad = CERT_DER[:100] + bytes(50) + CERT_DER[150:]
    assert "cadata" in str(raises(ValueError, context, bad, False, None, None))
    assert "cert" in str(raises(ValueError, context, CERT, False, bad, KEY))
    assert "key" in str(raises(ValueError, context, CERT, False, CERT, KEY_DER[:50]))
    assert "key" in str(raises(ValueError, context, CERT, False, CERT, "junk"))


def test_chain_of_own_certificates_as_a_list():
    der = b"\x30\x00"
    e = raises(ValueError, context, None, True, [der, der], der)
    assert str(e) == "cert: expected a chain as one PEM text, got a list", e


# -- want of memory


def test_context_that_memory_does_not_suffice_for():
    """A board says it by a number of its own, as that of a seed that can't be had."""
    from https_ota import OTAError
    from https_ota.net import tls as ours

    class Short:
        PROTOCOL_TLS_CLIENT = tls.PROTOCOL_TLS_CLIENT

        @staticmethod
        def SSLContext(protocol):
            raise OSError(52)

    ours.tls = Short
    try:
        assert "certificates" in fails(OTAError.MEMORY, context, CERT, False, None, None)
    finally:
        ours.tls = tls


def test_certificate_that_memory_does_not_suffice_for():
    """It is told as one that is invalid. Where there is memory, it is."""
    import esp32
    from https_ota import OTAError

    if not hasattr(esp32, "__file__"):
        raise SystemExit("SKIP: this chip's own module stays as it is")
    bad = CERT_DER[:-9]
    real = esp32.idf_heap_info
    try:
        for largest in (4095, 4096, 90000):
            heaps = [(240, 4, 0, 4), (113840, largest + 9, largest, 180)]
            esp32.idf_heap_info = lambda which, heaps=heaps: heaps
            if largest < 4096:
                detail = fails(OTAError.MEMORY, context, bad, False, None, None)
                assert "the largest block 4095" in detail
            else:
                assert "cadata: " in str(raises(ValueError, context, bad, False, None, None))
        # One that is good is taken, and a board without that function says what it knows.
        context(CERT, False, None, None)
        del esp32.idf_heap_info
        raises(ValueError, context, bad, False, None, None)
    finally:
        esp32.idf_heap_info = real
