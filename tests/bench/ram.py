"""The tables of memory, sizes and time: `make bench` writes them into README.md."""

import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "firmware")]

import budgets  # noqa: E402  they are found only now
import certs  # noqa: E402
import images  # noqa: E402
import latency  # noqa: E402
import mip_package  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402
import simflash  # noqa: E402
from board import Board  # noqa: E402

SIZE = 1_000_000

# One that is broken off goes first, so that what is measured is the update and not the loading of modules.
MEASURE = """
import gc, https_ota
def used():
    gc.collect()
    return gc.mem_alloc()
with https_ota.OTA({url!r}, {options}) as ota:
    ota.begin()
    ota.perform()
ota = None
before = used()
ota = https_ota.OTA({url!r}, {options})
ota.begin()
ota.perform()
kept = used() - before
gc.disable()
start = gc.mem_alloc()
at = ota.image_len_read
more = True
while more and ota.image_len_read < {size} - 50000:
    more = ota.perform()
garbage = (gc.mem_alloc() - start) * 1048576 // (ota.image_len_read - at)
gc.enable()
ota.abort()
ota = None
print(kept, garbage, used() - before)
"""

# The least that any updater does: TLS, SHA-256, erase, program, set_boot().
BARE = """
import hashlib, socket, tls, esp32, time
start = time.ticks_us()
ctx = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
ctx.verify_mode = tls.CERT_REQUIRED
ctx.load_verify_locations(open("ca.der", "rb").read())
raw = socket.socket()
raw.connect(socket.getaddrinfo("127.0.0.1", {port})[0][-1])
s = ctx.wrap_socket(raw, server_hostname="localhost")
s.write(b"GET /app.bin HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
line = s.readline()
while line != b"\\r\\n":
    line = s.readline()
part = esp32.Partition(esp32.Partition.RUNNING).get_next_update()
buf = bytearray(4096)
sha = hashlib.sha256()
left = {size}
i = 0
while left:
    n = s.readinto(buf, min(left, 4096))
    sha.update(memoryview(buf)[:n])
    part.writeblocks(i, buf)
    i += 1
    left -= n
part.set_boot()
print(time.ticks_diff(time.ticks_us(), start))
"""
WHOLE = """
import time
start = time.ticks_us()
import https_ota
https_ota.update({url!r}, cadata=open("ca.der", "rb").read())
print(time.ticks_diff(time.ticks_us(), start))
"""


def main() -> None:
    """Measure and print."""
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        root = certs.root()
        www = work / "www"
        www.mkdir()
        image = images.app_image(size=SIZE)
        (www / "app.bin").write_bytes(image)
        (work / "ca.der").write_bytes(root.der)
        trusted = "cadata=open('ca.der', 'rb').read()"

        def board(build: str) -> Board:
            return Board(simflash.make_flash(work / "flash.bin"), build)

        def measure(build: str, url: str, options: str) -> list[int]:
            code = MEASURE.format(url=url, options=options, size=SIZE)
            return [int(word) for word in board(build).run(code).split()]

        with servers.Nginx(www) as plain, servers.Nginx(www, root.server()) as server:
            url = server.url("app.bin")
            session, _, left = measure("sim", plain.url("app.bin"), "insecure=True")
            for build, limit in (("sim", 16384), ("sim-tls4k", 4096)):
                kept, _, _ = measure(build, url, trusted)
                # The SIM board's NVS is written in Python; a chip's allocates nothing here.
                _, garbage, _ = measure(build, url, trusted + ", resume=False")
                rows.append(
                    (f"heap kept by verified TLS, {limit} B buffer", f"{kept - session} B")
                )
                how = "plain GET" if limit == 16384 else "ranged, `request_size=None`"
                rows.append((f"garbage per MiB, {how}, {limit} B buffer", f"{garbage} B"))
            rows.append(("heap still held after the update", f"{left} B"))
            pairs = []
            for _ in range(7):
                bare = int(board("sim").run(BARE.format(port=server.port, size=len(image))))
                whole = int(board("sim").run(WHOLE.format(url=url)))
                pairs.append(whole / bare)
            text = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
            rows.append(
                (
                    "time of `update()` / time of a bare loop of TLS, SHA-256, write, `set_boot()`",
                    text,
                )
            )
        link = work / "link"
        link.mkdir()
        alone = latency.flash_only_ms(link)
        for rtt_ms in (50, 200):
            ratio = latency.over_network_ms(link, rtt_ms / 1000) / alone
            rows.append(
                (
                    f"time of an update, 4096 B buffer, round trip {rtt_ms} ms / time from a file",
                    f"{ratio:.2f}",
                )
            )
    figures = budgets.ram()
    sizes = {arch: budgets.mpy_sizes(arch) for arch in ("xtensawin", "rv32imc")}
    figures |= budgets.mpy(sizes["xtensawin"]) | budgets.frozen()
    held = [
        [what, f"{figure:,}", f"{budgets.BUDGETS[what]:,}"] for what, figure in figures.items()
    ]
    short = [row[:2] for row in held if " as .mpy" not in row[0] or row[0][:4] in ("core", "all ")]
    slices = mip_package.manifest()["SLICES"]
    home = mip_package.manifest()["HOME"]
    per_slice = []
    for name in slices:
        modules = [m for m in sizes["xtensawin"] if home.get(f"{m}.py", "core") == name]
        total = [f"{sum(sizes[arch][m] for m in modules):,}" for arch in sizes]
        listed = ", ".join(f"{m} {sizes['xtensawin'][m]}" for m in modules)
        per_slice.append([name, *total, slices[name][1], listed])
    heads = ["slice", *sizes, "needs", "its modules (xtensawin)"]
    text = "\n".join(
        (
            report.table(["bytes", "figure", "budget"], held),
            report.table(["what", "figure"], [list(row) for row in rows]),
            report.table(heads, per_slice),
        )
    )
    report.write("bench", text)
    report.write("bench", report.table(["bytes", "figure"], short), report.SHORT)


if __name__ == "__main__":
    main()
