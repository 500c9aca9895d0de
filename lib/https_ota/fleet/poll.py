# Release manifests on a web server: one small file there tells all boards of a fleet what to install.
#
# Its signature has the same URL and ".sig" behind the path: one to three Secure Boot v2 blocks of 1216 bytes, as behind an
# image, but of the manifest's bytes. One by a trusted key will do, so the file can hold those of two manifests while one
# takes the place of the other.
#
# A signed manifest with a lower `release`, or of the same with a lower `serial`, than one that was accepted before is
# a replay. Of an unsigned one neither these nor `expires` is looked at for that: whoever could send an old one could
# write another.
#
# In NVS:
#   "release"  the highest that was accepted in a signed manifest
#   "serial"   what it is of, and the highest with that: 2 numbers of 4 bytes, little-endian. One record, so that a power
#              cut leaves no serial of one release with another. Written before "release"; the higher one of both counts
#   "etag"     the last check came to "nothing to do": 2, 8 bytes of a SHA-256 over all that decided besides the
#              manifest, `expires`, the manifest's validator, an ETag: without one it is read again each time, as a
#              date says nothing of an older manifest

import time
from hashlib import sha256
from struct import pack, unpack

from esp32 import Partition
from micropython import const

from ..errors import OTAError
from ..flash import nvs
from ..flash.image import SplitHash, hashes
from ..flash.info import running_info
from ..hot import equal
from ..memory import kept, no_memory, work
from ..net.download import Download
from ..net.url import identity, parse_url
from .fetch import pieces
from .manifest import NEVER, Decision, Manifest, decide, in_force

_LIMIT = const(8192)
_SIGNATURE_LIMIT = const(3 * 1216)
_SERIAL = const(8)  # bytes
_RECORD = const(29)  # bytes before the validator
_MAX_VALIDATOR = const(128)
_MISSING = (403, 404, 410)  # a file that is not there; S3 says 403
# Options of OTA that are of no use for a manifest.
_SESSION = (
    "decrypt check event progress resume retry_failed verify_spi_mode buffer bulk_erase wlan wdt"
).split()


def check(
    url,
    *,
    trusted_keys=None,
    board=None,
    variant=None,
    device_id=None,
    retry_failed=False,
    wdt=None,
    **options,
):
    """Read the release manifest at `url` and return a Decision: whether this board should install it.

    trusted_keys  digests of the keys that may have signed it, see sign.trusted_digests(); None asks for no signature
    board, variant  which files are for this board besides those for every board with its chip
    device_id     bytes or str that decide when its turn in a staged rollout comes; None is machine.unique_id()
    retry_failed  True wants an image again that was rolled back on this board
    wdt           a machine.WDT to feed
    The other options are those of download.Download.

    Raises what Download does, OTAError: MANIFEST for a file that can't be used, NO_FILE, SECURE_VERSION; with trusted_keys
    also what sign.verify_data() raises, MANIFEST_EXPIRED, CLOCK when that can't be told, MANIFEST_REPLAY.
    """
    given = trusted_keys, board, variant, device_id, retry_failed, wdt, options
    try:
        with work:
            return _check(url, *given)
    except MemoryError:
        raise no_memory()


def _check(url, trusted_keys, board, variant, device_id, retry_failed, wdt, options):
    start = time.ticks_ms()
    trusted = None
    if trusted_keys is not None:
        from ..trust.signature import Signature

        trusted = Signature(trusted_keys)
    if device_id is None:
        from machine import unique_id

        device_id = unique_id()
    elif isinstance(device_id, str):
        device_id = device_id.encode()
    feed = wdt.feed if wdt else None
    running = running_info()
    failed = []
    if not retry_failed:
        from ..boot.history import failed as find_failed

        failed = find_failed()
    # When one of these is another, a 304 is no answer.
    keys = trusted and trusted.keys
    ours = identity(url), keys, board, variant, device_id, running.app_elf_sha256, failed
    ours = sha256(repr(ours).encode()).digest()[:8]
    known = _known(ours)

    download = Download(url, **options)
    data = _read(download, _LIMIT, known, feed)
    if data is None:
        return Decision(Decision.NOT_MODIFIED, "the manifest is the one that gave nothing to do")
    base, validator = download.url, download.validator
    download = None  # with its TLS context: one at a time
    if trusted is not None:
        trusted = _verify(data, url, trusted, feed, _rest(options, start))
    manifest = Manifest(data)
    data = None
    words = ""
    if trusted is None:
        manifest.expires = NEVER
    else:
        words = _accept(manifest)
    record = None
    try:
        here = running, board, variant, device_id, failed, nvs.get_number("floor")
        decision = decide(manifest, base, *here, lambda size, digest: runs(size, digest, feed))
        decision.keys = trusted
        decision.words += words
        tag = validator or b""
        if not decision.update and tag[:1] == b"E" and len(tag) <= _MAX_VALIDATOR:
            record = b"\x02" + ours + manifest.expires.encode() + validator
    finally:
        # Only what comes to nothing need not come again: an update may fail.
        if record is None:
            nvs.drop("etag")
        else:
            nvs.put("etag", record)
    return decision


def update_from(
    url,
    *,
    trusted_keys=None,
    image_keys="same",
    board=None,
    variant=None,
    device_id=None,
    **options,
):
    """Install what the release manifest at `url` has for this board, and select it for the next boot.

    Returns the ImageInfo, or None when there is nothing to do; check() tells why. Restart with machine.reset().

    image_keys  digests of the keys that may have signed the image; "same" stands for trusted_keys. None asks for no
                signature in the image: then the manifest's alone vouches for its SHA-256
    The other options are those of check() and OTA; size and sha256 are the manifest's.
    """
    given = trusted_keys, image_keys, board, variant, device_id, options
    with work:
        return _update_from(url, *given)


def _update_from(url, trusted_keys, image_keys, board, variant, device_id, options):
    start = time.ticks_ms()
    decision = check(
        url,
        trusted_keys=trusted_keys,
        board=board,
        variant=variant,
        device_id=device_id,
        retry_failed=options.get("retry_failed", False),
        wdt=options.get("wdt"),
        **{name: options[name] for name in options if name not in _SESSION},
    )
    if not decision.update:
        return None
    if decision.encrypted and options.get("decrypt") is None:
        raise OTAError(OTAError.DECRYPT_KEY, "the image is encrypted, decrypt= is not given")
    if not decision.encrypted and options.get("decrypt") is not None:
        raise OTAError(OTAError.NOT_ENCRYPTED, "decrypt= is given, the image is a plain one")
    if isinstance(image_keys, str) and image_keys == "same":
        image_keys = decision.keys
    from ..ota import update

    urls = [decision.url]
    if decision.smaller:
        from .smaller import pass_over, shorter

        urls = shorter(decision, options.get("retry_failed")) + urls
    for file in urls:
        given = _rest(options, start)
        if parse_url(file)[:3] != parse_url(url)[:3]:
            # Secrets stay with the host they were given for.
            given = {n: given[n] for n in given if n not in ("headers", "auth", "cert", "key")}
        try:
            return update(
                file,
                size=decision.size,
                sha256=decision.sha256,
                trusted_keys=image_keys,
                **given,
            )
        except OTAError as e:
            if file == decision.url or not pass_over(decision, file, e.code):
                raise


# What is left of deadline_s, for the next of several files.
def _rest(options, start):
    limit = options.get("deadline_s")
    if limit:
        limit -= time.ticks_diff(time.ticks_ms(), start) / 1000
        options = dict(options)
        options["deadline_s"] = max(limit, 0.1)
    return options


# -- the two files ----------------------------------------------------------------------------------


# All of a small file; None when it is the one that is known.
def _read(download, limit, known, feed):
    try:
        data = bytearray()
        for piece in pieces(download, bytearray(256), feed, known and _Known(known)):
            data += piece
            if len(data) > limit:
                break
        status = download.status
        if status == 304 and known:
            return None
        shown = download.url.split("?", 1)[0]
        if status in (204, 304):
            raise OTAError(
                OTAError.MANIFEST,
                "expected a file at %s, the server answered %d" % (shown, status),
            )
        if len(data) > limit:
            raise OTAError(
                OTAError.MANIFEST, "expected at most %d bytes at %s, more came" % (limit, shown)
            )
        return data
    finally:
        download.close()


class _Known:
    # What a manifest is known by.
    total = None

    def __init__(self, validator):
        self.validator = validator


# Returns the keys, that of the running firmware among them.
def _verify(data, url, trusted, feed, options):
    from ..trust.signature import verify_data

    path, mark, query = url.split("#", 1)[0].partition("?")
    download = Download(path + ".sig" + mark + query, **options)
    try:
        signature = _read(download, _SIGNATURE_LIMIT, None, feed)
    except OTAError as e:
        if e.code == OTAError.HTTP_STATUS and download.status in _MISSING:
            raise OTAError(
                OTAError.UNSIGNED,
                "expected the manifest's signature at %s.sig, the server answered %d"
                % (path, download.status),
            )
        raise
    if feed:
        feed()
    for _ in trusted.resolve(bytearray(4096)):
        if feed:
            feed()
    verify_data(data, signature, trusted.keys, "manifest")
    return trusted.keys


# -- what runs, what time it is, and what was seen ----------------------------------------------------


def runs(size, digest, feed=None):
    """Whether the running firmware is this image: by `size` bytes of it, fed once a sector to a watchdog."""
    part = Partition(Partition.RUNNING)
    if size > part.info()[3]:
        return False
    buf = bytearray(4096)
    steps = hashes(part.readblocks, size, None, buf, memoryview(buf))
    try:
        while True:
            next(steps)
            if feed:
                feed()
    except StopIteration as e:
        return equal(e.value, SplitHash.whole(digest))


# The time as in a manifest; as long ago as can be where it does not matter.
def _now(expires):
    if expires == NEVER:
        return ""
    from ..net.words import clock_error

    unset = clock_error("no expiry date")
    if unset:
        raise unset
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % tuple(time.gmtime()[:6])


# Remember a signed manifest that is in force. Returns "", or what is to be said of that.
def _accept(manifest):
    newest = max(_newest(), kept.get("manifest", (0, 0)))
    in_force(manifest, _now(manifest.expires), newest)
    mark = manifest.release, manifest.serial
    # A store that is full or worn out must not stop an update.
    if mark == newest or _store(mark, newest[0]):
        return ""
    kept["manifest"] = mark
    return "; NVS has no room to remember that this manifest was here: after a reset an older one may be taken for new"


# Release and serial of the newest manifest that was accepted.
def _newest():
    newest = nvs.get_number("release"), 0
    record = bytearray(_SERIAL)
    if nvs.get("serial", record) == _SERIAL:
        newest = max(newest, unpack("<II", record))
    return newest


# False when there is no room for it.
def _store(mark, release):
    return (not mark[1] or nvs.keep("serial", pack("<II", *mark))) and (
        mark[0] <= release or nvs.keep("release", mark[0])
    )


# The validator of the manifest that gave nothing to do, if what decided then is as it was.
def _known(ours):
    record = bytearray(_RECORD + _MAX_VALIDATOR)
    n = nvs.get("etag", record)
    if n <= _RECORD or record[0] != 2 or record[1:9] != ours:
        return None
    expires = bytes(record[9:_RECORD]).decode()
    try:
        if _now(expires) >= expires:
            return None
    except OTAError:
        return None  # without a clock, who knows
    return bytes(record[_RECORD:n])
