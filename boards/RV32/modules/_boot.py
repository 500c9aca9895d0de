# Runs at each start, as the esp32 port's: mounts the file system, and makes one on a new flash.
import os
import _sim
import simboot
from esp32 import Partition

part = Partition.find(Partition.TYPE_DATA, label="vfs")[0]
try:
    fs = os.VfsLfs2(part)
except OSError:
    os.VfsLfs2.mkfs(part)
    fs = os.VfsLfs2(part)
os.mount(fs, "/")
_sim.started(simboot.running[2])
del part, fs
