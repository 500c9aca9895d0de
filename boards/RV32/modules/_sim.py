# In place of the SIM board's C module of this name: resets, and the flash as a file.
#
# The flash is RAM that QEMU keeps in a file of the host: whoever runs the machine fills it before
# power-on and finds there what was written. It stands at 0x81000000. A page of words below it
# outlives a reset: the sizes of heap and flash, which the host sets, and what is numbered here.
import os
import umachine
from micropython import const

_FLASH_SIZE = const(1)
_RESET_CAUSE = const(2)
_STARTS = const(3)  # power-ons and resets
_APP = const(4)  # address of the running app; 0 (rv32.c) until the bootloader has chosen it
_PWRON_RESET = const(1)
_SOFT_RESET = const(5)

# QEMU's test device: writing to it stops or resets the machine.
_FINISHER = const(0x100000)
_RESET = const(0x7777)
_FAIL = const(0x3333)


# The addresses are put together at run time, for a literal above 2**30 is an object.
@micropython.viper
def _word(i: int) -> int:
    high = 0x80FF
    return int(ptr32((high << 16) + 0xF000)[i])


@micropython.viper
def _set_word(i: int, value: int):
    high = 0x80FF
    ptr32((high << 16) + 0xF000)[i] = value


@micropython.viper
def _read(at: int, buf: ptr8, n: int):
    high = 0x8100
    flash = ptr8((high << 16) + at)
    for i in range(n):
        buf[i] = flash[i]


@micropython.viper
def _write(at: int, buf: ptr8, n: int):
    high = 0x8100
    flash = ptr8((high << 16) + at)
    for i in range(n):
        flash[i] = buf[i]


class _Flash:
    def __init__(self):
        self._at = 0
        self._size = _word(_FLASH_SIZE)

    def seek(self, offset, whence=0):
        self._at = self._size + offset if whence == 2 else offset
        return self._at

    def readinto(self, buf, n=None):
        n = self._clip(len(buf) if n is None else n)
        _read(self._at, buf, n)
        self._at += n
        return n

    # A stream's write(buf, off, n); off is always 0.
    def write(self, buf, off=0, n=None):
        n = self._clip(len(buf) if n is None else n)
        _write(self._at, buf, n)
        self._at += n
        return n

    def _clip(self, n):
        return min(n, self._size - self._at)


# A file system with one file, so that the SIM board's modules find their flash where they look for it.
class _Files:
    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def open(self, path, mode):
        return _Flash()


def reset(cause):
    _set_word(_RESET_CAUSE, cause)
    umachine.mem32[_FINISHER] = _RESET


# A soft reset starts the program anew, and no bootloader.
def cause():
    return _SOFT_RESET if _soft else _word(_RESET_CAUSE) or _PWRON_RESET


def app():
    return str(_word(_APP))


# Called when the board is up: what the host waits for.
def started(app):
    if not _soft:
        _set_word(_APP, app)
        _set_word(_STARTS, _word(_STARTS) + 1)


def halt(status):
    umachine.mem32[_FINISHER] = status << 16 | _FAIL


# The power does not fail here: that is what the SIM board is for.
def cut():
    return False


def watchdog(ms):
    pass


# There are no timers here, and so no callbacks to keep away from what is C on a chip.
def hold(on):
    pass


_soft = _word(_APP) != 0

os.mount(_Files(), "/chip")
