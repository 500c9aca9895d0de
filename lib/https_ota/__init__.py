# https_ota: firmware updates over HTTPS for the ESP32.
#
# Only what runs at every boot is imported at once; the rest is loaded when its name is first used.

# The first line also lets the function confirm() take the place of its module's name.
from .confirm import confirm, rollback, state  # noqa: F401  the API
from .confirm import ABORTED, INVALID, NEW, PENDING_VERIFY, UNDEFINED, VALID  # noqa: F401  of state()

__version__ = "0.1.0"

_HOME = {
    "update": "ota",
    "OTA": "ota",
    "OTAError": "errors",
    "ImageInfo": "image",
    "bar": "progress",
    "running_info": "slot",
    "guard": "trial",
    "last_result": "outcome",
    "newer_only": "policy",
    "same_project": "policy",
    "EncryptedImage": "encrypted",
    "beside": "data",
    "fetch": "data",
    "together": "data",
    "status": "status",
    "install": "install",
    "help": "usage",
    "check": "release",
    "update_from": "release",
    "Decision": "decide",
}


def __getattr__(name):
    home = _HOME.get(name)
    if home is None:
        # MicroPython asks here first, too, for `from https_ota import download`.
        try:
            return __import__("https_ota." + name, None, None, (name,))
        except ImportError:
            raise AttributeError("https_ota has no %s" % name)
    value = getattr(__import__("https_ota." + home, None, None, (name,)), name)
    globals()[name] = value
    return value
