# main.py: a new firmware tests itself, and goes back with the reason when it fails. Needs boot.py of minimal/.

import gc
import machine
import network
import time

import https_ota

ALIVE_URL = "https://example.com/alive.txt"  # a small file beside the firmware
CA_FILE = "ca.pem"
REPORT = print  # to your server
WDT_MS = 60_000
TRIAL_S = 300
EVERY_S = 10


def link():
    if not hasattr(network, "WLAN"):
        return network.LAN().isconnected()
    wlan = network.WLAN(network.STA_IF)
    return wlan.isconnected() and wlan.status("rssi") > -85


def update_server():
    # What can't reach it can't be repaired from afar: the most important test of all.
    https_ota.fetch(ALIVE_URL, lambda piece: None, cadata=open(CA_FILE).read(), stall_s=30)


def memory():
    gc.collect()
    return gc.mem_free() > 20_000


TESTS = (link, update_server, memory)  # and your sensors, relays ...


def failure():
    for test in TESTS:
        try:
            if test() is False:
                return test.__name__
        except Exception as e:  # whatever it is, it is a reason
            return "%s: %s" % (test.__name__, e)


# A crash or a loop ends with the reset after TRIAL_S, and what hangs below Python with the watchdog.
wdt = machine.WDT(timeout=WDT_MS)
on_trial = https_ota.guard(TRIAL_S, wdt)
REPORT("running", https_ota.running_info().version, "after", https_ota.last_result())
why = failure()
if why:
    REPORT("self-test failed:", why)
    if on_trial:
        https_ota.rollback(why)  # restarts; last_result() tells the other firmware
else:
    https_ota.confirm()
while True:
    wdt.feed()  # ours, now that the trial is over
    time.sleep(EVERY_S)
