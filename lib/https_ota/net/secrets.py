# What a caller has sent along: headers, name and password, a client's certificate. Loaded where there are such.

from ..errors import refuse


class Request:
    """What an http_hook sees before a request is sent: `url`, and `headers`, a dict it may change."""

    def __init__(self, url, headers):
        self.url = url
        self.headers = headers


def hooked(hook, url, headers):
    """The headers of a request once the hook has seen it."""
    hook(Request(url, headers))
    return check_headers(headers, None)


def clean(text):
    """Whether a text may be sent in a header: a line end would let it add headers of its own."""
    for c in text:
        if (c < " " and c != "\t") or c == "\x7f":
            return False
    return True


def check_auth(name, password):
    """Raise ValueError for what no server takes (RFC 7617, section 2), as what has a line of a file's end with it."""
    for what, text in (("name", name), ("password", password)):
        if not clean(str(text)):
            raise ValueError("auth: the %s has a control character in it" % what)


def check_headers(headers, auth):
    """A copy of `headers` with HTTP Basic for `auth` in it; ValueError for what can't be sent."""
    if headers and not hasattr(headers, "items"):
        refuse("headers", "a dict", headers)
    checked = {}
    for name, value in headers.items() if headers else ():
        if not isinstance(name, str) or not all(
            " " < c < "\x7f" and c != ":" for c in name or " "
        ):
            raise ValueError("headers: %r is no header name" % (name,))
        # A second one would contradict what is set here.
        if (
            " %s " % name.lower()
            in " host range if-range connection accept-encoding transfer-encoding content-length "
        ):
            raise ValueError("headers: %s is set by https_ota itself" % name)
        value = str(value)
        if not clean(value):
            raise ValueError("headers: the value of %s has a control character in it" % name)
        checked[name] = value
    if auth is not None:
        if not isinstance(auth, (tuple, list)):
            refuse("auth", "(name, password)", auth)
        if len(auth) == 2:
            from binascii import b2a_base64

            check_auth(*auth)
            basic = b2a_base64(("%s:%s" % tuple(auth)).encode()).decode().strip()
            checked["Authorization"] = "Basic " + basic
        elif len(auth) != 3 or auth[2] != "digest":
            raise ValueError('auth: expected (name, password) or (name, password, "digest")')
    return checked


def load_client(ctx, cert, key):
    """Let a TLS context show this certificate; ValueError for what is none."""
    chain = _only(b"CERTIFICATE", cert, "cert")
    # One DER certificate at a time is all that can be loaded; a chain goes as the PEM it came in.
    if len(chain) > 1 and isinstance(cert, (list, tuple)):
        raise ValueError("cert: expected a chain as one PEM text, got a list")
    try:
        ctx.load_cert_chain(
            chain[0] if len(chain) == 1 else cert, _only(b"PRIVATE KEY", key, "key")[0]
        )
    except (ValueError, OSError) as e:
        raise ValueError("cert and key: the TLS library refuses it: %s" % e)


# The blocks of a kind, as certificate and key may be in one file.
def _only(kind, data, what):
    from ..der import blocks

    found = [der for label, der in blocks(data, what) if not label or kind in label]
    if not found:
        raise ValueError("%s: no %s in it" % (what, kind.decode()))
    return found
