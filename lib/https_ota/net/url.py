# URLs: taken apart, and what of them names a file (RFC 3986). Where a Location leads is told by redirect.py.


def parse_url(url):
    """Split a URL into (tls, host, port, target), the host in lower case; ValueError says what is wrong with it."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    rest = rest[: find(rest, "#")]
    cut = find(rest, "/?")
    host, target = rest[:cut], rest[cut:]
    digits = ""
    colon = host.rfind(":")
    if colon > host.rfind("]"):
        host, digits = host[:colon], host[colon + 1 :]
    tls = scheme == "https"
    port = 443 if tls else 80
    if digits:
        port = int(digits) if digits.isdigit() else 0
    # Names are compared: in one spelling, and without the dot at the end, which no certificate has.
    host = host.lower()
    if host[-1:] == ".":
        host = host[:-1]
    elif host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    if not (
        (tls or scheme == "http")
        and host
        and "@" not in host
        and ("%" not in host or ":" in host)
        and 0 < port < 65536
        and "!" <= min(url)
        and max(url) <= "~"
    ):
        from .odd import bad_url

        raise ValueError("url: " + bad_url(url, host, digits))
    return tls, host, port, target if target[:1] == "/" else "/" + target


def identity(url):
    """What of a URL tells which file it names: all of it, but for what changes with each presigned link."""
    url = url.split("#", 1)[0]
    if "?" in url:
        from .odd import without_signature

        url = without_signature(url)
    return url


def find(text, marks):
    """Where the first of these characters is, the length of the text if nowhere."""
    for c in marks:
        text = text.split(c, 1)[0]
    return len(text)
