"""Boards that ask again: what is there is not installed again, and nobody writes where another one does."""

import hashlib
import shutil

import images
import pytest
import servers
from board import PENDING_VERIFY, VALID
from faults import FaultServer, chunked
from partitions import CUT, DATA, OFFSETS, board_with_data, content

SLOTS = {"ota_0": (0x10000, 0x100000), "ota_1": (0x110000, 0x100000)}
APP = images.app_image(size=40_000, version="2.0.0", seed=4)
OLD = hashlib.shake_128(b"old").digest(50_001)


@pytest.fixture
def board(tmp_path, root):
    return board_with_data(tmp_path, root)


@pytest.fixture
def server(www):
    (www / "app.bin").write_bytes(APP)
    (www / "data.bin").write_bytes(DATA)
    with servers.Nginx(www) as server:
        yield server


def all_but_nvs(board):
    return board.flash.read_bytes()[0xD000:]


def code(*urls, **options):
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"https_ota.OTA({urls[0]!r}, insecure=True{given})"


def asked(server, since):
    return [request.status for request in server.requests()[since:]]


def test_firmware_and_data_from_two_urls(board, server):
    app = f"import https_ota\nprint(https_ota.update({server.url('app.bin')!r}, insecure=True))"
    data = app.replace("app.bin", "data.bin").replace("True", "True, partition='storage'")
    assert "2.0.0" in board.run(app)
    board.run("import https_ota; https_ota.confirm()")
    assert "storage" in board.run(data)
    before, since = all_but_nvs(board), len(server.requests())
    for _ in range(3):
        assert board.run(app) == board.run(data) == "None\n"
    assert asked(server, since) == [304] * 6
    assert all_but_nvs(board) == before


@pytest.mark.parametrize("staging", [None, True, "romfs_0"])
def test_data_that_is_in_its_place(board, server, staging):
    options = {"cadata": None, "insecure": True, "partition": "storage", "staging": staging}
    text = board.code(server.url("data.bin"), **options)
    assert "storage" in board.run(text)
    # What has become of the staging area is nobody's business.
    flash = bytearray(board.flash.read_bytes())
    flash[OFFSETS["romfs_0"]] ^= 1
    flash[SLOTS["ota_1"][0] + 5000] ^= 1
    board.flash.write_bytes(flash)
    assert board.run(text) == "None\n"
    # But when its place holds something else, it comes again.
    flash[OFFSETS["storage"] + 5000] ^= 1
    board.flash.write_bytes(flash)
    assert "storage" in board.run(text)
    assert content(board, "storage") == DATA
    assert board.run(text) == "None\n"


def test_staged_data_of_unknown_length(board):
    """Only chunks tell where it ends."""
    with FaultServer(DATA, {0: chunked()}) as server:
        options = {"partition": "storage", "staging": True, "cadata": None, "insecure": True}
        text = board.code(server.url("data.bin"), **options)
        assert "storage" in board.run(text)
    assert content(board, "storage") == DATA


# -- a firmware and what belongs to it


def together(server, options=""):
    return (
        "import https_ota\n"
        f"app = {code(server.url('app.bin'))}\n"
        f"romfs = https_ota.OTA({server.url('data.bin')!r}, insecure=True,"
        f" partition=https_ota.beside('romfs'){options})\n"
        "print(https_ota.together(app, romfs))"
    )


@pytest.fixture
def pair(board):
    """The board whose firmware in ota_0 has its ROMFS beside it."""
    flash = bytearray(board.flash.read_bytes())
    flash[OFFSETS["romfs_0"] : OFFSETS["romfs_0"] + len(OLD)] = OLD
    board.flash.write_bytes(flash)
    return board


def test_polls_of_a_firmware_and_its_romfs(pair, server, www):
    text = together(server)
    assert "2.0.0" in pair.run(text)
    assert pair.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
    assert pair.running() == ("1.0.0", "ota_0", VALID)
    # It went back; it is to have another try.
    pair.run(text.replace("insecure=True", "insecure=True, retry_failed=True"))
    since = len(server.requests())
    pair.run("import https_ota; https_ota.confirm()")
    before = all_but_nvs(pair)
    for _ in range(3):
        assert pair.run(text) == "[None, None]\n"
    assert all_but_nvs(pair) == before
    assert content(pair, "romfs_0", len(OLD)) == OLD, "the fallback's"
    assert len(server.requests()) > since
    # A new release comes, of both.
    (www / "app.bin").write_bytes(images.app_image(size=44_000, version="3.0.0", seed=5))
    (www / "data.bin").write_bytes(OLD[::-1])
    assert "3.0.0" in pair.run(text)
    assert pair.running() == ("3.0.0", "ota_0", PENDING_VERIFY)
    assert content(pair, "romfs_0", len(OLD)) == OLD[::-1]
    assert content(pair, "romfs_1") == DATA
    assert pair.running() == ("2.0.0", "ota_1", VALID)


def test_second_poll_before_the_reset(pair, server):
    """In one start of the board: nothing is written, all stays selected."""
    text = together(server)
    pair.run(
        text
        + "\nimport simboard\nsimboard.reset_counters()\n"
        + text.split("\n", 1)[1]
        + "\nassert simboard.counters()[0] <= 1, simboard.counters()"
    )
    assert pair.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
    assert pair.running() == ("1.0.0", "ota_0", VALID)


def test_another_romfs_before_the_reset(pair, server, www, tmp_path):
    """Meanwhile the firmware is not selected: cut anywhere, what starts has a ROMFS that is whole."""
    newer = hashlib.shake_128(b"newer").digest(50_001)
    (www / "newer.bin").write_bytes(newer)
    first = together(server)
    text = first + "\n" + first.partition("\n")[2].replace("data.bin", "newer.bin")
    start = tmp_path / "start.bin"
    shutil.copyfile(pair.flash, start)
    firsts = 0
    for n in range(1, 999, 3):
        shutil.copyfile(start, pair.flash)
        done = pair.start(text, SIM_CUT=str(n))
        firsts += not done.stdout
        running = pair.running()
        if running.slot == "ota_1":
            assert content(pair, "romfs_1") in (DATA, newer), n
        assert content(pair, "romfs_0", len(OLD)) == OLD
        if done.returncode == 0:
            break
        assert done.returncode == CUT, done.stderr
    assert n > 1.3 * firsts * 3
    assert running == ("2.0.0", "ota_1", PENDING_VERIFY) and content(pair, "romfs_1") == newer


# -- one owner


def test_two_sessions_on_one_slot(board, server, tmp_path):
    (tmp_path / "x.bin").write_bytes(APP)
    said = board.run(
        "import https_ota\n"
        f"a, b = {code(server.url('app.bin'))}, https_ota.OTA(open('x.bin', 'rb'))\n"
        "a.begin()\na.perform()\n"
        "try:\n    b.begin()\nexcept https_ota.OTAError as e:\n    print(e)\n"
        "while a.perform(): pass\na.finish()\n"
        "c = https_ota.OTA(open('x.bin', 'rb'))\nprint(c.begin())\nc.abort()\nc.abort()\n"
        "with https_ota.OTA(open('x.bin', 'rb')) as d: print(d.begin())"
    )
    assert said.startswith("IN_PROGRESS: another update writes to ota_1: ")
    assert said.count("<test 2.0.0") == 2
    assert board.running().version == "2.0.0"


def test_two_tasks_on_one_slot(board, server):
    url = server.url("app.bin")
    said = board.run(
        "import asyncio, https_ota\n"
        "async def main():\n"
        f"    both = [https_ota.aio.update({url!r}, insecure=True) for _ in range(2)]\n"
        "    print(await asyncio.gather(*both, return_exceptions=True))\n"
        "asyncio.run(main())"
    )
    assert said.count("IN_PROGRESS") == 1 and said.count("<test 2.0.0") == 1
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize(
    "others",
    [
        ["'storage', staging=True"],
        ["'storage', staging='ota_1'", "'romfs_1', staging='ota_1'"],
        ["'storage'", "'storage'"],
        ["'storage', staging='romfs_1'", "'romfs_1'"],
    ],
)
def test_two_that_need_one_partition(board, server, others):
    """Nothing is written, nothing is fetched."""
    sessions = [
        code(server.url("data.bin")).replace("True", f"True, partition={o}") for o in others
    ]
    if len(others) == 1:
        sessions.append(code(server.url("app.bin")))
    before = all_but_nvs(board)
    for order in (sessions, sessions[::-1]):
        message = board.fail(f"import https_ota\nhttps_ota.together({', '.join(order)})")
        assert message.startswith("OTAError: IN_PROGRESS: "), message
    assert all_but_nvs(board) == before and not server.requests()


def test_staging_in_a_slot_that_starts_next(board, server):
    app = f"import https_ota\nprint(https_ota.update({server.url('app.bin')!r}, insecure=True))\n"
    data = f"https_ota.update({server.url('data.bin')!r}, insecure=True, partition='storage', staging=True)"
    message = board.fail(app + data)
    assert message.startswith("OTAError: PARTITION: ota_1 holds the firmware that starts next")
    assert "https_ota.cancel()" in message
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
    board.running()
    assert "True" in board.run(
        app.replace("True)", "True, retry_failed=True)") + "print(https_ota.cancel())\n" + data
    )
    assert content(board, "storage") == DATA
    assert board.running() == ("1.0.0", "ota_0", VALID)


# -- what failed


def test_every_image_that_failed_is_remembered(board, tmp_path):
    for n in range(4):
        image = images.app_image(size=20_000, version=f"2.1.{n}", seed=20 + n)
        (tmp_path / f"{n}.bin").write_bytes(image)
        board.run(f"import https_ota; https_ota.update(open('{n}.bin', 'rb'))")
        assert board.running().version == f"2.1.{n}"
        assert board.running().version == "1.0.0"
    for n in range(4):
        assert "FAILED_BEFORE" in board.refuse_file(f"{n}.bin")
    # Until another one has proved itself.
    (tmp_path / "good.bin").write_bytes(APP)
    board.run("import https_ota; https_ota.update(open('good.bin', 'rb'))")
    board.run("import https_ota; https_ota.confirm()")
    assert board.running() == ("2.0.0", "ota_1", VALID)
    board.run("import https_ota; https_ota.update(open('0.bin', 'rb'))")
    assert board.running() == ("2.1.0", "ota_0", PENDING_VERIFY)


# -- the floor of the secure version

FULL = """
import esp32
nvs = esp32.NVS("app")
n = 0
try:
    while True:
        nvs.set_blob("%d" % n, bytes(200))
        nvs.commit()
        n += 1
except OSError:
    pass
try:
    while True:
        nvs.set_i32("i%d" % n, n)
        nvs.commit()
        n += 1
except OSError:
    pass
"""
EMPTY = FULL.partition("n = 0")[0] + (
    "for n in range(999):\n"
    "    for key in ('%d' % n, 'i%d' % n):\n"
    "        try: nvs.erase_key(key)\n"
    "        except OSError: pass\n"
    "nvs.commit()"
)


def image_file(folder, secure_version, version):
    image = images.app_image(
        size=20_000, version=version, secure_version=secure_version, seed=secure_version
    )
    (folder / f"{version}.bin").write_bytes(image)
    return f"import https_ota; https_ota.update(open('{version}.bin', 'rb'))"


def back_and_down(board, folder):
    """Go back by hand to the first firmware: it takes nothing below what was confirmed."""
    board.start("import https_ota; https_ota.rollback()", timeout_s=20)
    assert board.running().version == "1.0.0"
    image_file(folder, 2, "1.5.0")
    assert "SECURE_VERSION" in board.refuse_file("1.5.0.bin")


def test_floor_after_a_power_cut_in_confirm(board, tmp_path):
    board.run(image_file(tmp_path, 3, "2.0.0"))
    start = tmp_path / "start.bin"
    shutil.copyfile(board.flash, start)
    for n in range(1, 30):
        shutil.copyfile(start, board.flash)
        done = board.start("import https_ota; https_ota.confirm()", SIM_CUT=str(n))
        state = board.running()
        if state.version == "2.0.0" and state.state == VALID:
            # The application that starts then confirms, or updates, or goes back at once.
            if n % 3 == 0:
                assert board.run("import https_ota; print(https_ota.confirm())") == "False\n"
            elif n % 3 == 1:
                assert (
                    board.run(
                        "import https_ota\n"
                        "with https_ota.OTA(open('2.0.0.bin', 'rb')) as ota: ota.begin()\n"
                        "from https_ota.flash import nvs; print(nvs.get_number('floor'))"
                    )
                    == "3\n"
                )
            back_and_down(board, tmp_path)
        if done.returncode == 0:
            break
    assert n > 3


def test_floor_with_a_full_store(board, tmp_path):
    """Full from the beginning: there is nothing of ours that could make room."""
    board.run(FULL + image_file(tmp_path, 3, "2.0.0"))
    assert board.run(FULL + "import https_ota; print(https_ota.confirm())") == "True\n"
    assert board.running() == ("2.0.0", "ota_1", VALID)
    # Not forgotten in silence, and made up for.
    said = "secure version 3 is not stored yet"
    assert said in board.run("import https_ota; https_ota.status()")
    board.run(EMPTY)
    assert said not in board.run("import https_ota; https_ota.confirm(); https_ota.status()")
    back_and_down(board, tmp_path)


def test_no_way_down_while_the_floor_can_not_be_kept(board, tmp_path):
    """Full when it is confirmed, and still full when one goes back."""
    for before in ("", FULL):
        board.run(EMPTY)
        board.run(
            before + image_file(tmp_path, 3, "2.0.0").replace("'rb')", "'rb'), retry_failed=True")
        )
        assert board.run(FULL + "import https_ota; print(https_ota.confirm())") == "True\n"
        done = board.start("import https_ota; https_ota.rollback()", timeout_s=20)
        if "ROLLBACK: NVS is full" in done.stderr:
            assert board.running() == ("2.0.0", "ota_1", VALID)
            board.run(EMPTY)
        back_and_down(board, tmp_path)


def test_hints_make_room_for_the_floor(board, tmp_path):
    """A store that only our own records have filled."""
    with FaultServer(images.app_image(size=20_000, version="2.0.0", secure_version=3), {}) as s:
        board.update(s.url("app.bin"), cadata=None, insecure=True)
    assert board.run(FULL + "import https_ota; print(https_ota.confirm())") == "True\n"
    assert board.run("from https_ota.flash import nvs; print(nvs.get_number('floor'))") == "3\n"
    back_and_down(board, tmp_path)


# -- waiting for a reset


def test_deep_sleep_starts_nothing_new(board, tmp_path):
    (tmp_path / "new.bin").write_bytes(APP)
    said = board.start(
        "import https_ota, machine\n"
        "ota = lambda: https_ota.update(open('new.bin', 'rb'))\n"
        "digest = " + repr(hashlib.sha256(APP).digest()) + "\n"
        f"known = lambda: https_ota.update(open('new.bin', 'rb'), sha256=digest, size={len(APP)})\n"
        "if machine.reset_cause() != machine.DEEPSLEEP_RESET:\n"
        "    ota(); known()\n"
        "    machine.deepsleep(10)\n"
        "https_ota.status()\n"
        "try:\n    known()\nexcept https_ota.OTAError as e:\n    print(e)\n"
        "print(https_ota.last_result()[0])\n"
    ).stdout.splitlines()
    assert said[1].endswith("boots next, at machine.reset()")
    assert said[2].startswith("RESET_NEEDED: ota_1 was selected before this board slept")
    assert said[-1] == "selected"
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
