# download.py: more than one ranged request under way at once. The server answers what it has been asked, when it has.

import gc
from errno import ETIMEDOUT
from select import POLLOUT

from fakenet import Net, fails, filled, opened, patiently, raises, use
from https_ota import OTAError
from https_ota.net.download import Download
from makeimage import noise

FILE = noise(60000)
SIZE = 3000
MOST = 12
URL = "http://host/fw.bin"
TAG = b'ETag: "a"\r\n'
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


class Live(Net):
    """A server of FILE. What a request is answered with makes reply(it), from its own words of it.

    `most` is how many requests were unanswered, or their answers unread, at once; `asked` has (connection, first, last)
    of each range, `served` the bytes of responses that were read.
    """

    def __init__(self, reply=None, step=None):
        super().__init__(step=step)
        self.make = reply or (lambda request: request.part())
        self.asked = []
        self.seen = []
        self.most = 0

    def socket(self, *_):
        self.open += 1
        return _Live(self)

    def poll(self):
        return _Poll(self)


class _Poll:
    def __init__(self, net):
        self.net = net

    def register(self, sock, events):
        self.sock = sock
        self.events = events

    modify = register

    def ipoll(self, ms):
        if self.events & POLLOUT or self.sock.unread or self.sock.over is not None:
            return ((self.sock, self.events & POLLOUT),)
        self.net.clock.sleep_ms(ms)
        return ()


class Request:
    def __init__(self, text, number, index, conn):
        self.text = text
        self.number = number  # of all
        self.index = index  # on its connection
        self.conn = conn
        i = text.find("Range: bytes=")
        self.first = self.last = None
        if i >= 0:
            first, _, last = text[i + 13 :].split("\r\n")[0].partition("-")
            self.first, self.last = int(first), int(last or len(FILE) - 1)

    def part(self, extra=b"", data=FILE, version=b"1.1", last=None, total=None):
        last = min(self.last if last is None else last, len(data) - 1)
        body = data[self.first : last + 1]
        head = b"HTTP/%s 206 P\r\n%s%sContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
        return head % (version, TAG, extra, self.first, last, total or len(data), len(body)) + body


class _Live:
    """One connection to Live: what is written is a request, what is read the answers."""

    def __init__(self, net):
        self.net = net
        self.request = b""
        self.count = 0
        self.unread = []  # answers, the first from `at` on
        self.at = 0
        self.made = 0  # bytes of all
        self.over = None  # what comes behind them: b"" the end, an OSError, None silence
        self.dead = False
        self.closed = False

    def setblocking(self, flag):
        pass

    def getpeercert(self, binary):
        return b""

    def connect(self, address):
        self.mine = len(self.net.sent)
        self.net.sent.append(b"")

    def write(self, buf, off, n):
        assert not self.closed
        if self.dead:
            return n
        self.request += bytes(buf[off : off + n])
        while b"\r\n\r\n" in self.request:
            text, self.request = self.request.split(b"\r\n\r\n", 1)
            request = Request(text.decode(), len(self.net.asked), self.count, self)
            self.count += 1
            self.net.asked.append((self.mine, request.first, request.last))
            self.net.seen.append(request)
            answer = self.net.make(request)
            if answer is None:
                self.dead = True
                break
            if answer:
                self.unread.append(answer)
                self.made += len(answer)
            self.net.most = max(self.net.most, len(self.unread))
        return n

    def readinto(self, buf, n=None):
        assert not self.closed
        n = len(buf) if n is None else n
        if self.net.step:
            n = min(n, self.net.step)
        got = 0
        while got < n and self.unread:
            part = self.unread[0][self.at : self.at + n - got]
            buf[got : got + len(part)] = part
            got += len(part)
            self.at += len(part)
            if self.at == len(self.unread[0]):
                self.unread.pop(0)
                self.at = 0
        if n and not got:
            if isinstance(self.over, OSError):
                raise self.over
            return None if self.over is None else 0
        return got

    def close(self):
        if not self.closed:
            self.net.open -= 1
        self.closed = True


def source(**options):
    return Download(URL, insecure=True, request_size=SIZE, **options)


def read(download, buf=None, file=FILE):
    """Read to the end; True when it was this file."""
    buf = buf or bytearray(1000)
    at = 0
    while True:
        n = patiently(download, download.readinto, buf)
        assert download.position == at + n
        if not n:
            download.close()
            return at == len(file)
        assert buf[:n] == file[at : at + n]
        at += n


def fetched(reply=None, step=None, **options):
    """The network, after all of the file came through it."""
    net = use(Live(reply, step))
    download = source(**options)
    opened(download)
    assert read(download)
    assert net.open == 0
    return net


def in_order(asked):
    """Whether each range begins where the one before it ended."""
    return all(a[2] + 1 == b[1] for a, b in zip(asked, asked[1:]))


def deep(net):
    return net.most > 1


# -- all is well


def test_several_are_out():
    net = fetched()
    assert 8 <= net.most <= MOST
    assert len(net.sent) == 1 and in_order(net.asked)
    assert [a[1] for a in net.asked] == list(range(0, 60000, SIZE))


def test_reads_and_pieces_of_any_size():
    for step in (None, 100, 2999):
        for size in (300, 1000, 2999, 3000, 3001, 9000):
            net = use(Live(step=step))
            download = source()
            opened(download)
            assert read(download, bytearray(size))
            assert net.most > 1 and in_order(net.asked) and len(net.sent) == 1


def test_sizes_of_ranges():
    for size in (512, 600, 4096, 5000, 8192, 20000, 50000):
        gc.collect()
        net = use(Live())
        download = Download(URL, insecure=True, request_size=size)
        opened(download)
        assert read(download)
        assert in_order(net.asked) and net.most <= MOST
        # No more than is of use, and none twice.
        assert net.asked[-1][2] == 59999 or size == 50000


def test_who_looks_at_the_beginning_only_asks_for_no_more():
    net = use(Live())
    download = source()
    opened(download)
    buf = bytearray(1024)
    patiently(download, download.readinto, buf)
    assert len(net.asked) == 1
    download.close()
    assert net.open == 0


def test_hook_is_called_for_each_in_order():
    seen = []

    def hook(request):
        seen.append(1)
        request.headers["X-Count"] = str(len(seen))

    net = fetched(http_hook=hook)
    assert deep(net) and in_order(net.asked)
    for i, request in enumerate(net.seen):
        assert "X-Count: %d" % (i + 1) in request.text


def test_opened_again():
    """Anywhere, without close(): what was under way is of no use."""
    for n in (500, 1024, 2500, 3000, 3001, 7000):
        for position in (0, 1, 20000):
            net = use(Live())
            download = source()
            opened(download)
            assert filled(download, n) == FILE[:n]
            asked = len(net.asked)
            opened(download, position, b'E"a"', 60000)
            assert net.asked[asked][1] == position
            assert filled(download, 20000) == FILE[position : position + 20000]
            download.close()
            assert net.open == 0


# -- where there is only one at a time


def one_at_a_time(reply, connections=1):
    net = fetched(reply)
    assert net.most == 1
    assert connections is None or len(net.sent) == connections
    assert in_order(net.asked)
    return net


def test_http_1_0():
    one_at_a_time(lambda r: r.part(b"Connection: keep-alive\r\n", version=b"1.0"))


def ends(request, answer):
    request.conn.over = b""
    request.conn.dead = True
    return answer


def test_server_that_closes_each_time():
    one_at_a_time(lambda r: ends(r, r.part(b"Connection: close\r\n")), 20)
    one_at_a_time(lambda r: ends(r, r.part(version=b"1.0")), 20)


def test_whole_file():
    whole = b"HTTP/1.1 200 OK\r\n%sContent-Length: 60000\r\n\r\n" % TAG + FILE
    net = fetched(lambda r: whole)
    assert len(net.asked) == 1
    net = use(Live(lambda r: whole))
    download = Download(URL, insecure=True, request_size=0)
    opened(download)
    assert read(download) and len(net.asked) == 1


# -- the first sign of trouble


def after_trouble(net):
    """Several on the first connection, one at a time on those behind it; nothing twice but what was under way."""
    assert len(net.sent) > 1
    second = next(i for i, a in enumerate(net.asked) if a[0] > 0)
    first, later = net.asked[:second], net.asked[second:]
    assert in_order(first) and in_order(later)
    # What had come whole is not asked for again.
    assert later[0][1] <= first[-1][2] + 1
    assert first[-1][2] + 1 - later[0][1] <= MOST * SIZE
    return later


def shallow(reply, **options):
    """The file comes; once trouble has shown, one range at a time."""
    state = {"most": 0}

    def watch(request):
        if request.conn.mine > 0:
            unread = len(request.conn.unread)
            state["most"] = max(state["most"], unread + 1)
        return reply(request)

    net = fetched(watch, **options)
    after_trouble(net)
    assert state["most"] == 1
    return net


def test_server_that_closes_after_some():
    for error in (b"", OSError(104), OSError(-29312)):
        for k in range(1, 9):

            def reply(request, k=k, error=error):
                if request.conn.mine == 0 and request.index == k:
                    request.conn.over = error
                    return None
                return request.part()

            net = shallow(reply)
            assert len(net.sent) == 2


def test_server_that_is_cut_short():
    for n in (0, 1, 30, 100, 110, 1500, 3000):

        def reply(request, n=n):
            answer = request.part()
            if request.conn.mine == 0 and request.index == 4:
                return ends(request, answer[:n])
            return answer

        shallow(reply)


def test_server_that_answers_only_the_first():
    """And says nothing of the others, or of all that comes later: that is found out once."""
    for silent in (True, False):

        def reply(request, silent=silent):
            if request.conn.unread:
                return None if silent else b""
            return request.part()

        net = shallow(reply)
        assert len(net.sent) == 2
        assert net.clock.ms - 1000 == (15000 if silent else 0)


def test_server_that_reorders():
    held = []

    def reply(request):
        if request.conn.mine or request.index < 2:
            return request.part()
        if not held:
            held.append(request)
            return b""
        answer = request.part()
        if len(held) == 1:
            answer += held[0].part()
            held.append(None)
        return answer

    shallow(reply)


def test_server_that_gives_less_than_was_asked_for():
    def reply(request):
        return request.part(last=min(request.last, request.first + 999))

    net = fetched(reply)
    assert len(net.sent) <= 2


def test_garbage_between_answers():
    def reply(request):
        junk = b"junk" if request.conn.mine == 0 and request.index == 3 else b""
        return request.part() + junk

    shallow(reply)


def test_old_version_behind_a_new_one():
    """A proxy that speaks HTTP/1.0 from some response on: the others are void."""

    def reply(request):
        if request.conn.mine == 0 and request.index >= 2:
            return ends(request, request.part(version=b"1.0"))
        return request.part()

    net = fetched(reply)
    assert len(net.sent) == 2


def test_record_too_large():
    """Of two answers in one record, as may be: they would fit one by one."""
    too_big = OSError(-29184, "MBEDTLS_ERR")

    def reply(request):
        if request.conn.unread and request.index > 2:
            request.conn.over = too_big
            return None
        return request.part()

    net = shallow(reply)
    assert len(net.sent) == 2
    assert all(last + 1 - first in (SIZE, 1000) for _, first, last in net.asked)


def test_record_too_large_all_the_same():
    def reply(request):
        if request.last - request.first >= 1600:
            if request.number > 2:
                request.conn.over = OSError(-29184, "MBEDTLS_ERR")
                return None
        return request.part()

    net = fetched(reply)
    assert net.asked[-2][2] + 1 - net.asked[-2][1] == 1500


def test_status_that_several_at_once_make():
    for status in (400, 429, 500, 503):

        def reply(request, status=status):
            if request.conn.unread and request.index > 2:
                return b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status
            return request.part()

        net = shallow(reply)
        assert net.clock.ms - 1000 < 2000, status


def test_server_that_is_busy_for_a_while():
    def reply(request):
        if request.conn.mine == 0 and request.index >= 3:
            return b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
        return request.part()

    net = shallow(reply)
    assert 7000 <= net.clock.ms - 1000 < 8000


def test_error_that_stays():
    def reply(request):
        if request.number >= 3:
            return b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"
        return request.part()

    net = use(Live(reply))
    download = source()
    opened(download)
    assert "404" in fails(OTAError.HTTP_STATUS, read, download)
    assert net.open == 0 and len(net.sent) == 1


def test_silence_that_stays():
    net = use(Live(lambda r: r.part() if r.number < 3 else b""))
    download = source(stall_s=40)
    opened(download)
    assert raises(OSError, read, download).errno == ETIMEDOUT
    assert net.open == 0


# -- later requests say less


def is_short(request):
    return "Accept-Encoding" not in request.text


def test_what_later_requests_say():
    net = fetched(headers={"X-Mine": "1"}, auth=("me", "secret"))
    first = net.seen[0].text
    assert "User-Agent" in first and not is_short(net.seen[0])
    full = 0
    for request in net.seen:
        words = request.text
        assert "Host: host" in words and "X-Mine: 1" in words and "Authorization: Basic " in words
        if is_short(request):
            assert "User-Agent" not in words and "If-" not in words
        else:
            full += 1
    # Until the second answer has come.
    assert full <= MOST + 1 and is_short(net.seen[-1])


def test_all_is_said_where_the_answer_does_not_tell_the_file():
    whole = Request.part

    def without(request, extra=b"", **more):
        answer = whole(request, extra, **more)
        i = answer.find(TAG)
        return answer[:i] + b"Last-Modified: " + DATE + b"\r\n" + answer[i + len(TAG) :]

    net = fetched(without)
    assert deep(net)
    for request in net.seen:
        assert not is_short(request)
        assert ("If-Range: " + DATE.decode() in request.text) == (request.first > 0)


def test_all_is_said_to_the_hook():
    net = fetched(http_hook=lambda request: None)
    assert deep(net) and not any(is_short(request) for request in net.seen)


def said_in_full_after(wrong):
    """A server that answers short requests so: it is asked in full, on one more connection, and never so again."""

    def reply(request):
        return wrong(request) if is_short(request) else request.part()

    net = shallow(reply)
    assert len(net.sent) == 2
    asked = [is_short(request) for request in net.seen if request.conn.mine == 1]
    assert asked and not any(asked)


def test_server_that_wants_to_be_told_all():
    for status in (b"400", b"403"):
        answer = b"HTTP/1.1 " + status + b" x\r\nContent-Length: 0\r\n\r\n"
        said_in_full_after(lambda r, answer=answer: answer)


def test_server_that_compresses_for_who_does_not_object():
    said_in_full_after(lambda r: r.part(b"Content-Encoding: gzip\r\n"))


def test_server_that_does_not_tell_the_file_any_more():
    said_in_full_after(lambda r: r.part().replace(TAG, b""))
    said_in_full_after(lambda r: r.part().replace(TAG, b"Last-Modified: " + DATE + b"\r\n"))


def test_another_file_for_who_asks_short():
    other = noise(60000, 9)
    state = {"changed": False}

    def reply(request):
        if is_short(request):
            state["changed"] = True
        if state["changed"]:
            return request.part(data=other).replace(TAG, b'ETag: "b"\r\n')
        return request.part()

    net = use(Live(reply))
    download = source()
    opened(download)
    fails(OTAError.CHANGED, read, download)
    assert read(download, file=other) and net.open == 0


# -- what is said beforehand is no trouble


def test_server_that_says_which_is_the_last():
    for k in range(1, 7):

        def reply(request, k=k):
            if request.index == k:
                return ends(request, request.part(b"Connection: close\r\n"))
            return request.part()

        net = fetched(reply)
        assert len(net.sent) == -(-20 // (k + 1))
        assert net.most > 1
        # On each connection it begins where the last one ended; what came is not asked for again.
        got = [(c, first) for c, first, _ in net.asked]
        for conn in range(1, len(net.sent)):
            firsts = [first for c, first in got if c == conn]
            assert firsts[0] == conn * (k + 1) * SIZE


# -- other answers in between


def between(answer, index=3):
    def reply(request):
        if request.conn.mine == 0 and request.index >= index:
            return answer(request)
        return request.part()

    return reply


def test_nothing_in_between():
    """Said of a part it is no end; and said for ever, it is not asked for for ever."""
    for status in (204, 304):
        net = use(
            Live(lambda r, s=status: r.part() if r.number < 4 else b"HTTP/1.1 %d x\r\n\r\n" % s)
        )
        download = source()
        opened(download)
        fails(OTAError.DISCONNECTED, read, download)
        assert net.open == 0 and len(net.asked) < 40


def test_whole_file_in_between():
    whole = b"HTTP/1.1 200 OK\r\n%sContent-Length: 60000\r\n\r\n" % TAG + FILE
    for head in (whole, b"HTTP/1.1 200 OK\r\n%s\r\n" % TAG + FILE):
        net = fetched(between(lambda r, head=head: ends(r, head)))
        assert len(net.sent) == 1


def test_other_file_in_between():
    new = b'ETag: "b"\r\n'
    other = noise(60000, 9)
    for answer in (
        lambda r: ends(r, b"HTTP/1.1 200 OK\r\n%sContent-Length: 60000\r\n\r\n" % new + other),
        lambda r: r.part(data=other).replace(TAG, new),
        lambda r: r.part(data=other, total=59999),
        lambda r: b"HTTP/1.1 416 R\r\nContent-Length: 0\r\n\r\n",
    ):
        changed = []

        def reply(request, answer=answer, changed=changed):
            if request.number >= 4:
                changed.append(1)
            if not changed:
                return request.part()
            if request.conn.mine == 0:
                return answer(request)
            return request.part(data=other).replace(TAG, new)

        net = use(Live(reply))
        download = source()
        opened(download)
        fails(OTAError.CHANGED, read, download)
        assert download.position == 0
        assert read(download, file=other) and net.open == 0


def test_redirect_in_between():
    moved = b"HTTP/1.1 302 F\r\nLocation: http://host/there\r\nContent-Length: 0\r\n\r\n"
    net = fetched(between(lambda r: moved))
    assert len(net.sent) == 2 and deep(net)
    assert "GET /there" in net.seen[-1].text


def test_link_that_expires_in_between():
    links = []

    def reply(request):
        if "GET /fw.bin" in request.text:
            links.append(1)
            link = b"http://host/x?sig=%d" % len(links)
            return b"HTTP/1.1 302 F\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % link
        if "sig=1" in request.text and request.number > 4:
            return b"HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n"
        return request.part()

    net = fetched(reply)
    assert len(links) == 2 and "sig=2" in net.seen[-1].text


def test_digest():
    """Each request has a number of its own, in order; a nonce that is old is replaced, and what was under way asked again."""
    nonces = []
    counts = []

    def reply(request):
        text = request.text
        i = text.find('nonce="')
        nonce = text[i + 7 :].split('"')[0] if i >= 0 else None
        if nonce is None or (len(nonces) < 3 and len(counts) == 4):
            nonces.append("n%d" % len(nonces))
            counts.clear()
            stale = b"" if len(nonces) == 1 else b", stale=true"
            return (
                b'HTTP/1.1 401 U\r\nWWW-Authenticate: Digest realm="r", qop="auth", nonce="%s"%s\r\n'
                b"Content-Length: 0\r\n\r\n" % (nonces[-1].encode(), stale)
            )
        if nonce != nonces[-1]:
            return b"HTTP/1.1 400 B\r\nContent-Length: 0\r\n\r\n"  # void: nobody reads it
        counts.append(int(text[text.find("nc=") + 3 :].split(",")[0], 16))
        assert counts == list(range(counts[0], counts[0] + len(counts)))
        return request.part()

    net = fetched(reply, auth=("a", "b", "digest"))
    assert len(nonces) == 3 and deep(net)


# -- any end of any connection


def test_each_end_of_a_connection():
    """At each byte of the first connection, in each way: the file comes, and nothing of it twice that had come whole."""
    for error in (b"", OSError(104)):
        for n in range(0, 40000, 443):

            def reply(request, n=n, error=error):
                conn = request.conn
                answer = request.part()
                if conn.mine == 0 and request.number and conn.made + len(answer) > n:
                    conn.over = error
                    conn.dead = True
                    return answer[: max(0, n - conn.made)]
                return answer

            net = fetched(reply)
            after_trouble(net)


# -- memory, and a socket that takes little


def test_socket_that_takes_little():
    """Requests go out in pieces, with pauses, and what comes meanwhile is read."""
    for take in (1, 7, 60):
        net = use(Live())
        plain = net.socket

        def narrow(*args, plain=plain, take=take):
            sock = plain(*args)
            write = sock.write
            turn = [0]

            def little(buf, off, n):
                turn[0] += 1
                return None if turn[0] % 3 == 0 else write(buf, off, min(n, take))

            sock.write = little
            return sock

        net.socket = narrow
        download = source()
        opened(download)
        assert read(download) and in_order(net.asked)


def test_socket_that_takes_nothing_while_answers_are_unread():
    """A server that reads no request before its answer is taken: nobody waits for the other."""
    net = use(Live())
    plain = net.socket

    def narrow(*args):
        sock = plain(*args)
        write = sock.write

        def when_read(buf, off, n):
            return None if sock.unread else write(buf, off, n)

        sock.write = when_read
        return sock

    net.socket = narrow
    download = source()
    opened(download)
    assert read(download) and len(net.sent) == 1
    assert net.clock.ms - 1000 < 1000


def test_steady_state_allocates_nothing():
    import micropython

    made = [
        Request("Range: bytes=%d-%d" % (i, i + 2999), 0, 0, None).part()
        for i in range(0, 30000, 3000)
    ]
    use(Live())
    download = source()
    opened(download)
    assert filled(download, 12000) == FILE[:12000]
    conn = download._conn
    assert conn.at == conn._filled
    made = b"".join(made[4:])

    class Stream:  # as the firmware's C: reads and writes allocate nothing
        def __init__(self):
            self.at = self.writes = 0

        def write(self, buf, off, n):
            self.writes += 1
            return n

        def readinto(self, buf, n=-1):
            n = len(buf) if n < 0 else n
            at = self.at
            i = 0
            while i < n:
                buf[i] = made[at]
                at += 1
                i += 1
            self.at = at
            return n

    stream = conn.sock = Stream()
    buf = bytearray(500)
    gc.collect()
    micropython.heap_lock()
    try:
        got = 0
        while got < 9000:
            got += download.readinto(buf)
    finally:
        micropython.heap_unlock()
    assert stream.writes == 3 and download.position == 12000 + got
