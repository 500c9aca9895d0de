# http.py: URLs, response heads, body framing.

from errno import ETIMEDOUT

from fakenet import Net, body, connection as answer, fails, patiently, raises, refused, use
from https_ota import OTAError
from https_ota.net.http import Connection
from https_ota.net.redirect import join_url
from https_ota.net.url import parse_url

OK = b"HTTP/1.1 200 OK\r\n"


# -- URLs


def test_urls_are_split():
    for url, parts in (
        ("https://example.com/fw.bin", (True, "example.com", 443, "/fw.bin")),
        (
            "HTTPS://example.com:8443/a/b?c=d&e=%20f",
            (True, "example.com", 8443, "/a/b?c=d&e=%20f"),
        ),
        ("http://10.0.0.1:8000", (False, "10.0.0.1", 8000, "/")),
        ("https://example.com?x=1/2", (True, "example.com", 443, "/?x=1/2")),
        ("https://example.com/fw.bin#part", (True, "example.com", 443, "/fw.bin")),
        ("https://[2001:db8::1]:444/x", (True, "2001:db8::1", 444, "/x")),
        ("https://[2001:db8::1]/x", (True, "2001:db8::1", 443, "/x")),
        ("https://[2001:DB8::A]:0444/x", (True, "2001:db8::a", 444, "/x")),
        ("https://EXAMPLE.com:443/X", (True, "example.com", 443, "/X")),
        ("https://Example.Com./x", (True, "example.com", 443, "/x")),
        ("https://example.com:/x", (True, "example.com", 443, "/x")),
        ("https://10.0.0.1./x", (True, "10.0.0.1", 443, "/x")),
        ("https://a_b.example/x?y#z?#", (True, "a_b.example", 443, "/x?y")),
    ):
        assert parse_url(url) == parts, url


def test_bad_urls_are_refused():
    for url, word in (
        ("ftp://host/x", "https://host/path"),
        ("host/x", "https://host/path"),
        ("https://", "https://host/path"),
        ("https:///x", "no host"),
        ("https://./x", "no host"),
        ("https://:443/x", "no host"),
        ("https://m%c3%bc.example/x", "xn--"),
        ("https://host:-1/x", "port"),
        ("https://host:4 4/x", "percent"),
        ("https://host:0/x", "port"),
        ("https://host:x/", "port"),
        ("https://host:99999/", "port"),
        ("https://me:secret@host/x", "auth="),
        ("https://host/a b", "percent"),
        ("https://host/a\r\nX: y", "percent"),
        ("https://host/\xfc", "percent"),
    ):
        assert word in str(raises(ValueError, parse_url, url)), url


def test_secrets_in_a_url_are_not_repeated():
    for url in (
        "https://me:secret@host/x",
        "ftp://me:secret@host/x",
        "me:secret@host/x",
        "ftp://host/x?token=secret",
        "host/x?token=secret",
        "https:///x?token=secret",
        "https://host:0/x?token=secret",
        "https://host/x?token=secret word",
    ):
        assert "secret" not in str(raises(ValueError, parse_url, url)), url


def test_locations_are_joined():
    base = "https://host:8443/a/b?q=1"
    for location, url in (
        ("https://other/x", "https://other/x"),
        ("//other/x", "https://other/x"),
        ("/x?y", "https://host:8443/x?y"),
        ("c", "https://host:8443/a/c"),
        ("../c", "https://host:8443/c"),
        ("../../c", "https://host:8443/c"),
        ("./c/./d", "https://host:8443/a/c/d"),
        ("c/..", "https://host:8443/a/"),
        ("?z", "https://host:8443/a/b?z"),
        ("/x?u=https://other/", "https://host:8443/x?u=https://other/"),
        ("x?u=https://other/", "https://host:8443/a/x?u=https://other/"),
        # A URL in a path: mirrors and caches have these.
        ("/mirror/https://other/x", "https://host:8443/mirror/https://other/x"),
        ("mirror/https://other/x", "https://host:8443/a/mirror/https://other/x"),
        ("./https://other/x", "https://host:8443/a/https://other/x"),
        ("https://other/m/http://x/y", "https://other/m/http://x/y"),
        # What is no URL until it is encoded.
        ("/a b", "https://host:8443/a%20b"),
        ("/ä/漢?ü=ß", "https://host:8443/%C3%A4/%E6%BC%A2?%C3%BC=%C3%9F"),
        ('/"<>^`{}|~', "https://host:8443/%22%3C%3E%5E%60%7B%7D|~"),
        ("/x?\"'<>^`{}|\\", "https://host:8443/x?%22%27%3C%3E^`{}|\\"),
        ("/100%25/%zz%", "https://host:8443/100%25/%zz%"),
        ("/a\x7f\0b", "https://host:8443/a%7F%00b"),
        # What browsers drop or turn round.
        ("  /x\t", "https://host:8443/x"),
        ("/x\ty\r\nz", "https://host:8443/xyz"),
        ("/x#part", "https://host:8443/x"),
        ("/x#a?b#c", "https://host:8443/x"),
        ("/x?y#a", "https://host:8443/x?y"),
        ("#a", "https://host:8443/a/b?q=1"),
        ("", "https://host:8443/a/b?q=1"),
        ("?", "https://host:8443/a/b?"),
        ("\\x\\y", "https://host:8443/x/y"),
        ("\\\\other\\x", "https://other/x"),
        ("https:\\\\other\\x?a\\b", "https://other/x?a\\b"),
        # Schemes in any case; one like that of the base may be followed by a path.
        ("HTTPS://Other/X", "https://Other/X"),
        ("hTTp://other", "http://other/"),
        ("https:/x", "https://host:8443/x"),
        ("https:c", "https://host:8443/a/c"),
        ("http:other/x", "http://other/x"),
        ("http:/other/x", "http://other/x"),
        ("https://other?x", "https://other/?x"),
        ("https://other#x", "https://other/"),
        ("HTTPS:", "https://host:8443/a/b?q=1"),
        # Names of files with a colon, which are no schemes that we know.
        ("fw:v2.bin", "https://host:8443/a/fw:v2.bin"),
        ("/fw:v2.bin", "https://host:8443/fw:v2.bin"),
        ("?u=a:b//c", "https://host:8443/a/b?u=a:b//c"),
        # Dots.
        (".", "https://host:8443/a/"),
        ("..", "https://host:8443/"),
        ("/a/%2E/%2e%2E/b/.%2e/c", "https://host:8443/c"),
        ("https://other/a/../b/./", "https://other/b/"),
        ("/a//b/../c", "https://host:8443/a//c"),
        ("/...", "https://host:8443/..."),
    ):
        assert join_url(base, location) == url, (location, join_url(base, location))


def test_bases_of_any_kind():
    for base, location, url in (
        ("https://host", "x", "https://host/x"),
        ("https://host", "?x", "https://host/?x"),
        ("https://host?a/b", "x", "https://host/x"),
        ("https://host?a/b", "", "https://host/?a/b"),
        ("https://host/a#b/c", "x", "https://host/x"),
        ("https://host/a?b=/c/d", "x", "https://host/x"),
        ("HTTPS://Host/a/", "x", "https://Host/a/x"),
        ("HTTPS://Host/a/", "https:x", "https://Host/a/x"),
        ("http://host/a", "//other/x", "http://other/x"),
        ("https://[::1]:44/a", "/x", "https://[::1]:44/x"),
        ("https://host/m/https://other/a", "x", "https://host/m/https://other/x"),
    ):
        assert join_url(base, location) == url, (base, location, join_url(base, location))


def test_other_schemes_lead_nowhere():
    for location in (
        "ftp://other/x",
        "data://x",
        "FTP://host/x",
        "://x",
        "ws://host/x#y",
        # Nor does an empty host.
        "///other/x",
        "https:////other/x",
        "https://",
        "//",
    ):
        raises(ValueError, parse_url, join_url("https://host/a", location))


def test_what_a_location_comes_to_can_be_parsed_or_is_refused():
    """Any bytes: it is a URL of characters that may be in a request line, or a ValueError."""
    x = 7
    letters = "aZ0/:.?#%\\@[] \t\r\n\0\x7f\"'é漢https://http:"
    for _ in range(3000):
        text = ""
        for _ in range(x % 13):
            x = (x * 1103515 + 12345) & 0xFFFFFFF
            text += letters[(x >> 8) % len(letters)]
        x = (x * 1103515 + 12345) & 0xFFFFFFF
        url = join_url("https://host/a/b?c", text)
        try:
            _, host, _, target = parse_url(url)
        except ValueError:
            continue
        assert target.startswith("/") and host == host.lower()
        assert all("!" <= c <= "~" for c in host + target), (text, url)
        assert join_url("https://x/", url) == url, (text, url)


# -- heads


def test_head_is_read():
    conn = answer(OK + b"Content-Length: 3\r\nX-Other: y\r\nETag: z\r\n\r\nabcdef")
    assert conn.response() == 200 and conn.length == 3
    assert body(conn) == b"abc"
    assert conn.ready()


def test_names_and_values_in_any_case_and_spacing():
    conn = answer(OK + b"CONTENT-LENGTH:3\r\nconnection: \t Close\r\n\r\nabc")
    conn.response()
    assert body(conn) == b"abc"
    assert not conn.ready()


def test_lines_may_end_in_lf_alone():
    conn = answer(b"HTTP/1.1 200 OK\nContent-Length: 1\n\na")
    conn.response()
    assert body(conn) == b"a"


def test_interim_responses_are_passed_over():
    conn = answer(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\na"
    )
    assert conn.response() == 200
    assert body(conn) == b"a"


def test_endless_interim_responses_are_an_error():
    assert "up to 16384" in refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)


def test_no_content_and_not_modified_have_no_body():
    for status in (204, 304):
        conn = answer(b"HTTP/1.1 %d x\r\nContent-Length: 5\r\n\r\nabcde" % status)
        assert conn.response() == status
        assert body(conn) == b"" and conn.ready()


def test_http_1_0_closes():
    conn = answer(b"HTTP/1.0 200 ok\r\nContent-Length: 1\r\n\r\na")
    conn.response()
    assert body(conn) == b"a" and not conn.ready()


def test_http_1_0_keep_alive_is_kept():
    conn = answer(b"HTTP/1.0 200 ok\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na")
    conn.response()
    assert body(conn) == b"a" and conn.ready()


def test_not_http_shows_what_came():
    assert "SSH-2.0-OpenSSH" in refused(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert "HTTP/2 200" in refused(b"HTTP/2 200\r\n\r\n")


def test_bad_status_lines_are_errors():
    for line in (
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 abc",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1 -20",
        b"HTTP/1.1",
        b"HTTP/\xff\xff\xff\xff",
        b"\r\nHTTP/1.1",
        b"HTTP/1.1 2000 x",
    ):
        refused(line + b"\r\n\r\n")


def test_head_without_end_is_an_error():
    assert "closed the connection" in refused(OK + b"X: y\r\n", OTAError.DISCONNECTED)
    assert "closed the connection" in refused(b"", OTAError.DISCONNECTED)


def test_oversized_heads_are_errors():
    assert "up to 16384" in refused(OK + b"X: y\r\n" * 5000)
    assert "up to 16384" in refused(OK + b"X: " + b"y" * 20000 + b"\r\n\r\n")


def test_a_long_line_does_not_hide_the_next():
    conn = answer(OK + b"X: " + b"y" * 5000 + b"\r\nContent-Length: 2\r\n\r\nab")
    conn.response()
    assert body(conn) == b"ab"


def test_line_without_colon_is_passed_over_unless_it_frames():
    conn = answer(OK + b"nonsense\r\nContent-Length: 1\r\nHTTP/1.1 200 OK\r\n\r\na")
    conn.response()
    assert body(conn) == b"a" and conn.ready()
    for line in (b"Content-Length 1", b"transfer-encoding chunked"):
        assert line.decode() in refused(OK + line + b"\r\n\r\na")


def test_bad_lengths_are_errors():
    for value in (b"x", b"", b"-1", b"1x", b"1,2", b"1,", b"99999999999999999999"):
        refused(OK + b"Content-Length: " + value + b"\r\n\r\n")
    assert "content-length: 2" in refused(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na")


def test_location_up_to_2_kib_is_kept_whole():
    for n in (10, 240, 250, 256, 260, 2000):
        url = b"/" + b"x" * (n - 1)
        conn = answer(b"HTTP/1.1 302 Found\r\nLocation: " + url + b"\r\nContent-Length: 0\r\n\r\n")
        assert conn.response() == 302
        assert conn.location.encode() == url, n
    refused(b"HTTP/1.1 302 Found\r\nLocation: /" + b"x" * 3000 + b"\r\n\r\n", OTAError.REDIRECT)


def test_compressed_replies_are_refused():
    assert "gzip" in refused(OK + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na")


def test_unknown_transfer_encoding_is_refused():
    assert "gzip, chunked" in refused(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n")


def test_content_range_is_read():
    conn = answer(
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/1234\r\nContent-Length: 5\r\n\r\nabcde"
    )
    assert conn.response() == 206
    assert (conn.start, conn.end, conn.total, conn.length) == (5, 9, 1234, 5)


def test_content_range_of_unknown_length():
    conn = answer(b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/*\r\n\r\n")
    conn.response()
    assert (conn.start, conn.end, conn.total) == (5, 9, -1)


def test_content_range_of_a_416():
    for value in (b"bytes */77", b"*", b"bytes 5-", b"\xff"):
        conn = answer(b"HTTP/1.1 416 R\r\nContent-Range: " + value + b"\r\n\r\n")
        assert conn.response() == 416
        assert (conn.start, conn.total) == (-1, -1)


def test_bad_content_ranges_are_errors():
    for value in (
        b"5-9/10",
        b"bytes 5/10",
        b"bytes 5-/10",
        b"bytes 5-9",
        b"bytes x-9/10",
        b"items 5-9/10",
    ):
        refused(b"HTTP/1.1 206 P\r\nContent-Range: " + value + b"\r\n\r\n")


# -- bodies


def test_body_cut_short_is_an_error():
    assert "3 bytes" in refused(OK + b"Content-Length: 6\r\n\r\nabc", OTAError.DISCONNECTED)


def test_body_until_close():
    conn = answer(OK + b"\r\nabcdef")
    conn.response()
    assert conn.length == -1
    assert body(conn, 4) == b"abcdef" and not conn.ready()


def test_chunks():
    chunks = b"3\r\nabc\r\nA;ext=1\r\n0123456789\r\n1 \r\nx\r\n0\r\nTrailer: y\r\n\r\n"
    for size in (1, 2, 3, 7, 1000):
        for step in (None, 1):
            conn = answer(OK + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks, step)
            conn.response()
            assert conn.length == -1
            assert body(conn, size) == b"abc0123456789x"
            assert conn.ready()


def test_chunks_outrank_content_length():
    conn = answer(
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    conn.response()
    assert body(conn) == b"abc"


def test_bad_chunks_are_errors():
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for chunks in (
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"3x\r\nabc\r\n",
        b"FFFFFFFFFFFF\r\n",
        b"3\r\nabcd\r\n",
    ):
        refused(head + chunks)
    for chunks in (b"", b"5\r\nabc", b"3\r\nabc\r\n", b"3\r\nabc\r\n0\r\n"):
        refused(head + chunks, OTAError.DISCONNECTED)
    assert "up to 16384" in refused(head + b"0\r\n" + b"X: y\r\n" * 5000)


def test_reading_allocates_nothing():
    import micropython

    conn = answer(b"")
    data = b"HTTP/1.1 206 Partial\r\nContent-Type: x\r\nContent-Length: 600\r\nContent-Range: bytes 0-599/9999\r\n\r\n"
    data += bytes(600)
    buf = bytearray(256)

    class Source:  # a socket as the firmware's C has it: fills a buffer without allocating
        def __init__(self):
            self.at = 0

        def readinto(self, buf, n=-1):
            n = len(buf) if n < 0 else n
            at = self.at
            i = 0
            while i < n:
                buf[i] = data[at]
                at += 1
                i += 1
            self.at = at
            return n

    conn.sock = Source()
    conn.response()
    assert body(conn) == bytes(600)
    # The second like the first.
    conn.sock = Source()
    micropython.heap_lock()
    try:
        status = conn.response()
        total = 0
        while total < 600:
            total += conn.readinto(buf)
    finally:
        micropython.heap_unlock()
    assert status == 206 and total == 600 and conn.ready()


# -- limits


def test_head_of_16_kib_and_not_more():
    end = b"Content-Length: 1\r\n\r\n"
    room = 16384 - len(OK) - len(end)
    filler = b"X: %s\r\n" % (b"y" * (room - 5))
    conn = answer(OK + filler + end + b"a")
    conn.response()
    assert body(conn) == b"a"
    refused(OK + b"x" + filler + end + b"a")


def test_limit_of_a_location():
    def location(n):
        conn = answer(
            b"HTTP/1.1 302 Found\r\nLocation: /"
            + b"x" * (n - 1)
            + b"\r\nContent-Length: 0\r\n\r\n"
        )
        conn.response()
        return conn.location

    assert len(location(2048)) == 2048
    for n in (2049, 2050, 5000, 15000):
        assert "2048" in fails(OTAError.REDIRECT, location, n), n


def test_location_is_trimmed():
    for raw in (b"/x", b"  /x  ", b"/x\t"):
        conn = answer(b"HTTP/1.1 302 Found\r\nLocation:" + raw + b"\r\nContent-Length: 0\r\n\r\n")
        conn.response()
        assert conn.location == "/x"


def test_location_that_is_no_text():
    refused(b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\n\r\n", OTAError.REDIRECT)


def test_location_does_not_outlive_its_response():
    conn = answer(
        b"HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
        + OK
        + b"Content-Length: 0\r\n\r\n"
    )
    conn.response()
    assert conn.location == "/x" and body(conn) == b"" and conn.ready()
    conn.response()
    assert conn.location is None


def test_limit_of_a_length():
    conn = answer(OK + b"Content-Length: 268435456\r\n\r\n")
    conn.response()
    assert conn.length == 268435456
    for value in (b"268435457", b"4294967296", b"4294967301"):
        refused(OK + b"Content-Length: " + value + b"\r\n\r\n")


def test_limit_of_a_chunk():
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    refused(head + b"10000000\r\n", OTAError.DISCONNECTED)
    for size in (b"10000001", b"100000003", b"FFFFFFFFFFFFFFFF0"):
        refused(head + size + b"\r\nabc\r\n")


def test_long_line_of_a_chunk():
    conn = answer(
        OK + b"Transfer-Encoding: chunked\r\n\r\n3;x=" + b"y" * 600 + b"\r\nabc\r\n0\r\n\r\n"
    )
    conn.response()
    assert body(conn) == b"abc" and conn.ready()
    refused(OK + b"Transfer-Encoding: chunked\r\n\r\n3;x=" + b"y" * 17000)


# -- more of heads and bodies


def test_equal_lengths_are_one():
    conn = answer(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab")
    conn.response()
    assert body(conn) == b"ab" and conn.ready()


def test_length_with_anything_behind_it():
    for value in (b"5 6", b"5-6", b"5/6", b"5;6", b"5, 6", b"5,", b",5", b"0x5", b"+5"):
        refused(OK + b"Content-Length: " + value + b"\r\n\r\nabcdef")
    conn = answer(OK + b"Content-Length: 2 \t\r\n\r\nab")
    conn.response()
    assert body(conn) == b"ab"


def test_unasked_protocol_switch():
    assert "101" in refused(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")


def test_interim_head_does_not_leak_into_the_final_one():
    conn = answer(
        b"HTTP/1.1 103 E\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
        + OK
        + b"\r\nabc"
    )
    assert conn.response() == 200
    assert conn.length == -1
    assert body(conn) == b"abc"


def test_http_1_0_without_length():
    conn = answer(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nabc")
    conn.response()
    assert body(conn) == b"abc" and not conn.ready()


def test_close_among_other_options():
    conn = answer(OK + b"Connection: Upgrade, Close\r\nContent-Length: 0\r\n\r\n")
    conn.response()
    assert body(conn) == b"" and not conn.ready()


def test_identity_is_no_encoding():
    conn = answer(OK + b"Content-Encoding: Identity\r\nContent-Length: 1\r\n\r\na")
    conn.response()
    assert body(conn) == b"a"


def test_empty_body():
    conn = answer(OK + b"Content-Length: 0\r\n\r\nabc")
    conn.response()
    assert body(conn) == b"" and conn.ready()


def test_no_content_has_no_chunks():
    conn = answer(b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n")
    conn.response()
    assert body(conn) == b"" and conn.ready()


def test_closed_in_the_middle_of_a_head():
    whole = b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\n"
    for n in range(0, len(whole), 5):
        refused(whole[:n], OTAError.DISCONNECTED)


def test_empty_content_range_does_not_see_the_line_before():
    refused(b"HTTP/1.1 206 P\r\nX-3456789-abc:bytes 0-1/2\r\nContent-Range:\r\n\r\n")


def test_content_range_beyond_the_limit():
    for value in (b"bytes 0-9/4294967296", b"bytes 4294967296-9/10", b"bytes 0-4294967305/10"):
        refused(b"HTTP/1.1 206 P\r\nContent-Range: " + value + b"\r\n\r\n")


def test_content_range_does_not_outlive_its_response():
    conn = answer(
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 0\r\n\r\n"
        + OK
        + b"\r\n"
    )
    conn.response()
    conn.response()
    assert (conn.start, conn.end, conn.total) == (-1, -1, -1)


def test_next_response_begins_where_the_last_ended():
    one = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: y\r\n\r\n"
    two = OK + b"Content-Length: 2\r\n\r\nde"
    for step in (None, 1, 3):
        conn = answer(one + two + one, step)
        for expected in (b"abc", b"de", b"abc"):
            conn.response()
            assert not conn.ready()
            assert body(conn, 2) == expected and conn.ready()


def test_body_ends_for_good():
    conn = answer(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + b"5\r\nwrong")
    conn.response()
    assert body(conn) == b"a" and body(conn) == b""


def test_body_of_a_closed_connection_is_empty():
    for head in (
        b"Content-Length: 9\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n9\r\n",
        b"\r\n",
    ):
        conn = answer(OK + head + b"abcdefghi")
        conn.response()
        conn.readinto(bytearray(2))
        conn.close()
        assert conn.readinto(bytearray(2)) == 0
        assert not conn.ready()


# -- sockets


def test_network_that_says_nothing_is_a_timeout():
    class Silent:
        def write(self, buf, off=None, n=None):
            return None

        def readinto(self, buf, n=None):
            return None

    net = use(Net(OK + b"Content-Length: 3\r\n\r\n"))
    conn = Connection("host", 80, None, 5)
    conn.open()
    conn.send(b"GET", 3)
    conn.response()
    conn.sock = Silent()
    net.silent = True
    for call in (lambda: conn.readinto(bytearray(3)), conn.response, lambda: conn.send(b"GET", 3)):
        before = net.clock.ms
        conn.waiting = False
        assert raises(OSError, patiently, conn, call).errno == ETIMEDOUT
        assert net.clock.ms == before + 5000


class Broken:
    """A socket as MicroPython has it: a read that ends in an error has filled the buffer, and does not say how far."""

    def __init__(self, data):
        self.data = data

    def readinto(self, buf, n=None):
        data, self.data = self.data[: n or len(buf)], b""
        buf[: len(data)] = data
        raise OSError(104)

    def close(self):
        pass


def test_what_came_before_an_error_counts():
    head = OK + b"Content-Length: 100\r\nETag: a\r\n\r\n"
    for n in (1, 17, len(head) - 1, len(head), len(head) + 1, len(head) + 50):
        for rest in (bytes(range(1, 101)), bytes(100)):
            conn = answer(b"")
            conn.sock = Broken((head + rest)[:n])
            if n < len(head):
                assert raises(OSError, conn.response).errno == 104
                continue
            assert conn.response() == 200 and conn.etag == b"Ea"
            buf = bytearray(200)
            if n > len(head) and rest[0]:
                assert conn.readinto(buf) == n - len(head)
                assert buf[: n - len(head)] == rest[: n - len(head)]
            assert raises(OSError, conn.readinto, buf).errno == 104


class Pieces:
    """One piece a read, then an error."""

    def __init__(self, data, size):
        self.pieces = [data[i : i + size] for i in range(0, len(data), size)]

    def readinto(self, buf, n=None):
        if not self.pieces:
            raise OSError(104)
        data = self.pieces.pop(0)
        n = min(len(data), n or len(buf))
        if n < len(data):
            self.pieces.insert(0, data[n:])
        buf[:n] = data[:n]
        return n

    def close(self):
        pass


def test_old_bytes_are_never_taken_for_what_came():
    long = OK + b"".join(b"X%d: %s\r\n" % (i, b"y" * 40) for i in range(12))
    for n in range(len(long) - 60, len(long)):
        conn = answer(b"")
        conn.sock = Pieces(long[:n], 100)
        assert raises(OSError, conn.response).errno == 104


def test_heads_of_all_lengths():
    """Each line, and each line end, at the end of the buffer once."""
    for end in (b"\r\n", b"\n"):
        for fold in (b"", end + b" "):
            for n in range(300, 420):
                data = OK + b"X: " + b"y" * n + end + b"ETag:" + fold + b'"a"' + end
                data += b"Content-Length: 3" + end + end
                for step in (None, 50):
                    conn = answer(data + b"abc", step)
                    assert conn.response() == 200 and conn.etag == b'E"a"'
                    assert conn.head_size == len(data)
                    assert body(conn) == b"abc" and conn.ready()


def test_locations_of_all_lengths():
    for n in list(range(340, 400)) + list(range(1990, 2049)):
        for end in (b"\r\n", b"\n"):
            data = b"HTTP/1.1 302 F" + end + b"Location: /" + b"x" * (n - 1) + end
            conn = answer(data + b"Content-Length: 0" + end + end, 500)
            assert conn.response() == 302 and conn.location == "/" + "x" * (n - 1)
            assert conn.length == 0


def test_request_is_sent_in_as_many_writes_as_it_takes():
    class Narrow:
        got = b""

        def write(self, buf, off=None, n=None):
            if n is None:
                off, n = 0, off
            n = min(n, 2)
            Narrow.got += bytes(buf[off : off + n])
            return n

    conn = answer(b"")
    conn.sock = Narrow()
    conn.send(bytearray(b"GET / rest"), 5)
    assert Narrow.got == b"GET /"


def connect(port=80, context=None, timeout_s=5):
    conn = Connection("host", port, context, timeout_s)
    patiently(conn, conn.open)
    return conn


def test_timeout_of_connecting():
    for timeout_s in (7, 0.2, 0.0001):
        net = use(Net(b""))
        net.silent = True
        before = net.clock.ms
        assert raises(OSError, connect, timeout_s=timeout_s).errno == ETIMEDOUT
        assert net.clock.ms - before == max(1, int(timeout_s * 1000))
        assert net.addresses == [("host", 80)] and net.open == 0


def test_failed_connection_leaves_no_socket_open():
    net = use(Net(OSError(104)))
    e = raises(OSError, connect, 81)
    assert e.errno == 104 and "host:81" in str(e)
    assert net.open == 0


def test_failed_handshake_leaves_no_socket_open():
    class Context:
        def wrap_socket(self, raw, server_hostname, do_handshake_on_connect):
            raise self.error

    context = Context()
    for error, kind in (
        (ValueError("refused"), OTAError),
        (OSError(-1), OSError),
        (MemoryError(), MemoryError),
    ):
        net = use(Net(b""))
        context.error = error
        raises(kind, connect, 443, context)
        assert net.open == 0, error


def test_each_address_of_a_name_is_tried():
    class Several(Net):
        def getaddrinfo(self, host, port, family, kind):
            return super().getaddrinfo(host, port, family, kind) * 3

    for n in (0, 1, 2):
        net = use(Several(*[OSError(111)] * n, OK + b"Content-Length: 0\r\n\r\n"))
        conn = connect()
        conn.send(b"GET", 3)
        assert conn.response() == 200 and net.open == 1 and len(net.addresses) == 1
        conn.close()
        assert net.open == 0
    net = use(Several(*[OSError(111)] * 3))
    assert raises(OSError, connect).errno == 111
    assert net.open == 0 and not net.answers


def test_unknown_host_is_told_from_a_dead_one():
    class Nameless(Net):
        def getaddrinfo(self, *args):
            raise OSError(-202)

    use(Nameless())
    e = raises(OSError, connect)
    assert e.errno == -202 and "no address found for host" in str(e)


def test_all_addresses_are_tried():
    """First one that nobody answers at, of a kind that the network may not even have."""
    for dead in range(4):
        net = use(Net(*[OSError(113 - i % 2) for i in range(dead)], OK + b"\r\n"))
        net.getaddrinfo = lambda host, port, *_: [
            (10 if i % 2 else 2, 1, 0, "", ("address %d" % i, port)) for i in range(3)
        ]
        conn = Connection("host", 80, None, 5)
        if dead < 3:
            conn.open()
            conn.send(b"x", 1)
            assert conn.response() == 200
        else:
            e = raises(OSError, conn.open)
            assert e.errno == 113 and "host:80" in str(e)
        assert conn._addresses[0][-1][0] == "address %d" % min(dead, 2)
        conn.close()
        assert net.open == 0


def test_close_is_harmless_twice():
    conn = answer(b"")
    conn.close()
    conn.close()
    assert not conn.ready()


# -- which file, and when to come back


def head(lines, status=b"200 OK"):
    conn = answer(b"HTTP/1.1 " + status + b"\r\n" + lines + b"Content-Length: 0\r\n\r\n")
    conn.response()
    return conn


def test_validators():
    conn = head(b'ETag: "a-1"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n')
    assert conn.etag == b'E"a-1"' and conn.modified == b"MMon, 01 Jan 2024 00:00:00 GMT"
    assert head(b'etag:W/"a"\r\n').etag == b'EW/"a"'
    assert head(b"ETag: 0x8D4BCC2E4835CD0 \r\n").etag == b"E0x8D4BCC2E4835CD0"
    assert head(b"").etag is head(b"").modified is None


def test_validators_that_can_not_be_sent_back():
    for value in (b'"' + b"x" * 300 + b'"', b'"\xff"', b'"\x01"', b'"a\rX: y"', b""):
        assert head(b"ETag: " + value + b"\r\n").etag is None, value


def test_validators_do_not_outlive_their_response():
    conn = answer(
        OK + b'ETag: "a"\r\nContent-Length: 0\r\n\r\n' + OK + b"Content-Length: 0\r\n\r\n"
    )
    conn.response()
    conn.response()
    assert conn.etag is None


def test_the_same_validator_again_is_the_same_object():
    one = OK + b'ETag: "a-1"\r\nContent-Length: 0\r\n\r\n'
    for value, same in ((b'"a-1"', True), (b'"a-2"', False), (b'"a-11"', False), (b'"a-"', False)):
        conn = answer(one + OK + b"ETag: " + value + b"\r\nContent-Length: 0\r\n\r\n")
        conn.response()
        first = conn.etag
        conn.response()
        assert conn.etag == b"E" + value and (conn.etag is first) == same


def test_retry_after():
    assert head(b"Retry-After: 120\r\n", b"503 x").retry_after == 120
    for value in (b"", b"Wed, 21 Oct 2026 07:28:00 GMT", b"-5", b" " * 300):
        assert head(b"Retry-After:" + value + b"\r\n", b"429 x").retry_after == 0, value
    assert head(b"").retry_after == 0


def test_length_of_the_head():
    data = OK + b"Content-Length: 3\r\nX: y\r\n\r\n"
    conn = answer(data + b"abc")
    conn.response()
    assert conn.head_size == len(data)


def test_reading_no_more_than_is_wanted():
    for data in (
        b"Content-Length: 6\r\n\r\nabcdef",
        b"\r\nabcdef",
        b"Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
    ):
        conn = answer(OK + data)
        conn.response()
        buf = bytearray(10)
        assert conn.readinto(buf, 2) == 2 and buf[:3] == b"ab\0"
        assert conn.readinto(buf, 4) == 4 and buf[:4] == b"cdef"
        assert conn.readinto(buf, 4) == 0
