# otadata: which slot boots, and whether the firmware in it is on trial.
#
# Loaded at each boot, so it imports nothing else of the package, and counts every byte: a tuple of constants is kept in
# RAM, as are names that const() makes public.
#
# Format: ESP-IDF's esp_ota_select_entry_t, two sectors with one 32-byte entry each: u32 sequence number, 20 bytes of
# label, u32 state, CRC-32 of the sequence number alone. The bootloader starts the slot of the highest number among the
# entries that are neither INVALID nor ABORTED.

from esp32 import Partition

# esp_ota_img_states_t
NEW = 0  # set to boot, not started yet
PENDING_VERIFY = 1  # started for the first time, on trial
VALID = 2
INVALID = 3
ABORTED = 4  # was on trial and not confirmed
UNDEFINED = -1  # written by a bootloader without rollback


def partition():
    """The otadata partition, or None."""
    found = Partition.find(Partition.TYPE_DATA, subtype=0)
    return found[0] if found else None


def slot_number(part):
    """0 for ota_0, 1 for ota_1, ...; negative for a factory partition."""
    return part.info()[1] - 0x10  # subtype of ota_0


def entries(part):
    """The two entries as (slot number, sequence number, state); None where one holds nothing valid."""
    from binascii import crc32
    from struct import unpack

    slots = slot_count()
    result = []
    raw = bytearray(32)
    for sector in range(2):
        part.readblocks(sector, raw, 0)
        seq, state, crc = unpack("<I20xiI", raw)
        # 0xFFFFFFFF is what is erased; as a constant it would stay in RAM.
        good = slots and not (seq + 1) >> 32 and crc == crc32(raw[:4], -1)
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
    for i in range(2):
        entry = found[i]
        if entry and entry[0] == number:
            rank = boots(entry), entry[1]
            if best is None or rank > most:
                best, most = i, rank
    return best


def state():
    """The running firmware's state, one of the constants above; None when otadata does not tell of it."""
    part = partition()
    if part is not None:
        # The boot selection may name a slot that could not be started: only the running one counts.
        found = entries(part)
        own = newest(found, slot_number(Partition(Partition.RUNNING)))
        if own is not None:
            return found[own][2]
    return None
