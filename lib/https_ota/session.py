# The session: one generator pulls the image through, a sector at a time, checks it and hands it to the slot.
#
# What it yields: None, as streams do, when nothing has come yet; STEP, a piece of work is done (False from below); then marks,
# at which a verb ends: READY, the head is checked and nothing is erased; DONE, all is written; VERIFIED, and as it should be.

from micropython import const

from .boot.accept import failed_before, selecting, wanted
from .boot.confirm import keep_floor
from .errors import OTAError
from .events import (
    CONNECTED,
    DECRYPT,
    GET_IMG_DESC,
    RESUMED,
    SKIPPED,
    START,
    UPDATE_BOOT_PARTITION,
    VERIFY_CHIP_ID,
    VERIFY_CHIP_REVISION,
    WRITE_FLASH,
)
from .flash.image import SplitHash, hashes
from .flash.info import HEAD_SIZE
from .flash.otadata import state
from .flash.slot import SECTOR
from .hot import blank, equal, sums
from .memory import forget

STEP = const(1)
READY = const(2)
DONE = const(3)
VERIFIED = const(4)
NEW = const(0)  # where a session stands, besides the marks
FINISHED = const(5)
ENDED = const(6)

_HEAD = const(1024)  # bytes read at first: HEAD_SIZE at least
_SAVE_MASK = const(0xFFFF)  # every 64 KiB: as much comes twice after a power cut
_MOST_RESTARTS = const(3)
_PASSING = "der", "flash.chip", "boot.history"  # for the beginning and the end


class Session:
    """What an update is made of, and its work; ota.OTA has the verbs, and the options besides these.

    file      where it comes from: a source, see lib/README.md
    crypt     the trust.decrypt.Decrypt around it, or None
    verifier  a trust.signature.Signature, or None
    """

    def __init__(self, file, crypt, verifier):
        self._file, self._crypt, self._verifier = file, crypt, verifier
        self._source = crypt or file
        self._records = self._checker = self._sector = self._view = self._pieces = None
        self._at = NEW
        self.region = self.info = self.slot = self.refusal = None

    def _emit(self, event, value):
        if self._event:
            self._event(event, value)

    def _work(self):
        self._emit(START, None)
        self.claim()
        region, area, unit = self.region, self.region.area, self._unit
        if self._bulk is False:
            area.blocks = region.blocks = 0
        if self.is_firmware:
            keep_floor(state())
        if region.size % unit:
            raise ValueError(
                "buffer: its %d bytes don't divide the %d of %s" % (unit, region.size, self.slot)
            )
        # Buffers first, while memory is least fragmented: nothing is allocated per sector later.
        forget()
        self._sector = sector = bytearray(SECTOR) if self._buffer is None else self._buffer
        self._view = view = memoryview(sector)
        self._pieces = [view[:1024], view[1024:2048]] + [
            view[i : i + 2048] for i in range(0, unit, 2048)
        ]
        self._save_power(False)
        if not (yield from self._fetch()):
            return
        self._close()
        yield DONE
        checker = self._checker
        size = checker.pos if checker else self.info.size
        if self._verifier:
            try:
                yield from self._verifier.check(area, sector, size, self.is_firmware)
            except OTAError:
                # It may have been there before, and selected.
                area.spoil()
                raise
        yield VERIFIED

        if self.is_firmware:
            region.release()
            selecting(region.number, self.info)
            forget(*_PASSING)
            region.switch()
        else:
            yield from region.copy(sector, self._pieces, size)
        if self._records and checker:
            self._records.done(size, checker.hash, self.info, self._file)
        self._at = FINISHED
        self._emit(UPDATE_BOOT_PARTITION, self.slot)

    def _fetch(self):
        """All of it into the flash; False when there is nothing to do."""
        region, file, source, crypt = self.region, self._file, self._source, self._crypt
        area, sector, view = region.area, self._sector, self._view
        # Where it begins: nothing to do, all there already, an earlier one to go on with, or the first byte.
        there, known = False, self._sha256 and self._size
        if known:
            whole = SplitHash.whole(self._sha256)
            if self.is_firmware and region.running.info()[3] >= known:
                read = region.running.readblocks
                if (yield from hashes(read, known, None, sector, view)) == whole:
                    return False
            there = region.size >= known and (yield from self._holds(known, None, whole))
        done = at = padded = restarts = 0
        records = ask = held = running = None
        if self._resume and file.url and not there:
            from .flash.resume import Resume
            from .net.url import identity

            self._records = records = Resume(identity(file.url), region.key)
            done = yield from records.replay(
                region, sector, view, crypt, self._size, bool(self._sha256), self._verify_spi_mode
            )
            if done:
                at, ask = records.at, records
                self.info, self._checker = records.info, records.checker
            elif not known:
                # Else neither slot holds it, and a 304 would be wrong: an ETag may be made of size and time alone.
                held, running, ask = records.find(region)

        while not there:
            try:
                while (status := source.open(at, ask)) is None:
                    yield None
                self._source = source
                if status:
                    self._emit(CONNECTED, status)
                if status in (204, 304):
                    if status == 204 or not held or ask is not held:
                        return False
                    source.close()
                    there = yield from self._holds(held.size, held.body, held.digest)
                    ask = held = None
                    continue
                if source.position:
                    fill = 0
                    if records.mark:
                        self._unpack(records.mark, done, True)
                    self._emit(RESUMED, done)
                else:
                    done = 0
                    area.head = None
                    if records:
                        records.start_sums()
                    fill = yield from self._head()
                    if not padded and (self.info.size or 0) > region.size:
                        from .padding import check

                        # Known to be whole, or encrypted, it has no padding.
                        whole = self._at != NEW or self._sha256 or self._source is not file
                        yield from check(file, self.info.size, region, whole)
                        padded = 1
                        ask = None
                        continue
                    self._checker = region.checker(self.info.size, bool(self._sha256))
                    self._checker.feed(sector, 0, fill)
                    # Without an ETag, or asked about another file, the server could not tell that nothing is new. A delta does.
                    if (self._at == NEW and getattr(self._source, "runs", False)) or (
                        running and running.is_of(file, self.info)
                    ):
                        return False
                    if held and held.is_of(file, self.info):
                        source.close()
                        there = yield from self._holds(held.size, held.body, held.digest)
                        ask = held = None
                        continue
                if records:
                    records.bind(file.total, self._source, crypt and crypt.header)
                if not self._accept():
                    if self._at == NEW:
                        return False
                    restarts = _MOST_RESTARTS
                    raise OTAError(OTAError.CHANGED, "the new file is not wanted")
                if self._at == NEW:
                    forget(*_PASSING)
                    yield READY
                    if records:
                        records.overwrite()
                    region.prepare()
                    area.hold(sector)
                running = held = None
                yield from self._receive(done, fill)
                there = True
            except OTAError as e:
                # The file changed while it was on its way: the new one from its beginning, but not for ever.
                restarts += 1
                if e.code != OTAError.CHANGED or restarts > _MOST_RESTARTS:
                    raise
                done = at = 0
                ask = None
        # Data is in use where it is, a firmware once its slot is selected.
        return self._at != NEW or (self.is_firmware and self._accept())

    def _receive(self, done, fill):
        """From the source into the flash: `done` bytes are there, `fill` in the buffer."""
        region, source, crypt, checker = self.region, self._source, self._crypt, self._checker
        area, records = region.area, self._records
        sector, view, unit = self._sector, self._view, self._unit
        total = self.info.size
        # What else is in an OTA slot is of no use to anyone.
        reach = min(total or (self.is_firmware and region.size), region.size)
        at = done
        while self._bulk and area.plain and at < (reach or region.size):
            at += area.erase(at // SECTOR, reach - at) * SECTOR
            yield STEP
        # TLS records of 16 KiB end in the same place of every fourth sector: `rest` is what was free there.
        cut, fed, more = 0, fill, True
        while more:
            while fill < unit:
                free = view
                if fill:
                    if fill != cut:
                        cut = fill
                        rest = view[cut:]
                    free = rest
                n = source.readinto(free)
                if n:
                    fill += n
                elif n is None:
                    yield None
                else:
                    more = False
                    break
            if not fill:
                break
            if done < region.size:
                checker.feed(sector, fed, fill - fed)
                checker.hash.update(sector, view, fill)
            fed = 0
            while fill < unit:  # to its end, what erased flash holds
                n = _HEAD - fill % _HEAD
                view[fill : fill + n] = b"\xff" * n
                fill += n
            fill = 0
            if done == region.size:
                # What an image is filled up with need not fit.
                if checker.length and blank(sector, unit):
                    continue
                raise OTAError(OTAError.TOO_BIG, "more data than the slot's %d bytes" % done)
            if records and done and done & _SAVE_MASK == 0:
                # Now that more has come: a part of a compressed file that ends here has shown that it does.
                records.save(done, area.head)
            if records:
                sums(sector, unit, records.sums)
            written = area.write(done // SECTOR, sector, self._pieces, reach - done)
            done += unit
            if total is None:
                source.least = (crypt and crypt.size) or self._size or checker.least()
            self._emit(WRITE_FLASH if written else SKIPPED, checker.pos)
            if self._progress:
                self._progress(checker.pos, total)
            if more:
                yield STEP
        # Everything has come: was it all, and the right thing?
        if crypt:
            crypt.finish()
        checker.finish()
        if self._size and checker.pos != self._size:
            raise OTAError(OTAError.SIZE, "expected %d bytes, got %d" % (self._size, checker.pos))
        if self._sha256 and not equal(checker.hash.finish(), SplitHash.whole(self._sha256)):
            raise OTAError(OTAError.DIGEST, "the SHA-256 is not the one expected")

    def _head(self):
        """Read the head into the buffer, check it against this board and what is known of the image; return its bytes."""
        region, file = self.region, self._file
        if self._crypt:
            self._emit(DECRYPT, self._crypt.size)
        info = None
        while info is None:
            # Once more for what is in a file that is compressed, or a delta.
            n = 0
            got = None
            while n < HEAD_SIZE and got != 0:
                got = self._source.readinto(self._view[n:_HEAD])
                if got is None:
                    yield None
                n += got or 0
            info = region.look(self._sector, n)
            if info is None and not self._unpack(self._sector, n):
                try:
                    from .flash.words import wrong_file
                except ImportError:
                    raise OTAError(OTAError.NOT_AN_IMAGE, "expected an application image")
                raise wrong_file(self._sector, n, self._crypt is not None)
        info.size = total = self._source.total
        self._emit(GET_IMG_DESC, info)
        if info.chip_id is not None:
            self._emit(VERIFY_CHIP_ID, info.chip_id)
            self._emit(VERIFY_CHIP_REVISION, info.min_chip_rev)
        region.check(info, self._verify_spi_mode)
        size = self._size
        if total is None:
            # An image tells where it ends.
            sure = size or self._sha256 or self._verifier or self._crypt
            if info.chip_id is None and file.open_end and not sure:
                from .net.words import no_length

                raise no_length(file.url)
        elif size and total != size:
            raise OTAError(OTAError.SIZE, "expected %d bytes, the file has %d" % (size, total))
        self.info = info
        return n

    def _unpack(self, *what):
        # What is in the file comes in its place, see unpack(). None without that slice, or when it is no such file.
        try:
            from .pack.kinds import unpack

            self._source = unpack(self._source, self._file, self.region, *what)
            return self._source
        except ImportError:
            pass

    def _close(self):
        self._source = None
        self._file.close()
        if self._crypt:
            self._crypt.close()

    def _holds(self, size, body, digest):
        info = yield from self.region.identify(
            size, body, digest, self._sector, self._view, self._verify_spi_mode
        )
        self.info = info or self.info
        return info is not None

    def _accept(self):
        # Asked in any case: what otadata tells of the last update is lost with the first erase.
        refusal = failed_before(self.info)
        self.refusal = None if self._retry else refusal
        return not self.refusal and wanted(self.info, self.region, self._checks)
