# Whom to trust: certificates and keys as callers have them, made into a TLS context.

import tls
from binascii import a2b_base64

_BEGIN = b"-----BEGIN "
_END = b"-----END "


def to_der(data, what):
    """A list of DER byte strings from PEM or DER data (str, bytes, or a list of these).

    PEM (RFC 7468) is decoded here because some builds of mbedTLS parse DER only.
    """
    if isinstance(data, (list, tuple)):
        return [der for part in data for der in to_der(part, what)]
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(
            "%s: expected PEM or DER as str or bytes, got %s" % (what, type(data).__name__)
        )
    data = bytes(data)
    # A digit 0 may also begin the text around PEM blocks, as openssl writes it.
    if data[:1] == b"\x30" and _BEGIN not in data:
        return [data]
    found = []
    at = data.find(_BEGIN)
    while at >= 0:
        start = data.find(b"-----", at + len(_BEGIN))
        end = data.find(_END, start)
        if start < 0 or end < 0:
            raise ValueError("%s: a PEM block does not end" % what)
        if b"EC PARAMETERS" not in data[at:start]:  # openssl puts these before the key
            try:
                found.append(a2b_base64(data[start + 5 : end]))
            except ValueError:
                raise ValueError("%s: a PEM block is not base64" % what)
        at = data.find(_BEGIN, end)
    if not found:
        raise ValueError("%s: neither PEM nor DER: it starts with %r" % (what, data[:16]))
    return found


def context(cadata, insecure, cert, key):
    """A client's tls.SSLContext. The server is verified against `cadata` unless `insecure`."""
    ctx = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    if insecure:
        ctx.verify_mode = tls.CERT_NONE
    else:
        ctx.verify_mode = tls.CERT_REQUIRED
        certificates = to_der(cadata, "cadata")
        if not certificates:
            raise ValueError("cadata: no certificate in it")
        for der in certificates:
            _load(ctx.load_verify_locations, "cadata", der)
    if cert is not None:
        chain = to_der(cert, "cert")
        # One DER certificate at a time is all that can be loaded; a chain goes as the PEM it came in.
        if len(chain) > 1 and isinstance(cert, (list, tuple)):
            raise ValueError("cert: expected a chain as one PEM text, got a list")
        _load(
            ctx.load_cert_chain,
            "cert and key",
            chain[0] if len(chain) == 1 else cert,
            to_der(key, "key")[0],
        )
    return ctx


def _load(load, what, *data):
    try:
        load(*data)
    except (ValueError, OSError) as e:
        raise ValueError("%s: the TLS library refuses it: %s" % (what, e))
