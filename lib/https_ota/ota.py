# The verbs of an update, and its options.

import gc
import time

from micropython import const

from .errors import OTAError, refuse
from .events import ABORT, FINISH
from .flash.slot import SECTOR, Slot
from .memory import no_memory, owners, power, work
from .session import DONE, ENDED, FINISHED, NEW, READY, STEP, VERIFIED, Session

_ABANDONED_MS = const(600000)
_WHERE = ("not begun", "", "in progress", "received", "verified", "finished", "aborted or failed")

_LABEL = (str, type(None))
_NO_BUFFER = (int, float, str, bytes, list, tuple)


class OTA(Session):
    """An update, step by step: begin(), perform() until it returns False, finish(); abort() at any time.

    url       https URL of the application image; or a stream, any object with readinto(buf) -> n (0 at the end, None when
              nothing has come yet); or a source, which also has what net.download.Download has, see lib/README.md
    sha256    SHA-256 of the image, if known beforehand: 32 bytes, or 64 hex digits
    size      its size in bytes, likewise; a slot that holds the image by size and SHA-256 is used as it is
    trusted_keys  digests of the keys that may have signed the image, see trust.signature.trusted_digests(); None asks
              for no signature
    decrypt   what decrypts the file: encrypted.EncryptedImage, or an object with its methods (see trust/decrypt.py)
    check     called with the ImageInfo before anything is erased, and may raise; when it returns something false
              there is nothing to do. Or a list of such functions
    retry_failed  True installs an image again that was rolled back on this board
    event     called as event(number, value) for what events.py names
    progress  called as progress(done, total) once a sector; total is None while unknown
    resume    False neither goes on with an earlier download of this file nor leaves a record for a later one
    verify_spi_mode  False lets an image of another flash mode pass
    partition  label of the partition to write, None for the passive OTA slot; other than an OTA slot it takes
              any file, see flash/data.py
    staging   with it, label of a partition that is written and verified before it is copied there; True is
              the passive OTA slot
    buffer    bytearray to use for sectors, a multiple of 4096 bytes long that divides the partition's size; with 65536
              (in PSRAM) the flash erases in large blocks, several times as fast. None makes one of 4096
    bulk_erase  None erases 64 KiB at a time where that is faster, False each sector alone, True all beforehand
    wlan      a network.WLAN whose power saving is switched off while the update runs
    wdt       a machine.WDT to feed; looking up a host's name and a step of the TLS handshake can't be cut in pieces
    The other options are those of net.download.Download.

    As a context manager it aborts unless finish() was reached. Whatever goes wrong, the running firmware still boots.

    `info` is the new image's ImageInfo (None before begin()), `slot` the label of the partition written, `refusal` the
    OTAError that tells why begin() found an image and yet nothing to do, else None. From claim() on `region` is what is
    written (flash.slot.Slot, flash.data.Target), and `is_firmware` tells which.
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
        bulk_erase=None,
        wlan=None,
        wdt=None,
        **http,
    ):
        try:
            if check is None:
                check = ()
            elif not isinstance(check, (list, tuple)):
                check = (check,)
            # What would be found out late, or not in these words.
            for name, expected, value, fits in (
                ("check", "functions", check, all(callable(c) for c in check)),
                ("event", "a function", event, not event or callable(event)),
                ("progress", "a function", progress, not progress or callable(progress)),
                ("size", "bytes", size, not size or (isinstance(size, int) and size > 0)),
                ("partition", "a label", partition, isinstance(partition, _LABEL)),
                ("staging", "a label", staging, staging is True or isinstance(staging, _LABEL)),
                ("buffer", "a bytearray", buffer, not isinstance(buffer, _NO_BUFFER)),
                ("wlan", "a WLAN", wlan, wlan is None or hasattr(wlan, "config")),
                ("wdt", "a WDT", wdt, not wdt or hasattr(wdt, "feed")),
            ):
                if not fits:
                    refuse(name, expected, value)
            if staging is not None and partition is None:
                raise ValueError("staging: give partition= too, the one that it is copied to")
            if buffer is not None and (len(buffer) % SECTOR or not len(buffer)):
                raise ValueError(
                    "buffer: expected a multiple of %d bytes, got %d" % (SECTOR, len(buffer))
                )
            digest = None
            if sha256 is not None:
                from .der import digest32

                digest = digest32(sha256, "sha256")
            if not hasattr(url, "readinto"):
                from .net.download import Download

                file = Download(url, **http)
                file.event = event
            elif http:
                raise TypeError("%s: only for a URL" % ", ".join(http))
            elif hasattr(url, "open"):
                file = url
            else:
                from .local import Local

                file = Local(url, None if decrypt else size)
            feed = wdt.feed if wdt else None
            crypt = verifier = None
            if decrypt is not None:
                from .trust.decrypt import Decrypt

                crypt = Decrypt(file, decrypt, feed)
            elif size and digest:
                file.content_checked = True  # a mirror's own ETag is no other file then
            if size:
                file.least = file.offset + size
            if trusted_keys is not None:
                from .trust.signature import Signature

                verifier = Signature(trusted_keys)
            super().__init__(file, crypt, verifier)
            self._where = partition, staging
            self._size = size
            self._sha256 = digest
            self._checks = check
            self._retry = retry_failed
            self._resume = resume and (crypt is None or crypt.can_replay)
            self._verify_spi_mode = verify_spi_mode
            self._buffer = buffer
            self._unit = SECTOR if buffer is None else len(buffer)  # bytes written at a time
            self._bulk = bulk_erase
            self._event = event
            self._progress = progress
            self._feed = feed
            self._wlan = wlan
            self._saves = False  # power, once this is over
            self.used = 0  # when it went on last
            self._steps = self._work()
        except MemoryError:
            raise no_memory()

    # -- the verbs ----------------------------------------------------------------------------------

    def begin(self):
        """Connect and check the image's header against this board; nothing is erased yet.

        Returns the ImageInfo, or None when there is nothing to install: the running firmware is this file, or
        the server has nothing new (status 304) or nothing at all (204), or `refusal` says why. When the slot holds
        the file already, perform() has nothing left to do.
        Raises OTAError, ValueError for bad arguments, or an OSError of the network.
        """
        self._expect(NEW)
        self._run(READY)
        return self.info if self._at < FINISHED else None

    def perform(self):
        """Receive and write at most one buffer, a sector if none was given; True means call again, False that all has been
        written.
        """
        if self._at != DONE:
            self._expect(READY)
            self._run(STEP)
        return self._at != DONE

    def verify(self):
        """The first half of finish(), for who has more than one session: is all that was written right?"""
        self._expect(DONE)
        self._run(VERIFIED)

    def finish(self):
        """Compare the flash with what was received, then boot from the new slot at the next reset.

        Raises OTAError; the boot selection is then what it was.
        """
        if self._at != VERIFIED:
            self._expect(DONE)
        try:
            self._run(FINISHED)
        finally:
            self._emit(FINISH, self._at == FINISHED)

    def abort(self):
        """Stop and close the connection; harmless at any time. A later update may go on from here."""
        if self._at < FINISHED:
            begun = self._at != NEW or self._sector is not None
            self._at = ENDED
            if begun:
                self._emit(ABORT, None)
        try:
            if self._steps:
                self._steps.close()
                self._steps = ()  # it would keep its buffers
        except ValueError:
            pass  # called by what it calls: _passes() ends it
        self._close()
        for label in [label for label in owners if owners[label] is self]:
            del owners[label]
        self._sector = self._view = self._pieces = None
        self._save_power(True)
        gc.collect()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.abort()

    # -- who drives ---------------------------------------------------------------------------------

    def _run(self, mark):
        try:
            for step in self._steps:
                if self._passes(step, mark):
                    return
                if step is None:
                    self._file.wait()
        except BaseException as e:
            self._fail(e)
            raise
        self.abort()

    def _passes(self, step, mark):
        """Whether the work has come to a mark that was to be reached."""
        if self._feed:
            self._feed()
        if self._at == ENDED:
            self.abort()
            self._expect(READY)
        self.used = time.ticks_ms()
        if step is None:
            return False
        step = step or STEP
        if step > STEP:
            self._at = step
        return step >= mark

    def _expect(self, at):
        if self._at != at:
            raise OTAError(
                OTAError.STATE,
                "the update is %s; call begin(), then perform() until it returns False, then finish()"
                % _WHERE[self._at],
            )

    def _fail(self, e):
        # Ends the session, which `e` has broken off; raises what is to be raised in its place.
        # When the image is no good, its beginning is of no use to a later update either. Else it is kept.
        if self._records and isinstance(e, OTAError) and e.code >= OTAError.NOT_AN_IMAGE:
            self._records.clear()
        self.abort()
        if isinstance(e, MemoryError):
            raise no_memory()

    # -- questions ----------------------------------------------------------------------------------

    @property
    def status_code(self):
        """The last HTTP status, 0 before the first and for a local source."""
        return self._file.status

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
        return DONE <= self._at <= FINISHED

    def _save_power(self, on):
        if self._wlan is None or on != self._saves:
            return
        self._saves = not on
        if not on:
            pm = self._wlan.config("pm")
            if pm != self._wlan.PM_NONE:
                # Else another session is under way, or was broken off: what was before that counts.
                power.append(pm)
            self._wlan.config(pm=self._wlan.PM_NONE)
        elif power:
            self._wlan.config(pm=power.pop())

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
        for label in region.partitions:
            other = owners.get(label)
            if other is None:
                continue
            # Who forgot abort() must not keep a board from updates for ever.
            if time.ticks_diff(time.ticks_ms(), other.used) < _ABANDONED_MS:
                raise OTAError(
                    OTAError.IN_PROGRESS,
                    "another update writes to %s: finish() or abort() that one first" % label,
                )
            other.abort()
        for label in region.partitions:
            owners[label] = self
        self.region = region
        self.slot = region.label
        self.is_firmware = region.holds_back
        self.used = time.ticks_ms()


def update(url, **options):
    """Install the image at `url` and select it for the next boot; the options are those of OTA.

    Returns the ImageInfo, or None when there was nothing to install. Restart with machine.reset(). Raises what OTA's
    methods raise, and OTAError(FAILED_BEFORE) for an image that was rolled back here.
    """
    with work, OTA(url, **options) as ota:
        info = ota.begin()
        if info is not None:
            while ota.perform():
                pass
            ota.finish()
        elif ota.refusal:
            raise ota.refusal
        return info
