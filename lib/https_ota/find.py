# Where an update begins: nothing to do, all there already, an earlier one to go on with, or the first byte.

from micropython import const

from .errors import OTAError
from .hot import sums
from .image import SplitHash
from .steps import retry

_SECTOR = const(4096)
_CONNECTED = const(1)  # as in events.py

NOTHING = const(0)
THERE = const(1)  # the slot holds the image
STREAM = const(2)  # it is to come


def find(ota):
    """Find what the session `ota` has to do: NOTHING, THERE or STREAM; ota.info is set unless it is NOTHING.

    A generator, see steps.py.
    """
    slot = ota._slot
    if ota._sha256 and ota._size:
        whole = SplitHash.whole(ota._sha256)
        if slot.size_of_running() >= ota._size:
            if (yield from ota._hash(slot.read_running, ota._size, None)) == whole:
                return NOTHING
        if slot.size >= ota._size and (yield from _slot_holds(ota, ota._size, None, whole)):
            return THERE
    download = ota._download
    if download is None:
        yield from retry(ota._start)
        return STREAM
    position = 0
    held = validator = total = None
    if ota._use_resume:
        from .resume import Resume

        try:
            ota._resume = Resume(download.url, slot.number)
        except OSError:
            pass  # a board without NVS: no records
    if ota._resume:
        position = yield from _replay(ota, ota._resume)
        if position:
            validator, total = ota._resume.validator, ota._resume.total
        elif not (ota._sha256 and ota._size):
            # With these it is known that neither slot holds it, and a 304 would be wrong: an ETag may be made of
            # size and time alone.
            held = ota._resume.held()
            if held and held[0] != slot.number and not _is_running(ota, held):
                held = None
    download.ask(position, validator, total, held and held[5], held and held[1])
    status = yield from retry(download.answer)
    ota._emit(_CONNECTED, status)
    if status == 304 and held and held[0] == slot.number:
        if (yield from _slot_holds(ota, held[1], held[2], held[4])):
            download.close()
            return THERE
        download.ask()
        status = yield from retry(download.answer)
    if status in (204, 304):
        return NOTHING
    if download.position:
        ota._go_on(position - download.offset)
    else:
        yield from retry(ota._start)
    return STREAM


def _is_running(ota, held):
    # Whoever flashed the board by cable meanwhile left the record behind.
    return (
        held[0] == ota._slot.running_number
        and held[3] == ota._slot.running_info.app_elf_sha256[:8]
    )


def _slot_holds(ota, size, body, digest):
    """Whether the slot holds this image, and it is for this board; sets ota.info then."""
    if (yield from ota._hash(ota._slot.read, size, body)) != digest:
        return False
    ota._slot.read(0, ota._sector)
    info = ota._slot.look(ota._sector, min(size, ota._unit))
    if info is None:
        return False
    info.size = size
    ota._slot.check(info, ota._verify_spi_mode)
    ota.info = info
    return True


def _replay(ota, resume):
    """Take up what an earlier session wrote, after a look at the flash; return where in the file to go on."""
    done = resume.load()
    unit = ota._unit
    if not 0 < done <= ota._slot.size or done % unit:
        return 0
    size = resume.total
    crypt = ota._crypt
    try:
        if crypt is not None:
            header = resume.header()
            if header is None:
                return 0
            crypt.resume(header)
            size = crypt.size_of(resume.total)
        if ota._size and ota._size != size:
            return 0
        checker = ota._slot.checker(size, ota._sha256 is not None)
        resume.start_sums()
        for i in range(done // unit):
            ota._slot.read(i * (unit // _SECTOR), ota._sector)
            if i == 0:
                info = ota._slot.look(ota._sector, unit)
                if info is None:
                    return 0
                ota._slot.check(info, ota._verify_spi_mode)
            sums(ota._sector, unit, resume.sums)
            checker.feed(ota._sector, 0, ota._sector, 0, unit)
            checker.hash.update(ota._sector, ota._sector_view, unit)
            if crypt is not None:
                crypt.replay(ota._sector, unit)
            if ota._feed:
                ota._feed()
            yield False
    except OTAError:
        return 0
    if resume.sums != resume.expected:
        return 0
    info.size = size
    ota.info = info
    ota._checker = checker
    return done + ota._download.offset
