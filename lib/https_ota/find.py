# Where an update begins: nothing to do, all there already, an earlier one to go on with, or the first byte.

from micropython import const

from .flash import nvs
from .errors import OTAError
from .hot import sums
from .flash.image import SplitHash
from .flash.slot import SECTOR
from .steps import until

_CONNECTED = const(1)  # as in events.py

NOTHING = const(0)
THERE = const(1)  # the slot holds the image
STREAM = const(2)  # it is to come


def find(ota):
    """Find what the session `ota` has to do: NOTHING, THERE or STREAM; ota.info is set unless it is NOTHING.

    A generator, see steps.py.
    """
    region = ota.region
    # Data is in use where it is, a firmware once its slot is selected.
    there = THERE if ota.is_firmware else NOTHING
    if ota._sha256 and ota._size:
        whole = SplitHash.whole(ota._sha256)
        if ota.is_firmware and region.running.info()[3] >= ota._size:
            if (yield from ota._hash(region.running.readblocks, ota._size, None)) == whole:
                return NOTHING
        if region.size >= ota._size and (yield from _holds(ota, ota._size, None, whole)):
            return there
    download = ota._download
    if download is None:
        yield from until(ota._start)
        return STREAM
    position = 0
    running = held = known = None
    if ota._use_resume:
        from .flash.resume import Resume

        ota._resume = resume = Resume(download.url, region.key)
        position = yield from _replay(ota, resume)
        if position:
            known = resume
        elif not (ota._sha256 and ota._size):
            # With these it is known that neither slot holds it, and a 304 would be wrong: an ETag may be made of
            # size and time alone.
            held = resume.held()
            if ota.is_firmware:
                running = resume.held(nvs.key(region.running))
                # Whoever flashed the board by cable meanwhile left the record behind.
                if running and running.elf_sha256 != region.running_info.app_elf_sha256[:8]:
                    running = None
            known = held if held and (region.is_selected or not running) else running
    status = yield from until(lambda: download.open(position, known))
    ota._emit(_CONNECTED, status)
    if status == 304 and held and known is held:
        if (yield from _holds(ota, held.size, held.body, held.digest)):
            download.close()
            return there
        held = None
        status = yield from until(download.open)
    if status in (204, 304):
        return NOTHING
    if download.position:
        ota._go_on(position - download.offset)
        return STREAM
    region.area.head = None
    yield from until(ota._start)
    if ota.info.size is not None and ota.info.size > region.size:
        from .flash.words import padding

        yield from padding(ota, download)
    # Without an ETag, or asked about another file, the server could not tell that nothing is new.
    if running and _same(ota, running):
        return NOTHING
    if held and _same(ota, held):
        download.close()
        if (yield from _holds(ota, held.size, held.body, held.digest)):
            return there
        yield from until(download.open)
        yield from until(ota._start)
    return STREAM


def _same(ota, held):
    """Whether the file that has begun to come is the one that is held."""
    # A date, above all, is the same for many files.
    return (
        ota._download.validator == held.validator
        and (ota._download.total or 0) == held.total
        and ota.info.app_elf_sha256[:8] == held.elf_sha256
    )


def _holds(ota, size, body, digest):
    """Whether the partition holds this file, and it is for this board; sets ota.info then."""
    region = ota.region
    if (yield from ota._hash(region.read, size, body)) != digest:
        return False
    region.read(0, ota._sector)
    info = region.look(ota._sector, min(size, ota._unit))
    if info is None:
        return False
    info.size = size
    region.check(info, ota._verify_spi_mode)
    ota.info = info
    return True


def _replay(ota, resume):
    """Take up what an earlier session wrote, after a look at the flash; return where in the file to go on."""
    done = resume.load()
    unit = ota._unit
    region, area = ota.region, ota.region.area
    if not 0 < done <= region.size or done % unit:
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
        checker = region.checker(size, ota._sha256 is not None)
        resume.start_sums()
        area.head = resume.held_back if area.holds_back else None
        for i in range(done // unit):
            area.read(i * (unit // SECTOR), ota._sector)
            if i == 0:
                info = region.look(ota._sector, unit)
                if info is None:
                    return 0
                region.check(info, ota._verify_spi_mode)
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
