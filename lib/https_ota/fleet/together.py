# Several partitions at once: a firmware and what belongs to it.

from ..flash.slot import Slot


def beside(name):
    """The label of the partition that belongs to the passive OTA slot: "romfs_1" for "romfs" while ota_0 runs."""
    return "%s_%d" % (name, Slot().number)


def together(*sessions):
    """Install several things at once: each OTA is received and verified before any takes effect, a firmware last.

    Returns the list of what each begin() gave, None for what had nothing to do. Where the firmware has nothing to do,
    nor has what belongs to the slot that it would go to, by its label (see beside()): that is of the firmware there.
    For a consistent pair after a power cut at any moment, what is not firmware needs such a place, which the running
    firmware does not use. No two sessions may write to the same partition, staging= included: OTAError(IN_PROGRESS).
    """
    infos = [None] * len(sessions)
    work = []
    try:
        for session in sessions:
            session.claim()
        # The firmware decides, and takes effect last.
        order = sorted(range(len(sessions)), key=lambda i: not sessions[i].is_firmware)
        idle = []
        for i in order:
            session = sessions[i]
            if not session.is_firmware and any(session.slot.endswith(end) for end in idle):
                continue
            info = infos[i] = session.begin()
            if session.refusal:
                raise session.refusal  # the others were meant for this firmware
            if info is None:
                if session.is_firmware:
                    idle.append("_%d" % session.region.number)
                continue
            # It may have been selected before, and what it needs is about to change.
            for other in work:
                other.region.prepare()
            while session.perform():
                pass
            session.verify()
            work.append(session)
        for session in reversed(work):
            session.finish()
        return infos
    finally:
        for session in sessions:
            session.abort()
