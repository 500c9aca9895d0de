# main.py: firmware from a private bucket. Needs boot.py of minimal/.
#
# The board has no key to the bucket: it asks a server of yours, which knows the board, for a presigned URL:
# {"url": "https://bucket.s3.amazonaws.com/micropython.bin?X-Amz-..."}, and {"url": null} when it is to stay as it is.

import json
import machine

import https_ota

ASK_URL = "https://example.com/firmware-for-me"
ASK_HEADERS = {"Authorization": "Bearer this-board's-token"}
CA_FILE = "ca.pem"  # with the roots of both: https-ota ca https://example.com https://bucket... -o ca.pem
TRIES = 3


def ask(ca):
    answer = bytearray()
    https_ota.fetch(ASK_URL, answer.extend, cadata=ca, headers=ASK_HEADERS)
    return json.loads(bytes(answer))["url"]


def update():
    ca = open(CA_FILE).read()
    for left in range(TRIES - 1, -1, -1):
        url = ask(ca)
        if url is None:
            return None
        session = https_ota.OTA(url, cadata=ca)
        try:
            with session:
                info = session.begin()
                if session.refusal:
                    raise session.refusal
                if info:
                    while session.perform():
                        pass
                    session.finish()
                return info
        except https_ota.OTAError as e:
            if not left or session.status_code not in (400, 401, 403, 404, 410):
                raise
            # It has expired, on a slow link even midway. What has come stays: a download is known by its URL without
            # the signature, which is all that differs in the new one.
            print("expired:", e)


https_ota.guard(120)
print("running", https_ota.running_info().version)
https_ota.confirm()  # after the application's own start
try:
    if update():
        machine.reset()
except Exception as e:  # also an answer that is not what it should be
    print("no update:", e)
