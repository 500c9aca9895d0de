# policy.py: which images are wanted.

from esp32 import NVS
from fakenet import fails
from https_ota import OTA, OTAError, confirm, newer_only, running_info, same_project
from https_ota.flash import nvs
from https_ota.boot import version as policy
from https_ota.boot.accept import raise_floor, wanted
from https_ota.boot.version import version_key
from https_ota.flash.slot import Slot
from makeimage import Stream, descriptor, image


class Info:
    """What the checks look at."""

    def __init__(self, version="1.0.0", project_name="test", secure_version=0):
        self.version = version
        self.project_name = project_name
        self.secure_version = secure_version


def running(**fields):
    """Let this be what runs."""
    policy.running_info = lambda: Info(**fields)


def firmware(**fields):
    own = running_info()
    desc = descriptor(**fields)
    return image(9000, chip_id=own.chip_id, spi_mode=own.spi_mode, desc=desc)


def forget():
    try:
        NVS("https_ota").erase_key("floor")
    except OSError:
        pass


# -- versions


def test_versions_in_order():
    order = (
        "0.9",
        "1-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0rc1",
        "1.0",
        "v1.0-3-gabc123",
        "1.0-12-g0000001-dirty",
        "1.0.1",
        "1.2",
        "v1.10.0",
        "2",
        "10.0",
    )
    keys = [version_key(v) for v in order]
    for i in range(1, len(keys)):
        assert keys[i - 1] < keys[i], (order[i - 1], order[i])


def test_versions_that_are_equal():
    for a, b in (("1", "v1.0.0"), ("1.2.3+build5", "1.2.3"), ("1.0-dirty", "1.0"), ("0", "0.0")):
        assert version_key(a) == version_key(b), (a, b)


def test_no_version():
    for text in ("", "v", "latest", "-1", "+5"):
        assert "got %r" % text.split("+")[0].replace("v", "") in fails(
            OTAError.VERSION, version_key, text
        )


def test_newer_only():
    running(version="1.9.0")
    assert newer_only(Info("1.10.0")) is True
    assert newer_only(Info("v1.9")) is False
    detail = fails(OTAError.VERSION, newer_only, Info("1.8.9"))
    assert detail == "the image has version 1.8.9, this board runs the later 1.9.0"
    assert "the image: expected a version" in fails(OTAError.VERSION, newer_only, Info(""))
    running(version="")
    assert "this firmware: expected a version" in fails(OTAError.VERSION, newer_only, Info("1"))


def test_same_project():
    running(project_name="lamp")
    assert same_project(Info(project_name="lamp")) is None
    for other in ("", "lamp2"):
        assert repr(other) in fails(OTAError.PROJECT, same_project, Info(project_name=other))


# -- in a session


def begin(data, **options):
    ota = OTA(Stream(data), **options)
    return ota, ota.begin()


def test_check_sees_the_image_before_anything_is_erased():
    seen = []
    ota, info = begin(firmware(version="7"), check=seen.append)
    assert seen == [info] and info.version == "7"
    ota.abort()


def test_check_that_says_no():
    for answer in (False, 0, ""):
        ota, info = begin(firmware(), check=lambda info, answer=answer: answer)
        assert info is None
        assert ota.info is not None
        fails(OTAError.STATE, ota.perform)


def test_check_that_raises():
    def check(info):
        raise OTAError(OTAError.VERSION, "not this one")

    assert fails(OTAError.VERSION, begin, firmware(), check=check) == "not this one"


def test_several_checks():
    calls = []

    def no(info):
        calls.append("no")
        return False

    _, info = begin(firmware(), check=[lambda info: True, no, lambda info: calls.append("never")])
    assert info is None and calls == ["no"]


# -- secure version


def test_floor_only_rises():
    forget()
    assert nvs.get_number("floor") == 0
    for value, floor in ((3, 3), (2, 3), (4, 4), (0xFFFFFFFF, 0x3FFFFFFF)):
        raise_floor(value)
        assert nvs.get_number("floor") == floor
    forget()


def test_secure_version_below_the_floor():
    forget()
    raise_floor(2)
    detail = fails(OTAError.SECURE_VERSION, begin, firmware(secure_version=1))
    assert "has secure version 1, this board takes 2 or later" in detail
    begin(firmware(secure_version=2))[0].abort()
    forget()


def test_secure_version_below_the_running_one():
    forget()
    slot = Slot()
    slot.running_info = lambda: Info(secure_version=5)
    fails(OTAError.SECURE_VERSION, wanted, Info(secure_version=4), slot, ())
    assert wanted(Info(secure_version=5), slot, ())


def test_board_without_nvs_has_the_running_one_for_a_floor():
    def broken(namespace):
        raise OSError(-4354)

    real, nvs.NVS = nvs.NVS, broken
    try:
        assert nvs.get_number("floor") == 0
        assert not raise_floor(3)
    finally:
        nvs.NVS = real


def test_a_floor_that_stands_is_not_stored_again():
    """Nor is one of 0 where nothing can be stored: what became of the last update would go for it."""
    forget()
    assert raise_floor(5)
    real = nvs.NVS

    class Locked:
        def __init__(self, namespace):
            self.get_i32 = real(namespace).get_i32

        def refuse(self, *args):
            raise OSError(-4357)

        set_i32 = set_blob = erase_key = commit = refuse

    nvs.NVS = Locked
    try:
        assert [raise_floor(n) for n in (0, 4, 5, 6)] == [True, True, True, False]
        Locked.__init__ = Locked.refuse
        assert raise_floor(0) and not raise_floor(1)
    finally:
        nvs.NVS = real
    assert nvs.get_number("floor") == 5
    forget()


def test_nothing_to_confirm_leaves_the_floor():
    forget()
    assert confirm() is False
    assert nvs.get_number("floor") == 0
