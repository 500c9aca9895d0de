# http.py and odd.py: heads as servers in the field write them. Whatever is odd but clear gives the same bytes as a
# plain head; what frames the body and is not clear is refused.

import sys

from fakenet import Clock, body, connection, fails, patiently, raises, refused
from https_ota import OTAError
from https_ota.net import words as explain
from https_ota.net import odd

BODY = bytes(range(10, 90))  # no line ends in it
# Of the responses that are thrown by dice: an emulator needs a minute for all.
EACH = 10 if sys.platform == "qemu" else 1


class Dice:
    """The same throws each time."""

    def __init__(self, seed):
        self.x = seed * 7919 + 12345

    def below(self, n):
        self.x = (self.x * 1103515245 + 12345) & 0x3FFFFFFF
        return (self.x >> 8) % n

    def of(self, *choices):
        return choices[self.below(len(choices))]


# -- odd but clear

# Lines that must not matter: to no response, and to none but that of a certain status.
NOISE = (
    b"X: y",
    b"X:",
    b":",
    b": 5",
    b"no header at all",
    b"HTTP/1.1 404 Not Found",
    b"\xc3\xbc\xff\x00: \xc3\xbc\xff\x00",
    b"Server: \x01\x02\x7f\xff",
    b"X-Long: " + b"y" * 700,
    b"Y" * 700,
    b"Y" * 700 + b": z",
    b"X-Content-Length: 3",
    b"Content-Length-X: 3",
    b"Content Length: 3",
    b"ContentLength: 3",
    b"X: a\rContent-Length: 3",
    b"Retry-After: 0.493",
    b"Retry-After: 99999999999999999999",
    b"Retry-After: Wed, 99 Foo 2026 99:99",
    b"Retry-After: \xff",
    b"Date: soon",
    b"Date: \xff",
    b"Content-Encoding:",
    b"Content-Encoding: none",
    b"Content-Encoding: None",
    b"Content-Encoding: UTF-8",
    b"Content-Encoding: utf8, binary",
    b"Content-Encoding: aws-chunked",
    b"Content-Encoding: aws-chunked,",
    b"Content-Encoding: identity \t",
    b"Content-Encoding: Identity",
    b"Content-Encoding: identity, identity",
    b"Content-Encoding: \xff",
    b"Content-Encoding: 8bit",
    b'ETag: "\xff"',
    b"ETag: ",
    b'ETag: "' + b"x" * 300 + b'"',
    b"Last-Modified: 0",
    b"Last-Modified: \xff",
    b"WWW-Authenticate: \xff",
    b'WWW-Authenticate: Digest realm="' + b"x" * 400,
    b"Connection: \xff, Upgrade",
    b"Connection:",
    b"Location: \xff\xfe",
    b"Location: /" + b"x" * 3000,
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: Identity ",
)
NOISE_OF_200 = (
    b"Content-Range: junk",
    b"Content-Range:",
    b"Content-Range: bytes */5",
    b"Content-Range: bytes 0-99999999999999999999/*",
    b"Content-Range: \xff",
    b"Content-Range: bytes 5-1/0",
)


def spelled(dice, name, value):
    """A header, written in some way."""
    name = dice.of(name, name.lower(), name.upper()) + dice.of(b"", b"", b" ", b"\t ")
    fold = dice.of(b"\r\n ", b"\n\t", b" \r\n\t ")
    before = dice.of(b" ", b"", b"  \t", fold)
    after = dice.of(b"", b"", b" ", b"\t ", fold)
    return name + b":" + before + value + after


def response(dice, status, framing):
    """(bytes, whether the connection may be kept) of a response with BODY or, with 206, the bytes 5-24 of it."""
    data = BODY if status == 200 else BODY[5:25]
    keep = True
    version = dice.of(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2")
    lines = []
    if version == b"HTTP/1.0":
        keep = dice.below(2) == 1
        if keep:
            lines.append(spelled(dice, b"Connection", dice.of(b"keep-alive", b"Keep-Alive")))
    elif dice.below(8) == 0:
        keep = False
        lines.append(spelled(dice, b"Connection", dice.of(b"close", b"Close", b"foo, Close")))
    if status == 206:
        value = dice.of(
            b"bytes 5-24/80",
            b"Bytes 5-24/80",
            b"BYTES  5 - 24 / 80",
            b"bytes 005-024/0080",
            b"bytes=5-24/80",
            b"bytes\t5-24/80",
            b"bytes\r\n 5-24/80",
        )
        lines.append(spelled(dice, b"Content-Range", value))
    if framing == "length":
        n = len(data)
        value = dice.of(b"%d", b"00%d", b"%d, %d", b"%d ,%d\t, %d", b"%d,\r\n %d")
        value = value % ((n,) * value.count(b"%d"))
        lines += [spelled(dice, b"Content-Length", value)] * dice.of(1, 1, 2)
        sent = data
    elif framing == "chunks":
        lines.append(spelled(dice, b"Transfer-Encoding", dice.of(b"chunked", b"Chunked")))
        if dice.below(4) == 0:
            # As some servers do: the chunks count, and the connection ends with them.
            lines.append(spelled(dice, b"Content-Length", b"%d" % len(data)))
            keep = False
        if version == b"HTTP/1.0":
            keep = False
        sent = b""
        i = 0
        while i < len(data):
            n = min(1 + dice.below(40), len(data) - i)
            size = dice.of(b"%x", b"%X", b"000%x", b"%x ", b"%x;a=b", b'%x ; a="b"') % n
            sent += size + dice.of(b"\r\n", b"\n") + data[i : i + n] + dice.of(b"\r\n", b"\n")
            i += n
        trailer = dice.of(b"", b"", b"X: y\r\n", b"X: y\r\n folded\r\nno header\r\n")
        sent += dice.of(b"0", b"000", b"0 ;x") + b"\r\n" + trailer + b"\r\n"
    else:
        keep = False
        sent = data
    for _ in range(dice.below(6)):
        noise = NOISE if status == 206 or dice.below(3) else NOISE_OF_200
        lines.insert(dice.below(len(lines) + 1), noise[dice.below(len(noise))])
    end = dice.of(b"\r\n", b"\r\n", b"\n")
    reason = dice.of(b" OK", b"", b" ", b" \xc3\xbc\xff", b" " + b"x" * 300, b" OK\r\n folded")
    head = dice.of(b"", b"", b"", b"\r\n", b"\n", b"\r\n\r\n")
    if dice.below(5) == 0:
        head += b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n y\r\nContent-Length: 0\r\n\r\n"
    head += version + dice.of(b" ", b" ", b"  ") + b"%d" % status + reason + end
    return head + b"".join(line + end for line in lines) + end + sent, keep


def test_odd_heads_give_the_same_bytes_as_plain_ones():
    for seed in range(0, 600, EACH):
        dice = Dice(seed)
        stream = b""
        expected = []
        keep = True
        step = dice.of(None, 1, 7)
        while keep and len(expected) < 3:
            status = dice.of(200, 206)
            # Where the end of the connection is that of the body, a read that is not filled is the last.
            framing = dice.of("length", "chunks", "length" if step else "close")
            one, keep = response(dice, status, framing)
            stream += one
            expected.append((status, keep))
        conn = connection(stream, step)
        for status, keep in expected:
            try:
                assert conn.response() == status
                if status == 206:
                    assert (conn.start, conn.end, conn.total) == (5, 24, 80)
                else:
                    assert (conn.start, conn.end, conn.total) == (-1, -1, -1)
                assert body(conn) == (BODY if status == 200 else BODY[5:25])
                assert conn.ready() == keep
                assert conn.retry_after in (0, 1)
            except Exception as e:
                print("seed", seed, stream)
                raise e


def test_no_noise_matters():
    for line in NOISE + NOISE_OF_200:
        conn = connection(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 80\r\n\r\n" + BODY)
        assert conn.response() == 200
        assert body(conn) == BODY and conn.ready()
        assert conn.location is None and conn.retry_after >= 0


def test_line_that_belongs_to_none():
    """RFC 9112, section 2.2: what begins with a space behind the first line is passed over."""
    for line in (b" Transfer-Encoding: chunked", b"\tContent-Length: 3", b" ", b" x\r\n y"):
        head = b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 80\r\n\r\n"
        conn = connection(head + BODY)
        assert conn.response() == 200
        assert body(conn) == BODY and conn.ready()


def test_compressed_pages_of_errors_and_redirects():
    for status in (301, 302, 404, 429, 503, 522):
        head = (
            b"HTTP/1.1 %d x\r\nContent-Encoding: gzip\r\nLocation: /x\r\nContent-Length: 3\r\n\r\n"
        )
        conn = connection(head % status + b"\x1f\x8b\x08")
        assert conn.response() == status
        assert body(conn) == b"\x1f\x8b\x08" and conn.ready()


def test_odd_heads_that_come_byte_by_byte():
    """Between two bytes there is nothing, and the call is made again."""

    class Dripping:
        def __init__(self, sock):
            self.sock = sock
            self.wait = False

        def readinto(self, buf, n=None):
            self.wait = not self.wait
            if self.wait:
                return None
            return self.sock.readinto(buf, 1)

        def close(self):
            pass

    for seed in range(0, 200, EACH):
        dice = Dice(seed)
        stream = b""
        expected = []
        keep = True
        while keep and len(expected) < 3:
            status = dice.of(200, 206)
            one, keep = response(dice, status, dice.of("length", "chunks"))
            stream += one
            expected.append((status, keep))
        conn = connection(stream)
        conn.sock = Dripping(conn.sock)
        buf = bytearray(33)
        for status, keep in expected:
            assert patiently(conn, conn.response) == status
            data = b""
            while True:
                n = patiently(conn, conn.readinto, buf)
                if not n:
                    break
                data += buf[:n]
            assert data == (BODY if status == 200 else BODY[5:25]), seed
            assert conn.ready() == keep


# -- what is not clear

BAD_LINES = (
    b"Content-Length: 5, 6",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5,\r\n 6",
    b"Content-Length: 5\r\n 6",
    b"Content-Length: 5 6",
    b"Content-Length: 5,",
    b"Content-Length: ,5",
    b"Content-Length: five",
    b"Content-Length: 0x5",
    b"Content-Length: -5",
    b"Content-Length: +5",
    b"Content-Length: 5.0",
    b"Content-Length: 5;",
    b"Content-Length: \xff",
    b"Content-Length: 5\x00",
    b"Content-Length: 5\x0b",
    b"Content-Length:",
    b"Content-Length: 268435457",
    b"Content-Length: 5" + b" " * 300 + b"6",
    b"Content-Length:" + b" " * 367 + b"55",
    b"Content-Length 5",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: chunked" + b" " * 300 + b"x",
    b"Transfer-Encoding chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
    b"Content-Encoding: gzip",
    b"Content-Encoding: x-gzip",
    b"Content-Encoding: GZIP ",
    b"Content-Encoding: br",
    b"Content-Encoding: deflate",
    b"Content-Encoding: zstd",
    b"Content-Encoding: compress",
    b"Content-Encoding: aws-chunked, gzip",
    b"Content-Encoding: identity, br",
    b"Content-Encoding: identity" + b" " * 300 + b", gzip",
    b"Content-Encoding:\r\n gzip",
)
BAD_RANGES = (
    b"",
    b"items 5-24/80",
    b"5-24/80",
    b"bytes",
    b"bytes 5",
    b"bytes 5/80",
    b"bytes 5-/80",
    b"bytes -24/80",
    b"bytes 5-24",
    b"bytes 5-24/",
    b"bytes 5-24/x",
    b"bytes 5-2 4/80",
    b"bytes x-24/80",
    b"bytes 5-24,30-40/80",
    b"bytes 5-24/99999999999",
    b"bytes 99999999999-24/80",
    b"bytes 5-24/8" + b" " * 300 + b"0",
)
BAD_CHUNKS = (
    b"x\r\n",
    b"\r\n",
    b"-5\r\nabcde\r\n",
    b"+5\r\nabcde\r\n",
    b"0x5\r\nabcde\r\n",
    b" 5\r\nabcde\r\n",
    b"5 \r\n abcde\r\n",
    b"5x\r\nabcde\r\n",
    b"5\r\nabcdef\r\n",
    b"5\r\nabcde5\r\n",
    b"10000001\r\n",
    b"FFFFFFFFFFFFFFFF5\r\nabcde\r\n",
)


def test_what_frames_the_body_must_be_clear():
    for line in BAD_LINES:
        for more in (b"", b"Content-Length: 5\r\n"):
            refused(b"HTTP/1.1 200 OK\r\n" + more + line + b"\r\n\r\nabcdefghij")


def test_a_part_must_say_which():
    for value in BAD_RANGES:
        head = b"HTTP/1.1 206 P\r\nContent-Length: 20\r\nContent-Range: "
        conn = connection(head + value + b"\r\n\r\n" + bytes(20))
        if value in (b"bytes 5-24/", b""):
            try:
                conn.response()
                assert conn.total == -1  # Download asks for it
            except OTAError as e:
                assert e.code == OTAError.HTTP_PROTOCOL
        else:
            fails(OTAError.HTTP_PROTOCOL, conn.response)


def test_chunks_must_be_clear():
    for chunks in BAD_CHUNKS:
        refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")


def test_blank_lines_do_not_go_on_for_ever():
    assert "up to 16384" in refused(b"\r\n" * 9000)
    assert "up to 16384" in refused(b"HTTP/1.1 200 OK\r\nX: y" + b"\r\n z" * 9000)
    refused(b"\r\n\r\n", OTAError.DISCONNECTED)


def test_random_heads_raise_nothing_else():
    words = (
        b"HTTP/1.1 200 OK\r\n|HTTP/1.1 206 P\r\n|HTTP/1.1 503 x\r\n|Content-Length|Content-Range|Transfer-Encoding"
        b"|Content-Encoding|Retry-After|Date|ETag|Last-Modified|Connection|Location|WWW-Authenticate"
        b'|: |:|,| |\t|\r\n|\r\n|\r\n |\n|\r|5|80|-|/|*|bytes |chunked|identity|gzip|close|\xff|\x00|"|0.5|1s'
        b"|Sun, 06 Nov 1994 08:49:37 GMT|\r\n\r\n"
    ).split(b"|")
    for seed in range(1500):
        dice = Dice(seed)
        data = words[dice.below(3)]
        for _ in range(dice.below(40)):
            data += words[dice.below(len(words))]
        conn = connection(data)
        try:
            conn.response()
            body(conn)
        except OTAError as e:
            assert e.code in (
                OTAError.HTTP_PROTOCOL,
                OTAError.DISCONNECTED,
                OTAError.REDIRECT,
            ), (seed, e)
        assert 0 <= conn.retry_after <= 10000000


# -- when to come back


def after(value, date=None):
    lines = b"Retry-After:" + value + b"\r\n"
    if date is not None:
        lines = b"Date:" + date + b"\r\n" + lines
    conn = connection(b"HTTP/1.1 503 x\r\n" + lines + b"Content-Length: 0\r\n\r\n")
    conn.response()
    return conn.retry_after


def test_retry_after_in_seconds():
    for value, seconds in (
        (b"120", 120),
        (b" 0120 ", 120),
        (b"0", 0),
        (b"0.493", 1),
        (b"292.052427053", 293),
        (b"1.0", 2),
        (b"1s", 1),
        (b"5 seconds", 5),
        (b"86400", 86400),
    ):
        assert after(value) == seconds, value
    for value in (
        b"",
        b" ",
        b"-5",
        b"+5",
        b"1e3",
        b"100ms",
        b"1m",
        b"soon",
        b"\xff",
        b"nan",
        b"inf",
        b"5, 6",
        b"99999999",
        b"9" * 30,
        b"9" * 30 + b".5",
        b" " * 300,
        b"1" * 300,
    ):
        assert after(value) == 0, value


def test_retry_after_by_the_servers_clock():
    own = odd.time, explain.time
    date = b"Sun, 28 Feb 2027 23:59:30 GMT"
    try:
        for year in (2000, 2026):
            odd.time = explain.time = Clock(year)
            for value, seconds in (
                (b"Mon, 01 Mar 2027 00:00:10 GMT", 40),
                (b"Monday, 01-Mar-27 00:00:10 GMT", 40),
                (b"Mon Mar  1 00:00:10 2027", 40),
                (b"sun, 28 feb 2027 23:59:31 gmt", 1),
                (b"Sun, 28 Feb 2027 23:59:30 GMT", 0),
                (b"Sun, 28 Feb 2027 23:59:29 GMT", 0),
                (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
                (b"Tue, 28 Feb 2090 23:59:30 GMT", 0),
                (b"Sun, 28 Feb 23:59:59 GMT", 0),
                (b"28 2027 23:59:59", 0),
                (b"Sun, 28 Feb 2027 25 GMT", 0),
                (b"Sun, 28 Feb 2027 1:x:2 GMT", 0),
            ):
                assert after(value, date) == seconds, value
                for junk in (b"soon", b"", b"\xff", b"Sun, 28 Feb 2027"):
                    assert 0 <= after(value, junk) <= 10000000
        # Without a Date, by the board's, when that was set: 4 March 2026, 05:06:07.
        late = b"Wed, 04 Mar 2026 05:07:07 GMT"
        odd.time = explain.time = Clock(2026)
        assert after(late) == 60
        odd.time = explain.time = Clock(2000)
        assert after(late) == 0
    finally:
        odd.time, explain.time = own


def test_leap_years_and_ends_of_months():
    for now, then, seconds in (
        (b"29 Feb 2028 00:00:00", b"01 Mar 2028 00:00:00", 86400),
        (b"28 Feb 2028 00:00:00", b"01 Mar 2028 00:00:00", 2 * 86400),
        (b"28 Feb 2026 00:00:00", b"01 Mar 2026 00:00:00", 86400),
        (b"31 Dec 2026 23:59:59", b"01 Jan 2027 00:00:00", 1),
        (b"30 Apr 2026 00:00:00", b"01 May 2026 00:00:00", 86400),
        (b"31 Jul 2026 00:00:00", b"01 Aug 2026 00:00:00", 86400),
        (b"31 Aug 2026 00:00:00", b"01 Sep 2026 00:00:00", 86400),
        (b"31 Jan 2026 00:00:00", b"01 Feb 2026 00:00:00", 86400),
    ):
        assert odd.seconds(b"Day, " + then + b" GMT", b"Day, " + now + b" GMT") == seconds, then


def test_bytes_of_no_header_name_are_no_error():
    raises(OTAError, connection(b"\xff\xfe\r\n\r\n").response)
