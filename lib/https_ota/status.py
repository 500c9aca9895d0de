# What the firmware slots hold, as a small table for the REPL.

from esp32 import Partition

from . import otadata
from .image import HEAD_SIZE, parse
from .slot import selected

_STATES = {
    -1: "UNDEFINED",
    0: "NEW",
    1: "PENDING_VERIFY",
    2: "VALID",
    3: "INVALID",
    4: "ABORTED",
}


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
        marks = []
        if number == running:
            marks.append("runs")
        if number == after:
            waits = selected(found, running) is not None
            marks.append("boots next, at machine.reset()" if waits else "boots next")
        print(
            "%-8s %5d KiB  %-16s %-15s %s"
            % (
                part.info()[4],
                part.info()[3] // 1024,
                info.version if info else "no application",
                "" if best is None else _STATES.get(found[best][2], "?"),
                ", ".join(marks),
            )
        )
    _floor(found)


def _floor(found):
    from .policy import secure_floor
    from .slot import running_info

    own = otadata.newest(found, otadata.running_number())
    if own is None or found[own][2] != otadata.VALID:
        return
    least = running_info().secure_version
    if least > secure_floor():
        # A full NVS, or a power cut in confirm().
        print("secure version %d is not stored yet as the least: confirm() does it" % least)


def _next(found, parts):
    """Number of the slot that the bootloader will try first: an unconfirmed one is out by then."""
    best = None
    for entry in found:
        if (
            entry
            and entry[2] not in (otadata.PENDING_VERIFY, otadata.INVALID, otadata.ABORTED)
            and (best is None or entry[1] > best[1])
        ):
            best = entry
    # Without a record: the factory app, which comes first here, else ota_0.
    return best[0] if best else otadata.slot_number(parts[0])
