"""A board whose table has other partitions beside the slots."""

import hashlib

import images
from board import Board

from https_ota_tools import mkflash, partition

CUT = 75
TABLE = """\
nvs,      data, nvs,     0x9000,   0x4000,
otadata,  data, ota,     0xd000,   0x2000,
phy_init, data, phy,     0xf000,   0x1000,
ota_0,    app,  ota_0,   0x10000,  0x100000,
ota_1,    app,  ota_1,   0x110000, 0x100000,
romfs_0,  data, 0x8f,    0x210000, 0x40000,
romfs_1,  data, 0x8f,    0x250000, 0x40000,
storage,  data, 0x90,    0x290000, 0x40000,
"""
OFFSETS = {"romfs_0": 0x210000, "romfs_1": 0x250000, "storage": 0x290000}
DATA = hashlib.shake_128(b"romfs").digest(50_001)


def board_with_data(tmp_path, root):
    """A board whose table has other partitions, too."""
    (tmp_path / "ca.pem").write_bytes(root.pem)
    table = partition.read_csv(TABLE, "table")
    flash = tmp_path / "flash.bin"
    flash.write_bytes(mkflash.make_flash(images.app_image(), table, 4 << 20))
    board = Board(flash)
    board.running()
    return board


def content(board, label, n=0):
    return board.flash.read_bytes()[OFFSETS[label] :][: n or len(DATA)]
