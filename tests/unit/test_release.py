# release.py and decide.py: what a manifest may look like, and what is made of it. Canned answers; keys that
# need no arithmetic on the curve: the private ones are 1 and n - 1, so that the public ones are G and -G.

from binascii import crc32, hexlify
from hashlib import sha256
import json
from struct import pack

from esp32 import NVS, Partition
from fakenet import Net, fails, raises, use, use_tls
from https_ota import (
    Decision,
    OTAError,
    check,
    release,
    running_info,
    update_from,
)
from https_ota.flash import nvs
from https_ota.net import words as explain
from https_ota.boot import history as outcome
from https_ota.fleet import manifest as decisions
from https_ota.fleet.manifest import Manifest
from https_ota.fleet.poll import runs
from https_ota.memory import kept, work
from https_ota.trust import ec
from https_ota.trust.signature import verify_data
from makeimage import descriptor, image

# In its modules things are replaced here: no update is to forget them.
work.__enter__()

URL = "http://host/fleet/manifest.json"
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5


# -- helpers


def forget(*keys):
    kept.pop("manifest", None)
    for key in keys or ("release", "serial", "etag", "floor"):
        try:
            NVS("https_ota").erase_key(key)
        except OSError:
            pass


def key_digest(private=1):
    return sha256(_public(private)).digest()


def _public(private):
    y = GY if private == 1 else P - GY
    return b"\x02" + GX.to_bytes(32, "little") + y.to_bytes(32, "little")


def block(data, private=1):
    """A Secure Boot v2 block over data, with 1 as the random number: r is that of G."""
    z = int.from_bytes(sha256(data).digest(), "big")
    s = (z + GX % N * (1 if private == 1 else N - 1)) % N
    out = b"\xe7\x03\x00\x00" + sha256(data).digest() + _public(private)
    out += (GX % N).to_bytes(32, "little") + s.to_bytes(32, "little")
    out += bytes(1196 - len(out))
    return out + pack("<I", crc32(out)) + bytes(16)


def firmware(version="9.0.0", size=9000, **fields):
    own = running_info()
    return image(
        size, chip_id=own.chip_id, spi_mode=own.spi_mode, desc=descriptor(version), **fields
    )


_seed = 100


def fresh(size=9000):
    """One that no slot holds yet."""
    global _seed
    _seed += 1
    return firmware(size=size, seed=_seed)


_firmware = firmware()


def entry(data=None, **fields):
    data = _firmware if data is None else data
    result = {
        "chip": running_info().chip,
        "url": "fw.bin",
        "size": len(data),
        "sha256": hexlify(sha256(data).digest()).decode(),
    }
    result.update(fields)
    return {k: v for k, v in result.items() if v is not None}


def manifest(files=None, **fields):
    result = {"release": 7, "version": "9.0.0", "files": [entry()] if files is None else files}
    result.update(fields)
    return json.dumps({k: v for k, v in result.items() if v is not None}).encode()


def answer(data, etag=b'"m1"', status=b"200 OK", extra=b""):
    tag = b"ETag: %s\r\n" % etag if etag else b""
    return (
        b"HTTP/1.1 %s\r\n%s%sContent-Length: %d\r\n\r\n"
        % (
            status,
            tag,
            extra,
            len(data),
        )
        + data
    )


NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\n\r\n"


def decide(data, etag=None, **options):
    """The decision on one manifest, unsigned."""
    use(Net(answer(data, etag)))
    options.setdefault("device_id", "one")
    return check(URL, insecure=True, request_size=0, **options)


def refused(code, data, **options):
    return fails(code, decide, data, **options)


def signed(data, *blocks, year=2026, then=(), **options):
    """The decision on a manifest signed with the key 1, unless blocks are given."""
    blocks = blocks or (block(data),)
    net = use(Net(answer(data), answer(b"".join(blocks), etag=b'"s1"'), *then))
    net.clock.year = year
    release.time = explain.time = net.clock
    options.setdefault("trusted_keys", key_digest())
    return net, check(URL, insecure=True, request_size=0, device_id="one", **options)


class EachSignatureOnce:
    """As long as it lasts, what has been verified is not calculated again."""

    def __enter__(self):
        self.known = {}
        self.verify = ec.verify
        ec.verify = self.remembered
        return self.known

    def __exit__(self, *_):
        ec.verify = self.verify

    def remembered(self, curve, *numbers):
        if numbers not in self.known:
            self.known[numbers] = self.verify(curve, *numbers)
        return self.known[numbers]


# -- what a decision holds


def test_update():
    forget()
    data = firmware()
    d = decide(manifest([entry(data)], notes="Better.", rollout=100, unknown={"a": [1]}))
    assert d.update is True and d.reason == Decision.UPDATE
    assert (d.version, d.release, d.notes) == ("9.0.0", 7, "Better.")
    assert d.url == "http://host/fleet/fw.bin"
    assert d.size == len(data) and d.sha256 == sha256(data).digest() and d.encrypted is False
    assert repr(d) == "<Decision: release 7 (9.0.0) is to be installed>"


def test_shorter_forms():
    """The shortest first; what is no shorter than the image is left out."""
    forget()
    forms = {
        "packed": {"url": "fw.gz", "bytes": 6000},
        "deltas": [
            {"base": "ab" * 32, "url": "a.gz", "bytes": 7000},
            {"base": "CD" * 32, "url": "//cdn/b.gz", "bytes": 500},
            {"base": "ef" * 32, "url": "c.gz", "bytes": 9000},
        ],
    }
    d = decide(manifest([entry(**forms)]))
    assert d.url == "http://host/fleet/fw.bin"
    assert d.smaller == [
        (500, "http://cdn/b.gz", b"\xcd" * 32),
        (6000, "http://host/fleet/fw.gz", None),
        (7000, "http://host/fleet/a.gz", b"\xab" * 32),
    ]
    assert decide(manifest()).smaller == []
    for more, known in ((-1, 1), (0, 0), (1, 0)):
        size = {"bytes": len(_firmware) + more}
        for forms in (
            {"packed": dict(size, url="fw.gz")},
            {"deltas": [dict(size, url="a.gz", base="ab" * 32)]},
        ):
            assert len(decide(manifest([entry(**forms)])).smaller) == known, forms
    for bad in (
        {"packed": None},
        {"packed": 7},
        {"packed": {"url": "a"}},
        {"packed": {"bytes": 5}},
        {"packed": {"url": "a b", "bytes": 5}},
        {"packed": {"url": "a", "bytes": 0}},
        {"deltas": {}},
        {"deltas": [7]},
        {"deltas": [{"url": "a", "bytes": 5}]},
        {"deltas": [{"url": "a", "bytes": 5, "base": "ab"}]},
        {"deltas": [{"url": "ftp://a", "bytes": 5, "base": "ab" * 32}]},
    ):
        e = entry()
        e.update(bad)
        refused(
            OTAError.MANIFEST,
            json.dumps({"release": 7, "version": "9.0.0", "files": [e]}).encode(),
        )


def test_manifest_is_asked_for_as_is_and_closed():
    net = use(Net(answer(manifest())))
    check(URL, insecure=True, request_size=0)
    assert net.sent[0].startswith(b"GET /fleet/manifest.json HTTP/1.1\r\nHost: host\r\n")
    assert net.open == 0 and len(net.sent) == 1


def test_urls():
    for url, whole in (
        ("fw.bin", "http://host/fleet/fw.bin"),
        ("../x/fw.bin?v=1", "http://host/x/fw.bin?v=1"),
        ("/fw.bin", "http://host/fw.bin"),
        ("https://cdn.example:444/fw.bin", "https://cdn.example:444/fw.bin"),
        ("//cdn/fw.bin", "http://cdn/fw.bin"),
    ):
        assert decide(manifest([entry(url=url)])).url == whole


def test_url_is_relative_to_where_the_manifest_was_found():
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://cdn/v7/manifest.json?sig=1\r\n\r\n"
    use(Net(moved, answer(manifest())))
    assert check(URL, insecure=True, request_size=0).url == "http://cdn/v7/fw.bin"


# -- malformed

WRONG = (
    b"",
    b"\n",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"<html>404</html>",
    b"{",
    b"{}",
    b"}{",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"release": 7, "version": "1", "files": [',
    b'{"release": 7, "version": "\xff", "files": []}',
    b'{"release": 1-2, "version": "1", "files": []}',
    b'{"release": 1.5.5, "version": "1", "files": []}',
    b'{"release": NaN, "version": "1", "files": []}',
    b"[" * 8000,
    b'{"release": ' + b"[" * 2000 + b"]" * 2000 + b"}",
)


def test_what_is_no_json():
    for data in WRONG:
        refused(OTAError.MANIFEST, data)


def test_every_cut_of_a_manifest():
    data = manifest([entry(board="b", variant="v")], notes="}")
    for n in range(len(data)):
        refused(OTAError.MANIFEST, data[:n])


def test_wrong_values():
    deep = []
    for _ in range(50):
        deep = [deep]
    for fields in (
        {"release": None},
        {"release": 0},
        {"release": -1},
        {"release": 1 << 31},
        {"release": 10**60},
        {"release": 7.5},
        {"release": "7"},
        {"release": True},
        {"release": deep},
        {"serial": -1},
        {"serial": 1 << 32},
        {"serial": 1.5},
        {"serial": "3"},
        {"serial": True},
        {"version": None},
        {"version": 9},
        {"version": ["9"]},
        {"files": {}},
        {"files": "fw.bin"},
        {"files": [[]]},
        {"files": ["fw.bin"]},
        {"files": [deep]},
        {"rollout": 101},
        {"rollout": -1},
        {"rollout": 9.5},
        {"rollout": "10"},
        {"rollout": False},
        {"secure_version": -1},
        {"secure_version": 1 << 32},
        {"secure_version": "1"},
        {"min_version": 1},
        {"min_version": "latest"},
        {"notes": 5},
        {"expires": 2026},
        {"expires": "soon"},
        {"expires": "2026-12-31"},
        {"expires": "2026-12-31T23:59:59"},
        {"expires": "2026-12-31T23:59:59z"},
        {"expires": "2026-12-31 23:59:59Z"},
        {"expires": "2026-12-31T23:59:59+01:00"},
        {"expires": "2026-1-31T23:59:59.1Z"},
    ):
        refused(OTAError.MANIFEST, manifest(**fields))


def test_urls_are_of_printable_ascii():
    for c in "!~%;":
        url = "a" + c + "20b.bin"
        assert decide(manifest([entry(url=url)])).url == "http://host/fleet/" + url
    for c in " \x7f\n\x1f\x80\xe9":
        refused(OTAError.MANIFEST, manifest([entry(url="a" + c + "b.bin")]))
        refused(OTAError.MANIFEST, manifest([entry(packed={"url": c, "bytes": 5})]))


def test_what_runs_may_fill_its_slot():
    import simboot

    size = 8192
    data = bytearray(size)
    Partition(Partition.RUNNING).readblocks(0, data)
    digest = sha256(data).digest()
    entry = simboot.running
    try:
        for room in (size - 4096, size, size + 4096):
            simboot.running = entry[:3] + (room,) + entry[4:]
            assert runs(size, digest) == (size <= room), room
            assert not runs(size, bytes(32))
    finally:
        simboot.running = entry


def test_null_is_no_value():
    for name in (
        "release",
        "serial",
        "version",
        "files",
        "rollout",
        "expires",
        "min_version",
        "notes",
    ):
        data = json.loads(manifest().decode())
        data[name] = None
        detail = refused(OTAError.MANIFEST, json.dumps(data).encode())
        assert name + ": expected" in detail


def test_wrong_files():
    for fields in (
        {"chip": None},
        {"chip": ["ESP32-C3"]},
        {"chip": True},
        {"board": 1},
        {"variant": []},
        {"url": None},
        {"url": 5},
        {"url": "ftp://host/fw.bin"},
        {"url": "with space.bin"},
        {"url": "https://user:secret@host/fw.bin"},
        {"url": "https://"},
        {"size": None},
        {"size": 0},
        {"size": -5},
        {"size": 1 << 29},
        {"size": "5"},
        {"size": 5.0},
        {"sha256": None},
        {"sha256": ""},
        {"sha256": "00" * 31},
        {"sha256": "00" * 33},
        {"sha256": "zz" * 32},
        {"sha256": 7},
        {"encrypted": "yes"},
        {"encrypted": 1},
    ):
        whole = dict(entry())
        whole.update(fields)
        whole = {k: v for k, v in whole.items() if v is not None}
        refused(OTAError.MANIFEST, manifest([whole]))


def test_what_is_wrong_with_another_boards_file_is_no_matter():
    other = {"chip": "ESP32-P4", "url": 7}
    assert decide(manifest([other, entry()])).update


def test_no_random_change_makes_another_kind_of_error():
    data = manifest([entry(board="b"), entry()], expires="2030-01-01T00:00:00Z", rollout=50)
    x = 99
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(1 + x % 3):
            x = (x * 1103515 + 12345) & 0xFFFFFFF
            changed[(x >> 4) % len(changed)] = b'{}[]",:0159.-eE\\u/ atrue\xff\x00'[(x >> 16) % 26]
        try:
            decided(Manifest(changed), running_info())
        except OTAError as e:
            assert e.code in (OTAError.MANIFEST, OTAError.NO_FILE), e


def test_size_limit():
    base = manifest(notes="")
    room = 8192 - len(base)
    assert decide(manifest(notes="x" * room)).update
    detail = refused(OTAError.MANIFEST, manifest(notes="x" * (room + 1)))
    assert "at most 8192 bytes" in detail
    # Without a length as well, and no byte more than needed is read.
    big = manifest(notes="x" * 100000)
    for data, step in ((big, None), (base + b" " * room + b"\n", 1), (base + b" " * 20000, 64)):
        net = use(Net(b"HTTP/1.1 200 OK\r\n\r\n" + data, step=step))
        detail = fails(OTAError.MANIFEST, check, URL, insecure=True, request_size=0)
        assert "at most 8192 bytes" in detail and net.open == 0


def test_manifest_without_a_length():
    data = manifest()
    use(Net(b"HTTP/1.1 200 OK\r\n\r\n" + data))
    assert check(URL, insecure=True, request_size=0).update


def test_manifest_in_ranges():
    data = manifest(notes="x" * 1000)
    parts = [data[i : i + 512] for i in range(0, len(data), 512)]
    answers = b""
    at = 0
    for part in parts:
        answers += answer(
            part,
            status=b"206 Partial Content",
            extra=b"Content-Range: bytes %d-%d/%d\r\n" % (at, at + len(part) - 1, len(data)),
        )
        at += len(part)
    net = use(Net(answers))
    assert check(URL, insecure=True, request_size=512).notes == "x" * 1000
    assert net.sent[0].count(b"Range: bytes=") == len(parts)


def test_no_manifest():
    for status in (b"204 No Content", b"304 Not Modified"):
        use(Net(b"HTTP/1.1 %s\r\n\r\n" % status))
        said = fails(OTAError.MANIFEST, check, URL, insecure=True)
        assert said.endswith("the server answered " + status[:3].decode()), said
    use(Net(answer(b"", status=b"404 Not Found")))
    fails(OTAError.HTTP_STATUS, check, URL, insecure=True)


def test_arguments():
    for options in ({"sha256": bytes(32)}, {"nonsense": 1}, {"decrypt": None}):
        raises(TypeError, check, URL, insecure=True, **options)
    raises(TypeError, update_from, URL, insecure=True, size=5)
    raises(ValueError, check, URL)
    raises(ValueError, check, URL, insecure=True, trusted_keys="00")


# -- which file


def chosen(files, **options):
    d = decide(manifest(files), **options)
    return d.url.rpartition("/")[2]


def test_chip_by_name_and_by_id():
    own = running_info()
    others = [entry(chip="ESP32-S2", url="s2"), entry(chip=18, url="p4"), entry(chip=77, url="x")]
    for chip in (own.chip, own.chip.lower(), own.chip.replace("-", ""), own.chip_id):
        assert chosen(others + [entry(chip=chip)]) == "fw.bin"
    detail = refused(OTAError.NO_FILE, manifest(others))
    assert own.chip in detail and "ESP32-S2, ESP32-P4, chip id 77" in detail


def test_board_and_variant():
    files = [
        entry(url="any"),
        entry(url="a", board="A"),
        entry(url="a-ota", board="A", variant="OTA"),
        entry(url="ota", variant="OTA"),
        entry(url="b", board="B"),
        entry(url="b2", board="B"),
    ]
    for board, variant, url in (
        (None, None, "any"),
        ("A", None, "a"),
        ("A", "OTA", "a-ota"),
        ("A", "SPIRAM", "a"),
        ("B", "SPIRAM", "b"),
        (None, "OTA", "ota"),
        ("C", None, "any"),
    ):
        assert chosen(files, board=board, variant=variant) == url, (board, variant)
    detail = refused(OTAError.NO_FILE, manifest(files[1:]), board="a")
    assert "board='a'" in detail and " A OTA" in detail
    refused(OTAError.NO_FILE, manifest([]))


# -- which version


class Running:
    def __init__(self, version="1.0.0", secure_version=0):
        own = running_info()
        self.version = version
        self.chip = own.chip
        self.chip_id = own.chip_id
        self.secure_version = secure_version


def decided(data, running, floor=0):
    """The decision on a Manifest for who runs `running`."""
    args = data, URL, running, None, None, b"one", None, floor, release.runs
    return decisions.decide(*args)


def reason(running="1.0.0", **fields):
    data = Manifest(manifest(**fields))
    return decided(data, Running(running)).reason


def test_only_newer_versions():
    assert reason("1.0.0", version="1.0.1") == Decision.UPDATE
    assert reason("1.9.0", version="v1.10") == Decision.UPDATE
    assert reason("1.0.0", version="1.0") == Decision.UP_TO_DATE
    assert reason("1.0.0", version="1.0.0-rc1") == Decision.OLDER
    assert reason("1.10", version="1.9") == Decision.OLDER


def running_image():
    """The file that the board was flashed from."""
    data = bytearray(20480)
    Partition(Partition.RUNNING).readblocks(0, data)
    return bytes(data).rstrip(b"\xff")


def test_without_versions_the_image_decides():
    same = entry(running_image())
    for running, version in (("", "9.0"), ("1.0.0", ""), ("", ""), ("1.0", "nightly")):
        assert reason(running, version=version) == Decision.UPDATE
        assert reason(running, version=version, files=[same]) == Decision.UP_TO_DATE
    # Longer than the slot, and on a sector's end.
    assert reason("", files=[entry(size=0x1000000)]) == Decision.UPDATE
    assert reason("", files=[entry(running_image()[:8192])]) == Decision.UP_TO_DATE


def test_min_version():
    assert reason("1.4", min_version="1.4.0") == Decision.UPDATE
    assert reason("1.3.9", min_version="1.4.0") == Decision.MIN_VERSION
    assert reason("", min_version="1.4.0") == Decision.MIN_VERSION
    assert reason("9.0.0", min_version="10") == Decision.UP_TO_DATE


def test_secure_version():
    forget()
    running = Running(secure_version=3)
    for secure, code in ((0, OTAError.SECURE_VERSION), (2, OTAError.SECURE_VERSION), (3, None)):
        args = Manifest(manifest(secure_version=secure)), running
        if code:
            fails(code, decided, *args)
        else:
            assert decided(*args).update
    fails(OTAError.SECURE_VERSION, decided, *args, floor=4)


def test_stored_secure_version():
    forget()
    NVS("https_ota").set_i32("floor", 4)
    refused(OTAError.SECURE_VERSION, manifest(secure_version=3))
    assert decide(manifest(secure_version=4)).update
    forget()


def went_back_from(sha):
    """Let this be what outcome.py finds."""
    outcome.failed = lambda: [] if sha is None else [bytes(32), sha]


def test_release_that_this_board_went_back_from():
    forget()
    file = entry()
    file["elf_sha256"] = hexlify(bytes(range(32))).decode()
    data = manifest([file])
    went_back_from(None)
    assert decide(data).update
    went_back_from(bytes(range(32)))
    d = decide(data)
    assert d.reason == Decision.FAILED and not d.update
    assert decide(data, retry_failed=True).update
    # A manifest need not tell; the session finds out from the image.
    assert decide(manifest()).update
    went_back_from(bytes(31) + b"x")
    assert decide(data).update
    file["elf_sha256"] = "ab"
    refused(OTAError.MANIFEST, manifest([file]))
    went_back_from(None)


# -- rollout


def who(release, percent, n=300):
    return {i for i in range(n) if decisions._chosen(b"board-%d" % i, release, percent)}


def test_rollout_grows():
    before = set()
    for percent in (0, 1, 5, 10, 25, 50, 75, 99, 100):
        now = who(7, percent)
        assert before <= now
        before = now
    assert who(7, 0) == set() and len(before) == 300


def test_who_is_on_the_border_waits():
    """0 % is nobody, 100 % everybody, whatever the digest."""

    class Digest:
        def __init__(self, data):
            pass

        def digest(self):
            return number.to_bytes(4, "big")

    real, decisions.sha256 = decisions.sha256, Digest
    try:
        for number, least in ((0, 1), (1 << 30, 26), ((1 << 30) - 1, 25), (0xFFFFFFFF, 100)):
            assert not who(7, least - 1, 1) and who(7, least, 1), (number, least)
    finally:
        decisions.sha256 = real


def test_each_release_chooses_anew():
    assert who(7, 50) != who(8, 50)


def test_rollout_decides():
    first = min(who(7, 10))
    last = min(set(range(300)) - who(7, 90))
    assert decide(manifest(rollout=10), device_id="board-%d" % first).update
    d = decide(manifest(rollout=90), device_id=b"board-%d" % last)
    assert d.reason == Decision.ROLLOUT and "90 %" in d.words
    # The number of the board, unless something else is given.
    import machine

    use(Net(answer(manifest(rollout=40))))
    d = check(URL, insecure=True, request_size=0)
    assert d.update == decisions._chosen(machine.unique_id(), 7, 40)


# -- signatures


def test_signed_manifest():
    forget()
    data = manifest(expires="2026-12-31T00:00:00Z")
    net, d = signed(data)
    assert d.update
    assert b"GET /fleet/manifest.json.sig HTTP/1.1" in net.sent[1] and net.open == 0


def test_one_block_of_three_will_do():
    forget()
    data = manifest()
    others = [block(b"another manifest"), block(data, private=N - 1)]
    for at in range(3):
        blocks = others[:at] + [block(data)] + others[at:]
        assert signed(data, *blocks)[1].update


def test_each_byte_counts():
    data = manifest()
    for at in range(0, len(data), 7):
        forget()
        changed = bytearray(data)
        changed[at] ^= 1
        fails(OTAError.SIGNATURE, signed, bytes(changed), block(data))
        raises(OSError, NVS("https_ota").get_i32, "release")


def test_what_is_not_signed_right():
    forget()
    data = manifest()
    good = block(data)
    broken = bytearray(good)
    broken[40] ^= 1
    of_kind = bytearray(good)
    of_kind[1] = 9
    of_kind[1196:1200] = pack("<I", crc32(of_kind[:1196]))
    for code, blocks in (
        (OTAError.UNKNOWN_KEY, block(data, private=N - 1)),
        (OTAError.SIGNATURE, block(data + b" ")),
        (OTAError.SIGNATURE_BLOCK, bytes(broken)),
        (OTAError.KEY_TYPE, bytes(of_kind)),
        (OTAError.SIGNATURE_BLOCK, good[:-1]),
        (OTAError.SIGNATURE_BLOCK, good + b"\n"),
        (OTAError.SIGNATURE_BLOCK, b""),
        (OTAError.UNSIGNED, b"\xff" * 1216),
        (OTAError.MANIFEST, good * 4),
    ):
        if blocks:
            fails(code, signed, data, blocks)
        fails(
            OTAError.SIGNATURE_BLOCK if code == OTAError.MANIFEST else code,
            verify_data,
            data,
            blocks,
            [key_digest()],
            "manifest",
        )
    raises(OSError, NVS("https_ota").get_i32, "release")


def test_nothing_is_believed_before_the_signature():
    """Not even that it is malformed."""
    for data in WRONG[2:]:
        fails(OTAError.SIGNATURE, signed, data, block(b"x"))


def test_no_signature_file():
    for status in (b"404 Not Found", b"403 Forbidden", b"410 Gone"):
        use(Net(answer(manifest()), answer(b"", status=status)))
        detail = fails(
            OTAError.UNSIGNED, check, URL, insecure=True, trusted_keys=key_digest(), request_size=0
        )
        assert URL + ".sig" in detail
    use(Net(answer(manifest()), answer(b"", status=b"401 Unauthorized")))
    fails(OTAError.HTTP_STATUS, check, URL, insecure=True, trusted_keys=key_digest())


def test_signature_is_beside_the_first_url():
    data = manifest()
    moved = b"HTTP/1.1 302 Found\r\nLocation: /v7/manifest.json\r\n\r\n"
    net = use(Net(moved, answer(data), answer(block(data))))
    url = URL + "?token=1#x"
    check(url, insecure=True, trusted_keys=key_digest(), request_size=0)
    assert b"GET /fleet/manifest.json?token=1 " in net.sent[0]
    assert b"GET /fleet/manifest.json.sig?token=1 " in net.sent[2]


# -- replay and freeze


def test_older_release_is_a_replay():
    forget()
    new, same, old = manifest(release=9), manifest(release=9, rollout=99), manifest(release=8)
    assert signed(new)[1].update
    assert signed(same)[1].release == 9
    detail = fails(OTAError.MANIFEST_REPLAY, signed, old)
    assert "release 8" in detail and "release 9" in detail
    assert NVS("https_ota").get_i32("release") == 9
    assert signed(manifest(release=0x7FFFFFFF))[1].release == 0x7FFFFFFF


def marked(number, serial, **fields):
    return manifest(release=number, serial=serial, **fields)


def test_a_change_that_was_taken_back_is_a_replay():
    """Release 9 was stopped; the file of before has the same number, and the new signature holds its block as well."""
    forget()
    before, stopped = marked(9, 4, rollout=100), marked(9, 5, rollout=0)
    assert signed(before)[1].update
    both = block(stopped), block(before)
    assert signed(before, *both)[1].update
    assert signed(stopped, *both)[1].reason == Decision.ROLLOUT
    for blocks in (both, (block(before), block(stopped)), (block(before),)):
        detail = fails(OTAError.MANIFEST_REPLAY, signed, before, *blocks)
        assert "release 9, serial 4" in detail and "seen release 9, serial 5" in detail
    for again in (stopped, marked(9, 6), marked(9, 6), marked(9, 4294967295), marked(10, 0)):
        signed(again)
    for old in (marked(9, 4294967295), marked(9, 6), stopped):
        fails(OTAError.MANIFEST_REPLAY, signed, old)


def test_order_of_release_and_serial():
    """Any two: the second is taken when it is not lower, whatever the serial of another release is."""
    marks = [
        (n, s)
        for n in (1, 2, 0x7FFFFFFF)
        for s in (None, 0, 1, 2, 0x3FFFFFFF, 1 << 31, 0xFFFFFFFF)
    ]
    with EachSignatureOnce() as known:
        for first in marks:
            for second in marks:
                forget()
                signed(marked(*first))
                if (second[0], second[1] or 0) >= (first[0], first[1] or 0):
                    signed(marked(*second))
                    assert NVS("https_ota").get_i32("release") == second[0]
                else:
                    fails(OTAError.MANIFEST_REPLAY, signed, marked(*second))
    assert len(known) == len(marks)


def test_replay_ends_no_silence_and_begins_none():
    forget()
    old, new = marked(9, 1, rollout=0), marked(9, 2, rollout=0)
    signed(old)
    signed(new)
    record = bytearray(200)
    n = NVS("https_ota").get_blob("etag", record)
    fails(OTAError.MANIFEST_REPLAY, signed, old)
    again = bytearray(200)
    assert NVS("https_ota").get_blob("etag", again) == n and again == record
    net = use(Net(NOT_MODIFIED))
    options = {"trusted_keys": key_digest(), "device_id": "one", "request_size": 0}
    assert check(URL, insecure=True, **options).reason == Decision.NOT_MODIFIED
    assert b'If-None-Match: "m1"' in net.sent[0]


def test_an_expired_change_is_not_remembered():
    forget()
    fails(OTAError.MANIFEST_EXPIRED, signed, marked(9, 5, expires="2026-01-01T00:00:00Z"))
    assert signed(marked(9, 4))[1].update


class Store:
    """NVS in which the call number `cut` from now on fails, or all from it on."""

    calls = cut = 0
    forever = False

    def __init__(self, name):
        self._nvs = NVS(name)

    def _do(self, name, *args):
        if name not in ("get_i32", "get_blob"):
            Store.calls += 1
            if Store.calls == Store.cut or (Store.forever and Store.calls > Store.cut):
                raise OSError(-4357, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        return getattr(self._nvs, name)(*args)

    def __getattr__(self, name):
        return lambda *args: self._do(name, *args)


def test_store_that_is_full():
    """Nobody is locked out; what can't be kept is known until the reset, and said."""
    with EachSignatureOnce():
        for cut in range(1, 9):
            for forever in (False, True):
                forget()
                signed(marked(8, 7, rollout=0 if cut % 2 else 100))
                nvs.NVS = Store
                Store.calls, Store.cut, Store.forever = 0, cut, forever
                try:
                    _, d = signed(marked(9, 5))
                    assert d.update
                    told = "NVS has no room" in d.words
                    # As long as it runs, all is known, whatever was stored.
                    fails(OTAError.MANIFEST_REPLAY, signed, marked(9, 4))
                    fails(OTAError.MANIFEST_REPLAY, signed, marked(8, 9))
                    signed(marked(9, 5))
                finally:
                    nvs.NVS = NVS
                kept.pop("manifest", None)  # a reset
                # It was said, or it is known.
                if not told:
                    fails(OTAError.MANIFEST_REPLAY, signed, marked(9, 4))
                fails(OTAError.MANIFEST_REPLAY, signed, marked(8, 6))
                for again in (marked(9, 5), marked(9, 6), marked(10, 0), marked(10, 1)):
                    signed(again)
    forget()


def test_record_that_is_no_record():
    for junk in (b"", b"\xff", b"\xff" * 7, b"\xff" * 9, bytes(8)):
        forget()
        NVS("https_ota").set_blob("serial", junk)
        NVS("https_ota").set_i32("release", 5)
        fails(OTAError.MANIFEST_REPLAY, signed, marked(4, 9))
        signed(marked(5, 0))
        signed(marked(5, 3))
        fails(OTAError.MANIFEST_REPLAY, signed, marked(5, 2))
    forget()


def test_full_nvs_of_a_board():
    """Other people's keys take all the room; the record of the poll is given up for that of the replay."""
    forget()
    signed(marked(8, 1, rollout=0))
    other = NVS("other")
    n = 0
    for data in (bytes(1000), b""):
        try:
            while True:
                if data:
                    other.set_blob("k%d" % n, data)
                else:
                    other.set_i32("k%d" % n, n)
                n += 1
        except OSError:
            pass
    try:
        _, d = signed(marked(9, 1))
        assert d.update and "NVS has no room" not in d.words
        raises(OSError, NVS("https_ota").get_blob, "etag", bytearray(200))
        kept.pop("manifest", None)
        fails(OTAError.MANIFEST_REPLAY, signed, marked(9, 0))
    finally:
        for i in range(n):
            other.erase_key("k%d" % i)
    forget()


def test_unsigned_manifest_neither_counts_nor_locks_out():
    forget()
    decide(manifest(release=1000))
    raises(OSError, NVS("https_ota").get_i32, "release")
    signed(manifest(release=9))
    assert decide(manifest(release=8, expires="2001-01-01T00:00:00Z")).update


def test_expired():
    # The clock of these tests says 2026-03-04 05:06:07.
    for expires, good in (
        ("2026-03-04T05:06:08Z", True),
        ("2026-03-04T05:06:07Z", False),
        ("2026-03-04T04:59:59Z", False),
        ("2026-02-28T23:59:59Z", False),
        ("2025-12-31T23:59:59Z", False),
        ("2106-01-01T00:00:00Z", True),
    ):
        forget()
        data = manifest(expires=expires)
        if good:
            assert signed(data)[1].update
            continue
        detail = fails(OTAError.MANIFEST_EXPIRED, signed, data)
        assert expires in detail and "2026-03-04T05:06:07Z" in detail
        raises(OSError, NVS("https_ota").get_i32, "release")


def test_expiry_needs_a_clock():
    forget()
    for year in (1970, 2000, 2023):
        detail = fails(OTAError.CLOCK, signed, manifest(expires="2026-12-31T00:00:00Z"), year=year)
        assert "no expiry date" in detail
    assert signed(manifest(), year=2000)[1].update


# -- polling


def poll(*answers, url=URL, **options):
    """The decision, and the requests that it took."""
    net = use(Net(*answers))
    release.time = explain.time = net.clock
    options.setdefault("device_id", "one")
    d = check(url, insecure=True, request_size=0, **options)
    assert not net.answers
    return d, net.sent


def nothing_to_do(**fields):
    return manifest(version="1.0.0", **fields)


def test_same_manifest_is_asked_for_once():
    forget()
    data = nothing_to_do()
    d, sent = poll(answer(data))
    assert d.reason == Decision.UP_TO_DATE and b"If-None-Match" not in sent[0]
    for _ in range(2):
        d, sent = poll(NOT_MODIFIED)
        assert d.reason == Decision.NOT_MODIFIED and not d.update and d.url is None
        assert b'If-None-Match: "m1"\r\n' in sent[0]
    d, sent = poll(answer(manifest(), b'"m2"'))
    assert d.update and b'If-None-Match: "m1"\r\n' in sent[0]


def test_update_is_no_reason_to_be_silent():
    """It may fail, and must come again; so must what has an error."""
    forget()
    poll(answer(nothing_to_do()))
    poll(answer(manifest(), b'"m2"'))
    d, sent = poll(answer(manifest(), b'"m2"'))
    assert d.update and b"If-None-Match" not in sent[0]
    poll(answer(nothing_to_do()))
    use(Net(answer(manifest([]))))
    fails(OTAError.NO_FILE, check, URL, insecure=True, request_size=0, device_id="one")
    _, sent = poll(answer(manifest([entry()])))
    assert b"If-None-Match" not in sent[0]


def test_rollout_that_grows_ends_the_silence():
    forget()
    d, _ = poll(answer(manifest(rollout=0)))
    assert d.reason == Decision.ROLLOUT
    d, _ = poll(NOT_MODIFIED)
    assert d.reason == Decision.NOT_MODIFIED
    d, sent = poll(answer(manifest(rollout=100), b'"m2"'))
    assert d.update and b'If-None-Match: "m1"' in sent[0]


def another_build():
    info = running_info()
    info.app_elf_sha256 = bytes(32)
    return info


def test_whatever_decided_ends_the_silence():
    for change in (
        {"url": "http://host/other.json"},
        {"board": "B"},
        {"variant": "V"},
        {"device_id": "two"},
        {"failed": bytes(32)},
        {"running": 1},
    ):
        forget()
        poll(answer(nothing_to_do()))
        url = change.pop("url", URL)
        went_back_from(change.pop("failed", None))
        if change.pop("running", 0):
            release.running_info = another_build
        try:
            _, sent = poll(answer(nothing_to_do()), url=url, **change)
        finally:
            release.running_info = running_info
            went_back_from(None)
        assert b"If-None-Match" not in sent[0]
    forget()


def test_signature_of_the_url_does_not():
    for one, two in (
        ("X-Amz-Date=1&X-Amz-Signature=a", "X-Amz-Date=2&X-Amz-Signature=b"),
        ("id=1&Expires=1&Signature=a&Key-Pair-Id=K", "id=1&Expires=2&Signature=b&Key-Pair-Id=L"),
        ("sv=1&se=1&sr=b&sp=r&sig=a", "sv=2&se=2&sr=b&sp=r&sig=b"),
        ("a", "a#x"),
    ):
        forget()
        poll(answer(nothing_to_do()), url=URL + "?" + one)
        d, _ = poll(NOT_MODIFIED, url=URL + "?" + two)
        assert d.reason == Decision.NOT_MODIFIED


def test_another_query_is_another_manifest():
    for one, two in (
        ("", "?id=2"),
        ("?id=1", "?id=2"),
        ("?id=1&sig=a", "?id=2&sig=a"),
        ("?se=1", "?se=2"),
    ):
        forget()
        poll(answer(nothing_to_do()), url=URL + one)
        _, sent = poll(answer(nothing_to_do()), url=URL + two)
        assert b"If-None-Match" not in sent[0]


def test_a_date_alone_is_never_believed():
    """Neither does the board ask by it, nor is a manifest with an equal or an older one passed over."""
    date = b"Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n"
    older = b"Last-Modified: Tue, 31 Dec 2024 00:00:00 GMT\r\n"
    for second in (date, older, b""):
        forget()
        poll(answer(nothing_to_do(), etag=None, extra=date))
        d, sent = poll(answer(manifest(), etag=None, extra=second))
        assert b"\r\nIf-" not in sent[0] and d.update


def test_an_etag_of_any_form_is_asked_by():
    for etag in (b'W/"m1"', b"0x8D4BCC2E4835CD0", b"M", b"Mon, 01 Jan 2024 00:00:00 GMT", b"''"):
        forget()
        poll(
            answer(
                nothing_to_do(), etag, extra=b"Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n"
            )
        )
        d, sent = poll(NOT_MODIFIED)
        assert d.reason == Decision.NOT_MODIFIED
        assert b"\r\nIf-None-Match: %s\r\n" % etag in sent[0] and b"Modified-Since" not in sent[0]


def test_an_etag_is_asked_by_whole_or_not_at_all():
    for n in range(120, 136):
        forget()
        etag = b'"' + b"m" * (n - 2) + b'"'
        poll(answer(nothing_to_do(), etag))
        _, sent = poll(answer(nothing_to_do(), etag))
        asked = b"\r\nIf-None-Match: %s\r\n" % etag in sent[0]
        assert asked == (n <= 127) == (b"If-None-Match" in sent[0]), n


def test_record_of_an_earlier_version():
    forget()
    poll(answer(nothing_to_do()))
    record = bytearray(200)
    n = NVS("https_ota").get_blob("etag", record)
    record[0] = 1
    NVS("https_ota").set_blob("etag", record[:n])
    _, sent = poll(answer(nothing_to_do()))
    assert b"\r\nIf-" not in sent[0]


def test_silence_ends_when_the_manifest_expires():
    forget()
    data = nothing_to_do(expires="2026-06-01T00:00:00Z")
    key = key_digest()
    poll(answer(data), answer(block(data)), trusted_keys=key)
    d, sent = poll(NOT_MODIFIED, trusted_keys=key)
    assert d.reason == Decision.NOT_MODIFIED and len(sent) == 1
    for year, code in ((2027, OTAError.MANIFEST_EXPIRED), (2000, OTAError.CLOCK)):
        net = use(Net(answer(data), answer(block(data))))
        net.clock.year = year
        release.time = explain.time = net.clock
        options = {"insecure": True, "request_size": 0, "device_id": "one", "trusted_keys": key}
        fails(code, check, URL, **options)
        assert b"If-None-Match" not in net.sent[0]
    # Keys are part of what decided.
    _, sent = poll(answer(data), answer(block(data)), trusted_keys=[key, bytes(32)])
    assert b"If-None-Match" not in sent[0]
    _, sent = poll(answer(data))
    assert b"If-None-Match" not in sent[0]


def test_silence_on_an_unsigned_manifest_has_no_end():
    forget()
    poll(answer(nothing_to_do(expires="2001-01-01T00:00:00Z")))
    d, _ = poll(NOT_MODIFIED)
    assert d.reason == Decision.NOT_MODIFIED


def test_flash_is_left_alone_while_nothing_changes():
    import simboard

    forget()
    data = nothing_to_do()
    key = key_digest()
    poll(answer(data), answer(block(data)), trusted_keys=key)
    simboard.reset_counters()
    poll(NOT_MODIFIED, trusted_keys=key)
    # A server that does not know If-None-Match.
    poll(answer(data), answer(block(data)), trusted_keys=key)
    erased, programs = simboard.counters()[:2]
    assert (erased, programs) == (0, 0)


# -- update_from


def boots():
    return Partition(Partition.BOOT).info()[4]


def test_update_from():
    forget()
    data = fresh()
    net = use(Net(answer(manifest([entry(data)])), answer(data)))
    info = update_from(URL, insecure=True, request_size=0)
    assert info.version == "9.0.0" and b"GET /fleet/fw.bin " in net.sent[1]
    assert boots() != Partition(Partition.RUNNING).info()[4] and net.open == 0


def test_nothing_to_update():
    forget()
    net = use(Net(answer(nothing_to_do())))
    assert update_from(URL, insecure=True) is None
    assert len(net.sent) == 1


def test_image_must_be_the_one_of_the_manifest():
    forget()
    data = fresh()
    for other, code in (
        (fresh(), OTAError.DIGEST),
        (fresh(10000), OTAError.SIZE),
    ):
        use(Net(answer(manifest([entry(data)])), answer(other, etag=None)))
        fails(code, update_from, URL, insecure=True, request_size=0)
    assert boots() == Partition(Partition.RUNNING).info()[4]


def test_image_is_checked_with_the_same_keys():
    forget()
    data = fresh()
    text = manifest([entry(data)])
    answers = answer(text), answer(block(text)), answer(data, b'"f1"')
    options = {"insecure": True, "request_size": 0, "trusted_keys": key_digest()}
    use(Net(*answers))
    fails(OTAError.UNSIGNED, update_from, URL, **options)
    use(Net(*answers))
    fails(OTAError.UNSIGNED, update_from, URL, image_keys=bytes(32), **options)
    assert boots() == Partition(Partition.RUNNING).info()[4]
    use(Net(*answers))
    assert update_from(URL, image_keys=None, **options).version == "9.0.0"


def test_encrypted_or_not():
    class Key:
        header_size = 4

    forget()
    use(Net(answer(manifest([entry(encrypted=True)]))))
    detail = fails(OTAError.DECRYPT_KEY, update_from, URL, insecure=True)
    assert "decrypt=" in detail
    net = use(Net(answer(manifest())))
    fails(OTAError.NOT_ENCRYPTED, update_from, URL, insecure=True, decrypt=Key())
    assert len(net.sent) == 1


def test_secrets_stay_with_the_manifests_host():
    for url, stays in (
        ("fw.bin", True),
        ("http://HOST.example/fw.bin", False),
        ("http://host:8080/fw.bin", False),
    ):
        forget()
        data = fresh()
        net = use(Net(answer(manifest([entry(data, url=url)])), answer(data)))
        update_from(
            URL,
            insecure=True,
            request_size=0,
            headers={"X-Token": "secret"},
            auth=("me", "password"),
        )
        for text in (b"X-Token: secret", b"Authorization: Basic"):
            assert text in net.sent[0]
            assert (text in net.sent[1]) == stays, url


def test_secrets_stay_after_a_redirect():
    forget()
    data = fresh()
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://cdn/m.json\r\n\r\n"
    net = use(Net(moved, answer(manifest([entry(data)])), answer(data)))
    update_from(URL, insecure=True, request_size=0, auth=("me", "password"))
    assert [b"Authorization" in sent for sent in net.sent] == [True, False, False]
    assert net.addresses[2] == ("cdn", 80)


def test_one_connection_at_a_time():
    forget()
    data = fresh()
    text = manifest([entry(data)])
    net = use_tls(Net(answer(text), answer(block(text)), answer(data)))
    most = []
    connect = net.socket

    def socket(*args):
        most.append(net.open)
        return connect(*args)

    net.socket = socket
    update_from(
        URL.replace("http:", "https:"),
        cadata=b"0",
        request_size=0,
        trusted_keys=key_digest(),
        image_keys=None,
    )
    assert most == [0, 0, 0]


def test_watchdog_is_fed():
    class WDT:
        fed = 0

        def feed(self):
            self.fed += 1

    forget()
    wdt = WDT()
    use(Net(answer(manifest(version=""))))
    check(URL, insecure=True, request_size=0, wdt=wdt)
    assert wdt.fed >= 2
