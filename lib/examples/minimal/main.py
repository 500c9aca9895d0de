# main.py: an application that keeps its new firmware once that works, and updates when a file asks for it:
#
#     mpremote touch :update

import machine
import network
import os
import time

import https_ota

URL = "https://example.com/micropython.bin"
CA_FILE = "ca.pem"  # https-ota ca https://example.com -o ca.pem
FLAG_FILE = "update"
EVERY_S = 10
TRIAL_S = 120
START_S = 300  # the network may come back later than the power


def start():
    # Whatever the device can't do without. What a new firmware gets wrong here is undone by guard().
    # A LAN() without arguments is that of boot.py.
    nic = network.WLAN(network.STA_IF) if hasattr(network, "WLAN") else network.LAN()
    if not nic.isconnected():
        raise OSError("no network")


def work():
    pass  # read sensors, switch relays ...


def asked_for():
    return FLAG_FILE in os.listdir()


def update():
    try:
        info = https_ota.update(URL, cadata=open(CA_FILE).read())
    except (https_ota.OTAError, OSError) as e:
        print("no update:", e)  # nothing has changed, the application goes on
        info = None
    os.remove(FLAG_FILE)  # only now: after a power failure within the update it goes on
    if info:
        machine.reset()


def start_or_reset():
    # Not into the REPL: nobody sits there. A reset also lets boot.py set the clock once there is a network.
    left = START_S
    while left > 0:
        try:
            return start()
        except OSError as e:
            print("not yet:", e)
        time.sleep(EVERY_S)
        left -= EVERY_S
    machine.reset()


https_ota.guard(TRIAL_S)  # a new firmware has so many seconds to reach confirm()
start_or_reset()
https_ota.confirm()
print("running", https_ota.running_info().version)
while True:
    work()
    if asked_for():
        update()
    time.sleep(EVERY_S)
