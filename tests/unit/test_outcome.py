# outcome.py: what became of an update, from otadata, the slots and NVS, in every combination.
# The running slot is ota_0 with the board's application; "the update" is an image in ota_1.

import simboard
from binascii import hexlify

import esp32
import machine
from esp32 import NVS, Partition
from https_ota import OTAError, last_result, running_info
from https_ota.flash import nvs
from https_ota.boot import history as outcome
from https_ota.flash.otadata import ABORTED, INVALID, NEW, PENDING_VERIFY, UNDEFINED, VALID
from https_ota.flash.info import parse
from makeimage import descriptor, image
from test_confirm import clear, record, write

SHA = bytes(range(32))
UPDATE = image()
INFO = parse(UPDATE, len(UPDATE))


def installed(status=None, info=INFO):
    """The update is in ota_1, and otadata has it in this state, or not at all."""
    write("ota_1", UPDATE)
    outcome.installed(1, info)
    if status is not None:
        record(1, 2, status)


def told():
    result = last_result()
    return result and (result.result, result.why)


def stored(key):
    buf = bytearray(200)
    try:
        return bytes(buf[: NVS("https_ota").get_blob(key, buf)])
    except OSError:
        return None


def own():
    """What installs and gives up is the running firmware itself."""
    return running_info()


# -- results


def test_nothing_known():
    assert last_result() is None
    assert outcome.failed() == []
    assert outcome.refusal(INFO) is None


def test_each_state_of_what_does_not_run():
    for status, expected in (
        (None, None),
        (NEW, ("selected", "")),
        (PENDING_VERIFY, ("not started", "")),
        (VALID, ("not started", "")),
        (UNDEFINED, ("not started", "")),
        (INVALID, ("rolled back", "power")),
        (ABORTED, ("rolled back", "power")),
    ):
        clear()
        record(0, 1, VALID)
        installed(status)
        assert told() == expected, status
        assert told() == expected, status


def test_each_state_of_what_runs():
    info = own()
    for status, expected in (
        (PENDING_VERIFY, "on trial"),
        (VALID, "updated"),
        (NEW, "updated"),
        (UNDEFINED, "updated"),
    ):
        outcome.installed(0, info)
        record(0, 3, status)
        assert told() == (expected, ""), status
        result = last_result()
        assert (result.version, result.slot) == (info.version, 0)
        assert result.app_elf_sha256 == info.app_elf_sha256


def test_how_the_trial_ended():
    for cause, why in (
        (machine.WDT_RESET, "watchdog"),
        (machine.HARD_RESET, "reset"),
        (machine.PWRON_RESET, "power"),
        (machine.DEEPSLEEP_RESET, "sleep"),
        (machine.SOFT_RESET, "reset"),
    ):
        installed(ABORTED)
        machine.reset_cause = lambda: cause  # noqa: B023  it is asked within the loop
        assert told() == ("rolled back", why)
        # Later resets have nothing to do with it.
        machine.reset_cause = lambda: 0
        assert told() == ("rolled back", why)


def test_another_image_in_the_same_slot():
    """Flashed by cable: what runs is not what was installed."""
    info = own()
    info.app_elf_sha256 = SHA
    outcome.installed(0, info)
    assert told() is None


def test_no_otadata():
    import simboot

    installed(NEW)
    simboot.table.remove(esp32.Partition.find(Partition.TYPE_DATA, subtype=0)[0]._entry)
    assert last_result() is None
    assert outcome.refusal(INFO) is None


def test_going_back_that_did_not_happen():
    """The power failed between the record and otadata."""
    outcome.leaving("rollback")
    assert told() == ("updated", "")
    assert stored("last")[3] == 0
    assert outcome.failed() == []


def test_going_back_whose_entry_is_gone():
    installed()
    nvs.put("last", outcome._record(1, SHA, b"1.2.3", "no sensor"))
    assert told() == ("rolled back", "no sensor")
    assert outcome.failed() == [SHA]


def test_found_without_a_record():
    write("ota_1", UPDATE)
    record(1, 2, ABORTED)
    assert last_result()[:4] == ("rolled back", "power", "1.2.3", 1)
    assert outcome.failed() == [SHA]


def test_old_failure_without_a_record():
    """Its sequence number says that the running one came later."""
    write("ota_1", UPDATE)
    record(0, 3, VALID)
    record(1, 2, ABORTED)
    assert last_result() is None


def test_nothing_in_the_slot_that_failed():
    record(1, 2, ABORTED)
    assert last_result() is None


def test_later_failure_of_another_slot():
    outcome.installed(0, own())
    assert told() == ("updated", "")
    write("ota_1", UPDATE)
    record(1, 2, ABORTED)
    assert told() == ("rolled back", "power")


# -- the records


def test_record_of_what_was_installed():
    outcome.installed(1, INFO)
    assert stored("last") == b"\x01\x00\x01\x00" + SHA + b"1.2.3" + bytes(27)


def test_record_of_what_was_given_up():
    info = own()
    outcome.leaving("no sensor")
    expected = b"\x01\x00\x00\x09" + info.app_elf_sha256 + info.version.encode()
    assert stored("last")[: len(expected)] == expected
    assert stored("last")[68:] == b"no sensor"


def test_long_reasons_and_strange_ones():
    outcome.leaving("x" * 100)
    assert stored("last")[68:] == b"x" * 60
    nvs.put("last", outcome._record(1, SHA, b"\xff" * 32, "a\nb\u20ac"))
    assert told() == ("rolled back", "a?b???")
    assert last_result().version == "?" * 32
    # Nothing that a terminal takes for a command, wherever it is shown.
    for start in range(1, 128, 30):
        text = "".join(chr(c) for c in range(start, min(start + 30, 128)))
        nvs.put("last", outcome._record(1, SHA, text.encode(), text))
        shown = "".join(c if 32 <= ord(c) <= 126 else "?" for c in text)
        assert (last_result().why, last_result().version) == (shown, shown)


def test_record_of_failure():
    installed(ABORTED)
    assert stored("failed") is None
    assert outcome.failed() == [SHA]
    assert stored("failed") == SHA


def test_strange_records_are_none():
    installed(ABORTED)
    good = bytearray(stored("last"))
    clear()
    record(0, 1, VALID)
    for change in ((0, 2), (1, 4), (1, 255), (3, 1)):
        bad = bytearray(good)
        bad[change[0]] = change[1]
        NVS("https_ota").set_blob("last", bad)
        assert last_result() is None, change
    for bad in (good[:67], good + b"x", b"\x01", good + bytes(200)):
        NVS("https_ota").set_blob("last", bad)
        assert last_result() is None, hexlify(bad)


def test_written_once():
    installed(ABORTED)
    last_result()
    simboard.reset_counters()
    last_result()
    outcome.refusal(INFO)
    outcome.failed()
    assert simboard.counters()[:2] == (0, 0)


# -- refusals


def test_refused():
    installed(ABORTED)
    e = outcome.refusal(INFO)
    assert e.code == OTAError.FAILED_BEFORE
    assert e.detail == (
        "this image (1.2.3, built Jan  2 2026 12:34:56) ran here before and did not last (power)"
    )
    assert outcome.refusal(own()) is None


def test_image_without_a_version():
    blank = image(desc=descriptor(version=""))
    write("ota_1", blank)
    info = parse(blank, len(blank))
    outcome.installed(1, info)
    record(1, 2, ABORTED)
    assert "(without version, built " in outcome.refusal(info).detail


def test_reason_is_told_of_the_same_image_only():
    installed(ABORTED)
    outcome.failed()
    info = own()
    info.app_elf_sha256 = bytes(32)
    installed(NEW, info)
    assert told() == ("selected", "")
    assert outcome.refusal(INFO).detail.endswith("did not last")


def test_no_digest_no_refusal():
    """An image whose tools left app_elf_sha256 empty is not told from others like it."""
    zeros = bytearray(UPDATE)
    zeros[176:208] = bytes(32)
    info = parse(zeros, len(zeros))
    installed(ABORTED, info)
    assert told() == ("rolled back", "power")
    assert outcome.refusal(info) is None


def test_same_build_as_the_running_one():
    info = own()
    installed(ABORTED, info)
    assert told() == ("rolled back", "power")
    assert outcome.refusal(info) is None


def test_confirmed():
    installed(ABORTED)
    outcome.failed()
    outcome.confirmed()
    assert stored("failed") is None
    assert outcome.refusal(INFO) is None
    outcome.confirmed()


def test_damaged_after_it_was_confirmed():
    installed(VALID)
    last = bytearray(stored("last"))
    last[1] = 1  # updated
    NVS("https_ota").set_blob("last", last)
    assert told() == ("not started", "")
    assert outcome.refusal(INFO) is None


# -- a store that does not take it


class Full:
    """In place of NVS, one that is full."""

    def __init__(self, namespace):
        self._nvs = NVS(namespace)

    def get_blob(self, key, buf):
        return self._nvs.get_blob(key, buf)

    def set_blob(self, key, data):
        raise OSError(-4357)

    def erase_key(self, key):
        raise OSError(-4357)


def test_full_store():
    installed(ABORTED)
    nvs.NVS = Full
    try:
        for _ in range(2):
            assert told() == ("rolled back", "power")
            assert outcome.failed() == [SHA]
            assert outcome.refusal(INFO).code == OTAError.FAILED_BEFORE
        outcome.installed(1, INFO)
        outcome.leaving("why")
        outcome.confirmed()
    finally:
        nvs.NVS = NVS


def missing(namespace):
    raise OSError(-4353)


def test_no_store():
    nvs.NVS = missing
    try:
        assert last_result() is None
        write("ota_1", UPDATE)
        record(1, 2, ABORTED)
        assert told() == ("rolled back", "power")
        assert outcome.refusal(INFO).code == OTAError.FAILED_BEFORE
        outcome.installed(1, INFO)
        outcome.leaving("why")
        outcome.confirmed()
    finally:
        nvs.NVS = NVS
