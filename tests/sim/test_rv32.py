"""The package on bare metal: the ESP32-C3's instruction set, a heap of its size, a real serial REPL."""

import ast

import images
import pytest
import rv32
import simflash
from built import ROOT

UNIT = ROOT / "tests" / "unit"
OTADATA, OTA_0, OTA_1 = 0xD000, 0x10000, 0x190000

# All of tests/unit runs here but what begins with one of these. The times are QEMU's.
LEFT_OUT = {
    "test_alike.test_one_byte_is_another": "10 s of heads; test_one_line_is_another remains",
    "test_alike.test_random_bytes_": "15 s of the same",
    "test_sim_": "the SIM board's own; its modules are this board's, too, without power cuts and watchdog",
    "test_ec.test_random_": "45 s of arithmetic in Python; test_small_multiples and the signatures remain",
    "test_ec.test_runs_of_ones": "10 s of the same",
    "test_ec.test_sums_of_terms_": "25 s of the same",
    "test_release.test_order_of_release_and_serial": "minutes of NVS in Python",
    "test_trust.test_chain_and_key_in_one_text": "mbedTLS reads a chain as PEM alone, which is not built in here",
    "test_way_back.": "thousands of updates: minutes on the SIM board already",
}

# What MicroPython says, and the package.
WANT_OF_MEMORY = (
    "MemoryError: memory allocation failed, allocating ",
    "MEMORY: the heap has ",
    "MEMORY: it was compressed with a window of ",
)


def unit_tests():
    for path in sorted(UNIT.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                name = f"{path.stem}.{node.name}"
                if not name.startswith(tuple(LEFT_OUT)):
                    yield name


@pytest.fixture(scope="module")
def flash(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flash")
    return simflash.make_flash(folder / "flash.bin").read_bytes()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, flash):
    """One machine, whose flash each test may change."""
    with rv32.Machine(tmp_path_factory.mktemp("rv32"), flash) as machine:
        yield machine


@pytest.fixture
def machine(shared):
    """A machine as new."""
    shared.restore_flash()
    shared.run("")
    return shared


# -- the unit tests


@pytest.fixture(scope="module")
def unit_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rom")
    for path in UNIT.glob("*.py"):
        if path.name != "conftest.py":
            rv32.compile_to(folder, path)
    # There is none here; fakenet.py puts its own in the place.
    (folder / "socket.py").touch()
    return folder


@pytest.fixture(scope="module")
def roomy(tmp_path_factory, flash):
    """A machine with a large heap."""
    with rv32.Machine(tmp_path_factory.mktemp("roomy"), flash, rv32.ALL_HEAP) as machine:
        yield machine


@pytest.mark.parametrize("name", list(unit_tests()))
def test_unit(name, unit_folder, request):
    module, _, function = name.partition(".")
    # A test whose own data (whole images, tables of numbers) are too much for a chip is run once more.
    for fixture in ("shared", "roomy"):
        machine = request.getfixturevalue(fixture)
        machine.restore_flash()
        try:
            printed = machine.run(
                machine.insert_rom(unit_folder)
                + f"import runner, {module}\nprint(runner.run({module}, {function!r}))",
                timeout_s=140,
            )
        except AssertionError as e:  # the module itself does not fit
            printed = str(e)
        if printed.endswith("\n(1, 0, 0)\n"):
            return
        if printed.endswith("\n(0, 0, 1)\n"):
            pytest.skip(printed)
        if not any(words in printed for words in WANT_OF_MEMORY):
            break
    pytest.fail(printed, pytrace=False)


# -- updates, the image coming over the serial line


@pytest.fixture(scope="module")
def new_app():
    return images.app_image(size=24_000, version="2.0.0", seed=2)


@pytest.fixture
def folder(tmp_path, new_app):
    (tmp_path / "app.bin").write_bytes(new_app)
    return tmp_path


UPDATE = """
import https_ota
with open("/remote/app.bin", "rb") as f:
    try:
        print(https_ota.update(f))
    except https_ota.OTAError as e:
        print("OTAError", e.code, e)
"""
RUNNING = """
import https_ota, esp32
print(https_ota.running_info().version, esp32.Partition(1).info()[4], https_ota.state())
"""


def test_update_from_a_file(machine, folder, new_app):
    printed = machine.mpremote("mount", folder, "exec", UPDATE)
    assert "<test 2.0.0 for ESP32-C3" in printed
    assert machine.flash(OTA_1, len(new_app)) == new_app
    assert machine.mpremote("exec", RUNNING).split() == ["1.0.0", "ota_0", "2"]
    starts = machine.starts
    machine.mpremote("reset")
    machine.wait_for_start(starts)
    assert machine.mpremote("exec", RUNNING).split() == ["2.0.0", "ota_1", "1"]
    machine.mpremote("exec", "import https_ota; assert https_ota.confirm()")
    machine.power_cycle()
    assert machine.mpremote("exec", RUNNING).split() == ["2.0.0", "ota_1", "2"]


def test_unconfirmed_update_is_rolled_back(machine, folder):
    machine.run(UPDATE, mount=folder)
    machine.power_cycle()
    assert machine.run(RUNNING).split() == ["2.0.0", "ota_1", "1"]
    machine.power_cycle()
    assert machine.run(RUNNING).split() == ["1.0.0", "ota_0", "2"]


@pytest.mark.parametrize("what", ["data", "checksum", "chip"])
def test_bad_image_is_refused(machine, folder, new_app, what):
    (folder / "app.bin").write_bytes(images.corrupt(new_app, what))
    before = machine.flash(OTADATA, 0x2000)
    printed = machine.run(UPDATE, mount=folder)
    assert printed.startswith("OTAError "), printed
    assert machine.flash(OTADATA, 0x2000) == before
    machine.power_cycle()
    assert machine.run(RUNNING).split() == ["1.0.0", "ota_0", "2"]


def test_update_needs_no_network(machine, folder):
    with pytest.raises(AssertionError, match="no module named 'socket'"):
        machine.run("import socket")
    printed = machine.run(
        "import https_ota.memory\nwith https_ota.memory.work:\n    "
        + UPDATE.strip().replace("\n", "\n    ")
        + "\n    import sys; print(sorted(m for m in sys.modules if m.startswith('https')))",
        mount=folder,
    )
    assert "https_ota.ota" in printed
    assert not {"https_ota.net.http", "https_ota.net.download", "https_ota.net.tls"} & set(
        ast.literal_eval(printed.splitlines()[-1])
    )


# -- memory

# Prints what a session holds, its modules included. The image is read in place, so that the figure is the
# package's alone.
SESSION = """
import gc, micropython, https_ota
source = open("/rom/app.bin", "rb")
gc.collect()
start = gc.mem_alloc()
ota = https_ota.OTA(source)
ota.begin()
ota.perform()
gc.collect()
print(gc.mem_alloc() - start)
micropython.heap_lock()
for _ in range(4):
    ota.perform()
micropython.heap_unlock()
while ota.perform():
    pass
ota.finish()
"""


# Measured: 18064 bytes. The four sectors of its middle are written with the heap locked.
def test_memory_of_a_session(machine, folder, new_app):
    held = int(machine.run(machine.insert_rom(folder) + SESSION))
    assert machine.flash(OTA_1, len(new_app)) == new_app
    assert held <= 18_200


# Measured: 63 KiB, of which 44 KB are free after the start, and some go to the board's own NVS.
def test_small_heap(tmp_path_factory, flash, folder, new_app):
    with rv32.Machine(tmp_path_factory.mktemp("small"), flash, 72 << 10) as machine:
        machine.run(machine.insert_rom(folder) + SESSION)
        assert machine.flash(OTA_1, len(new_app)) == new_app


# -- mpremote, and what is compiled on the board


def test_files_come_and_go(machine, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.platform, sum(range(10)))\n")
    assert machine.mpremote("run", script) == "qemu 45\n"
    machine.mpremote("cp", script, ":copy.py")
    machine.power_cycle()
    assert machine.mpremote("exec", "import copy") == "qemu 45\n"
    machine.mpremote("cp", ":copy.py", tmp_path / "back.py")
    assert (tmp_path / "back.py").read_bytes() == script.read_bytes()


def test_viper_code_compiled_on_the_board(machine, unit_folder):
    printed = machine.run(
        machine.insert_rom(unit_folder)
        + "import https_ota.hot, runner, test_hot\n"
        + "print(https_ota.hot.__file__)\nprint(runner.run(test_hot)[1:])",
        mount=ROOT / "lib",
    )
    assert printed.startswith("https_ota/hot.py\n"), printed
    assert printed.endswith("\n(0, 0)\n"), printed
