"""What servers and networks do wrong, one thing at a time, and what comes of it."""

import hashlib
import random
import zlib

import images
import pytest
from board import PENDING_VERIFY
from faults import FaultServer, before, chunked, cut, head, raw, status
from forms import filled

from https_ota_tools import delta, packed

DATA = images.app_image(size=30_000, version="2.0.0", seed=4)
OTHER = images.app_image(size=30_000, version="3.0.0", seed=5)
OK = "2.0.0"


def whole(peer, reply):
    """200 and the whole file, whatever was asked for."""
    reply.status, reply.body = 200, DATA
    reply.headers.pop("Content-Range", None)
    reply.headers["Content-Length"] = str(len(DATA))


def until_close(peer, reply):
    """HTTP/1.0 without a length."""
    reply.line = "HTTP/1.0 200 OK"
    reply.headers = {}
    peer.send(reply.head() + DATA)
    peer.close()
    return True


def cut_until_close(peer, reply):
    reply.line = "HTTP/1.0 200 OK"
    reply.headers = {}
    peer.send(reply.head() + DATA[:15000])
    peer.close()
    return True


def drip(peer, reply):
    """One byte a packet, for a while."""
    text = reply.head() + reply.body
    for i in range(300):
        peer.send(text[i : i + 1])
    peer.send(text[300:])
    return True


def shorter(peer, reply):
    """A shorter range than asked for, which a server may send."""
    reply.body = reply.body[:1000]
    first = int(reply.headers["Content-Range"].split()[1].split("-")[0])
    reply.headers["Content-Range"] = f"bytes {first}-{first + 999}/{len(DATA)}"
    reply.headers["Content-Length"] = "1000"


PLAIN = 0
RANGED = 4096
PROTOCOL = "OTAError: HTTP_PROTOCOL: "
GONE = "OTAError: DISCONNECTED: "


def later(fault):
    """At every request but the first."""
    return dict.fromkeys(range(2, 99), fault)


# name: (request_size, faults by request, the version that runs then or how the error begins)
CASES = {
    # connections that end
    "cut-before-the-head": (PLAIN, {1: cut(0)}, OK),
    "cut-in-the-status-line": (PLAIN, {1: cut(9)}, OK),
    "cut-in-the-head": (PLAIN, {1: cut(40)}, OK),
    "cut-after-the-head": (PLAIN, {1: cut(80)}, OK),
    "cut-in-the-image-header": (PLAIN, {1: cut(200)}, OK),
    "cut-in-the-body": (PLAIN, {1: cut(15_000)}, OK),
    "cut-before-the-last-byte": (PLAIN, {1: cut(len(DATA) + 70)}, OK),
    "cut-three-times": (PLAIN, {1: cut(9000), 2: cut(9000), 3: cut(9000)}, OK),
    "reset-before-the-head": (PLAIN, {1: cut(0, "reset")}, OK),
    "reset-in-the-body": (PLAIN, {1: cut(15_000, "reset")}, OK),
    "dropped-in-the-body": (PLAIN, {1: cut(15_000, "drop")}, OK),
    "stall-before-the-head": (PLAIN, {1: cut(0, "stall")}, OK),
    "stall-in-the-head": (PLAIN, {1: cut(30, "stall")}, OK),
    "stall-in-the-body": (PLAIN, {1: cut(15_000, "stall")}, OK),
    "ranged-cut-in-the-head": (RANGED, {3: cut(20)}, OK),
    "ranged-cut-in-the-body": (RANGED, {3: cut(1000)}, OK),
    "ranged-cut-in-every-range": (RANGED, {n: cut(2000) for n in range(1, 60, 2)}, OK),
    "ranged-reset": (RANGED, {2: cut(1000, "reset")}, OK),
    "ranged-stall": (RANGED, {4: cut(1000, "stall")}, OK),
    "ranged-idle-connection-is-closed": (RANGED, {3: cut(0)}, OK),
    "cut-for-ever": (PLAIN, {0: cut(0)}, GONE),
    "cut-for-ever-in-the-head": (RANGED, {0: cut(30)}, GONE),
    "drip": (PLAIN, {1: drip}, OK),
    # bodies without a length
    "until-close": (PLAIN, {1: until_close}, OK),
    "until-close-to-a-range": (RANGED, {1: until_close}, OK),
    "until-close-cut-then-a-length": (PLAIN, {1: cut_until_close}, OK),
    "until-close-cut-then-until-close": (PLAIN, {1: cut_until_close, 2: until_close}, OK),
    "until-close-cut-for-ever": (PLAIN, {0: cut_until_close}, "OTAError: "),
    # answers to ranges
    "200-to-the-first-range": (RANGED, {1: whole}, OK),
    "200-to-a-later-range": (RANGED, {3: whole}, OK),
    "200-to-every-range": (RANGED, {0: whole}, OK),
    "200-when-going-on": (PLAIN, {1: cut(15_000), 2: whole}, OK),
    "shorter-ranges": (RANGED, {2: shorter, 3: shorter}, OK),
    "206-to-a-plain-get": (
        PLAIN,
        {1: status(206, DATA[:99], Content_Range="bytes 0-98/30000")},
        PROTOCOL,
    ),
    "206-without-content-range": (RANGED, later(head(Content_Range="")), PROTOCOL),
    "206-wrong-start": (RANGED, later(head(Content_Range="bytes 0-4095/30000")), PROTOCOL),
    "206-wrong-end": (RANGED, later(head(Content_Range="bytes 4096-9999/30000")), PROTOCOL),
    "206-end-before-start": (RANGED, later(head(Content_Range="bytes 4096-100/30000")), PROTOCOL),
    "206-end-beyond-the-total": (RANGED, {1: head(Content_Range="bytes 0-4095/4000")}, PROTOCOL),
    "206-unknown-total": (RANGED, {1: head(Content_Range="bytes 0-4095/*")}, PROTOCOL),
    "206-length-contradicts": (RANGED, later(head(Content_Length="4000")), PROTOCOL),
    "206-other-unit": (RANGED, later(head(Content_Range="pages 1-2/3")), PROTOCOL),
    "206-range-is-junk": (RANGED, later(head(Content_Range="bytes a-b/c")), PROTOCOL),
    # Once, and several requests were out: they may have been the reason.
    "206-wrong-start-once": (RANGED, {3: head(Content_Range="bytes 0-4095/30000")}, OK),
    "206-range-is-junk-once": (RANGED, {3: head(Content_Range="bytes a-b/c")}, OK),
    "400-once": (RANGED, {3: status(400)}, OK),
    # heads
    "100-continue": (PLAIN, {1: before(b"HTTP/1.1 100 Continue\r\n\r\n")}, OK),
    "103-early-hints": (RANGED, {0: before(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n")}, OK),
    "101-unasked": (PLAIN, {1: status(101)}, PROTOCOL),
    "endless-header": (PLAIN, {1: head(X_Long="x" * 20_000)}, PROTOCOL),
    "endless-headers": (PLAIN, {1: head(**{f"X{i}": "y" * 90 for i in range(200)})}, PROTOCOL),
    "endless-interim-responses": (PLAIN, {1: before(b"HTTP/1.1 100 C\r\n\r\n" * 2000)}, PROTOCOL),
    "header-of-15-KiB": (PLAIN, {1: head(X_Long="x" * 15_000)}, OK),
    "header-names-in-capitals": (
        PLAIN,
        {1: head(CONTENT_LENGTH=str(len(DATA)), Content_Length="")},
        OK,
    ),
    "no-http": (PLAIN, {1: raw(b"SSH-2.0-OpenSSH_9.2\r\n")}, PROTOCOL),
    "http-2": (PLAIN, {1: raw(b"HTTP/2.0 200 OK\r\n\r\n")}, PROTOCOL),
    "status-is-no-number": (PLAIN, {1: raw(b"HTTP/1.1 abc OK\r\n\r\n")}, PROTOCOL),
    "status-999": (PLAIN, {1: raw(b"HTTP/1.1 999 OK\r\n\r\n")}, PROTOCOL),
    "length-without-colon": (
        PLAIN,
        {1: raw(b"HTTP/1.1 200 OK\r\nContent-Length 9\r\n\r\n")},
        PROTOCOL,
    ),
    "line-without-colon": (PLAIN, {1: head(X_Odd="a\r\nnonsense\r\n folded")}, OK),
    "folded-headers": (RANGED, {0: head(Content_Range_="x\r\n y", ETag='\r\n\t"v1"')}, OK),
    "line-between-responses": (RANGED, {0: before(b"\r\n")}, OK),
    "encoding-that-is-none": (RANGED, {0: head(Content_Encoding="UTF-8")}, OK),
    "length-twice": (PLAIN, {1: head(Content_Length=f"{len(DATA)}, {len(DATA)}")}, OK),
    "ranges-without-validator": (RANGED, {n: head(ETag="") for n in range(2, 9)}, OK),
    "522-twice": (RANGED, {3: status(522), 4: status(599)}, OK),
    "503-soon": (RANGED, {3: status(503, Retry_After="0.2")}, OK),
    "length-is-no-number": (PLAIN, {1: head(Content_Length="many")}, PROTOCOL),
    "length-is-negative": (PLAIN, {1: head(Content_Length="-1")}, PROTOCOL),
    "length-is-huge": (PLAIN, {1: head(Content_Length="99999999999999999999")}, PROTOCOL),
    "gzip-nobody-asked-for": (PLAIN, {1: head(Content_Encoding="gzip")}, PROTOCOL),
    "unknown-transfer-encoding": (PLAIN, {1: head(Transfer_Encoding="gzip, chunked")}, PROTOCOL),
    # chunks
    "chunks": (PLAIN, {1: chunked(sizes=(1, 10, 4000))}, OK),
    "chunks-with-trailer": (PLAIN, {1: chunked(end=b"0\r\nX-Sum: 1\r\n\r\n")}, OK),
    "chunks-with-extension": (
        PLAIN,
        {1: chunked(spoil=lambda c: c.replace(b"\r\n", b";x=y\r\n", 1))},
        OK,
    ),
    "chunk-size-is-junk": (PLAIN, {1: chunked(spoil=lambda c: b"zz" + c)}, PROTOCOL),
    "chunk-size-is-huge": (PLAIN, {1: chunked(spoil=lambda c: b"fffffffff" + c)}, PROTOCOL),
    "chunk-longer-than-its-size": (
        PLAIN,
        {1: chunked(spoil=lambda c: c[:-2] + b"!!\r\n")},
        PROTOCOL,
    ),
    "chunks-cut": (PLAIN, {1: chunked(end=b"")}, OK),
    # errors that pass, and errors that don't
    "503-once": (PLAIN, {1: status(503)}, OK),
    "503-with-retry-after": (PLAIN, {1: status(503, Retry_After="1")}, OK),
    "429-with-a-date": (PLAIN, {1: status(429, Retry_After="Mon, 23 Nov 2026 10:00:00 GMT")}, OK),
    "500-in-the-middle": (RANGED, {4: status(500)}, OK),
    "408-then-502": (RANGED, {3: status(408), 4: status(502)}, OK),
    "503-for-ever": (PLAIN, {0: status(503)}, "OTAError: HTTP_STATUS: "),
    "503-come-back-tomorrow": (
        PLAIN,
        {0: status(503, Retry_After="86400")},
        "OTAError: HTTP_STATUS: ",
    ),
    "404": (PLAIN, {1: status(404)}, "OTAError: HTTP_STATUS: "),
    "404-in-the-middle": (RANGED, {3: status(404)}, "OTAError: HTTP_STATUS: "),
    # It may not like requests that say less than the first: these are told all again, once.
    "403-in-the-middle": (RANGED, {3: status(403)}, OK),
    "403-from-there-on": (
        RANGED,
        {i: status(403) for i in range(3, 40)},
        "OTAError: HTTP_STATUS: ",
    ),
    "redirect-loop": (
        PLAIN,
        {0: status(302, Location="/again")},
        "OTAError: REDIRECT: more than 5",
    ),
    "redirect-to-ftp": (PLAIN, {1: status(302, Location="ftp://x/y")}, "OTAError: REDIRECT: "),
    "redirect-without-location": (PLAIN, {1: status(302)}, "OTAError: REDIRECT: "),
    "redirect-in-the-middle": (RANGED, {3: status(307, Location="/other")}, OK),
    "location-of-3-KiB": (
        PLAIN,
        {1: status(301, Location="/" + "x" * 3000)},
        "OTAError: REDIRECT: ",
    ),
}


# Of faults in ranges, what comes of them without all that is only for speed.
SAMPLE = random.Random(17).sample(
    [n for n in CASES if CASES[n][0] and not n.endswith("-once")], 10
)


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, {"aio": aio}) for name in CASES for aio in (False, True)]
    + [(name, {"ahead": False, "bulk_erase": False}) for name in SAMPLE],
    ids=[f"{name}-{kind}" for name in CASES for kind in ("", "aio")]
    + [f"{name}-one at a time" for name in SAMPLE],
)
def test_fault(board, name, how):
    request_size, by_request, expected = CASES[name]
    options = {"cadata": None, "insecure": True, "request_size": request_size, "timeout_s": 1}
    options |= how
    options["stall_s"] = 3
    with FaultServer(DATA, by_request) as server:
        if expected == OK:
            board.update(server.url("app.bin"), **options)
            assert board.running() == (OK, "ota_1", PENDING_VERIFY)
            flash = board.flash.read_bytes()
            assert flash[0x190000 : 0x190000 + len(DATA)] == DATA
        else:
            message = board.refuse(server.url("app.bin"), **options)
            assert message.startswith(expected), message


# The same of files that are unpacked on their way, as long as DATA: each case of one of the two, in one of the two ways.
CODE = images.app_image(size=40_000, seed=1, like_code=True)[400:]
MADE = images.changed(CODE, 2, places=60)
FORMS = {
    "packed": filled(packed.pack(MADE), len(DATA)),
    "delta": filled(delta.make(images.app_image(), MADE), len(DATA)),
}


@pytest.mark.parametrize("name", CASES)
def test_fault_while_it_is_unpacked(board, monkeypatch, name):
    rand = random.Random(name)
    form = rand.choice(list(FORMS))
    request_size, by_request, expected = CASES[name]
    data = FORMS[form]
    monkeypatch.setitem(globals(), "DATA", data)
    options = {"cadata": None, "insecure": True, "request_size": request_size, "timeout_s": 1}
    with FaultServer(data, by_request) as server:
        url = server.url("app.bin")
        if expected == OK and name not in NO_LENGTH:
            board.update(url, **options, stall_s=3, aio=rand.random() < 0.5)
            assert board.running() == (OK, "ota_1", PENDING_VERIFY)
            assert board.flash.read_bytes()[0x190000 : 0x190000 + len(MADE)] == MADE
        else:
            message = board.refuse(url, **options, stall_s=3, aio=rand.random() < 0.5)
            assert message.startswith("OTAError: " if name in NO_LENGTH else expected), message


# Where the server tells no length, an image says that more of it must come; a compressed file has no such words.
NO_LENGTH = ("until-close-cut-then-a-length", "until-close-cut-then-until-close")


KINDS = {"plain": (DATA, OTHER), "packed": (FORMS["packed"], packed.pack(OTHER))}
KINDS |= {
    "delta": (FORMS["delta"], delta.make(images.app_image(), OTHER)),
    "delta, then plain": (FORMS["delta"], OTHER),
    "plain, then delta": (DATA, delta.make(images.app_image(), OTHER)),
    "packed, then zlib": (FORMS["packed"], zlib.compress(OTHER)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("request_size", [PLAIN, RANGED])
def test_file_is_replaced_meanwhile(board, request_size, kind):
    """The new one is fetched from its beginning; nothing of the old one is left."""
    by_request = {}
    first, other = KINDS[kind]
    with FaultServer(first, by_request) as server:

        def replace(peer, reply):
            server.data, server.etag = other, '"v2"'
            return cut(9000)(peer, reply)

        by_request[2 if request_size else 1] = replace
        board.update(server.url("app.bin"), cadata=None, insecure=True, request_size=request_size)
    assert board.running().version == "3.0.0"
    assert board.flash.read_bytes()[0x190000 : 0x190000 + len(OTHER)] == OTHER


@pytest.mark.parametrize("kind", ["plain", "packed", "delta"])
def test_file_that_keeps_changing(board, kind):
    by_request = {}
    with FaultServer(KINDS[kind][0], by_request) as server:

        def replace(peer, reply):
            server.etag = f'"{len(server.requests)}"'
            return cut(9000)(peer, reply)

        by_request[0] = replace
        message = board.refuse(server.url("app.bin"), cadata=None, insecure=True)
    assert message.startswith("OTAError: CHANGED: ")


def test_file_shrinks_meanwhile(board):
    """The rest of the old one is beyond the new one's end: 416."""
    small = images.app_image(size=8_000, version="3.0.0")
    by_request = {}
    with FaultServer(DATA, by_request, etag="") as server:

        def replace(peer, reply):
            server.data = small

        by_request[3] = replace
        board.update(server.url("app.bin"), cadata=None, insecure=True, request_size=RANGED)
    assert board.running().version == "3.0.0"


def test_deadline(board):
    with FaultServer(DATA, {0: cut(0, "stall")}) as server:
        message = board.refuse(
            server.url("app.bin"), cadata=None, insecure=True, timeout_s=1, deadline_s=2
        )
    assert message.startswith("OTAError: DEADLINE: not done after 2 s: 0 of None bytes have come")


def test_same_file_is_not_fetched_again_when_it_runs(board):
    with FaultServer(DATA, {}) as server:
        url = server.url("app.bin")
        board.update(url, cadata=None, insecure=True)
        board.run("import https_ota; https_ota.confirm()")
        sent = server.sent
        assert board.update(url, cadata=None, insecure=True) == "None\n"
        assert server.sent == sent
        server.data, server.etag = OTHER, '"v2"'
        board.update(url, cadata=None, insecure=True)
    assert board.running() == ("3.0.0", "ota_0", PENDING_VERIFY)


@pytest.mark.parametrize("request_size", [PLAIN, RANGED])
@pytest.mark.parametrize("kind", ["date", "ignores conditions"])
def test_same_file_is_not_fetched_again_without_conditions(board, kind, request_size):
    """The same date and length, or the ETag again, end it at the head of the response."""
    date = "Wed, 01 Jan 2025 00:00:00 GMT"
    options = {"cadata": None, "insecure": True, "request_size": request_size}
    with FaultServer(DATA, {}, etag="" if kind == "date" else '"v1"') as server:

        def answer(peer, reply):
            if kind == "date":
                reply.headers["Last-Modified"] = date
            elif reply.status == 304:
                reply.status, reply.body = 200, server.data
                reply.headers["Content-Length"] = str(len(server.data))

        server.faults = {0: answer}
        url = server.url("app.bin")
        board.update(url, **options)
        board.run("import https_ota; https_ota.confirm()")
        asked = len(server.requests)
        assert board.update(url, **options) == "None\n"
        # A range may have been asked for ahead, before the first one told.
        ahead = kind == "date" and request_size == RANGED
        assert asked < len(server.requests) <= asked + 1 + ahead
        assert b"If-Modified-Since" not in b"".join(server.requests)
        # An older file is put back; to If-Modified-Since the server would say 304.
        server.data, server.etag = OTHER, server.etag and '"v0"'
        date = "Tue, 31 Dec 2024 00:00:00 GMT"
        board.update(url, **options)
    assert board.running() == ("3.0.0", "ota_0", PENDING_VERIFY)


@pytest.mark.parametrize("request_size", [PLAIN, RANGED])
def test_mirrors_with_etags_of_their_own(board, request_size):
    """Each answers some of the requests. What the file is, its SHA-256 tells."""
    options = {"sha256": hashlib.sha256(DATA).hexdigest(), "size": len(DATA)}
    with FaultServer(DATA, {}) as server:

        def other(peer, reply):
            server.etag = f'"{len(server.requests)}"'
            return cut(9000)(peer, reply)

        server.faults = {0: other}
        url = server.url("app.bin")
        board.update(url, cadata=None, insecure=True, request_size=request_size, **options)
        assert b"If-Range" not in b"".join(server.requests)
        assert sum(b"Range: bytes=0-" in request for request in server.requests) <= 1
    assert board.running().version == "2.0.0"


def test_slot_that_holds_the_file_is_not_fetched_again(board):
    """It was rolled back, and the application wants it once more."""
    with FaultServer(DATA, {}) as server:
        url = server.url("app.bin")
        board.update(url, cadata=None, insecure=True)
        assert board.running().version == "2.0.0"
        assert board.running().version == "1.0.0"
        sent = server.sent
        assert "FAILED_BEFORE" in board.refuse(url, cadata=None, insecure=True)
        board.update(url, cadata=None, insecure=True, retry_failed=True)
        assert server.sent == sent
        assert board.running().version == "2.0.0"


def test_slot_that_was_damaged_since_is_fetched_again(board):
    with FaultServer(DATA, {}) as server:
        url = server.url("app.bin")
        board.update(url, cadata=None, insecure=True)
        board.running()
        board.running()
        flash = bytearray(board.flash.read_bytes())
        flash[0x190000 + 20_000] ^= 1
        board.flash.write_bytes(flash)
        board.update(url, cadata=None, insecure=True, retry_failed=True)
    assert board.running().version == "2.0.0"


def test_known_by_size_and_sha256(board):
    digest = hashlib.sha256(DATA).hexdigest()
    options = {"cadata": None, "insecure": True, "sha256": digest, "size": len(DATA)}
    with FaultServer(DATA, {}) as server:
        url = server.url("app.bin")
        board.update(url, **options)
        # Rolled back, it is still in the slot.
        assert [board.running().version for _ in range(2)] == ["2.0.0", "1.0.0"]
        board.update(url, **options, retry_failed=True)
        assert len(server.requests) == 1
        # This start runs it.
        board.run("import https_ota; https_ota.confirm()")
        assert board.update(url, **options) == "None\n"
        assert len(server.requests) == 1


@pytest.mark.parametrize("wrong", ["sha256", "size"])
def test_not_the_file_expected(board, wrong):
    options = {"sha256": hashlib.sha256(DATA).hexdigest(), "size": len(DATA)}
    options[wrong] = {"sha256": "00" * 32, "size": len(DATA) - 16}[wrong]
    with FaultServer(DATA, {}) as server:
        message = board.refuse(server.url("app.bin"), cadata=None, insecure=True, **options)
    code = {"sha256": "DIGEST", "size": "SIZE"}[wrong]
    assert message.startswith(f"OTAError: {code}: ")


def test_presigned_url_that_expires(board):
    """403 from where a redirect led: back to the first URL, which gives a new one."""
    links = []

    def expires(peer, reply):
        path = server.requests[-1].split()[1].decode()
        if path == "/app.bin":
            links.append(f"/store?signature={len(links)}")
            return status(302, Location=links[-1])(peer, reply)
        if path == links[0] and len(server.requests) > 3:
            return status(403)(peer, reply)
        return None

    with FaultServer(DATA, {0: expires}) as server:
        board.update(server.url("app.bin"), cadata=None, insecure=True, request_size=RANGED)
        paths = [r.split()[1].decode() for r in server.requests]
    # Behind the one that was refused others were on their way.
    again = paths.index("/app.bin", 1)
    assert paths[:4] == ["/app.bin", *[links[0]] * 3] and 4 <= again <= 9
    assert paths[again:] == ["/app.bin", *[links[1]] * (len(paths) - again - 1)]
    assert board.running().version == "2.0.0"


def test_progress_goes_on_after_a_reset(board):
    """64 KiB at most come twice, the sector that was being written, and twelve ranges on their way."""
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(large, {}) as server:
        code = board.code(server.url("app.bin"), cadata=None, insecure=True, request_size=RANGED)
        assert board.start(code, SIM_CUT="60").returncode == 75
        assert 150_000 < server.sent < 280_000
        before = len(server.requests)
        board.run(code)
        assert server.sent <= len(large) + 65536 + 13 * RANGED
        # Of what came before the cut, the last may be read late: it says less than the first request of a session.
        first = next(r for r in server.requests[before:] if b"User-Agent" in r)
        assert b"If-Range" in first
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("kind", ["bare", "weak", "date"])
def test_progress_goes_on_by_any_validator(board, kind):
    """What the record holds is known for what it was, and compared; that it has changed is seen, too."""
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    other = images.app_image(size=300_000, version="3.0.0", seed=9)
    old, new = {
        "bare": ("0x8D4BCC2E4835CD0", "0x8D4BCC2E4835CD1"),
        "weak": ('W/"1"', 'W/"2"'),
        "date": ("Wed, 01 Jan 2025 00:00:00 GMT", "Tue, 31 Dec 2024 00:00:00 GMT"),
    }[kind]

    def dated(peer, reply):
        if kind == "date":
            reply.headers["Last-Modified"] = reply.headers.pop("ETag")

    with FaultServer(large, {0: dated}, etag=old) as server:
        code = board.code(server.url("app.bin"), cadata=None, insecure=True, request_size=RANGED)
        assert board.start(code, SIM_CUT="60").returncode == 75
        half = board.flash.read_bytes()
        board.run(code)
        assert server.sent <= len(large) + 65536 + 13 * RANGED
        assert board.running().version == "2.0.0"
        said = server.requests[-1].decode()
        assert ("\r\nIf-Range: " in said) == (kind == "date")
        assert "If-Modified-Since" not in said
        board.flash.write_bytes(half)
        server.data, server.etag = other, new
        board.run(code)
        assert board.running().version == "3.0.0"


@pytest.mark.parametrize("what", ["other file", "no validator", "flash changed", "other url"])
def test_record_that_does_not_fit(board, what):
    """It is not relied on: the update starts at the beginning."""
    large = images.app_image(size=300_000, version="2.0.0", seed=8)
    with FaultServer(large, {}, etag="" if what == "no validator" else '"v1"') as server:
        url = server.url("app.bin")
        code = board.code(url, cadata=None, insecure=True, request_size=RANGED)
        assert board.start(code, SIM_CUT="60").returncode == 75
        before = server.sent
        if what == "other file":
            server.etag = '"v2"'
        if what == "flash changed":
            flash = bytearray(board.flash.read_bytes())
            flash[0x190000 + 50_000] ^= 0x10
            board.flash.write_bytes(flash)
        if what == "other url":
            url += "2"
        board.update(url, cadata=None, insecure=True, request_size=RANGED)
        assert server.sent - before >= len(large)
    assert board.running().version == "2.0.0"


@pytest.mark.parametrize("request_size", [PLAIN, RANGED])
def test_ten_drops_and_three_power_cuts(board, capsys, request_size):
    """The right image in the end, and less than a fifth of it fetched twice."""
    rng = random.Random(request_size)
    large = images.app_image(size=1_500_000, version="2.0.0", seed=8)
    operations = 2 * len(large) // 4096
    drops = 0

    def drop(peer, reply):
        nonlocal drops
        later = drops < 10 and (not request_size or rng.random() < 0.05)
        if later:
            drops += 1
            length = rng.randrange(len(reply.head()), len(reply.head()) + len(reply.body) // 4)
            return cut(length, rng.choice(["close", "drop", "reset"]))(peer, reply)
        return None

    with FaultServer(large, {0: drop}) as server:
        # What the board got, sector by sector: the server's count has what sockets still held, too.
        code = f"""
import https_ota
log = open("sectors", "a")
def progress(done, total):
    log.write("x")
    log.flush()
https_ota.update({server.url("app.bin")!r}, insecure=True, request_size={request_size}, progress=progress)
"""
        for _ in range(3):
            done = board.start(code, SIM_CUT=str(rng.randrange(150, operations // 4)))
            assert done.returncode == 75
        board.run(code)
        assert drops == 10
    # A read that a drop breaks off loses at most one receive buffer.
    fetched = ((board.flash.parent / "sectors").stat().st_size + drops) * 4096
    with capsys.disabled():
        print(f"\nten drops, three power cuts: {fetched / len(large):.2f} times the file fetched")
    assert len(large) < fetched < 1.2 * len(large)
    assert board.running() == ("2.0.0", "ota_1", PENDING_VERIFY)
    assert board.flash.read_bytes()[0x190000 : 0x190000 + len(large)] == large


@pytest.mark.parametrize("request_size", [PLAIN, RANGED])
def test_connection_cut_everywhere(board, request_size):
    """Once after each kilobyte of the download; the slot holds the right image each time."""
    start = board.flash.read_bytes()
    reply = 4200 if request_size else 30_080
    options = {"cadata": None, "insecure": True, "resume": False, "request_size": request_size}
    for at in range(0, 30_080, 1003):
        board.flash.write_bytes(start)
        with FaultServer(DATA, {at // reply + 1: cut(at % reply)}) as server:
            board.update(server.url("app.bin"), **options)
        assert board.flash.read_bytes()[0x190000 : 0x190000 + len(DATA)] == DATA, at
