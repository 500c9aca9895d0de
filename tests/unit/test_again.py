# What comes in bits and pieces: each method goes on where None left it.

from errno import ETIMEDOUT

import https_ota.local
from fakenet import Clock, Net, filled, patiently, use
from https_ota import OTA
from https_ota.local import Local
from https_ota.net.download import Download
from https_ota.net.http import Connection
from makeimage import Stream, image, noise

from https_ota import running_info

FILE = noise(3000)


class SlowNet(Net):
    """Every second read and write comes to nothing; the others to `bits` bytes."""

    bits = 7

    def socket(self, family, kind, proto):
        sock = super().socket(family, kind, proto)
        return Slow(sock, self)


class Slow:
    def __init__(self, sock, net):
        self.sock = sock
        self.net = net
        self.calls = 0
        self.setblocking = sock.setblocking
        self.connect = sock.connect
        self.close = sock.close

    def nothing(self):
        self.calls += 1
        return self.calls & 1

    def readinto(self, buf, n=None):
        if self.nothing():
            return None
        n = len(buf) if n is None else n
        return self.sock.readinto(buf, min(n, self.net.bits))

    def write(self, buf, off=None, n=None):
        if self.nothing():
            return None
        if n is None:
            off, n = 0, len(buf) if off is None else off
        return self.sock.write(buf, off, min(n, self.net.bits))


waits = 0


def fetch(*answers, bits=7, **options):
    net = use(SlowNet(*answers))
    net.bits = bits
    source = Download("http://host/fw.bin", insecure=True, **options)
    wait = source.wait

    def count_and_wait():
        global waits
        waits += 1
        stream, _, ms = source.waits_for()
        assert ms > 0 or stream is None
        wait()

    source.wait = count_and_wait
    patiently(source, source.open)
    buf = bytearray(256)
    data = b""
    while True:
        n = patiently(source, source.readinto, buf)
        if not n:
            break
        data += buf[:n]
    source.close()
    assert net.open == 0
    return data, net


def head(*lines):
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


OK = head("HTTP/1.1 200 OK", 'ETag: "1"', "Content-Length: 3000")


def part(first, last):
    lines = (
        "Content-Range: bytes %d-%d/3000" % (first, last),
        "Content-Length: %d" % (last + 1 - first),
    )
    return head("HTTP/1.1 206 P", *lines) + FILE[first : last + 1]


def test_plain():
    for bits in (1, 2, 7, 300):
        data, net = fetch(OK + FILE, bits=bits)
        assert data == FILE
        # The request went out whole, and once.
        assert net.sent[0].count(b"GET ") == 1 and net.sent[0].endswith(b"\r\n\r\n")
    assert waits > 1000


def test_ranges():
    answers = b"".join(part(i, i + 599) for i in range(0, 3000, 600))
    data, net = fetch(answers, request_size=600)
    assert data == FILE
    wanted = ["Range: bytes=%d-%d\r\n" % (i, i + 599) for i in range(0, 3000, 600)]
    sent = net.sent[0].decode()
    assert [sent.count(w) for w in wanted] == [1] * 5


def test_chunks_and_trailers():
    body = b"".join(b"%x;x=y\r\n" % 100 + FILE[i : i + 100] + b"\r\n" for i in range(0, 3000, 100))
    answer = head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + body
    for end in (b"0\r\n\r\n", b"0\r\nX-Sum: 12\r\nX-More: 3\r\n\r\n"):
        for bits in (1, 3, 500):
            assert fetch(answer + end, bits=bits)[0] == FILE


def test_interim_responses_and_redirects():
    moved = head(
        "HTTP/1.1 302 Found", "Location: http://other/%s" % ("x" * 400), "Content-Length: 0"
    )
    early = head("HTTP/1.1 100 Continue") + head("HTTP/1.1 103 Early", "Link: <x>")
    data, net = fetch(early + moved, early + OK + FILE)
    assert data == FILE
    assert [host for host, _ in net.addresses] == ["host", "other"]
    assert b"GET /" + b"x" * 400 + b" HTTP" in net.sent[1]


def test_until_close():
    data, _ = fetch(head("HTTP/1.0 200 OK") + FILE)
    assert data == FILE


def test_drops():
    """What had come is not asked for again."""
    rest = head("HTTP/1.1 206 P", 'ETag: "1"', "Content-Range: bytes 1000-2999/3000")
    rest = rest.replace(b"\r\n\r\n", b"\r\nContent-Length: 2000\r\n\r\n")
    data, net = fetch((OK + FILE[:1000], OSError(104)), rest + FILE[1000:])
    assert data == FILE
    assert b"Range: bytes=1000-" in net.sent[1]


def test_session():
    """begin(), perform() and finish() of an update, a few bytes at a time."""
    own = running_info()
    data = image(9000, chip_id=own.chip_id, spi_mode=own.spi_mode)
    net = use(SlowNet(head("HTTP/1.1 200 OK", "Content-Length: %d" % len(data)) + data))
    ota = OTA("http://host/fw.bin", insecure=True, resume=False)
    waited = []
    wait = ota._file.wait

    def count_and_wait():
        waited.append(1)
        wait()

    ota._file.wait = count_and_wait
    assert ota.begin() is ota.info
    assert ota.info.version == "1.2.3"
    while ota.perform():
        pass
    ota.finish()
    assert len(waited) > 1000
    assert ota.is_complete_data_received() and net.open == 0


class Trickle(Stream):
    """Every second read gives nothing yet."""

    calls = 0

    def readinto(self, buf):
        self.calls += 1
        if self.calls & 1:
            return None
        return super().readinto(memoryview(buf)[:33])


def test_encrypted_header():
    from https_ota.trust.decrypt import Decrypt

    class Cipher:
        header_size = 100

        def begin(self, header):
            self.header = header

        def decrypt(self, buf, n):
            pass

        def finish(self):
            pass

        wipe = finish

    cipher = Cipher()
    decrypt = Decrypt(Local(Trickle(FILE), None), cipher)
    assert decrypt.open() is None
    while decrypt.open() is None:
        pass
    assert cipher.header == FILE[:100]
    buf = bytearray(10)
    assert decrypt.readinto(buf) is None
    assert decrypt.readinto(buf) == 10 and bytes(buf) == FILE[100:110]


def test_source_that_has_nothing_yet():
    """A stream of the caller's, without a wait() of its own."""
    own = running_info()
    data = image(9000, chip_id=own.chip_id, spi_mode=own.spi_mode)
    source = Trickle(data)
    ota = OTA(source)
    time = https_ota.local.time
    https_ota.local.time = Clock()
    try:
        ota.begin()
        while ota.perform():
            pass
        ota.finish()
    finally:
        https_ota.local.time = time
    assert ota.is_complete_data_received() and source.calls > 500


def test_each_wait_is_told():
    """What for, and for how long at most; a pause before the next try, too."""
    net = use(Net(then=OSError(113)))
    source = Download("http://host/fw.bin", insecure=True, timeout_s=9)
    net.answers = [OK + FILE[:1000]]
    patiently(source, source.open)
    buf = bytearray(3000)
    assert filled(source, 1000) == FILE[:1000]
    net.silent = True
    pauses = []
    while len(pauses) < 3:
        assert source.readinto(buf) is None
        stream, to_write, ms = source.waits_for()
        assert stream is None and not to_write
        if ms:
            pauses.append(ms)
        source.wait()
        assert source.waits_for()[2] == max(0, ms - 250)
    source.close()


def test_silence_is_counted_from_what_came_last():
    """A piece of a TLS record is progress, though it gives no byte."""
    net = use(Net(OK + FILE))
    conn = Connection("host", 80, None, 5)
    assert conn.open() and conn.send(b"GET", 3)

    class Pieces:
        def readinto(self, buf, n=None):
            return None

    conn.sock = Pieces()
    for _ in range(5):
        assert conn.response() is None
        stream, to_write, ms = conn.waits_for()
        assert stream is conn.sock and not to_write and 4000 <= ms <= 5000
        net.clock.ms += 4000  # whoever awaits does so elsewhere; ipoll() finds something then
    net.silent = True
    assert conn.response() is None
    net.clock.ms += 999
    assert conn.response() is None
    net.clock.ms += 1
    try:
        conn.response()
    except OSError as e:
        assert e.errno == ETIMEDOUT
    else:
        raise AssertionError
