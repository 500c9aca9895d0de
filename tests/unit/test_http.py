# http.py: URLs, response heads, body framing.

from fakenet import Net, fails, raises, use
from https_ota import OTAError
from https_ota.http import Connection, join_url, parse_url

OK = b"HTTP/1.1 200 OK\r\n"


def answer(data, step=None):
    """A connection that has been sent a request and is answered with `data`."""
    use(Net(data, step=step))
    conn = Connection("host", 80, None, 5)
    conn.send(b"GET", 3)
    return conn


def body(conn, size=1000):
    buf = bytearray(size)
    data = b""
    while True:
        n = conn.readinto(buf)
        if not n:
            return data
        data += buf[:n]


def refused(data, code=OTAError.HTTP_PROTOCOL):
    """The detail of the error that this answer makes, in its head or its body."""

    def read():
        conn = answer(data)
        conn.response()
        body(conn)

    return fails(code, read)


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
    ):
        assert parse_url(url) == parts, url


def test_bad_urls_are_refused():
    for url, word in (
        ("ftp://host/x", "https://host/path"),
        ("host/x", "https://host/path"),
        ("https://", "https://host/path"),
        ("https:///x", "no host"),
        ("https://host:0/x", "port"),
        ("https://host:x/", "port"),
        ("https://host:99999/", "port"),
        ("https://me:secret@host/x", "auth="),
        ("https://host/a b", "percent"),
        ("https://host/a\r\nX: y", "percent"),
        ("https://host/\xfc", "percent"),
    ):
        assert word in str(raises(ValueError, parse_url, url)), url


def test_password_in_a_url_is_not_repeated():
    assert "secret" not in str(raises(ValueError, parse_url, "https://me:secret@host/x"))


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
    ):
        assert join_url(base, location) == url, (location, join_url(base, location))


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
    assert "longer than" in refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)


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
    assert "version 2" in refused(b"HTTP/2 200\r\n\r\n")


def test_bad_status_lines_are_errors():
    for line in (
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 abc",
        b"HTTP/1.1 999 x",
        b"HTTP/1.1 -20",
        b"HTTP/1.1",
        b"",
        b"HTTP/1.1 2000 x",
    ):
        refused(line + b"\r\n\r\n")


def test_head_without_end_is_an_error():
    assert "closed the connection" in refused(OK + b"X: y\r\n", OTAError.DISCONNECTED)
    assert "closed the connection" in refused(b"", OTAError.DISCONNECTED)


def test_oversized_heads_are_errors():
    assert "longer than 16384" in refused(OK + b"X: y\r\n" * 5000)
    assert "longer than 16384" in refused(OK + b"X: " + b"y" * 20000 + b"\r\n\r\n")


def test_a_long_line_does_not_hide_the_next():
    conn = answer(OK + b"X: " + b"y" * 5000 + b"\r\nContent-Length: 2\r\n\r\nab")
    conn.response()
    assert body(conn) == b"ab"


def test_line_without_colon_is_an_error():
    assert "nonsense" in refused(OK + b"nonsense\r\n\r\n")


def test_bad_lengths_are_errors():
    for value in (b"x", b"", b"-1", b"1x", b"1,1", b"99999999999999999999"):
        refused(OK + b"Content-Length: " + value + b"\r\n\r\n")
    assert "two Content-Lengths" in refused(
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na"
    )


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
    conn = answer(b"HTTP/1.1 416 R\r\nContent-Range: bytes */77\r\n\r\n")
    conn.response()
    assert (conn.start, conn.total) == (-1, 77)


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
    assert "longer than" in refused(head + b"0\r\n" + b"X: y\r\n" * 5000)


def test_reading_allocates_nothing():
    import micropython

    conn = answer(b"")
    data = b"HTTP/1.1 206 Partial\r\nContent-Type: x\r\nContent-Length: 600\r\nContent-Range: bytes 0-599/9999\r\n\r\n"
    data += bytes(600)
    buf = bytearray(256)

    class Source:  # a socket as the firmware's C has it: fills a buffer without allocating
        at = 0

        def readinto(self, buf, n=-1):
            n = len(buf) if n < 0 else n
            i = 0
            while i < n:
                buf[i] = data[self.at]
                self.at += 1
                i += 1
            return n

    conn._sock = Source()
    micropython.heap_lock()
    try:
        status = conn.response()
        total = 0
        while total < 600:
            total += conn.readinto(buf)
    finally:
        micropython.heap_unlock()
    assert status == 206 and total == 600 and conn.ready()
