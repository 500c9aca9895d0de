"""A SIM board: one of the interpreters and a flash file."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import built
import simflash

NEW, PENDING_VERIFY, VALID, INVALID, ABORTED = range(5)


class Running(NamedTuple):
    """Which firmware a board runs."""

    version: str
    slot: str
    state: int | None


TRACEBACK = "Traceback (most recent call last):\n"
ONE_AT_A_TIME = """
from https_ota.net.ranges import Ranges
Ranges.reach = lambda ranges, position: 0
"""


class Board:
    """A board whose flash is the file `flash`; every run of it is a power-on.

    `build` names the interpreter: sim, sim-tls4k or sim64. `env` adds to the environment (SIM_CHIP ...).
    """

    def __init__(self, flash: Path, build: str = "sim", **env: str) -> None:
        self.flash = flash
        self.interpreter = built.interpreter(build)
        self.env = env

    def start(
        self,
        code: str,
        *,
        capture: bool = True,
        timeout_s: float = 100,
        under: tuple[str, ...] = (),
        **env: str,
    ):
        """Run code and return the finished process; `env` adds to the environment of this run, `under` is what runs it."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIM_", "MICROPY"))}
        clean |= {"SIM_FLASH": str(self.flash), **self.env, **env}
        done = subprocess.run(
            [*under, self.interpreter, "-c", code],
            env=clean,
            cwd=self.flash.parent,
            capture_output=capture,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if capture and done.returncode == 1 and TRACEBACK not in done.stderr:
            # MicroPython 1.27 and later print it where the program prints.
            done.stdout, found, rest = done.stdout.partition(TRACEBACK)
            done.stderr += found + rest
        return done

    def run(self, code: str, **env: str) -> str:
        """Run code that must end well; return what it printed."""
        done = self.start(code, **env)
        if done.returncode:
            raise AssertionError(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def instructions(self, code: str, **env: str) -> int:
        """Run code that must end well under valgrind; return how many it takes, MicroPython's own start among them."""
        under = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
        done = self.start(code, under=under, timeout_s=300, **env)
        counted = re.search(r"Collected\s*: (\d+)", done.stderr)
        assert done.returncode == 0 and counted, done.stdout + done.stderr
        return int(counted[1])

    def fail(self, code: str, **env: str) -> str:
        """Run code that must raise; return the line of the traceback that names the error."""
        done = self.start(code, **env)
        if done.returncode != 1:
            raise AssertionError(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return message(done.stderr)

    def update(self, url: str, **options: object) -> str:
        """Install from a URL, with the CA in ca.pem beside the flash file unless cadata is given."""
        return self.run(self.code(url, **options))

    def refuse(self, url: str, **options: object) -> str:
        """Return the message of an update that must fail."""
        before = self.boots_from()
        message = self.fail(self.code(url, **options))
        assert self.boots_from() == before, "the boot selection changed"
        return message

    def refuse_file(self, name: str) -> str:
        """Return the message of an update from a file beside the flash file that must fail."""
        before = self.boots_from()
        message = self.fail(f"import https_ota\nhttps_ota.update(open({name!r}, 'rb'))")
        assert self.boots_from() == before, "the boot selection changed"
        return message

    def running(self) -> Running:
        """Power the board on and return which firmware runs."""
        found = self.run(
            "import https_ota, esp32\n"
            "slot = esp32.Partition(esp32.Partition.RUNNING).info()[4]\n"
            "print(https_ota.running_info().version, slot, https_ota.state())"
        ).split()
        return Running(found[0], found[1], None if found[2] == "None" else int(found[2]))

    def boots_from(self) -> bytes:
        """Return what decides on the next boot: the two records of otadata."""
        flash = self.flash.read_bytes()
        return flash[0xD000:0xD020] + flash[0xE000:0xE020]

    def code(self, url: str, *, aio: bool = False, ahead: bool = True, **options: object) -> str:
        """Return the update as a user types it; with `aio`, as a task of asyncio. Without `ahead`, one request at a time."""
        given = "".join(f", {name}={value!r}" for name, value in options.items())
        if "cadata" not in options:
            given += ", cadata=open('ca.pem').read()"
        first = "" if ahead else ONE_AT_A_TIME
        if aio:
            return (
                f"{first}import asyncio, https_ota\n"
                f"print(asyncio.run(https_ota.aio.update({url!r}{given})))"
            )
        return f"{first}import https_ota\nprint(https_ota.update({url!r}{given}))"


def message(traceback: str) -> str:
    """The line that names the error, without the advice that may follow in another."""
    lines = traceback.rstrip().split("\n")
    return lines[-2] if lines[-2:][0].startswith("OTAError: ") else lines[-1]


def make_board(folder, root, build):
    """A board that has been started once, so that otadata names ota_0."""
    (folder / "ca.pem").write_bytes(root.pem)
    board = Board(simflash.make_flash(folder / "flash.bin"), build)
    board.running()
    return board
