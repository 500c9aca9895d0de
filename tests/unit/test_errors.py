# errors.py: one exception, many codes.

from fakenet import Without, raises
from https_ota.errors import OTAError, as_text, refuse
from https_ota.memory import no_memory


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


def test_text_names_the_code_and_then_what_to_do():
    from https_ota.words import advice

    for name, code in codes().items():
        first, second = str(OTAError(code, "why")).split("\n")
        assert first == name + ": why"
        assert second == advice(name) and second[-1] == "." and len(second) > 15
        assert repr(OTAError(code, "why")) == "OTAError: %s: why\n%s" % (name, second)


def test_text_without_advice():
    for name, code in codes().items():
        e = OTAError(code, "why")
        for error in (ImportError, MemoryError):
            with Without("words", error=error):
                assert str(e) == name + ": why"
                assert repr(e) == "OTAError: " + name + ": why"


def test_no_memory_tells_how_much_there_is():
    e = no_memory()
    assert e.code == OTAError.MEMORY
    words = e.detail.replace(",", "").split()
    figures = [int(word) for word in words if word.isdigit()]
    assert len(figures) == 3 and figures[1] >= figures[2] > 0, e.detail


def test_a_wrong_value_is_refused_by_name():
    for value, kind in ((None, ValueError), (5, ValueError), (1.5, ValueError), ("x", TypeError)):
        e = raises(kind, refuse, "size", "bytes", value)
        assert e.args[0] == "size: expected bytes, got %r" % (value,)


def test_text_is_shown_and_noise_is_not():
    for data, text in (
        (b"ab\r\n  c\td", "ab c d"),
        (b"abcd\0", "abcd."),
        (b"ab\0\xff", ""),
        (b"", ""),
    ):
        assert as_text(data, len(data)) == text
    assert as_text(bytearray(b"abcdef"), 3) == "abc"


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
