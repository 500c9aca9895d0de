# Self-test deadline of a new firmware, and the count of starts without a confirm().
#
# "starts" in NVS, i32: starts since the last confirm() in the low 7 bits, above them the first 3 bytes of the running
# image's app_elf_sha256, so that a new firmware begins at 0. Not by way of flash/nvs.py: at each boot that would take 700
# bytes more.

import machine
import sys
import time

from esp32 import NVS, Partition
from micropython import const

from ..flash.otadata import PENDING_VERIFY, VALID, state
from . import confirm

_TICK_MS = const(500)
_MOST_STARTS = const(127)
# A virtual one is nobody's (1.29 and later; what is before refuses -1). Else the highest that the chip has: the low ones are
# what applications use, and UART.irq() takes 0.
_TIMERS = (-1, 3, 1, 0)


def guard(seconds, wdt=None, *, starts=None, timer=None):
    """Give a firmware on trial so many seconds to call https_ota.confirm(); True while it is on trial.

    Otherwise the board resets, and the bootloader goes back to the firmware before. The first thing in main.py (or boot.py).

    wdt     a machine.WDT with a timeout of 2 s or more, fed from here until confirm(), and then by the application
    starts  once a firmware, on trial or not, has started so many times (at most 127) without a confirm(), go back if
            there is one to go back to. Soft resets (Ctrl-D, mpremote) never count, wakes from deep sleep on trial only
    timer   number of the machine.Timer to use until confirm(); None: a virtual one (MicroPython 1.29), else the highest
            that the chip has

    The timer catches an exception that ends in the REPL, an endless loop, a server that never answers; what holds up the
    interpreter itself (C code, interrupts off, a callback that never ends) needs the watchdog. A soft reset does not give
    more time, deep sleep does.
    """
    on_trial = state() == PENDING_VERIFY
    if on_trial or starts:
        # Asked again, it gives another deadline and counts no further start.
        watch = confirm.watch = confirm.watch or _Watch()
        if starts:
            watch.count(min(starts, _MOST_STARTS), on_trial)
        if on_trial:
            watch.begin(seconds, wdt, timer)
    return on_trial


class _Watch:
    def __init__(self):
        self._timer = None
        self._nvs = None

    def begin(self, seconds, wdt, number):
        self.end()
        self._feed = wdt.feed if wdt else None
        self._left = int(seconds * 1000)
        self._last = time.ticks_ms()
        if machine.reset_cause() == machine.SOFT_RESET:
            # It ended the timer of before; the time since the last real reset goes on.
            self._left -= self._last
        self._timer = _timer(number)
        # A single alarm could be lost when the queue of callbacks is full.
        self._timer.init(mode=machine.Timer.PERIODIC, period=_TICK_MS, callback=self._tick)

    def _tick(self, timer):
        if self._timer is None:
            return  # it was in the queue already
        now = time.ticks_ms()
        self._left -= time.ticks_diff(now, self._last)
        self._last = now
        if self._left > 0:
            if self._feed:
                self._feed()
            return
        try:
            # Confirmed by the firmware's own function rather than by confirm(), which would have done this.
            if state() == VALID:
                self.end()
        except OSError:
            pass
        if self._timer is None:
            self.confirmed()
            confirm.keep_floor(VALID, True)
            return
        try:
            from .history import leaving

            leaving("guard")
        finally:
            machine.reset()

    def count(self, most, on_trial):
        if self._nvs:
            return
        try:
            self._nvs = NVS("https_ota")
        except OSError:
            return  # a board without NVS
        sha = bytearray(3)
        Partition(Partition.RUNNING).readblocks(0, sha, 176)
        self._image = int.from_bytes(sha, "little") << 7
        try:
            value = self._nvs.get_i32("starts")
        except OSError:
            value = 0
        n = value - self._image
        if not 0 <= n <= _MOST_STARTS:
            n = 0
        cause = machine.reset_cause()
        # Ctrl-D and mpremote start MicroPython over, not the board. A wake goes on with what was started; but a trial
        # must not last for ever.
        if cause == machine.SOFT_RESET or (cause == machine.DEEPSLEEP_RESET and not on_trial):
            return
        if n < most:
            return self._set(n + 1)
        from .rollback import rollback
        from ..errors import OTAError

        try:
            rollback("starts")
        except (OTAError, OSError):
            pass  # there is nothing to go back to

    def end(self):
        if self._timer is not None:
            self._timer.deinit()
            self._timer = None

    def confirmed(self):
        """End the trial, and count anew; True when there was a trial."""
        guarded = self._timer is not None
        self.end()
        if self._nvs is not None:
            self._set(0)
        return guarded

    def _set(self, n):
        try:
            self._nvs.set_i32("starts", self._image + n)
            self._nvs.commit()
        except OSError:
            pass  # full or worn out: the application starts all the same


def _timer(number):
    numbers = (number,)
    if number is None:
        numbers = _TIMERS
        _, version, board = sys.implementation[:3]
        # A number is a group and an index there; of another index than 0 a C3 dies, and a C6 never calls.
        if version < (1, 25) and ("C3" if version < (1, 24) else "C6") in board:
            numbers = (2,)
    for n in numbers:
        try:
            return machine.Timer(n)
        except ValueError as e:
            error = e
    raise error
