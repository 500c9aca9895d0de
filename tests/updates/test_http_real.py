"""HTTP as real servers speak it, and the ends that an update can come to."""

import images
import pytest
import servers
from board import PENDING_VERIFY


def test_slot_holds_what_the_server_has(any_board, www, nginx):
    any_board.update(nginx.url("app.bin"))
    image = (www / "app.bin").read_bytes()
    flash = any_board.flash.read_bytes()
    assert flash[0x190000 : 0x190000 + len(image)] == image
    rest = -len(image) % 4096
    assert flash[0x190000 + len(image) :][:rest] == b"\xff" * rest


def test_server_without_ranges(board, www, root):
    """request_size is asked for, the whole file comes."""
    with servers.Nginx(www, root.server(), lines=servers.NO_RANGES) as server:
        board.update(server.url("app.bin"), request_size=4096)
        assert [r.status for r in server.requests()] == [200]
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


@pytest.mark.parametrize("size", [None, 0, 1000, 4096, 70_000, 1_000_000])
def test_request_sizes(board, nginx, size):
    board.update(nginx.url("app.bin"), request_size=size)
    assert board.running().version == "2.0.0"


def test_server_that_closes_after_each_response(any_board, www, root):
    with servers.Nginx(www, root.server(), lines="keepalive_timeout 0;") as server:
        any_board.update(server.url("app.bin"), request_size=3000)
        requests = server.requests()
    assert len({r.connection for r in requests}) == len(requests) == -(-69_984 // 3000)


def test_server_that_closes_every_third_time(any_board, www, root):
    with servers.Nginx(www, root.server(), lines="keepalive_requests 3;") as server:
        any_board.update(server.url("app.bin"), request_size=3000)


@pytest.mark.parametrize("status", [400, 403, 404, 410, 418, 500, 503, 599])
def test_error_statuses(board, www, root, status):
    with servers.Nginx(
        www, root.server(), locations={"/": f"return {status} 'so sorry';"}
    ) as server:
        message = board.refuse(server.url("app.bin?token=secret"), stall_s=0)
    where = server.url("app.bin")
    assert message == f"OTAError: HTTP_STATUS: {where} answered {status}: so sorry"


@pytest.mark.parametrize("status", [204, 304])
def test_nothing_new(any_board, www, root, status):
    before = any_board.boots_from()
    with servers.Nginx(www, root.server(), locations={"/": f"return {status};"}) as server:
        assert any_board.update(server.url("app.bin")) == "None\n"
    assert any_board.boots_from() == before


def test_redirect_loop(any_board, www, root):
    with servers.Nginx(www, root.server(), locations={"/": "return 302 /again;"}) as server:
        message = any_board.refuse(server.url("app.bin"))
        assert len(server.requests()) == 6
    assert message == "OTAError: REDIRECT: more than 5 redirects"


def test_redirect_to_plain_http(board, www, root):
    with servers.Nginx(www) as plain:
        away = {"/": f"return 302 {plain.url('app.bin')};"}
        with servers.Nginx(www, root.server(), locations=away) as server:
            message = board.refuse(server.url("app.bin"))
        assert not plain.requests()
    assert message == "OTAError: REDIRECT: refused to go from https to http://localhost"


def test_long_location(board, www, root):
    """A presigned URL as stores of release files make them."""
    target = "/app.bin?" + "x" * 1800
    away = {"= /start": f'return 302 "{target}";'}
    with servers.Nginx(
        www, root.server(), locations=away, lines="large_client_header_buffers 4 8k;"
    ) as server:
        board.update(server.url("start"))
        assert server.requests()[-1].path == target


def test_web_page_in_place_of_an_image(any_board, www, nginx):
    (www / "app.bin").write_text("<!DOCTYPE html><title>Log in</title>" + " " * 1000)
    message = any_board.refuse(nginx.url("app.bin"))
    expected = (
        "OTAError: NOT_AN_IMAGE: expected an application image, got a web page: <!DOCTYPE html>"
    )
    assert message.startswith(expected)


def test_combined_image(any_board, www, nginx):
    table = (any_board.flash.read_bytes())[0x8000:0x8C00]
    (www / "app.bin").write_bytes(images.combined_image(images.app_image(), table))
    message = any_board.refuse(nginx.url("app.bin"))
    assert message.startswith("OTAError: WRONG_FILE: expected an application image, got ")
    assert "combined" in message


def test_image_larger_than_the_slot(any_board, www, nginx):
    (www / "app.bin").write_bytes(images.app_image(size=0x180000 + 4096))
    message = any_board.refuse(nginx.url("app.bin"))
    size = (www / "app.bin").stat().st_size
    assert message == f"OTAError: TOO_BIG: the image has {size} bytes, slot ota_1 only 1572864"


def test_refused_before_the_first_erase(any_board, www, nginx):
    """What can be seen in the header costs the slot nothing."""
    slot = any_board.flash.read_bytes()[0x190000:0x310000]
    (www / "app.bin").write_bytes(images.app_image(chip_id=9))
    any_board.refuse(nginx.url("app.bin"))
    assert any_board.flash.read_bytes()[0x190000:0x310000] == slot


def test_on_trial_nothing_is_overwritten(any_board, nginx):
    any_board.update(nginx.url("app.bin"))
    code = f"import https_ota; https_ota.update({nginx.url('app.bin')!r}, cadata=open('ca.pem').read())"
    before = any_board.flash.read_bytes()[0x10000:0x190000]
    message = any_board.fail(code)
    assert message.startswith("OTAError: PENDING_VERIFY: the running firmware is itself on trial")
    assert any_board.flash.read_bytes()[0x10000:0x190000] == before


def test_steps(board, nginx):
    """The C component's verbs, and what can be asked in between."""
    out = board.run(
        f"""
import https_ota
with https_ota.OTA({nginx.url("app.bin")!r}, cadata=open("ca.pem").read()) as ota:
    info = ota.begin()
    print(info.version, info.project_name, info.chip, info.size, ota.slot)
    print(ota.status_code, ota.image_size, ota.image_len_read, ota.is_complete_data_received())
    n = 1
    while ota.perform():
        n += 1
    print(n, ota.image_len_read, ota.is_complete_data_received())
    ota.finish()
"""
    )
    first, begun, done = out.splitlines()
    assert first == "2.0.0 test ESP32-C3 70000 ota_1"
    status, size, read, complete = begun.split()
    assert (status, size, complete) == ("200", "70000", "False")
    assert 288 <= int(read) <= 4096  # as much as has come with the head
    assert done == "18 70000 True"
    assert board.running().slot == "ota_1"


@pytest.mark.parametrize("sectors", [0, 1, 5, 18])
def test_abort_anywhere(any_board, nginx, sectors):
    before = any_board.boots_from()
    any_board.run(
        f"""
import https_ota
ota = https_ota.OTA({nginx.url("app.bin")!r}, cadata=open("ca.pem").read())
ota.begin()
for _ in range({sectors}):
    ota.perform()
ota.abort()
try:
    ota.finish()
except https_ota.OTAError as e:
    assert e.code == https_ota.OTAError.STATE, e
else:
    assert False
"""
    )
    assert any_board.boots_from() == before
    assert any_board.running().version == "1.0.0"


def test_hook_sees_each_request(board, www, root):
    need = {"/": 'if ($http_x_token !~ "^t[0-9]+$") { return 403; }'}
    with servers.Nginx(www, root.server(), locations=need) as server:
        out = board.run(
            f"""
import https_ota
n = 0
def hook(request):
    global n
    n += 1
    request.headers["X-Token"] = "t%d" % n
https_ota.update({server.url("app.bin")!r}, cadata=open("ca.pem").read(), http_hook=hook, request_size=10000)
print(n)
"""
        )
    assert out == "9\n"  # 8192 bytes each: above 4096, whole sectors


def test_second_update_of_the_same_image_writes_nothing(any_board, nginx):
    code = f"""
import https_ota, simboard
https_ota.update({nginx.url("app.bin")!r}, cadata=open("ca.pem").read())
simboard.reset_counters()
https_ota.update({nginx.url("app.bin")!r}, cadata=open("ca.pem").read())
print(simboard.counters()[0])
"""
    # otadata alone: the slot's record away, and back.
    assert int(any_board.run(code)) <= 2
