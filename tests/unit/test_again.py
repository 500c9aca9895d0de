# What comes in bits and pieces: each method goes on where steps.Again left it.

from fakenet import Net, use
from https_ota import OTA
from https_ota.net import http
from https_ota.net.download import Download
from https_ota.steps import AGAIN, Again, retry, run
from makeimage import Stream, image, noise

from https_ota import running_info

FILE = noise(3000)


class Patient(http.Connection):
    """Raises Again where the blocking one gives up; all but every third call finds nothing to do."""

    def _wait(self, to_write):
        raise AGAIN


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


def patiently(function):
    """Call function until it does not raise Again."""
    global waits
    while True:
        try:
            return function()
        except Again:
            waits += 1


def fetch(*answers, bits=7, **options):
    net = use(SlowNet(*answers))
    net.bits = bits
    source = Download("http://host/fw.bin", insecure=True, **options)
    source.connection = Patient
    source.ask()
    patiently(source.answer)
    buf = bytearray(256)
    data = b""
    while True:
        n = patiently(lambda: source.readinto(buf))
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
    ota._download.connection = Patient
    steps = ota.begin_steps()
    try:
        while True:
            assert next(steps) in (True, False)
    except StopIteration as e:
        assert e.value is ota.info
    assert ota.info.version == "1.2.3"
    while patiently(ota.perform):
        pass
    run(ota.finish_steps())
    assert ota.is_complete_data_received() and net.open == 0


class Trickle(Stream):
    """Every second read raises Again."""

    calls = 0

    def readinto(self, buf):
        self.calls += 1
        if self.calls & 1:
            raise AGAIN
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
    decrypt = Decrypt(Trickle(FILE), cipher)
    patiently(decrypt.begin)
    assert cipher.header == FILE[:100]
    buf = bytearray(10)
    assert patiently(lambda: decrypt.readinto(buf)) == 10 and bytes(buf) == FILE[100:110]


def test_retry_tells_each_wait():
    left = [1, 2, 3]

    def function():
        if left:
            left.pop()
            raise AGAIN
        return "done"

    steps = retry(function)
    assert [next(steps) for _ in range(3)] == [True] * 3
    left.append(1)
    assert next(steps) is True
    assert run(steps) == "done"
