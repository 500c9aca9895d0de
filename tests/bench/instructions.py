"""Instructions of an update over those of the least that any updater does, counted by valgrind on the 64-bit SIM board.

What counts is the slope between two sizes of an image: what is done once, the handshake above all, is left out. So are
MicroPython's allocator and collector, whose work depends on the heap's size.
"""

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import figures
import images

from https_ota_tools import delta, packed

# make bench links it: the interpreter of build/sim64, with the names of its functions.
NAMES = "sim64-names"
SIZES = 200_000, 600_000
ALLOCATOR = re.compile(r"gc_|_gc|m_malloc|m_realloc|m_free|m_new|m_del")

# The least that any updater does: TLS, SHA-256, erase, program, set_boot().
BARE = """
import hashlib, socket, tls, esp32
ctx = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
ctx.verify_mode = tls.CERT_REQUIRED
ctx.load_verify_locations(open("ca.der", "rb").read())
raw = socket.socket()
raw.connect(socket.getaddrinfo("127.0.0.1", {port})[0][-1])
s = ctx.wrap_socket(raw, server_hostname="localhost")
s.write(b"GET /{name} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
line = s.readline()
while line != b"\\r\\n":
    line = s.readline()
part = esp32.Partition(esp32.Partition.RUNNING).get_next_update()
buf = bytearray(4096)
view = memoryview(buf)
sha = hashlib.sha256()
left = {size}
i = 0
while left > 4095:
    s.readinto(buf, 4096)
    sha.update(buf)
    part.writeblocks(i, buf)
    i += 1
    left -= 4096
if left:
    n = s.readinto(buf, left)
    sha.update(view[:n])
    part.writeblocks(i, buf)
part.set_boot()
"""
OURS = "import https_ota\nhttps_ota.update({url!r}, cadata=open('ca.der', 'rb').read(), request_size={request_size}, resume={resume})"


def missing() -> str:
    """Say what is missing here, "" if nothing is."""
    return "" if shutil.which("valgrind") else "No valgrind here: instructions are not counted."


class Counter:
    """Runs programs on boards of a figures.Bench and counts."""

    def __init__(self, bench: figures.Bench) -> None:
        self.bench = bench

    def publish(self, size: int) -> str:
        """Put an image of this size on the server, and return its name."""
        name = f"{size}.bin"
        path = self.bench.www / name
        if not path.exists():
            path.write_bytes(code_like(size))
        return name

    def count(self, code: str, size: int, app: bytes = b"") -> int:
        """Instructions of a program on a board whose slot holds an older image of this size."""
        board = self.bench.board(NAMES, images.app_image(size=size, seed=2), app)
        out = self.bench.folder / "callgrind.out"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIM_", "MICROPY"))}
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"),
                *("--compress-strings=no", "--compress-pos=no"),
                *(board.interpreter, "-X", "heapsize=8m", "-c", code),
            ],
            env=clean | {"SIM_FLASH": str(board.flash)},
            cwd=self.bench.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        with out.open() as lines:
            return sum(n for name, n in costs(lines) if not ALLOCATOR.match(name))

    def slope(
        self, code: Callable[[int], str], app: Callable[[int], bytes] | None = None
    ) -> float:
        """Instructions per sector, from two sizes."""
        low, high = (self.count(code(n), n, app(n) if app else b"") for n in SIZES)
        return (high - low) / ((SIZES[1] - SIZES[0]) / 4096)

    def bare(self, size: int) -> str:
        name = self.publish(size)
        length = (self.bench.www / name).stat().st_size
        return BARE.format(port=self.bench.nginx.port, name=name, size=length)

    def ours(self, size: int, request_size: int = 0, resume: bool = True) -> str:
        url = self.bench.nginx.url(self.publish(size))
        return OURS.format(url=url, request_size=request_size, resume=resume)

    def packed(self, size: int) -> str:
        path = self.bench.www / f"{size}.gz"
        if not path.exists():
            path.write_bytes(packed.pack(code_like(size)))
        return OURS.format(url=self.bench.nginx.url(path.name), request_size=0, resume=True)

    def delta(self, size: int) -> str:
        path = self.bench.www / f"{size}.delta"
        if not path.exists():
            path.write_bytes(delta.make(base(size), code_like(size)))
        return OURS.format(url=self.bench.nginx.url(path.name), request_size=0, resume=True)


def costs(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    """What each function took itself, from callgrind's file."""
    name = ""
    for line in lines:
        if line.startswith("fn="):
            name = line[3:].strip()
        elif line.startswith("calls="):
            next(lines)  # what the one that is called took
        elif line[0] in "+-*0123456789" and len(words := line.split()) == 2:
            yield name, int(words[1])


def code_like(size: int) -> bytes:
    """An image that can be packed as code can."""
    return images.app_image(size=size, version="2.0.0", seed=9, like_code=True)


def base(size: int) -> bytes:
    """An older build of code_like(): other addresses all over, and here and there some code more."""
    rand = random.Random(size)
    body = bytearray(code_like(size)[32 : -36 - images.RAM_BYTES])
    body[:256] = images.app_image()[32 : 32 + 256]
    for at in range(1024, len(body) - 256, 512):
        body[at] ^= 4
    for _ in range(size // 20_000):
        at = rand.randrange(1024, len(body))
        body[at:at] = rand.randbytes(80)
    segments = [(0x3C000020, bytes(body[: len(body) & ~3])), (images.RAM, bytes(64))]
    return images.image(segments, chip_id=images.CHIP_IDS["esp32c3"])
