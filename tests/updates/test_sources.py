"""Sources of one's own, as lib/README.md has them."""

import re

import images
from built import ROOT

APP = images.app_image(size=300_000, version="2.0.0", seed=6)
OWN = re.search(
    r"## A source of your own\n.*?```python\n(.*?)```", (ROOT / "lib/README.md").read_text(), re.S
)[1]

STREAM = """
import https_ota
class Slow:
    # Now and then nothing has come.
    f = open("app.bin", "rb")
    n = 0
    def readinto(self, buf):
        self.n += 1
        return None if self.n % 3 == 0 else self.f.readinto(buf)
print(https_ota.update(Slow()).version)
"""

GO_ON = """
import https_ota
source = Card()
with https_ota.OTA(source) as ota:
    info = ota.begin()
    if info:
        print("begins at", source.position)
        for _ in range({sectors}):
            if not ota.perform():
                ota.finish()
                break
    print("ends at", source.position)
"""


def test_a_stream_that_has_nothing_yet(board, tmp_path):
    (tmp_path / "app.bin").write_bytes(APP)
    assert board.run(STREAM) == "2.0.0\n"
    assert board.running().version == "2.0.0"


def test_the_one_in_the_manual_goes_on_after_a_reset(board, tmp_path):
    (tmp_path / "app.bin").write_bytes(APP)
    said = board.run(OWN + GO_ON.format(sectors=40))
    assert "begins at" in said
    start = int(re.search(r"begins at (\d+)", board.run(OWN + GO_ON.format(sectors=1000)))[1])
    assert 65536 <= start <= 40 * 4096
    assert board.running().version == "2.0.0"


def test_another_file_there_starts_over(board, tmp_path):
    (tmp_path / "app.bin").write_bytes(APP)
    board.run(OWN + GO_ON.format(sectors=40))
    (tmp_path / "app.bin").write_bytes(images.app_image(size=200_000, version="3.0.0", seed=7))
    start = int(re.search(r"begins at (\d+)", board.run(OWN + GO_ON.format(sectors=1000)))[1])
    assert start < 65536
    assert board.running().version == "3.0.0"


def test_nothing_new_is_told_by_it(board, tmp_path):
    (tmp_path / "app.bin").write_bytes(APP)
    board.run(OWN + GO_ON.format(sectors=1000))
    board.run("import https_ota; https_ota.confirm()")
    assert board.running().version == "2.0.0"
    assert "begins" not in board.run(OWN + GO_ON.format(sectors=1))
