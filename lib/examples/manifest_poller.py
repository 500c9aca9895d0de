# main.py: a board of a fleet that follows signed releases. Needs boot.py of minimal/.
#
#     https-ota keygen sign-p256 -o release.pem
#     https-ota sign micropython.bin --key release.pem -o signed.bin
#     https-ota manifest --file signed.bin --release 7 --rollout 10 --sign release.pem -o fleet.json
#
# Put fleet.json, fleet.json.sig and signed.bin on the server. A tenth of the boards install it; raise --rollout, with
# --update, and the others follow when they ask next.

import machine
import random
import time

import https_ota

URL = "https://example.com/fleet.json"
CA_FILE = "ca.pem"
# As keygen prints it.
TRUSTED_KEYS = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
EVERY_S = 6 * 3600
FIRST_S = 300  # after a power failure all boards start at the same moment


def report(*what):
    print(*what)  # to your server


def poll():
    try:
        options = {"cadata": open(CA_FILE).read(), "trusted_keys": TRUSTED_KEYS}
        # update_from() alone would do; check() tells why there is nothing to do.
        decision = https_ota.check(URL, **options)
        report("release:", decision.words)
        if decision.update and https_ota.update_from(URL, **options):
            machine.reset()
    except (https_ota.OTAError, OSError) as e:
        report("no update:", e)  # the next poll tries again


def run():
    https_ota.guard(120)
    report("running", https_ota.running_info().version)
    https_ota.confirm()  # after the application's own start
    # What the fleet's owner wants to know: ("updated", "", "1.4.0", ...) or ("rolled back", "guard", ...).
    report("last update:", https_ota.last_result())
    time.sleep(random.random() * FIRST_S)
    while True:
        poll()
        # A quarter more or less, so that boards that asked together once don't do so for ever.
        time.sleep(EVERY_S * (0.75 + random.random() / 2))


run()
