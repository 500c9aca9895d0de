# Whom to trust: certificates and keys as callers have them, made into a TLS context.

import gc
import tls


def tls_buffer():
    """The firmware's CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN, as its board says; the default is 16384."""
    try:
        from https_ota_board import TLS_IN_CONTENT_LEN

        return TLS_IN_CONTENT_LEN
    except ImportError:
        return 16384


def context(cadata, insecure, cert, key):
    """A client's tls.SSLContext. The server is verified against `cadata` unless `insecure`."""
    gc.collect()  # the one before
    try:
        ctx = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    except OSError:
        from .odd import no_roots

        raise no_roots(None)  # whatever its number: nothing but memory is wanting there
    if insecure:
        ctx.verify_mode = tls.CERT_NONE
    else:
        ctx.verify_mode = tls.CERT_REQUIRED
        load_roots(ctx, cadata)
    if cert is not None:
        from .secrets import load_client

        load_client(ctx, cert, key)
    return ctx


def load_roots(ctx, cadata):
    """Let these certificates vouch for servers; returns what of it can't be used, a list of texts.

    One that the TLS library does not know, or what is no certificate at all, is no reason to do without the others.
    Raises ValueError when there are none.
    """
    from ..der import blocks
    from ..errors import as_text

    bad = []
    none = True
    for label, der in blocks(cadata, "cadata", bad):
        try:
            ctx.load_verify_locations(der)
            none = False
        except (ValueError, OSError) as e:
            words = "%s: %s" % (as_text(label, len(label)) or "DER", e)
            if words not in bad:
                bad.append(words)
    if none:
        from .odd import no_roots

        raise no_roots(bad)
    return bad
