# The session: pulls the image through, fills one sector at a time, checks it and hands it to the slot.

import gc

from micropython import const

from .errors import OTAError
from .image import HEAD_SIZE, Checker, SplitHash, check_fit, parse
from .slot import SECTOR, Slot, running_info

_RECEIVE = const(1024)
_PIECE = const(512)

# Where a session stands; the names are those of esp_https_ota.
_INIT = const(0)
_BEGIN = const(1)
_IN_PROGRESS = const(2)
_SUCCESS = const(3)
_FINISHED = const(4)
_ABORTED = const(5)
_NAMES = ("not begun", "begun", "in progress", "received", "finished", "aborted or failed")


class OTA:
    """An update, step by step: begin(), perform() until it returns False, finish(); abort() at any time.

    url       https URL of the application image, or any object with readinto(buf) -> n (0 at the end)
    progress  called as progress(done, total) once a sector; total is None while unknown
    verify_spi_mode  False lets an image of another flash mode pass
    The other options are those of download.Download.

    As a context manager it aborts unless finish() was reached. Whatever goes wrong, the running firmware
    still boots, and the boot selection is untouched until finish().

    `info` is the new image's ImageInfo (None before begin()), `slot` the label of the slot written.
    """

    def __init__(self, url, *, progress=None, verify_spi_mode=True, **http):
        if hasattr(url, "readinto"):
            if http:
                raise TypeError("%s: only for a URL" % ", ".join(http))
            self._source = url
            self._download = None
        else:
            from .download import Download

            self._source = self._download = Download(url, **http)
        self._progress = progress
        self._verify_spi_mode = verify_spi_mode
        self._state = _INIT
        self._slot = None
        self._checker = None
        self.info = None
        self.slot = None

    # -- the verbs ----------------------------------------------------------------------------------

    def begin(self):
        """Connect and check the image's header against this board; nothing is erased yet.

        Returns the ImageInfo, or None when the server has nothing new (status 304) or nothing at all (204).
        Raises OTAError, ValueError for bad arguments, or an OSError of the network.
        """
        self._expect(_INIT)
        try:
            self._slot = slot = Slot()
            self.slot = slot.label
            running = running_info()
            # Buffers first, while memory is least fragmented: nothing is allocated per sector later.
            self._sector = bytearray(SECTOR)
            self._sector_view = view = memoryview(self._sector)
            self._pieces = [view[i : i + _PIECE] for i in range(0, SECTOR, _PIECE)]
            self._receive = bytearray(_RECEIVE)
            self._at = self._got = 0  # of the receive buffer: first byte not used, bytes in it
            self._fill = 0  # bytes in the sector buffer
            self._index = 0  # the sector that is being filled
            total = None
            if self._download is not None:
                if self._download.open() in (204, 304):
                    self.abort()
                    return None
                total = self._download.total
            self._check_head(running, total)
        except BaseException:
            self.abort()
            raise
        self._state = _BEGIN
        return self.info

    def perform(self):
        """Receive and write at most one sector; True means call again, False that all has been written."""
        if self._state != _BEGIN:
            self._expect(_IN_PROGRESS)
        try:
            if self._state == _BEGIN:
                self._slot.prepare()
                self._state = _IN_PROGRESS
            more = self._fill_sector()
            if self._fill:
                self._write_sector()
            if more:
                return True
            self._checker.finish()
            self._source_close()
            self._state = _SUCCESS
            return False
        except BaseException:
            self.abort()
            raise

    def finish(self):
        """Compare the flash with what was received, then boot from the new slot at the next reset.

        Raises OTAError; the boot selection is then what it was.
        """
        self._expect(_SUCCESS)
        try:
            self._read_back()
            self._slot.switch()
            self._state = _FINISHED
        finally:
            if self._state != _FINISHED:
                self.abort()
            self._free()

    def abort(self):
        """Stop and close the connection; harmless at any time."""
        if self._state != _FINISHED:
            self._state = _ABORTED
        self._source_close()
        self._free()

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
        """Bytes received so far."""
        return self._checker.pos if self._checker else 0

    def is_complete_data_received(self):
        """True once the whole image has been received and written."""
        return self._state in (_SUCCESS, _FINISHED)

    # -- inside -------------------------------------------------------------------------------------

    def _expect(self, state):
        if self._state != state:
            raise OTAError(
                OTAError.STATE,
                "the update is %s; call begin(), then perform() until it returns False, then finish()"
                % _NAMES[self._state],
            )

    def _check_head(self, running, total):
        # The first sector, or all of a smaller file, kept for perform() to write.
        self._checker = checker = Checker(self._slot.size, total)
        head = self._sector
        while self._fill < HEAD_SIZE and self._refill():
            n = min(self._got - self._at, SECTOR - self._fill)
            self._sector_view[self._fill : self._fill + n] = self._receive[self._at : self._at + n]
            self._fill += n
            self._at += n
        info = parse(head, self._fill)
        if info is None:
            from .wrong import wrong_file

            raise wrong_file(head, self._fill, self._source)
        info.size = total
        from .chip import revision

        rev, any_major = revision(running.chip_id)
        if any_major:
            info.max_chip_rev = 0
        check_fit(info, running, rev, self._verify_spi_mode)
        if total is not None and total > self._slot.size:
            raise OTAError(
                OTAError.TOO_BIG,
                "the image has %d bytes, slot %s only %d"
                % (total, self._slot.label, self._slot.size),
            )
        checker.feed(head, 0, head, 0, self._fill)
        self.info = info

    def _refill(self):
        """Make sure that the receive buffer holds something; False at the end of the source."""
        if self._at == self._got:
            self._at = 0
            self._got = self._source.readinto(self._receive) or 0
        return self._got > 0

    def _fill_sector(self):
        fill = self._fill
        while fill < SECTOR:
            if not self._refill():
                self._fill = fill
                return False
            n = self._got - self._at
            if n > SECTOR - fill:
                n = SECTOR - fill
            if self._index * SECTOR + fill + n > self._slot.size:
                raise OTAError(
                    OTAError.TOO_BIG, "more data than the slot's %d bytes" % self._slot.size
                )
            self._checker.feed(self._sector, fill, self._receive, self._at, n)
            fill += n
            self._at += n
        self._fill = fill
        return True

    def _write_sector(self):
        n = self._fill
        self._checker.hash.update(self._sector, self._sector_view, n)
        if n < SECTOR:
            self._sector_view[n:] = b"\xff" * (SECTOR - n)  # what erased flash holds
        self._slot.write(self._index, self._sector, self._pieces)
        self._index += 1
        self._fill = 0
        if self._progress:
            self._progress(self._checker.pos, self.info.size)

    def _read_back(self):
        left = self._checker.pos
        flash = SplitHash(self._checker.hash.body)
        i = 0
        while left:
            n = SECTOR if left > SECTOR else left
            self._slot.read(i, self._sector)
            flash.update(self._sector, self._sector_view, n)
            left -= n
            i += 1
        if flash.finish() != self._checker.hash.finish():
            raise OTAError(
                OTAError.READ_BACK,
                "slot %s does not hold what was written to it: the flash is failing, or something else wrote there"
                % self._slot.label,
            )

    def _source_close(self):
        if self._download is not None:
            self._download.close()

    def _free(self):
        self._sector = self._sector_view = self._pieces = self._receive = None
        gc.collect()


def update(url, **options):
    """Install the image at `url` and select it for the next boot; the options are those of OTA.

    Returns the ImageInfo, or None when the server had nothing to install. Restart with machine.reset().
    """
    with OTA(url, **options) as ota:
        info = ota.begin()
        if info is not None:
            while ota.perform():
                pass
            ota.finish()
        return info
