# otadata: which slot boots, and whether the firmware in it is on trial. Imports nothing else of the package, since it
# is loaded at each boot.
#
# Format: ESP-IDF's esp_ota_select_entry_t, two sectors with one 32-byte entry each: u32 sequence number, 20 bytes of
# label, u32 state, CRC-32 of the sequence number alone. The bootloader starts the slot of the highest number among the
# entries that are neither INVALID nor ABORTED.

from binascii import crc32
from struct import unpack

from esp32 import Partition
from micropython import const

# esp_ota_img_states_t
NEW = const(0)  # set to boot, not started yet
PENDING_VERIFY = const(1)  # started for the first time, on trial
VALID = const(2)
INVALID = const(3)
ABORTED = const(4)  # was on trial and not confirmed
UNDEFINED = const(-1)  # written by a bootloader without rollback

_TYPE_OTA = const(0x10)  # subtype of ota_0


def partition():
    """The otadata partition, or None."""
    found = Partition.find(Partition.TYPE_DATA, subtype=0)
    return found[0] if found else None


def slot_number(part):
    """0 for ota_0, 1 for ota_1, ...; negative for a factory partition."""
    return part.info()[1] - _TYPE_OTA


def running_number():
    """slot_number() of what runs."""
    return slot_number(Partition(Partition.RUNNING))


def entries(part):
    """The two entries as (slot number, sequence number, state); None where one holds nothing valid."""
    slots = slot_count()
    result = []
    raw = bytearray(32)
    for sector in (0, 1):
        part.readblocks(sector, raw, 0)
        seq, state, crc = unpack("<I20xiI", raw)
        good = slots and seq != 0xFFFFFFFF and crc == crc32(raw[:4], 0xFFFFFFFF)
        result.append(((seq - 1) % slots, seq, state) if good else None)
    return result


def slot_count():
    """How many OTA slots the partition table has."""
    n = 0
    for part in Partition.find(Partition.TYPE_APP):
        if 0 <= slot_number(part) < 16:
            n += 1
    return n


def boots(entry):
    """Whether the bootloader would choose this entry."""
    return entry is not None and entry[2] not in (INVALID, ABORTED)


def newest(found, number):
    """Index of the entry that tells of a slot, None without one: of two the one that boots, then the later one."""
    best = most = None
    for i in (0, 1):
        entry = found[i]
        if entry and entry[0] == number:
            rank = boots(entry), entry[1]
            if best is None or rank > most:
                best, most = i, rank
    return best


def state():
    """The running firmware's state, one of the constants above; None when otadata does not tell of it."""
    part = partition()
    if part is None:
        return None
    # The boot selection may name a slot that could not be started: only the running one counts.
    found = entries(part)
    own = newest(found, running_number())
    return None if own is None else found[own][2]
