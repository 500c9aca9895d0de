"""The second firmware that `make test-chip` builds: another version, and a TLS input buffer of 16 KiB."""

import images
from board import PENDING_VERIFY


def test_the_version_that_was_built_next(device, next_version, settled, network):
    was = settled.running.desc.version
    said = device.update("update to the next version, ranges of 4 KiB", next_version)
    assert (said["error"], said["version"]) == (None, "2.0.0")
    assert {a.status for a in device.asked} == {206}
    assert device.reset().running.desc.version == "2.0.0"
    # Nobody confirms it.
    assert device.reset().running.desc.version == was
    said = device.update("update to what is in the slot already", next_version, retry_failed=True)
    assert said["version"] == "2.0.0"
    assert device.reset().running.desc.version == "2.0.0"
    assert device.state() == PENDING_VERIFY
    device.board.exec("import https_ota\nhttps_ota.confirm()")
    # Its TLS buffer takes the file in one response.
    head = bytearray(next_version)
    head[images.DESC_OFFSET + 16 : images.DESC_OFFSET + 48] = b"plain".ljust(32, b"\0")
    said = device.update("update by the next version, one response", images.seal(bytes(head)))
    assert said["version"] == "plain"
    assert [a.status for a in device.asked] == [200]
    assert device.reset().running.desc.version == "plain"
    assert device.reset().running.desc.version == "2.0.0"
