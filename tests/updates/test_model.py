"""Which firmware may run now? A board lives through calls in any order, beside a plain model of that.

Hypothesis chooses: updates, releases, a firmware with its ROMFS, staged data, confirm(), rollback(), cancel(), resets,
power cuts, images that are refused, an NVS that is full. What a cut leaves open, the model holds open: it is a set of
worlds that are possible, and each thing that is seen (what a call said, which images could boot from the slots, what
started) leaves those where that can be. When none is left, the package did what it must not.

Never possible: that the board does not start; that a firmware starts which no update accepted, or that was not
selected; that one which was not confirmed starts twice; that what was confirmed does not come back.

`make soak` goes on with this for as long as SECONDS says.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import images
import pytest
from board import PENDING_VERIFY, Board
from cryptography.hazmat.primitives.asymmetric import ec
from faults import FaultServer, Reply
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from partitions import TABLE

from https_ota_tools import mkflash, partition, sbv2

POWER_CUT = 75
PHASES = tuple(Phase)
SLOTS = (0x10000, 0x110000)
OTADATA = (0xD000, 0xE000)
ROMFS = (0x210000, 0x250000)
STORAGE = 0x290000
MOST_FAILED = 6

# A board at its prompt: `cut, code` on a line, the power fails in that flash operation of it, or never (0).
PROMPT = """
import sys, esp32, machine, https_ota, simflash, _sim
class Power:
    left = 0
    def cut(self):
        self.left -= 1
        return self.left == 0
power = simflash._sim = Power()
for i in range(6):  # a cut that the start was too short for
    if _sim.cut():
        break
names = {"https_ota": https_ota, "esp32": esp32, "machine": machine, "OTA": https_ota.OTA}
print("runs", https_ota.running_info().version, esp32.Partition(esp32.Partition.RUNNING).info()[4][-1], https_ota.state())
while True:
    line = sys.stdin.readline()
    if not line:
        break
    power.left, code = eval(line)
    try:
        exec(code, names)
        said = names.pop("said", None)
        said = "done" if isinstance(said, https_ota.ImageInfo) else str(said)
    except https_ota.OTAError as e:
        said = str(e)
    power.left = 0
    print("said", said.replace("\\n", " "))
"""

FILL = """
nvs = esp32.NVS("app")
n = 0
for size in (1500, 200, 32, 0):
    try:
        while True:
            nvs.set_blob("k%d" % n, bytes(size)) if size else nvs.set_i32("k%d" % n, n)
            nvs.commit()
            n += 1
    except OSError:
        pass
"""

FREE = """
nvs = esp32.NVS("app")
for n in range(500):
    try:
        nvs.erase_key("k%d" % n)
    except OSError:
        break
nvs.commit()
"""


# -- what can be installed


class Image(NamedTuple):
    """A firmware; `key` signed it, None if nobody did."""

    name: str
    data: bytes
    version: int
    secure: int = 0
    key: str | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def elf(self) -> bytes:
        """app_elf_sha256."""
        return self.data[0xB0:0xD0]


@functools.cache
def _keys():
    return {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ours", "another")}


@functools.cache
def _digest(name: str) -> str:
    return sbv2.key_digest(_keys()[name].public_key())


def _image(name: str, version: int, size=14_000, secure=0, key=None) -> Image:
    data = images.app_image(size=size, version=f"{version}.0", seed=version, secure_version=secure)
    if key:
        data = sbv2.sign(data, [_keys()[key]])
    return Image(name, data, version, secure, key)


@functools.cache
def catalogue() -> dict[str, Image]:
    """All firmware, by name."""
    return {
        found.name: found
        for found in (
            _image("first", 1),
            _image("a", 2, 12_000),
            _image("b", 3),
            _image("c", 4, 20_000),
            _image("large", 5, 84_000),
            _image("secure1", 6, secure=1),
            _image("secure2", 7, secure=2),
            _image("signed1", 8, key="ours"),
            _image("signed2", 9, secure=1, key="ours"),
            _image("alien", 10, key="another"),
        )
    }


@functools.cache
def contents() -> dict[str, bytes]:
    """What goes to data partitions, by name; one of these is a firmware."""
    return {
        "x": hashlib.shake_128(b"x").digest(9_001),
        "y": hashlib.shake_128(b"y").digest(12_288),
        "z": catalogue()["b"].data,
    }


# -- the model


@dataclass(frozen=True)
class World:
    """One state that the board may be in, as far as anybody may know.

    `home` is the number of the slot that comes back by itself; `slots` what boots from each, None for nothing;
    `trial`: the other one runs, and is not confirmed; `selected`: it is to be started, once; `before`: it holds
    what rollback() goes back to. `romfs` and `storage` name data, None is anything else; `pairs` what must lie beside
    a firmware. `failed` are the images that were rolled back, the last first, `unsure` those of which the board may
    or may not know; `floor` and `highest` (release) likewise are what it knows and what it may know.
    """

    slots: tuple[Image | None, Image | None]
    home: int = 0
    trial: bool = False
    selected: bool = False
    before: bool = False
    romfs: tuple[str | None, str | None] = (None, None)
    pairs: tuple[str | None, str | None] = (None, None)
    storage: str | None = None
    failed: tuple[Image, ...] = ()
    unsure: frozenset[Image] = frozenset()
    floor: int = 0
    floor_may_be: int = 0
    release: int = 0
    release_may_be: int = 0
    full: bool = False
    # Installed while NVS was full: not told from what was there before, when it fails.
    hazy: bool = False

    @property
    def other(self) -> int:
        """The slot that updates go to."""
        return 1 - self.home

    @property
    def runs(self) -> int:
        """The slot that runs."""
        return self.other if self.trial else self.home

    def running(self) -> Image:
        found = self.slots[self.runs]
        assert found
        return found

    def put(self, image: Image | None, **more) -> "World":
        """Something else in the other slot: what it was selected or kept for has ended."""
        pairs = _with(self.pairs, self.other, None)
        slots = _with(self.slots, self.other, image)
        return replace(
            self, **{"slots": slots, "pairs": pairs, "selected": False, "before": False, **more}
        )

    def taken_back(self) -> "World":
        """The other slot does not start, whatever it holds."""
        return replace(self, selected=False, before=False)

    def fails(self) -> "World":
        """What is in the other slot ran, and was given up."""
        image = self.slots[self.other]
        after = replace(self, trial=False, selected=False, before=False, hazy=False)
        if image is None or image == self.slots[self.home] or image in self.failed:
            return after
        if self.full or self.hazy:
            return replace(after, unsure=self.unsure | {image})
        failed = (image, *self.failed)
        return replace(
            after,
            failed=failed[:MOST_FAILED],
            unsure=(self.unsure - {image}) | set(failed[MOST_FAILED:]),
        )

    def starts(self) -> "World":
        """After a power-on."""
        if self.trial:
            return self.fails()
        if self.selected:
            return replace(self, trial=True, selected=False)
        return self

    def confirmed(self) -> "World":
        """The firmware on trial is kept; what failed before may be tried again."""
        secure = self.slots[self.other].secure
        return replace(
            self,
            home=self.other,
            trial=False,
            before=True,
            failed=(),
            unsure=self.unsure | set(self.failed) if self.hazy or self.full else frozenset(),
            hazy=False,
        ).raised(secure)

    def raised(self, secure: int) -> "World":
        """The floor, when a firmware with this secure version was confirmed."""
        may_be = max(self.floor_may_be, secure)
        return replace(
            self, floor=self.floor if self.full else max(self.floor, secure), floor_may_be=may_be
        )

    def forgetful(self) -> "World":
        """It may or may not know what failed."""
        return replace(self, failed=(), unsure=self.unsure | set(self.failed))


def _with(pair: tuple, i: int, value: object) -> tuple:
    return (value, pair[1]) if i == 0 else (pair[0], value)


class Files(FaultServer):
    """Serves files by path, each with an ETag made of its content."""

    def __init__(self) -> None:
        super().__init__(b"", {})
        self.files: dict[str, bytes] = {}

    def _reply(self, request):
        found = self.files.get(request.split(" ")[1])
        if found is None:
            return Reply(404, b"", {"Content-Length": "0"})
        self.data, self.etag = found, f'"{hashlib.sha256(found).hexdigest()[:12]}"'
        return super()._reply(request)


# What is wrong with a file, or with what is said of it, and how it is refused then.
WRONG = {
    "corrupt": {"CHECKSUM", "DIGEST"},
    "short": {"TRUNCATED", "SIZE"},
    "digest": {"DIGEST"},
    "missing": {"HTTP_STATUS"},
}
EARLY = {"None", "PENDING_VERIFY", "FAILED_BEFORE", "SECURE_VERSION", "PARTITION", "HTTP_STATUS"}
UNTRUSTED = {None: "UNSIGNED", "another": "UNKNOWN_KEY"}


class Said(NamedTuple):
    """What a call may say, and the world behind it."""

    word: str
    world: World


def installs(w: World, image: Image, *, known, url, trust, retry, wrong) -> list[Said]:
    """What an update to this firmware may come to. `known`: size and SHA-256 are given."""
    running = w.running()
    if w.trial:
        return [Said("PENDING_VERIFY", w)]
    # What is known to be there is not fetched.
    there = known and wrong != "digest"
    if there and image == running:
        return [Said("None", w)]
    if there and image == w.slots[w.other]:
        wrong = None
    if wrong == "missing":
        return [Said("HTTP_STATUS", w)]
    may = []
    if url and not known and not wrong and image == running:
        may.append(Said("None", w))
    if wrong == "short":
        # A length that can't be is seen first.
        may += [Said(word, w) for word in WRONG[wrong]]
    if not retry:
        if image in w.failed:
            return [*may, Said("FAILED_BEFORE", w)]
        if image in w.unsure:
            may.append(Said("FAILED_BEFORE", w))
    if image.secure < max(w.floor_may_be, running.secure):
        may.append(Said("SECURE_VERSION", w))
        if image.secure < max(w.floor, running.secure):
            return may
    if wrong:
        # It may be seen before anything is written.
        return may + [Said(word, x) for word in WRONG[wrong] for x in (w, w.put(None))]
    if trust and image.key != "ours":
        return [*may, Said(UNTRUSTED[image.key], w.put(None))]
    return [*may, Said("done", w.put(image, selected=True, hazy=w.full))]


def broken_off(w: World, may: list[Said]) -> list[World]:
    """The power was cut in an update that may come to this."""
    worlds = [w, *(said.world for said in may)]
    if any(said.word not in EARLY for said in may):
        worlds += [w.taken_back(), w.put(None)]
    # It is all there, and not selected yet.
    return worlds + [x.taken_back() for x in worlds if x.selected]


class Prompt:
    """A board that is on, and waits for a call; each call is a line of code that leaves its result in `said`."""

    def __init__(self, board: Board, power_cut: int) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIM_", "MICROPY"))}
        self._errors = (board.flash.parent / "stderr").open("w+")
        self._process = subprocess.Popen(
            [board.interpreter, "-c", PROMPT],
            env=clean | {"SIM_FLASH": str(board.flash), "SIM_CUT": str(power_cut)},
            cwd=board.flash.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )

    def answer(self) -> list[str] | None:
        """The words of the next line; None when the power was cut instead."""
        limit = threading.Timer(100, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        limit.cancel()
        if line:
            return line.split()
        self._errors.seek(0)
        assert self._process.wait() == POWER_CUT, self._errors.read()
        return None

    def call(self, code: str, power_cut: int) -> list[str] | None:
        self._process.stdin.write(repr((power_cut, code)) + "\n")
        return self.answer()

    def off(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()


cuts = st.one_of(st.just(0), st.just(0), st.integers(1, 60))
# "last" is the one that was tried out last.
image_names = st.sampled_from(
    [
        "first",
        "a",
        "b",
        "c",
        "large",
        "secure1",
        "secure2",
        "signed1",
        "signed2",
        "alien",
        "last",
        "last",
    ]
)
data_names = st.sampled_from(["x", "y", "z"])
often = st.sampled_from([True, True, False])
wrongs = st.sampled_from([None] * 6 + [*WRONG])


class BoardAndModel(RuleBasedStateMachine):
    """One board, and the worlds that are possible."""

    on: Prompt | None = None
    failed = False
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="model-"))
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.folder)
        self.server = self.stack.enter_context(Files())
        table = partition.read_csv(TABLE, "table")
        flash = self.folder / "flash.bin"
        first = catalogue()["first"]
        flash.write_bytes(mkflash.make_flash(first.data, table, 4 << 20))
        self.board = Board(flash)
        self.worlds = {World((first, None))}
        self.was_confirmed = {first}
        self.tried = first
        self.releases = 0
        self.manifest = None
        self.idle = set()  # manifests that came to nothing
        self.state = None
        self.before = None  # the last call that installs something, since the start

    @initialize()
    def first_start(self):
        self._power_on(0)

    # -- what is seen

    def _seen(self):
        """What could boot from the slots, and what lies in the data partitions."""
        slots = tuple(
            next((i for i in self._longest() if self._flash(at, len(i.data)) == i.data), None)
            for at in SLOTS
        )
        romfs = tuple(self._data(at) for at in ROMFS)
        return slots, romfs, self._data(STORAGE)

    @staticmethod
    @functools.cache
    def _longest():
        return sorted(catalogue().values(), key=lambda image: -len(image.data))

    def _flash(self, at, n):
        with self.board.flash.open("rb") as f:
            f.seek(at)
            return f.read(n)

    def _data(self, at):
        return next((k for k, v in contents().items() if self._flash(at, len(v)) == v), None)

    def _leave(self, worlds, *why):
        """These are possible; what is in the flash tells which of them are."""
        seen = self._seen()
        possible = {w for w in worlds if (w.slots, w.romfs, w.storage) == seen}
        if not possible:
            self.failed = True
            lines = (*why, f"seen: {seen}", "possible were:", *self.worlds, "then:", *worlds)
            raise AssertionError("no world is left:\n" + "\n".join(map(str, lines)))
        self.worlds = possible

    def _power_on(self, power_cut):
        if self.on:
            self.on.off()
        self.on = Prompt(self.board, power_cut)
        said = self.on.answer()
        if said is None:
            # In an entry of otadata: it is as it was, gone, or written already.
            self._leave(
                {
                    x
                    for w in self.worlds
                    for x in (w, w.starts(), replace(w.starts().forgetful(), trial=False))
                },
                "cut while it starts",
            )
            return self._power_on(0)
        self._runs(said, {w.starts() for w in self.worlds})
        return None

    def _runs(self, said, worlds):
        """The board has started."""
        word, version, slot, state = said
        assert word == "runs"
        self.before = None
        self.state = state
        slot = int(slot)
        self._leave(
            {
                w
                for w in worlds
                if w.runs == slot
                and w.slots[slot]
                and version == f"{w.slots[slot].version}.0"
                and w.trial == (state == str(PENDING_VERIFY))
            },
            said,
        )
        for w in self.worlds:
            assert w.pairs[slot] in (None, w.romfs[slot]), f"another ROMFS: {w}"

    def _call(self, code, power_cut, may, cut_off):
        """Make a call: `may(world)` gives what it may come to, `cut_off(world)` the worlds behind a power cut.

        Returns the word that it said, None after a cut.
        """
        type(self).steps += 1
        if "update" in code or "together" in code:
            self.before = code, may, cut_off
        before = self._all()
        said = self.on.call(code, power_cut)
        if said is None:
            self._leave({x for w in self.worlds for x in cut_off(w)}, "cut", code)
            self._power_on(0)
            return None
        if said[0] == "runs":
            self._runs(said, {s.world for w in self.worlds for s in may(w) if s.word == "restart"})
            return "restart"
        word = said[1].rstrip(":")
        if word in EARLY:
            assert self._all() == before, f"{said}, and yet the flash has changed"
        allowed = [s for w in self.worlds for s in may(w)]
        self._leave({s.world for s in allowed if s.word == word}, said, code)
        return word

    def _all(self):
        """All of the flash but NVS."""
        return self._flash(OTADATA[0], 0x2000), self._flash(SLOTS[0], STORAGE + 0x40000 - SLOTS[0])

    def _image(self, name):
        return self.tried if name == "last" else catalogue()[name]

    # -- sources

    def _source(self, name, data, url):
        """Python for a file or URL with this content."""
        if data is None:
            return repr(self.server.url("missing.bin"))
        if url:
            self.server.files[f"/{name}.bin"] = data
            return repr(self.server.url(f"{name}.bin")) + ", insecure=True, timeout_s=2, stall_s=6"
        (self.folder / f"{name}.bin").write_bytes(data)
        return f"open('{name}.bin', 'rb')"

    def _given(self, name, data, *, known, url, trust=False, retry=False, wrong=None):
        """Python for the arguments of an update."""
        served = {
            "corrupt": lambda: images.corrupt(data, "data"),
            "short": lambda: data[:9000],
            "missing": lambda: None,
        }.get(wrong, lambda: data)()
        source = self._source(name, served, url or wrong == "missing")
        if wrong == "missing":
            source += ", insecure=True, timeout_s=2, stall_s=6"
        if known or wrong == "digest":
            digest = hashlib.sha256(b"another" if wrong == "digest" else data).digest()
            source += f", sha256={digest!r}, size={len(data)}"
        if trust:
            source += f", trusted_keys={_digest('ours')!r}"
        if retry:
            source += ", retry_failed=True"
        return source

    # -- what may be done

    @rule(
        name=image_names,
        known=st.booleans(),
        url=st.booleans(),
        latest=st.booleans(),
        trust=st.sampled_from([False, False, True]),
        retry=st.sampled_from([False, False, True]),
        wrong=wrongs,
        aio=st.sampled_from([False, False, True]),
        power_cut=cuts,
    )
    def update(self, name, known, url, latest, trust, retry, wrong, aio, power_cut):
        image = self._image(name)
        how = {"known": known, "trust": trust, "retry": retry, "wrong": wrong}
        how["url"] = url or wrong == "missing"
        given = self._given("latest" if latest else name, image.data, **how)
        code = f"said = https_ota.update({given})"
        if aio:
            code = f"import asyncio\nsaid = asyncio.run(https_ota.aio.update({given}))"

        def may(w):
            return installs(w, image, **how)

        self._call(code, power_cut, may, lambda w: broken_off(w, may(w)))

    @rule(power_cut=cuts)
    def once_more(self, power_cut):
        """A message that came twice, a poll before the nightly restart."""
        if self.before:
            code, may, cut_off = self.before
            self._call(code, power_cut, may, cut_off)

    @rule(
        name=image_names,
        known=st.booleans(),
        url=st.booleans(),
        times=st.integers(1, 3),
        ending=st.sampled_from(["confirm", "confirm", "fail", "rollback"]),
    )
    def try_out(self, name, known, url, times, ending):
        """An update that nothing is wrong with, its first start, and what becomes of it."""
        self.tried = self._image(name)
        self._power_on(0)
        for _ in range(times):
            self.update(name, known, url, False, False, True, None, False, 0)
        self._power_on(0)
        if ending == "confirm":
            self.confirm(0)
        elif ending == "rollback":
            self.rollback(0)
        else:
            self._power_on(0)

    @rule(
        name=image_names,
        known=st.booleans(),
        url=st.booleans(),
        performs=st.integers(0, 4),
        power_cut=cuts,
    )
    def abandon(self, name, known, url, performs, power_cut):
        """An update that is not brought to its end."""
        image = self._image(name)
        how = {"known": known, "url": url, "retry": True}
        given = self._given(name, image.data, **how)
        code = f"with OTA({given}) as ota:\n if ota.begin():\n  for i in range({performs}):\n   ota.perform()\nsaid = 0"

        def may(w):
            found = installs(w, image, trust=False, wrong=None, **how)
            ends = [s for s in found if s.word in ("PENDING_VERIFY", "SECURE_VERSION")]
            if any(s.word in ("done", "None") for s in found):
                ends.append(Said("0", w))
                if performs:
                    ends.append(Said("0", w.put(None)))
            return ends

        self._call(code, power_cut, may, lambda w: [w, w.taken_back(), w.put(None)])

    @rule(
        name=image_names,
        again=st.booleans(),
        older=st.sampled_from([False, False, False, True]),
        signer=st.sampled_from(["ours", "ours", "ours", "another", None]),
        alone=st.booleans(),
        retry=st.sampled_from([False, False, True]),
        wrong=wrongs,
        power_cut=cuts,
    )
    def update_from(self, name, again, older, signer, alone, retry, wrong, power_cut):
        """A release: a new one, an old one, or the last one once more. `alone`: its manifest vouches for the image."""
        if not (again and self.manifest):
            image = self._image(name)
            if not older:
                self.releases += 1
            number = max(self.releases - older, 1)
            found = {
                "release": number,
                "version": f"{image.version}.0",
                "secure_version": image.secure,
                "files": [
                    {
                        "chip": "ESP32-C3",
                        "url": "release.bin",
                        "size": len(image.data),
                        "sha256": hashlib.sha256(image.data).hexdigest(),
                        "elf_sha256": image.elf.hex(),
                    }
                ],
            }
            self.manifest = number, image, signer, json.dumps(found).encode()
        number, image, signer, text = self.manifest
        self.server.files["/m.json"] = text
        self.server.files.pop("/m.json.sig", None)
        if signer:
            self.server.files["/m.json.sig"] = sbv2.sign_data(text, [_keys()[signer]])
        # What is there is not what the manifest says.
        self.server.files["/release.bin"] = image.data
        if wrong == "short":
            self.server.files["/release.bin"] = image.data[:9000]
        elif wrong == "missing":
            del self.server.files["/release.bin"]
        elif wrong:
            self.server.files["/release.bin"] = images.corrupt(image.data, "data")
        bad = "corrupt" if wrong == "digest" else wrong
        options = f"trusted_keys={_digest('ours')!r}, insecure=True, timeout_s=2, stall_s=6"
        options += ", image_keys=None" if alone else ""
        options += ", retry_failed=True" if retry else ""
        url = self.server.url("m.json")
        code = f"said = https_ota.update_from({url!r}, {options})"

        def may(w):
            running = w.running()
            surely = image.version <= running.version or (not retry and image in w.failed)
            nothing = surely or (not retry and image in w.unsure)
            # What came to nothing before need not come again: 304.
            found = [Said("None", w)] if nothing and text in self.idle else []
            if signer != "ours":
                return [*found, Said(UNTRUSTED[signer], w)]
            if number < w.release:
                return [*found, Said("MANIFEST_REPLAY", w)]
            if number < w.release_may_be:
                found.append(Said("MANIFEST_REPLAY", w))
            highest = max(w.release_may_be, number)
            # What a cut left open is not settled by a lower one that is taken.
            surely_seen = w.release if w.full else max(w.release, number)
            seen = replace(w, release=surely_seen, release_may_be=highest)
            if image.secure < max(w.floor_may_be, running.secure):
                found.append(Said("SECURE_VERSION", seen))
                if image.secure < max(w.floor, running.secure):
                    return found
            if nothing:
                found.append(Said("None", seen))
            if surely:
                return found
            how = {"known": True, "url": True, "trust": not alone, "retry": retry, "wrong": bad}
            return found + installs(seen, image, **how)

        def cut_off(w):
            noted = max(w.release_may_be, number) if signer == "ours" else w.release_may_be
            return broken_off(replace(w, release_may_be=noted), may(w))

        if self._call(code, power_cut, may, cut_off) in ("None", None):
            self.idle.add(text)

    @rule(
        name=image_names,
        data=data_names,
        known=often,
        url=st.booleans(),
        retry=st.booleans(),
        wrong=st.sampled_from([None, None, None, "app corrupt", "app digest", "romfs digest"]),
        first=st.booleans(),
        power_cut=cuts,
    )
    def together(self, name, data, known, url, retry, wrong, first, power_cut):
        """A firmware and the ROMFS beside it, in either order."""
        image = self._image(name)
        part, _, what = (wrong or "").partition(" ")
        how = {"known": known, "url": url, "retry": retry, "wrong": None}
        app = self._given(name, image.data, **how | ({"wrong": what} if part == "app" else {}))
        beside = self._given(
            "romfs", contents()[data], **how | ({"wrong": what} if part == "romfs" else {})
        )
        sessions = [f"OTA({app})", f"OTA({beside}, partition=https_ota.beside('romfs'))"]
        if first:
            sessions.reverse()
        code = f"said = https_ota.together({', '.join(sessions)})"
        code += "\nsaid = 'None' if said == [None, None] else 'done'"
        code += "\nsaid = https_ota.ImageInfo if 0 else said"

        def may(w):
            found = []
            for s in installs(
                w, image, trust=False, **how | {"wrong": what if part == "app" else None}
            ):
                if s.word != "done":
                    found.append(s)
                    continue
                done = s.world
                # What the slot holds already is not written, and not taken away again.
                kept = w.slots[w.other] == image and (known or url)
                if part == "romfs":
                    for x in [w.put(None)] + [w.taken_back()] * kept:
                        found += [
                            Said("DIGEST", replace(x, romfs=_with(w.romfs, w.other, d)))
                            for d in (None, data, w.romfs[w.other])
                        ]
                    continue
                found.append(
                    Said(
                        "done",
                        replace(
                            done,
                            romfs=_with(w.romfs, w.other, data),
                            pairs=_with(w.pairs, w.other, data),
                        ),
                    )
                )
            return found

        def cut_off(w):
            found = broken_off(w, [s for s in may(w) if s.word != "done"])
            if any(s.word == "done" for s in may(w)):
                (done,) = (s.world for s in may(w) if s.word == "done")
                found += [w, w.taken_back(), w.put(None), done, done.taken_back()]
            return found + [
                replace(x, romfs=_with(w.romfs, w.other, d), pairs=_with(w.pairs, w.other, None))
                for x in found
                if not x.selected and not x.trial
                for d in (None, data)
            ]

        self._call(code, power_cut, may, cut_off)

    @rule(
        data=data_names,
        staging=st.sampled_from([None, "True", "'other'", "'romfs'"]),
        known=often,
        url=st.booleans(),
        wrong=st.sampled_from([None, None, "digest"]),
        power_cut=cuts,
    )
    def store(self, data, staging, known, url, wrong, power_cut):
        """Data, straight to its partition or by way of another one."""
        given = self._given(data, contents()[data], known=known, url=url, wrong=wrong)
        code = f"said = https_ota.update({given}, partition='storage'"
        other = next(iter(self.worlds)).other
        slot = staging in ("True", "'other'")
        if staging:
            named = {"'other'": f"'ota_{other}'", "'romfs'": f"'romfs_{other}'"}
            code += f", staging={named.get(staging, staging)}"
        code += ")\nsaid = 'done' if said else None"

        def may(w):
            # Of what NVS remembers, there may be more or less.
            if slot and w.trial and staging == "True":
                return [Said("PENDING_VERIFY", w)]
            if slot and w.trial:
                return [Said("PARTITION", w), Said("PENDING_VERIFY", w)]
            if slot and w.selected:
                return [Said("PARTITION", w)]
            found = []
            if not wrong and w.storage == data and (known or url):
                found.append(Said("None", w))
                if known:
                    return found
            at = _staged(w)
            if wrong:
                ends = (None, data, w.storage) if not staging else (w.storage,)
                return found + [Said("DIGEST", replace(x, storage=d)) for x in at for d in ends]
            return found + [Said("done", replace(x, storage=data)) for x in at]

        def _staged(w):
            if not staging:
                return [w]
            if slot:
                return [w.put(None)]
            pairs = _with(w.pairs, other, None)
            return [
                replace(w, romfs=_with(w.romfs, other, d), pairs=pairs)
                for d in (None, *contents())
            ]

        def cut_off(w):
            found = [w]
            if any(s.word in ("done", "DIGEST") for s in may(w)):
                found += _staged(w)
                if slot:
                    found.append(w.taken_back())
                if not staging or not wrong:
                    found += [replace(x, storage=d) for x in found for d in (None, data)]
            return found

        self._call(code, power_cut, may, cut_off)

    @rule(power_cut=st.one_of(st.just(0), st.just(0), st.integers(1, 12)))
    def confirm(self, power_cut):
        def may(w):
            if w.trial:
                return [Said("True", w.confirmed())]
            kept = self.state == "2"
            return [Said("False", w.raised(w.running().secure) if kept else w)]

        def cut_off(w):
            if not w.trial:
                return [w]
            kept = w.confirmed()
            return [
                w,
                replace(w, trial=False),
                replace(kept, unsure=w.unsure | set(w.failed), floor=w.floor),
            ]

        trial = {w.running() for w in self.worlds if w.trial}
        if self._call("said = https_ota.confirm()", power_cut, may, cut_off) == "True":
            self.state = "2"
        self.was_confirmed |= trial & {w.running() for w in self.worlds if not w.trial}

    @rule(power_cut=st.one_of(st.just(0), st.just(0), st.integers(1, 12)))
    def rollback(self, power_cut):
        def may(w):
            if w.trial:
                return [Said("restart", w.fails())]
            if w.selected:
                return [Said("True", w.taken_back())]
            if w.before:
                back = w.raised(w.running().secure)
                restart = Said("restart", replace(back, home=w.other, before=False).fails())
                # Where the secure version can't be stored, it has to wait.
                return [restart, Said("ROLLBACK", w)] if w.full else [restart]
            return [Said("ROLLBACK", w)]

        def cut_off(w):
            ends = [s.world for s in may(w)]
            return [w, *ends, *(x.forgetful() for x in ends)]

        self._call("said = https_ota.rollback()", power_cut, may, cut_off)

    @rule(power_cut=st.one_of(st.just(0), st.just(0), st.integers(1, 4)))
    def cancel(self, power_cut):
        self._call(
            "said = https_ota.cancel()",
            power_cut,
            lambda w: [Said(str(w.selected), w.taken_back() if w.selected else w)],
            lambda w: [w, w.taken_back()] if w.selected else [w],
        )

    @rule(power_cut=st.one_of(st.just(0), st.integers(1, 5)))
    def power_off(self, power_cut):
        self._power_on(power_cut)

    @rule()
    def reset(self):
        self._call("machine.reset()", 0, lambda w: [Said("restart", w.starts())], None)

    @rule(power_cut=st.one_of(st.just(0), st.just(0), st.integers(1, 60)))
    def fill_nvs(self, power_cut):
        def full(w):
            # The last failure may not have been stored yet.
            return replace(
                w, full=True, failed=w.failed[1:], unsure=w.unsure | set(w.failed[:1]), hazy=True
            )

        self._call(
            FILL + "said = 0", power_cut, lambda w: [Said("0", full(w))], lambda w: [full(w)]
        )

    @rule()
    def free_nvs(self):
        self._call(
            FREE + "said = 0", 0, lambda w: [Said("0", replace(w, full=False))], lambda w: [w]
        )

    @rule(a=st.sampled_from(["", "blank", "damaged"]), b=st.sampled_from(["blank", "damaged"]))
    def lose_otadata(self, a, b):
        """Another firmware may start then, but none that was refused."""
        self.on.off()
        with self.board.flash.open("r+b") as f:
            for at, how in zip(OTADATA, (a, b), strict=True):
                if how == "blank":
                    f.seek(at)
                    f.write(b"\xff" * 4096)
                elif how:
                    f.seek(at + 28)
                    found = f.read(1)[0]
                    f.seek(at + 28)
                    f.write(bytes([found ^ 1]))
        # Until what is on trial has gone back.
        for _ in range(3):
            self.on.off()
            self.on = Prompt(self.board, 0)
            _, version, slot, self.state = self.on.answer()
            slot = int(slot)
            slots = self._seen()[0]
            assert slots[slot] and f"{slots[slot].version}.0" == version
            assert all(w.slots == slots for w in self.worlds)
        self._leave(
            {
                replace(
                    w,
                    home=slot,
                    failed=(),
                    unsure=w.unsure.union(w.failed, filter(None, w.slots)),
                    trial=False,
                    selected=False,
                    before=before,
                    hazy=False,
                    pairs=(None, None),
                )
                for w in self.worlds
                for before in {False, w.slots[1 - slot] in self.was_confirmed}
            },
            "otadata",
        )

    def teardown(self):
        """In the end an update is all it takes."""
        try:
            if self.on and not self.failed:
                self.free_nvs()
                self._power_on(0)
                self._power_on(0)
                image = catalogue()["secure2"]
                how = {"known": False, "url": True, "trust": False, "retry": True, "wrong": None}
                given = self._given("last", image.data, **how)
                self._call(
                    f"said = https_ota.update({given})",
                    0,
                    lambda w: installs(w, image, **how),
                    None,
                )
                self.confirm(0)
        finally:
            if self.on:
                self.on.off()
            self.stack.close()


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(600)
def test_a_bounded_time():
    """The same choices each time, so that what fails here fails there."""
    run_machine(BoardAndModel, settings=settings(_settings(160), derandomize=True))


def live(end: float) -> None:
    """Other choices each time, until then."""
    lives = 0
    while time.monotonic() < end:
        run_machine(BoardAndModel, settings=_settings(10))
        lives += 10
        print(f"{lives} boards beside a model, {BoardAndModel.steps} calls, all well", flush=True)


if __name__ == "__main__":
    live(time.monotonic() + float(os.environ.get("SECONDS", "600")))
