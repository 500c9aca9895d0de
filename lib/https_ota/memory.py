# Memory: what an update gives back on its way and at its end, and what has to outlive it.
#
# Where the package lies in files, its code is in the heap: 45 KB of it are in use during an update, and for an application
# that asks for one each night they would be lost. What is forgotten here is loaded again when it is used again.

import gc
import sys

from .errors import OTAError

# What is part of every start, what has begun something (guard), and what holds native code: nobody gives that back.
_STAY = " errors memory hot boot.confirm boot.guard flash.info flash.otadata trust.gcm trust.p384 pack.patch pack.heatshrink "

owners = {}  # label of a partition: the session that writes it
power = []  # Wi-Fi's power saving before it was switched off
kept = {}  # what else modules have to remember until the board starts over


def no_memory(what=""):
    """The OTAError for a MemoryError, once what could be given up was given up; it tells how much memory is free."""
    gc.collect()
    try:
        what += "the heap has %d bytes free" % gc.mem_free()
        import esp32

        # TLS takes its memory from there.
        heaps = esp32.idf_heap_info(esp32.HEAP_DATA)
        what += ", ESP-IDF %d, the largest block %d" % (
            sum(h[1] for h in heaps),
            max(h[2] for h in heaps),
        )
    except (AttributeError, MemoryError):
        pass
    return OTAError(OTAError.MEMORY, what)


def forget(*names):
    """Give back the memory of modules that have done their work: where the package lies in files, code is in the heap.

    And of all that is garbage: a heap in pieces grows, by what TLS then lacks in ESP-IDF's.
    """
    for name in names:
        room, _, name = ("https_ota." + name).rpartition(".")
        if sys.modules.pop(room + "." + name, None):
            delattr(sys.modules[room], name)
    gc.collect()


class _Work:
    """As a context manager, what is an update from its beginning to its end: behind the last one, its code is forgotten.

    Not while a session is under way, nor beside aio, which an application holds on to.
    """

    depth = 0

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *error):
        self.depth -= 1
        if not (self.depth or owners or "https_ota.aio" in sys.modules):
            forget(
                *(
                    name[10:]
                    for name in list(sys.modules)
                    if name[:10] == "https_ota."
                    and not hasattr(sys.modules[name], "__path__")
                    and " %s " % name[10:] not in _STAY
                )
            )


work = _Work()
