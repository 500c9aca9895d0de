# URLs: taken apart, joined with a Location, and what of them names a file (RFC 3986).


def parse_url(url):
    """Split a URL into (tls, host, port, target), the host in lower case; ValueError says what is wrong with it."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in ("https", "http") or not rest:
        # Without what may be a secret: a password, or a query with a token.
        shown = url.split("?", 1)[0].rpartition("@")[2]
        raise ValueError("url: expected https://host/path, got %r" % shown)
    for c in url:
        if not "!" <= c <= "~":
            raise ValueError("url: %r must be percent-encoded" % c)
    rest = rest[: _find(rest, "#")]
    cut = _find(rest, "/?")
    netloc, target = rest[:cut], rest[cut:]
    if not target.startswith("/"):
        target = "/" + target
    if "@" in netloc:
        raise ValueError("url: give name and password as auth=(name, password), not in the URL")
    tls = scheme == "https"
    port = 443 if tls else 80
    host = netloc
    colon = netloc.rfind(":")
    if colon > netloc.rfind("]"):
        host = netloc[:colon]
        digits = netloc[colon + 1 :]
        if digits:
            if not digits.isdigit() or not 0 < int(digits) < 65536:
                raise ValueError("url: %r is no port" % digits)
            port = int(digits)
    # Names are compared: in one spelling, and without the dot at the end, which no certificate has.
    host = host.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif host.endswith("."):
        host = host[:-1]
    if "%" in host and ":" not in host:
        raise ValueError(
            "url: %r is no host; other letters than ASCII's are written as xn--..." % host
        )
    if not host:
        raise ValueError("url: no host in %r" % url.split("?", 1)[0])
    return tls, host, port, target


def identity(url):
    """What of a URL tells which file it names: all of it, but for what changes with each presigned link."""
    url = url.split("#", 1)[0]
    if "?" in url:
        from .odd import without_signature

        url = without_signature(url)
    return url


def join_url(base, location):
    """The absolute URL of a Location header seen at `base`, as browsers read it (RFC 3986, section 5.2; WHATWG's URL).

    What must be percent-encoded is so in the result.
    """
    scheme, _, rest = base.partition("://")
    scheme = scheme.lower()
    rest = rest[: _find(rest, "#")]
    n = _find(rest, "/?")
    netloc, path = rest[:n], rest[n:]
    for c in "\t\r\n":
        location = location.replace(c, "")
    location = location.strip()
    location = location[: _find(location, "#")]
    n = _find(location, "?")
    where, query = location[:n].replace("\\", "/"), location[n:]
    name, colon, more = where.partition(":")
    kind = name.lower()
    if colon and kind in ("https", "http"):
        where = more
        if kind != scheme and not more.startswith("//"):
            where = "//" + more.lstrip("/")
        scheme = kind
    elif more.startswith("//") and "/" not in name:
        return location  # of another kind, which parse_url() will say
    n = _find(path, "?")
    if where.startswith("//"):
        n = 2 + _find(where[2:], "/")
        netloc, path = where[2:n], where[n:]
    elif where.startswith("/"):
        path = where
    elif where:
        path = path[: path.rfind("/", 0, n) + 1] + where
    else:
        query = query or path[n:]
        path = path[:n]
    parts = []
    part = ""
    for piece in path.split("/")[1 if path.startswith("/") else 0 :]:
        part = piece.lower().replace("%2e", ".")
        if part == "..":
            if parts:
                parts.pop()
        elif part != ".":
            parts.append(piece)
    if part in (".", ".."):
        parts.append("")
    path = _encode("/".join(parts), b'"<>^`{}')
    return "%s://%s/%s%s" % (scheme, netloc, path, _encode(query, b"\"'<>"))


def _find(text, marks):
    """Where the first of these characters is, the length of the text if nowhere."""
    n = len(text)
    for c in marks:
        i = text.find(c)
        if 0 <= i < n:
            n = i
    return n


def _encode(text, more):
    """Percent-encode what can't be in a URL, and the characters `more`."""
    return "".join(
        chr(c) if 32 < c < 127 and c not in more else "%%%02X" % c for c in text.encode()
    )
