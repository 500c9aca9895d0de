# Words for what the network answers. Loaded only once something has gone wrong.

import time

from micropython import const

from ..errors import OTAError, as_text, no_memory
from .http import tls_buffer

_NO_MEMORY = (
    12,
    -32512,
    -17168,
    -10368,
    -203,
)  # ENOMEM, mbedTLS's "allocation failed" of SSL, MPI, X509, and lwIP's EAI_MEMORY
_RECORD_TOO_BIG = (
    -29184,
    -28928,
)  # MBEDTLS_ERR_SSL_INVALID_RECORD, MBEDTLS_ERR_SSL_BAD_INPUT_DATA
# No certificate in use today was signed before; a clock that says so was never set (the ESP32 starts in 2000).
_OLDEST_YEAR = const(2024)


def too_big(e):
    """True for the error of a TLS record that does not fit the input buffer."""
    return bool(e.args) and e.args[0] in _RECORD_TOO_BIG


def tls_buffer_error(request_size, ranges):
    """The OTAError for such a record, in a reply to a request for this many bytes (0: for the file)."""
    size = tls_buffer()
    if not ranges:
        what = "the server ignores ranges, so it takes"
    elif request_size:
        what = "not even ranges of %d bytes fit with their head, so it takes" % request_size
    else:
        what = "leave request_size to None for ranges that fit, or use"
    return OTAError(
        OTAError.TLS_BUFFER,
        "the server sent a TLS record larger than this firmware's input buffer (%d bytes): %s"
        " firmware with CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN=16384; `https-ota probe` on a computer measures what"
        " a server sends" % (size, what),
    )


def no_length(url):
    """The OTAError for a file of which neither the server nor the caller tells where it ends."""
    return OTAError(
        OTAError.SIZE,
        "%s: expected the server to tell the length, as a cut connection looks like the end: give size= or sha256=,"
        " sign it (trusted_keys=), or let the server send Content-Length" % url.split("?", 1)[0],
    )


def connect_error(e, host, port, address):
    """What to raise for an error of connecting: an OTAError where the reason is known, else `e` with words.

    `address` is the one that was tried, as getaddrinfo() gives it; None when there is none.
    """
    if isinstance(e, ValueError):
        return _certificate_error(str(e).strip(), host)
    number = e.args[0] if e.args else 0
    if number in _NO_MEMORY:
        return no_memory("for a TLS connection to %s " % host)
    if number == -9984:  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, as older firmware says it
        return _certificate_error("", host)
    if number in _RECORD_TOO_BIG:
        return _handshake_error(number, host, port)
    if number == -30592:  # MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE
        # Which alert it was, mbedTLS does not tell.
        return OSError(
            number,
            "%s:%d: the server broke the TLS handshake off; `https-ota probe` on a computer tells why"
            % (host, port),
        )
    if number == -28288:  # MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
        return OSError(
            number,
            "%s:%d: the server has TLS older than 1.2, which is no longer safe" % (host, port),
        )
    if not address:
        return OSError(number, "no address found for %s: is the network up?" % host)
    detail = e.args[1] if len(e.args) > 1 else "no connection"
    return OSError(number, "%s:%d: %s" % (host, port, detail))


def _handshake_error(number, host, port):
    room = tls_buffer()
    # TLS has no record that is longer.
    if number == _RECORD_TOO_BIG[0] and room >= 16384:
        return OTAError(
            OTAError.HTTP_PROTOCOL,
            "%s:%d: expected TLS, what answers there speaks something else" % (host, port),
        )
    return OTAError(
        OTAError.TLS_BUFFER,
        "%s:%d: the server's TLS handshake, which is as long as its certificate chain, does not fit this firmware's input"
        " buffer (%d bytes), or what answers there does not speak TLS; `https-ota probe` on a computer tells"
        % (host, port, room),
    )


def untrusted(e, cadata):
    """OTAError(CERT_CA) `e` with what of the caller's CA data could not be used."""
    import tls

    from .tls import load_roots

    try:
        bad = load_roots(tls.SSLContext(tls.PROTOCOL_TLS_CLIENT), cadata)
    except (ValueError, OSError):
        return e  # what is looked for are words: nothing may take the error's place
    if not bad:
        return e
    return OTAError(e.code, e.detail + "; in cadata, this can't be used: " + _bad_words(bad))


def no_root(bad):
    """The ValueError for CA data of which nothing can be used: `bad` holds texts, or (label of PEM, DER, error)."""
    if not bad:
        return ValueError("cadata: no certificate in it")
    return ValueError("cadata: " + _bad_words(bad))


_UNKNOWN = (
    (b"\x06\x03\x2b\x65\x70", "Ed25519"),
    (b"\x06\x03\x2b\x65\x71", "Ed448"),
    (b"\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01", "a Brainpool curve"),
)


def _bad_words(bad):
    said = []
    for item in bad:
        if not isinstance(item, str):
            label, der, e = item
            item = "the TLS library refuses it: %s" % e
            for oid, name in _UNKNOWN:
                if oid in der:
                    item = "its key is of %s, which this firmware's TLS does not know" % name
            if label and b"CERTIFICATE" not in label:
                item = "%s is no certificate" % as_text(label, len(label))
        if item not in said:
            said.append(item)
    return "; ".join(said)


def clock_error(what):
    """The OTAError of a clock that was never set, so that `what` can be checked; None when it is set."""
    now = time.gmtime()
    if now[0] >= _OLDEST_YEAR:
        return None
    return OTAError(
        OTAError.CLOCK,
        "the board's clock says %04d-%02d-%02d, so %s can be checked; set it first, for example with"
        " ntptime.settime()" % (now[0], now[1], now[2], what),
    )


def _certificate_error(text, host):
    # `text` is mbedtls_x509_crt_verify_info()'s, one line for each reason.
    now = time.gmtime()
    date = "%04d-%02d-%02d" % (now[0], now[1], now[2])
    if "invalid cert" in text or "invalid key" in text:
        return ValueError(text)
    if "future" in text or "expired" in text or not text:
        unset = clock_error("no certificate")
        if unset:
            return unset
    if "future" in text or "expired" in text:
        state = "is not valid yet" if "future" in text else "has expired"
        return OTAError(
            OTAError.CERT_DATE,
            "the certificate of %s %s (the board's clock says %s)" % (host, state, date),
        )
    if "CN" in text:
        return OTAError(
            OTAError.CERT_HOST,
            "the server's certificate is not for %s; use the name it was made for" % host,
        )
    if "trusted CA" in text or not text:
        return OTAError(
            OTAError.CERT_CA,
            "the certificate of %s is not signed by a CA in cadata; give the root certificate of its chain"
            % host,
        )
    return OTAError(
        OTAError.CERT_CA,
        "the certificate of %s was refused: %s" % (host, text.replace("\n", ", ")),
    )


_STATUS = {
    400: "Bad Request: the server did not understand it; a redirect target may refuse extra headers",
    401: 'Unauthorized: give auth=(name, password), with "digest" as a third if the server asks for that,'
    " or an Authorization header",
    403: "Forbidden: wrong credentials, or a presigned URL that has expired",
    404: "Not Found: check the path in the URL",
    405: "Method Not Allowed: the server refuses GET here",
    407: "Proxy Authentication Required: a proxy stands in between",
    408: "Request Timeout: the server did not get the request in time; try again",
    410: "Gone: the file was removed, or a presigned URL has expired",
    416: "Range Not Satisfiable: the file is empty or shorter than before",
    429: "Too Many Requests: try again later",
    500: "Internal Server Error",
    502: "Bad Gateway: the server behind the proxy failed; try again later",
    503: "Service Unavailable: try again later",
    504: "Gateway Timeout: try again later",
}


def status_error(status, url, text, retry_after):
    """The OTAError for an HTTP error status; `text` is the beginning of the body, or ''."""
    # The query may hold a signature or a token: it stays out of messages.
    url = url.split("?", 1)[0]
    words = _STATUS.get(status)
    if words is None:
        words = "client error" if status < 500 else "server error"
    if status < 400:
        words = "expected 200 or 206 with a file" + (
            ""
            if status < 300
            else ", or a redirect that can be followed (301, 302, 303, 307, 308)"
        )
    if retry_after:
        words += "; it asks to come back in %d s" % retry_after
    # An error page says no more than its number.
    if text and not text.lower().startswith(("<html", "<!doctype")):
        words += "; the server says: " + text
    return OTAError(OTAError.HTTP_STATUS, "%s answered %d %s" % (url, status, words))
