# chain.py: a look at a TLS handshake as it passes.

from https_ota.net.chain import _Tap


def record(data, kind=22):
    return bytes((kind, 3, 3, len(data) >> 8, len(data) & 255)) + data


def message(kind, size):
    return bytes((kind, 0, size >> 8, size & 255)) + b"\x16" * size


def looked(data, step):
    tap = _Tap(None)
    for i in range(0, len(data), step):
        part = data[i : i + step]
        tap.look(part, len(part))
    return tap


FLIGHT = message(2, 80) + message(11, 3000) + message(12, 300) + message(14, 0)


def test_messages_in_one_record():
    for step in (1, 2, 3, 4, 5, 7, 100, 5000):
        tap = looked(record(FLIGHT), step)
        assert (tap.record, tap.chain, tap.tls) == (len(FLIGHT), 3000, True), step


def test_messages_over_several_records():
    for cut in (3, 83, 84, 86, 88, 90, 2000, 3090):
        tap = looked(record(FLIGHT[:cut]) + record(FLIGHT[cut:]), 11)
        assert (tap.record, tap.chain) == (max(cut, len(FLIGHT) - cut), 3000), cut


def test_a_record_each():
    data = b"".join(record(message(kind, size)) for kind, size in ((2, 70), (11, 900), (14, 0)))
    assert looked(data, 64).record == 904


def test_head_is_enough():
    tap = looked(record(FLIGHT)[: 5 + 84 + 4], 1)
    assert (tap.record, tap.chain) == (len(FLIGHT), 3000)


def test_what_is_no_tls():
    assert not looked(b"HTTP/1.1 400 Bad Request\r\n", 5).tls
    assert not looked(b"SSH-2.0-x\r\n", 1).tls
    # An alert instead of a handshake: it speaks TLS, but tells nothing of a chain.
    assert looked(record(b"\x02\x28", 21), 7).chain == 0
