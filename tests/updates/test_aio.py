"""Updates beside other tasks of asyncio. What servers do wrong is in test_faults.py, for these too."""

import encfiles
import images
import pytest
import servers
import zoo
from board import PENDING_VERIFY, make_board
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from faults import FaultServer, cut
from proxy import Proxy

from https_ota_tools import keys as key_files
from https_ota_tools import sbv2

START = """
import asyncio, gc, os, time, https_ota
from https_ota import aio, events

files_before = len(os.listdir("/proc/self/fd"))
async def cancel(task):
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled", len(os.listdir("/proc/self/fd")) - files_before)
"""


@pytest.mark.parametrize("request_size", [None, 0, 1000, 8192])
def test_update(tmp_path, root, www, nginx, request_size):
    build = "sim-tls4k" if request_size in (None, 1000) else "sim"
    board = make_board(tmp_path, root, build)
    board.update(nginx.url("app.bin"), aio=True, request_size=request_size)
    image = (www / "app.bin").read_bytes()
    assert board.flash.read_bytes()[0x190000:][: len(image)] == image
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


@pytest.mark.parametrize("entry", zoo.ZOO, ids=lambda e: e.name)
def test_servers(tmp_path, entry):
    image = images.app_image(size=70_000, version="2.0.0", seed=2)
    ca, identity = zoo.chain("ec")
    board = make_board(tmp_path, ca, "sim")
    with entry.start(zoo.make_folder(tmp_path, image), identity) as server:
        board.update(server.url("app.bin"), aio=True, timeout_s=entry.timeout_s)
    assert board.running().version == "2.0.0"


def test_signed_and_encrypted_over_a_slow_link(tmp_path, root, www, keys):
    board = make_board(tmp_path, root, "sim-tls4k")
    private = key_files.load_private(keys.private("p256"))
    image = sbv2.sign((www / "app.bin").read_bytes(), [private])
    public = load_pem_public_key(keys.public("rsa").read_bytes())
    (www / "app.bin").write_bytes(encfiles.write(image, public))
    with servers.Nginx(www, root.server()) as nginx, Proxy(nginx, rtt_s=0.02) as link:
        board.run(
            f"{START}\nasyncio.run(aio.update({link.url('app.bin')!r}, cadata=open('ca.pem').read(),"
            f" decrypt={keys.opener('rsa')}, trusted_keys={keys.digests['p256']!r}))"
        )
    assert board.flash.read_bytes()[0x190000:][: len(image)] == image


def test_certificates_are_refused_in_the_same_words(any_board, www, root):
    for identity, options in (
        (root.server("updates.example"), {}),
        (root.server(days=(-30, -1)), {}),
        (zoo.certs.root().server(), {}),
        (root.server(), {"pin": "00" * 32}),
    ):
        with servers.Nginx(www, identity) as server:
            url = server.url("app.bin")
            assert any_board.refuse(url, aio=True, **options) == any_board.refuse(url, **options)
            assert not server.requests()


def test_nobody_listens(board, nginx):
    url = nginx.url("app.bin")
    nginx.stop()
    assert board.refuse(url, aio=True) == board.refuse(url)


def test_handshake_that_stalls(board, root):
    """The server says nothing: given up after the time for it, three more tries, and no longer."""
    with servers.ScriptServer(None, *[servers.Peer.stall] * 4) as server:
        url = server.url("app.bin").replace("http:", "https:")
        message = board.refuse(url, aio=True, timeout_s=0.2)
    assert "ETIMEDOUT" in message


def test_events(board, nginx, www):
    said = board.run(f"""{START}
import https_ota.events
names = {{v: k for k, v in https_ota.events.__dict__.items() if k[0] != "_"}}
async def main():
    async for event, value in aio.OTA({nginx.url("app.bin")!r}, cadata=open("ca.pem").read()):
        print(names[event], value)
asyncio.run(main())
""")
    size = (www / "app.bin").stat().st_size
    lines = said.splitlines()
    assert lines[:2] == ["START None", "CONNECTED 200"]
    assert lines[2].startswith("GET_IMG_DESC <test 2.0.0")
    written = [int(s.split()[1]) for s in lines if s.startswith("WRITE_FLASH")]
    assert written == [*range(4096, size, 4096), size]
    assert lines[3:5] == ["VERIFY_CHIP_ID 5", "VERIFY_CHIP_REVISION 0"]
    assert lines[-2:] == ["UPDATE_BOOT_PARTITION ota_1", "FINISH True"]


def test_refusal_is_raised_here_too(board, nginx):
    """It ran, nobody confirmed it, the board went back."""
    url = nginx.url("app.bin")
    board.update(url)
    assert [board.running().version for _ in range(2)] == ["2.0.0", "1.0.0"]
    message = board.fail(f"""{START}
async def main():
    async for event, value in aio.OTA({url!r}, cadata=open("ca.pem").read()):
        pass
asyncio.run(main())
""")
    assert message.startswith("OTAError: FAILED_BEFORE: ")


CANCEL = """
far = 0
def progress(done, total):
    global far
    far = done
async def main():
    update = aio.update({url!r}, insecure=True, request_size={size}, progress=progress)
    task = asyncio.create_task(update)
    while far < 200_000:
        await asyncio.sleep_ms(0)
    await cancel(task)
asyncio.run(main())
"""


@pytest.mark.parametrize("size", [0, 4096])
def test_cancelled_task_closes_all_and_keeps_the_record(board, size):
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(large, {}) as server:
        url = server.url("app.bin")
        said = board.run(START + CANCEL.format(url=url, size=size))
        assert said == "cancelled 0\n"
        board.update(url, cadata=None, insecure=True, request_size=size, aio=True)
        first = 2 if size == 0 else 200_000 // 4096 + 2
        assert any(b"Range: bytes=196608-" in r for r in server.requests[first - 1 :])
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("where", ["connect", "head", "body"])
def test_cancelled_while_it_waits(board, where):
    faults = {
        "connect": {},
        "head": {1: cut(0, "stall")},
        "body": {1: cut(20_000, "stall")},
    }[where]
    data = images.app_image(size=60_000, version="2.0.0", seed=8)
    script = (servers.Peer.stall,)
    with FaultServer(data, faults) as plain, servers.ScriptServer(None, *script) as silent:
        url = plain.url("app.bin")
        if where == "connect":
            url = silent.url("app.bin").replace("http:", "https:")
        said = board.run(f"""{START}
async def main():
    task = asyncio.create_task(aio.update({url!r}, insecure=True))
    await asyncio.sleep_ms(300)
    await cancel(task)
asyncio.run(main())
""")
    assert said == "cancelled 0\n"
    assert board.running().version == "1.0.0"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancelled_in_the_moment_in_which_a_wait_ends(board, scheme):
    """The loop was held meanwhile: the end of the wait, the network and the one who cancels are all due at once."""
    script = (servers.Peer.stall,) * 20
    with servers.ScriptServer(None, *script) as silent:
        url = silent.url("app.bin").replace("http", scheme)
        said = board.run(f"""{START}
async def main():
    for turns in range(8):
        task = asyncio.create_task(aio.update({url!r}, insecure=True))
        await asyncio.sleep_ms(60)
        time.sleep_ms(300)
        for _ in range(turns):
            await asyncio.sleep_ms(0)
        if task.done():
            await task
        await cancel(task)
asyncio.run(main())
""")
    assert said == "cancelled 0\n" * 8


@pytest.mark.parametrize("how", ["update", "with", "for"])
def test_what_ctrl_c_leaves_can_be_ended(board, how):
    """It ends asyncio.run() where it is, without a word to the tasks that wait."""
    start = {
        "update": "    await aio.update(url, insecure=True, wlan=wlan)",
        "with": "    async with aio.OTA(url, insecure=True, wlan=wlan) as ota: await ota.begin()",
        "for": "    async for e in aio.OTA(url, insecure=True, wlan=wlan): pass",
    }[how]
    with servers.ScriptServer(None, servers.Peer.stall) as silent:
        said = board.run(f"""{START}
import network
wlan = network.WLAN(network.STA_IF)
url = {silent.url("app.bin")!r}
before = len(os.listdir("/proc/self/fd")), wlan.config("pm")
async def work():
{start}
async def main():
    task = asyncio.create_task(work())
    await asyncio.sleep_ms(300)
    raise KeyboardInterrupt
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", wlan.config("pm") == wlan.PM_NONE)
    aio.abort()
    print((len(os.listdir("/proc/self/fd")), wlan.config("pm")) == before, len(aio._open))
    aio.abort()
""")
    assert said == "interrupted True\nTrue 0\n"


TICKER = """
worst = {{}}
now_in = "begin"
async def ticker():
    last = time.ticks_ms()
    while True:
        await asyncio.sleep_ms(10)
        now = time.ticks_ms()
        worst[now_in] = max(worst.get(now_in, 0), time.ticks_diff(now, last) - 10)
        last = now
async def main():
    global now_in
    task = asyncio.create_task(ticker())
    await asyncio.sleep_ms(30)
    async with aio.OTA({url!r}, cadata=open("ca.pem").read()) as ota:
        await ota.begin()
        now_in = "perform"
        await asyncio.sleep_ms(20)
        while await ota.perform():
            pass
        now_in = "finish"
        await ota.finish()
        await asyncio.sleep_ms(20)
asyncio.run(main())
print(worst["begin"], worst["perform"], worst["finish"])
"""


@pytest.mark.quiet
@pytest.mark.parametrize("build", ["sim", "sim-tls4k"])
def test_other_tasks_go_on(tmp_path, root, www, nginx, capsys, build):
    """A task that wants to run every 10 ms waits no longer than a sector takes: 56 ms by the model of the flash.

    This machine may be busy with other things: the best of three counts, and half a sector is allowed for it.
    """
    board = make_board(tmp_path, root, build)
    start = board.flash.read_bytes()
    gaps = []
    for _ in range(3):
        board.flash.write_bytes(start)
        said = board.run(START + TICKER.format(url=nginx.url("app.bin")), SIM_FLASH_REALTIME="1")
        gaps.append([int(n) for n in said.split()])
    best = [min(column) for column in zip(*gaps, strict=True)]
    with capsys.disabled():
        print(f"\n{build}: worst gaps of a 10 ms ticker in begin, perform, finish: {best} ms")
    assert best[1] < 56 + 28
