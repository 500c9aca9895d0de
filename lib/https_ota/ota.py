# The session: pulls the image through, fills one sector at a time, checks it and hands it to the slot.

import gc
import time

from micropython import const

from .boot.confirm import keep_floor
from .der import digest32
from .errors import OTAError, no_memory, refuse
from .find import NOTHING, THERE, find
from .hot import equal, sums
from .flash.image import HEAD_SIZE, SplitHash
from .flash.otadata import state
from .flash.slot import SECTOR, Slot
from .steps import run

_RECEIVE = const(1024)
_PIECE = const(512)
_SAVE_MASK = const(0xFFFF)  # every 64 KiB: as much comes twice after a power cut
_MAX_RESTARTS = const(3)
_ABANDONED_MS = const(600000)
_PAUSE_MS = const(10)  # for a source that has nothing yet, and does not tell how to wait for it

# As in events.py, which need not be loaded.
_START = const(0)
_GET_IMG_DESC = const(2)
_VERIFY_CHIP_ID = const(3)
_VERIFY_CHIP_REVISION = const(4)
_DECRYPT = const(5)
_WRITE_FLASH = const(6)
_UPDATE_BOOT_PARTITION = const(7)
_FINISH = const(8)
_ABORT = const(9)
_RESUMED = const(10)
_SKIPPED = const(13)

# Where a session stands; the names are those of esp_https_ota.
_INIT = const(0)
_BEGIN = const(1)
_IN_PROGRESS = const(2)
_SUCCESS = const(3)
_FINISHED = const(4)
_ABORTED = const(5)
_power = []  # Wi-Fi's power saving before it was switched off
_NAMES = ("not begun", "begun", "in progress", "received", "finished", "aborted or failed")

_owners = {}  # label of a partition: the session that writes it


class OTA:
    """An update, step by step: begin(), perform() until it returns False, finish(); abort() at any time.

    url       https URL of the application image, or any object with readinto(buf) -> n (0 at the end)
    sha256    SHA-256 of the image, if known beforehand: 32 bytes, or 64 hex digits
    size      its size in bytes, likewise; a slot that holds the image by size and SHA-256 is used as it is
    trusted_keys  digests of the keys that may have signed the image, see sign.trusted_digests(); None asks
              for no signature
    decrypt   what decrypts the file: encrypted.EncryptedImage, or an object with its methods (see crypt.py)
    check     called with the ImageInfo before anything is erased, and may raise; when it returns something false
              there is nothing to do. Or a list of such functions
    retry_failed  True installs an image again that was rolled back on this board
    event     called as event(number, value) for what events.py names
    progress  called as progress(done, total) once a sector; total is None while unknown
    resume    False neither goes on with an earlier download of this file nor leaves a record for a later one
    verify_spi_mode  False lets an image of another flash mode pass
    partition  label of the partition to write, None for the passive OTA slot; other than an OTA slot it takes
              any file, see data.py
    staging   with it, label of a partition that is written and verified before it is copied there; True is
              the passive OTA slot
    buffer    bytearray to use for sectors, a multiple of 4096 bytes long that divides the partition's size; with 65536
              (in PSRAM) the flash erases in large blocks, several times as fast. None makes one of 4096
    bulk_erase  True erases all that is to be written beforehand, and does not compare
    wlan      a network.WLAN whose power saving is switched off while the update runs
    wdt       a machine.WDT to feed; looking up a host's name and a step of the TLS handshake can't be cut in pieces
    The other options are those of download.Download.

    As a context manager it aborts unless finish() was reached. Whatever goes wrong, the running firmware
    still boots, and the boot selection is untouched until finish().

    `info` is the new image's ImageInfo (None before begin()), `slot` the label of the partition written, `refusal` the
    OTAError that tells why begin() found an image and yet nothing to do, else None. From claim() on `region` is the
    slot.Slot or data.Target that is written.
    """

    def __init__(
        self,
        url,
        *,
        sha256=None,
        size=None,
        trusted_keys=None,
        decrypt=None,
        check=None,
        retry_failed=False,
        event=None,
        progress=None,
        resume=True,
        verify_spi_mode=True,
        partition=None,
        staging=None,
        buffer=None,
        bulk_erase=False,
        wlan=None,
        wdt=None,
        **http,
    ):
        try:
            self._checks = (
                () if check is None else check if isinstance(check, (list, tuple)) else (check,)
            )
            # What would be found out late, or not in these words.
            for name, expected, value, fits in (
                ("check", "a function", check, all(callable(c) for c in self._checks)),
                ("event", "a function", event, not event or callable(event)),
                ("progress", "a function", progress, not progress or callable(progress)),
                ("size", "bytes", size, not size or (isinstance(size, int) and size > 0)),
                (
                    "partition",
                    "a label",
                    partition,
                    partition is None or isinstance(partition, str),
                ),
                (
                    "staging",
                    "a label or True",
                    staging,
                    staging in (None, True) or isinstance(staging, str),
                ),
                (
                    "buffer",
                    "a bytearray",
                    buffer,
                    not isinstance(buffer, (int, float, str, bytes, list, tuple)),
                ),
                ("wlan", "a WLAN", wlan, wlan is None or hasattr(wlan, "config")),
                ("wdt", "a WDT", wdt, not wdt or hasattr(wdt, "feed")),
            ):
                if not fits:
                    refuse(name, expected, value)
            self._feed = wdt.feed if wdt else None
            if hasattr(url, "readinto"):
                if http:
                    raise TypeError("%s: only for a URL" % ", ".join(http))
                self._source = url
                self._download = None
            else:
                from .net.download import Download

                self._source = self._download = Download(url, **http)
                self._download.event = event
                self._download.content_checked = bool(size and sha256) and decrypt is None
            self.source = self._source  # what is waited for
            self._crypt = None
            if decrypt is not None:
                from .trust.decrypt import Decrypt

                self._source = self._crypt = Decrypt(self._source, decrypt, self._feed)
                if self._download:
                    self._download.offset = decrypt.header_size
            if self._download and size:
                self._download.least = self._download.offset + size
            self._sha256 = None if sha256 is None else digest32(sha256, "sha256")
            self._size = size
            self._trusted = trusted_keys
            self._retry = retry_failed
            self._event = event
            self._progress = progress
            self._use_resume = resume and (self._crypt is None or self._crypt.can_replay)
            self._resume = None
            self._verify_spi_mode = verify_spi_mode
            if staging is not None and partition is None:
                raise ValueError("staging: give partition= too, the one that it is copied to")
            if buffer is not None and (len(buffer) % SECTOR or not len(buffer)):
                raise ValueError(
                    "buffer: expected a multiple of %d bytes, got %d" % (SECTOR, len(buffer))
                )
            self._where = partition, staging
            self._buffer = buffer
            self._unit = (
                SECTOR if buffer is None else len(buffer)
            )  # bytes that are written at a time
            self._bulk = bulk_erase
            self._wlan = wlan
            self._pm = False
            self._state = _INIT
            self._used = 0  # when one of the verbs was called last
            self.region = None
            self._checker = None
            self._restarts = 0
            self._starting = False
            self._erase_at = self._erase_end = 0
            self._sector = None
            self.info = None
            self.slot = None
            self.refusal = None
        except MemoryError:
            raise no_memory()

    # -- the verbs ----------------------------------------------------------------------------------

    def claim(self):
        """Become the only session that writes its partitions, until it ends; begin() does it where it was not done.

        Raises OTAError: NO_SLOT, PENDING_VERIFY, PARTITION; IN_PROGRESS when another session writes one of them.
        """
        if self.region is not None:
            return
        if self._where[0] is None:
            region = Slot()
        else:
            from .flash.data import target

            region = target(*self._where)
        self._used = time.ticks_ms()
        for label in region.partitions:
            other = _owners.get(label)
            if other is None:
                continue
            # Who forgot abort() must not keep a board from updates for ever.
            if time.ticks_diff(self._used, other._used) < _ABANDONED_MS:
                raise OTAError(
                    OTAError.IN_PROGRESS,
                    "another update writes to %s: finish() or abort() that one first (aio.abort() ends those of a loop that"
                    " was interrupted)" % label,
                )
            other.abort()
        for label in region.partitions:
            _owners[label] = self
        self.region = region
        self.slot = region.label
        self.is_firmware = region.running_info is not None

    def begin(self):
        """Connect and check the image's header against this board; nothing is erased yet.

        Returns the ImageInfo, or None when there is nothing to install: the running firmware is this file, or
        the server has nothing new (status 304) or nothing at all (204), or `refusal` says why. When the slot holds
        the file already, perform() has nothing left to do.
        Raises OTAError, ValueError for bad arguments, or an OSError of the network.
        """
        return self._run(self.begin_steps())

    def begin_steps(self):
        """A generator that does what begin() does, and gives the same result: see steps.py."""
        self._expect(_INIT)
        try:
            self._emit(_START, None)
            self.claim()
            if self.is_firmware:
                keep_floor(state())
            if self.region.size % self._unit:
                raise ValueError(
                    "buffer: its %d bytes don't divide the %d of %s"
                    % (self._unit, self.region.size, self.slot)
                )
            if self._trusted is not None:
                from .trust.signature import Signature

                self._trusted = Signature(self._trusted)
            # Buffers first, while memory is least fragmented: nothing is allocated per sector later.
            self._sector = bytearray(SECTOR) if self._buffer is None else self._buffer
            self._sector_view = view = memoryview(self._sector)
            self._pieces = [view[i : i + _PIECE] for i in range(0, self._unit, _PIECE)]
            if self._wlan is not None:
                pm = self._wlan.config("pm")
                if pm != self._wlan.PM_NONE:
                    # Else another session is under way, or was broken off: what was before that counts.
                    _power.append(pm)
                self._wlan.config(pm=self._wlan.PM_NONE)
                self._pm = True
            found = yield from find(self)
            if found == NOTHING or not self._accept():
                self.abort()
                return None
            self._state = _SUCCESS if found == THERE else _BEGIN
        except BaseException as e:
            self._fail(e)
            raise
        return self.info

    def perform(self):
        """Receive and write at most one buffer, a sector if none was given; True means call again, False that all has been
        written.
        """
        more = self.step()
        while more is None:
            self._wait()
            more = self.step()
        return more

    def step(self):
        """As perform(), but None while nothing has come."""
        if self._state == _SUCCESS:
            return False
        if self._state != _BEGIN:
            self._expect(_IN_PROGRESS)
        self._used = time.ticks_ms()
        try:
            if self._state == _BEGIN:
                if self._resume:
                    self._resume.overwrite()
                self.region.prepare()
                self.region.area.hold(self._sector)
                self._start_erasing()
                self._state = _IN_PROGRESS
            if self._erase_at < self._erase_end:
                self._erase_sector()
                return True
            try:
                if self._starting:
                    return self._start_over()
                more = self._fill_sector()
            except OTAError as e:
                if not self._may_restart(e):
                    raise
                return self._start_over()
            if more is None:
                return None
            if self._fill:
                self._write_sector()
            if more:
                return True
            self._complete()
            self._state = _SUCCESS
            self._close()
            return False
        except BaseException as e:
            self._fail(e)
            raise

    # Runs steps to their end.
    def _run(self, steps):
        try:
            while True:
                if next(steps):
                    self._wait()
        except StopIteration as e:
            return e.value

    def feed(self):
        """Feed the watchdog, if there is one."""
        if self._feed:
            self._feed()

    def _wait(self):
        try:
            self.feed()
            if hasattr(self.source, "wait"):
                self.source.wait()
            else:
                time.sleep_ms(_PAUSE_MS)
        except BaseException as e:
            self._fail(e)
            raise

    def finish(self):
        """Compare the flash with what was received, then boot from the new slot at the next reset.

        Raises OTAError; the boot selection is then what it was.
        """
        run(self.finish_steps())

    def finish_steps(self, verified=False):
        """A generator that does what finish() does: see steps.py. `verified`: verify_steps() was run before."""
        self._expect(_SUCCESS)
        try:
            if not verified:
                yield from self.verify_steps()
            size = self._checker.pos if self._checker else self.info.size
            yield from self.region.switch_steps(
                self.info, self._sector, self._pieces, size, self._feed
            )
            self._state = _FINISHED
            self._emit(_UPDATE_BOOT_PARTITION, self.slot)
        except GeneratorExit:
            raise  # nobody waits for the end: what was received stays
        except BaseException as e:
            self._fail(e)
            raise
        finally:
            if self._resume and self._state == _FINISHED and self._checker is not None:
                self._remember()
            done = self._state == _FINISHED
            self.abort()
            self._emit(_FINISH, done)

    def verify_steps(self):
        """A generator with the first half of finish(): is all that was written right? Nothing takes effect yet."""
        self._expect(_SUCCESS)
        self._used = time.ticks_ms()
        if self._checker is not None:
            yield from self._read_back()
        if self._trusted is not None:
            size = self._checker.pos if self._checker else self.info.size
            try:
                for step in self._trusted.check(
                    self.region.area, self._sector, size, self.is_firmware
                ):
                    if self._feed:
                        self._feed()
                    yield step
            except OTAError:
                # It may have been there before, and selected.
                self.region.area.spoil()
                raise

    def abort(self):
        """Stop and close the connection; harmless at any time. A later update may go on from here."""
        if self._state not in (_FINISHED, _ABORTED):
            started = self._state != _INIT or self._sector is not None
            self._state = _ABORTED
            if started:
                self._emit(_ABORT, None)
        self._close()
        for label in [label for label in _owners if _owners[label] is self]:
            del _owners[label]
        self._sector = self._sector_view = self._pieces = self._receive = None
        if self._pm:
            self._pm = False
            if _power:
                self._wlan.config(pm=_power.pop())
        gc.collect()

    def _fail(self, e):
        """End the session, which `e` has broken off; raises what is to be raised in its place."""
        # When the image is no good, its beginning is of no use to a later update either. Else it is kept.
        if self._resume and isinstance(e, OTAError) and e.code >= OTAError.NOT_AN_IMAGE:
            self._resume.clear()
        self.abort()
        if isinstance(e, MemoryError):
            raise no_memory()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.abort()

    # -- questions ----------------------------------------------------------------------------------

    @property
    def status_code(self):
        """The last HTTP status, 0 before the first and for a local source."""
        return self._download.status if self._download else 0

    @property
    def image_size(self):
        """Bytes to download, None while not known."""
        return self.info.size if self.info else None

    @property
    def image_len_read(self):
        """Bytes received so far, in this session or one that it goes on with."""
        return self._checker.pos if self._checker else 0

    def is_complete_data_received(self):
        """True once the whole image has been received and written."""
        return self._state in (_SUCCESS, _FINISHED)

    def _emit(self, event, value):
        if self._event:
            self._event(event, value)

    # -- where to begin -----------------------------------------------------------------------------

    def _expect(self, state):
        if self._state != state:
            raise OTAError(
                OTAError.STATE,
                "the update is %s; call begin(), then perform() until it returns False, then finish()"
                % _NAMES[self._state],
            )

    # A generator, see steps.py.
    def _hash(self, read, size, body):
        split = SplitHash(body)
        i = 0
        while size:
            n = min(self._unit, size)
            read(i, self._sector)
            split.update(self._sector, self._sector_view, n)
            size -= n
            i += self._unit // SECTOR
            if self._feed:
                self._feed()
            yield False
        return split.finish()

    def _go_on(self, done):
        """Take up the stream after the first `done` bytes of the image."""
        self._index = done // self._unit
        self._begin_stream()
        self._bind()
        self._emit(_RESUMED, done)

    def _start(self):
        """Read and check the head of the stream from its beginning, and keep it for the first sector.

        None: it goes on when it is called once more.
        """
        while True:
            try:
                if not self._starting:
                    self._starting = True
                    self._index = 0
                    if self._resume:
                        self._resume.start_sums()
                    self._begin_stream()
                    if self._crypt:
                        self._crypt.restart()
                        self._opened = False
                if self._crypt and not self._opened:
                    if not self._crypt.begin():
                        return None
                    self._opened = True
                    self._emit(_DECRYPT, self._crypt.size)
                if not self._check_head():
                    return None
                break
            except OTAError as e:
                self._starting = False
                if not self._may_restart(e):
                    raise
        self._starting = False
        self._bind()
        return True

    def _start_over(self):
        if not self._start():
            return None
        self._start_erasing()
        if not self._accept():
            raise OTAError(
                OTAError.CHANGED,
                "the file changed on the server during the download, and the new one is not wanted",
            )
        return True

    def _may_restart(self, e):
        # The file changed while it was on its way: the new one from its beginning, but not for ever.
        self._restarts += 1
        return e.code == OTAError.CHANGED and self._restarts <= _MAX_RESTARTS

    def _begin_stream(self):
        # A small range is received whole, so that the next request is out while the sector is written.
        ranged = self._download is not None and 0 < self._download.size <= SECTOR
        self._receive = bytearray(SECTOR if ranged else _RECEIVE)
        self._at = self._got = 0  # of the receive buffer: first byte not used, bytes in it
        self._fill = 0  # bytes in the sector buffer

    def _bind(self):
        if self._resume:
            self._resume.bind(
                self._download.total,
                self._download.validator,
                self._crypt.header if self._crypt else None,
            )

    def _check_head(self):
        # The first sector, or all of a smaller file, kept for perform() to write.
        head = self._sector
        while self._fill < HEAD_SIZE:
            more = self._refill()
            if more is None:
                return None
            if not more:
                break
            n = min(self._got - self._at, self._unit - self._fill)
            self._sector_view[self._fill : self._fill + n] = self._receive[self._at : self._at + n]
            self._fill += n
            self._at += n
        info = self.region.look(head, self._fill)
        if info is None:
            from .flash.words import wrong_file

            raise wrong_file(head, self._fill, self._crypt is not None)
        total = self._download.total if self._download else None
        if self._crypt:
            total = self._crypt.size_of(total)
        elif not self._download:
            total = self._size
        info.size = total
        self._emit(_GET_IMG_DESC, info)
        if info.chip_id is not None:
            self._emit(_VERIFY_CHIP_ID, info.chip_id)
            self._emit(_VERIFY_CHIP_REVISION, info.min_chip_rev)
        self.region.check(info, self._verify_spi_mode)
        if (
            info.chip_id is None  # an image tells where it ends
            and total is None
            and self._download
            and self._download.open_end
            and not (self._size or self._sha256 or self._trusted or self._crypt)
        ):
            from .net.words import no_length

            raise no_length(self._download.url)
        if total is not None and self._size and total != self._size:
            raise OTAError(
                OTAError.SIZE, "expected %d bytes, the file has %d" % (self._size, total)
            )
        # An image that is filled up beyond the slot: find() has a look.
        padded = self._state == _INIT and self.is_firmware and not self._sha256 and self._download
        if total is not None and total > self.region.size and (self._crypt or not padded):
            raise self.too_big(total)
        self._checker = self.region.checker(total, self._sha256 is not None)
        self._checker.feed(head, 0, head, 0, self._fill)
        self.info = info
        return True

    def too_big(self, total):
        """The OTAError for a file that the partition has no room for."""
        return OTAError(
            OTAError.TOO_BIG,
            "the image has %d bytes, slot %s only %d" % (total, self.slot, self.region.size),
        )

    def _accept(self):
        from .boot.history import refusal
        from .boot.version import accept

        # Asked in any case: what otadata tells of the last update is lost with the first erase.
        self.refusal = refusal(self.info)
        if self._retry:
            self.refusal = None
        if self.refusal:
            return False
        return accept(self.info, self.region.running_info, self._checks)

    # -- sector by sector ---------------------------------------------------------------------------

    def _refill(self):
        """Make sure that the receive buffer holds something; False at the end of the source, None while nothing has come."""
        if self._at == self._got:
            self._at = self._got = 0
            n = self._source.readinto(self._receive)
            if n is None:
                return None
            self._got = n
        return self._got > 0

    def _start_erasing(self):
        self._erase_at = self._index * (self._unit // SECTOR)
        size = self.info.size or self.region.size
        size = min(size, self.region.size)
        self._erase_end = (size + SECTOR - 1) // SECTOR if self._bulk else 0

    def _erase_sector(self):
        # One at a time, for watchdogs and other tasks.
        self.region.area.erase(self._erase_at)
        self._erase_at += 1
        if self._feed:
            self._feed()

    def _fill_sector(self):
        unit = self._unit
        while self._fill < unit:
            more = self._refill()
            if not more:
                return more
            n = self._got - self._at
            if n > unit - self._fill:
                n = unit - self._fill
            if self._index * unit + self._fill + n > self.region.size:
                # What an image is filled up with need not fit.
                rest = bytes(self._receive[self._at : self._at + n])
                if not self._checker.length or rest != b"\xff" * n:
                    raise OTAError(
                        OTAError.TOO_BIG, "more data than the slot's %d bytes" % self.region.size
                    )
                self._at += n
                continue
            self._checker.feed(self._sector, self._fill, self._receive, self._at, n)
            self._fill += n
            self._at += n
        return True

    def _write_sector(self):
        n = self._fill
        self._checker.hash.update(self._sector, self._sector_view, n)
        if n < self._unit:
            self._blank(n)
        area = self.region.area
        written = area.write(
            self._index * (self._unit // SECTOR), self._sector, self._pieces, self._bulk
        )
        self._index += 1
        self._fill = 0
        if self._resume:
            sums(self._sector, self._unit, self._resume.sums)
            done = self._index * self._unit
            if done & _SAVE_MASK == 0 and self._checker.pos != self.info.size:
                self._resume.save(done, area.head)
        if self._download is not None and self._download.total is None:
            size = (self._crypt and self._crypt.size) or self._size or self._checker.least()
            self._download.least = size and self._download.offset + size
        if self._feed:
            self._feed()
        self._emit(_WRITE_FLASH if written else _SKIPPED, self._checker.pos)
        if self._progress:
            self._progress(self._checker.pos, self.info.size)

    def _blank(self, n):
        # To the end of the buffer, what erased flash holds.
        while n < self._unit:
            m = _PIECE - n % _PIECE
            self._sector_view[n : n + m] = b"\xff" * m
            n += m

    def _complete(self):
        """Everything has come: was it all, and the right thing?"""
        if self._crypt:
            self._crypt.finish()
        self._checker.finish()
        if self._size and self._checker.pos != self._size:
            raise OTAError(
                OTAError.SIZE, "expected %d bytes, got %d" % (self._size, self._checker.pos)
            )
        if self._sha256 and not equal(self._checker.hash.finish(), SplitHash.whole(self._sha256)):
            raise OTAError(
                OTAError.DIGEST, "the image is not the one expected: its SHA-256 is another"
            )

    def _read_back(self):
        hash = self._checker.hash
        area = self.region.area
        found = yield from self._hash(area.read, self._checker.pos, hash.body)
        if found != hash.finish():
            raise OTAError(
                OTAError.READ_BACK,
                "%s does not hold what was written to it: the flash is failing, or something else wrote there"
                % area.label,
            )

    def _remember(self):
        from .flash.resume import Held

        hash = self._checker.hash
        self._resume.finish(
            Held(
                self._checker.pos,
                hash.body,
                self._download.total or 0,
                self.info.app_elf_sha256,
                hash.finish(),
                self._download.validator,
            )
        )

    def _close(self):
        if self._download is not None:
            self._download.close()
        if self._crypt is not None:
            self._crypt.close()


def update(url, **options):
    """Install the image at `url` and select it for the next boot; the options are those of OTA.

    Returns the ImageInfo, or None when there was nothing to install. Restart with machine.reset(). Raises what OTA's
    methods raise, and OTAError(FAILED_BEFORE) for an image that was rolled back here.
    """
    try:
        with OTA(url, **options) as ota:
            info = ota.begin()
            if info is not None:
                while ota.perform():
                    pass
                ota.finish()
            elif ota.refusal:
                raise ota.refusal
            return info
    except MemoryError:
        raise no_memory()
