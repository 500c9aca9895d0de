# HTTP Digest authentication (RFC 7616), for servers that ask for it. Loaded only then.

import hashlib
from binascii import hexlify
from random import getrandbits

from ..errors import OTAError
from .secrets import check_auth, clean

_MOST = 3  # challenges in a row; a nonce may have become old meanwhile


class Digest:
    """Answers a server's challenges for one name and password."""

    def __init__(self, name, password):
        check_auth(name, password)
        self._name = str(name)
        self._password = password
        self._challenge = None
        self._count = 0
        self._tries = 0

    def take(self, challenge, url):
        """Take the value of a WWW-Authenticate header (bytes or None); OTAError when there is nothing to answer it with."""
        try:
            text = (challenge or b"").decode()
        except UnicodeError:
            text = "\0"
        # Part of it goes into the request.
        if not clean(text):
            raise _refused(
                url,
                "expected text in UTF-8, its WWW-Authenticate has a control character or other bytes in it",
            )
        fields = _parse(text)
        if fields is None:
            raise _refused(url, "it asks for no Digest authentication; use auth=(name, password)")
        algorithm = fields.get("algorithm", "MD5").upper()
        self._session = algorithm.endswith("-SESS")
        if self._session:
            algorithm = algorithm[:-5]
        self._hash = {"MD5": "md5", "SHA-256": "sha256"}.get(algorithm)
        qops = [q.strip() for q in fields.get("qop", "").split(",")]
        self._qop = "auth" if "auth" in qops else ""
        if self._hash is None or "nonce" not in fields or (qops != [""] and not self._qop):
            raise _refused(
                url,
                "expected Digest with MD5 or SHA-256 and qop=auth, got algorithm %s, qop %s"
                % (fields.get("algorithm", "MD5"), fields.get("qop")),
            )
        old = self._challenge and fields.get("stale", "").lower() != "true"
        self._tries += 1
        if old or self._tries > _MOST:
            raise _refused(url, "it does not take this name and password")
        self._challenge = fields
        self._count = 0

    def header(self, target):
        """The value of Authorization for a GET of this request target, None before there was a challenge."""
        fields = self._challenge
        if fields is None:
            return None
        if self._count:
            self._tries = 0  # it took the last one
        realm, nonce = fields.get("realm", ""), fields["nonce"]
        self._count += 1
        count = "%08x" % self._count
        own = self._fresh()
        secret = self._of("%s:%s:%s" % (self._name, realm, self._password))
        if self._session:
            secret = self._of("%s:%s:%s" % (secret, nonce, own))
        middle = "%s:%s:%s:%s" % (nonce, count, own, self._qop) if self._qop else nonce
        answer = self._of("%s:%s:%s" % (secret, middle, self._of("GET:" + target)))
        parts = [
            "username=" + _quoted(self._name),
            "realm=" + _quoted(realm),
            "nonce=" + _quoted(nonce),
            "uri=" + _quoted(target),
            'response="%s"' % answer,
        ]
        if "algorithm" in fields:
            parts.append("algorithm=" + fields["algorithm"])
        if self._qop:
            parts.append('qop=%s, nc=%s, cnonce="%s"' % (self._qop, count, own))
        if "opaque" in fields:
            parts.append("opaque=" + _quoted(fields["opaque"]))
        return "Digest " + ", ".join(parts)

    def _fresh(self):
        return "%07x%07x" % (getrandbits(28), getrandbits(28))

    def _of(self, text):
        return hexlify(getattr(hashlib, self._hash)(text.encode()).digest()).decode()


# RFC 9110, section 5.6.4.
def _quoted(text):
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


def _refused(url, why):
    return OTAError(
        OTAError.HTTP_STATUS, "%s answered 401 Unauthorized: %s" % (url.split("?", 1)[0], why)
    )


def _parse(text):
    """The parameters of a Digest challenge, names in lower case; None for another scheme."""
    if text[:7].lower() != "digest ":
        return None
    fields = {}
    i = 7
    while i < len(text):
        equals = text.find("=", i)
        if equals < 0:
            break
        name = text[i:equals].strip(" ,").lower()
        i = equals + 1
        if text[i : i + 1] == '"':
            value = ""
            i += 1
            while i < len(text) and text[i] != '"':
                if text[i] == "\\":
                    i += 1
                value += text[i : i + 1]
                i += 1
            i += 1
        else:
            end = text.find(",", i)
            end = len(text) if end < 0 else end
            value = text[i:end].strip()
            i = end
        fields[name] = value
    return fields
