# Confirming: what an application does at every boot, to ask whether this firmware is on trial, and to keep it.
#
# The bootloader starts a new firmware once as PENDING_VERIFY; unless it is confirmed, the next reset of any kind goes
# back to the old one. history.py is a slice: without it nothing is known of what failed.

from esp32 import Partition

from ..flash.otadata import PENDING_VERIFY, VALID, state

watch = None  # what guard() has begun and confirm() ends


def confirm():
    """Keep the running firmware. True when it was on trial, False when there was nothing to confirm."""
    # In any other state the record that the firmware would mark may be another slot's, set to boot next.
    now = state()
    on_trial = now == PENDING_VERIFY
    if on_trial:
        Partition.mark_app_valid_cancel_rollback()
        now = VALID
    guarded = watch and watch.confirmed()
    keep_floor(now, now == VALID and (on_trial or guarded))
    return on_trial


def keep_floor(state, proved=False):
    """From now on install nothing below the running firmware's secure version, if its state says that it was confirmed.

    At each confirm(), update and rollback(): what a power cut or a full NVS kept from being stored is made up for.
    False when it is still not stored. `proved`: it was confirmed just now, so what failed before may be tried again.
    """
    # secure_version of the application's descriptor: 0 in most builds.
    word = bytearray(4)
    Partition(Partition.RUNNING).readblocks(0, word, 36)
    if proved:
        try:
            from .history import confirmed

            confirmed()
        except ImportError:
            pass
    if any(word) and state == VALID:
        from .accept import raise_floor

        return raise_floor(int.from_bytes(word, "little"))
    return True
