# What mbedTLS does not tell when a handshake fails: how long the server's certificate chain is, who signed it, which
# alert the server sent.
#
# The handshake is begun once more over a stream that looks at what passes. Up to TLS 1.2 all of it is in the
# clear up to the certificates: records (RFC 5246, section 6.2.1) that carry messages (section 7.4).

import io

from micropython import const

from .http import Connection

_ALERT = const(21)
_HANDSHAKE = const(22)
_CERTIFICATE = const(11)
_MOST = const(65536)  # bytes that are looked at; no chain in use is as long


class _Tap(io.IOBase):
    """A plain http.Connection as mbedTLS sees it: `record` is the longest record so far, `chain` the certificates' bytes.

    `leaf` is what of these came, up to the end of the first one; `alert` the number of an alert (0: none came).
    """

    def __init__(self, conn):
        self._conn = conn
        self._head = bytearray(5)
        self._got = 0  # bytes of a record's head
        self._left = 0  # bytes of this record to come
        self._message = bytearray(4)
        self._have = 0  # bytes of a message's head
        self._more = 0  # bytes of this message to come
        self._end = 6  # of the first certificate, behind the lengths of all and of it
        self.seen = self.record = self.chain = 0
        self.alert = 0
        self.leaf = bytearray()
        self.tls = True

    def readinto(self, buf):
        n = self._conn.readinto(buf)
        if n:
            self.look(buf, n)
        return n

    def write(self, buf):
        self._conn.send(buf, len(buf))
        return len(buf)

    def ioctl(self, request, arg):
        return 0

    def look(self, buf, n):
        self.seen += n
        for i in range(n):
            if not self._left:
                self._head[self._got] = buf[i]
                self._got += 1
                if self._got == 5:
                    self._got = 0
                    self._left = self._head[3] << 8 | self._head[4]
                    self.record = max(self.record, self._left)
                    kind = self._head[0]
                    if not self.chain and (kind not in (_ALERT, _HANDSHAKE) or self._head[1] != 3):
                        self.tls = False
                continue
            self._left -= 1
            if self._head[0] == _ALERT:
                self.alert = buf[i]  # the second byte of two
                continue
            if self._more:
                self._more -= 1
                if self._message[0] == _CERTIFICATE and len(self.leaf) < self._end:
                    self.leaf.append(buf[i])
                    if len(self.leaf) == 6:
                        self._end = 6 + int.from_bytes(self.leaf[3:], "big")
                continue
            self._message[self._have] = buf[i]
            self._have += 1
            if self._have == 4:
                self._have = 0
                m = self._message
                self._more = m[1] << 16 | m[2] << 8 | m[3]
                if m[0] == _CERTIFICATE:
                    self.chain = self._more

    def lone_issuer(self):
        """The name of who signed the server's certificate, DER, if it sent that alone and did not sign it; else None."""
        from .pin import names

        if len(self.leaf) != self.chain or self.chain < 7:
            return None
        issuer, subject = names(memoryview(self.leaf)[6:])
        return None if issuer == subject else bytes(issuer)


def measure(host, port, context, timeout_s, tick=None):
    """Return (bytes of the certificate chain, size of the TLS buffer it takes), (0, 0) for what does not speak TLS.

    Raises OSError when that can't be found out.
    """
    tap = look(host, port, context, timeout_s, tick)
    if not tap.tls:
        return 0, 0
    return tap.chain, max(tap.record, tap.chain + 4)


def look(host, port, context, timeout_s, tick, address=None):
    """Begin the handshake once more, at this address if that is known, and return the _Tap that has seen it.

    Raises OSError.
    """
    conn = Connection(host, port, None, timeout_s, None, tick)
    if address:
        conn.addresses = [address]
    try:
        conn.open()
        conn.left = -1  # all that comes until it is closed
        tap = _Tap(conn)
        try:
            context.wrap_socket(tap, server_hostname=host).close()
        except (OSError, ValueError):
            pass  # as before; what it had read until then has been looked at
        buf = bytearray(256)
        while tap.tls and not tap.chain and not tap.alert and tap.seen < _MOST:
            if not tap.readinto(buf):
                break
    finally:
        conn.close()
    return tap
