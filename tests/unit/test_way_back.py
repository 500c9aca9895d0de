# Without a confirm() the firmware that ran first comes back by itself, whatever otadata says and whatever is called
# in whatever order. In one process: simboot's bootloader is asked what it would start.

import gc
import https_ota.errors
import https_ota.ota
import machine
import simboot
from hashlib import sha256

from esp32 import Partition
from fakenet import fails
from https_ota import OTA, OTAError, cancel, confirm, rollback, state, update
from https_ota.flash.otadata import (
    ABORTED,
    INVALID,
    NEW,
    PENDING_VERIFY,
    UNDEFINED,
    VALID,
    entries,
    partition,
)
from makeimage import Stream, descriptor, flip, image
from test_confirm import clear, record


def padded(data):
    return data + b"\xff" * (-len(data) % 4096)


OLD = padded(image(5000, desc=descriptor("old")))
FIRST = padded(image(5000, desc=descriptor("first")))
A = image(6000, desc=descriptor("a"))
B = image(7000, desc=descriptor("b"))
BAD = flip(image(8000, desc=descriptor("bad")), 7000)
DATA = b"data" * 2000


class Sparing:
    """In place of gc: thousands of updates in one process need not collect their garbage five times each."""

    mem_free = gc.mem_free

    def collect():
        pass


https_ota.errors.gc = https_ota.ota.gc = Sparing


class Restarted(Exception):
    pass


def restart():
    raise Restarted


machine.reset = restart


def power_on():
    """What the bootloader does; returns the version of the firmware that it starts."""
    simboot.log.clear()
    slots = simboot._boot_slots()
    first, untouched = simboot._select(slots)
    index, part = simboot._load(slots, first)
    if untouched and index >= 0:
        entry = simboot.Entry(0)
        entry.blank()
        entry.write(VALID, index + 1)
    simboot.running = part
    simboot.flash.running = part[2]
    simboot.flash.running_end = part[2] + part[3]
    return version("RUNNING")


def version(label):
    part = Partition(Partition.RUNNING if label == "RUNNING" else label)
    text = bytearray(8)
    part.readblocks(0, text, 48)
    return bytes(text).split(b"\0")[0].decode()


def raw():
    found = bytearray(64)
    for i in (0, 1):
        partition().readblocks(i, memoryview(found)[32 * i : 32 * i + 32], 0)
    return bytes(found)


def free():
    """Nothing is protected: the flash is made anew."""
    simboot.flash.running = simboot.flash.running_end = 0


_states = {}


def all_states():
    """(slot that runs, otadata) after a power-on from each content of otadata that can be told from the others."""
    if _states:
        return _states
    one = [None, "damaged"] + [
        # The bootloader makes ABORTED of PENDING_VERIFY, which is as good as INVALID.
        (seq, status)
        for seq in (1, 2, 3)
        for status in (NEW, VALID, INVALID, UNDEFINED)
    ]
    free()
    Partition("ota_0").writeblocks(0, FIRST)
    Partition("ota_1").writeblocks(0, FIRST)
    for a in one:
        for b in one:
            free()
            put(a, b)
            power_on()
            running = Partition(Partition.RUNNING).info()[4]
            key = running, str(entries(partition())), state() == PENDING_VERIFY
            _states[key] = running, raw()
    return _states


def put(a, b):
    clear()
    for i, entry in ((0, a), (1, b)):
        if entry == "damaged":
            record(i, 1, VALID, crc=0x12345678)
        elif entry:
            record(i, *entry)


def board(running, otadata_bytes, passive):
    """The board in this state, its firmware "first"."""
    free()
    other = "ota_1" if running == "ota_0" else "ota_0"
    Partition(running).writeblocks(0, FIRST)
    if passive:
        Partition(other).writeblocks(0, passive)
    else:
        Partition(other).ioctl(6, 0)
    for i in (0, 1):
        partition().ioctl(6, i)
        partition().writeblocks(i, otadata_bytes[32 * i : 32 * i + 32], 0)
    simboot.running = Partition(running)._entry
    simboot.flash.running = simboot.running[2]
    simboot.flash.running_end = simboot.running[2] + simboot.running[3]
    return other


def known(data):
    return lambda: update(
        Stream(data), sha256=sha256(data).digest(), size=len(data), retry_failed=True
    )


def refused():
    try:
        update(Stream(BAD), retry_failed=True)
    except OTAError as e:
        assert e.code == OTAError.CHECKSUM, e
    else:
        raise AssertionError("not refused")


def unsigned():
    try:
        update(Stream(A), trusted_keys=bytes(32), sha256=sha256(A).digest(), size=len(A))
    except OTAError as e:
        assert e.code in (OTAError.UNSIGNED, OTAError.FAILED_BEFORE), e
    else:
        raise AssertionError("not refused")


def staged():
    try:
        update(Stream(DATA), partition="vfs", staging=True)
    except OTAError as e:
        assert e.code == OTAError.PARTITION, e


def begun():
    ota = OTA(Stream(B), retry_failed=True)
    ota.begin()
    ota.perform()
    ota.abort()


CALLS = {
    "a": lambda: update(Stream(A), retry_failed=True),
    "b": lambda: update(Stream(B), retry_failed=True),
    "A": known(A),
    "B": known(B),
    "-": refused,
    "u": unsigned,
    "s": staged,
    "o": begun,
    "c": cancel,
    "r": rollback,
}


def live(words, states):
    """Make these calls in each of the states: what ran first comes back, and what was refused never starts."""
    for running, otadata_bytes in states:
        for passive in (OLD, None):
            board(running, otadata_bytes, passive)
            # Where what runs is all that there is to start, what otadata says of it does not matter.
            if passive is None and power_on() != "first":
                continue
            other = board(running, otadata_bytes, passive)
            before = Partition(Partition.BOOT).info()[4], entries(partition())
            try:
                for word in words:
                    CALLS[word]()
            except Restarted:
                # A way back there is only to what was confirmed.
                assert power_on() == "old" and state() in (VALID, UNDEFINED), (words, before)
                continue
            except OTAError as e:
                assert e.code == OTAError.ROLLBACK and "r" in words, (e, words, before)
            said = words, running, before, entries(partition()), passive is not None
            selected = Partition(Partition.BOOT).info()[4] == other
            started = power_on()
            if started != "first":
                # On trial, and not confirmed.
                assert started in ("a", "b") and selected, (started, said)
                assert state() == PENDING_VERIFY, (state(), said)
                started = power_on()
            assert started == "first", (started, said)
            assert power_on() == "first", said


def states(words, share=1):
    """Every so-manieth state, others for other words."""
    found = sorted(key for key in all_states() if not key[2])
    first = sum(ord(c) * (i + 1) for i, c in enumerate(words)) % share
    return [_states[key] for key in found[first::share]]


def test_every_state():
    assert len(states("")) > 40
    for words in ("aa", "ab", "aA", "-", "u", "s", "ar"):
        live(words, states(words))


def test_every_pair():
    for first in CALLS:
        for second in CALLS:
            live(first + second, states(first + second, 12))


def test_many_triples():
    for first in "abA-uso":
        for second in CALLS:
            for third in "abA-usocr":
                words = first + second + third
                live(words, states(words, 60))


def test_what_is_taken_back_is_still_there():
    board("ota_0", record_of(VALID), None)
    update(Stream(A))
    assert Partition(Partition.BOOT).info()[4] == "ota_1"
    assert cancel() is True and cancel() is False
    assert Partition(Partition.BOOT).info()[4] == "ota_0"
    source = Stream(A)
    update(source, sha256=sha256(A).digest(), size=len(A))
    assert source.reads == 0
    assert power_on() == "a" and confirm()
    assert [power_on() for _ in range(2)] == ["a", "a"]


def record_of(status):
    put((1, status), None)
    return raw()


def test_selected_twice_and_confirmed():
    for words in ("aa", "aA", "abb", "aca"):
        board("ota_0", record_of(VALID), OLD)
        for word in words:
            CALLS[word]()
        new = power_on()
        assert new == words[-1].lower() and confirm()
        assert [power_on() for _ in range(2)] == [new, new]
        # From here back to the first one, by hand.
        try:
            rollback()
        except Restarted:
            pass
        assert [power_on() for _ in range(2)] == ["first", "first"]


def test_what_never_ran_is_not_what_was_before():
    """Somebody else's installer wrote it, or one that was taken back."""
    for status in (NEW, PENDING_VERIFY, INVALID, ABORTED):
        board("ota_0", record_of(VALID), padded(A))
        put((3, VALID), (2, status))
        simboot.running = Partition("ota_0")._entry
        fails(OTAError.ROLLBACK, rollback)
        assert power_on() == "first"


def test_what_was_refused_never_starts():
    """Not even when otadata is lost afterwards, and the bootloader takes what it finds."""
    for words in ("-", "u", "s", "o", "-u", "au", "Au", "a-", "uo"):
        for running, otadata_bytes in states(words, 2):
            for damage in (
                (None, None),
                ("damaged", "damaged"),
                (None, "damaged"),
                (None, (1, VALID)),
            ):
                board(running, otadata_bytes, OLD)
                for word in words:
                    CALLS[word]()
                put(*damage)
                for _ in range(2):
                    started = power_on()
                    assert started == "first", (started, words, running, damage)
