# Pre-encrypted images as Espressif's esp_encrypted_img makes them: the cipher for decrypt.Decrypt.
#
# The file (esp_encrypted_img 2.7, esp_enc_img_gen.py): 512 bytes of header, then the image in AES-256-GCM.
#     0  magic cf b6 88 07
#     4  384 bytes of key material: the AES key in RSA-3072 PKCS#1 v1.5; or the sender's ephemeral point on P-256
#        (X, Y), 32 bytes of HKDF salt, zeros
#   388  IV, 16 bytes (so J0 is a GHASH)
#   404  length of the ciphertext, little-endian
#   408  tag, 16 bytes
#   424  reserved
# Nothing tells the two schemes apart: the receiver's key does. Nothing is signed: whoever has the public key can
# make a valid image, so it is the server's certificate, or a signature, that vouches for it.

from struct import unpack_from

from micropython import const

from ..der import digest32, element, to_der
from ..errors import OTAError
from .gcm import GCM, erase
from ..hot import equal

_HEADER = const(512)
_RSA_SIZE = const(384)
_MAGIC = b"\xcf\xb6\x88\x07"


class EncryptedImage:
    """Decrypts images of esp_encrypted_img; for one update after another, not for two at a time.

    Exactly one of, as the key decides on the scheme:
    rsa_key   RSA-3072 private key, PEM or DER, PKCS#1 or PKCS#8, without a password
    ec_key    private key on P-256: the number as 32 bytes, big-endian, or 64 hex digits
    hmac_key  32 bytes that the private key on P-256 is derived from, as the chips' HMAC peripheral does with a
              key in eFuse; takes 4096 times SHA-256 each time, scalar() beforehand saves that

    `feed` is called now and then while begin() computes, for a watchdog.

    Raises TypeError unless one key is given, ValueError for a key that can't be used.
    """

    header_size = _HEADER

    def __init__(self, *, rsa_key=None, ec_key=None, hmac_key=None):
        if (rsa_key is None) + (ec_key is None) + (hmac_key is None) != 2:
            raise TypeError("expected exactly one of rsa_key, ec_key and hmac_key")
        if rsa_key is not None:
            _rsa_numbers(rsa_key)  # a key that can't be used is told at once
        else:
            from .ecies import check_scalar

            if ec_key is not None:
                ec_key = digest32(ec_key, "ec_key")
                check_scalar(ec_key, "ec_key")
            else:
                hmac_key = digest32(hmac_key, "hmac_key")
        self._rsa_key = rsa_key
        self._ec_key = ec_key
        self._hmac_key = hmac_key
        self._gcm = None
        self._tag = None
        self.feed = None

    def check(self, start):
        """Raise OTAError when a file that begins so is no encrypted image."""
        if start[:4] != _MAGIC:
            raise OTAError(OTAError.NOT_ENCRYPTED, _describe(start))

    def begin(self, header):
        """Find the AES key in the file's header (512 bytes); return the image's size.

        Raises OTAError: NOT_ENCRYPTED for another kind of file, DECRYPT_KEY when it was made for another key (on
        P-256 only the tag tells, at the end).
        """
        self.wipe()
        self.check(header)
        key = self._open_rsa(header) if self._rsa_key is not None else self._open_ec(header)
        try:
            self._gcm = GCM(key, header[388:404])
        finally:
            erase(key)
        self._tag = bytes(header[408:424])
        return unpack_from("<I", header, 404)[0]

    def decrypt(self, buf, n):
        """Decrypt buf[:n], the next bytes of the file, in place. Allocates nothing."""
        self._gcm.decrypt(buf, n)

    def replay(self, buf, n):
        """Go on as if buf[:n], which was decrypted earlier, had come again; buf stays as it is."""
        self._gcm.replay(buf, n)

    def finish(self):
        """Raise OTAError unless the image is authentic. Forgets all but the key."""
        if self._gcm is None:
            raise OTAError(OTAError.STATE, "no encrypted image is under way; call begin() first")
        try:
            if not equal(self._gcm.tag(), self._tag):
                raise OTAError(
                    OTAError.TAG,
                    "the encrypted image was changed on its way%s: its tag does not match"
                    % ("" if self._rsa_key is not None else ", or made for another key"),
                )
        finally:
            self.wipe()

    def wipe(self):
        """Forget all but the key; harmless at any time."""
        gcm, self._gcm = self._gcm, None
        if gcm is not None:
            gcm.wipe()

    # -- the AES key --------------------------------------------------------------------------------

    def _feed(self):
        if self.feed:
            self.feed()

    # One error for all that can be wrong, and no way out before everything was done: whoever can send files must
    # not learn what a guess decrypts to (Bleichenbacher). That the message must be exactly 32 bytes long makes
    # guesses all but hopeless.
    def _open_rsa(self, header):
        n, p, q, dp, dq, qinv = _rsa_numbers(self._rsa_key)
        c = int.from_bytes(header[4 : 4 + _RSA_SIZE], "big")
        wrong = c >= n
        self._feed()
        # RFC 8017, section 5.1.2, by the Chinese remainder theorem: a quarter of the time of pow(c, d, n).
        h = pow(c % p, dp, p)
        self._feed()
        c = pow(c % q, dq, q)
        self._feed()
        message = (c + (h - c) * qinv % p * q).to_bytes(_RSA_SIZE, "big")
        # 00 02, padding without zeros, 00, the key
        zeros = 0
        for i in range(2, 351):
            zeros += message[i] == 0
        wrong |= (message[0] != 0) | (message[1] != 2) | (message[351] != 0) | (zeros != 0)
        key = message[352:]
        erase(message)
        if wrong:
            erase(key)
            # The EC scheme leaves these zero.
            raise _key_error(header, not any(header[100:388]), "EC")
        return key

    def _open_ec(self, header):
        from .ecies import agree, scalar

        secret = self._ec_key
        if secret is None:
            secret = scalar(self._hmac_key, self.feed)
        self._feed()
        key = agree(secret, header[4:68], header[68:100])
        self._feed()
        if self._ec_key is None:
            erase(secret)
        if key is None:
            raise _key_error(header, any(header[100:388]), "RSA")
        return key


def _key_error(header, other, scheme):
    return OTAError(
        OTAError.DECRYPT_KEY,
        "the key does not open this encrypted image: it was made for another%s key"
        % (" kind of key, an %s" % scheme if other else ""),
    )


def _describe(start):
    from ..errors import as_text

    return "expected an encrypted image (first bytes cf b6 88 07), came %s" % (
        as_text(start, min(len(start), 60)) or " ".join("%02x" % c for c in start[:4]) or "nothing"
    )


# -- RSA keys -----------------------------------------------------------------------------------------


def _rsa_numbers(key):
    """n, p, q, d mod p-1, d mod q-1, 1/q mod p of an RSA-3072 private key (RFC 8017, appendix A.1.2)."""
    der = to_der(key, "rsa_key")[0]
    numbers = []
    try:
        at = element(der, element(der, 0, 0x30)[0], 2)[1]  # past the version
        if der[at] == 0x30:
            # PKCS#8 (RFC 5958): the algorithm, then the key as an octet string.
            at = element(der, element(der, at, 0x30)[1], 4)[0]
            at = element(der, element(der, at, 0x30)[0], 2)[1]
        for _ in range(8):
            start, at = element(der, at, 2)
            numbers.append(int.from_bytes(der[start:at], "big"))
    except IndexError:
        raise ValueError(
            "rsa_key: expected an RSA-3072 private key, PKCS#1 or PKCS#8, without a password"
        )
    n, _, _, p, q, dp, dq, qinv = numbers
    if n >> 3071 != 1:
        raise ValueError("rsa_key: expected 3072 bits, got another size")
    if p * q != n:
        raise ValueError("rsa_key: the key is damaged: its primes are not those of its modulus")
    return n, p, q, dp, dq, qinv
