# REPL commands: status(), install(), bar() and help().

import sys
import time

from esp32 import Partition

from .flash import nvs, otadata
from .flash.info import HEAD_SIZE, parse, running_info
from .flash.selection import selected

# Of OTA and of Download; a test compares them with the signatures.
_OPTIONS = (
    "sha256 size trusted_keys decrypt check retry_failed event progress resume"
    " verify_spi_mode partition staging buffer bulk_erase wlan wdt cadata insecure pin"
    " cert key headers auth http_hook request_size timeout_s stall_s deadline_s"
)

# By esp_ota_img_states_t, the last one is -1.
_STATES = "NEW PENDING_VERIFY VALID INVALID ABORTED UNDEFINED"

_first = None  # (bytes, moment) of bar()'s first call of this update
_last = 0, 0


def help():
    """Print what one can do here."""
    print(
        "https_ota.update(url, cadata=..., progress=https_ota.bar)\n"
        "https_ota.install('/remote/fw.bin')  from a file, or an object with readinto()\n"
        "machine.reset()       start what was installed, on trial\n"
        "https_ota.confirm()   keep it\n"
        "https_ota.rollback()  go back to the one before\n"
        "https_ota.status()    the slots and what is in them\n"
        "options: " + _OPTIONS
    )


def status():
    """Print a line for each firmware slot: label, size, version, state, and which runs and boots next.

    What is selected for its first start waits for a reset: deep sleep goes on with what runs.
    """
    data = otadata.partition()
    found = otadata.entries(data) if data else (None, None)
    running = otadata.slot_number(Partition(Partition.RUNNING))
    parts = sorted(Partition.find(Partition.TYPE_APP), key=otadata.slot_number)
    after = _next(found, parts)
    head = bytearray(HEAD_SIZE)
    for part in parts:
        number = otadata.slot_number(part)
        part.readblocks(0, head, 0)
        info = parse(head, HEAD_SIZE)
        best = otadata.newest(found, number)
        state = "" if best is None else found[best][2]
        if state in range(-1, 5):
            state = _STATES.split()[state]
        marks = "runs" if number == running else ""
        if number == after:
            marks += (", " if marks else "") + "boots next"
            if selected(found, running) is not None:
                marks += ", at machine.reset()"
        size, label = part.info()[3:5]
        version = info.version if info else "no application"
        print("%-8s %5d KiB  %-16s %-15s %s" % (label, size // 1024, version, state, marks))
    own = otadata.newest(found, running)
    if own is not None and found[own][2] == otadata.VALID:
        least = running_info().secure_version
        if least > nvs.get_number("floor"):
            # A full NVS, or a power cut in confirm().
            print("secure version %d is not stored yet as the least: confirm() does it" % least)


def _next(found, parts):
    """Number of the slot that the bootloader will try first: an unconfirmed one is out by then."""
    best = None
    for entry in found:
        if otadata.boots(entry) and entry[2] != otadata.PENDING_VERIFY:
            best = entry if best is None or entry[1] > best[1] else best
    # Without a record: the factory app, which comes first here, else ota_0.
    return best[0] if best else otadata.slot_number(parts[0])


def install(source, **options):
    """Install an image from a file of the board ("/sd/fw.bin", "/remote/fw.bin"), or from any object with readinto(buf).

    Checks and returns what update() does; the options are its own. A URL is for update() as well.
    Raises what update() raises, and OSError when there is no such file.
    """
    from .ota import update

    if isinstance(source, str) and "://" not in source:
        with open(source, "rb") as f:
            return update(f, **options)
    return update(source, **options)


def bar(done, total):
    """Pass it as progress=https_ota.bar: percent, KB/s and the time left on one line."""
    global _first, _last
    now = time.ticks_ms()
    if _first is None or done <= _last[0]:  # another update, or this one started over
        _first = done, now
    elif time.ticks_diff(now, _last[1]) < 250 and done != total:
        return  # a terminal at 115200 baud is slower than the network
    _last = done, now
    ms = time.ticks_diff(now, _first[1])
    rate = (done - _first[0]) / ms if ms > 0 else 0  # bytes per ms are KB/s
    if total:
        left = int((total - done) / rate / 1000) if rate else 0
        n = done * 20 // total
        text = "%3d%% [%s%s] %d/%d KB %d KB/s %d:%02d left" % (
            done * 100 // total,
            "#" * n,
            " " * (20 - n),
            done // 1024,
            total // 1024,
            rate,
            left // 60,
            left % 60,
        )
    else:
        text = "%d KB %d KB/s" % (done // 1024, rate)
    if done == total:
        _first = None
    sys.stdout.write("\r" + text + "   " + ("\n" if done == total else ""))
