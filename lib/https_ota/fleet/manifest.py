# Release manifest: its format, and the rules by which a board decides. No I/O: what the flash, NVS and the clock say is
# handed in.
#
# JSON of up to 8192 bytes; names that are not listed here are ignored, so that others can be added.
#   release         number of this release, 1 to 2147483647, higher than any before it
#   serial          optional, default 0, 0 to 4294967295: of this release, each change of the manifest has a higher one
#   version         of the firmware, as "1.4.0"; "" when it has none
#   expires         optional, as "2026-12-31T23:59:59Z" (RFC 3339, UTC): from then on the file is not believed
#   min_version     optional: the lowest version to upgrade from
#   secure_version  optional, default 0: that of the images
#   rollout         optional, default 100: percent of the boards that may install it, a whole number
#   notes           optional: words for people
#   files           a list of images, each with
#     chip            "ESP32-C3", or its id in the image's header: 5
#     board, variant  optional: only for boards that say they are such; the file with the most of these wins
#     url             absolute, or relative to where the manifest came from, after redirects
#     size, sha256    bytes and 64 hex digits, of the image that ends in the flash, with its signature
#     elf_sha256      optional: 64 hex digits from the image's descriptor; a board that went back from it is told
#     encrypted       optional: true when what is downloaded is an encrypted image
#     packed          optional: {url, bytes}, the same compressed; it has so many bytes
#     deltas          optional: a list of {base, url, bytes}, what makes it of the image that has these 64 hex digits at its end

from hashlib import sha256

from micropython import const

from ..der import digest32
from ..errors import OTAError, as_text
from ..net.redirect import join_url
from ..net.url import parse_url
from ..flash.info import chip_name
from ..boot.version import version_key

NEVER = "9999-12-31T23:59:59Z"
_MAX_SIZE = const(0x10000000)
_KINDS = {int: "a whole number", str: "a text", list: "a list", bool: "true or false"}


class Decision:
    """What release.check() came to.

    update   True when there is something to install
    reason   one of the constants below; `words` says it in a sentence
    version, release, notes  of the manifest
    url, size, sha256, encrypted  of this board's image; size in bytes, sha256 32 bytes
    smaller  what is shorter, the shortest first: a list of (bytes, url, SHA-256 at the end of the image that it is a delta to,
             None for one that is only compressed)
    All but the first two are None for NOT_MODIFIED.
    """

    UPDATE = 0
    UP_TO_DATE = 1  # what it is about runs
    NOT_MODIFIED = 2  # the manifest is the one that gave nothing to do before
    OLDER = 3  # its version is older than the running one
    ROLLOUT = 4  # this board's turn has not come
    MIN_VERSION = 5  # the running firmware is too old to upgrade to it at once
    FAILED = 6  # this board went back from it before

    version = release = notes = url = size = sha256 = encrypted = smaller = None
    keys = None  # that may have signed it: trusted_keys, that of the running firmware verified

    def __init__(self, reason, words):
        self.update = reason == Decision.UPDATE
        self.reason = reason
        self.words = words

    def __repr__(self):
        return "<Decision: %s>" % self.words


class Manifest:
    """A manifest from its bytes; the attributes are named as in the file. Raises OTAError(MANIFEST)."""

    def __init__(self, data):
        m = _parse(data)
        self.release = _number(m, "release", 1, 0x7FFFFFFF)
        self.serial = _number(m, "serial", 0, 0xFFFFFFFF, 0)
        self.version = _get(m, "version", str)
        self.expires = _expires(m)
        self.min_version = _get(m, "min_version", str, "")
        self.secure_version = _number(m, "secure_version", 0, 0xFFFFFFFF, 0)
        self.rollout = _number(m, "rollout", 0, 100, 100)
        self.notes = _get(m, "notes", str, "")
        self.files = _get(m, "files", list)

    def select(self, chip, board, variant):
        """The file for a board, the first of those that say the most about it. Raises OTAError(NO_FILE)."""
        best = None
        most = -1
        names = []
        for file in self.files:
            if not isinstance(file, dict):
                raise _bad("files: expected {...}, came %s", _shown(file))
            name = file.get("chip")
            if isinstance(name, int):
                name = chip_name(name)
            elif not isinstance(name, str):
                raise _bad("chip: expected a name or a number, came %s", _shown(name))
            fits = _plain(name) == _plain(chip)
            said = 0
            for key, ours in (("board", board), ("variant", variant)):
                given = _get(file, key, str, "")
                if given:
                    said += 1
                    name += " " + given
                    fits = fits and given == ours
            if fits and said > most:
                best, most = file, said
            names.append(name)
        if best is None:
            raise OTAError(
                OTAError.NO_FILE,
                "the manifest has no file for this board (%s, board=%r, variant=%r), only for: %s"
                % (chip, board, variant, ", ".join(names)[:200] or "none"),
            )
        return best


def in_force(manifest, now, newest):
    """Raise OTAError for a signed Manifest that has expired by `now`, or is older than `newest`, (release, serial).

    Both times are text of the same form: neither the epoch nor the size of integers matters.
    """
    if now >= manifest.expires:
        raise OTAError(
            OTAError.MANIFEST_EXPIRED,
            "the manifest was good until %s, the board's clock says %s" % (manifest.expires, now),
        )
    mark = manifest.release, manifest.serial
    if mark < newest:
        raise OTAError(
            OTAError.MANIFEST_REPLAY,
            "the manifest is of release %d, serial %d; this board has seen release %d, serial %d"
            % (mark + newest),
        )


def decide(manifest, base, running, board, variant, device_id, failed, floor, runs):
    """The Decision on a Manifest that came from the URL `base`, for the board that runs `running` (an ImageInfo).

    failed  list of app_elf_sha256 of the images that this board went back from
    floor   the lowest secure version that was ever confirmed
    runs    called as runs(size, sha256): whether that image is what runs
    Raises OTAError: MANIFEST, NO_FILE, SECURE_VERSION.
    """
    file = manifest.select(running.chip, board, variant)
    size = _number(file, "size", 1, _MAX_SIZE)
    digest = _digest(_get(file, "sha256", str), "sha256")
    encrypted = _get(file, "encrypted", bool, False)
    elf = _get(file, "elf_sha256", str, "")
    failed = bool(failed) and elf != "" and _digest(elf, "elf_sha256") in failed
    url = _url(file, base)
    smaller = _smaller(file, base)
    floor = max(running.secure_version, floor)
    if manifest.secure_version < floor:
        raise OTAError(
            OTAError.SECURE_VERSION,
            "release %d has secure version %d, this board takes %d or later"
            % (manifest.release, manifest.secure_version, floor),
        )
    reason, words = _reason(manifest, size, digest, running, device_id, failed, runs)
    name = "release %d (%s)" % (manifest.release, manifest.version or "without version")
    decision = Decision(reason, name + " " + words)
    decision.version = manifest.version
    decision.release = manifest.release
    decision.notes = manifest.notes
    decision.url = url
    decision.smaller = [form for form in smaller if form[0] < size]
    decision.size = size
    decision.sha256 = digest
    decision.encrypted = encrypted
    return decision


def _url(where, base):
    url = _get(where, "url", str)
    for c in url:
        if not "!" <= c <= "~":
            raise _bad("url: %s must be percent-encoded", repr(url)[:80])
    url = join_url(base, url)
    try:
        parse_url(url)
    except ValueError as e:
        raise _bad("%s", e)
    return url


def _smaller(file, base):
    found = []
    entries = _get(file, "deltas", list, [])
    for entry in entries + [file["packed"]] if "packed" in file else entries:
        if not isinstance(entry, dict):
            raise _bad("packed, deltas: expected {...}, came %s", _shown(entry))
        needed = None
        if len(found) < len(entries):
            needed = _digest(_get(entry, "base", str), "base")
        found.append((_number(entry, "bytes", 1, _MAX_SIZE), _url(entry, base), needed))
    return sorted(found, key=lambda form: form[0])


def _reason(manifest, size, digest, running, device_id, failed, runs):
    new, own = _key(manifest.version), _key(running.version)
    least = manifest.min_version
    least_key = _key(least)
    if least and not least_key:
        raise _bad("min_version: expected one like 1.2.3, came %s", _shown(least))
    if new and own:
        if new == own:
            return Decision.UP_TO_DATE, "has the version that runs"
        if new < own:
            return Decision.OLDER, "is older than the running %s" % running.version
    elif runs(size, digest):
        return Decision.UP_TO_DATE, "is what runs"
    if failed:
        return Decision.FAILED, "is what this board went back from"
    if least and (not own or own < least_key):
        return (
            Decision.MIN_VERSION,
            "can be installed from version %s on, this board runs %s"
            % (least, running.version or "one without version"),
        )
    if not _chosen(device_id, manifest.release, manifest.rollout):
        return (
            Decision.ROLLOUT,
            "is for %d %% of the boards, and not yet for this one" % manifest.rollout,
        )
    return Decision.UPDATE, "is to be installed"


def _key(text):
    try:
        return version_key(text)
    except OTAError:
        return None


# Each release chooses anew; who is among 10 % is among 50 %.
def _chosen(device_id, release, percent):
    digest = sha256(str(release).encode() + b":" + device_id).digest()
    return int.from_bytes(digest[:4], "big") * 100 < percent << 32


# -- the file ---------------------------------------------------------------------------------------


def _bad(what, *args):
    return OTAError(OTAError.MANIFEST, "the manifest can't be used: " + what % args)


def _parse(data):
    import json

    data = bytes(data).strip()
    try:
        # The parser takes what is cut off for what is whole.
        if data[:1] != b"{" or data[-1:] != b"}":
            raise ValueError
        return json.loads(data)
    except (ValueError, SyntaxError):
        shown = as_text(data, min(len(data), 60))
        raise _bad("expected JSON, {...}, came %d bytes: %s", len(data), shown)


# What is nested too deep can't be shown.
def _shown(value):
    return type(value).__name__ if isinstance(value, (list, dict)) else repr(value)[:40]


def _get(where, name, kind, default=None):
    value = where.get(name, default)
    if not isinstance(value, kind):
        raise _bad("%s: expected %s, came %s", name, _KINDS[kind], _shown(value))
    return value


def _number(where, name, low, high, default=None):
    value = _get(where, name, int, default)
    if not low <= value <= high:
        raise _bad("%s: expected %d to %d, came %s", name, low, high, _shown(value))
    return value


def _expires(m):
    text = _get(m, "expires", str, NEVER)
    good = len(text) == len(NEVER)
    for a, b in zip(text, NEVER):
        good = good and (a in "0123456789" if b in "0123456789" else a == b)
    if not good:
        raise _bad("expires: expected 2026-12-31T23:59:59Z or the like, came %s", _shown(text))
    return text


def _digest(text, name):
    try:
        return digest32(text, name)
    except ValueError as e:
        raise _bad("%s", e)


def _plain(name):
    return name.lower().replace("-", "")
