# Boot selection: what otadata is made to say.

from binascii import crc32
from struct import pack

from esp32 import Partition
from micropython import const

from . import otadata

_ERASE = const(6)


def selected(found, running):
    """Index of the entry of a slot that boots next for the first time, None when nothing but `running` does."""
    own = otadata.newest(found, running)
    seq = found[own][1] if own is not None and otadata.boots(found[own]) else 0
    best = None
    for i in (0, 1):
        if otadata.boots(found[i]) and found[i][0] != running and found[i][1] > seq:
            best, seq = i, found[i][1]
    # What has been confirmed once and yet does not run could not be started.
    return (
        best if best is not None and found[best][2] in (otadata.NEW, otadata.UNDEFINED) else None
    )


def write_entry(part, i, seq, status):
    """Write entry i of otadata. Cut in between, it is gone."""
    start = pack("<I", seq)
    part.ioctl(_ERASE, i)
    part.writeblocks(i, start + b"\xff" * 20 + pack("<iI", status, crc32(start, 0xFFFFFFFF)), 0)


def secure(part, number):
    """Let the running firmware come back by itself when slot `number`, set to boot after this, does not last.

    Afterwards no entry of otadata names that slot, and none takes precedence over the running firmware's. That one is
    made where it is missing: in otadata that is blank or damaged, or that ESP-IDF 5.x wrote over when a slot was
    selected twice.
    """
    found = otadata.entries(part)
    running = otadata.slot_number(Partition(Partition.RUNNING))
    own = otadata.newest(found, running)
    if running >= 0 and (own is None or not otadata.boots(found[own])):
        a, b = found
        # In the place of what does not boot, or else of what boots last.
        own = int(otadata.boots(a) and (not otadata.boots(b) or b[1] < a[1]))
        seq = max(a[1] if a else 0, b[1] if b else 0) + 1
        while (seq - 1) % otadata.slot_count() != running:
            seq += 1
        write_entry(part, own, seq, otadata.VALID)
        found[own] = (running, seq, otadata.VALID)
    for i in (0, 1):
        entry = found[i]
        if entry is None or i == own:
            continue
        # With a higher number ESP-IDF takes it for what runs, and writes over the entry of what does.
        if entry[0] == number or (
            own is not None and otadata.boots(entry) and entry[1] >= found[own][1]
        ):
            part.ioctl(_ERASE, i)
