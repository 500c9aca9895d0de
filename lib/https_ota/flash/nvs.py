# NVS records, namespace "https_ota": all keys, and the only access to them but guard.py's. A store that is missing, full or
# worn out never stops an update: what can't be read is not there, and put() tells what could not be stored.
#
#   last     what was installed or rolled back last        boot/history.py
#   failed   what is not to be installed again             boot/history.py
#   starts   starts without a confirm()                    boot/guard.py
#   floor    the lowest secure version that is installed   boot/accept.py
#   release  the newest signed release manifest            fleet/poll.py
#   serial   likewise                                      fleet/poll.py
# Hints, which may be lost at any time; X names the partition, see key():
#   partX    an update that was broken off                 flash/resume.py
#   headX    the header of its encrypted file              flash/resume.py
#   doneX    the last that was finished                    flash/resume.py
#   etag     the manifest that gave nothing to do          fleet/poll.py
#   smaller  shorter forms of images that were no good     fleet/smaller.py

from esp32 import NVS, Partition


def get(key, buf):
    """Read a blob into buf; return its length, 0 when there is none that fits."""
    try:
        return NVS("https_ota").get_blob(key, buf)
    except OSError:
        return 0


def get_number(key):
    """Return a number, 0 when there is none."""
    try:
        return NVS("https_ota").get_i32(key)
    except OSError:
        return 0


def put(key, value):
    """Store a blob, or a number (i32); False when that could not be done."""
    try:
        nvs = NVS("https_ota")
        if isinstance(value, int):
            nvs.set_i32(key, value)
        else:
            nvs.set_blob(key, value)
        nvs.commit()
    except OSError:
        return False
    return True


def keep(key, value):
    """As put(), for what must not be forgotten: when the store is full, hints make room."""
    return put(key, value) or (_make_room() and put(key, value))


def drop(key):
    """Erase a record; True when there was one."""
    try:
        nvs = NVS("https_ota")
        nvs.erase_key(key)
        nvs.commit()
    except OSError:
        return False
    return True


def key(part):
    """What tells a partition's records from another's: its address in the flash, as text."""
    return "%x" % part.info()[2]


def _make_room():
    found = drop("etag")
    for kind in (Partition.TYPE_APP, Partition.TYPE_DATA):
        for part in Partition.find(kind):
            for name in ("part", "head", "done"):
                found = drop(name + key(part)) or found
    return found
