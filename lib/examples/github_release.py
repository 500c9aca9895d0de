# main.py: the newest release of a GitHub repository, by the URL that always leads to it. Needs boot.py of minimal/.
#
# GitHub redirects to another host with a presigned URL, so the CA file has roots for both:
#
#     https-ota ca https://github.com https://release-assets.githubusercontent.com -o github.pem
#
# The release's tag is of no account: what counts is the version in the image (make firmware FW_VERSION=1.4.0).

import machine
import time

import https_ota

URL = "https://github.com/OWNER/REPO/releases/latest/download/micropython.bin"
CA_FILE = "github.pem"
# For what asks who you are. It stays with the host of URL and is not sent on to the store: that would refuse it. A
# private repository gives its files at https://api.github.com/repos/OWNER/REPO/releases/assets/ID instead.
TOKEN = None
EVERY_S = 24 * 3600


def headers():
    if TOKEN is None:
        return None
    return {"Authorization": "Bearer " + TOKEN, "Accept": "application/octet-stream"}


def update():
    # The same version again is None; an older one, as when a release was taken back, is an error.
    return https_ota.update(
        URL, cadata=open(CA_FILE).read(), headers=headers(), check=https_ota.newer_only
    )


https_ota.guard(120)
print("running", https_ota.running_info().version)
https_ota.confirm()  # after the application's own start
while True:
    try:
        if update():
            machine.reset()
        print("nothing new")
    except (https_ota.OTAError, OSError) as e:
        print("no update:", e)
    time.sleep(EVERY_S)
