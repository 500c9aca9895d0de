# Whom to trust: certificates and keys as callers have them, made into a TLS context.

import tls


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
    from ..der import blocks

    bad = []
    none = True
    for label, der in blocks(cadata, "cadata", bad):
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
    from ..der import blocks

    found = [der for label, der in blocks(data, what) if not label or kind in label]
    if not found:
        raise ValueError("%s: no %s in it" % (what, kind.decode()))
    return found
