# Redirects: where a Location leads, and whether to go there. Loaded when one comes.

from ..errors import OTAError
from .url import find, parse_url


def target(url, origin, location, count):
    """(URL, its parse_url()) of the Location that came from `url` with the count-th redirect; OTAError where there is no way."""
    if count > 5:
        raise _refused("more than 5 redirects")
    url = join_url(url, location)
    try:
        there = parse_url(url)
    except ValueError as e:
        raise _refused("Location can't be used: %s" % e)
    if origin[0] and not there[0]:
        raise _refused("refused to go from https to http://%s" % there[1])
    return url, there


def _refused(why):
    return OTAError(OTAError.REDIRECT, why)


def join_url(base, location):
    """The absolute URL of a Location header seen at `base`, as browsers read it (RFC 3986, section 5.2; WHATWG's URL).

    What must be percent-encoded is so in the result.
    """
    scheme, _, rest = base.partition("://")
    scheme = scheme.lower()
    rest = rest[: find(rest, "#")]
    n = find(rest, "/?")
    netloc, path = rest[:n], rest[n:]
    for c in "\t\r\n":
        location = location.replace(c, "")
    location = location.strip()
    location = location[: find(location, "#")]
    n = find(location, "?")
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
    n = find(path, "?")
    if where.startswith("//"):
        n = 2 + find(where[2:], "/")
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


def _encode(text, more):
    """Percent-encode what can't be in a URL, and the characters `more`."""
    return "".join(
        chr(c) if 32 < c < 127 and c not in more else "%%%02X" % c for c in text.encode()
    )
