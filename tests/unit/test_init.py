# The package itself: what it offers, and what it loads for that.

import sys

import https_ota
from fakenet import raises

AT_BOOT = ["https_ota", "https_ota.boot", "https_ota.boot.confirm"]
AT_BOOT += ["https_ota.flash", "https_ota.flash.otadata"]


# Names of modules, for who wants what else is in them.
MODULES = ("aio", "data", "encrypted", "events", "ota", "release", "sign")


def loaded_by(function):
    """Modules of the package that are loaded once it has been imported anew and handed to a function."""
    before = {name: sys.modules[name] for name in sys.modules if name.startswith("https_ota")}
    for name in before:
        del sys.modules[name]
    try:
        function(__import__("https_ota"))
        return sorted(name for name in sys.modules if name.startswith("https_ota"))
    finally:
        sys.modules.update(before)


def test_import_loads_only_what_each_boot_needs():
    assert loaded_by(lambda package: None) == AT_BOOT


def test_confirming_loads_nothing_more():
    assert loaded_by(lambda package: (package.state(), package.confirm())) == AT_BOOT


def names():
    """(module, name) of all that the package offers."""
    return [(home, name) for home, *rest in tables() for name in rest]


def tables():
    text = loaded_names()._NAMES
    return [group.replace("*", "").split() for group in text.split("|") if group]


def loaded_names():
    """The module with the names, which is not kept among the others."""
    found = __import__("https_ota.names", None, None, ("find",))
    del sys.modules["https_ota.names"]
    return found


def test_each_name_is_there():
    for home, name in names():
        value = getattr(https_ota, name)
        if name == "OTAError":
            assert value is sys.modules["https_ota.errors"].OTAError
        elif name not in MODULES:
            assert callable(value), name


def test_each_name_is_what_its_module_has_once_that_is_loaded():
    for home, name in names():
        module = __import__("https_ota." + home, None, None, ("_",))
        found = getattr(https_ota, name)
        getattr(found, "__name__", None)  # what stands in is loaded now
        whole = module if name in MODULES else getattr(module, name)
        assert getattr(https_ota, name) is whole, name


def test_each_name_is_loaded_once():
    first = https_ota.OTAError
    assert "OTAError" in https_ota.__dict__
    assert https_ota.OTAError is first


# What the REPL asks for loads nothing. dir() and TAB ask for each name that the interpreter knows.


def everything(package):
    """Let the interpreter know all names."""
    for group in tables():
        for name in group:
            hasattr(object(), name)


def test_dir_loads_nothing():
    def ask(package):
        everything(package)
        listed = dir(package)
        for name in ("update", "OTA", "OTAError", "status", "aio", "confirm", "VALID"):
            assert name in listed, name
        # And once more, after which all is as before.
        assert dir(package) == listed

    assert loaded_by(ask) == AT_BOOT


def test_dir_and_then_an_error_to_catch():
    def ask(package):
        everything(package)
        for _ in range(3):
            dir(package)
        try:
            raise package.OTAError(package.OTAError.STATE, "x")
        except package.OTAError as e:
            assert e.code == 1

    assert loaded_by(ask) == AT_BOOT[:3] + ["https_ota.errors"] + AT_BOOT[3:]


def test_help_loads_nothing():
    assert loaded_by(help) == AT_BOOT


def test_asking_whether_a_name_is_there_loads_nothing():
    offered = names()

    def ask(package):
        for home, name in offered:
            if name != "OTAError":
                assert hasattr(package, name)

    assert loaded_by(ask) == AT_BOOT


def test_what_stands_in_does_its_work():
    def use(package):
        update, aio, events, OTA = package.update, package.aio, package.events, package.OTA
        assert events.WRITE_FLASH == 6
        assert callable(aio.update)
        raises(TypeError, update)
        assert "'cafile'" in raises(TypeError, OTA, "https://h/", cafile="x").args[0]
        package.aio.something = 5
        assert sys.modules["https_ota.aio"].something == 5
        # Once it is there it is the real thing.
        assert package.OTA is sys.modules["https_ota.ota"].OTA
        assert package.events is sys.modules["https_ota.events"]
        assert package.ImageInfo is sys.modules["https_ota.flash.info"].ImageInfo
        assert isinstance(package.running_info(), package.ImageInfo)

    loaded_by(use)


def test_confirm_stays_a_function():
    for home, name in names():
        getattr(https_ota, name)
    assert (
        callable(https_ota.confirm) and callable(https_ota.rollback) and callable(https_ota.state)
    )
    assert https_ota.confirm() in (True, False)


def test_states_are_those_of_the_bootloader():
    names = ("NEW", "PENDING_VERIFY", "VALID", "INVALID", "ABORTED", "UNDEFINED")
    assert [getattr(https_ota, n) for n in names] == [0, 1, 2, 3, 4, -1]


def test_unknown_name():
    e = raises(AttributeError, getattr, https_ota, "nonsense")
    assert "nonsense" in str(e)
    for name in ("nonsense", "", " ", "|", "OTAE", "TAErr", "_NAMES"):
        assert not hasattr(https_ota, name), name


def test_modules_can_be_imported_from_the_package():
    from https_ota.net import download
    from https_ota.flash import image

    assert download.Download and image.Checker


def test_version_has_three_numbers():
    assert [n.isdigit() for n in https_ota.__version__.split(".")] == [True] * 3
