# Values that no option can have: each is refused by its name, before any server is asked.

from https_ota import OTA, update

URL = "https://127.0.0.1:1/fw.bin"
CA = b"\x30\x00"

WRONG = {
    "sha256": (5, "zz", "ab" * 31, b"x", [], 1.5, "ü" * 64, True, [1] * 32),
    "size": ("5", -1, 1.5, b"5", [1], object()),
    "trusted_keys": (5, "zz", b"x", [5], {}, 1.5, True, object()),
    "decrypt": (5, "key", b"x", [], object()),
    "check": (5, "x", [5], (None, 5), True, {}),
    "event": (5, "x", [1], True),
    "progress": (5, "x", [1], True),
    "partition": (5, b"ota_1", [], True, object()),
    "staging": (5, b"x", [], object()),
    "buffer": (5, "x" * 4096, bytes(4096), [0] * 4096, bytearray(100), bytearray(0), 1.5),
    "wlan": (5, "wlan", True),
    "wdt": (5, "wdt", True),
    "cadata": (5, 1.5, True, {}, "x", b"", [5], [], object()),
    "pin": (5, "zz", b"x", [5], True, [], "sha256//x", object()),
    "cert": (5, True, object(), "x"),
    "headers": (5, "a: b", ["a"], [("a", "b")], True, {5: "x"}, {"": "x"}, {"a b": "x"}),
    "auth": (5, "user:password", "ab", ("a",), ("a", "b", "c"), True, ("a", "b", "c", "d"), {}),
    "http_hook": (5, "x", True),
    "request_size": ("x", -1, 1.5, b"", [], 100),
    "timeout_s": ("15", -1, 0, [], b"", None),
    "stall_s": ("15", [], None),
    "deadline_s": ("15", [], b"x"),
}
# Any value is a yes or a no.
FLAGS = ("retry_failed", "resume", "verify_spi_mode", "bulk_erase", "insecure")


def refusal(url, options):
    """What begin() or the class says to these, nothing being asked for."""
    try:
        OTA(url, **options).begin()
    except (TypeError, ValueError) as e:
        return str(e)
    return ""


def test_wrong_values():
    for name, values in WRONG.items():
        for value in values:
            options = {"cadata": CA, name: value}
            if name == "cert":
                options = {"insecure": True, "cert": value, "key": b"\x30\x00"}
            if name == "staging":
                options["partition"] = "vfs"
            said = refusal(URL, options)
            assert said.startswith(name), (name, value, said)
            assert "object has no attribute" not in said and "non-hex" not in said, said


def test_wrong_key():
    for key in (5, True, object(), "x"):
        said = refusal(URL, {"insecure": True, "cert": b"\x30\x00", "key": key})
        assert "key" in said, (key, said)


def test_wrong_urls():
    for url in (None, b"https://h/x", 5, "", [], "h/x", "ftp://h/x", "https://", object(), True):
        said = refusal(url, {"cadata": CA})
        assert "url" in said.lower() or "https://" in said, (url, said)
        again = ""
        try:
            update(url, cadata=CA)
        except (TypeError, ValueError) as e:
            again = str(e)
        assert again == said


def test_every_option_is_here():
    from https_ota.repl import _OPTIONS

    assert sorted(_OPTIONS.split()) == sorted(list(WRONG) + list(FLAGS) + ["key"])


def test_what_says_nothing_is_taken():
    for name in ("event", "progress", "headers", "http_hook", "wdt", "size"):
        for value in (None, 0, False):
            OTA(URL, **{"cadata": CA, name: value})
    for name in ("retry_failed", "resume", "verify_spi_mode", "bulk_erase", "insecure"):
        for value in (None, 0, 1, "yes", True, False):
            OTA(URL, **{"cadata": CA, name: value})
    OTA(URL, cadata=CA, deadline_s=0, stall_s=0.5, timeout_s=1, request_size=0, auth=["a", "b"])
