# Words for people at the REPL: what there is, and what a misspelt option was meant to be.

# The options of OTA and of Download; a test compares them with the signatures.
_OPTIONS = (
    "sha256 size trusted_keys decrypt check retry_failed event progress resume"
    " verify_spi_mode partition staging buffer bulk_erase wlan wdt cadata insecure pin"
    " cert key headers auth http_hook request_size timeout_s stall_s deadline_s"
)

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


def help():
    """Print what one can do here."""
    print(
        "https_ota.update(url, cadata=..., progress=https_ota.bar)  install from a server\n"
        "https_ota.install('/remote/fw.bin')  install from a file, or an object with readinto()\n"
        "machine.reset()        start what was installed, on trial\n"
        "https_ota.confirm()    keep it\n"
        "https_ota.rollback()   go back to the one before\n"
        "https_ota.status()     the slots and what is in them\n"
        "options: " + _OPTIONS
    )


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
