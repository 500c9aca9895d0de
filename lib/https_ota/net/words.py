# Network errors: the OTAError for what mbedTLS or a server said. Loaded only once something has gone wrong.

import time

from ..errors import OTAError, as_text
from ..memory import no_memory
from .odd import OLDEST_YEAR, REDIRECTS
from .tls import tls_buffer

# MBEDTLS_ERR_SSL_INVALID_RECORD and _BAD_INPUT_DATA: a record that does not fit the input buffer, or is none.
TOO_BIG = (-29184, -28928)
_SAID = {
    -30592: "the server broke the TLS 1.2 handshake off with an alert, `https-ota probe` tells which",
    -28288: "expected TLS 1.2, the server has an older one",
}


def record_error(what):
    """The OTAError for a TLS record, or a handshake's message, that is larger than the input buffer."""
    return OTAError(
        OTAError.TLS_BUFFER,
        "expected TLS records of up to %d bytes, got a larger one: %s" % (tls_buffer(), what),
    )


def no_length(url):
    """The OTAError for a file of which neither the server nor the caller tells where it ends."""
    return OTAError(
        OTAError.SIZE,
        "%s: expected its length, as a cut connection looks like the end" % url.split("?", 1)[0],
    )


def connect_error(e, host, port, address):
    """What to raise for an error of connecting: an OTAError where the reason is known, else `e` with words.

    `address` is the one that was tried, as getaddrinfo() gives it; None when there is none.
    """
    if isinstance(e, ValueError):
        return _certificate_error(str(e).strip(), host)
    number = e.args[0] if e.args else 0
    if number == -9984:  # MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, as older firmware says it
        return _certificate_error("", host)
    where = "%s:%d: " % (host, port)
    # ENOMEM, mbedTLS's "allocation failed" of SSL, MPI and X509, and lwIP's EAI_MEMORY.
    if number in (12, -32512, -17168, -10368, -203):
        return no_memory("for a TLS connection to %s " % where)
    if number in TOO_BIG:
        # TLS has no record that is longer than 16384 bytes.
        if number == TOO_BIG[0] and tls_buffer() >= 16384:
            return OTAError(OTAError.HTTP_PROTOCOL, where + "expected TLS, got something else")
        return record_error(where + "its certificate chain, or it does not speak TLS")
    if not address:
        return OSError(number, "no address found for %s: is the network up?" % host)
    return OSError(
        number,
        where + _SAID.get(number, e.args[1] if len(e.args) > 1 else "no connection"),
    )


def untrusted(e, cadata):
    """OTAError(CERT_CA) `e` with what of the caller's CA data could not be used."""
    import tls

    from .tls import load_roots

    try:
        bad = load_roots(tls.SSLContext(tls.PROTOCOL_TLS_CLIENT), cadata)
    except (ValueError, OSError):
        bad = None  # what is looked for are words: nothing may take the error's place
    if bad:
        e = OTAError(e.code, e.detail + "; of cadata it can't use: " + "; ".join(bad))
    return e


def clock_error(what):
    """The OTAError of a clock that was never set, so that `what` can be checked; None when it is set."""
    now = time.gmtime()
    if now[0] >= OLDEST_YEAR:
        return None
    return OTAError(
        OTAError.CLOCK,
        "the board's clock says %04d-%02d-%02d: %s can be checked" % (now[:3] + (what,)),
    )


def _certificate_error(text, host):
    # `text` is mbedtls_x509_crt_verify_info()'s, one line for each reason.
    if "invalid cert" in text or "invalid key" in text:
        return ValueError(text)
    code = OTAError.CERT_CA
    what = "was refused: " + text.replace("\n", ", ")
    dated = "future" in text or "expired" in text
    unset = (dated or not text) and clock_error("no certificate")
    if unset:
        return unset
    if dated:
        code = OTAError.CERT_DATE
        what = "%s, the board's clock says %04d-%02d-%02d" % (
            ("is not valid yet" if "future" in text else "has expired",) + time.gmtime()[:3]
        )
    elif "CN" in text:
        code = OTAError.CERT_HOST
        what = "is for another host"
    elif "trusted CA" in text or not text:
        what = "is not signed by a CA in cadata"
    return OTAError(code, "the certificate of %s %s" % (host, what))


def unsafe(tls):
    """The ValueError for a server that nothing vouches for, or a connection without TLS."""
    return ValueError(
        "no server can be verified without cadata=(CA certificates) or pin=; or say insecure=True"
        if tls
        else "http:// is neither encrypted nor verified; say insecure=True, without pin="
    )


def too_late(d):
    """The OTAError for a download whose deadline is over."""
    return OTAError(
        OTAError.DEADLINE,
        "not done after %s s: %d of %s bytes have come"
        % (round(d.deadline_s, 1), d.position, d.total),
    )


def check_range(d, conn, stop):
    """Raise OTAError for a part that was not asked for: of d.position up to `stop`; unless the file may be another one."""
    if conn.total < 0 or conn.start < 0:
        text = "206 without a Content-Range; use request_size=0"
    elif not d.ranges.size and not d.position:
        text = "expected the whole file (200), got a part (206)"
    elif conn.start == d.position <= conn.end < min(stop, conn.total):
        text = "Content-Range %d-%d contradicts Content-Length %d" % (
            conn.start,
            conn.end,
            conn.length,
        )
    elif d.total in (None, conn.total):
        text = "expected bytes %d-%d, got %d-%d/%d" % (
            d.position,
            min(stop, conn.total) - 1,
            conn.start,
            conn.end,
            conn.total,
        )
    else:
        return
    raise OTAError(OTAError.HTTP_PROTOCOL, text)


def refused(conn, url):
    """Raise the OTAError for a response that is an error; return None while its text has not come."""
    text = bytearray(120)
    try:
        n = conn.readinto(text)
    except (OSError, OTAError):
        n = 0
    if n is not None:
        raise status_error(conn.status, url, as_text(text, n), conn.retry_after)


def status_error(status, url, text, retry_after):
    """The OTAError for an HTTP error status; `text` is the beginning of the body, or ''."""
    if status in REDIRECTS:
        return OTAError(OTAError.REDIRECT, "status %d without a Location" % status)
    # The query may hold a signature or a token: it stays out of messages.
    words = "%s answered %d" % (url.split("?", 1)[0], status)
    if status < 400:
        words += ", expected 200 or 206"
    if retry_after:
        words += ", it asks to come back in %d s" % retry_after
    # An error page says no more than its number.
    if text and not text.lower().startswith(("<html", "<!doctype")):
        words += ": " + text
    e = OTAError(OTAError.HTTP_STATUS, words)
    e.retry_after = retry_after
    return e
