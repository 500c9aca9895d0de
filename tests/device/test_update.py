"""Updates on a board, across its real resets. Each test begins with a confirmed firmware and leaves one."""

import images
import pytest
from board import ABORTED, PENDING_VERIFY, VALID
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from https_ota_tools import authority, encimg, keys, link, sbv2

# The codes of OTAError that are expected here.
CERT_CA, CHIP, CHECKSUM, TOO_BIG, DIGEST = 13, 32, 38, 35, 39
TAG, UNSIGNED, UNKNOWN_KEY = 62, 70, 73

SAVED = 64 * 1024  # every so many bytes the record for going on is written


def other(found):
    """The slot that does not run."""
    return next(s for s in found.slots if s.partition == found.target.partition)


def names(found):
    """What runs, in which slot, in which state."""
    return found.running.desc.version, found.running.partition.name, found.running.state


@pytest.mark.parametrize("way", ["usb", "network"])
def test_an_update_is_on_trial_until_it_is_confirmed(device, settled, build, way, request):
    if way == "network":
        request.getfixturevalue("network")
    target = settled.target.partition.name
    said = device.update("update, confirmed", build(f"trial-{way}"), way)
    assert (said["error"], said["version"]) == (None, f"trial-{way}")
    # Nothing has changed for what runs.
    assert names(device.ask()) == names(settled)
    assert names(device.reset()) == (f"trial-{way}", target, "PENDING_VERIFY")
    assert device.state() == PENDING_VERIFY
    assert device.board.exec("print(https_ota.confirm())") == "True\n"
    assert device.state() == VALID
    assert names(device.reset()) == (f"trial-{way}", target, "VALID")


def test_an_unconfirmed_update_goes_at_the_next_reset(device, settled, build, network):
    said = device.update("update, not confirmed", build("unconfirmed"))
    assert said["version"] == "unconfirmed"
    assert device.reset().running.desc.version == "unconfirmed"
    # A soft reset is no end of the trial.
    device.board.soft_reset()
    assert device.state() == PENDING_VERIFY
    after = device.reset()
    assert names(after) == names(settled)
    assert other(after).state == "ABORTED"
    assert ABORTED == 4


def test_rollback_goes_back_at_once(device, settled, build, network):
    device.update("update, rolled back", build("rolled-back"))
    assert device.reset().running.desc.version == "rolled-back"
    with pytest.raises(link.RestartedError):
        device.board.exec("import https_ota\nhttps_ota.rollback()")
    device.board.reopen(60)
    after = device.ask()
    assert names(after) == names(settled)
    assert other(after).state == "INVALID"


def test_a_reset_in_the_middle_is_gone_on_from(device, settled, build, network):
    data = build("resumed")
    if len(data) < 2 * SAVED:
        pytest.skip("the firmware is too small for a record to be written")
    assert device.update("", data, stop=len(data) * 3 // 4) is None
    assert names(device.ask()) == names(settled)
    said = device.update("update, gone on with", data)
    assert said["version"] == "resumed"
    starts = [int(a.range[6:].partition("-")[0]) for a in device.asked if a.range]
    assert starts and min(starts) >= SAVED, device.asked
    assert sum(a.sent for a in device.asked) < len(data) // 2
    assert device.reset().running.desc.version == "resumed"
    device.board.exec("import https_ota\nhttps_ota.confirm()")


def test_a_power_cut_in_the_middle_is_gone_on_from(device, power, settled, build, network):
    if not power:
        pytest.skip("a real board: nothing here can cut its power")
    data = build("powered")
    assert device.update("", data, stop=len(data) * 3 // 4, cut=True) is None
    assert names(device.ask()) == names(settled)
    said = device.update("update, gone on with after a power cut", data)
    assert said["version"] == "powered"
    assert sum(a.sent for a in device.asked) < len(data) // 2, device.asked
    assert device.reset().running.desc.version == "powered"
    # A power cut is a reset as any other: nobody has confirmed it.
    device.off_and_on()
    assert names(device.ask()) == names(settled)


def test_an_update_beside_other_tasks(device, settled, build, network):
    said = device.update("update beside asyncio", build("beside"), tasks=True)
    assert (said["error"], said["version"]) == (None, "beside")
    assert said["turns"] > 1
    assert device.reset().running.desc.version == "beside"
    device.board.exec("import https_ota\nhttps_ota.confirm()")


def test_the_same_file_again_is_not_fetched(device, settled, build, network):
    data = build("same")
    assert device.update("update", data)["version"] == "same"
    device.reset()
    device.board.exec("import https_ota\nhttps_ota.confirm()")
    said = device.update("the same again", data)
    assert (said["error"], said["version"]) == (None, None)
    assert sum(a.sent for a in device.asked) == 0


def bad(build, settled):
    """Files that no board may take, and what it says to them."""
    good = build("bad")
    damaged = bytearray(good)
    damaged[len(good) * 2 // 3] ^= 1
    chip = bytearray(good)
    chip[12] = images.CHIP_IDS["esp32s3" if good[12] != images.CHIP_IDS["esp32s3"] else "esp32c3"]
    return {
        "damaged": (bytes(damaged), CHECKSUM, {}),
        "for another chip": (images.seal(bytes(chip)), CHIP, {}),
        "too big": (good.ljust(settled.target.partition.size + 4096, b"\0"), TOO_BIG, {}),
        "another one": (good, DIGEST, {"sha256": "00" * 32}),
        "by another CA": (good, CERT_CA, {"cadata": authority.make().pem.decode()}),
    }


@pytest.mark.parametrize(
    "what", ["damaged", "for another chip", "too big", "another one", "by another CA"]
)
def test_what_is_not_right_is_refused(device, settled, build, network, what):
    data, code, options = bad(build, settled)[what]
    said = device.update(f"refused: {what}", data, **options)
    assert (said["error"], said["version"]) == (code, None)
    now = device.ask()
    assert names(now) == names(settled)
    assert now.next_boot.partition == now.running.partition
    assert names(device.reset()) == names(settled)


def test_without_options_nothing_is_downloaded(device, settled, network):
    said = device.board.exec(
        "import https_ota\n"
        "try:\n"
        f"    https_ota.update({device.url + 'none.bin'!r})\n"
        "except ValueError as e:\n"
        "    print(e)\n"
    )
    assert "insecure=True" in said


# --- signed and encrypted images -----------------------------------------------------------------


class Code(str):
    """An option that is written into the board's program as it is."""

    def __repr__(self):
        return str(self)


@pytest.fixture(scope="module")
def signing_key():
    """A key of this run alone."""
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("kind", ["P-256", "RSA-3072"])
def test_a_signed_image_is_taken(device, settled, build, network, kind, signing_key):
    key = signing_key if kind == "P-256" else rsa.generate_private_key(65537, 3072)
    data = sbv2.sign(build(f"signed-{kind}"), [key])
    trusted = [sbv2.key_digest(key.public_key())]
    # In ranges: what fits a TLS buffer of 4 KiB.
    said = device.update(f"signed, {kind}, ranged", data, trusted_keys=trusted, request_size=3500)
    assert (said["error"], said["version"]) == (None, f"signed-{kind}")
    assert {a.status for a in device.asked} == {206}
    assert device.reset().running.desc.version == f"signed-{kind}"
    device.board.exec("import https_ota\nhttps_ota.confirm()")


def test_an_image_without_a_trusted_signature_is_refused(
    device, settled, build, network, signing_key
):
    trusted = [sbv2.key_digest(signing_key.public_key())]
    other_key = ec.generate_private_key(ec.SECP256R1())
    for what, data, code in (
        ("refused: unsigned", build("unsigned"), UNSIGNED),
        ("refused: by another key", sbv2.sign(build("foreign"), [other_key]), UNKNOWN_KEY),
    ):
        said = device.update(what, data, trusted_keys=trusted)
        assert (said["error"], said["version"]) == (code, None)
        assert names(device.ask()) == names(settled)
    assert names(device.reset()) == names(settled)


@pytest.mark.parametrize("kind", ["P-256", "RSA-3072"])
def test_an_encrypted_image_is_taken_with_its_key(device, settled, build, network, kind):
    if kind == "P-256":
        key = ec.generate_private_key(ec.SECP256R1())
        option = Code(f"https_ota.EncryptedImage(ec_key={encimg.to_scalar(key)!r})")
    else:
        key = rsa.generate_private_key(65537, 3072)
        option = Code(f"https_ota.EncryptedImage(rsa_key={keys.private_pem(key)!r})")
    data = encimg.encrypt(build(f"sealed-{kind}"), key.public_key())
    flipped = bytearray(data)
    flipped[410] ^= 1  # of the tag
    said = device.update("refused: tag", bytes(flipped), decrypt=option)
    assert (said["error"], said["version"]) == (TAG, None)
    said = device.update(f"encrypted, {kind}", data, decrypt=option)
    assert (said["error"], said["version"]) == (None, f"sealed-{kind}")
    assert device.reset().running.desc.version == f"sealed-{kind}"
    device.board.exec("import https_ota\nhttps_ota.confirm()")
