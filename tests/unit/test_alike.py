# http.py: heads that are like the last one, which are compared with it and not read anew. What comes of it must be what comes
# of reading each for itself.

import micropython
from random import getrandbits, seed

from fakenet import connection, patiently
from https_ota import OTAError

SIZE = 600  # of a part
HEAD = (
    b"HTTP/1.1 206 Partial Content",
    b"Server: nginx/1.22.1",
    b"Date: Fri, 27 Nov 2026 16:06:%02d GMT",
    b"Content-Type: application/octet-stream",
    b"Content-Length: %d",
    b"Last-Modified: Fri, 27 Nov 2026 16:00:00 GMT",
    b"Connection: keep-alive",
    b'ETag: "6a2b-61a80"',
    b"Content-Range: bytes %d-%d/400000",
)


def head(i, first, last):
    """The lines of the head of response i."""
    lines = list(HEAD)
    lines[2] %= i % 60
    lines[4] %= last + 1 - first
    lines[8] %= (first, last)
    return lines


def joined(lines):
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def told(conn):
    """All that a response tells, its body included, or the error."""
    try:
        status = patiently(conn, conn.response)
        buf = bytearray(1000)
        view = memoryview(buf)
        got = 0
        while n := patiently(conn, conn.readinto, view[got:]):
            got += n
    except OTAError as e:
        return (e.code,)
    said = (status, conn.length, conn.start, conn.end, conn.total, conn.old, conn.etag)
    return said + (conn.modified, conn.head_size, conn.ready(), conn.location, bytes(buf[:got]))


def check(answers, step=None):
    """One connection for all of them tells the same as a new one for each."""
    data = b"".join(answers)
    conn = connection(data, step)
    sock = conn.sock
    while True:
        left = data[sock.at - (conn._filled - conn.at) :]
        expected = told(connection(left, step))
        found = told(conn)
        assert found == expected, (left[:400], found[:11], expected[:11])
        if len(found) == 1 or not conn.ready():
            break


def body(first, last):
    return bytes((first + i) * 7 & 255 for i in range(last + 1 - first))


def parts(n, position=0, size=SIZE):
    """Responses one after the other."""
    return [
        joined(head(i, first, first + size - 1)) + body(first, first + size - 1)
        for i, first in ((i, position + i * size) for i in range(n))
    ]


def test_parts_of_a_file():
    for position in (0, 9000, 98000, 100000):
        for step in (None, 1, 100, 350):
            check(parts(5, position), step)


def test_numbers_that_grow_and_shrink():
    for sizes in ((1, 9, 90, 600, 9), (600, 600, 1), (10, 10, 10)):
        for position in (0, 1, 9, 95, 990, 9990, 99000):
            answers = []
            first = position
            for i, size in enumerate(sizes):
                last = first + size - 1
                answers.append(joined(head(i, first, last)) + body(first, last))
                first = last + 1
            check(answers)


# What may be different in a head: lines that come in a place of it, or that go.
LINES = (
    b"Connection: close",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 599",
    b"Content-Length: 6",
    b"Content-Range: bytes 1-600/400000",
    b"Content-Range: bytes */400000",
    b"Content-Range: bytes 90000-90599/400001",
    b"Content-Range: bytes 9 000-90599/40000",
    b"Content-Range: bytes 90000-9 599/40000",
    b"Content-Range: bytes 90000590599/400000",
    b"Content-Range: bytes 90000-905990400000",
    b'ETag: "6a2b-61a81"',
    b'ETag: W/"6a2b-61a8',
    b"Last-Modified: Fri, 27 Nov 2026 16:00:01 GMT",
    b"Content-Encoding: gzip",
    b"Content-Encoding: identity",
    b"Date: Fri, 27 Nov 2026 16:06:01 GMU",
    b"Date: Fri,\r\nContent-Length: 3\r\nX: y",
    b"Date: Fri,\nContent-Length: 3\nX: yyy",
    b"Date: Fri,\r\n\r\nContent-Length: 3\r\nX",
    b"Date: Fri",
    b"DATE: Fri, 27 Nov 2026 16:06:01 GMT",
    b"X-Request-Id: 1",
    b"X-Request-Id: 2",
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 206 Partial Content",
    b"HTTP/1.1 416 Partial Content",
    b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 206 Partial Content",
    b"HTTP/1.1 204 Partial Content",
    b"",
    b" folded",
)


def test_one_line_is_another():
    for line in LINES:
        for k in range(len(HEAD)):
            for instead in (True, False):
                for at in (1, 2, 3):
                    answers = []
                    for i in range(5):
                        first = 90000 + i * SIZE
                        lines = head(i, first, first + SIZE - 1)
                        if i == at:
                            if instead:
                                lines[k] = line
                            else:
                                lines.insert(k, line)
                        answers.append(joined(lines) + body(first, first + SIZE - 1))
                    check(answers)


def test_all_have_what_is_different_each_time():
    for k in range(1, len(HEAD) + 1):
        answers = []
        for i in range(4):
            first = 90000 + i * SIZE
            lines = head(i, first, first + SIZE - 1)
            lines.insert(k, b"X-Request-Id: %d" % i)
            answers.append(joined(lines) + body(first, first + SIZE - 1))
        check(answers)


def test_one_byte_is_another():
    for at in range(len(joined(head(0, 90000, 90599)))):
        for byte in (b"0", b"\n", b"\r", b" ", b"x"):
            answers = parts(3, 90000)
            data = answers[1]
            answers[1] = data[:at] + byte + data[at + 1 :]
            check(answers)


def test_random_bytes_are_others():
    seed(17)
    for _ in range(1500):
        answers = parts(4, 90000)
        for _ in range(1 + getrandbits(2)):
            i = getrandbits(2)
            data = bytearray(answers[i])
            at = getrandbits(16) % 300
            if getrandbits(1):
                data[at] = getrandbits(8)
            else:
                n = getrandbits(3)
                data[at : at + n] = bytes(getrandbits(8) for _ in range(getrandbits(3)))
            answers[i] = bytes(data)
        check(answers)


def test_heads_that_fill_the_buffer():
    for n in range(40, 140):
        answers = []
        for i in range(3):
            first = 90000 + i * SIZE
            lines = head(i, first, first + SIZE - 1)
            lines.insert(1, b"X: " + b"y" * n)
            answers.append(joined(lines) + body(first, first + SIZE - 1))
        check(answers)


def test_redirect_with_a_long_location_before():
    long = b"HTTP/1.1 302 F\r\nLocation: /" + b"x" * 1500 + b"\r\nContent-Length: 0\r\n\r\n"
    check([long] + parts(3, 90000))
    check(parts(2, 90000) + [long] + parts(3, 91200))


def test_reading_one_allocates_nothing_and_takes_one_read():
    answers = parts(60, 100000)
    data = b"".join(answers)
    conn = connection(data)
    buf = bytearray(SIZE)
    reads = 0

    class Sock:
        at = 0

        def readinto(self, buf, n=-1):
            nonlocal reads
            reads += 1
            n = len(buf) if n < 0 else n
            n = min(n, len(data) - self.at)
            i = 0
            while i < n:
                buf[i] = data[self.at + i]
                i += 1
            self.at += n
            return n

    conn.sock = Sock()
    conn.response()
    while conn.left:
        conn.readinto(buf)
    reads = 0
    micropython.heap_lock()
    try:
        for _ in range(50):
            conn.response()
            conn.readinto(buf)
    finally:
        micropython.heap_unlock()
    assert reads == 100 and conn.end == 100000 + 51 * SIZE - 1 and not conn.left
