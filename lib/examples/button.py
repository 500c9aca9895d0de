# main.py: a button that is held while the board starts: a short press updates, a long one goes back to the firmware
# before. Needs boot.py of minimal/, whose connecting is part of the press.
#
# Not the pin of the BOOT button (0; on the C3 and C6 9): held at reset, that starts the chip's loader.

import machine
import time
from machine import Pin

import https_ota

URL = "https://example.com/micropython.bin"
CA_FILE = "ca.pem"
BUTTON = Pin(4, Pin.IN, Pin.PULL_UP)  # to ground
SHORT_MS = 100  # anything less is a contact that bounces
LONG_MS = 5000


def pressed_ms():
    start = time.ticks_ms()
    ms = 0
    # No longer than it matters: with a button that is stuck the board must still start.
    while not BUTTON.value() and ms < LONG_MS:
        time.sleep_ms(10)
        ms = time.ticks_diff(time.ticks_ms(), start)
    return ms


def update():
    info = https_ota.update(URL, cadata=open(CA_FILE).read(), progress=https_ota.bar)
    if info:
        print("installed", info.version)
        machine.reset()
    print("nothing new")


https_ota.guard(120)
print("running", https_ota.running_info().version)
ms = pressed_ms()
try:
    if ms >= LONG_MS:
        https_ota.rollback("button")  # restarts
    elif ms >= SHORT_MS:
        update()
except (https_ota.OTAError, OSError) as e:
    print("no change:", e)

https_ota.confirm()  # after the application's own start; not before the button, which may be there to go back
