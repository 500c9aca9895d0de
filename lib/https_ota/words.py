# Advice for error codes: what to do about an OTAError, the second line of its text.
#
# One text rather than a dict: it takes half the memory. Nothing but OTAError.__str__ loads it.

_ADVICE = """
STATE Call begin(), perform() until it returns False, then finish().
NO_SLOT Flash an OTA partition table once over USB; or esp32.Partition("factory").set_boot() and update from there.
PENDING_VERIFY Call https_ota.confirm() or https_ota.rollback() first.
MEMORY A TLS connection takes 40000 bytes for a moment: update early after boot, with Bluetooth off.
PARTITION Give the label of one that nothing uses; vfs.umount() a file system first.
IN_PROGRESS finish() or abort() that one first; aio.abort() ends those of a loop that was interrupted.
RESET_NEEDED machine.reset() starts the new firmware; deep sleep does not.
CLOCK Set it first, for example with ntptime.settime().
CERT_DATE Renew the certificate, or set the board's clock (UTC).
CERT_HOST Use the name in the URL that the certificate was made for.
CERT_CA Give the root certificate of the server's chain; `https-ota ca` finds it; let the server send its intermediate certificates.
TLS_BUFFER Serve a shorter chain, lower request_size, or raise CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN.
REDIRECT Give the URL where it ends; `https-ota probe` follows it.
HTTP_STATUS 404: check the path. 401, 403: auth=, or a fresh presigned URL. 429, 5xx: try again later.
HTTP_PROTOCOL Check host and port; `https-ota probe` tells what answers there.
DISCONNECTED Try again: it goes on from there.
DEADLINE Try again: it goes on from there; or raise deadline_s.
CHANGED Try again once the upload is done; give new files new names.
CERT_PIN Add the new pin if the server's key was changed on purpose.
NOT_AN_IMAGE Check the URL and the file there.
WRONG_FILE Use the application image: micropython.bin of the build folder, or the .app-bin among the downloads; an encrypted one with decrypt=.
CHIP Use the image for this board's chip.
CHIP_REVISION Build it for this revision of the chip.
FLASH_MODE Build it for the same mode (0 QIO, 1 QOUT, 2 DIO, 3 DOUT); verify_spi_mode=False if the board can do both.
TOO_BIG Build a smaller image, or flash a table with larger slots over USB.
SEGMENTS Check the file with `https-ota inspect`, and upload it once more.
TRUNCATED Check the file with `https-ota inspect`, and upload it once more.
CHECKSUM Check the file with `https-ota inspect`, and upload it once more.
DIGEST Check the file, and sha256=.
SIZE Check the file, and size=; let the server send Content-Length.
SECURE_VERSION Use a later image: older ones have known holes.
VERSION Build it with a later version, as 1.2.3.
PROJECT Use an image of the same project.
BASE Use the delta that was made from what runs here, or the whole image.
READ_BACK Try again: the flash is failing, or something else writes there.
NOT_BOOTABLE Check the file with `https-ota inspect`.
ROLLBACK Keep this firmware, or install another; where NVS is full, make room.
FAILED_BEFORE Install another build; retry_failed=True takes this one.
NOT_ENCRYPTED Leave decrypt= out, or serve what `https-ota encrypt` makes.
DECRYPT_KEY Give decrypt=EncryptedImage(...) with the key that it was encrypted for.
TAG Encrypt it once more, and upload it.
UNSIGNED Sign it with `https-ota sign` or espsecure, a manifest with `https-ota manifest --sign`.
SIGNATURE_BLOCK Sign it once more.
KEY_TYPE Sign it with RSA-3072, ECDSA P-256 or P-384.
UNKNOWN_KEY Sign it with a trusted key, or trust this one.
SIGNATURE Sign it once more: it was changed since.
MANIFEST Make it with `https-ota manifest`.
MANIFEST_EXPIRED Sign a new one with `https-ota manifest --update`.
MANIFEST_REPLAY Serve the newest one: a cache may hold an old one.
NO_FILE Add a file for this board to the manifest.
"""


def advice(name):
    """What to do about the error of this name."""
    start = _ADVICE.find("\n" + name + " ") + len(name) + 2
    return _ADVICE[start : _ADVICE.find("\n", start)]
