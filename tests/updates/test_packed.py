"""Compressed images, as `https-ota pack` and others make them, from a server and from files."""

import gzip
import hashlib
import shutil
import struct
import subprocess
import zlib

import encfiles
import faults
import images
import pytest
import servers
from board import Board, make_board
from built import ROOT
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cutting import CUT, cut_everywhere
from faults import FaultServer
from kept import KEPT, steady
from proxy import Proxy

from https_ota_tools import packed, sbv2

APP = images.app_image(size=200_000, version="2.0.0", seed=9, like_code=True)
PACKED = packed.pack(APP)
SLOT = 0x190000


def held(board):
    """What is in the slot that is written."""
    return board.flash.read_bytes()[SLOT : SLOT + len(APP)]


def install(board, data, **options):
    """The update from a file beside the flash file."""
    (board.flash.parent / "came").write_bytes(data)
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return board.run(f"import https_ota\nprint(https_ota.install('came'{given}))")


def refusal(board, data):
    (board.flash.parent / "came").write_bytes(data)
    return board.refuse_file("came")


def test_over_tls(any_board, www, nginx):
    """Two thirds of the bytes, counted at the server; the digest and size that one may give are the image's."""
    (www / "app.gz").write_bytes(PACKED)
    digest = hashlib.sha256(APP).hexdigest()
    any_board.update(nginx.url("app.gz"), size=len(APP), sha256=digest)
    assert any_board.running().version == "2.0.0"
    assert held(any_board) == APP
    assert sum(r.sent for r in nginx.requests()) == len(PACKED) < len(APP) * 0.7


def test_nothing_comes_twice(board, www, nginx):
    (www / "app.gz").write_bytes(PACKED)
    url = nginx.url("app.gz")
    again = f"assert https_ota.update({url!r}, cadata=open('ca.pem').read())"
    board.run(f"{board.code(url)}\n{again}")
    board.run("import https_ota\nhttps_ota.confirm()")
    assert board.running().version == "2.0.0"
    # It was in the slot, it runs: the ETag says so.
    assert board.update(url) == "None\n"
    assert [r.status for r in nginx.requests()] == [200, 304, 304]


def test_from_a_file(board):
    assert "2.0.0" in install(board, PACKED, size=len(APP))
    assert held(board) == APP


def test_beside_other_tasks(board, www, nginx):
    (www / "app.gz").write_bytes(PACKED)
    board.update(nginx.url("app.gz"), aio=True)
    assert held(board) == APP


@pytest.mark.parametrize("frame", ["chunks", "end"])
def test_length_that_is_not_told(board, root, frame):
    """What must come at least is known of the image, and says nothing of the file."""

    def fault(peer, reply):
        if frame == "chunks":
            return faults.chunked()(peer, reply)
        del reply.headers["Content-Length"]
        peer.send(reply.head() + reply.body)
        peer.close()
        return True

    for data in (PACKED, gzip.compress(APP)):
        board.flash.unlink()
        board = make_board(board.flash.parent, root, "sim")
        with FaultServer(data, {0: fault}, root.server()) as server:
            board.update(server.url("app.gz"), size=len(APP), request_size=0)
        assert held(board) == APP


def test_signed(board, www, nginx, keys):
    key = load_pem_private_key(keys.private("rsa").read_bytes(), None)
    (www / "app.gz").write_bytes(packed.pack(sbv2.sign(APP, [key])))
    # The signature is of what came out.
    (www / "bare.gz").write_bytes(PACKED)
    said = board.refuse(nginx.url("bare.gz"), trusted_keys=keys.digests["rsa"])
    assert said.startswith("OTAError: UNSIGNED: ")
    board.update(nginx.url("app.gz"), trusted_keys=keys.digests["rsa"])
    assert board.running().version == "2.0.0"


def test_encrypted(any_board, www, nginx, keys):
    """Encryption is outermost. What was broken off begins anew, as the compressed bytes that came are nowhere."""
    public = load_pem_public_key(keys.public("p256").read_bytes())
    (www / "app.enc").write_bytes(encfiles.write(PACKED, public))
    url = nginx.url("app.enc")
    code = any_board.code(url)[:-2] + f", decrypt={keys.opener('p256')}))"
    assert any_board.start(code, SIM_CUT="38").returncode == CUT
    any_board.run(code)
    assert held(any_board) == APP
    bad = bytearray(encfiles.write(PACKED, public))
    bad[-5000] ^= 1
    (www / "app.enc").write_bytes(bad)
    any_board.fail(code)


# -- what others make


def made_by(command, data, folder):
    path = folder / "in.bin"
    path.write_bytes(data)
    subprocess.run([*command, path], check=True, capture_output=True)
    return (folder / "in.bin.gz").read_bytes()


TOOLS = {
    "bgzip": ["bgzip", "-f"],
    "bgzip -l 1": ["bgzip", "-f", "-l", "1"],
    "gzip": ["gzip", "-k", "-f"],
    "gzip -1": ["gzip", "-1", "-f"],
    "gzip -9 -n": ["gzip", "-9", "-n", "-f"],
    "pigz": ["pigz", "-f"],
    "pigz -11": ["pigz", "-11", "-f"],
    "pigz -b 128 -i": ["pigz", "-b", "128", "-i", "-f"],
    "zopfli": ["zopfli", "--i1"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_by_other_tools(board, tmp_path, tool):
    data = made_by(TOOLS[tool], APP, tmp_path)
    install(board, data)
    assert held(board) == APP
    assert packed.unpack(data).data == APP


ALL = """
import hashlib, os
from https_ota.pack.kinds import unpack
class Region:
    size = 1 << 20
    piece = bytearray(1024)
class File:
    validator = None
    def __init__(self, f):
        self.readinto = f.readinto
def digest(name):
    with open(name, "rb") as f:
        file = File(f)
        head = bytearray(512)
        n = f.readinto(head)
        s = unpack(file, file, Region, head, n)
        h = hashlib.sha256()
        buf = bytearray(512)
        while n := s.readinto(buf):
            h.update(memoryview(buf)[:n])
        return h.digest().hex()
for name in os.listdir("all"):
    print(name, digest("all/" + name))
"""


@pytest.mark.parametrize("build", ["sim", "sim64"])
def test_by_zlib_in_every_way(tmp_path, root, build):
    """All levels, strategies and windows, raw flushes in between, noise and zeros: what is ahead is always enough."""
    board = make_board(tmp_path, root, build)
    (tmp_path / "all").mkdir()
    contents = {
        "code": APP[:60_000],
        "noise": hashlib.shake_128(b"noise").digest(30_000),
        "zeros": bytes(70_000),
        # Few codes fit what comes last: literals of many bits.
        "turn": bytes(range(64)) * 500 + hashlib.shake_128(b"turn").digest(4000),
        "text": b"".join(b"%d %x\n" % (i, i * i) for i in range(4000)),
    }
    expected = {}

    def add(name, data, compressor):
        for kind, content in contents.items():
            c = compressor()
            out = b""
            for i in range(0, len(content), data):
                out += c.compress(content[i : i + data]) + c.flush(
                    zlib.Z_SYNC_FLUSH if data < 60_000 else zlib.Z_NO_FLUSH
                )
            (tmp_path / "all" / f"{name}-{kind}").write_bytes(out + c.flush())
            expected[f"{name}-{kind}"] = hashlib.sha256(content).hexdigest()

    for level in range(10):
        add(f"gzip-{level}", 1 << 20, lambda level=level: zlib.compressobj(level, wbits=31))
        add(f"zlib-{level}", 1 << 20, lambda level=level: zlib.compressobj(level, wbits=15))
    for strategy in (zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
        for mem in (1, 9):
            add(
                f"strategy-{strategy}-{mem}",
                1 << 20,
                lambda s=strategy, m=mem: zlib.compressobj(9, wbits=31, memLevel=m, strategy=s),
            )
    for bits in range(9, 15):
        add(f"window-{bits}", 1 << 20, lambda bits=bits: zlib.compressobj(9, wbits=bits))
    for size in (20, 300, 5000):
        add(f"flush-{size}", size, lambda: zlib.compressobj(9, wbits=31))
    for window in packed.WINDOWS:
        for kind, content in contents.items():
            (tmp_path / "all" / f"ours-{window}-{kind}").write_bytes(packed.pack(content, window))
            expected[f"ours-{window}-{kind}"] = hashlib.sha256(content).hexdigest()
    found = dict(line.split() for line in board.run(ALL).splitlines())
    assert found == expected


# -- going on


def test_going_on_after_a_power_cut(any_board, www, nginx):
    """From the block that the last record was made at: 64 KiB of the image, less than that of the file."""
    (www / "app.gz").write_bytes(PACKED)
    url = nginx.url("app.gz")
    assert any_board.start(any_board.code(url), SIM_CUT="38").returncode == CUT
    before = len(nginx.requests())
    any_board.update(url)
    assert held(any_board) == APP
    again = nginx.requests()[before:]
    first = int(again[0].range.removeprefix("bytes=").partition("-")[0])
    assert zlib.decompressobj(31).decompress(PACKED[first:]) == APP[65536 : 65536 + packed.BLOCK]
    assert sum(r.sent for r in again) == len(PACKED) - first


@pytest.mark.parametrize("tool", ["bgzip", "gzip"])
def test_going_on_in_what_others_made(board, www, nginx, tmp_path, tool):
    """BGZF of any block size can be gone on with, one stream can't: nothing is erased twice nevertheless."""
    data = made_by(TOOLS[tool], APP, tmp_path)
    (www / "app.gz").write_bytes(data)
    url = nginx.url("app.gz")
    assert board.start(board.code(url), SIM_CUT="42").returncode == CUT
    before = len(nginx.requests())
    events = board.run(
        "import https_ota\nseen = []\n"
        f"https_ota.update({url!r}, cadata=open('ca.pem').read(), event=lambda e, v: seen.append(e))\n"
        "from https_ota import events\nprint(seen.count(events.SKIPPED), seen.count(events.WRITE_FLASH))"
    ).split()
    assert held(board) == APP
    sent = sum(r.sent for r in nginx.requests()[before:])
    if tool == "gzip":
        assert sent == len(data)
        assert int(events[0]) >= 30
    else:
        assert sent < len(data) * 0.75


def in_parts(data, size):
    return b"".join(gzip.compress(data[i : i + size], 9) for i in range(0, len(data), size))


@pytest.mark.parametrize("size", [packed.BLOCK, 5000, 66_000])
@pytest.mark.parametrize("buffer", [4096, 65536])
def test_going_on_with_any_buffer_and_parts_of_any_size(tmp_path, root, www, size, buffer):
    """A part that began behind what is written is no place to go on at."""
    data = PACKED if size == packed.BLOCK else in_parts(APP, size)
    (www / "app.gz").write_bytes(data)
    start = make_board(tmp_path, root, "sim").flash.read_bytes()
    board = Board(tmp_path / "flash.bin")
    boots = board.boots_from()
    went_on = 0
    with servers.Nginx(www) as plain:
        code = (
            f"import https_ota\nhttps_ota.update({plain.url('app.gz')!r}, insecure=True, "
            f"buffer=bytearray({buffer}))"
        )
        for cut in range(14, 200, 7 if buffer > 4096 else 17):
            board.flash.write_bytes(start)
            if (
                board.start(code, SIM_CUT=str(cut)).returncode != CUT
                or board.boots_from() != boots
            ):
                break
            before = len(plain.requests())
            board.run(code)
            assert held(board) == APP, cut
            went_on += plain.requests()[before].range != ""
    assert went_on > 1, "it began anew each time"


def test_file_that_changed_meanwhile(board, www, nginx):
    (www / "app.gz").write_bytes(PACKED)
    url = nginx.url("app.gz")
    assert board.start(board.code(url), SIM_CUT="42").returncode == CUT
    other = images.app_image(size=180_000, version="3.0.0", seed=8, like_code=True)
    # One that is compressed in its place, and one that is not.
    for data in (packed.pack(other), other):
        (www / "app.gz").write_bytes(data)
        flash = board.flash.read_bytes()
        board.update(url)
        assert board.running().version == "3.0.0"
        board.flash.write_bytes(flash)


def test_flash_that_changed_meanwhile(board, www, nginx):
    (www / "app.gz").write_bytes(PACKED)
    url = nginx.url("app.gz")
    assert board.start(board.code(url), SIM_CUT="42").returncode == CUT
    flash = bytearray(board.flash.read_bytes())
    flash[SLOT + 5000] ^= 1
    board.flash.write_bytes(flash)
    board.update(url)
    assert held(board) == APP


def test_firmware_without_the_slice_meanwhile(board, www, nginx, tmp_path):
    """It can't read the file, says so, and does not stumble over the record."""
    (www / "app.gz").write_bytes(PACKED)
    (www / "app.bin").write_bytes(APP)
    url = nginx.url("app.gz")
    assert board.start(board.code(url), SIM_CUT="42").returncode == CUT
    lib = tmp_path / "lib" / "https_ota"
    shutil.copytree(ROOT / "lib" / "https_ota", lib)
    shutil.rmtree(lib / "pack")
    env = {"MICROPYPATH": f"{tmp_path}/lib:.frozen"}
    for _ in range(2):
        board.fail(board.code(url), **env)
    assert board.fail(board.code(url), **env).startswith("OTAError: WRONG_FILE: ")
    board.run(board.code(nginx.url("app.bin")), **env)
    assert held(board) == APP


SMALL = packed.pack(images.app_image(size=84_000, version="2.0.0", seed=9, like_code=True))


@pytest.mark.parametrize("request_size", [0, 4096])
def test_cut_in_every_operation(tmp_path, root, www, request_size, capsys):
    (www / "app.gz").write_bytes(SMALL)
    start = make_board(tmp_path, root, "sim").flash
    with servers.Nginx(www) as plain:
        cuts = cut_everywhere(
            start,
            tmp_path,
            plain.url("app.gz"),
            lambda: sum(r.sent for r in plain.requests()),
            len(SMALL),
            request_size=request_size,
        )
    with capsys.disabled():
        print(f"\n{cuts} power cuts, one in each flash operation")
    assert cuts > 40


@pytest.mark.parametrize("mode", ["plain", "ranged", "resumed"])
def test_connection_cut_before_every_record(tmp_path, root, www, nginx, mode):
    image = packed.unpack(SMALL).data
    (www / "app.gz").write_bytes(SMALL)
    board = make_board(tmp_path, root, "sim" if mode == "plain" else "sim-tls4k")
    options = {"request_size": 0} if mode == "plain" else {}
    cuts = 0
    with Proxy(nginx) as proxy:
        url = proxy.url("app.gz")
        if mode == "resumed":
            assert board.start(board.code(url), SIM_CUT="26").returncode == CUT
        start = board.flash.read_bytes()
        while True:
            board.flash.write_bytes(start)
            proxy.cut_at, proxy.records = cuts + 1, 0
            board.update(url, **options)
            assert board.flash.read_bytes()[SLOT : SLOT + len(image)] == image, f"{cuts + 1}"
            if not proxy.was_cut:
                break
            cuts += 1
    assert cuts > (3 if mode == "resumed" else 8)


# -- bad files


def test_damage_never_leads_to_a_switch(board, tmp_path):
    """A flipped bit in each region, cuts, more behind it: nothing of it is selected, unless all came out as it was."""
    small = images.app_image(size=40_000, version="2.0.0", seed=2, like_code=True)
    data = packed.pack(small)
    second = len(data) - len(
        packed.pack(small)[:-28].partition(b"\x1f\x8b\x08\x04" + bytes(5))[2]
    ) % len(data)
    bad = {}
    for at in {*range(40), *range(40, len(data), 997), second, *range(len(data) - 40, len(data))}:
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        bad[f"flip {at}"] = bytes(flipped)
    for n in (0, 10, 17, 31, 300, 5000, len(data) // 2, len(data) - 29, len(data) - 40):
        bad[f"cut {n}"] = data[:n]
    for more in (b"\0", b"\0" * 4096, data, b"x" * 100):
        bad[f"more {len(more)}"] = data + more
    # An image without a SHA-256 of its own has the CRC alone.
    bare = packed.pack(
        images.app_image(size=40_000, version="2.0.0", seed=2, like_code=True, hash_appended=False)
    )
    for at in range(100, len(bare), 2999):
        flipped = bytearray(bare)
        flipped[at] ^= 1 << at % 8
        bad[f"bare {at}"] = bytes(flipped)
    (tmp_path / "all").mkdir()
    for name, content in bad.items():
        (tmp_path / "all" / name).write_bytes(content)
    said = board.run(
        "import https_ota, os\n"
        "from esp32 import Partition\n"
        "for name in os.listdir('all'):\n"
        "    try:\n"
        "        https_ota.install('all/' + name)\n"
        "        https_ota.cancel()\n"
        "        print(name, 0, 0)\n"
        "    except https_ota.OTAError as e:\n"
        "        p = Partition(Partition.BOOT).info()[4]\n"
        "        print(name, e.code, p)\n"
    )
    codes = {}
    for line in said.splitlines():
        kind, at, code, boots = line.split()
        codes[kind, int(at)] = int(code)
        assert boots in ("0", "ota_0"), line
    assert len(codes) == len(bad)
    taken = {key for key, code in codes.items() if code == 0}
    # The second member's time and system, sizes of members, the empty one at the end that one may leave out.
    for kind, at in taken:
        assert kind in ("flip", "cut"), (kind, at)
        if kind == "flip":
            try:
                assert packed.unpack(bad[f"flip {at}"]).data == small
            except packed.BadFileError:
                assert at < 40 or at > len(data) - 40
    assert ("cut", len(data) - 40) not in taken


def test_bombs(board, tmp_path):
    """1 MB that would be 1 GB: refused before the first erase where the size is told, else at the end of the slot."""
    head = images.app_image(size=4096, version="2.0.0")
    gig = zlib.compressobj(9, wbits=31)
    data = gig.compress(head)
    zeros = bytes(1 << 20)
    for _ in range(1024):
        data += gig.compress(zeros)
    data += gig.flush()
    assert len(data) < 1_100_000
    erases = Erases(board)
    assert refusal(board, data).startswith("OTAError: TOO_BIG: ")
    assert erases() > 0
    # An image that is filled up with what erased flash holds fits; not endlessly.
    gig = zlib.compressobj(9, wbits=31)
    data = gig.compress(head)
    for _ in range(64):
        data += gig.compress(b"\xff" * (1 << 20))
    assert "expected 3145728 bytes" in refusal(board, data + gig.flush())
    big = packed.pack(images.app_image(size=0x180000 + 4096, version="2.0.0"))
    erases = Erases(board)
    assert refusal(board, big).startswith("OTAError: TOO_BIG: ")
    assert erases() == 0


class Erases:
    """How many bytes of the slot have changed since."""

    def __init__(self, board):
        self.board = board
        self.before = held(board)

    def __call__(self):
        return sum(a != b for a, b in zip(self.before, held(self.board), strict=True))


@pytest.mark.parametrize(
    ("total", "code"),
    [
        (1, "SIZE"),
        (40_000, "TRUNCATED"),
        (39_000, "TRUNCATED"),
        (0xFFFFFFFF, "TOO_BIG"),
        (41_000, "TRUNCATED"),
    ],
)
def test_sizes_that_lie(board, total, code):
    data = bytearray(packed.pack(images.app_image(size=39_984, version="2.0.0")))
    at = data.index(b"WS\5\0") + 5
    data[at : at + 4] = struct.pack("<I", total)
    assert refusal(board, bytes(data)).startswith("OTAError: ")


def test_size_and_digest_that_were_given(board, www, nginx):
    (www / "app.gz").write_bytes(PACKED)
    assert board.refuse(nginx.url("app.gz"), size=len(PACKED)).startswith("OTAError: SIZE: ")
    wrong = hashlib.sha256(PACKED).hexdigest()
    assert board.refuse(nginx.url("app.gz"), sha256=wrong).startswith("OTAError: DIGEST: ")


def test_what_is_in_it_is_no_image(board):
    for inside, words in (
        (b"hello, world, " * 100, "text: hello"),
        (gzip.compress(APP), "a gzip file"),
        (b"", "an empty file"),
    ):
        said = refusal(board, gzip.compress(inside))
        assert "expected an application image, got " + words in said, said


def test_window_that_does_not_fit(board, tmp_path):
    (tmp_path / "came").write_bytes(packed.pack(APP, 32768))
    erases = Erases(board)
    said = board.fail(
        "import gc, https_ota, https_ota.ota, https_ota.pack.inflate, https_ota.pack.kinds, https_ota.boot.history\n"
        "held = []\n"
        "f = open('came', 'rb')\n"
        "gc.collect()\n"
        "while gc.mem_free() > 60000:\n"
        "    held.append(bytearray(8000))\n"
        "held.append(bytearray(20000))\n"
        "https_ota.update(f)"
    )
    assert said.startswith(
        "OTAError: MEMORY: it was compressed with a window of 32768 bytes, the heap has "
    ), said
    assert erases() == 0


def test_a_data_partition_takes_it_as_it_is(board):
    """Any file goes there: whoever reads it wants what was served."""
    install(board, PACKED, partition="vfs")
    assert PACKED in board.flash.read_bytes()


# -- memory


def test_packed_keeps_at_most_4_kib_more(board, tmp_path):
    (tmp_path / "plain").write_bytes(APP)
    (tmp_path / "packed").write_bytes(PACKED)
    code = "import https_ota.pack.inflate, https_ota.pack.kinds, https_ota.ota\n"
    plain, more = (
        int(board.run(code + KEPT.format(path=name, options=""))) for name in ("plain", "packed")
    )
    assert more - plain <= 4096


def test_a_member_is_all_that_is_allocated_for(board, www, nginx):
    """200 KiB: seven members."""
    (www / "app.gz").write_bytes(
        packed.pack(images.app_image(size=400_000, version="2.0.0", seed=3, like_code=True))
    )
    allocated = int(board.run(steady(nginx.url("app.gz"), False)))
    assert 0 < allocated <= 8 * 2800


# -- instructions


@pytest.mark.timeout(300)
def test_instructions(board):
    """Of each further byte of an image, from a file, where they are the same each time: so many more than of a plain one.

    Over TLS, which has less to do then, it is half as many again (`make bench-pack`).
    """
    flash = board.flash.read_bytes()
    each = {}
    for kind, make in (("plain", bytes), ("packed", packed.pack)):
        counts = []
        for size in (60_000, 140_000):
            image = images.app_image(size=size, version="2.0.0", seed=9, like_code=True)
            (board.flash.parent / "came").write_bytes(make(image))
            board.flash.write_bytes(flash)
            counts.append(board.instructions("import https_ota\nhttps_ota.install('came')"))
        each[kind] = (counts[1] - counts[0]) / 80_000
    assert each["packed"] - each["plain"] <= 320, each
