# ranges.py: how much a request asks for, to the byte.

from fakenet import raises
from https_ota.net import ranges as module
from https_ota.net.ranges import Ranges


def ranges(size=None, room=4096, tls=True, position=0):
    """Those of a board with a TLS buffer of `room` bytes."""
    module.tls_buffer = lambda: room
    r = Ranges(size)
    r.choose(tls, position)
    return r


def test_what_a_server_is_asked_for_first():
    for room, size in ((512, 384), (4096, 3072), (16383, 12287), (16384, 0), (32768, 0)):
        assert ranges(room=room).size == size, room
        assert ranges(room=room, tls=False).size == 0
        # What was given stays.
        for given in (0, 512, 8192):
            assert ranges(given, room).size == given


def test_another_server_is_begun_with_anew():
    r = ranges()
    r.roof = 5000
    r.size = 700
    r.choose(True, 9000)
    assert (r.size, r.roof, r.since, r.grown) == (3072, None, 9000, False)
    r.choose(False, 9001)
    assert (r.size, r.since) == (0, 9001)


def test_the_first_head_tells_how_much_fits():
    r = ranges()
    for head, size in ((200, 3832), (0, 4032), (3520, 512), (3521, 512), (4096, 512), (201, 3831)):
        r.fit(head)
        assert r.size == size, head
    # While it is less than it was, that is what it may become again.
    r.roof = 3072
    r.fit(100)
    assert (r.size, r.roof) == (3831, 3932)
    for r in (ranges(1000), ranges(room=16384), ranges(tls=False)):
        before = r.size
        r.fit(100)
        assert r.size == before


def test_a_record_holds_less_than_16_kib():
    r = ranges(room=16384 - 1)
    r.fit(0)
    assert r.size == 16383 - 64
    module.tls_buffer = lambda: 16384 + 64
    r.fit(0)
    assert r.size == 16383 - 64
    r.fit(1)
    assert r.size == 16383


def shrunk(size, roof, since=0):
    r = ranges()
    r.roof = roof
    r.resize(size, since, False)
    return r


def test_it_grows_once_sixteen_have_come():
    r = shrunk(512, 3072, 1000)
    r.grow(1000 + 512 * 16 - 1)
    assert (r.size, r.since, r.grown) == (512, 1000, False)
    r.grow(1000 + 512 * 16)
    assert (r.size, r.since, r.grown, r.roof) == (1024, 9192, True, 3072)
    # The second and the third time, each after sixteen of its own; then it is what it was.
    r.grow(9192 + 1024 * 16 - 1)
    assert r.size == 1024
    r.grow(9192 + 1024 * 16)
    assert (r.size, r.since, r.roof) == (2048, 25576, 3072)
    r.grow(25576 + 2048 * 16)
    assert (r.size, r.since, r.roof) == (3072, 58344, None)
    r.grow(10000000)
    assert (r.size, r.since) == (3072, 58344)


def test_it_grows_to_its_roof_and_no_further():
    for size, roof, after in (
        (512, 1025, 1024),
        (512, 1024, 1024),
        (512, 1023, 1023),
        (512, 513, 513),
        (4096, 0, 8192),
        # All that is left, where a record of 16 KiB would do as well.
        (8191, 0, 16382),
        (8192, 0, 0),
    ):
        r = shrunk(size, roof)
        r.grow(size * 16)
        assert r.size == after, (size, roof)
        assert (r.roof is None) == (after == roof), (size, roof)


def test_patience_counts_responses():
    r = shrunk(512, 3072)
    r.patience *= 4
    r.grow(512 * 64 - 1)
    assert r.size == 512
    r.grow(512 * 64)
    assert r.size == 1024


def test_where_a_range_ends():
    r = ranges(3072)
    assert r.stop(0, 0, None) == 3072
    assert r.stop(100, 0, 3172) == 3172
    assert r.stop(100, 0, 3171) == 3171
    assert r.stop(100, 0, 3173) == 3172
    # One sector is no more than a sector; from there on it ends where a sector does.
    assert ranges(4096).stop(100, 0, None) == 4196
    for offset in (0, 1, 304, 4095):
        for first in (offset, offset + 4096, offset + 5000):
            stop = ranges(8192).stop(first, offset, None)
            assert (stop - offset) % 4096 == 0 and first + 4096 < stop <= first + 8192
    assert ranges(4097).stop(0, 0, None) == 4096
    assert ranges(0).stop(5, 0, None) == 5 + (1 << 28)
    assert ranges(0).stop(5, 0, 700) == 700


def test_how_many_are_on_their_way():
    r = ranges(1000)
    assert r.reach(2047) == 0
    assert r.reach(2048) == 2048 + 11000 and r.reach(5000) == 5000 + 11000
    # The ranges of more than a sector count as one each.
    r = ranges(8192)
    assert r.reach(5000) == 5000 + 45056
    r.deep = False
    assert r.reach(5000) == 0


def test_sizes_that_make_no_sense():
    for size in (1, 511, -1, 4096.0, "4096"):
        raises((ValueError, TypeError), Ranges, size)
    for size in (None, 0, 512, 513):
        Ranges(size)
