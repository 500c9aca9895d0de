# What a misspelt option was meant to be.

from .repl import _OPTIONS

# What others call it: esp_https_ota, requests, ssl.
_ELSEWHERE = {
    "ca": "cadata",
    "cert_pem": "cadata",
    "cafile": "cadata",
    "cacert": "cadata",
    "verify": "insecure",
    "skip_cert_common_name_check": "insecure",
    "client_cert": "cert",
    "client_key": "key",
    "username": "auth",
    "user": "auth",
    "password": "auth",
    "timeout": "timeout_s",
    "timeout_ms": "timeout_s",
    "max_http_request_size": "request_size",
    "partial_http_download": "request_size",
    "callback": "progress",
    "hash": "sha256",
    "length": "size",
}


def check_options(given):
    """Raise TypeError for a name in `given` that is no option, with the one that was probably meant."""
    options = _OPTIONS.split()
    for name in given:
        if name not in options:
            meant = _ELSEWHERE.get(name) or _nearest(name, options)
            raise TypeError(
                "no option %s: %s"
                % (name, "did you mean %s=?" % meant if meant else "there are " + _OPTIONS)
            )


_EXPECTED = {
    "url": "https://host/path as str, or an object with readinto(buf)",
    "check": "a function of the ImageInfo, or a list of these",
    "event": "a function, called as event(number, value)",
    "progress": "a function, called as progress(done, total)",
    "http_hook": "a function of the Request",
    "size": "a number of bytes",
    "request_size": "a number of bytes, 0 or None",
    "partition": "a label as str",
    "staging": "a label as str, or True",
    "buffer": "a bytearray",
    "wlan": "a network.WLAN",
    "wdt": "a machine.WDT",
    "headers": "a dict",
    "auth": "(name, password)",
}


def refuse(name, value):
    """Raise TypeError for a value that an option can't have, ValueError for a number and None."""
    kind = ValueError if value is None or isinstance(value, (int, float)) else TypeError
    raise kind(
        "%s: expected %s, got %r" % (name, _EXPECTED.get(name, "a number of seconds"), value)
    )


def _nearest(name, options):
    """The option that differs least, None when none is near."""
    best = None
    least = (len(name) + 1) // 2
    for option in options:
        # What is only cut short is meant, however long the rest.
        d = 1 if option.startswith(name) else _distance(name, option)
        if d < least:
            best, least = option, d
    return best


def _distance(a, b):
    """How many letters to change, add or leave out to get from a to b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            last, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, last + (x != y))
    return row[-1]
