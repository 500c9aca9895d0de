# resume.py: the records of an update that was broken off, and of the last that was finished; and going on.

from hashlib import sha256
from struct import pack

import https_ota
from esp32 import NVS, Partition
from fakenet import Net, raises, use
from https_ota import OTA, running_info
from https_ota.hot import sums
from https_ota.flash.resume import Held, Resume as Records
from https_ota.net.url import identity
from makeimage import descriptor, header

URL = "https://host/fw.bin"
TAG = b'"a-1"'
HEAD = bytes(range(32))
SECTOR = 4096


def Resume(url, key):
    """The records of what a URL names."""
    return Records(identity(url), key)


class Came:
    """What comes: all that bind() looks at."""

    def __init__(self, validator=TAG, mark=None):
        self.validator = validator
        if mark is not None:
            self.mark = mark


def forget():
    nvs = NVS("https_ota")
    for name in ("part", "done"):
        for key in ("0", "1", "10000", "190000"):
            try:
                nvs.erase_key(name + key)
            except OSError:
                pass
    nvs.commit()


def begun(done=8192, total=20000, validator=TAG, url=URL, key="1"):
    """Leave the record of an update that was broken off; return its sums."""
    resume = Resume(url, key)
    resume.bind(total, Came(validator), None)
    resume.start_sums()
    sums(bytearray(range(64)), 64, resume.sums)
    resume.save(done, HEAD)
    return bytes(resume.sums)


def finished(url=URL, key="1", validator=TAG):
    resume = Resume(url, key)
    resume.bind(20000, Came(validator), None)
    resume.finish(Held(20000, 19968, 20016, b"elf-hash" * 4, bytes(range(64)), validator))


# -- an update that was broken off


def test_no_record():
    forget()
    assert Resume(URL, "1").load() == 0
    assert Resume(URL, "1").held() is None


def test_record_of_a_part():
    expected = begun()
    resume = Resume(URL, "1")
    assert resume.load() == 8192
    assert (resume.total, resume.validator, bytes(resume.sums)) == (20000, TAG, expected)
    assert resume.held_back == HEAD


def test_later_record_takes_the_place_of_the_earlier():
    begun(4096)
    begun(12288)
    assert Resume(URL, "1").load() == 12288


def test_record_is_of_one_url():
    begun()
    for url in ("https://host/other.bin", "https://other/fw.bin", "https://host/fw.bi"):
        assert Resume(url, "1").load() == 0, url


def test_query_does_not_tell_files_apart():
    # Each presigned URL has another; the validator tells.
    begun(url=URL + "?sig=1")
    assert Resume(URL + "?sig=2", "1").load() == 8192


def test_record_is_of_one_slot():
    begun(key="1")
    assert Resume(URL, "0").load() == 0


def test_no_record_of_what_can_not_be_recognised():
    for total, validator in ((None, TAG), (20000, None), (20000, b"x" * 129)):
        forget()
        begun(total=total, validator=validator)
        assert Resume(URL, "1").load() == 0


def test_longest_validator():
    begun(validator=b"x" * 128)
    resume = Resume(URL, "1")
    assert resume.load() == 8192 and resume.validator == b"x" * 128


def test_forgetting():
    begun()
    resume = Resume(URL, "1")
    resume.load()
    resume.clear()
    assert Resume(URL, "1").load() == 0
    # Nothing more is recorded by a session that has forgotten.
    resume.save(4096, None)
    assert Resume(URL, "1").load() == 0
    resume.clear()


def test_broken_records():
    begun()
    nvs = NVS("https_ota")
    buf = bytearray(220)
    n = nvs.get_blob("part1", buf)
    good = bytes(buf[:n])
    for bad in (good[:-1], good + b"x", good[:20], good[:1], b"\0" + good[1:], b"\xff" * 220):
        nvs.set_blob("part1", bad)
        assert Resume(URL, "1").load() == 0, bad


def test_saving_allocates_nothing():
    import micropython

    resume = Resume(URL, "1")
    resume.bind(20000, Came(), None)
    resume.start_sums()
    resume._put = lambda key, data: None  # the chip's NVS is C, the SIM board's is not
    micropython.heap_lock()
    try:
        resume.save(65536, HEAD)
    finally:
        micropython.heap_unlock()


# -- one that was finished


def test_record_of_what_is_held():
    forget()
    begun()
    finished()
    assert Resume(URL, "1").held() == (20000, 19968, 20016, b"elf-hash", bytes(range(64)), TAG)
    assert Resume(URL, "1").load() == 0


def test_record_of_what_is_held_is_of_one_partition_and_one_url():
    forget()
    finished(key="1")
    assert Resume(URL, "0").held() is None
    assert Resume(URL, "0").held("1").size == 20000
    assert Resume("https://host/other.bin", "1").held() is None
    finished("https://host/other.bin", "0")
    assert Resume(URL, "1").held() and Resume("https://host/other.bin", "0").held()


def test_overwriting_the_slot_forgets_what_it_held():
    forget()
    finished(key="1")
    Resume(URL, "0").overwrite()
    assert Resume(URL, "1").held()
    Resume(URL, "1").overwrite()
    assert Resume(URL, "1").held() is None


def test_no_record_of_what_has_no_validator():
    forget()
    finished(validator=None)
    assert Resume(URL, "1").held() is None


# -- a store that fails


class Worn:
    def __init__(self, *args):
        pass

    def fail(self, *args):
        raise OSError(-4357)

    get_blob = set_blob = erase_key = commit = fail


def test_worn_out_store_stops_nothing():
    from https_ota.flash import nvs

    nvs.NVS = Worn
    try:
        resume = Resume(URL, "1")
        assert resume.load() == 0 and resume.held() is None
        resume.bind(20000, Came(), None)
        resume.start_sums()
        resume.save(4096, HEAD)
        resume.overwrite()
        resume.finish(Held(20000, 19968, 0, bytes(32), bytes(64), TAG))
        resume.clear()
    finally:
        nvs.NVS = NVS


# -- going on


class Sparse:
    """Bytes that are zeros but for their beginning and end."""

    def __init__(self, start, zeros, end):
        self.start = start
        self.zeros = zeros
        self.end = end

    def __len__(self):
        return len(self.start) + self.zeros + len(self.end)

    def __getitem__(self, where):
        first, last = where.start, min(where.stop, len(self))
        a = len(self.start)
        b = a + self.zeros
        zeros = bytes(max(0, min(last, b) - max(first, a)))
        return self.start[first:last] + zeros + self.end[max(0, first - b) : max(0, last - b)]


def firmware(version="1.2.3", kib=70):
    """An image of so many KiB as (beginning, number of zeros, end)."""
    running = running_info()
    size = kib * 1024 - 24 - 8 - 36
    size -= size % 16
    desc = descriptor(version)
    start = header(1, chip_id=running.chip_id, spi_mode=running.spi_mode)
    start += pack("<II", 0x3C000020, size) + desc
    zeros = size - len(desc)
    checksum = 0xEF
    for c in desc:
        checksum ^= c
    end = bytes(15 - (len(start) + zeros) % 16) + bytes([checksum])
    h = sha256(start)
    for _ in range(zeros // 16):
        h.update(bytes(16))
    h.update(bytes(zeros % 16) + end)
    return start, zeros, end + h.digest()


def reply(image, first=None, tag=TAG):
    start, zeros, end = image
    total = len(start) + zeros + len(end)
    lines = b"ETag: %s\r\nContent-Length: %d\r\n" % (tag, total - (first or 0))
    if first is None:
        return Sparse(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + start, zeros, end)
    lines += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (first, total - 1, total)
    return Sparse(b"HTTP/1.1 206 P\r\n" + lines, zeros - (first - len(start)), end)


def session():
    return OTA("http://host/fw.bin", insecure=True)


def break_off(image, sectors=17):
    """An update of which that many sectors were written before the power went; 16 of them are kept once more has come."""
    forget()
    use(Net(reply(image)))
    ota = session()
    ota.begin()
    for _ in range(sectors):
        assert ota.perform()
    https_ota.memory.owners.clear()


def go_on(*answers):
    """The next update; returns the network and how many sectors it received."""
    net = use(Net(*answers))
    ota = session()
    assert ota.begin().version
    n = 1
    while ota.perform():
        n += 1
    ota.finish()
    assert Partition(Partition.BOOT).info()[4] == ota.slot
    assert net.open == 0
    return net, n


def test_going_on_where_it_was_broken_off():
    image = firmware()
    break_off(image, 17)
    net, n = go_on(reply(image, 65536))
    assert b"Range: bytes=65536-\r\n" in net.sent[0] and b"If-Range: " + TAG in net.sent[0]
    assert n <= 3
    assert Resume("http://host/fw.bin", "190000").load() == 0


def test_going_on_with_a_server_that_sends_all_of_it():
    image = firmware()
    break_off(image)
    _, n = go_on(reply(image))
    assert n <= 3


def test_another_file_starts_over():
    break_off(firmware())
    image = firmware("2.0.0")
    _, n = go_on(reply(image, None, b'"b-2"'), reply(image, None, b'"b-2"'))
    assert n >= 17
    buf = bytearray(5)
    Partition(Partition.RUNNING).get_next_update().readblocks(0, buf, 48)
    assert buf == b"2.0.0"


def test_flash_that_has_changed_meanwhile_starts_over():
    image = firmware()
    for at in (0, 9, 15):
        break_off(image)
        slot = Partition(Partition.RUNNING).get_next_update()
        buf = bytearray(SECTOR)
        slot.readblocks(at, buf)
        buf[100] ^= 0x10
        slot.writeblocks(at, buf)
        net, n = go_on(reply(image))
        assert b"Range" not in net.sent[0], at
        assert n >= 17


def test_resume_can_be_switched_off():
    image = firmware()
    break_off(image)
    net = use(Net(reply(image)))
    ota = OTA("http://host/fw.bin", insecure=True, resume=False)
    ota.begin()
    assert b"Range" not in net.sent[0]
    ota.abort()
    assert net.open == 0


def test_bad_image_leaves_no_record():
    start, zeros, end = firmware()
    bad = (start, zeros, end[:-1] + bytes([end[-1] ^ 1]))
    forget()
    use(Net(reply(bad)))
    ota = session()
    ota.begin()

    def perform():
        while ota.perform():
            pass

    raises(Exception, perform)
    assert Resume("http://host/fw.bin", "190000").load() == 0


def test_what_was_installed_is_asked_for_as_news():
    image = firmware()
    forget()
    go_on(reply(image))
    net = use(Net(b"HTTP/1.1 304 N\r\n\r\n"))
    ota = session()
    # It is in the slot already, so it can be set to boot without another byte.
    assert ota.begin().version == "1.2.3"
    assert b"If-None-Match: " + TAG in net.sent[0]
    assert ota.perform() is False
    assert net.open == 0
    ota.finish()
    assert Partition(Partition.BOOT).info()[4] == ota.slot


def test_what_was_installed_is_known_by_a_server_that_sends_it_all_the_same():
    """The head tells that it is the same file: the rest does not come."""
    image = firmware()
    forget()
    go_on(reply(image))
    for selected in (True, False):
        if not selected:
            assert https_ota.cancel()
        net = use(Net(reply(image)))
        ota = session()
        assert ota.begin().version == "1.2.3"
        assert b"If-None-Match: " + TAG in net.sent[0]
        assert ota.perform() is False
        assert net.open == 0 and len(net.sent) == 1
        ota.finish()
        assert Partition(Partition.BOOT).info()[4] == ota.slot
    # With another ETag or length it is another file, and all of it comes.
    for other in (reply(image, tag=b'"c"'), reply(firmware(kib=71))):
        _, n = go_on(other)
        assert n >= 17
        go_on(reply(image))
    # As does what is not there any more.
    Partition(Partition.RUNNING).get_next_update().writeblocks(16, b"\x01" * SECTOR)
    net, n = go_on(reply(image), reply(image))
    assert b"If-None-Match" in net.sent[0] and b"If-None-Match" not in net.sent[1]
    assert n >= 17


def test_what_lies_there_is_known_when_news_were_asked_of_what_runs():
    """It was taken back: the server is asked about the older one, and sends what is in the slot."""
    running = "%x" % Partition(Partition.RUNNING).info()[2]
    own = running_info().app_elf_sha256
    image = firmware()
    slot = Partition(Partition.RUNNING).get_next_update()
    for intact in (True, False):
        forget()
        Resume("http://host/fw.bin", running).finish(
            Held(20000, 19968, 20000, own, bytes(64), b'E"old"')
        )
        go_on(reply(image))
        assert https_ota.cancel()
        if not intact:
            slot.writeblocks(16, b"\x01" * SECTOR)
        net, n = go_on(reply(image), reply(image))
        assert b'If-None-Match: "old"' in net.sent[0]
        if intact:
            assert n == 1 and len(net.sent) == 1
        else:
            assert n >= 17 and b"If-None-Match" not in net.sent[1]


def test_what_was_installed_and_has_changed_is_received_again():
    image = firmware()
    forget()
    go_on(reply(image))
    Partition(Partition.RUNNING).get_next_update().writeblocks(16, b"\x01" * SECTOR)
    net, n = go_on(b"HTTP/1.1 304 N\r\nConnection: close\r\n\r\n", reply(image))
    assert b"If-None-Match" in net.sent[0] and b"If-None-Match" not in net.sent[1]
    assert n >= 17


def test_what_runs_is_asked_for_as_news():
    running = "%x" % Partition(Partition.RUNNING).info()[2]
    own = running_info().app_elf_sha256
    for elf, asked in ((own, True), (bytes(32), False)):
        forget()
        Resume("http://host/fw.bin", running).finish(
            Held(20000, 19968, 20000, elf, bytes(64), b"E" + TAG)
        )
        net = use(Net(b"HTTP/1.1 304 N\r\n\r\n"))
        assert session().begin() is None
        assert (b"If-None-Match" in net.sent[0]) == asked
        assert net.open == 0


def test_no_record_says_that_all_is_there():
    """The 16th sector is the last: with nothing to go on with, a server would have nothing to answer."""
    for kib in (64, 63):
        image = firmware(kib=kib)
        break_off(image, 15)
        ota = session()
        use(Net(reply(image)))
        ota.begin()
        while ota.perform():
            pass
        ota.abort()
        assert Resume("http://host/fw.bin", "190000").load() == 0
        go_on(reply(image))
