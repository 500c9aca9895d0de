# ota.py: the session, from begin() to finish(), fed from streams and canned answers.

import sys
from binascii import hexlify
from hashlib import sha256

from esp32 import Partition
from fakenet import Net, fails, raises, use
from https_ota import OTA, OTAError, cancel, running_info, update
from https_ota.flash.otadata import NEW, entries, partition
from makeimage import Stream, flip, image, noise

SECTOR = 4096
URL = "http://host/fw.bin"


def firmware(size=9000, **fields):
    """An image that fits this board."""
    running = running_info()
    for name, value in (("chip_id", running.chip_id), ("spi_mode", running.spi_mode)):
        fields.setdefault(name, value)
    return image(size, **fields)


def target():
    """The partition that is written."""
    return Partition(Partition.RUNNING).get_next_update()


def content(n):
    buf = bytearray(n)
    target().readblocks(0, buf, 0)
    return bytes(buf)


def boots():
    """What starts at the next reset: the label, and otadata."""
    return Partition(Partition.BOOT).info()[4], entries(partition())


def receive(ota):
    ota.begin()
    while ota.perform():
        pass


def install(source, **options):
    ota = OTA(source, **options)
    receive(ota)
    ota.finish()
    return ota


def refused(code, source, **options):
    """The detail of the error that a source makes; the boot selection has not changed and the session is over."""
    before = boots()
    ota = OTA(source, **options)
    detail = fails(code, receive, ota)
    assert boots() == before
    assert not ota.is_complete_data_received()
    fails(OTAError.STATE, ota.perform)
    fails(OTAError.STATE, ota.finish)
    return detail


def answer(data, length=None, extra=b""):
    length = len(data) if length is None else length
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (extra, length) + data


# -- the whole way


def test_step_by_step():
    data = firmware()
    ota = OTA(Stream(data))
    info = ota.begin()
    assert info.version == "1.2.3" and info is ota.info
    assert ota.slot == target().info()[4]
    assert ota.perform() is True
    assert ota.perform() is True
    assert ota.perform() is False
    ota.finish()
    padded = data + b"\xff" * (-len(data) % SECTOR)
    assert content(len(padded)) == padded
    assert Partition(Partition.BOOT).info()[4] == target().info()[4] == ota.slot


def test_one_call():
    data = firmware()
    info = update(Stream(data))
    assert info.version == "1.2.3"
    assert content(len(data)) == data
    assert Partition(Partition.BOOT).info()[4] == target().info()[4]


def test_boot_selection_is_changed_once():
    before = entries(partition())
    install(Stream(firmware()))
    after = entries(partition())
    own = 0 if before[0] else 1
    # Set twice, the record of the running firmware would be lost.
    assert after[own] == before[own]
    assert after[1 - own] == (1 - before[own][0], before[own][1] + 1, NEW)


def test_pieces_of_any_size():
    for i, step in enumerate((1, 7, 1000, 1024, 1025, 5000)):
        data = firmware(seed=i)
        install(Stream(data, step))
        assert content(len(data)) == data


def test_lengths_around_a_sector():
    for size in (400, SECTOR - 16, SECTOR, SECTOR + 16, 2 * SECTOR):
        data = firmware(size)
        assert len(data) == size
        install(Stream(data))
        padded = data + b"\xff" * (-size % SECTOR)
        assert content(len(padded)) == padded, size


def test_bytes_behind_the_image_are_written_too():
    data = firmware(4000) + noise(5001)
    install(Stream(data))
    assert content(len(data) + 3) == data + b"\xff" * 3


def test_image_without_hash():
    data = firmware(hashed=0)
    install(Stream(data))
    assert content(len(data)) == data


def test_from_a_file_like_object():
    import io

    data = firmware()
    update(io.BytesIO(data))
    assert content(len(data)) == data


# -- what it tells


def test_progress_once_a_sector():
    calls = []
    data = firmware(9000)
    install(Stream(data), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4096, None), (8192, None), (len(data), None)]


def test_progress_knows_the_length_of_a_download():
    calls = []
    data = firmware(9000)
    use(Net(answer(data)))
    install(URL, insecure=True, progress=lambda done, total: calls.append((done, total)))
    n = len(data)
    assert calls == [(4096, n), (8192, n), (n, n)]


def test_questions_of_a_stream():
    data = firmware()
    ota = OTA(Stream(data))
    assert (ota.info, ota.slot, ota.image_size, ota.image_len_read, ota.status_code) == (
        None,
        None,
        None,
        0,
        0,
    )
    assert not ota.is_complete_data_received()
    ota.begin()
    assert 288 <= ota.image_len_read <= SECTOR
    ota.perform()
    assert ota.image_len_read == SECTOR
    assert not ota.is_complete_data_received()
    while ota.perform():
        pass
    assert ota.image_len_read == len(data) and ota.image_size is None
    assert ota.is_complete_data_received()
    ota.finish()
    assert ota.is_complete_data_received() and ota.image_len_read == len(data)


def test_questions_of_a_download():
    data = firmware()
    use(Net(answer(data)))
    ota = OTA(URL, insecure=True)
    assert ota.status_code == 0
    info = ota.begin()
    assert ota.status_code == 200 and ota.image_size == info.size == len(data)


# -- the order


def test_methods_out_of_order():
    data = firmware()
    ota = OTA(Stream(data))
    assert "not begun" in fails(OTAError.STATE, ota.perform)
    fails(OTAError.STATE, ota.finish)
    ota.begin()
    assert "in progress" in fails(OTAError.STATE, ota.begin)
    fails(OTAError.STATE, ota.finish)
    ota.perform()
    assert "in progress" in fails(OTAError.STATE, ota.finish)
    fails(OTAError.STATE, ota.begin)
    # None of this has hurt.
    while ota.perform():
        pass
    fails(OTAError.STATE, ota.begin)
    ota.finish()
    for method in (ota.begin, ota.perform, ota.finish):
        assert "finished" in fails(OTAError.STATE, method)
    assert content(len(data)) == data


def test_nothing_is_written_before_the_first_perform():
    target().writeblocks(0, bytes(SECTOR))
    before = boots()
    ota = OTA(Stream(firmware()))
    ota.begin()
    ota.abort()
    assert content(SECTOR) == bytes(SECTOR)
    assert boots() == before


def test_slot_leaves_the_boot_selection_with_the_first_perform():
    # Half overwritten, it must not be what starts next.
    running = Partition(Partition.RUNNING).info()[4]
    install(Stream(firmware()))
    ota = OTA(Stream(firmware(seed=5)))
    ota.begin()
    assert boots()[0] == ota.slot
    ota.perform()
    assert boots()[0] == running
    assert len([e for e in entries(partition()) if e]) == 1


def test_abort_at_each_stage():
    before = boots()
    for calls in range(5):
        ota = OTA(Stream(firmware()))
        if calls:
            ota.begin()
        for _ in range(calls - 1):
            ota.perform()
        ota.abort()
        ota.abort()
        assert boots() == before, calls
        assert not ota.is_complete_data_received()
        for method in (ota.begin, ota.perform, ota.finish):
            assert "abort" in fails(OTAError.STATE, method)


def test_abort_after_the_end_changes_nothing():
    ota = install(Stream(firmware()))
    after = boots()
    ota.abort()
    assert boots() == after
    assert ota.is_complete_data_received()


def test_context_manager_aborts():
    before = boots()
    with OTA(Stream(firmware())) as ota:
        receive(ota)
    fails(OTAError.STATE, ota.finish)
    assert boots() == before


def test_context_manager_aborts_on_an_exception():
    def use_it():
        with OTA(Stream(firmware())) as ota:
            ota.begin()
            sessions.append(ota)
            raise KeyError

    sessions = []
    before = boots()
    raises(KeyError, use_it)
    fails(OTAError.STATE, sessions[0].perform)
    assert boots() == before


def test_context_manager_leaves_what_is_finished():
    with OTA(Stream(firmware())) as ota:
        receive(ota)
        ota.finish()
    assert boots()[0] == target().info()[4]


def test_another_try_after_a_failure():
    data = firmware()
    refused(OTAError.TRUNCATED, Stream(data[:6000]))
    install(Stream(data))
    assert content(len(data)) == data


# -- refused at begin


def begin_refuses(code, data, **options):
    """The detail of what begin() says to a file; nothing has been erased."""
    target().writeblocks(0, bytes(SECTOR))
    before = boots()
    ota = OTA(Stream(data), **options)
    detail = fails(code, ota.begin)
    assert content(SECTOR) == bytes(SECTOR)
    assert boots() == before
    fails(OTAError.STATE, ota.perform)
    return detail


def test_other_chip():
    other = 9 if running_info().chip_id != 9 else 5
    assert running_info().chip in begin_refuses(OTAError.CHIP, firmware(chip_id=other))


def test_later_revision_of_the_chip():
    assert "v98.99" in begin_refuses(OTAError.CHIP_REVISION, firmware(min_rev=9899))


def test_other_flash_mode():
    other = 2 if running_info().spi_mode != 2 else 0
    data = firmware(spi_mode=other)
    begin_refuses(OTAError.FLASH_MODE, data)
    install(Stream(data), verify_spi_mode=False)


def test_no_image():
    begin_refuses(OTAError.NOT_AN_IMAGE, b"")
    assert "Not found" in begin_refuses(OTAError.NOT_AN_IMAGE, b"<html>Not found</html>")
    begin_refuses(OTAError.WRONG_FILE, b"\x7fELF" + bytes(400))
    begin_refuses(OTAError.WRONG_FILE, flip(firmware(), 32))
    begin_refuses(OTAError.TRUNCATED, firmware()[:200])


def test_broken_segments():
    begin_refuses(OTAError.SEGMENTS, flip(firmware(), 1, 0x40))
    begin_refuses(OTAError.SEGMENTS, flip(firmware(), 28))


def test_segment_larger_than_the_slot():
    begin_refuses(OTAError.TOO_BIG, flip(firmware(), 30, 0x80))


# -- refused later


def test_cut_short():
    data = firmware()
    for n in (400, 4095, 4096, 5000, len(data) - 33, len(data) - 1):
        refused(OTAError.TRUNCATED, Stream(data[:n]))


def test_flipped_bits():
    data = firmware()
    refused(OTAError.CHECKSUM, Stream(flip(data, 500)))
    refused(OTAError.CHECKSUM, Stream(flip(data, 5000)))
    refused(OTAError.DIGEST, Stream(flip(flip(data, 500), 5000)))
    refused(OTAError.DIGEST, Stream(flip(data, len(data) - 1)))


def test_more_data_than_the_slot_has():
    ota = OTA(Stream(firmware(4000) + bytes(3 * SECTOR)))
    before = boots()
    ota.begin()
    ota.region.size = 2 * SECTOR
    ota.perform()
    ota.perform()
    assert str(2 * SECTOR) in fails(OTAError.TOO_BIG, ota.perform)
    assert boots() == before


def test_source_that_fails():
    data = firmware()
    before = boots()
    for n in (0, 100, 5000):
        ota = OTA(Stream(data[:n], None, OSError(5)))
        assert raises(OSError, receive, ota).errno == 5
        fails(OTAError.STATE, ota.perform)
    assert boots() == before


def test_source_that_is_interrupted():
    # Ctrl-C is no Exception.
    ota = OTA(Stream(firmware()[:5000], None, KeyboardInterrupt()))
    raises(KeyboardInterrupt, receive, ota)
    fails(OTAError.STATE, ota.perform)


def test_progress_that_fails_stops_the_update():
    def progress(done, total):
        raise KeyError

    before = boots()
    ota = OTA(Stream(firmware()), progress=progress)
    raises(KeyError, receive, ota)
    fails(OTAError.STATE, ota.perform)
    assert boots() == before


def test_flash_that_does_not_hold_what_was_written():
    before = boots()
    for at in (0, 5000, 8900):
        ota = OTA(Stream(firmware()))
        receive(ota)
        target().writeblocks(at // SECTOR, bytes(4), at % SECTOR)
        # The start is written last, and read back then. All of it is checked by the firmware itself.
        assert ota.slot in fails(OTAError.NOT_BOOTABLE if at else OTAError.READ_BACK, ota.finish)
        assert boots() == before
        assert "abort" in fails(OTAError.STATE, ota.finish)


def test_flash_that_does_not_take_what_is_written():
    before = boots()
    ota = OTA(Stream(firmware()))
    ota.begin()
    ota.region.part = Worn(ota.region.part)
    ota.perform()
    assert "sector 1 of ota_1" in fails(OTAError.READ_BACK, ota.perform)
    assert boots() == before
    fails(OTAError.STATE, ota.finish)


class Worn:
    """A partition whose sector 1 has a dead byte."""

    def __init__(self, part):
        self.part = part
        self.info, self.ioctl = part.info, part.ioctl

    def readblocks(self, i, buf, offset=0):
        self.part.readblocks(i, buf, offset)
        if i * SECTOR + offset <= 5000 < i * SECTOR + offset + len(buf):
            buf[5000 - i * SECTOR - offset] = 0

    def writeblocks(self, i, buf, *offset):
        self.part.writeblocks(i, buf, *offset)


def test_image_that_the_firmware_refuses():
    # A load address in mapped flash that does not fit its place in the file.
    data = bytearray(firmware(hashed=0))
    data[24] ^= 0x10
    before = boots()
    ota = OTA(Stream(data))
    receive(ota)
    fails(OTAError.NOT_BOOTABLE, ota.finish)
    assert boots() == before


# -- options


def test_unknown_options():
    raises(TypeError, OTA)
    raises(TypeError, OTA, URL, nonsense=1)
    raises(TypeError, OTA, URL, None)
    assert "cadata" in str(raises(TypeError, OTA, Stream(b""), cadata="x"))
    raises(TypeError, update, Stream(b""), nonsense=1)


def test_bad_arguments_are_found_before_anything_is_done():
    net = use(Net())
    for url in ("ftp://host/x", "https://me:pw@host/x", ""):
        raises(ValueError, OTA, url)
    raises(ValueError, OTA(URL).begin)
    assert net.addresses == []


def test_expected_file():
    data = firmware() + b"more"
    digest = sha256(data).digest()
    for options in (
        {"sha256": digest},
        {"sha256": hexlify(digest).decode()},
        {"size": len(data)},
        {"sha256": digest, "size": len(data)},
    ):
        target().writeblocks(0, bytes(SECTOR))
        install(Stream(data), **options)
        assert content(len(data)) == data


def test_unexpected_file():
    data = firmware()
    other = firmware(seed=5)
    assert "SHA-256" in refused(OTAError.DIGEST, Stream(other), sha256=sha256(data).digest())
    # One byte behind the image, which its own hash does not see.
    refused(OTAError.DIGEST, Stream(data + b"\0"), sha256=sha256(data).digest())
    assert str(len(data)) in refused(OTAError.SIZE, Stream(data + b"\0"), size=len(data))
    assert str(len(data)) in refused(OTAError.TRUNCATED, Stream(data), size=len(data) - 16)


def test_unexpected_length_is_found_at_once():
    data = firmware()
    net = use(Net(answer(data)))
    ota = OTA(URL, insecure=True, size=len(data) + 1)
    detail = fails(OTAError.SIZE, ota.begin)
    assert str(len(data)) in detail and str(len(data) + 1) in detail
    assert net.open == 0


def test_digests_are_checked():
    for digest in (b"", b"x" * 31, "00" * 31, "0" * 63, "zz" * 32):
        raises(ValueError, OTA, Stream(b""), sha256=digest)


def test_running_file_is_not_installed_again():
    running = Partition(Partition.RUNNING)
    buf = bytearray(5000)
    running.readblocks(0, buf, 0)
    before = boots()
    # What lies there begins so; that it is no whole image does not matter here.
    assert OTA(Stream(b""), sha256=sha256(buf).digest(), size=5000).begin() is None
    assert boots() == before


def test_file_in_the_slot_is_not_received_again():
    data = firmware()
    update(Stream(data))
    assert cancel()
    source = Stream(data)
    ota = OTA(source, sha256=sha256(data).digest(), size=len(data))
    assert ota.begin().version == "1.2.3"
    assert ota.perform() is False
    assert ota.is_complete_data_received()
    ota.finish()
    assert source.reads == 0
    assert Partition(Partition.BOOT).info()[4] == ota.slot


def test_file_in_the_slot_with_a_bit_flipped_is_received_again():
    data = firmware()
    first = OTA(Stream(data))
    receive(first)
    first.abort()
    target().writeblocks(1, b"\0", 77)
    source = Stream(data)
    install(source, sha256=sha256(data).digest(), size=len(data))
    assert source.at == len(data)
    assert content(len(data)) == data


class Watchdog:
    def __init__(self):
        self.fed = 0

    def feed(self):
        self.fed += 1


def test_watchdog_is_fed_each_sector():
    wdt = Watchdog()
    ota = OTA(Stream(firmware(9000)), wdt=wdt)
    ota.begin()
    for _ in range(3):
        before = wdt.fed
        ota.perform()
        assert wdt.fed > before
    before = wdt.fed
    ota.finish()
    # Before the firmware's own check of the whole image, which can't be cut in pieces.
    assert wdt.fed > before


class Station:
    PM_NONE = 0

    def __init__(self):
        self.pm = 2

    def config(self, name=None, pm=None):
        if name is not None:
            assert name == "pm"
            return self.pm
        self.pm = pm


def test_power_saving_is_off_meanwhile():
    for end in ("abort", "finish"):
        wlan = Station()
        ota = OTA(Stream(firmware()), wlan=wlan)
        assert wlan.pm == 2
        receive(ota)
        assert wlan.pm == 0
        getattr(ota, end)()
        assert wlan.pm == 2


def test_power_saving_comes_back_after_a_session_that_nobody_ended():
    """As Ctrl-C in asyncio.run() leaves one."""
    wlan = Station()
    lost = OTA(Stream(firmware()), wlan=wlan)
    receive(lost)
    assert wlan.pm == 0
    # It does not keep the slot for ever.
    later = OTA(Stream(firmware()), wlan=wlan)
    assert "abort() that one" in fails(OTAError.IN_PROGRESS, later.begin)
    lost.used -= 600_000
    install(Stream(firmware()), wlan=wlan)
    assert wlan.pm == 2
    fails(OTAError.STATE, lost.finish)
    lost.abort()
    assert wlan.pm == 2


def test_power_saving_with_two_sessions_at_a_time():
    wlan = Station()
    both = OTA(Stream(firmware()), wlan=wlan), OTA(Stream(b"x"), partition="vfs", wlan=wlan)
    for ota in both:
        receive(ota)
    for ota in both:
        assert wlan.pm in (0, 2)
        ota.abort()
    assert wlan.pm == 2


def test_power_saving_that_is_off_stays_off():
    wlan = Station()
    wlan.pm = 0
    install(Stream(firmware()), wlan=wlan)
    assert wlan.pm == 0


def test_power_saving_is_on_again_after_an_error():
    for data in (b"<html>", firmware()[:5000]):
        wlan = Station()
        raises(OTAError, receive, OTA(Stream(data), wlan=wlan))
        assert wlan.pm == 2


# -- downloads


def test_download():
    data = firmware()
    net = use(Net(answer(data)))
    assert update(URL, insecure=True).size == len(data)
    assert content(len(data)) == data
    assert net.open == 0


def test_download_in_ranges():
    data = firmware()
    n = len(data)
    net = use(
        Net(
            b"".join(
                b"HTTP/1.1 206 P\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
                % (i, min(i + 1000, n) - 1, n, min(i + 1000, n) - i)
                + data[i : i + 1000]
                for i in range(0, n, 1000)
            )
        )
    )
    update(URL, insecure=True, request_size=1000)
    assert content(n) == data
    assert net.open == 0 and len(net.sent) == 1


def test_nothing_new():
    for status in (204, 304):
        target().writeblocks(0, bytes(SECTOR))
        before = boots()
        net = use(Net(b"HTTP/1.1 %d x\r\n\r\n" % status))
        assert update(URL, insecure=True) is None
        assert net.open == 0
        assert content(SECTOR) == bytes(SECTOR) and boots() == before


def test_download_larger_than_the_slot():
    data = firmware()
    size = target().info()[3]
    net = use(Net(answer(data, size + 1)))
    ota = OTA(URL, insecure=True)
    detail = fails(OTAError.TOO_BIG, ota.begin)
    assert str(size) in detail and str(size + 1) in detail
    assert net.open == 0


def test_download_shorter_than_its_image():
    data = firmware()
    net = use(Net(answer(data[:6000])))
    ota = OTA(URL, insecure=True)
    assert "6000" in fails(OTAError.TRUNCATED, ota.begin)
    assert net.open == 0


def test_no_connection_outlives_an_error():
    data = firmware()
    for answers, code in (
        ([b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n"], OTAError.HTTP_STATUS),
        ([b"nonsense\r\n\r\n"], OTAError.HTTP_PROTOCOL),
        ([answer(b"<html>")], OTAError.NOT_AN_IMAGE),
        ([answer(flip(data, 12))], OTAError.CHIP),
        ([answer(flip(data, 500))], OTAError.CHECKSUM),
    ):
        net = use(Net(*answers))
        refused(code, URL, insecure=True, verify_spi_mode=False)
        assert net.open == 0


def test_abort_closes_the_connection():
    for calls in range(3):
        net = use(Net(answer(firmware())))
        ota = OTA(URL, insecure=True)
        ota.begin()
        for _ in range(calls):
            ota.perform()
        ota.abort()
        assert net.open == 0, calls


# -- memory


def test_steady_state_allocates_nothing():
    import micropython
    from https_ota.hot import copy

    data = firmware(16000)

    class Source:
        def __init__(self):
            self.at = 0

        def readinto(self, buf):
            at = self.at
            n = len(data) - at
            if n > len(buf):
                n = len(buf)
            copy(buf, 0, data, at, n)
            self.at = at + n
            return n

    ota = OTA(Source())
    ota.begin()
    ota.perform()
    micropython.heap_lock()
    try:
        more = ota.perform() and ota.perform()
    finally:
        micropython.heap_unlock()
    assert more
    assert ota.perform() is False
    ota.finish()
    assert content(len(data)) == data


def test_buffers_are_given_back():
    import gc

    install(Stream(firmware()))  # loads what is loaded on first use
    for end in ("abort", "finish"):
        source = Stream(firmware())
        gc.collect()
        free = gc.mem_free()
        ota = OTA(source)
        receive(ota)
        getattr(ota, end)()
        gc.collect()
        # Less than a sector; objects of 64-bit builds are twice as large.
        assert free - gc.mem_free() < (6144 if sys.maxsize >> 32 else 4096), end
        assert ota._sector is None
