# memory.py: what an update gives back at its end, and what outlives it.

import gc
import machine
import sys
from hashlib import sha256

import https_ota
from fakenet import Net, fails, raises, use
from https_ota.errors import OTAError
from https_ota.memory import kept, owners, work
from makeimage import Stream, descriptor, image

# What has been loaded by who tests: by an application nothing of it would be.
STAY = (
    "boot",
    "boot.confirm",
    "boot.guard",
    "errors",
    "flash",
    "flash.info",
    "flash.otadata",
    "fleet",
    "hot",
    "memory",
    "net",
    "pack",
    "trust",
)


def loaded():
    return sorted(name[10:] for name in sys.modules if name.startswith("https_ota."))


def new_app(version="2.0.0"):
    return image(9000, desc=descriptor(version))


def firmware():
    return Stream(new_app())


def left():
    return [name for name in loaded() if name not in STAY]


def test_an_update_gives_its_code_back():
    info = https_ota.update(firmware())
    assert info.version == "2.0.0"
    assert left() == [], left()
    # What it has returned stays what it was.
    assert isinstance(info, https_ota.ImageInfo)
    assert isinstance(https_ota.update(firmware()), type(info))
    assert isinstance(https_ota.running_info(), https_ota.ImageInfo)
    # And the package offers what it did.
    assert https_ota.update(firmware()).version == "2.0.0"
    with https_ota.OTA(firmware()) as ota:
        assert ota.begin() and "session" in left()
    assert https_ota.update(firmware()).version == "2.0.0"
    assert left() == []


def test_one_that_fails_does_so_too():
    fails(OTAError.NOT_AN_IMAGE, https_ota.update, Stream(b"<html>" * 500))
    assert left() == []
    raises(TypeError, https_ota.update, firmware(), nonsense=1)
    assert left() == []


def test_an_error_is_one_and_the_same_class():
    for _ in range(3):
        try:
            https_ota.update(Stream(b"<html>" * 500))
        except https_ota.OTAError as e:
            assert e.code == https_ota.OTAError.NOT_AN_IMAGE
            assert str(e).startswith("NOT_AN_IMAGE: ")


def test_what_asks_a_server_gives_its_code_back():
    use(Net())
    for name in "check", "update_from", "fetch", "update":
        given = (print,) if name == "fetch" else ()
        for options in {}, {"insecure": True}, {"cadata": b"no certificate"}:
            ask = getattr(https_ota, name)
            raises(
                (AttributeError, OSError, OTAError, ValueError),
                ask,
                "https://host/x",
                *given,
                **options,
            )
            assert left() == [], (name, options, left())


def test_nothing_is_taken_from_a_session_under_way():
    ota = https_ota.OTA(firmware())
    ota.begin()
    assert list(owners.values()) == [ota]
    there = left()
    fails(OTAError.IN_PROGRESS, https_ota.update, firmware())
    https_ota.update(Stream(b"x" * 5000), partition="vfs")
    assert set(there) <= set(left())
    while ota.perform():
        pass
    ota.finish()
    https_ota.update(firmware())
    assert left() == []


def test_who_writes_is_known_to_code_that_was_loaded_anew():
    early = https_ota.OTA(firmware())
    https_ota.update(firmware())
    late = https_ota.OTA(firmware())
    assert type(late) is not type(early)
    early.begin()
    fails(OTAError.IN_PROGRESS, late.begin)
    fails(OTAError.IN_PROGRESS, https_ota.update, firmware())
    early.abort()
    assert https_ota.update(firmware())


def test_one_within_another_gives_nothing_back():
    with work:
        fails(OTAError.NOT_AN_IMAGE, https_ota.update, Stream(b"<html>" * 500))
        assert "ota" in left()
    assert left() == []


def test_beside_aio_all_stays():
    https_ota.aio.abort()
    aio = sys.modules["https_ota.aio"]
    https_ota.update(firmware())
    assert "ota" in left() and sys.modules["https_ota.ota"].OTA in aio.OTA.__bases__
    del sys.modules["https_ota.aio"]
    https_ota.update(firmware())
    assert left() == []


def test_what_was_selected_is_remembered():
    """A second update after deep sleep is fine once this start has selected it, and not when the one before has."""
    data = new_app()
    # By these the slot is used as it is, and selected already.
    known = {"size": len(data), "sha256": sha256(data).digest()}
    cause = machine.reset_cause
    machine.reset_cause = lambda: machine.DEEPSLEEP_RESET
    try:
        kept.clear()
        for _ in range(3):
            assert https_ota.update(firmware(), **known)
            assert left() == []
        kept.clear()
        fails(OTAError.RESET_NEEDED, https_ota.update, firmware(), **known)
    finally:
        machine.reset_cause = cause


def test_no_update_takes_more_than_the_one_before():
    used = [0] * 6
    for i in range(6):
        https_ota.update(firmware())
        gc.collect()
        used[i] = gc.mem_alloc()
    assert used[5] <= used[2], used
