# Rollback by hand: taking a selection back before its first start, and giving up the running firmware.

import machine
from esp32 import Partition
from micropython import const

from ..flash import otadata
from .confirm import keep_floor
from ..errors import OTAError
from ..flash.image import Checker
from ..flash.info import parse
from .history import leaving
from ..flash.selection import secure, selected, write_entry

_SECTOR = const(4096)


def cancel():
    """Take back what an update selected: the running firmware starts again. True when there was something to take back.

    For who changes their mind between update() and the reset; nothing is restarted. What was installed stays in its
    slot, and the next update() selects it without a download.
    """
    part = otadata.partition()
    if part is None:
        return False
    found = otadata.entries(part)
    i = selected(found, otadata.slot_number(Partition(Partition.RUNNING)))
    if i is None:
        return False
    secure(part, found[i][0])
    return True


def rollback(why="rollback"):
    """Mark the running firmware as INVALID and restart into the one before it; does not return.

    Before an update's first start it takes that update back, as cancel() does, restarts nothing and returns True:
    the firmware before the running one is gone by then.

    `why` (up to 60 bytes) is what last_result() tells then. Raises OTAError(ROLLBACK) when there is none that
    could start, or while a full NVS keeps the running firmware's secure version from being stored.
    """
    if cancel():
        return True
    part = otadata.partition()
    found = otadata.entries(part) if part else (None, None)
    own = otadata.newest(found, otadata.slot_number(Partition(Partition.RUNNING)))
    _find(found, own)
    # By hand there is time to make room for what must not be forgotten; a firmware that does not work has to go.
    if not keep_floor(found[own][2]) and why != "starts":
        raise OTAError(
            OTAError.ROLLBACK,
            "NVS is full: the running firmware's secure version can't be stored",
        )
    leaving(why)
    # Cut in between, the entry is gone rather than INVALID: the other firmware starts all the same.
    write_entry(part, own, found[own][1], otadata.INVALID)
    machine.reset()


def _find(found, own):
    """Check that with the running slot's otadata record invalid, another firmware would start."""
    if own is None:
        raise OTAError(
            OTAError.ROLLBACK,
            "the running firmware was not installed by an update",
        )
    other = found[1 - own]
    for part in Partition.find(Partition.TYPE_APP):
        number = otadata.slot_number(part)
        if number < 0:
            candidate = not otadata.boots(other)  # factory
        else:
            # What never ran, or was never confirmed, is no way back.
            candidate = (
                other is not None
                and number == other[0]
                and number != found[own][0]
                and other[2] in (otadata.VALID, otadata.UNDEFINED)
            )
        if candidate and _whole(part):
            return
    raise OTAError(OTAError.ROLLBACK, "no other slot holds firmware that could start")


def _whole(part):
    """True when the partition holds a whole image by its checksum and SHA-256."""
    size = part.info()[3]
    buf = bytearray(_SECTOR)
    mv = memoryview(buf)
    checker = Checker(size, None)
    try:
        for i in range(size // _SECTOR):
            part.readblocks(i, buf)
            if i == 0 and parse(buf, _SECTOR) is None:
                return False
            checker.feed(buf, 0, _SECTOR)
            checker.hash.update(buf, mv, _SECTOR)
            if checker.length and checker.pos >= checker.length:
                checker.finish()
                return True
    except OTAError:
        pass
    return False
