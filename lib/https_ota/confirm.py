# What an application does at every boot: ask whether this firmware is on trial, keep it, or go back.
#
# The bootloader starts a new firmware once as PENDING_VERIFY; unless it is confirmed, the next reset of
# any kind goes back to the old one. Imports nothing else of the package, since it runs at each boot.
# Format of otadata: ESP-IDF's esp_ota_select_entry_t, two sectors with one 32-byte record each.

from binascii import crc32
from struct import pack, unpack

from esp32 import Partition
from micropython import const

# esp_ota_img_states_t
NEW = const(0)  # set to boot, not started yet
PENDING_VERIFY = const(1)  # started for the first time, on trial
VALID = const(2)
INVALID = const(3)
ABORTED = const(4)  # was on trial and not confirmed
UNDEFINED = const(-1)  # written by a bootloader without rollback

watch = None  # what guard() has begun and confirm() ends

_TYPE_OTA = const(0x10)  # subtype of ota_0
_ERASE = const(6)


def otadata():
    """The otadata partition, or None."""
    found = Partition.find(Partition.TYPE_DATA, subtype=0)
    return found[0] if found else None


def entries(part):
    """The two records of otadata as (slot number, sequence, state); None where one holds nothing valid."""
    slots = sum(
        _TYPE_OTA <= p.info()[1] < _TYPE_OTA + 16 for p in Partition.find(Partition.TYPE_APP)
    )
    result = []
    raw = bytearray(32)
    for sector in (0, 1):
        part.readblocks(sector, raw, 0)
        seq, state, crc = unpack("<I20xiI", raw)
        # The checksum covers the sequence number alone.
        good = slots and seq != 0xFFFFFFFF and crc == crc32(raw[:4], 0xFFFFFFFF)
        result.append(((seq - 1) % slots, seq, state) if good else None)
    return result


def slot_number(part):
    """0 for ota_0, 1 for ota_1, ...; negative for a factory partition."""
    return part.info()[1] - _TYPE_OTA


def _own_entry(found):
    # The boot selection may name a slot that could not be started: only the running one counts.
    running = slot_number(Partition(Partition.RUNNING))
    best = None
    for i in (0, 1):
        if found[i] and found[i][0] == running and (best is None or found[i][1] > found[best][1]):
            best = i
    return best


def state():
    """The running firmware's state, one of the constants above; None when otadata does not tell of it."""
    part = otadata()
    if part is None:
        return None
    found = entries(part)
    own = _own_entry(found)
    return None if own is None else found[own][2]


def confirm():
    """Keep the running firmware. True when it was on trial, False when there was nothing to confirm."""
    # In any other state the record that the firmware would mark may be another slot's, set to boot next.
    before = state()
    on_trial = before == PENDING_VERIFY
    if on_trial:
        Partition.mark_app_valid_cancel_rollback()
    guarded = watch and watch.confirmed()
    if on_trial or (guarded and before == VALID):
        kept()
    return on_trial


def kept():
    """What is to be done once the running firmware is confirmed, besides telling the bootloader."""
    from .outcome import confirmed

    confirmed()
    # secure_version of the application's descriptor: from now on nothing below it is installed. 0 in most builds.
    word = bytearray(4)
    Partition(Partition.RUNNING).readblocks(0, word, 36)
    if any(word):
        from .policy import raise_floor

        raise_floor(unpack("<I", word)[0])


def rollback(why="rollback"):
    """Mark the running firmware as INVALID and restart into the one before it; does not return.

    `why` (up to 60 bytes) is what last_result() tells then. Raises OTAError(ROLLBACK) when there is none that
    could start.
    """
    from .outcome import leaving
    from .slot import find_rollback

    part = otadata()
    found = entries(part) if part else (None, None)
    own = _own_entry(found)
    find_rollback(found, own)
    record = pack(
        "<I20siI",
        found[own][1],
        b"\xff" * 20,
        INVALID,
        crc32(pack("<I", found[own][1]), 0xFFFFFFFF),
    )
    leaving(why)
    # Cut between these two, the entry is gone rather than INVALID: the other firmware starts all the same.
    part.ioctl(_ERASE, own)
    part.writeblocks(own, record, 0)
    import machine

    machine.reset()
