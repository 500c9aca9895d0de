# image.py: what an image says of itself, whether it fits, and the walk along it.

import random
from hashlib import sha256

from fakenet import fails
from https_ota import OTAError
from https_ota.flash.image import Checker, SplitHash, hashes
from https_ota.flash.info import HEAD_SIZE, parse
from https_ota.flash.slot import check_fit
from makeimage import build, descriptor, flip, header, image, noise, segment_starts

LIMIT = 0x10000


def info(**fields):
    data = image(**fields)
    return parse(data, len(data))


def walk(data, step=512, limit=LIMIT, total=None):
    """Feed an image as OTA does, in pieces of `step` bytes; return the Checker and what it saw."""
    checker = Checker(limit, total)
    out = bytearray(data)
    view = memoryview(out)
    at = 0
    while at < len(data):
        n = min(step, len(data) - at)
        checker.feed(out, at, n)
        piece = view[at : at + n]
        checker.hash.update(piece, piece, n)
        at += n
    checker.finish()
    return checker, out


def error_of(data, **how):
    """The name of the error that an image makes; None if it passes."""
    try:
        walk(data, **how)
    except OTAError as e:
        return str(e).split(":", 1)[0]
    return None


# -- the head


def test_fields():
    data = build(
        (600, 64),
        chip_id=9,
        min_rev=101,
        max_rev=299,
        spi_mode=3,
        desc=descriptor("4.5.6", "blinker", 7, 2),
    )
    got = parse(data, HEAD_SIZE)
    assert (got.chip_id, got.min_chip_rev, got.max_chip_rev) == (9, 101, 299)
    assert (got.spi_mode, got.desc_spi_mode, got.secure_version) == (3, 2, 7)
    assert (got.version, got.project_name) == ("4.5.6", "blinker")
    assert (got.time, got.date, got.idf_ver) == ("12:34:56", "Jan  2 2026", "v5.5.2")
    assert got.app_elf_sha256 == bytes(range(32))
    assert got.size is None


def test_text_fields_may_fill_their_room():
    data = build((600,), desc=descriptor("v" * 40, ""))
    got = parse(data, len(data))
    assert got.version == "v" * 32 and got.project_name == ""


def test_each_text_field_may_fill_its_room():
    fields = (
        ("version", 48, 32),
        ("project_name", 80, 32),
        ("time", 112, 16),
        ("date", 128, 16),
        ("idf_ver", 144, 32),
    )
    for name, at, room in fields:
        for size in (0, 1, room - 1, room):
            data = bytearray(build((600,)))
            data[at : at + room] = b"x" * size + bytes(room - size)
            got = parse(data, len(data))
            for other, _, _ in fields:
                whole = "x" * size if other == name else getattr(info(), other)
                assert getattr(got, other) == whole, (name, size, other)


def test_text_fields_are_made_printable():
    data = bytearray(build((600,), desc=descriptor("a\x01\x7fb")))
    data[51] = 0xFF
    assert parse(data, len(data)).version == "a???"


def test_chip_has_a_name():
    for number, name in ((0, "ESP32"), (5, "ESP32-C3"), (18, "ESP32-P4"), (999, "chip id 999")):
        assert info(chip_id=number).chip == name


def test_repr_tells_what_it_is():
    text = repr(info())
    for word in ("test", "1.2.3", "ESP32-C3", "Jan  2 2026", "v5.5.2"):
        assert word in text
    text = repr(info(desc=descriptor("", "")))
    assert "image" in text and "without version" in text


def test_what_is_no_application_image():
    data = image()
    assert parse(data, HEAD_SIZE) is not None
    assert parse(data, HEAD_SIZE - 1) is None
    assert parse(flip(data, 0), len(data)) is None
    for i in range(32, 36):
        assert parse(flip(data, i, 0x80), len(data)) is None


# -- fit


def fit(new, running, rev=None, mode=True):
    check_fit(new, running, rev, mode)


def test_same_kind_fits():
    fit(info(), info())
    fit(info(), info(), 3)


def test_other_chip():
    detail = fails(OTAError.CHIP, fit, info(chip_id=9), info(chip_id=5))
    assert "ESP32-S3" in detail and "ESP32-C3" in detail


def test_minimum_revision():
    fit(info(min_rev=301), info(), 301)
    fit(info(min_rev=300), info(), 301)
    detail = fails(OTAError.CHIP_REVISION, fit, info(min_rev=302), info(), 301)
    assert "v3.2" in detail and "v3.1" in detail


def test_maximum_revision():
    fit(info(max_rev=301), info(), 301)
    detail = fails(OTAError.CHIP_REVISION, fit, info(max_rev=299), info(), 301)
    assert "v2.99" in detail and "v3.1" in detail


def test_no_maximum_revision():
    for none in (0, 65535):
        fit(info(max_rev=none), info(), 999)


def test_unknown_revision_is_at_least_what_the_running_image_needs():
    fit(info(min_rev=100), info(min_rev=100))
    fit(info(min_rev=99), info(min_rev=100))
    fails(OTAError.CHIP_REVISION, fit, info(min_rev=101), info(min_rev=100))
    fails(OTAError.CHIP_REVISION, fit, info(max_rev=99), info(min_rev=100))
    # How new the chip may be is not known: no reason to refuse.
    fit(info(max_rev=199), info(min_rev=100, max_rev=299))


def test_known_revision_outranks_the_running_image():
    fit(info(min_rev=101), info(min_rev=100), 102)
    fails(OTAError.CHIP_REVISION, fit, info(min_rev=101), info(min_rev=101), 100)


def test_flash_mode():
    fit(info(spi_mode=0), info(spi_mode=0))
    detail = fails(OTAError.FLASH_MODE, fit, info(spi_mode=0), info(spi_mode=2))
    assert "mode 0" in detail and "for 2" in detail
    fit(info(spi_mode=0), info(spi_mode=2), mode=False)


def test_flash_mode_in_the_descriptors_counts_where_both_have_it():
    def with_mode(desc_mode, mode):
        return info(desc=descriptor(desc_spi_mode=desc_mode), spi_mode=mode)

    fit(with_mode(1, 2), with_mode(1, 3))
    fails(OTAError.FLASH_MODE, fit, with_mode(1, 2), with_mode(2, 2))
    # Only one of them is new enough to tell.
    fit(with_mode(1, 2), with_mode(0, 2))
    fails(OTAError.FLASH_MODE, fit, with_mode(0, 2), with_mode(2, 3))


# -- good images


def good(data, step, body=None):
    body = len(data) - 32 if body is None else body
    checker, out = walk(data, step)
    assert out == data, step
    assert checker.pos == checker.length == len(data)
    assert checker.hash.body == body
    assert checker.hash.finish() == sha256(data[:body]).digest() + sha256(data[body:]).digest()


def test_good_image_in_pieces_of_any_size():
    data = image()
    for step in (1, 3, 7, 31, 512, 1024, 4096):
        good(data, step)


def test_good_image_in_random_pieces():
    data = build((700, 4, 40, 0, 64))
    src = bytearray(data)
    for _ in range(40):
        checker = Checker(LIMIT, None)
        at = 0
        while at < len(data):
            n = min(random.randint(1, 300), len(data) - at)
            checker.feed(src, at, n)
            at += n
        checker.hash.update(src, memoryview(src), len(src))
        checker.finish()
        assert src == data


def test_every_length_of_padding():
    for size in range(256, 276, 4):
        good(build((size, 64)), 512)
        good(build((300, size - 256)), 5)


def test_one_segment_and_sixteen():
    good(build((256,)), 512)
    good(build([256] + [8] * 15), 9)


def test_empty_segments():
    good(build((256, 0, 16)), 3)
    good(build((256, 0, 0)), 1)


def test_without_hash():
    for step in (1, 7, 512):
        data = image(hashed=0)
        good(data, step, len(data))


def test_length_is_known_once_the_last_segment_is_in_sight():
    data = image()
    (_, last), end = segment_starts(data)
    checker = Checker(LIMIT, None)
    src = bytearray(data)
    checker.feed(src, 0, last)
    assert checker.length == 0
    checker.feed(src, last, end - last)
    assert checker.length == len(data)


def test_bytes_behind_the_image_are_tolerated_and_hashed():
    data = image()
    for tail in (b"\0", b"\xff" * 1000, bytes(4096)):
        for step in (1, 500, 4096):
            checker, out = walk(data + tail, step)
            assert out == data + tail
            assert checker.length == len(data) and checker.pos == len(data + tail)
            rest = data[-32:] + tail
            assert checker.hash.finish() == sha256(data[:-32]).digest() + sha256(rest).digest()


def test_bytes_behind_an_image_without_hash():
    data = image(hashed=0)
    checker, _ = walk(data + bytes(100), 64)
    assert checker.length == len(data) == checker.hash.body


# -- bad images


def test_flipped_byte_in_data_padding_or_hash():
    data = image(1200)
    (_, last), end = segment_starts(data)
    for at in list(range(32, last, 11)) + list(range(last + 8, end, 3)):
        assert error_of(flip(data, at)) == "CHECKSUM", at
    for at in range(len(data) - 32, len(data)):
        assert error_of(flip(data, at, 0x80)) == "DIGEST", at
    for at in range(end, len(data) - 33):
        assert error_of(flip(data, at)) == "DIGEST", at
    assert error_of(flip(data, len(data) - 33)) == "CHECKSUM"


def test_two_flips_that_cancel_out_in_the_checksum():
    data = image(1200)
    assert error_of(flip(flip(data, 400), 500)) == "DIGEST"


def test_flipped_bit_in_a_header():
    # Any of them, but the byte that says whether there is a hash.
    data = image(1200)
    starts, _ = segment_starts(data)
    for at in list(range(23)) + [s + i for s in starts for i in range(8)]:
        for bits in (0x01, 0x04, 0x80):
            name = error_of(flip(data, at, bits))
            assert name in ("DIGEST", "CHECKSUM", "SEGMENTS", "TRUNCATED", "TOO_BIG"), (
                at,
                bits,
                name,
            )


def test_flipped_byte_without_hash():
    data = image(1200, hashed=0)
    for at in (40, 300, 700, 1000, len(data) - 1):
        assert error_of(flip(data, at)) == "CHECKSUM"


def test_cut_short_at_every_sort_of_place():
    data = image(1200)
    starts, end = segment_starts(data)
    places = [
        1,
        23,
        24,
        31,
        32,
        100,
        end - 1,
        end,
        end + 1,
        len(data) - 33,
        len(data) - 32,
        len(data) - 1,
    ]
    for at in places + [s + i for s in starts for i in (0, 1, 4, 7, 8, 9)]:
        for step in (1, 512):
            assert error_of(data[:at], step=step) == "TRUNCATED", at
    assert error_of(b"") == "TRUNCATED"


def test_cut_short_without_hash():
    data = image(1200, hashed=0)
    for at in (24, 32, 500, len(data) - 1):
        assert error_of(data[:at]) == "TRUNCATED"


def test_cut_tells_how_far_it_got():
    data = image(1200)

    detail = fails(OTAError.TRUNCATED, walk, data[:-1])
    assert str(len(data) - 1) in detail and str(len(data)) in detail
    detail = fails(OTAError.TRUNCATED, walk, data[:100])
    assert "100 bytes" in detail


def test_number_of_segments():
    for n in (0, 17, 255):
        assert "got %d" % n in fails(OTAError.SEGMENTS, walk, header(n) + bytes(600))


def test_segment_lengths():
    for raw in (
        b"\x02\x01\0\0",
        b"\x01\x01\0\0",
        b"\xff\xff\xff\0",
        b"\0\0\0\x01",
        b"\0\x01\0\x80",
        b"\xff\xff\xff\xff",
    ):
        fails(OTAError.SEGMENTS, walk, header(1) + bytes(4) + raw + bytes(600))


def test_segment_number_is_told():
    data = bytearray(build((256, 8, 8)))
    starts, _ = segment_starts(data)
    data[starts[2] + 4] = 9
    assert "segment 2" in fails(OTAError.SEGMENTS, walk, data)


def test_too_big_for_the_slot():
    data = image()
    walk(data, limit=len(data))
    for limit in (len(data) - 1, len(data) - 32, 1000, 300):
        assert str(limit) in fails(OTAError.TOO_BIG, walk, data, limit=limit)


def test_too_big_is_found_before_the_data_comes():
    data = build((0x8000, 8))
    checker = Checker(0x8000, None)
    fails(OTAError.TOO_BIG, checker.feed, bytearray(data[:32]), 0, 32)


def test_file_shorter_than_its_segments_is_found_at_once():
    data = image()
    walk(data, total=len(data))
    for total in (len(data) - 1, len(data) - 33, 1000, 300):
        detail = fails(OTAError.TRUNCATED, walk, data[:total], total=total)
        assert "%d bytes" % total in detail
    checker = Checker(LIMIT, 1000)
    fails(OTAError.TRUNCATED, checker.feed, bytearray(data[:32]), 0, 32)


def test_file_longer_than_its_image_and_the_slot():
    # The length alone is no reason to refuse here; the slot's end is.
    data = image(1200)
    walk(data, total=LIMIT + 5)
    fails(OTAError.TOO_BIG, walk, data, limit=1100, total=LIMIT)


# -- hashes


def test_split_hash():
    data = bytes(range(256)) * 4
    for body in (0, 1, 100, 512, 1000, 1024, 5000):
        for step in (1, 37, 512, 1024):
            h = SplitHash(body)
            for at in range(0, len(data), step):
                piece = bytearray(data[at : at + step])
                h.update(piece, memoryview(piece), len(piece))
            expected = sha256(data[:body]).digest() + sha256(data[body:]).digest()
            assert h.finish() == expected, (body, step)
            assert h.finish() == expected


def test_split_hash_of_the_first_bytes_of_a_buffer():
    buf = bytearray(b"abcdefgh")
    h = SplitHash(2)
    h.update(buf, memoryview(buf), 5)
    assert h.finish() == sha256(b"ab").digest() + sha256(b"cde").digest()


def test_split_hash_where_the_parts_meet_later():
    # The Checker learns where the image's hash ends while it is hashed already.
    h = SplitHash(1 << 29)
    buf = bytearray(range(64))
    h.update(buf, memoryview(buf), 64)
    h.body = 80
    h.update(buf, memoryview(buf), 64)
    both = bytes(buf) + bytes(buf)
    assert h.finish() == sha256(both[:80]).digest() + sha256(both[80:]).digest()


def test_hashes_of_a_partition():
    data = noise(3 * 4096)

    def read(sector, buf):
        buf[:] = data[sector * 4096 : sector * 4096 + len(buf)]
        reads.append(sector)

    for sectors in (1, 3):
        buf = bytearray(4096 * sectors)
        for size in (1, 4095, 4096, 4097, 8192, 3 * 4096):
            for body in (None, 0, 1, 4096, 5000, size):
                reads = []
                steps = hashes(read, size, body, buf, memoryview(buf))
                try:
                    while True:
                        assert next(steps) is False
                except StopIteration as e:
                    cut = size if body is None else body
                    first, rest = data[: min(cut, size)], data[cut:size]
                    assert e.value == sha256(first).digest() + sha256(rest).digest()
                assert reads == list(range(0, (size + 4095) // 4096, sectors))


# -- memory


def test_steady_state_allocates_nothing():
    import micropython

    data = build((256, 12000))
    sectors = [bytearray(data[at : at + 4096]) for at in (0, 4096, 8192)]
    views = [memoryview(s) for s in sectors]
    checker = Checker(LIMIT, len(data))
    checker.feed(sectors[0], 0, 4096)
    checker.hash.update(sectors[0], views[0], 4096)
    micropython.heap_lock()
    try:
        i = 1
        while i < 3:
            fill = 0
            while fill < 4096:
                checker.feed(sectors[i], fill, 1024)
                fill += 1024
            checker.hash.update(sectors[i], views[i], 4096)
            i += 1
    finally:
        micropython.heap_unlock()
    assert checker.pos == 12288


def test_crossing_segments_allocates_nothing():
    import micropython

    data = build((256, 8, 0, 300, 16))
    out = bytearray(data)
    checker = Checker(LIMIT, None)
    n = len(data)
    micropython.heap_lock()
    try:
        at = 0
        while at < n:
            m = n - at
            if m > 13:
                m = 13
            checker.feed(out, at, m)
            at += m
    finally:
        micropython.heap_unlock()
    assert out == data
