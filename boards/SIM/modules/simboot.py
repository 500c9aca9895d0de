# The SIM board's bootloader, which runs when this module is first imported, and otadata, the
# record of which slot to boot that it shares with Partition.set_boot() and the rollback.
import binascii
import os
import struct
import sys
import _sim
import simchip
import simerror
import simimage
import simtable
from micropython import const
from simflash import Flash

_SECTOR = const(4096)
_ENTRY_LEN = const(32)

# ota_state of an otadata entry
_NEW = const(0)
_PENDING_VERIFY = const(1)
_VALID = const(2)
_INVALID = const(3)
_ABORTED = const(4)

_DEEPSLEEP_RESET = const(4)
_SOFT_RESET = const(5)
_FACTORY_INDEX = const(-1)

_no_seq = b"\xff\xff\xff\xff"

log = []


def _say(line):
    log.append(line)
    if os.getenv("SIM_VERBOSE") == "1":
        sys.stderr.write("boot: " + line + "\n")


def _find(kind, subtype):
    return simtable.find_first(table, kind, subtype)


def otadata():
    return _find(simtable.TYPE_DATA, simtable.DATA_OTA)


# Slots as the app counts them: as many as follow one another from ota_0 on.
def _slot_count():
    n = 0
    while n < 16 and _find(simtable.TYPE_APP, simtable.OTA_0 + n):
        n += 1
    return n


# --- otadata: two sectors, an entry at the start of each


class Entry:
    def __init__(self, i):
        self.i = i
        self.raw = bytearray(_ENTRY_LEN)
        self._addr = otadata()[2] + i * _SECTOR
        flash.read(self._addr, self.raw)

    def seq(self):
        return struct.unpack_from("<I", self.raw)[0]

    def state(self):
        return struct.unpack_from("<I", self.raw, 24)[0]

    # "Out of the question" is told from sequence number and state only, before the CRC is looked at.
    def out(self):
        return self.raw[:4] == _no_seq or self.state() in (_INVALID, _ABORTED)

    def crc_ok(self):
        return struct.unpack_from("<I", self.raw, 28)[0] == self._crc()

    def _crc(self):
        return binascii.crc32(self.raw[:4], 0xFFFFFFFF)

    def blank(self):
        self.raw[:] = b"\xff" * _ENTRY_LEN

    def write(self, state, seq=None):
        if seq is not None:
            struct.pack_into("<I", self.raw, 0, seq)
        struct.pack_into("<II", self.raw, 24, state, self._crc())
        flash.erase(self._addr, _SECTOR)
        flash.program(self._addr, self.raw, 0, _ENTRY_LEN)


def _entries():
    return Entry(0), Entry(1)


def _active(entries):
    best = None
    for e in entries:
        if not e.out() and e.crc_ok() and (best is None or e.seq() > best.seq()):
            best = e
    return best


# --- what the app can ask for


def boot_partition():
    if not otadata():
        return None
    entries = _entries()
    active = _active(entries)
    n = _slot_count()
    if active and n:
        return _find(simtable.TYPE_APP, simtable.OTA_0 + (active.seq() - 1) % n)
    subtypes = [simtable.FACTORY] + list(range(simtable.OTA_0, simtable.OTA_MAX)) + [simtable.TEST]
    for subtype in subtypes:
        part = _find(simtable.TYPE_APP, subtype)
        if part:
            return part
    return None


def next_update(part):
    slots = [_find(simtable.TYPE_APP, s) for s in range(simtable.OTA_0, simtable.OTA_MAX)]
    slots = [p for p in slots if p]
    if not slots:
        return None
    i = slots.index(part) + 1 if part in slots else 0
    return slots[i % len(slots)]


def set_boot(part):
    why = simimage.fault(flash, part, chip)
    if why:
        if os.getenv("SIM_VERBOSE") == "1":
            sys.stderr.write("esp_image: " + why + "\n")
        simerror.fail(simerror.OTA_VALIDATE_FAILED)
    if part[0] != simtable.TYPE_APP:
        simerror.fail(simerror.INVALID_ARG)
    data = otadata()
    if not data:
        simerror.fail(simerror.NOT_FOUND)
    if part[1] == simtable.FACTORY:
        flash.erase(data[2], data[3])
        return
    n = _slot_count()
    slot = part[1] & 15
    if slot >= n:
        simerror.fail(simerror.INVALID_ARG)
    entries = _entries()
    active = _active(entries)
    if active is None:
        entries[0].write(_NEW, slot + 1)
        return
    # The lowest number that is not below the present one and means this slot. When that slot is
    # active already it is the present number, written to the other entry: the record of the slot
    # to fall back to is lost (IDF v5.x; v6.0 leaves otadata alone then).
    seq = (slot + 1) % n
    while seq < active.seq():
        seq += n
    entries[1 - active.i].write(_NEW, seq)


def mark_valid():
    if not otadata():
        simerror.fail(simerror.NOT_FOUND)
    active = _active(_entries())
    if active is None or not _slot_count():
        simerror.fail(simerror.FAIL)
    if active.state() != _VALID:
        active.write(_VALID)


# --- the bootloader


# Its own count of slots is the number of entries of that kind, not the number that follow ota_0.
def _boot_slots():
    slots = {}
    for p in table:
        if p[0] == simtable.TYPE_APP and simtable.OTA_0 <= p[1] < simtable.OTA_MAX:
            slots[p[1] - simtable.OTA_0] = p
    return slots


# The index of the slot to try first, and whether otadata was never written.
def _select(slots):
    if not otadata():
        return _FACTORY_INDEX, False
    entries = _entries()
    for e in entries:
        if e.state() == _PENDING_VERIFY:
            _say("rollback: otadata[%d] was not confirmed, marked ABORTED" % e.i)
            e.write(_ABORTED)
    if not slots or (entries[0].out() and entries[1].out()):
        if _find(simtable.TYPE_APP, simtable.FACTORY):
            _say("Defaulting to factory image")
            return _FACTORY_INDEX, False
        _say("No factory image, trying OTA 0")
        return 0, not any(e.crc_ok() and e.raw[:4] != _no_seq for e in entries)
    active = _active(entries)
    if active is None:
        _say("ota data partition invalid, falling back to factory or any other partition")
        return _FACTORY_INDEX, False
    if active.state() == _NEW:
        _say("rollback: otadata[%d] is new, marked PENDING_VERIFY" % active.i)
        active.write(_PENDING_VERIFY)
    return (active.seq() - 1) % len(slots), False


# From the selected one down to the factory app, then up.
def _load(slots, first):
    order = list(range(first, _FACTORY_INDEX - 1, -1)) + list(range(first + 1, len(slots)))
    for i in order:
        if i == _FACTORY_INDEX:
            part = _find(simtable.TYPE_APP, simtable.FACTORY)
            name = "Factory app partition"
        else:
            part = slots.get(i) if i < len(slots) else None
            name = "OTA app partition slot %d" % i
        if part and _try(part):
            return i, part
        if part:
            _say(name + " is not bootable")
    part = _find(simtable.TYPE_APP, simtable.TEST)
    if part and _try(part):
        _say("Falling back to test app as only bootable partition")
        return _FACTORY_INDEX, part
    return None, None


def _try(part):
    why = simimage.fault(flash, part, chip, True)
    if why:
        _say("esp_image: " + why)
        return False
    _say("Loaded app from partition at offset 0x%x" % part[2])
    return True


# An app that wakes from deep sleep, or whose MicroPython starts over, runs on, whatever otadata says, and is not
# verified again (CONFIG_BOOTLOADER_SKIP_VALIDATE_IN_DEEP_SLEEP, set in MicroPython's builds).
def _wake():
    addr = os.getenv("SIM_SLEEPING_APP")
    if _sim.cause() in (_DEEPSLEEP_RESET, _SOFT_RESET) and addr:
        for part in simtable.find(table, simtable.TYPE_APP):
            if part[2] == int(addr):
                if _sim.cause() == _DEEPSLEEP_RESET:
                    _say("Fast booting app from partition at offset 0x%x" % part[2])
                return part
    return None


# MicroPython starts over, the app does not: no bootloader takes part.
def soft_reset():
    os.putenv("SIM_SLEEPING_APP", str(running[2]))
    _sim.reset(_SOFT_RESET)


def _boot():
    part = _wake()
    if part is None:
        slots = _boot_slots()
        first, untouched = _select(slots)
        index, part = _load(slots, first)
        if part is None:
            _no_app("No bootable app partitions in the partition table")
        if untouched and index > _FACTORY_INDEX:
            # The first boot ever: the slot becomes one that a later update can fall back to.
            _say("Set actual ota_seq=%d in otadata[0]" % (index + 1))
            entry = Entry(0)
            entry.blank()
            entry.write(_VALID, index + 1)
    flash.running = part[2]
    flash.running_end = part[2] + part[3]
    return part


def _no_app(why):
    lines = "".join("boot: %s\n" % line for line in log)
    simerror.die(simerror.EXIT_NO_APP, lines + "boot: " + why)


def _open_flash():
    path = os.getenv("SIM_FLASH")
    try:
        return Flash(path)
    except (OSError, TypeError):
        raise OSError(
            "SIM_FLASH=%s: no such flash, make one with: https-ota mkflash APP.bin -o flash.bin"
            % (path or "")
        )


def _load_table():
    try:
        return simtable.load(flash)
    except ValueError as e:
        _no_app("Failed to verify partition table: " + e.args[0])


def _find_chip():
    name = os.getenv("SIM_CHIP")
    if name:
        return simchip.Chip(name)
    raw = bytearray(2)
    for part in simtable.find(table, simtable.TYPE_APP):
        flash.read(part[2] + 12, raw)
        found = simchip.by_id(raw[0] | raw[1] << 8)
        if found and not simimage.fault(flash, part, found):
            return found
    _no_app("No bootable app partitions in the partition table")


flash = _open_flash()
table = _load_table()
chip = _find_chip()
running = _boot()
