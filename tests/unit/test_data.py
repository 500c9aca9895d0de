# data.py: other partitions than OTA slots.

import sys
from binascii import hexlify
from hashlib import sha256

import simboard
import simboot
from esp32 import Partition
from fakenet import Net, fails, raises, use
from https_ota import OTA, OTAError, beside, cancel, fetch, running_info, together, update
from https_ota.fleet.fetch import pieces
from https_ota.flash.otadata import entries, partition
from makeimage import Stream, image, noise

DATA = noise(10_000)


def content(label, n):
    buf = bytearray(n)
    Partition(label).readblocks(0, buf, 0)
    return bytes(buf)


def firmware(**fields):
    own = running_info()
    return image(9000, chip_id=own.chip_id, spi_mode=own.spi_mode, **fields)


def boots():
    return Partition(Partition.BOOT).info()[4]


def test_any_file_goes_to_a_data_partition():
    before = entries(partition())
    info = update(Stream(DATA), partition="vfs", size=len(DATA))
    assert info.label == "vfs" and info.size == len(DATA)
    assert content("vfs", len(DATA)) == DATA
    assert content("vfs", 12288)[len(DATA) :] == b"\xff" * (12288 - len(DATA))
    assert entries(partition()) == before and boots() == "ota_0"


def test_what_is_there_is_not_written_again():
    digest = sha256(DATA).digest()
    assert update(Stream(DATA), partition="vfs", sha256=digest, size=len(DATA))
    simboard.reset_counters()
    assert update(Stream(DATA), partition="vfs", sha256=digest, size=len(DATA)) is None
    staged = {"partition": "vfs", "staging": True, "sha256": digest, "size": len(DATA)}
    assert update(Stream(DATA), **staged) is None
    assert simboard.counters()[0] == 0


def test_checked_by_size_and_sha256():
    digest = hexlify(sha256(DATA).digest()).decode()
    update(Stream(DATA), partition="vfs", sha256=digest)
    fails(OTAError.DIGEST, update, Stream(DATA[:-1] + b"!"), partition="vfs", sha256=digest)
    fails(OTAError.SIZE, update, Stream(DATA[:-1]), partition="vfs", size=len(DATA))
    fails(OTAError.TRUNCATED, update, Stream(b""), partition="vfs")


def test_too_large_for_its_partition():
    size = Partition("vfs").info()[3]
    use(Net(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size + 1) + DATA))
    ota = OTA("http://host/x", insecure=True, partition="vfs")
    fails(OTAError.TOO_BIG, ota.begin)


def refuses(label, **options):
    return fails(OTAError.PARTITION, OTA(Stream(DATA), partition=label, **options).begin)


def test_what_must_not_be_written():
    assert "no partition called 'nope'" in refuses("nope")
    assert "running firmware" in refuses("ota_0")
    for label in ("nvs", "otadata", "phy_init"):
        assert "system's own" in refuses(label)
    assert "no partition called 'nope'" in refuses("vfs", staging="nope")
    assert "running firmware" in refuses("vfs", staging="ota_0")


def test_mounted_file_system():
    class Mounted:
        bdev = Partition("vfs")

    # The SIM board's own root is no flash; this is what the firmware's boot script leaves behind.
    sys.modules["flashbdev"] = Mounted
    try:
        assert "vfs is mounted: vfs.umount() it first" in refuses("vfs")
        Mounted.bdev = Partition("ota_1")
        OTA(Stream(DATA), partition="vfs").begin()
    finally:
        del sys.modules["flashbdev"]


def test_slot_by_its_label():
    update(Stream(firmware()), partition="ota_1")
    assert boots() == "ota_1"


def test_image_is_no_data():
    """What goes to an OTA slot is checked as an image, whatever its label."""
    fails(OTAError.NOT_AN_IMAGE, update, Stream(DATA), partition="ota_1")


def test_staging():
    before = content("vfs", 12288)
    ota = OTA(Stream(DATA), partition="vfs", staging=True, size=len(DATA))
    ota.begin()
    while ota.perform():
        pass
    # All is there, and nothing has changed yet.
    assert content("ota_1", len(DATA))[32:] == DATA[32:]
    assert content("vfs", 12288) == before
    ota.finish()
    assert content("vfs", len(DATA)) == DATA
    assert boots() == "ota_0"


def test_staging_leaves_alone_what_is_selected():
    update(Stream(firmware()))
    assert boots() == "ota_1"
    before = content("ota_1", 9000)
    for staging in (True, "ota_1"):
        ota = OTA(Stream(DATA), partition="vfs", staging=staging)
        assert "starts next" in fails(OTAError.PARTITION, ota.begin)
    assert boots() == "ota_1" and content("ota_1", 9000) == before
    assert cancel()
    assert update(Stream(DATA), partition="vfs", staging=True)
    assert boots() == "ota_0" and content("vfs", len(DATA)) == DATA


def test_staged_data_never_boots():
    """Though it be a firmware."""
    update(Stream(firmware()), partition="vfs", staging=True)
    assert content("ota_1", 32) == b"\xff" * 32
    raises(OSError, Partition("ota_1").set_boot)


def test_staging_is_for_data():
    raises(ValueError, OTA, Stream(DATA), staging=True)
    ota = OTA(Stream(firmware()), partition="ota_1", staging="vfs")
    assert "its own staging" in str(raises(ValueError, ota.begin))


def test_what_is_wrong_does_not_leave_the_staging_area():
    before = content("vfs", 12288)
    options = {"partition": "vfs", "staging": True, "sha256": bytes(32)}
    fails(OTAError.DIGEST, update, Stream(DATA), **options)
    assert content("vfs", 12288) == before


# -- several at once


def test_together():
    data = OTA(Stream(DATA), partition="vfs", size=len(DATA))
    infos = together(OTA(Stream(firmware())), data)
    assert infos[0].version == "1.2.3" and infos[1].label == "vfs"
    assert boots() == "ota_1" and content("vfs", len(DATA)) == DATA


def test_together_or_not_at_all():
    """The data's digest is wrong: the firmware, which came first, is not selected."""
    sessions = OTA(Stream(firmware())), OTA(Stream(DATA), partition="vfs", sha256=bytes(32))
    fails(OTAError.DIGEST, together, *sessions)
    assert boots() == "ota_0"


def test_together_with_nothing_to_do():
    data = OTA(Stream(DATA), partition="vfs", check=lambda info: False)
    assert together(OTA(Stream(firmware())), data)[1] is None
    assert boots() == "ota_1"


def test_beside():
    assert beside("romfs") == "romfs_1"


# -- buffers


def test_larger_buffers():
    data = firmware()
    for size in (8192, 65536):
        buffer = bytearray(size)
        simboard.reset_counters()
        update(Stream(data), buffer=buffer)
        assert content("ota_1", len(data)) == data
        assert boots() == "ota_1"
        # Its first block must not boot meanwhile; and otadata is taken out and put back.
        simboard.reset_counters()
        update(Stream(data), buffer=buffer)
        assert simboard.counters()[0] == 16 + 2
        assert content("ota_1", len(data)) == data
    large = noise(100_000)
    update(Stream(large), partition="vfs", buffer=bytearray(65536))
    assert content("vfs", len(large)) == large


def test_buffers_that_can_not_be_used():
    for size in (0, 100, 4095, 5000):
        assert "buffer" in str(raises(ValueError, OTA, Stream(DATA), buffer=bytearray(size)))
    ota = OTA(Stream(DATA), buffer=bytearray(4096 * 7))
    assert "don't divide" in str(raises(ValueError, ota.begin))


def test_bulk_erase():
    data = firmware()
    Partition("ota_1").writeblocks(0, noise(16384, 5))
    use(Net(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data))
    ota = OTA("http://host/x", insecure=True, bulk_erase=True, resume=False)
    ota.begin()
    simboard.reset_counters()
    ota.perform()
    while content("ota_1", 12288) != b"\xff" * 12288:
        assert ota.image_len_read <= 4096 and ota.perform()
    erased = simboard.counters()[0]
    while ota.perform():
        pass
    assert simboard.counters()[0] == erased
    ota.finish()
    assert content("ota_1", len(data)) == data


def test_erasing_by_blocks_and_by_sectors():
    data = firmware() + bytes(100_000)
    sectors = (len(data) + 4095) // 4096
    for options, by_blocks in (
        ({}, True),
        ({"bulk_erase": False}, False),
        ({"bulk_erase": True}, True),
    ):
        Partition("ota_1").writeblocks(0, noise(4096, 5) * 48)
        simboard.reset_counters()
        update(Stream(data), size=len(data), **options)
        ms = simboot.flash.ms
        assert content("ota_1", len(data)) == data
        # With what otadata takes.
        if by_blocks:
            assert 2 * 150 + sectors * 11 <= ms < 4 * 150 + sectors * 12, (options, ms)
        else:
            assert sectors * 56 <= ms < (sectors + 3) * 57, (options, ms)
        cancel()


def test_other_data_behind_a_file_stays():
    part = Partition("vfs")
    behind = noise(4096, 3)
    for sectors in (5, 16, 20):
        part.writeblocks(0, noise(4096, 4) * 24)
        part.writeblocks(sectors, behind)
        data = noise(sectors * 4096, 6)
        simboard.reset_counters()
        update(Stream(data), partition="vfs", size=len(data))
        ms = simboot.flash.ms
        assert content("vfs", len(data)) == data
        assert content("vfs", len(data) + 4096)[-4096:] == behind
        blocks = sectors // 16
        assert simboard.counters()[0] == sectors
        erasing = blocks * 150 + sectors % 16 * 45
        assert erasing + sectors * 11 <= ms <= erasing + sectors * 13, (sectors, ms)


# -- into one's own hands


def test_fetch():
    got = []
    use(Net(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + DATA))
    size = fetch("http://host/x", lambda piece: got.append(bytes(piece)), insecure=True)
    assert size == 10000 and b"".join(got) == DATA
    assert max(len(piece) for piece in got) == 1024


class Slow:
    """A source that has nothing at first, and nothing between two pieces."""

    def __init__(self, status, *answers):
        self.answers = [None, None, status]
        for answer in answers:
            self.answers += [None, answer]
        self.waits = 0
        self.reads = 0

    def open(self, position, known):
        assert position == 0
        return self.answers.pop(0)

    def readinto(self, buf):
        self.reads += 1
        answer = self.answers.pop(0)
        if not answer:
            return answer
        buf[: len(answer)] = answer
        return len(answer)

    def wait(self):
        self.waits += 1


def test_what_is_not_there_yet_is_waited_for():
    fed = []
    for status in (200, 206, 204, 304):
        fed.clear()
        source = Slow(status, b"abc", b"de", b"")
        got = [bytes(p) for p in pieces(source, bytearray(4), lambda: fed.append(1))]
        if status < 207 and status != 204:
            assert got == [b"abc", b"de"] and source.waits == 5 and not source.answers
            # Each wait, and each piece.
            assert len(fed) == 7
        else:
            assert got == [] and source.waits == len(fed) == 2 and source.reads == 0
    # Nobody has to be fed.
    assert [bytes(p) for p in pieces(Slow(200, b"x", b""), bytearray(4), None)] == [b"x"]


def test_fetch_and_its_options_one_at_a_time():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    sha = sha256(b"abc").digest()
    for options in (
        {"size": 3},
        {"size": 0},
        {"size": None},
        {"sha256": sha},
        {"sha256": hexlify(sha).decode()},
        {"size": 3, "sha256": sha},
    ):
        net = use(Net(answer))
        assert fetch("http://host/x", lambda piece: None, insecure=True, **options) == 3
        assert net.open == 0
    for code, options in (
        (OTAError.SIZE, {"size": 4}),
        (OTAError.SIZE, {"size": 2}),
        (OTAError.SIZE, {"size": 2, "sha256": sha}),
        (OTAError.DIGEST, {"size": 3, "sha256": bytes(32)}),
    ):
        net = use(Net(answer, answer, answer, answer))
        fails(code, fetch, "http://host/x", lambda piece: None, insecure=True, **options)
        assert net.open == 0
    for options in ({"size": -1}, {"size": 1.5}, {"size": "3"}, {"wdt": 5}, {"sha256": b"x"}):
        net = use(Net(answer))
        e = raises(
            (ValueError, TypeError),
            lambda o: fetch("http://host/x", lambda piece: None, insecure=True, **o),
            options,
        )
        assert next(iter(options)) in str(e) and not net.sent, options


def test_fetch_feeds_a_watchdog():
    class Dog:
        fed = 0

        def feed(self):
            self.fed += 1

    dog = Dog()
    use(Net(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + DATA))
    fetch("http://host/x", lambda piece: None, insecure=True, wdt=dog)
    assert dog.fed >= 10


def test_fetch_of_another_file():
    net = use(Net(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
    options = {"insecure": True, "sha256": sha256(b"abx").digest()}
    fails(OTAError.DIGEST, fetch, "http://host/x", lambda piece: None, **options)
    assert net.open == 0


def test_fetch_closes_when_the_writer_fails():
    def write(piece):
        raise ValueError("full")

    net = use(Net(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
    raises(ValueError, fetch, "http://host/x", write, insecure=True)
    assert net.open == 0
