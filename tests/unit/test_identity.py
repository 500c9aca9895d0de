# download.py: is it the same file still? Validators of both kinds, missing ones, mirrors with their own; and http.py's
# identity() of URLs.

from fakenet import Net, opened, patiently, use
from https_ota import OTA, OTAError
from https_ota.net.download import Download
from https_ota.net.url import identity
from makeimage import noise

FILE = noise(2000)
OTHER = noise(2000, 9)
URL = "http://host/fw.bin"
OLD = b"Mon, 01 Jan 2024 00:00:00 GMT"
NEW = b"Tue, 02 Jan 2024 00:00:00 GMT"


def lines(etag=None, modified=None):
    out = b""
    if etag is not None:
        out += b"ETag: " + etag + b"\r\n"
    if modified is not None:
        out += b"Last-Modified: " + modified + b"\r\n"
    return out


def whole(extra=b"", data=FILE):
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (extra, len(data)) + data


def part(first, last, extra=b"", data=FILE):
    head = b"HTTP/1.1 206 P\r\n%sContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
    return head % (extra, first, last, len(data), last + 1 - first) + data[first : last + 1]


def rest(source):
    buf = bytearray(300)
    data = b""
    while True:
        n = patiently(source, source.readinto, buf)
        if not n:
            source.close()
            return data
        data += buf[:n]


def conditions(sent):
    return [line for line in sent.decode().split("\r\n") if line.startswith("If-")]


def source(**options):
    return Download(URL, insecure=True, **options)


# Every ETag a server may send: strong, weak, and without quotes, like a date, a number, a kind.
ETAGS = (
    b'"a"',
    b'""',
    b'"M"',
    b'W/"a"',
    b"0x8D4BCC2E4835CD0",
    b"a",
    b"M",
    b"E",
    b"5",
    b"'a'",
    b'"open',
    OLD,
    b"MMon, 01 Jan 2024 00:00:00 GMT",
    b"W/a",
)


# -- a validator keeps its kind


def test_validators_are_what_came():
    for etag in ETAGS:
        for modified in (None, OLD):
            use(Net(whole(lines(etag, modified))))
            download = source()
            opened(download)
            assert download.validator == b"E" + etag
            download.close()
    use(Net(whole(lines(None, OLD))))
    download = source()
    opened(download)
    assert download.validator == b"M" + OLD
    use(Net(whole()))
    download = source()
    opened(download)
    assert download.validator is None


def test_what_is_asked_with_each():
    for etag in ETAGS:
        net = use(Net(b"HTTP/1.1 304 N\r\n\r\n"))
        download = source()
        assert opened(download, 0, b"E" + etag) == 304
        assert conditions(net.sent[0]) == ["If-None-Match: " + etag.decode()]
        net = use(Net(part(1000, 1999, lines(etag))))
        download = source()
        opened(download, 1000, b"E" + etag, 2000)
        quoted = etag[:1] == b'"' == etag[-1:]
        assert conditions(net.sent[0]) == (["If-Range: " + etag.decode()] if quoted else [])
        assert download.position == 1000 and rest(download) == FILE[1000:]
        net = use(Net(part(1000, 1999, lines(etag + b"2", OLD), OTHER), whole(data=OTHER)))
        download = source()
        opened(download, 1000, b"E" + etag, 2000)
        assert download.position == 0 and rest(download) == OTHER
    net = use(Net(part(1000, 1999, lines(None, OLD))))
    download = source()
    opened(download, 1000, b"M" + OLD, 2000)
    assert conditions(net.sent[0]) == ["If-Range: " + OLD.decode()]
    assert rest(download) == FILE[1000:]


def test_validators_of_another_version_are_not_relied_on():
    for old in (b'"a"', b'W/"a"', b"Sun, 01 Jan 2023", b"0x8D", b""):
        net = use(Net(whole(lines(b'"a"'))))
        download = source()
        assert opened(download, 1000, old, 2000) == 200
        if old:
            assert download.position == 0 and b"Range" not in net.sent[0]
        use(Net(whole(lines(b'"a"'))))
        assert opened(source(), 0, old, 2000) == 200
        assert conditions(net.sent[0]) == []


# -- a date is weak


def test_no_server_is_asked_by_a_date():
    """It would say 304 of an older file, and of another one of the same second: what is in the file decides."""
    for answer in (
        lines(None, OLD),  # the same date and length
        lines(b'"a"', OLD),
        lines(None, NEW),
        lines(None, b"Sun, 31 Dec 2023 00:00:00 GMT"),
        lines(None, OLD.lower()),
        lines(OLD),
        b"",
    ):
        for size in (0, 1000):
            first = part(0, 999, answer) if size else whole(answer)
            net = use(Net(first))
            download = source(request_size=size)
            got = opened(download, 0, b"M" + OLD, 2000)
            assert got == (206 if size else 200), answer
            assert conditions(net.sent[0]) == []
            download.close()
            assert net.open == 0


def test_equal_date_and_another_length():
    for total in (1999, 2001, None, 0):
        use(Net(whole(lines(None, OLD))))
        assert opened(source(), 0, b"M" + OLD, total) == 200
    use(Net(b"HTTP/1.1 200 OK\r\n" + lines(None, OLD) + b"\r\n" + FILE))
    assert opened(source(), 0, b"M" + OLD, 2000) == 200


def test_server_that_ignores_the_condition():
    for etag, answer, status in (
        (b'"a"', lines(b'"a"', NEW), 304),
        (b'W/"a"', lines(b'W/"a"'), 304),
        (b'"a"', lines(b'"b"', OLD), 200),
        (b'"a"', lines(None, OLD), 200),
    ):
        net = use(Net(whole(answer)))
        download = source()
        assert opened(download, 0, b"E" + etag, 2000) == status
        download.close()
        assert net.open == 0
        use(Net(whole(answer)))
        assert opened(source(), 0, b"E" + etag) == 200


def test_what_was_known_may_be_read_all_the_same():
    """find.py asks again when the slot does not hold what it should."""
    use(Net(whole(lines(b'"a"')), whole(lines(b'"a"'))))
    download = source()
    assert opened(download, 0, b'E"a"', 2000) == 304
    assert opened(download) == 200
    assert rest(download) == FILE


def test_going_on_by_a_date():
    for answer, position in (
        (part(1000, 1999, lines(None, OLD)), 1000),
        (whole(lines(None, OLD)), 1000),
        (part(1000, 1999), 1000),  # the server compared it, exactly
        (part(1000, 1999, lines(None, NEW), OTHER), 0),
        (part(1000, 1999, lines(b'"a"', NEW), OTHER), 0),
        (whole(lines(None, NEW), OTHER), 0),
        (whole(lines(), OTHER), 0),
        (whole(lines(None, OLD), OTHER + b"x"), 0),
        (part(1000, 2000, lines(None, OLD), OTHER + b"x"), 0),
        (b"HTTP/1.0 200 OK\r\n" + lines(None, OLD) + b"\r\n" + OTHER, 0),  # of any length
    ):
        use(Net(answer, whole(lines(None, NEW), OTHER)))
        download = source()
        opened(download, 1000, b"M" + OLD, 2000)
        assert download.position == position, answer[:100]
        assert rest(download) == (FILE[1000:] if position else OTHER)


# -- what is absent is not different


def fetch(*answers, **options):
    """Read a file in ranges of 1000 bytes; (data, how often it started over, the network)."""
    net = use(Net(*answers))
    download = source(request_size=1000)
    download.content_checked = options.get("checked", False)
    opened(download)
    data = b""
    buf = bytearray(300)
    changes = 0
    while True:
        try:
            n = patiently(download, download.readinto, buf)
        except OTAError as e:
            assert e.code == OTAError.CHANGED
            changes += 1
            data = b""
            continue
        if not n:
            download.close()
            assert net.open == 0
            return data, changes, net
        data += buf[:n]


BOTH = lines(b'"a"', OLD)


def test_parts_without_a_validator():
    for first, second in (
        (BOTH, b""),
        (lines(b'"a"'), b""),
        (lines(b'W/"a"'), b""),
        (lines(b"0x8D"), b""),
        (lines(None, OLD), b""),
        (b"", BOTH),
        (b"", lines(b'"a"')),
        (b"", lines(None, OLD)),
        (BOTH, lines(b'"a"')),
        (BOTH, lines(None, OLD)),
        (lines(b'"a"'), BOTH),
        (lines(None, OLD), BOTH),
        (lines(b'"a"'), lines(None, OLD)),  # nothing to compare
        (lines(None, OLD), lines(b'"a"')),
        (BOTH, lines(b'"a"', NEW)),  # two mirrors, one ETag
        (BOTH, lines(b'"\xff"')),
        (BOTH, lines(b'"' + b"x" * 300 + b'"')),
        (BOTH, lines(b"")),
        (lines(b'W/"a"'), lines(b'"a"')),  # Apache, while the file is young
        (lines(b'"a"'), lines(b'W/"a"')),
    ):
        data, changes, _ = fetch(part(0, 999, first) + part(1000, 1999, second))
        assert data == FILE and changes == 0, (first, second)


def test_what_is_missing_once_is_not_forgotten():
    def small(i, extra, data=FILE):
        return part(i, i + 499, extra, data)

    for first, then, last in (
        (lines(b'"a"'), b"", lines(b'"b"')),
        (lines(None, OLD), b"", lines(None, NEW)),
        (BOTH, lines(None, OLD), lines(b'"b"')),
        (BOTH, lines(b'"a"'), lines(None, NEW)),
        (lines(None, OLD), BOTH, lines(b'"b"', OLD)),
    ):
        answer = small(0, first) + small(500, then) + small(1000, last, OTHER)
        data, changes, _ = fetch(answer, part(0, 999, last, OTHER) + part(1000, 1999, last, OTHER))
        assert data == OTHER and changes == 1, (first, then, last)


def test_differences_are_found():
    for first, second in (
        (BOTH, lines(b'"b"', OLD)),
        (BOTH, lines(None, NEW)),
        (lines(b'"a"'), lines(b'"b"')),
        (lines(b'W/"a"'), lines(b'W/"b"')),
        (lines(b"0x8D"), lines(b"0x8E")),
        (lines(b'W/"a"'), lines(b'"b"')),
        (lines(None, OLD), lines(None, NEW)),
        (lines(None, OLD), lines(b'"a"', NEW)),
    ):
        for answer in (part(1000, 1999, second, OTHER), whole(second, OTHER)):
            data, changes, _ = fetch(
                part(0, 999, first) + answer,
                part(0, 999, second, OTHER) + part(1000, 1999, second, OTHER),
            )
            assert data == OTHER and changes == 1, (first, second)


def test_whole_file_without_the_validator_may_be_another():
    for first in (BOTH, lines(b'"a"'), lines(None, OLD), lines(b'W/"a"')):
        data, changes, _ = fetch(part(0, 999, first) + whole(b"", OTHER), whole(b"", OTHER))
        assert data == OTHER and changes == 1
    data, changes, _ = fetch(part(0, 999) + whole())
    assert data == FILE and changes == 0


def test_mirrors_where_the_content_is_known():
    for first, second in (
        (lines(b'"a"', OLD), lines(b'"b"', NEW)),
        (lines(b'"a"'), lines(b'W/"b"')),
        (lines(None, OLD), lines(None, NEW)),
        (lines(b'"a"'), b""),
    ):
        for answer in (part(1000, 1999, second), whole(second)):
            data, changes, net = fetch(part(0, 999, first) + answer, checked=True)
            assert data == FILE and changes == 0
            # Else a mirror would send all of it, each time.
            assert conditions(net.sent[0]) == []
        # Another length is another file.
        data, changes, _ = fetch(
            part(0, 999, first) + part(1000, 1999, second, OTHER + b"x"),
            whole(second, OTHER + b"x"),
            checked=True,
        )
        assert data == OTHER + b"x" and changes == 1


def test_a_session_that_knows_the_content_says_so():
    class Opener:
        header_size = 16
        can_replay = False
        begin = decrypt = finish = wipe = None

    for options, known in (
        ({"size": 5000, "sha256": bytes(32)}, True),
        ({"sha256": bytes(32)}, False),
        ({"size": 5000}, False),
        ({}, False),
        # There size and SHA-256 are of what is in the file, and a file sealed anew is another.
        ({"size": 5000, "sha256": bytes(32), "decrypt": Opener()}, False),
    ):
        assert OTA(URL, insecure=True, **options)._file.content_checked is known


# -- URLs


def test_query_is_part_of_a_file():
    for url in (
        "https://host/fw.bin",
        "https://host/fw.bin?id=1",
        "https://host/fw.bin?id=2&v=3",
        "https://host/fw.bin?a?b=c",
        "https://host/fw.bin?se=1&sp=2&sv=3",  # no Azure signature
        "https://host/fw.bin?Expires=7&Policy=beta",  # none at all
        "https://host/fw.bin?signature",
    ):
        if url.endswith("signature"):
            assert identity(url) == "https://host/fw.bin"
        else:
            assert identity(url) == url and identity(url + "#x") == url


def test_signatures_are_not():
    for query, left in (
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2Fb&X-Amz-Date=1&X-Amz-Signature=abc",
            "",
        ),
        ("versionId=7&x-amz-signature=abc&x-id=GetObject", "?versionId=7&x-id=GetObject"),
        ("AWSAccessKeyId=a&Signature=b%3D&Expires=1700000000", ""),
        ("X-Goog-Algorithm=a&X-Goog-Signature=b&generation=5", "?generation=5"),
        ("GoogleAccessId=a&Expires=1&Signature=b", ""),
        ("id=1&Expires=1&Signature=b&Key-Pair-Id=K", "?id=1"),
        ("Policy=a&Signature=b&Key-Pair-Id=K&Hash-Algorithm=SHA256", ""),
        ("sv=2022-11-02&st=1&se=2&sr=b&sp=r&sig=a%2Bb&snapshot=9", "?snapshot=9"),
        ("OSSAccessKeyId=a&Expires=1&Signature=b", ""),
        ("x-oss-date=1&x-oss-signature=a", ""),
        ("q-sign-algorithm=sha1&q-ak=a&q-sign-time=1&q-key-time=1&q-signature=a&q=1", "?q=1"),
    ):
        assert identity("https://host/fw.bin?" + query) == "https://host/fw.bin" + left, query
