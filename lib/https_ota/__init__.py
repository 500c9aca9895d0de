# https_ota: firmware updates over HTTPS for the ESP32.
#
# Only what runs at every boot is imported at once; the rest is loaded when it is first used (see names.py).

from .boot.confirm import confirm, state  # noqa: F401  the API
from .flash.otadata import ABORTED, INVALID, NEW, PENDING_VERIFY, UNDEFINED, VALID  # noqa: F401  of state()

__version__ = "0.1.0"


def __getattr__(name):
    from .names import find  # it takes this function's place

    return find(name)
