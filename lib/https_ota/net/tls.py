# Whom to trust: certificates and keys as callers have them, made into a TLS context.

import tls
from binascii import a2b_base64

_BEGIN = b"-----BEGIN "
_END = b"-----END "


def to_der(data, what, bad=None):
    """A list of DER byte strings from PEM or DER data (str, bytes, or a list of these).

    PEM (RFC 7468) is decoded here because some builds of mbedTLS parse DER only. What is no good is a ValueError, or
    words in the list `bad`.
    """
    return [der for _, der in _blocks(data, what, bad)]


# As to_der(), each behind what its PEM block is called, b"" without one.
def _blocks(data, what, bad):
    if isinstance(data, (list, tuple)):
        return [block for part in data for block in _blocks(part, what, bad)]
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            "%s: expected PEM or DER as str or bytes, got %s" % (what, type(data).__name__)
        )
    data = bytes(data)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.replace(
            b"\0", b""
        )  # UTF-16, as Windows writes it: what is of interest is ASCII
    # A digit 0 may also begin the text around PEM blocks, as openssl writes it.
    if data[:1] == b"\x30" and _BEGIN not in data:
        return [(b"", data)]
    found = []
    at = data.find(_BEGIN)
    if at < 0:
        _refuse(what, "neither PEM nor DER: it starts with %r" % data[:16], bad)
    while at >= 0:
        start = data.find(b"-----", at + len(_BEGIN))
        end = data.find(_END, start)
        after = data.find(_BEGIN, start)
        label = data[at + len(_BEGIN) : start]
        if start < 0 or end < 0 or 0 <= after < end:
            _refuse(what, "a PEM block does not end", bad)
        elif b"EC PARAMETERS" not in label:  # openssl puts these before the key
            try:
                found.append((label, a2b_base64(data[start + 5 : end])))
            except ValueError:
                _refuse(what, "a PEM block is not base64", bad)
        at = after
    return found


def _refuse(what, words, bad):
    if bad is None:
        raise ValueError("%s: %s" % (what, words))
    bad.append(words)


def context(cadata, insecure, cert, key):
    """A client's tls.SSLContext. The server is verified against `cadata` unless `insecure`."""
    ctx = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    if insecure:
        ctx.verify_mode = tls.CERT_NONE
    else:
        ctx.verify_mode = tls.CERT_REQUIRED
        load_roots(ctx, cadata)
    if cert is not None:
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
    return ctx


def load_roots(ctx, cadata):
    """Let these certificates vouch for servers; returns what can't be used, see explain.no_root().

    One that the TLS library does not know, or what is no certificate at all, is no reason to do without the others.
    Raises ValueError when there are none.
    """
    bad = []
    none = True
    for label, der in _blocks(cadata, "cadata", bad):
        try:
            ctx.load_verify_locations(der)
            none = False
        except (ValueError, OSError) as e:
            bad.append((label, der, e))
    if none:
        from .words import no_root

        raise no_root(bad)
    return bad


# The blocks of a kind, as certificate and key may be in one file.
def _only(kind, data, what):
    found = [der for label, der in _blocks(data, what, None) if not label or kind in label]
    if not found:
        raise ValueError("%s: no %s in it" % (what, kind.decode()))
    return found
