"""Anything may happen in any order: cuts of power and connection, files that change, resets, lost records.

Hypothesis chooses, a SIM board and a server live through it, and after each step it must hold that
  - the board starts a firmware that is whole, and one it was given;
  - what boots changed only by an update that said it was done;
  - of one file, no more than 64 KiB and what was on its way come twice per cut;
  - an update, however it ends, leaves neither sockets nor heap behind.

`make soak` goes on with this for as long as SECONDS says.
"""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import images
import simflash
from board import Board
from faults import FaultServer, cut, status
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

SLOTS = {"ota_0": 0x10000, "ota_1": 0x190000}
POWER_CUT = 75
# What may come once more after a cut: since the last record, and the pieces that were on their way.
TWICE = 65536 + 3 * 4096

# Each start of the board is a boot: what an attempt began with is told by itself.
ATTEMPT = """
import gc, os, esp32
from binascii import hexlify
otadata = esp32.Partition.find(esp32.Partition.TYPE_DATA, subtype=0)[0]
records = bytearray(8192)
otadata.readblocks(0, records)
print(esp32.Partition(esp32.Partition.RUNNING).info()[4], (hexlify(records[:32]) + hexlify(records[4096:4128])).decode())
records = None
import https_ota, https_ota.ota, https_ota.net.download, https_ota.net.retry, https_ota.net.words, https_ota.flash.resume
import https_ota.flash.chip, https_ota.boot.history
log = open("sectors", "a")
def progress(done, total):
    log.write("x")
    log.flush()
def attempt():
    try:
        return https_ota.update({url!r}, insecure=True, progress=progress, {options})
    except (OSError, https_ota.OTAError) as e:
        return e
def usage():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), gc.mem_alloc()
files, heap = usage()
said = attempt()
print("done" if isinstance(said, https_ota.ImageInfo) else "nothing" if said is None else "failed", repr(said))
said = None
now = usage()
assert now[0] == files, "sockets left open: %d" % (now[0] - files)
assert now[1] - heap < 2048, "heap kept: %d bytes" % (now[1] - heap)
"""

FORGET = """
import esp32
nvs = esp32.NVS("https_ota")
for key in ("part", "done"):
    try:
        nvs.erase_key(key)
    except OSError:
        pass
nvs.commit()
"""

_faults = st.dictionaries(
    st.integers(1, 12),
    st.one_of(
        st.builds(
            cut, st.integers(0, 40_000), st.sampled_from(["close", "drop", "reset", "stall"])
        ),
        st.sampled_from([503, 429, 500]).map(status),
    ),
    max_size=4,
)


class BoardAndServer(RuleBasedStateMachine):
    """One board, one URL, and a file behind it that may change."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="soak-"))
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.folder)

    @initialize(data=st.sampled_from([30_000, 84_000, 140_000]))
    def power_on(self, data):
        first = images.app_image(size=20_000, version="v0")
        self.board = Board(simflash.make_flash(self.folder / "flash.bin", first))
        self.known = {"v0": first}
        self.server = self.stack.enter_context(FaultServer(b"", {}))
        self.replace(data)
        self.runs = self.board.running()

    @rule(size=st.sampled_from([30_000, 84_000, 140_000]), tagged=st.booleans())
    def replace(self, size, tagged=True):
        version = f"v{len(self.known)}"
        self.server.data = images.app_image(size=size, version=version, seed=len(self.known))
        self.server.etag = f'"{version}"' if tagged else ""
        self.known[version] = self.server.data
        self.fetched = self.cuts = 0
        self.fresh = True

    @rule(
        request_size=st.sampled_from([0, 2048, 4096, 8192]),
        faults=_faults,
        power_cut=st.one_of(st.just(0), st.integers(1, 110)),
        # What is not confirmed at its first start has failed.
        retry_failed=st.sampled_from([True, True, False]),
    )
    def update(self, request_size, faults, power_cut, retry_failed):
        server, board = self.server, self.board
        shift = len(server.requests)
        server.faults = {shift + number: fault for number, fault in faults.items()}
        server.faults |= {0: None}
        code = ATTEMPT.format(
            url=server.url("app.bin"),
            options=f"request_size={request_size}, timeout_s=0.3, stall_s=4, retry_failed={retry_failed}",
        )
        done = board.start(code, SIM_CUT=str(power_cut))
        assert done.returncode in (0, POWER_CUT), done.stdout + done.stderr
        self._count(bool(power_cut) + len(faults))
        if done.returncode == POWER_CUT:
            self.restart()
            return
        first, said = done.stdout.split("\n", 1)
        running, before = first.split()
        if said.startswith("done"):
            running = "ota_1" if running == "ota_0" else "ota_0"
            assert board.flash.read_bytes()[SLOTS[running] :][: len(server.data)] == server.data
            self.fetched = self.cuts = 0
        else:
            self._expect_same_choice(bytes.fromhex(before), board.boots_from())
        self.restart()
        assert self.runs.slot == running

    def _count(self, cuts):
        log = self.folder / "sectors"
        new = log.stat().st_size * 4096 if log.exists() else 0
        log.unlink(missing_ok=True)
        self.fetched += new
        self.cuts += cuts
        # A file without an ETag, or whose record was lost, starts over; so does one after another.
        if self.server.etag and self.fresh:
            assert self.fetched <= len(self.server.data) + 4096 + self.cuts * TWICE

    def _expect_same_choice(self, before, after):
        # Records of the passive slot may go; what the running one is chosen by stays.
        for i in (0, 32):
            gone = b"\xff" * 32
            assert after[i : i + 32] in (before[i : i + 32], gone), "the boot selection changed"

    def _passive(self):
        return "ota_1" if self.runs.slot == "ota_0" else "ota_0"

    @rule()
    def restart(self):
        self.runs = self.board.running()

    @rule()
    def confirm(self):
        """Of whatever runs at the next start; a start that is not confirmed goes back."""
        self.board.run("import https_ota; https_ota.confirm()")
        self.runs = self.board.running()

    @rule()
    def lose_the_records(self):
        self.board.run(FORGET)
        self.fresh = False

    @rule(at=st.integers(0, 139_999), bit=st.integers(0, 7))
    def damage_the_passive_slot(self, at, bit):
        flash = bytearray(self.board.flash.read_bytes())
        flash[SLOTS[self._passive()] + at] ^= 1 << bit
        self.board.flash.write_bytes(flash)
        self.fresh = False

    @invariant()
    def runs_a_whole_firmware(self):
        if hasattr(self, "runs"):
            data = self.known[self.runs.version]
            flash = self.board.flash.read_bytes()
            assert flash[SLOTS[self.runs.slot] :][: len(data)] == data

    def teardown(self):
        """In the end a good link and a confirmed firmware are all it takes."""
        try:
            if hasattr(self, "runs"):
                self.confirm()
                self.server.faults = {}
                url = self.server.url("app.bin")
                self.board.update(url, cadata=None, insecure=True, retry_failed=True)
                version = self.board.running().version
                assert self.known[version] == self.server.data
        finally:
            self.stack.close()


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=8,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def test_a_bounded_time():
    """The same choices each time, so that what fails here fails there."""
    run_machine(BoardAndServer, settings=settings(_settings(60), derandomize=True))


def main() -> None:
    """Other choices each time, until SECONDS are over."""
    end = time.monotonic() + float(os.environ.get("SECONDS", "600"))
    lives = 0
    while time.monotonic() < end:
        run_machine(BoardAndServer, settings=_settings(10))
        lives += 10
        print(f"{lives} boards, all well", flush=True)


if __name__ == "__main__":
    main()
