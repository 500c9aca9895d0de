# The errors of ESP-IDF that the SIM board answers with, as MicroPython's check_esp_err() raises them.
import sys
import _sim
from micropython import const

FAIL = const(-1)
INVALID_ARG = const(0x102)
INVALID_SIZE = const(0x104)
NOT_FOUND = const(0x105)
NOT_ALLOWED = const(0x10D)
NVS_NOT_INITIALIZED = const(0x1101)
NVS_NOT_FOUND = const(0x1102)
NVS_NOT_ENOUGH_SPACE = const(0x1105)
NVS_KEY_TOO_LONG = const(0x1109)
NVS_INVALID_LENGTH = const(0x110C)
NVS_VALUE_TOO_LONG = const(0x110E)
OTA_VALIDATE_FAILED = const(0x1503)

_NAMES = {
    FAIL: "ESP_FAIL",
    INVALID_ARG: "ESP_ERR_INVALID_ARG",
    INVALID_SIZE: "ESP_ERR_INVALID_SIZE",
    NOT_FOUND: "ESP_ERR_NOT_FOUND",
    NOT_ALLOWED: "ESP_ERR_NOT_ALLOWED",
    NVS_NOT_INITIALIZED: "ESP_ERR_NVS_NOT_INITIALIZED",
    NVS_NOT_FOUND: "ESP_ERR_NVS_NOT_FOUND",
    NVS_NOT_ENOUGH_SPACE: "ESP_ERR_NVS_NOT_ENOUGH_SPACE",
    NVS_KEY_TOO_LONG: "ESP_ERR_NVS_KEY_TOO_LONG",
    NVS_INVALID_LENGTH: "ESP_ERR_NVS_INVALID_LENGTH",
    NVS_VALUE_TOO_LONG: "ESP_ERR_NVS_VALUE_TOO_LONG",
    OTA_VALIDATE_FAILED: "ESP_ERR_OTA_VALIDATE_FAILED",
}

# How the process ends when the board does not just reset.
EXIT_CUT = const(75)
EXIT_NO_APP = const(76)
EXIT_ABORT = const(134)  # what a shell shows for SIGABRT


def fail(code):
    raise OSError(-code, _NAMES[code])


def die(status, message):
    sys.stderr.write(message + "\n")
    _sim.halt(status)
