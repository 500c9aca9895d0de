# What an application does at every boot: ask whether this firmware is on trial, and keep it.
#
# The bootloader starts a new firmware once as PENDING_VERIFY; unless it is confirmed, the next reset of
# any kind goes back to the old one.

from struct import unpack

from esp32 import Partition

from ..flash.otadata import PENDING_VERIFY, VALID, state

watch = None  # what guard() has begun and confirm() ends


def confirm():
    """Keep the running firmware. True when it was on trial, False when there was nothing to confirm."""
    # In any other state the record that the firmware would mark may be another slot's, set to boot next.
    before = state()
    on_trial = before == PENDING_VERIFY
    if on_trial:
        Partition.mark_app_valid_cancel_rollback()
    guarded = watch and watch.confirmed()
    if on_trial or (guarded and before == VALID):
        kept()
    else:
        keep_floor(before)
    return on_trial


def kept():
    """What is to be done once the running firmware is confirmed, besides telling the bootloader."""
    from .history import confirmed

    confirmed()
    keep_floor(VALID)


def keep_floor(state):
    """From now on install nothing below the running firmware's secure version, if its state says that it was confirmed.

    At each confirm(), update and rollback(): what a power cut or a full NVS kept from being stored is made up for.
    False when it is still not stored.
    """
    # secure_version of the application's descriptor: 0 in most builds.
    word = bytearray(4)
    Partition(Partition.RUNNING).readblocks(0, word, 36)
    if not any(word) or state != VALID:
        return True
    from .version import raise_floor

    return raise_floor(unpack("<I", word)[0])
