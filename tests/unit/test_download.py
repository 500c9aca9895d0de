# download.py: many requests seen as one stream of bytes.

from errno import ETIMEDOUT

from fakenet import Clock, Net, fails, filled, opened, patiently, raises, use, use_tls
from https_ota import OTAError
from https_ota.net.download import Download
from makeimage import noise

FILE = noise(2000)
OTHER = noise(2000, 9)
URL = "http://host/fw.bin"


def download(url=URL, **options):
    return Download(url, insecure=True, **options)


def whole(data=FILE, extra=b""):
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (extra, len(data)) + data


def part(first, last, total=2000, data=FILE, extra=b"", status=b"206 Partial Content"):
    """A ranged response, with the bytes first to last."""
    head = b"HTTP/1.1 %s\r\n%sContent-Range: bytes %d-%d/%d\r\n" % (
        status,
        extra,
        first,
        last,
        total,
    )
    body = data[first : last + 1]
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def parts(size, data=FILE, **fields):
    """All ranged responses of a file, on one connection."""
    n = len(data)
    return b"".join(part(i, min(i + size, n) - 1, n, data, **fields) for i in range(0, n, size))


def chunked(status, extra, data):
    head = b"HTTP/1.1 %s\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (status, extra)
    out = b"".join(
        b"%x\r\n%s\r\n" % (len(data[i : i + 300]), data[i : i + 300])
        for i in range(0, len(data), 300)
    )
    return head + out + b"0\r\n\r\n"


def moved(location, status=302):
    return b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)


def fetch(source, size=256):
    """Open and read to the end."""
    opened(source)
    buf = bytearray(size)
    data = b""
    while True:
        n = patiently(source, source.readinto, buf)
        if not n:
            assert source.position == len(data)
            source.close()
            return data
        data += buf[:n]


def head_of(sent, i=0):
    """The i-th request on a connection: its first line, and its headers as a dict."""
    lines = sent.split(b"\r\n\r\n")[i].decode().split("\r\n")
    return lines[0], dict(line.split(": ", 1) for line in lines[1:])


def ranges(sent):
    return [line[13:] for line in sent.decode().split("\r\n") if line.startswith("Range: ")]


# -- one plain request


def test_plain_request():
    net = use(Net(whole()))
    source = download(request_size=0)
    assert fetch(source) == FILE
    assert source.status == 200 and source.total == len(FILE)
    assert net.sent == [
        b"GET /fw.bin HTTP/1.1\r\nHost: host\r\nAccept-Encoding: identity\r\nUser-Agent: https_ota/0.1\r\n\r\n"
    ]
    assert net.open == 0


def test_plain_http_is_not_ranged_by_itself():
    net = use(Net(whole()))
    assert fetch(download()) == FILE
    assert ranges(net.sent[0]) == []


def test_slow_link():
    for answer in (whole(), chunked(b"200 OK", b"", FILE)):
        use(Net(answer, step=7))
        assert fetch(download()) == FILE


def test_host_header():
    for url, host in (
        ("http://host:8080/x", "host:8080"),
        ("http://host:80/x", "host"),
        ("http://[::1]/x", "[::1]"),
        ("http://[::1]:8080/x", "[::1]:8080"),
        ("http://host:443/x", "host:443"),
    ):
        net = use(Net(whole()))
        fetch(download(url))
        assert head_of(net.sent[0])[1]["Host"] == host, url


def test_target_is_path_and_query():
    net = use(Net(whole()))
    fetch(download("http://host/a/b%20c?d=e&f#g"))
    assert head_of(net.sent[0])[0] == "GET /a/b%20c?d=e&f HTTP/1.1"


def test_chunked_file():
    use(Net(chunked(b"200 OK", b"", FILE)))
    source = download()
    opened(source)
    assert source.total is None
    use(Net(chunked(b"200 OK", b"", FILE)))
    assert fetch(download()) == FILE


def test_file_until_close():
    use(Net(b"HTTP/1.0 200 OK\r\n\r\n" + FILE))
    source = download()
    assert fetch(source) == FILE
    assert source.readinto(bytearray(9)) == 0


def test_connection_is_closed_with_the_last_byte():
    net = use(Net(whole()))
    source = download()
    opened(source)
    assert filled(source, len(FILE)) == FILE
    assert net.open == 0
    assert filled(source, 1) == b""


def test_file_that_is_always_cut_short():
    net = use(Net(then=whole()[: -500 - len(FILE)]))
    source = download()
    fails(OTAError.DISCONNECTED, fetch, source)
    source.close()
    assert net.open == 0


def test_nothing_new():
    for status in (204, 304):
        net = use(Net(b"HTTP/1.1 %d x\r\n\r\n" % status))
        source = download(headers={"If-None-Match": '"a"'})
        assert opened(source) == source.status == status
        assert head_of(net.sent[0])[1]["If-None-Match"] == '"a"'
        source.close()
        assert net.open == 0


def test_close_before_open_and_twice():
    source = download()
    source.close()
    use(Net(whole()))
    opened(source)
    source.close()
    source.close()


def test_timeout_reaches_the_socket():
    net = use(Net(whole()))
    net.silent = True
    before = net.clock.ms
    assert raises(OSError, opened, download(timeout_s=3)).errno == ETIMEDOUT
    assert net.clock.ms == before + 3000


def test_socket_errors_keep_their_number():
    for answer, number in (
        (OSError(104), 104),
        ((b"", OSError(113)), 113),
        ((whole()[:500], OSError(116)), 116),
    ):
        net = use(Net(then=answer))
        source = download()
        assert raises(OSError, fetch, source).errno == number
        source.close()
        assert net.open == 0


# -- ranges


def test_ranges_on_one_connection():
    net = use(Net(parts(600)))
    source = download(request_size=600)
    assert fetch(source) == FILE
    assert source.status == 206 and source.total == 2000
    assert len(net.sent) == 1
    assert ranges(net.sent[0]) == ["0-599", "600-1199", "1200-1799", "1800-1999"]
    assert net.open == 0


def test_request_size_that_divides_the_file():
    net = use(Net(parts(1000)))
    assert fetch(download(request_size=1000)) == FILE
    assert ranges(net.sent[0]) == ["0-999", "1000-1999"]


def test_request_size_of_the_whole_file_or_more():
    for size in (2000, 2001, 4096):
        net = use(Net(parts(2000)))
        assert fetch(download(request_size=size)) == FILE
        assert ranges(net.sent[0]) == ["0-%d" % (size - 1)]


def test_large_ranges_end_with_a_sector():
    # So that the request for the next one is out while the last of the sector is written.
    data = noise(15000)
    net = use(Net(parts(8192, data)))
    assert fetch(download(request_size=10000)) == data
    assert ranges(net.sent[0]) == ["0-8191", "8192-14999"]


def test_reads_of_any_size():
    for size in (1, 100, 599, 600, 601, 5000):
        use(Net(parts(600)))
        assert fetch(download(request_size=600), size) == FILE


def test_next_request_is_out_before_the_caller_works():
    net = use(Net(parts(600)))
    source = download(request_size=600)
    opened(source)
    filled(source, 300)
    assert ranges(net.sent[0]) == ["0-599"]
    filled(source, 300)
    assert ranges(net.sent[0]) == ["0-599", "600-1199"]
    filled(source, 300)
    assert len(ranges(net.sent[0])) == 2


def test_next_request_is_out_after_less_than_was_asked_for():
    net = use(Net(part(0, 299) + part(300, 899)))
    source = download(request_size=600)
    opened(source)
    filled(source, 300)
    assert ranges(net.sent[0]) == ["0-599", "300-899"]


def test_server_that_closes_after_each_range():
    answers = [
        part(i, min(i + 600, 2000) - 1, extra=b"Connection: close\r\n")
        for i in range(0, 2000, 600)
    ]
    net = use(Net(*answers))
    assert fetch(download(request_size=600)) == FILE
    assert [ranges(s) for s in net.sent] == [["0-599"], ["600-1199"], ["1200-1799"], ["1800-1999"]]
    assert net.open == 0


def test_chunked_ranges():
    answer = b"".join(
        chunked(
            b"206 P",
            b"Content-Range: bytes %d-%d/2000\r\n" % (i, min(i + 600, 2000) - 1),
            FILE[i : min(i + 600, 2000)],
        )
        for i in range(0, 2000, 600)
    )
    net = use(Net(answer))
    assert fetch(download(request_size=600)) == FILE
    assert len(net.sent) == 1


def test_range_until_close():
    answers = []
    for i in range(0, 2000, 1000):
        answers.append(
            b"HTTP/1.0 206 P\r\nContent-Range: bytes %d-%d/2000\r\n\r\n" % (i, i + 999)
            + FILE[i : i + 1000]
        )
    use(Net(*answers))
    assert fetch(download(request_size=1000)) == FILE


def test_server_may_send_less_than_was_asked_for():
    answer = part(0, 599) + part(600, 699) + part(700, 1299) + part(1300, 1899) + part(1900, 1999)
    net = use(Net(answer))
    assert fetch(download(request_size=600)) == FILE
    assert ranges(net.sent[0]) == ["0-599", "600-1199", "700-1299", "1300-1899", "1900-1999"]


def test_server_that_does_no_ranges():
    net = use(Net(whole()))
    source = download(request_size=600)
    assert fetch(source) == FILE
    assert source.status == 200
    assert ranges(net.sent[0]) == ["0-599"]


def test_whole_file_in_the_middle():
    for answer in (whole(), chunked(b"200 OK", b"", FILE), b"HTTP/1.0 200 OK\r\n\r\n" + FILE):
        for size in (64, 250, 3000):
            net = use(Net(part(0, 599) + part(600, 1199) + answer))
            source = download(request_size=600)
            assert fetch(source, size) == FILE
            assert source.total == 2000
            assert net.open == 0


def starts_over(answers, **options):
    """Read until the file turns out to be another one, then that file."""
    net = use(Net(*answers))
    source = download(request_size=600, **options)
    fails(OTAError.CHANGED, fetch, source)
    assert source.position == 0
    buf = bytearray(250)
    data = b""
    while True:
        n = patiently(source, source.readinto, buf)
        if not n:
            assert net.open == 0
            return data
        data += buf[:n]


def test_whole_file_in_the_middle_is_another():
    data = OTHER + b"x"
    assert starts_over([part(0, 599) + whole(data), parts(600, data)]) == data


def test_whole_file_in_the_middle_is_cut_short():
    for n in (1999, 1300, 600, 599, 200, 0):
        short = chunked(b"200 OK", b"", FILE[:n])
        use(Net(part(0, 599), then=short))
        fails(OTAError.DISCONNECTED, fetch, download(request_size=600))


def test_file_changes_its_length():
    for n in (1999, 2001, 1199, 300):
        data = noise(n, 7)
        answer = (
            part(600, min(1200, n) - 1, n, data)
            if n > 600
            else b"HTTP/1.1 416 R\r\nContent-Length: 0\r\n\r\n"
        )
        assert starts_over([part(0, 599) + answer, parts(600, data)]) == data


def test_file_changes_its_etag():
    old, new = b'ETag: "old"\r\n', b'ETag: "new"\r\n'
    data = OTHER
    for answer in (whole(data, new), part(600, 1199, data=data, extra=new)):
        assert starts_over([part(0, 599, extra=old) + answer, parts(600, data, extra=new)]) == data


def test_file_changes_its_date():
    old, new = b"Last-Modified: Mon, 01 Jan 2024\r\n", b"Last-Modified: Tue, 02 Jan 2024\r\n"
    data = OTHER
    assert (
        starts_over([part(0, 599, extra=old) + whole(data, new), parts(600, data, extra=new)])
        == data
    )


def test_wrong_ranges():
    for first, last in (
        (601, 1199),  # a byte later
        (599, 1199),  # a byte earlier
        (0, 599),  # the first again
        (600, 1200),  # more than was asked for
        (600, 599),  # backwards
        (600, 2000),  # beyond its own end
    ):
        use(Net(part(0, 599) + part(first, last)))
        detail = fails(OTAError.HTTP_PROTOCOL, fetch, download(request_size=600))
        assert "600-1199" in detail and "%d-%d/2000" % (first, last) in detail


def test_range_beyond_the_end_of_a_file_of_unknown_length():
    use(Net(part(0, 599, 599)))
    fails(OTAError.HTTP_PROTOCOL, fetch, download(request_size=600))


def test_range_without_content_range():
    for line in (b"", b"Content-Range: bytes 0-599/*\r\n", b"Content-Range: bytes */2000\r\n"):
        use(Net(b"HTTP/1.1 206 P\r\n" + line + b"Content-Length: 600\r\n\r\n" + FILE[:600]))
        assert "request_size=0" in fails(OTAError.HTTP_PROTOCOL, fetch, download(request_size=600))


def test_content_range_against_content_length():
    for n in (599, 601, 0):
        use(
            Net(
                b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-599/2000\r\nContent-Length: %d\r\n\r\n"
                % n
                + FILE[:n]
            )
        )
        assert "contradicts" in fails(OTAError.HTTP_PROTOCOL, fetch, download(request_size=600))


def test_unasked_range():
    use(Net(part(0, 1999)))
    assert "whole file" in fails(OTAError.HTTP_PROTOCOL, fetch, download(request_size=0))


def test_range_cut_short_is_gone_on_with():
    cut = part(0, 599) + part(600, 1199)[:-100]
    short = part(0, 599) + chunked(
        b"206 P", b"Content-Range: bytes 600-1199/2000\r\n", FILE[600:1100]
    )
    rest = part(1100, 1699) + part(1700, 1999)
    for answer in (cut, short):
        net = use(Net(answer, rest))
        assert fetch(download(request_size=600)) == FILE
        assert ranges(net.sent[1])[0] == "1100-1699"


def test_plain_file_cut_short_is_gone_on_with():
    net = use(Net(whole()[:-500], part(1500, 1999)))
    assert fetch(download(request_size=0)) == FILE
    assert ranges(net.sent[0]) == [] and ranges(net.sent[1]) == ["1500-"]
    # By a server that does no ranges.
    net = use(Net(whole()[:-500], whole()))
    assert fetch(download(request_size=0), 333) == FILE


def test_no_content_in_the_middle_is_no_end():
    for status in (204, 304):
        use(Net(part(0, 599), then=b"HTTP/1.1 %d x\r\n\r\n" % status))
        fails(OTAError.DISCONNECTED, fetch, download(request_size=600))


def test_empty_file():
    use(Net(b"HTTP/1.1 416 R\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n"))
    assert "416" in fails(OTAError.HTTP_STATUS, fetch, download(request_size=600))
    use(Net(whole(b"")))
    assert fetch(download()) == b""


# -- connections that were kept


def test_stale_connection_is_replaced():
    net = use(Net(part(0, 599), parts(600)[len(part(0, 599)) :]))
    assert fetch(download(request_size=600)) == FILE
    assert [ranges(s) for s in net.sent] == [
        ["0-599", "600-1199"],
        ["600-1199", "1200-1799", "1800-1999"],
    ]
    assert net.open == 0


def test_broken_connection_is_replaced():
    net = use(Net((part(0, 599), OSError(104)), parts(600)[len(part(0, 599)) :]))
    assert fetch(download(request_size=600)) == FILE
    assert [ranges(s) for s in net.sent] == [["0-599"], ["600-1199", "1200-1799", "1800-1999"]]
    assert net.open == 0


def test_failures_in_a_row_wait_longer_and_longer():
    net = use(Net(part(0, 599), then=b""))
    waits = []
    source = download(request_size=600)
    connect = net.getaddrinfo

    def getaddrinfo(*args):
        waits.append(net.clock.ms)
        return connect(*args)

    net.getaddrinfo = getaddrinfo
    fails(OTAError.DISCONNECTED, fetch, source)
    waits = [b - a for a, b in zip(waits, waits[1:])]
    assert waits[0] == 0  # mostly a connection that was idle for too long
    assert 500 <= waits[1] <= 1000 and waits[-1] <= 32000
    for a, b in zip(waits[1:], waits[2:]):
        assert b > a or b > 24000 * 0.75
    assert 60000 < sum(waits) <= 120000
    assert net.open == 0


def test_progress_makes_failures_forgotten():
    # Each connection brings 100 bytes only; none of it is a reason to wait.
    answers = [
        b"HTTP/1.1 206 P\r\nContent-Range: bytes %d-1999/2000\r\nContent-Length: %d\r\n\r\n"
        % (i, 2000 - i)
        for i in range(0, 2000, 100)
    ]
    answers = [a + FILE[i * 100 : i * 100 + 100] for i, a in enumerate(answers)]
    net = use(Net(*answers))
    assert fetch(download(request_size=2000), 100) == FILE
    assert len(net.sent) == 20
    assert net.clock.ms == Clock().ms


def test_stall_limits_the_waiting():
    for seconds in (1, 10, 300):
        net = use(Net(part(0, 599), then=b""))
        fails(OTAError.DISCONNECTED, fetch, download(request_size=600, stall_s=seconds))
        assert net.clock.ms - Clock().ms <= seconds * 1000


def test_deadline_limits_it_all():
    net = use(Net(part(0, 599), then=b""))
    assert "600 of 2000" in fails(
        OTAError.DEADLINE, fetch, download(request_size=600, deadline_s=5)
    )
    assert 5000 <= net.clock.ms - Clock().ms <= 6000

    def slow(request):
        net.clock.ms += 2000

    net = use(Net(parts(600)))
    fails(OTAError.DEADLINE, fetch, download(request_size=600, deadline_s=5, http_hook=slow))


def test_watchdog_is_fed_while_waiting():
    fed = []
    net = use(Net(part(0, 599), then=b""))
    source = download(request_size=600)
    wait = source.wait

    def feed_and_wait():
        fed.append(net.clock.ms)
        wait()

    source.wait = feed_and_wait
    fails(OTAError.DISCONNECTED, fetch, source)
    assert len(fed) > 100
    assert max(b - a for a, b in zip(fed, fed[1:])) <= 1000


def test_each_stale_connection_is_replaced():
    net = use(Net(*[part(i, min(i + 600, 2000) - 1) for i in range(0, 2000, 600)]))
    assert fetch(download(request_size=600)) == FILE
    assert len(net.sent) == 4


def test_server_that_is_there_is_asked_again():
    for answer in (b"", b"HTTP/1.1 2", (b"", OSError(104)), OSError(113)):
        net = use(Net(part(0, 599), answer, parts(600)[len(part(0, 599)) :]))
        assert fetch(download(request_size=600)) == FILE
        assert net.open == 0


def test_server_that_was_never_there_is_asked_once():
    for error in (OSError(104), OSError(113), OSError(-202)):
        net = use(Net(then=error))
        raises(OSError, fetch, download())
        assert len(net.addresses) == 1 and net.clock.ms == Clock().ms


def test_breach_of_http_is_not_asked_for_again():
    net = use(Net(then=b"nonsense\r\n\r\n"))
    fails(OTAError.HTTP_PROTOCOL, fetch, download())
    assert len(net.addresses) == 1


# -- redirects


def test_redirects_of_every_sort():
    for status in (301, 302, 303, 307, 308):
        net = use(Net(moved(b"http://host/new?x", status), whole()))
        assert fetch(download()) == FILE
        assert [head_of(s)[0] for s in net.sent] == ["GET /fw.bin HTTP/1.1", "GET /new?x HTTP/1.1"]


def test_relative_redirects():
    for location, path in (
        (b"new.bin", "/a/new.bin"),
        (b"/new.bin", "/new.bin"),
        (b"../b?q", "/b?q"),
    ):
        net = use(Net(moved(location), whole()))
        assert fetch(download("http://host:8000/a/fw.bin?old")) == FILE
        assert head_of(net.sent[1])[0] == "GET %s HTTP/1.1" % path
        assert net.addresses == [("host", 8000)] * 2


def test_later_ranges_go_to_where_the_first_was_found():
    net = use(Net(moved(b"http://cdn/fw.bin?sig=1"), parts(1000)))
    assert fetch(download(request_size=1000)) == FILE
    assert net.addresses == [("host", 80), ("cdn", 80)]
    assert ranges(net.sent[0]) == ["0-999"] and ranges(net.sent[1]) == ["0-999", "1000-1999"]
    assert head_of(net.sent[1], 1)[0] == "GET /fw.bin?sig=1 HTTP/1.1"
    assert head_of(net.sent[1], 1)[1]["Host"] == "cdn"


def test_redirect_in_the_middle():
    net = use(Net(part(0, 999) + moved(b"/elsewhere"), part(1000, 1999)))
    assert fetch(download(request_size=1000)) == FILE
    assert head_of(net.sent[1])[0] == "GET /elsewhere HTTP/1.1"
    assert ranges(net.sent[1]) == ["1000-1999"]


def secret_headers(location, url=URL):
    """The headers that a redirect's target sees."""
    net = use_tls(Net(moved(location), whole()))
    fetch(download(url, headers={"X-Token": "t"}, auth=("me", "secret")))
    assert head_of(net.sent[0])[1]["X-Token"] == "t"
    assert head_of(net.sent[0])[1]["Authorization"] == "Basic bWU6c2VjcmV0"
    return head_of(net.sent[1])[1]


def test_redirect_to_what_must_be_encoded():
    net = use(Net(moved("/new folder/fw é.bin?a b#x".encode()), whole()))
    assert fetch(download()) == FILE
    assert head_of(net.sent[1])[0] == "GET /new%20folder/fw%20%C3%A9.bin?a%20b HTTP/1.1"


def test_same_host_keeps_the_headers():
    for location in (
        b"/x",
        b"http://host/x",
        b"http://host:80/x",
        b"http://HOST/x",
        b"HTTP://Host./x",
        b"//hOSt:/x",
        b"\\\\host\\x",
        b"/mirror/https://evil/x",
        b"/a b?\xc3\xbc",
        b"http:x",
    ):
        seen = secret_headers(location)
        assert seen["X-Token"] == "t" and seen["Authorization"] == "Basic bWU6c2VjcmV0"
        seen = secret_headers(location, "http://HOST:80/fw.bin")
        assert seen["X-Token"] == "t" and seen["Authorization"] == "Basic bWU6c2VjcmV0"


def test_other_host_does_not_see_the_headers():
    for location in (
        b"http://other/x",
        b"//other/x",
        b"http://host:81/x",
        b"http://host.evil/x",
        b"http://host..evil/x",
        b"//other\\@host/x",
        b"http:/\\other/x",
        b"https:host/x",
        b"http://xhost/x",
        b"http://hos/x",
        b"https://host/x",
    ):
        seen = secret_headers(location)
        assert "X-Token" not in seen and "Authorization" not in seen, location
        assert seen["User-Agent"]


def test_headers_do_not_come_back():
    net = use(Net(moved(b"http://other/"), moved(b"http://host/x"), whole()))
    fetch(download(headers={"X-Token": "t"}))
    assert "X-Token" not in head_of(net.sent[2])[1]


def test_from_https_to_http_is_refused():
    net = use_tls(Net(moved(b"http://host/x"), whole()))
    assert "http://host" in fails(
        OTAError.REDIRECT, fetch, Download("https://host/x", cadata="ca")
    )
    net = use_tls(Net(moved(b"http://host/x"), whole()))
    fails(OTAError.REDIRECT, fetch, download("https://host/x"))
    assert len(net.sent) == 1 and net.open == 0


def test_from_http_to_https():
    net = use_tls(Net(moved(b"https://host/x"), whole()))
    assert fetch(download()) == FILE
    assert net.names == ["host"] and net.addresses == [("host", 80), ("host", 443)]


def test_five_redirects_and_no_more():
    def hops(n):
        use(Net(*([moved(b"/%d" % i) for i in range(n)] + [whole()])))
        return fetch(download())

    assert hops(5) == FILE
    assert "more than 5" in fails(OTAError.REDIRECT, hops, 6)


def test_redirects_that_can_not_be_followed():
    for location in (
        b"ftp://host/x",
        b"http://",
        b"http:///x",
        b"http://me:pw@host/x",
        b"http://m\xc3\xbc.example/x",
        b"http://host:0/",
    ):
        use(Net(moved(location), whole()))
        assert "can't be used" in fails(OTAError.REDIRECT, fetch, download()), location
    use(Net(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", whole()))
    assert "without a Location" in fails(OTAError.REDIRECT, fetch, download())
    use(Net(moved(b""), whole()))
    fails(OTAError.REDIRECT, fetch, download())


def test_other_3xx_are_no_redirects():
    for status in (300, 305, 306):
        use(Net(moved(b"/x", status), whole()))
        assert str(status) in fails(OTAError.HTTP_STATUS, fetch, download())


# -- TLS


def test_tls_verifies_the_host_of_the_url():
    net = use_tls(Net(whole()))
    fetch(Download("https://example.com/x", cadata="CA", cert="C", key="K"))
    assert net.names == ["example.com"] and net.addresses == [("example.com", 443)]
    assert net.trust == ("CA", False, "C", "K")


SECRETS = {"headers": {"X-Key": "k"}, "auth": ("n", "p")}


def secrets(*answers, url="https://host/fw.bin", **options):
    """Download with all kinds of secrets; return (host, whether the certificate was there, and the rest) of each connection."""
    net = use_tls(Net(*answers))
    source = Download(url, cadata="CA", cert="C", key="K", **SECRETS, **options)
    assert fetch(source) == FILE
    source.close()
    assert net.open == 0
    rest = []
    for sent in net.sent:
        requests = sent.decode().split("\r\n\r\n")[:-1]
        rest.append(["X-Key: k" in r and "Authorization: Basic" in r for r in requests])
        assert all(("X-Key" in r) == ("Authorization" in r) for r in requests)
    return [(host, cert == "C", r) for (host, cert), r in zip(net.shown, rest)]


def test_secrets_stay_with_their_origin():
    yes, no = (True, [True]), (False, [False])
    assert secrets(whole()) == [("host",) + yes]
    for there, host, goes in (
        (b"https://host/x", "host", yes),
        (b"https://host:443/x", "host", yes),
        (b"https://other/x", "other", no),
        (b"https://host:8443/x", "host", no),
        (b"https://host.example/x", "host.example", no),
    ):
        assert secrets(moved(there), whole()) == [("host",) + yes, (host,) + goes], there


def test_secrets_wait_at_home():
    """From the first origin to others, and back to it: by a redirect, and as a link has expired.

    There the server asks for the certificate; the rest another server can't make this one send.
    """
    yes, no = (True, [True]), (False, [False])
    there, back = moved(b"https://b/x"), moved(b"https://host/y")
    assert secrets(there, moved(b"https://c/x"), back, whole()) == [
        ("host",) + yes,
        ("b",) + no,
        ("c",) + no,
        ("host", True, [False]),
    ]
    expired = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    assert secrets(there, expired, there, whole()) == [
        ("host",) + yes,
        ("b",) + no,
        ("host",) + yes,
        ("b",) + no,
    ]


def test_secrets_after_a_drop():
    """The connections that go on are of the same kind."""
    yes, no = (True, [True]), (False, [False])
    cut = (whole()[:900], OSError(104))
    assert secrets(cut, whole()) == [("host",) + yes, ("host",) + yes]
    there = moved(b"https://b/x")
    assert secrets(there, cut, whole()) == [("host",) + yes, ("b",) + no, ("b",) + no]


def test_secrets_from_http():
    """Given for http://, they don't go to https:// of the same name."""
    net = use_tls(Net(moved(b"https://host/x"), whole()))
    source = Download("http://host/fw.bin", insecure=True, cert="C", key="K", **SECRETS)
    assert fetch(source) == FILE
    assert (
        net.shown == [("host", None)] and b"X-Key" in net.sent[0] and b"X-Key" not in net.sent[1]
    )


def test_trust_is_given_once():
    net = use_tls(Net(moved(b"https://cdn/x"), whole()))
    source = Download("https://host/x", cadata="CA")
    fetch(source)
    assert net.names == ["host", "cdn"]
    assert source.cadata is None  # parsed: it need not stay in memory


def test_no_verification_must_be_said():
    net = use_tls(Net(whole()))
    assert "cadata" in str(raises(ValueError, opened, Download("https://host/x")))
    assert "insecure=True" in str(raises(ValueError, opened, Download("http://host/x")))
    assert "insecure=True" in str(
        raises(ValueError, opened, Download("http://host/x", cadata="CA"))
    )
    assert net.addresses == []


def test_request_size_follows_the_tls_buffer():
    import https_ota.net.ranges as module

    own = module.tls_buffer
    try:
        for buffer, first in ((4096, ["0-3071"]), (16384, []), (32768, [])):
            module.tls_buffer = lambda buffer=buffer: buffer
            net = use_tls(Net(whole()))
            fetch(download("https://host/x"))
            assert ranges(net.sent[0]) == first, buffer
    finally:
        module.tls_buffer = own


def test_record_too_big_is_asked_for_in_smaller_ranges():
    for number in (-29184, -28928):
        host = "http://tls%d/x" % -number
        error = OSError(number, "MBEDTLS_ERR")
        net = use(Net((b"", error), (part(0, 1023)[:50], error), parts(512)))
        assert fetch(download(host, request_size=2048)) == FILE
        assert [ranges(s)[0] for s in net.sent] == ["0-2047", "0-1023", "0-511"]
        assert net.clock.ms == Clock().ms


def test_record_too_big_at_any_size():
    net = use(Net(then=(b"", OSError(-29184, "MBEDTLS_ERR"))))
    fails(OTAError.TLS_BUFFER, fetch, download("http://small/x", request_size=2048))
    assert [ranges(s)[0] for s in net.sent] == ["0-2047", "0-1023", "0-511"]
    net = use(Net(then=(whole()[:700], OSError(-29184, "MBEDTLS_ERR"))))
    fails(OTAError.TLS_BUFFER, fetch, download("http://small/x", request_size=0))
    assert len(net.sent) == 1


def test_record_too_big_where_ranges_are_ignored():
    net = use(Net(then=(whole()[:700], OSError(-29184, "MBEDTLS_ERR"))))
    assert "ranges" in fails(
        OTAError.TLS_BUFFER, fetch, download("http://plain/x", request_size=2048)
    )
    assert len(net.sent) == 1


# -- options


def test_headers_and_auth_are_sent():
    net = use(Net(whole()))
    fetch(download(headers={"X-A": "1", "User-Agent": "mine", "X-N": 5}, auth=("a", "b:c")))
    seen = head_of(net.sent[0])[1]
    assert (seen["X-A"], seen["User-Agent"], seen["X-N"]) == ("1", "mine", "5")
    assert seen["Authorization"] == "Basic YTpiOmM="


def test_long_credentials_stay_on_one_line():
    net = use(Net(whole()))
    fetch(download(auth=("n" * 100, "p" * 100)))
    assert len(head_of(net.sent[0])[1]["Authorization"]) == 6 + 268


def test_headers_are_sent_with_each_range():
    net = use(Net(parts(1000)))
    fetch(download(request_size=1000, headers={"X-A": "1"}))
    assert [head_of(net.sent[0], i)[1]["X-A"] for i in (0, 1)] == ["1", "1"]


def test_header_injection_is_refused():
    for headers in (
        {"X": "a\r\nY: b"},
        {"X": "a\nY: b"},
        {"X": "a\r"},
        {"X": "a\0"},
        {"X": "\x1b[1m"},
        {"X": "a\x7f"},
        {"X\r\nY": "a"},
        {"X: y": "a"},
        {"X Y": "a"},
        {"": "a"},
        {"\xfc": "a"},
        {"Host": "other"},
        {"range": "bytes=0-1"},
        {"Connection": "close"},
        {"ACCEPT-ENCODING": "gzip"},
        {"Transfer-Encoding": "chunked"},
        {"content-length": "1"},
        {"If-Range": '"a"'},
    ):
        raises(ValueError, download, headers=headers)


def test_header_values_that_are_not_ascii():
    net = use(Net(whole()))
    fetch(download(headers={"X-A": "Grüße\t漢"}))
    assert "X-A: Grüße\t漢\r\n".encode() in net.sent[0]


def test_hook_sees_each_request_and_may_add_to_it():
    seen = []

    def hook(request):
        seen.append(request.url)
        request.headers["X-Count"] = str(len(seen))

    net = use(Net(moved(b"/x"), parts(1000)))
    assert fetch(download(http_hook=hook, request_size=1000)) == FILE
    assert seen == [URL, "http://host/x", "http://host/x"]
    assert head_of(net.sent[0])[1]["X-Count"] == "1"
    assert [head_of(net.sent[1], i)[1]["X-Count"] for i in (0, 1)] == ["2", "3"]


def test_hook_may_take_headers_away():
    def hook(request):
        del request.headers["X-A"]

    net = use(Net(whole()))
    fetch(download(http_hook=hook, headers={"X-A": "1"}))
    assert "X-A" not in head_of(net.sent[0])[1]


def test_hook_is_held_to_the_same_rules():
    def hook(request):
        request.headers["X"] = "a\r\nY: b"

    net = use(Net(whole()))
    raises(ValueError, download(http_hook=hook).open)
    assert net.sent == []


def test_hook_that_raises_stops_the_update():
    def hook(request):
        raise KeyError("token")

    net = use(Net(whole()))
    raises(KeyError, download(http_hook=hook).open)
    assert net.sent == []


def test_request_size_is_checked():
    for size in (1, 511, -1, -600):
        assert "512" in str(raises(ValueError, download, request_size=size))
    for size in (None, 0, 512, 1 << 20):
        download(request_size=size)


def test_timeout_is_checked():
    for timeout in (0, -1, None):
        raises(ValueError, download, timeout_s=timeout)


def test_certificate_and_key_belong_together():
    raises(ValueError, download, cert="x")
    raises(ValueError, download, key="x")


def test_credentials_in_the_url_are_refused():
    e = raises(ValueError, download, "https://me:secret@host/x")
    assert "auth=" in str(e) and "secret" not in str(e)


def test_unknown_option_is_an_error():
    raises(TypeError, download, ca_data="x")


# -- error statuses


def test_error_statuses():
    for status in (400, 401, 403, 404, 405, 407, 409, 410, 416, 418, 451, 499, 501, 505):
        net = use(Net(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status))
        source = download()
        detail = fails(OTAError.HTTP_STATUS, source.open)
        assert str(status) in detail and "http://host/fw.bin" in detail
        assert source.status == status
        assert net.open == 0 and len(net.addresses) == 1


def test_statuses_that_pass():
    for status in (408, 425, 429, 500, 502, 503, 504, 506, 509, 511, 520, 527, 529, 530, 598, 599):
        busy = b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status
        use(Net(busy, busy, whole()))
        assert fetch(download()) == FILE
        net = use(Net(then=busy))
        assert str(status) in fails(OTAError.HTTP_STATUS, fetch, download())
        assert net.open == 0 and net.clock.ms - Clock().ms <= 120000


def test_server_says_when_to_come_back():
    busy = b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    net = use(Net(busy, whole()))
    assert fetch(download()) == FILE
    assert net.clock.ms - Clock().ms == 7000
    busy = b"HTTP/1.1 503 x\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n"
    net = use(Net(busy, whole()))
    assert "86400" in fails(OTAError.HTTP_STATUS, fetch, download())
    assert net.clock.ms == Clock().ms


def test_expired_link_is_fetched_anew():
    gone = b"HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n"
    net = use(
        Net(
            moved(b"http://cdn/x?sig=1"),
            part(0, 999) + gone,
            moved(b"http://cdn/x?sig=2"),
            part(1000, 1999),
        )
    )
    assert fetch(download(request_size=1000)) == FILE
    assert [head_of(s)[0].split()[1] for s in net.sent] == [
        "/fw.bin",
        "/x?sig=1",
        "/fw.bin",
        "/x?sig=2",
    ]


EXPIRED = (400, 401, 403, 404, 410)


def error(status):
    return b"HTTP/1.1 %d F\r\nContent-Length: 0\r\n\r\n" % status


def test_links_that_expire_in_each_way():
    for status in EXPIRED:
        for answer in (part(0, 999) + error(status), part(0, 999)[:-100]):
            # Within a response, and with the first word of a new connection.
            late = answer != part(0, 999) + error(status)
            answers = [moved(b"http://cdn/x?sig=1"), answer]
            if late:
                answers.append(error(status))
            answers.append(moved(b"http://cdn/x?sig=2"))
            answers.append(part(900, 1899) + part(1900, 1999) if late else part(1000, 1999))
            net = use(Net(*answers))
            assert fetch(download(request_size=1000)) == FILE
            assert [head_of(s)[0].split()[1] for s in net.sent[-2:]] == ["/fw.bin", "/x?sig=2"]
            assert net.clock.ms - Clock().ms <= 1000


def test_fresh_link_that_does_not_work():
    """It is asked for once more, not for ever."""
    for status in EXPIRED:
        link = moved(b"http://cdn/x?sig=1")
        net = use(Net(link, error(status), link, error(status), then=OSError(1)))
        detail = fails(OTAError.HTTP_STATUS, fetch, download())
        assert str(status) in detail and "http://cdn/x" in detail
        assert len(net.sent) == 4 and net.open == 0
        assert net.clock.ms - Clock().ms <= 1000


def test_each_progress_is_worth_a_fresh_link():
    for status in EXPIRED:
        answers = []
        for i in range(0, 2000, 600):
            answers += [
                moved(b"http://cdn/x?sig=%d" % i),
                part(i, min(i + 600, 2000) - 1) + error(status),
            ]
        net = use(Net(*answers))
        assert fetch(download(request_size=600)) == FILE
        assert len(net.sent) == 8
        assert net.clock.ms == Clock().ms


def test_first_url_that_refuses_is_an_error_at_once():
    for status in EXPIRED:
        net = use(Net(part(0, 999) + error(status), then=OSError(1)))
        assert str(status) in fails(OTAError.HTTP_STATUS, fetch, download(request_size=1000))
        assert len(net.sent) == 1
        # As well after a link that has expired.
        net = use(
            Net(moved(b"http://cdn/x"), part(0, 999) + error(403), error(status), then=OSError(1))
        )
        detail = fails(OTAError.HTTP_STATUS, fetch, download(request_size=1000))
        assert str(status) in detail and "http://host/fw.bin" in detail
        assert len(net.sent) == 3


def test_every_status_is_something():
    """Nothing but these passes, and nothing but these is a file; each other one is told at once."""
    for status in range(200, 600):
        if status in (200, 203, 204, 304, 206, 301, 302, 303, 307, 308):
            continue
        net = use(Net(error(status), whole()))
        passes = status in (408, 425, 429) or (status >= 500 and status not in (501, 505))
        if passes:
            assert fetch(download()) == FILE, status
        else:
            detail = fails(OTAError.HTTP_STATUS, fetch, download())
            assert detail.startswith("http://host/fw.bin answered %d" % status), detail
            assert len(net.addresses) == 1, status


def test_file_by_way_of_a_proxy():
    """203 (RFC 9110, section 15.3.4): a proxy says that it is one."""
    use(Net(whole().replace(b"200 OK", b"203 Non-Authoritative Information")))
    source = download()
    assert fetch(source) == FILE and source.status == 200
    # Ranges are ignored by it, the file is the same.
    use(Net(part(0, 999) + whole().replace(b"200 OK", b"203 x")))
    assert fetch(download(request_size=1000)) == FILE


def test_no_range_of_a_file_of_unknown_length():
    """416 where nothing tells how long it is: from its beginning, not its end."""
    short = chunked(b"200 OK", b"", FILE)[:900]
    source = download(request_size=0)
    net = use(Net(short, error(416), chunked(b"200 OK", b"", OTHER)))
    opened(source)
    buf = bytearray(2000)
    assert 0 < patiently(source, source.readinto, buf) <= 900
    fails(OTAError.CHANGED, lambda: [patiently(source, source.readinto, buf) for _ in range(9)])
    assert source.position == 0 and source.total is None
    data = b""
    while True:
        n = patiently(source, source.readinto, buf)
        if not n:
            break
        data += buf[:n]
    source.close()
    assert data == OTHER and net.open == 0


def test_odd_times_to_come_back():
    for value, wait in ((b"0.493", 1000), (b"2s", 2000), (b"-5", 0), (b"soon", 0), (b"9" * 40, 0)):
        busy = b"HTTP/1.1 503 x\r\nRetry-After: " + value + b"\r\nContent-Length: 0\r\n\r\n"
        net = use(Net(busy, whole()))
        assert fetch(download()) == FILE
        assert net.clock.ms - Clock().ms == wait, value


def test_error_status_in_the_middle():
    use(Net(part(0, 999) + b"HTTP/1.1 403 F\r\nContent-Length: 8\r\n\r\nexpired!"))
    assert "expired!" in fails(OTAError.HTTP_STATUS, fetch, download(request_size=1000))


def test_what_the_server_says_of_an_error():
    for body, said in ((b"<Error>\r\nno", ": <Error> no"), (b"\0\1\2\3", ""), (b"", "")):
        head = b"HTTP/1.1 403 F\r\nContent-Length: %d\r\n\r\n" % len(body)
        use(Net(head + body))
        assert fails(OTAError.HTTP_STATUS, fetch, download()).endswith("answered 403" + said)
    # It is cut, or does not come: the status counts.
    for reply in (b"HTTP/1.1 403 F\r\n\r\n", b"HTTP/1.1 403 F\r\nContent-Length: 9\r\n\r\n"):
        for answer in (reply, (reply, OSError(104))):
            use(Net(answer))
            assert fails(OTAError.HTTP_STATUS, fetch, download()).endswith("answered 403")


# -- which file it is


def test_later_ranges_are_of_the_same_file_or_all_of_another():
    for line, condition in (
        (b'ETag: "a1"\r\n', '"a1"'),
        (b"Last-Modified: Mon, 01 Jan 2024\r\n", "Mon, 01 Jan 2024"),
        (b'Last-Modified: Mon, 01 Jan 2024\r\nETag: "a1"\r\n', '"a1"'),
        (b'ETag: W/"a1"\r\n', None),
        (b"", None),
    ):
        net = use(Net(parts(1000, extra=line)))
        assert fetch(download(request_size=1000)) == FILE
        assert "If-Range" not in head_of(net.sent[0])[1]
        assert head_of(net.sent[0], 1)[1].get("If-Range") == condition


def test_going_on_with_an_earlier_download():
    tag = b'ETag: "a1"\r\n'
    for size, asked, answer in (
        (0, "1024-", part(1024, 1999, extra=tag)),
        (600, "1024-1623", part(1024, 1623, extra=tag) + part(1624, 1999, extra=tag)),
        (0, "1024-", whole(extra=tag)),
    ):
        net = use(Net(answer))
        source = download(request_size=size)
        opened(source, 1024, b'E"a1"', 2000)
        assert source.position == 1024 and source.total == 2000
        assert ranges(net.sent[0])[0] == asked
        assert head_of(net.sent[0])[1]["If-Range"] == '"a1"'
        buf = bytearray(3000)
        data = b""
        while True:
            n = patiently(source, source.readinto, buf)
            if not n:
                break
            data += buf[:n]
        assert data == FILE[1024:]
        assert net.open == 0


def test_going_on_with_what_is_another_file_now():
    for answer in (
        whole(OTHER, b'ETag: "a2"\r\n'),
        whole(FILE[:-1], b'ETag: "a1"\r\n'),
        part(1024, 1999, extra=b'ETag: "a2"\r\n'),
        b"HTTP/1.1 416 R\r\nContent-Length: 0\r\n\r\n",
    ):
        net = use(Net(answer, whole(OTHER, b'ETag: "a2"\r\n')))
        source = download(request_size=0)
        assert opened(source, 1024, b'E"a1"', 2000) == 200
        assert source.position == 0
        assert ranges(net.sent[-1]) == [] and "If-Range" not in head_of(net.sent[-1])[1]
        assert filled(source, 2000) == OTHER


def test_asking_for_news():
    for tag in (b'"a1"', b'W/"a1"', b"0x8D4BCC2E4835CD0", b"Mon, 01 Jan 2024"):
        net = use(Net(b"HTTP/1.1 304 N\r\n\r\n"))
        source = download()
        assert opened(source, 0, b"E" + tag) == 304
        assert head_of(net.sent[0])[1]["If-None-Match"] == tag.decode()
        source.close()
        net = use(Net(parts(1000, extra=b'ETag: "a2"\r\n')))
        source = download(request_size=1000)
        assert opened(source, 0, b"E" + tag) == 206
        assert len(filled(source, 2000)) == 2000
        assert "If-None-Match" not in head_of(net.sent[0], 1)[1]


def test_unexpected_success_is_an_error():
    for status in (201, 202, 205, 226):
        use(Net(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status))
        assert "expected 200 or 206" in fails(OTAError.HTTP_STATUS, fetch, download())


def test_query_is_never_told():
    url = "http://host/fw.bin?token=secret"
    for answers in (
        [b"HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n"],
        [moved(b"http://cdn/x?token=secret"), b"HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n"],
        [moved(b"ftp://cdn/x?token=secret")],
        [moved(b"http:///x?token=secret")],
        [moved(b"http://me:secret@cdn/x")],
        [b"nonsense"],
        [b""],
        [OSError(104)],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"],
    ):
        use(Net(*answers))
        try:
            fetch(download(url))
        except (OTAError, OSError) as e:
            assert "secret" not in str(e), e
        else:
            raise AssertionError("no error")


def test_query_of_a_refused_downgrade_is_not_told():
    use_tls(Net(moved(b"http://host/x?token=secret")))
    assert "secret" not in fails(OTAError.REDIRECT, fetch, download("https://host/x?token=secret"))


# -- memory


def test_steady_state_allocates_nothing():
    import micropython

    answer = parts(512)
    net = use(Net(answer))
    source = download(request_size=512)
    opened(source)
    filled(source, 512)  # later requests are all alike

    class Source:  # a socket as the firmware's C has it: reads and writes without allocating
        def __init__(self):
            self.at = source._conn.sock.at

        def write(self, buf, off=None, n=None):
            return off if n is None else n

        def readinto(self, buf, n=-1):
            n = len(buf) if n < 0 else n
            at = self.at
            i = 0
            while i < n:
                buf[i] = answer[at]
                at += 1
                i += 1
            self.at = at
            return n

    assert len(net.sent) == 1 and source._conn.at == source._conn._filled
    source._conn.sock = Source()
    buf = bytearray(256)
    micropython.heap_lock()
    try:
        got = 0
        while got < 1024:
            got += source.readinto(buf)
    finally:
        micropython.heap_unlock()
    assert source.position == 1536 and source.status == 206


# -- the very first connection


def first_handshakes(*errors):
    """A network where the first TLS handshakes end so; each handshake takes a connection."""
    net = use_tls(Net(*([b""] * len(errors)), whole()))
    left = list(errors)
    pass_on = net.wrap_socket

    def wrap_socket(raw, server_hostname, **options):
        if left:
            raise OSError(left.pop(0))
        return pass_on(raw, server_hostname, **options)

    net.wrap_socket = wrap_socket
    return net


def test_first_handshake_that_is_broken_off_is_tried_again():
    # Reset, timeout, and mbedTLS's "the peer has closed the connection".
    net = first_handshakes(104, 116, -29312)
    assert fetch(Download("https://host/fw.bin", cadata=b"0")) == FILE
    assert len(net.addresses) == 4 and net.open == 0


def test_first_handshakes_that_are_all_broken_off():
    net = first_handshakes(*[104] * 10)
    raises(OSError, opened, Download("https://host/fw.bin", cadata=b"0"))
    assert len(net.addresses) == 4 and net.open == 0


def later_handshakes(*errors):
    """A network whose first connection drops in the middle; then TLS handshakes end so."""
    tagged = whole(extra=b'ETag: "1"\r\n')
    answers = [(tagged[:1000], OSError(104))] + [b""] * len(errors) + [tagged]
    net = use_tls(Net(*answers))
    left = [None] + list(errors)
    pass_on = net.wrap_socket

    def wrap_socket(raw, server_hostname, **options):
        error = left.pop(0) if left else None
        if error:
            raise error
        return pass_on(raw, server_hostname, **options)

    net.wrap_socket = wrap_socket
    return net


def test_short_of_memory_for_a_moment():
    """ENOMEM, mbedTLS's words for it, and what it says when memory ends while it verifies."""
    net = later_handshakes(OSError(12), OSError(-32512), OSError(-9984), OSError(-17168))
    assert fetch(Download("https://host/fw.bin", cadata=b"0")) == FILE
    assert net.open == 0


def test_short_of_memory_from_the_start():
    for error, code in ((OSError(12), OTAError.MEMORY), (OSError(-9984), OTAError.CERT_CA)):
        net = use_tls(Net(whole(), whole()))

        def wrap_socket(raw, server_hostname, error=error, **options):
            raise error

        net.wrap_socket = wrap_socket
        fails(code, opened, Download("https://host/fw.bin", cadata=b"0"))
        assert len(net.addresses) == 1


def test_certificate_that_is_wrong_after_a_redirect():
    """The first host was fine; that says nothing of the second."""
    net = use_tls(Net(moved(b"https://cdn/x"), b""))
    left = [None, OSError(-9984)]
    pass_on = net.wrap_socket

    def wrap_socket(raw, server_hostname, **options):
        error = left.pop(0)
        if error:
            raise error
        return pass_on(raw, server_hostname, **options)

    net.wrap_socket = wrap_socket
    fails(OTAError.CERT_CA, opened, Download("https://host/fw.bin", cadata=b"0"))
    assert not left


def test_host_that_does_not_answer_is_told_to_be_a_redirects():
    for number in (104, 111, 113, 116):
        for location, told in ((b"http://cdn/x", True), (None, False)):
            use(Net(*([moved(location)] if location else []), then=OSError(number)))
            e = raises(OSError, opened, download())
            assert e.errno == number
            assert e.args[1].endswith(" (a redirect led there)") == told, e
            assert e.args[1].startswith("cdn:80: " if told else "host:80: ")


def test_first_handshake_that_is_refused_is_an_error_at_once():
    # A fatal alert, and a missing CA.
    for number in (-30592, -30336):
        net = first_handshakes(number)
        e = raises(OSError, opened, Download("https://host/fw.bin", cadata=b"0"))
        assert e.errno == number
        assert len(net.addresses) == 1 and net.open == 0


def test_host_that_does_not_listen_is_an_error_at_once():
    # 104 is what lwIP says of a refused connection.
    for number in (104, 111, 113, 116):
        net = use_tls(Net(OSError(number), whole()))
        e = raises(OSError, opened, Download("https://host/fw.bin", cadata=b"0"))
        assert e.errno == number
        assert len(net.addresses) == 1 and net.open == 0
