# Update history and rollback record: what became of an update, and which images are not to be installed again.
#
# Worked out from what runs and from otadata; NVS, written only when something has changed, keeps what these forget:
#   "last"    the image that was installed or rolled back last: 1, result (below), slot number, length of the reason;
#             app_elf_sha256 (32 bytes); version (32 bytes, zeros at its end); the reason (UTF-8)
#   "failed"  app_elf_sha256 of up to 6 images that were rolled back or did not start, the last one first

from collections import namedtuple

from esp32 import Partition
from micropython import const

from ..flash import nvs, otadata
from ..errors import OTAError

_VERSION = const(1)
_HEAD = const(68)
_MAX_WHY = const(60)
_MOST_FAILED = const(6 * 32)
_DESC = const(32)  # where the application descriptor is in an image
_DESC_SIZE = const(176)  # as far as app_elf_sha256 ends

# Results; as the second byte of "last" their place here. "trial" and "selected" are never stored.
_WORDS = ("installed", "updated", "rolled back", "not started", "on trial", "selected")
_INSTALLED = const(0)  # nothing more is known yet
_UPDATED = const(1)
_ROLLED_BACK = const(2)
_NOT_STARTED = const(3)
_ON_TRIAL = const(4)
_SELECTED = const(5)

Result = namedtuple("Result", ("result", "why", "version", "slot", "app_elf_sha256"))


def last_result():
    """What became of the last update, or None when nothing is known: (result, why, version, slot, app_elf_sha256).

    result  "selected": it starts at the next reset; "on trial": it runs and is not confirmed yet; "updated": it was
            confirmed, or started by a bootloader without rollback; "rolled back": it was started, and the firmware before
            it runs again; "not started": the bootloader refused it
    why     "" or, for "rolled back", one of "guard" (no confirm() in time), "starts" (too many starts without one), what
            rollback() was given, or else how the trial ended: "watchdog", "power", "reset", "sleep" (when asked at the
            first start after it)
    version that of the image; slot its number (0 for ota_0); app_elf_sha256 32 bytes that tell one build from another
    """
    last = _find_out()[0]
    if last is None:
        return None
    version = bytes(last[36:_HEAD]).split(b"\0", 1)[0]
    return Result(_WORDS[last[1]], _why(last), _text(version), last[2], bytes(last[4:36]))


def failed():
    """List of app_elf_sha256 (32 bytes) of the images that are not to be installed again, the last one first."""
    return _failed(_find_out()[1])


def refusal(info):
    """The OTAError that tells why the image of this ImageInfo is not to be installed again, or None."""
    last, sha = _find_out()
    if info.app_elf_sha256 not in _failed(sha):
        return None
    why = _why(last) if last is not None and last[4:36] == info.app_elf_sha256 else ""
    return OTAError(
        OTAError.FAILED_BEFORE,
        "this image (%s, built %s %s) ran here before and did not last%s"
        % (
            info.version or "without version",
            info.date,
            info.time,
            " (%s)" % why if why else "",
        ),
    )


def installed(number, info):
    """Record what is about to be selected: slot number and ImageInfo."""
    version = info.version.encode()
    nvs.put("last", _record(number, info.app_elf_sha256, version, ""))


def leaving(why):
    """Record that the running firmware is about to be given up."""
    part = Partition(Partition.RUNNING)
    desc = _descriptor(part)
    if desc is not None:
        nvs.put("last", _record(otadata.slot_number(part), desc[144:], desc[16:48], why))


def confirmed():
    """An image has proved itself: whatever failed before may be tried again."""
    nvs.drop("failed")


def _find_out():
    # The record "last", brought up to date, or None; and the digest of what failed when that can't be stored.
    part = otadata.partition()
    if part is None:
        return None, None
    found = otadata.entries(part)
    running = Partition(Partition.RUNNING)
    number = otadata.slot_number(running)
    own = otadata.newest(found, number)
    own_seq = 0 if own is None else found[own][1]
    last = _load()
    for entry in found:
        # One that somebody else installed, or before records were kept.
        if (
            entry
            and entry[1] > own_seq
            and entry[2] in (otadata.INVALID, otadata.ABORTED)
            and entry[0] != number
        ):
            if last is None or last[2] != entry[0]:
                last = _record_of(entry[0]) or last
    if last is None:
        return None, None
    desc = _descriptor(running)
    own_sha = desc[144:] if desc is not None else None
    sha = last[4:36]
    before = last[1]
    entry = otadata.newest(found, last[2])
    if entry is not None:
        entry = found[entry]
    if last[2] == number and sha == own_sha:
        if entry and entry[2] == otadata.PENDING_VERIFY:
            return _become(last, _ON_TRIAL), None
        last = _become(last, _UPDATED, "")
    elif before in (_ROLLED_BACK, _NOT_STARTED):
        return last, None
    elif _why(last) or (entry and entry[2] in (otadata.INVALID, otadata.ABORTED)):
        last = _become(last, _ROLLED_BACK, _why(last) or _cause())
    elif entry and entry[1] > own_seq:
        if entry[2] == otadata.NEW:
            return _become(last, _SELECTED), None
        last = _become(last, _NOT_STARTED)
    elif before == _INSTALLED:
        return None, None  # the power failed before it was selected, or while it was to start
    if last[1] == before:
        return last, None
    if last[1] == _UPDATED:
        confirmed()
    # What has been confirmed once and does not start now was damaged: fetching it again repairs it.
    elif (last[1] == _ROLLED_BACK or before != _UPDATED) and any(sha) and sha != own_sha:
        if not nvs.keep("failed", b"".join(_failed(sha))[:_MOST_FAILED]):
            return last, sha
    # Last, so that a power cut in between does all of it again.
    nvs.put("last", last)
    return last, None


def _failed(first=None):
    buf = bytearray(_MOST_FAILED)
    n = nvs.get("failed", buf)
    found = [bytes(buf[i : i + 32]) for i in range(0, n, 32)]
    return found if first is None or first in found else [bytes(first)] + found


def _cause():
    import machine

    cause = machine.reset_cause()
    if cause == machine.WDT_RESET:
        return "watchdog"
    if cause == machine.DEEPSLEEP_RESET:
        return "sleep"
    return "power" if cause == machine.PWRON_RESET else "reset"


# -- records


def _record(number, sha, version, why):
    why = why.encode()[:_MAX_WHY]
    record = bytearray(_HEAD + len(why))
    record[0] = _VERSION
    record[2] = number & 255
    record[3] = len(why)
    record[4:36] = sha
    record[36 : 36 + len(version)] = version
    record[_HEAD:] = why
    return record


def _become(last, result, why=None):
    if why is not None:
        last = _record(last[2], last[4:36], last[36:_HEAD], why)
    last[1] = result
    return last


def _record_of(number):
    # Of the image that a slot holds.
    for part in Partition.find(Partition.TYPE_APP):
        if otadata.slot_number(part) == number:
            desc = _descriptor(part)
            return None if desc is None else _record(number, desc[144:], desc[16:48], "")
    return None


def _descriptor(part):
    desc = bytearray(_DESC_SIZE)
    part.readblocks(0, desc, _DESC)
    return desc if desc[:4] == b"\x32\x54\xcd\xab" else None


def _why(last):
    return _text(last[_HEAD:])


def _text(raw):
    return "".join(chr(c) if 32 <= c < 127 else "?" for c in raw)


def _load():
    buf = bytearray(_HEAD + _MAX_WHY)
    n = nvs.get("last", buf)
    if n < _HEAD or buf[0] != _VERSION or n != _HEAD + buf[3] or buf[1] > _NOT_STARTED:
        return None
    return buf[:n]
