# main.py: an image that nobody else can read, make or set back. Needs boot.py of minimal/.
#
#     https-ota keygen sign-p256 -o release.pem      # stays with you; prints what goes into TRUSTED_KEYS
#     https-ota keygen encrypt-p256 -o device.pem    # device.scalar.bin is for the board
#     mpremote cp device.scalar.bin :
#     https-ota sign micropython.bin --key release.pem -o signed.bin
#     https-ota encrypt signed.bin --key device.pub.pem -o update.bin
#
# Build a firmware that closes a hole with a higher secure_version: once confirmed, none below it is taken.

import machine

import https_ota

URL = "https://example.com/update.bin"
CA_FILE = "ca.pem"
KEY_FILE = "device.scalar.bin"
# The second one's private half is in a safe, for the day on which the first is lost.
TRUSTED_KEYS = (
    "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    "0000000000000000000000000000000000000000000000000000000000000000",
)


def update():
    key = https_ota.EncryptedImage(ec_key=open(KEY_FILE, "rb").read())
    return https_ota.update(
        URL,
        cadata=open(CA_FILE).read(),
        decrypt=key,
        trusted_keys=TRUSTED_KEYS,
        check=https_ota.newer_only,
    )


def is_attack(e):
    # Neither the network nor a mistake with files makes these: an image was changed, or is not yours, or is an old one.
    E = https_ota.OTAError
    return e.code in (E.TAG, E.UNSIGNED, E.UNKNOWN_KEY, E.SIGNATURE, E.SECURE_VERSION)


https_ota.guard(120)
running = https_ota.running_info()
print("running", running.version, "with secure version", running.secure_version)
https_ota.confirm()  # raises the floor to this firmware's secure_version
try:
    if update():
        machine.reset()
    print("nothing new")
except https_ota.OTAError as e:
    print("ALARM:" if is_attack(e) else "no update:", e)
except OSError as e:
    print("no update:", e)
