# A network of canned answers in place of the socket module, for the tests of what speaks HTTP.

import sys


class Net:
    """Each connection answers with the next of `answers` and then closes; `sent` is what came in on each.

    An answer is bytes, an OSError that connecting raises, or (bytes, OSError): once these bytes have been
    read the connection is broken, and reading as well as writing raises the error. With step=n a read
    returns at most n bytes, as a slow link does. When no answers are left, `then` answers each connection.

    `addresses` are the (host, port) that were looked up, `open` counts the sockets that are not closed,
    `names` are the host names that TLS was to verify (see use_tls), `clock` is what the package waits by.
    While `silent` is true nothing comes, and waiting for it takes its time.
    """

    SOCK_STREAM = 1

    def __init__(self, *answers, step=None, then=None):
        self.then = OSError(111) if then is None else then
        self.answers = list(answers)
        self.step = step
        self.sent = []
        self.addresses = []
        self.silent = False
        self.names = []
        self.trust = None
        self.open = 0
        self.clock = Clock()

    def getaddrinfo(self, host, port, family, kind):
        self.addresses.append((host, port))
        return [(2, kind, 0, "", (host, port))]

    def socket(self, family, kind, proto):
        self.open += 1
        return _Socket(self)

    def wrap_socket(self, raw, server_hostname, do_handshake_on_connect):
        assert not do_handshake_on_connect
        self.names.append(server_hostname)
        return raw

    def poll(self):
        return _Poll(self)


class _Poll:
    def __init__(self, net):
        self.net = net

    def register(self, sock, events):
        pass

    modify = register

    def unregister(self, sock):
        pass

    def ipoll(self, ms):
        if not self.net.silent:
            return _READY
        self.net.clock.sleep_ms(ms)
        return ()


_READY = ((None, 0),)


class _Socket:
    def __init__(self, net):
        self.net = net
        self.closed = False

    def setblocking(self, flag):
        assert not flag

    def getpeercert(self, binary):
        return b""  # the handshake is over

    def connect(self, address):
        answer = self.net.answers.pop(0) if self.net.answers else self.net.then
        if isinstance(answer, OSError):
            raise answer
        self.data, self.error = answer if isinstance(answer, tuple) else (answer, None)
        self.at = 0
        self.mine = len(self.net.sent)
        self.net.sent.append(b"")

    def write(self, buf, off=None, n=None):
        if self.error and self.at and self.at == len(self.data):
            raise self.error
        if n is None:
            off, n = 0, len(buf) if off is None else off
        self.net.sent[self.mine] += bytes(buf[off : off + n])
        return n

    def readinto(self, buf, n=None):
        assert not self.closed
        n = len(buf) if n is None else n
        if self.net.step:
            n = min(n, self.net.step)
        part = self.data[self.at : self.at + n]
        if n and not part and self.error:
            raise self.error
        buf[: len(part)] = part
        self.at += len(part)
        return len(part)

    def close(self):
        if not self.closed:
            self.net.open -= 1
        self.closed = True


def use(net):
    """Make the package talk to `net`, and wait by its clock; returns it."""
    import https_ota.net.download
    import https_ota.net.retry

    https_ota.net.http.socket = net
    https_ota.net.http.poll = net.poll
    https_ota.net.http.time = https_ota.net.download.time = https_ota.net.retry.time = net.clock
    return net


def use_tls(net):
    """As use(), and let https:// be served in plain text; what to trust is left in net.trust.

    net.shown gets (host, client certificate) of each handshake.
    """
    import https_ota.net.tls

    net.shown = []

    class Context:
        def __init__(self, cert):
            self.cert = cert

        def wrap_socket(self, raw, server_hostname, **options):
            net.shown.append((server_hostname, self.cert))
            return net.wrap_socket(raw, server_hostname, **options)

    def context(cadata, insecure, cert, key):
        assert (cert is None) == (key is None)
        net.trust = cadata, insecure, cert, key
        return Context(cert)

    https_ota.net.tls.context = context
    return use(net)


def patiently(source, function, *args):
    """Call function until it does not return None: what it waits for is what `source` waits for."""
    while True:
        result = function(*args)
        if result is not None:
            return result
        source.wait()


def opened(source, position=0, validator=None, total=None):
    """What source.open() gives in the end, for a file of this validator and length."""
    known = None
    if validator is not None:
        known = Known()
        known.validator = validator
        known.total = total
    return patiently(source, source.open, position, known)


def filled(source, n):
    """The next n bytes, or all up to the end."""
    data = bytearray(n)
    view = memoryview(data)
    got = 0
    while got < n:
        more = patiently(source, source.readinto, view[got:])
        if not more:
            break
        got += more
    return bytes(data[:got])


def connection(data, step=None):
    """A connection that has been sent a request and is answered with `data`."""
    from https_ota.net.http import Connection

    use(Net(data, step=step))
    conn = Connection("host", 80, None, 5)
    conn.open()
    conn.send(b"GET", 3)
    return conn


def body(conn, size=33):
    """What readinto() gives to its end, or until nothing has come, `size` bytes at a time."""
    buf = bytearray(size)
    data = b""
    while True:
        n = conn.readinto(buf)
        if not n:
            return data
        data += buf[:n]


def refused(data, code=None):
    """The detail of the error that this answer makes, in its head or its body: OTAError.HTTP_PROTOCOL unless another is given."""
    from https_ota import OTAError

    def read():
        conn = connection(data)
        conn.response()
        body(conn)

    return fails(OTAError.HTTP_PROTOCOL if code is None else code, read)


class Known:
    """What is known of a file."""


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


class Without:
    """As long as it lasts, importing modules of these names fails with `error`: what a build leaves out."""

    def __init__(self, *names, error=ImportError):
        self.names = names
        self.error = error

    def __enter__(self):
        import builtins

        self.find = builtins.__import__
        builtins.__import__ = self.load

    def __exit__(self, *_):
        import builtins

        builtins.__import__ = self.find

    def load(self, name, *rest):
        if name in self.names:
            raise self.error(name)
        if rest[3:] > (0,):
            # The one that is meant can't be told from here: what is relative has to be loaded already.
            for whole in sys.modules:
                if whole.endswith("." + name):
                    return sys.modules[whole]
        return self.find(name, *rest)


class Clock:
    """In place of the time module, a clock that goes on only when told."""

    def __init__(self, year=2026, ms=1000):
        self.year = year
        self.ms = ms

    def gmtime(self):
        return (self.year, 3, 4, 5, 6, 7, 0, 63)

    def sleep_ms(self, ms):
        self.ms += ms

    def ticks_ms(self):
        return self.ms

    def ticks_diff(self, a, b):
        return a - b
