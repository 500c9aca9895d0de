# Where versions of MicroPython differ, as far as these tests see it; for the others it is tests/support/built.py.

import sys

_version = sys.implementation.version[:2]

# machine.Timer(-1), which takes no timer of the chip.
VIRTUAL_TIMERS = _version >= (1, 29)
