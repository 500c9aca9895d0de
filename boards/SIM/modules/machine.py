# The machine module of the SIM board: resets, watchdog, timers, pins, clock, eFuse registers.
import os
import sys
import time
import micropython
import _sim
import simboot
from micropython import const

PWRON_RESET = const(1)
HARD_RESET = const(2)
WDT_RESET = const(3)
DEEPSLEEP_RESET = const(4)
SOFT_RESET = const(5)

_WDT_DEFAULT_MS = const(5000)


def reset():
    _sim.reset(HARD_RESET)


def soft_reset():
    raise SystemExit


def reset_cause():
    return _sim.cause()


def deepsleep(time_ms=0):
    os.putenv("SIM_SLEEPING_APP", str(simboot.running[2]))
    micropython.kbd_intr(-1)  # it does not listen
    time.sleep_ms(time_ms)
    _sim.reset(DEEPSLEEP_RESET)


def lightsleep(time_ms=0):
    time.sleep_ms(time_ms)


def unique_id():
    return b"\x02SIM\x00\x01"


def freq(hz=None):
    return 160_000_000 if hz is None else None


def idle():
    pass


# The watchdog cannot be stopped, as on the chip, and a hanging program is reset.
class WDT:
    def __init__(self, id=0, timeout=_WDT_DEFAULT_MS):
        if id != 0:
            raise ValueError("id")
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        self._timeout = timeout
        self.feed()

    def feed(self):
        _sim.watchdog(self._timeout)


# As in 1.29 and later.
_VIRTUAL = sys.implementation.version[:2] >= (1, 29)
# Those at work; behind the chip's own.
_virtual = [None] * 4
_FIRST_VIRTUAL = const(4)


# A soft one: the callback runs between two bytecodes. A number stands for one timer, as on the chip.
class Timer:
    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id=-1, **how):
        n = simboot.chip.timers
        if id >= n or (id < 0 and not _VIRTUAL):
            raise ValueError(
                "Timer(%d) doesn't exist, there are only %d hardware timers" % (id, n)
                if _VIRTUAL
                else "invalid Timer number"
            )
        self._id = id
        if how:
            self.init(**how)

    def init(self, *, mode=PERIODIC, callback=None, period=-1):
        self.deinit()
        if self._id < 0:
            _virtual[_virtual.index(None)] = self
        _sim.timer(self._place(), period if period > 0 else 0x3FFFFFFF, mode, callback, self)

    def deinit(self):
        place = self._place()
        if place is not None:
            _sim.timer(place, 0, 0, None, None)
            if self._id < 0:
                _virtual[place - _FIRST_VIRTUAL] = None

    def _place(self):
        if self._id >= 0:
            return self._id
        return _virtual.index(self) + _FIRST_VIRTUAL if self in _virtual else None


# SIM_HOLD=pin:ms is a button to ground, held from power-on for so long; the next start is nobody's press.
_started = time.ticks_ms()
_held, _, _held_ms = (os.getenv("SIM_HOLD") or "-1:0").partition(":")
_held, _held_ms = int(_held), int(_held_ms) if _sim.cause() == PWRON_RESET else 0


# Nothing else is connected: an input reads as its pull says, an output as it was set.
class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2

    _levels = {}

    def __init__(self, id, mode=-1, pull=-1, *, value=None):
        if not 0 <= id < 49:
            raise ValueError("invalid pin")
        self._id = id
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None):
        if mode != -1 or pull != -1:
            self._levels[self._id] = int(pull == self.PULL_UP)
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is not None:
            self._levels[self._id] = int(bool(level))
            return None
        if self._id == _held and time.ticks_diff(time.ticks_ms(), _started) < _held_ms:
            return 0
        return self._levels.get(self._id, 0)

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)


class RTC:
    def __init__(self, id=0):
        pass

    # (year, month, day, weekday, hours, minutes, seconds, subseconds)
    def datetime(self, value=None):
        if value is None:
            year, month, day, hour, minute, second, weekday = time.gmtime()[:7]
            return year, month, day, weekday, hour, minute, second, 0
        year, month, day, _, hour, minute, second, _ = value
        _sim.set_clock(time.mktime((year, month, day, hour, minute, second, 0, 0)))


# Only the registers that tell the chip's revision; all else reads as 0.
class _Mem32:
    def __getitem__(self, addr):
        return simboot.chip.register(addr)


mem32 = _Mem32()
