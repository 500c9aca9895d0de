# A network of canned answers in place of the socket module, for the HTTP tests.


class Net:
    """Each connection answers with the next of `answers` (bytes) and then closes; `sent` is what came in on each.

    With step=n a read returns at most n bytes, as a slow link does.
    """

    SOCK_STREAM = 1

    def __init__(self, *answers, step=None):
        self.answers = list(answers)
        self.step = step
        self.sent = []
        self.addresses = []
        self.open = 0

    def getaddrinfo(self, host, port, family, kind):
        self.addresses.append((host, port))
        return [(2, kind, 0, "", (host, port))]

    def socket(self, family, kind, proto):
        return _Socket(self)


class _Socket:
    def __init__(self, net):
        self.net = net

    def settimeout(self, seconds):
        self.timeout = seconds

    def connect(self, address):
        if not self.net.answers:
            raise OSError(111)
        self.data = self.net.answers.pop(0)
        self.at = 0
        self.net.sent.append(b"")
        self.mine = len(self.net.sent) - 1
        self.net.open += 1
        self.closed = False

    def write(self, buf, off=None, n=None):
        if n is None:
            off, n = 0, len(buf) if off is None else off
        self.net.sent[self.mine] += bytes(buf[off : off + n])
        return n

    def readinto(self, buf, n=None):
        n = len(buf) if n is None else n
        if self.net.step:
            n = min(n, self.net.step)
        part = self.data[self.at : self.at + n]
        if isinstance(part, bytes):
            buf[: len(part)] = part
        self.at += len(part)
        return len(part)

    def close(self):
        if not self.closed:
            self.net.open -= 1
        self.closed = True


def use(net):
    """Make the package talk to `net`; returns it."""
    from https_ota import http

    http.socket = net
    return net


def raises(kind, function, *args, **kwargs):
    """Call function, which must raise `kind`; return the exception."""
    try:
        function(*args, **kwargs)
    except kind as e:
        return e
    raise AssertionError("no %s was raised" % kind.__name__)


def fails(code, function, *args, **kwargs):
    """Call function, which must raise an OTAError of this code; return its detail."""
    from https_ota import OTAError

    e = raises(OTAError, function, *args, **kwargs)
    assert e.code == code, e
    return e.detail
