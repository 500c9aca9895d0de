# The machine module of the SIM board: resets, watchdog, timers, clock, eFuse registers.
import os
import time
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


# A soft one: the callback runs between two bytecodes. A number stands for one timer, as on the chip.
class Timer:
    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id, **how):
        if not 0 <= id < simboot.chip.timers:
            raise ValueError("invalid Timer number")
        self._id = id
        if how:
            self.init(**how)

    def init(self, *, mode=PERIODIC, callback=None, period=-1):
        _sim.timer(self._id, period if period > 0 else 0x3FFFFFFF, mode, callback, self)

    def deinit(self):
        _sim.timer(self._id, 0, 0, None, None)


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
