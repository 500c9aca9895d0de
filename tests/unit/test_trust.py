# trust.py: certificates and keys as callers have them.

import tls
from binascii import a2b_base64

from fakenet import raises
from https_ota.trust import context, to_der

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
