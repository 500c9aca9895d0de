# What people use at the REPL: status(), install(), help().

import io
import os
import sys

import https_ota
import https_ota.repl
import makeimage
from esp32 import Partition
from fakenet import fails, raises
from https_ota.memory import work

# Its print() is replaced here: no update is to forget it.
work.__enter__()


def printed(function, *args):
    """What a function prints."""
    out = io.StringIO()
    namespace = sys.modules["https_ota.repl"].__dict__
    namespace["print"] = lambda *words: print(*words, file=out)
    try:
        function(*args)
    finally:
        del namespace["print"]
    return out.getvalue()


def new_app():
    return makeimage.image(9000, desc=makeimage.descriptor("2.0.0"))


def lines():
    return [line.split() for line in printed(https_ota.status).split("\n")]


def test_status_of_a_fresh_board():
    first, second, end = lines()
    assert first[:6] == ["ota_0", "1536", "KiB", "1.0.0", "VALID", "runs,"], first
    assert first[6:] == ["boots", "next"]
    assert second == ["ota_1", "1536", "KiB", "no", "application"], second
    assert end == []


def test_status_after_an_update_names_what_boots_next():
    https_ota.install(io.BytesIO(new_app()))
    first, second, _ = lines()
    assert first[3:] == ["1.0.0", "VALID", "runs"], first
    assert second[3:] == ["2.0.0", "NEW", "boots", "next,", "at", "machine.reset()"], second


def test_status_of_a_firmware_on_trial_says_that_the_other_boots_next():
    from struct import pack_into

    https_ota.install(io.BytesIO(new_app()))
    data = Partition.find(Partition.TYPE_DATA, subtype=0)[0]
    for sector in (0, 1):
        raw = bytearray(32)
        data.readblocks(sector, raw, 0)
        if raw[24] == https_ota.NEW:
            pack_into("<I", raw, 24, https_ota.PENDING_VERIFY)
            data.ioctl(6, sector)
            data.writeblocks(sector, raw, 0)
    first, second, _ = lines()
    assert first[3:] == ["1.0.0", "VALID", "runs,", "boots", "next"], first
    assert second[3:] == ["2.0.0", "PENDING_VERIFY"], second


def test_status_without_a_record_names_the_first_slot():
    data = Partition.find(Partition.TYPE_DATA, subtype=0)[0]
    for sector in (0, 1):
        data.ioctl(6, sector)
    first, second, _ = lines()
    assert first[3:] == ["1.0.0", "runs,", "boots", "next"], first
    assert second[3:] == ["no", "application"], second


def test_install_takes_a_path():
    path = (os.getenv("TMPDIR") or "") + "/fw.bin"  # a chip has its root
    with open(path, "wb") as f:
        f.write(new_app())
    info = https_ota.install(path)
    assert info.version == "2.0.0"
    assert Partition(Partition.BOOT).info()[4] == "ota_1"


def test_install_checks_as_an_update_does():
    image = bytearray(new_app())
    image[-40] ^= 1
    before = Partition(Partition.BOOT).info()
    fails(https_ota.OTAError.CHECKSUM, https_ota.install, io.BytesIO(image))
    assert Partition(Partition.BOOT).info() == before
    raises(OSError, https_ota.install, "/no/such/file.bin")


def test_install_hands_options_and_urls_to_update():
    e = raises(ValueError, https_ota.install, "http://localhost/fw.bin")
    assert "insecure" in str(e)
    image = new_app()
    seen = []
    https_ota.install(io.BytesIO(image), progress=lambda done, total: seen.append(done))
    assert seen[-1] == len(image)


def wrong(url="https://localhost/", **options):
    return str(raises(TypeError, lambda: https_ota.OTA(url, **options)))


def test_an_unknown_option_is_named():
    for name in ("ca", "CADATA", "timeout", "colour"):
        assert "'%s'" % name in wrong(**{name: 1})


def test_options_for_a_url_are_none_for_a_stream():
    for name in ("timeout_s", "colour"):
        assert name + ": only for a URL" in wrong(io.BytesIO(b""), **{name: 5})


def test_help_names_every_function_there_is():
    text = printed(https_ota.help)
    for name in ("update", "install", "confirm", "rollback", "status", "bar"):
        assert "https_ota." + name in text, name
        assert callable(getattr(https_ota, name))
    assert "cadata" in text
