"""Limits of time: whoever waits feeds the watchdog and looks at the deadline; what comes is progress."""

import hashlib
import re

import certs
import images
import pytest
import servers
from board import PENDING_VERIFY
from faults import FaultServer, chunked, cut, drip, head, status
from proxy import Proxy

DATA = images.app_image(size=40_000, version="2.0.0", seed=5)
DEADLINE_S = 1
# A busy machine may be late.
SLACK_MS = 2500

# An update whose watchdog bites ends the test: the board starts once.
RUN = """
import asyncio, gc, machine, network, time, https_ota
if machine.reset_cause() == machine.WDT_RESET:
    raise SystemExit("the watchdog bit")
wdt = machine.WDT(timeout={wdt_ms}) if {wdt_ms} else None
wlan = network.WLAN(network.STA_IF)
start = time.ticks_ms()
error = None
try:
    {call}
except Exception as e:
    error = e
took = time.ticks_diff(time.ticks_ms(), start)
assert wlan.config("pm") != wlan.PM_NONE, "power saving was left off"
machine.WDT(timeout=60000)
if {raises}:
    print(took)
if error:
    raise error
"""


def program(url, *, aio=False, wdt_ms=0, raises=False, **options):
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    given += ", cadata=open('ca.pem').read(), wlan=wlan" + ", wdt=wdt" * bool(wdt_ms)
    call = f"https_ota.{'aio.' * aio}update({url!r}{given})"
    call = f"asyncio.run({call})" if aio else call
    return RUN.format(call=call, wdt_ms=wdt_ms, raises=raises)


both = pytest.mark.parametrize("aio", [False, True], ids=["blocking", "asyncio"])


# -- the deadline


def late(board, url, aio, **options):
    """The update ends at its deadline."""
    before = board.boots_from()
    options = {"deadline_s": DEADLINE_S, "wdt_ms": 1500, "aio": aio, "raises": True, **options}
    done = board.start(program(url, **options))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "OTAError: DEADLINE: not done after 1 s" in done.stderr
    assert 1000 <= int(done.stdout) < 1000 + SLACK_MS
    assert board.boots_from() == before


DRIPS = {
    "silent head": cut(0, "stall"),
    "head": drip(0, 0.1),
    "later in the head": drip(40, 0.1),
    "body": drip(300, 0.1),
    "later in the body": drip(12_000, 0.1),
    "silent body": cut(12_000, "stall"),
}


@both
@pytest.mark.parametrize(
    ("where", "request_size"),
    [*((where, 0) for where in DRIPS), ("later in the head", 4096), ("later in the body", 4096)],
)
def test_server_that_drips(board, where, aio, request_size):
    # With ranges the fault comes in the third response.
    faults = {1: DRIPS[where]}
    if request_size:
        faults = {3: drip(1000, 0.1) if "body" in where else DRIPS[where]}
    with FaultServer(DATA, faults) as server:
        late(board, server.url("app.bin"), aio, insecure=True, request_size=request_size)


@both
def test_head_that_never_ends(board, aio):
    def endless(peer, reply):
        peer.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            drip(0, 0.05)(peer, type("", (), {"head": lambda s: b"X-Y: z\r\n", "body": b""})())

    with FaultServer(DATA, {0: endless}) as server:
        late(board, server.url("app.bin"), aio, insecure=True)


@both
def test_interim_responses_without_end(board, aio):
    def endless(peer, reply):
        pause = servers.threading.Event()
        while True:
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            pause.wait(0.05)

    with FaultServer(DATA, {0: endless}) as server:
        late(board, server.url("app.bin"), aio, insecure=True)


@both
def test_chunks_that_drip(board, aio):
    def slow(peer, reply):
        del reply.headers["Content-Length"]
        reply.headers["Transfer-Encoding"] = "chunked"
        peer.send(reply.head())
        pause = servers.threading.Event()
        for i in range(len(reply.body)):
            for part in (b"1;a=b\r", b"\n" + reply.body[i : i + 1], b"\r\n"):
                peer.send(part)
                pause.wait(0.02)

    with FaultServer(DATA, {0: slow}) as server:
        late(board, server.url("app.bin"), aio, insecure=True)


@both
@pytest.mark.parametrize("speed", [20, 2000], ids=["handshake", "record"])
def test_tls_that_drips(board, www, root, aio, speed):
    """Below the record layer: in the handshake, in the first record."""
    with servers.Nginx(www, root.server()) as nginx, Proxy(nginx, bytes_s=speed) as link:
        late(board, link.url("app.bin"), aio)


@both
def test_handshake_that_stalls(board, aio):
    with servers.ScriptServer(None, *[servers.Peer.stall] * 3) as server:
        late(board, server.url("app.bin").replace("http:", "https:"), aio)


@both
@pytest.mark.parametrize("how", ["Retry-After", "nobody there any more"])
def test_pauses(board, aio, how):
    if how == "Retry-After":
        with FaultServer(DATA, {0: status(503, Retry_After="60")}) as server:
            late(board, server.url("app.bin"), aio, insecure=True)
    else:
        # It gives a part, and is not there again.
        with FaultServer(DATA, {1: cut(9000, "reset"), 0: cut(0, "reset")}) as server:
            late(board, server.url("app.bin"), aio, insecure=True)


@both
def test_passing_over_the_beginning_drips(board, aio):
    """The server ignores ranges when the rest is asked for."""

    def again(peer, reply):
        reply.status, reply.body = 200, DATA
        reply.headers = {"ETag": '"v1"', "Content-Length": str(len(DATA))}
        return drip(500, 0.1)(peer, reply)

    with FaultServer(DATA, {1: cut(9000), 2: again}) as server:
        late(board, server.url("app.bin"), aio, insecure=True, request_size=0)


@both
def test_many_redirects_that_drip(board, aio):
    def moved(peer, reply):
        status(302, Location="/x", Content_Length="0")(peer, reply)
        return drip(0, 0.02)(peer, reply)

    with FaultServer(DATA, {0: moved}) as server:
        late(board, server.url("app.bin"), aio, insecure=True)


def test_deadline_of_a_manifest_counts_for_all_that_follows(board):
    """What update_from() needs for the manifest is no longer there for the image."""
    with FaultServer(DATA, {}) as server:

        def slow_manifest(peer, reply):
            reply.body = MANIFEST
            reply.headers["Content-Length"] = str(len(MANIFEST))
            # In two pauses: a busy machine makes many short ones much longer.
            return drip(len(reply.head() + MANIFEST) - 2, 0.3)(peer, reply)

        server.faults = {1: slow_manifest, 0: drip(200, 0.1)}
        code = program(server.url("m.json"), insecure=True, deadline_s=3, raises=True)
        done = board.start(code.replace("https_ota.update(", "https_ota.update_from("))
    left = re.search(r"OTAError: DEADLINE: not done after (\S+) s", done.stderr)
    assert left and float(left[1]) <= 2.4, done.stderr
    assert 3000 <= int(done.stdout) < 3000 + SLACK_MS


MANIFEST = (
    b'{"format": 1, "release": 2, "version": "2.0.0", "expires": "9999-12-31T23:59:59Z", "files":'
    b' [{"chip": "esp32c3", "url": "app.bin", "size": %d, "sha256": "%s"}]}'
    % (len(DATA), hashlib.sha256(DATA).hexdigest().encode())
)


# -- the watchdog, and what is slow and good


def good(board, url, aio, **options):
    """The update gets there, and the watchdog does not bite."""
    board.run(program(url, aio=aio, **options))
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)


@both
def test_records_longer_than_the_timeout(board, www, root, aio):
    """A record of 16 KiB takes 2.7 s, the time for silence is a third of it: more than a busy host is silent."""
    (www / "app.bin").write_bytes(DATA)
    with servers.Nginx(www, root.server()) as nginx, Proxy(nginx, bytes_s=6000) as link:
        good(board, link.url("app.bin"), aio, timeout_s=0.9, wdt_ms=2000)
        assert len(nginx.requests()) == 1


@both
def test_handshake_longer_than_the_timeout(any_board, www, aio):
    """About 3 KB of certificates."""
    ca = certs.root("rsa")
    (www / "app.bin").write_bytes(DATA)
    with (
        servers.Nginx(www, ca.intermediate().server(kind="rsa")) as nginx,
        Proxy(nginx, bytes_s=2000) as link,
    ):
        code = program(link.url("app.bin"), aio=aio, timeout_s=0.4, wdt_ms=1000, raises=True)
        # The handshake is what this is about.
        enough = "error = None\ndef enough(info): raise RuntimeError('enough')"
        code = code.replace("ca.pem", "rsa.pem").replace("error = None", enough, 1)
        code = code.replace(", wlan=wlan", ", wlan=wlan, check=enough")
        (any_board.flash.parent / "rsa.pem").write_bytes(ca.pem)
        done = any_board.start(code)
    assert "RuntimeError: enough" in done.stderr, done.stdout + done.stderr
    assert int(done.stdout) > 1000


@both
def test_head_and_body_that_drip_and_get_there(board, aio):
    small = images.app_image(size=2000, version="2.0.0", seed=5)
    with FaultServer(small, {0: drip(0, 0.001)}) as server:
        good(board, server.url("app.bin"), aio, insecure=True, timeout_s=0.5, wdt_ms=1000)


@both
def test_passing_over_feeds(board, aio):
    """Ranges are ignored, and the connection ends again and again: half a second each time for what is known."""

    def again(peer, reply):
        pause = servers.threading.Event()
        reply.status, reply.body = 200, DATA
        reply.headers = {"ETag": '"v1"', "Content-Length": str(len(DATA))}
        peer.send(reply.head())
        for i in range(0, len(DATA), 400):
            pause.wait(0.02)
            peer.send(DATA[i : i + 400])

    with FaultServer(DATA, {1: cut(38_000), 2: again}) as server:
        good(
            board,
            server.url("app.bin"),
            aio,
            insecure=True,
            request_size=0,
            wdt_ms=1000,
            timeout_s=0.5,
        )
        assert len(server.requests) == 2


@both
def test_watchdog_shorter_than_the_timeout(board, aio):
    """It is fed while nothing comes: each wait is cut in pieces."""

    def late_answer(peer, reply):
        servers.threading.Event().wait(2.5)

    with FaultServer(DATA, {1: late_answer}) as server:
        good(board, server.url("app.bin"), aio, insecure=True, wdt_ms=1000, timeout_s=15)


@both
def test_retry_after_feeds(board, aio):
    with FaultServer(DATA, {1: status(503, Retry_After="2")}) as server:
        good(board, server.url("app.bin"), aio, insecure=True, wdt_ms=1000)


def test_fetch_feeds(board):
    """Its answer begins late, its body drips, and what writes it takes its time."""
    small = DATA[:2500]

    def late_and_slow(peer, reply):
        servers.threading.Event().wait(1.5)
        return drip(100, 0.001)(peer, reply)

    call = "https_ota.fetch({!r}, lambda piece: time.sleep_ms(300), insecure=True, wdt=wdt)"
    with FaultServer(small, {1: late_and_slow}) as server:
        call = call.format(server.url("f"))
        board.run(RUN.format(call=call, wdt_ms=1000, raises=False))


# -- silence and stalls


@both
@pytest.mark.parametrize("where", ["head", "body", "handshake"])
def test_silence_ends(board, aio, where):
    options = {"aio": aio, "timeout_s": 0.3, "stall_s": 1, "wdt_ms": 1000, "raises": True}
    silent = cut(0, "stall")
    faults = {1: cut(9000, "stall") if where == "body" else silent, 0: silent}
    silence = [servers.Peer.stall] * 4
    with FaultServer(DATA, faults) as server, servers.ScriptServer(None, *silence) as other:
        url = server.url("app.bin")
        if where == "handshake":
            url = other.url("app.bin").replace("http:", "https:")
        done = board.start(program(url, insecure=True, **options))
    assert done.returncode == 1 and "OSError: [Errno 110] " in done.stderr, done.stderr
    assert int(done.stdout) < 4 * 300 + 5000


@both
def test_what_drips_and_never_gets_there_ends_without_a_deadline(board, aio):
    """No byte of the file comes for stall_s."""
    with FaultServer(DATA, {0: drip(0, 0.2)}) as server:
        code = program(
            server.url("app.bin"), aio=aio, insecure=True, timeout_s=0.5, stall_s=1, raises=True
        )
        done = board.start(code)
    assert "gave up after" in done.stderr
    assert int(done.stdout) < 12_000


@both
def test_who_pauses_between_sectors_is_not_stalled(board, aio):
    """stall_s counts while it waits for the network."""
    with FaultServer(DATA, {}) as server:
        wait = "await asyncio.sleep_ms(1700)" if aio else "time.sleep_ms(1700)"
        board.run(f"""
import asyncio, time, https_ota
from https_ota import {"aio as kind" if aio else "ota as kind"}
async def main():
    ota = kind.OTA({server.url("app.bin")!r}, insecure=True, request_size=4096, timeout_s=0.5, stall_s=1)
    {"await " * aio}ota.begin()
    n = 0
    while {"await " * aio}ota.perform():
        n += 1
        if n == 3:
            {wait}
    {"await " * aio}ota.finish()
asyncio.run(main())
""")
    assert board.running().version == "2.0.0"


@both
def test_chunked_and_slow(board, aio):
    with FaultServer(DATA, {1: chunked(sizes=(700,))}) as server:
        good(board, server.url("app.bin"), aio, insecure=True, deadline_s=60, wdt_ms=1000)


@both
def test_headers_do_not_matter(board, aio):
    with FaultServer(DATA, {0: head(Connection="close")}) as server:
        good(board, server.url("app.bin"), aio, insecure=True, deadline_s=60, wdt_ms=1000)
