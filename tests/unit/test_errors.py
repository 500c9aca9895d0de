# errors.py: one exception, many codes.

from https_ota.errors import OTAError


def codes():
    return {n: getattr(OTAError, n) for n in dir(OTAError) if n[0] != "_" and n[0].isupper()}


def test_every_code_has_a_number_of_its_own():
    found = codes()
    assert len(found) > 20
    assert len(set(found.values())) == len(found)
    for name, code in found.items():
        assert isinstance(code, int) and code > 0, name


def test_code_and_detail():
    e = OTAError(OTAError.CHIP, "the image is for ESP32-S3")
    assert e.code == OTAError.CHIP and e.detail == "the image is for ESP32-S3"
    assert e.args == (OTAError.CHIP, "the image is for ESP32-S3")


def test_text_names_the_code():
    for name, code in codes().items():
        assert str(OTAError(code, "why")) == name + ": why"
        assert repr(OTAError(code, "why")) == "OTAError: " + name + ": why"


def test_text_of_a_code_without_name():
    assert str(OTAError(-7, "why")) == "why"


def test_is_no_oserror():
    e = OTAError(OTAError.STATE, "")
    assert isinstance(e, Exception)
    assert not isinstance(e, (OSError, ValueError))


def test_traceback_tells_code_and_detail():
    import io
    import sys

    out = io.StringIO()
    try:
        raise OTAError(OTAError.TOO_BIG, "too much")
    except OTAError as e:
        sys.print_exception(e, out)
    assert "TOO_BIG: too much" in out.getvalue()
