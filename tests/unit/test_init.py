# The package itself: what it offers, and what it loads for that.

import sys

import https_ota
from fakenet import raises


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
    assert loaded_by(lambda package: None) == ["https_ota", "https_ota.confirm"]


def test_confirming_loads_nothing_more():
    assert loaded_by(lambda package: (package.state(), package.confirm())) == [
        "https_ota",
        "https_ota.confirm",
    ]


def test_each_name_is_there():
    for name, home in https_ota._HOME.items():
        value = getattr(https_ota, name)
        assert value is getattr(sys.modules["https_ota." + home], name), name


def test_each_name_is_loaded_once():
    first = https_ota.OTAError
    assert "OTAError" in https_ota.__dict__
    assert https_ota.OTAError is first


def test_confirm_stays_a_function():
    for name in https_ota._HOME:
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
    assert not hasattr(https_ota, "nonsense")


def test_modules_can_be_imported_from_the_package():
    from https_ota import download, image

    assert download.Download and image.Checker


def test_version_has_three_numbers():
    assert [n.isdigit() for n in https_ota.__version__.split(".")] == [True] * 3
