"""An RV32 board: bare-metal MicroPython with an ESP32-C3's instruction set, run by QEMU."""

import contextlib
import io
import mmap
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

from built import MPY_CROSS, RV32_FIRMWARE
from mpremote.romfs import make_romfs
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

# Of these, 109 KB are free after the start: about what an ESP32-C3 has for Python with Wi-Fi up.
C3_HEAP = 128 << 10
# All that the firmware is built with.
ALL_HEAP = 0

# The machine's memory is a file that this process shares with QEMU; see boards/RV32/modules/_sim.py.
RAM_SIZE = 32 << 20
FLASH_AT = 0x1000000
WORDS_AT = FLASH_AT - 4096
CAUSE_AT, STARTS_AT, APP_AT = WORDS_AT + 8, WORDS_AT + 12, WORDS_AT + 16
ROM_AT = FLASH_AT + (8 << 20)


class Machine:
    """A running machine, to be used with `with`: nothing of it is left behind.

    `folder` is for its memory, `flash` what is in its flash at first, `heap` the size of MicroPython's heap
    in bytes. `device` is its serial device, for mpremote or anything else. With `counted` its clock counts instructions, a
    microsecond for each thousand.
    """

    def __init__(
        self, folder: Path, flash: bytes, heap: int = C3_HEAP, counted: bool = False
    ) -> None:
        self._clock = ("-icount", "shift=0") if counted else ()
        self._file = folder / "ram.bin"
        self._flash = flash
        with self._file.open("wb+") as f:
            f.truncate(RAM_SIZE)
            self._ram = mmap.mmap(f.fileno(), RAM_SIZE)
        struct.pack_into("<II", self._ram, WORDS_AT, heap, len(flash))
        self.restore_flash()

    def __enter__(self) -> "Machine":
        self._power_on()
        return self

    def __exit__(self, *error: object) -> None:
        self._power_off()
        self._ram.close()
        self._file.unlink()

    def _power_on(self) -> None:
        memory = f"memory-backend-file,id=ram,size={RAM_SIZE},share=on,mem-path={self._file}"
        starts = self.starts
        self._qemu = subprocess.Popen(
            [
                # A test run that is killed leaves no machine behind either.
                *("setpriv", "--pdeathsig", "KILL", "qemu-system-riscv32"),
                *("-machine", "virt,memory-backend=ram", "-object", memory),
                *("-bios", "none", "-kernel", RV32_FIRMWARE),
                *("-display", "none", "-monitor", "none", "-serial", "pty"),
                *self._clock,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._terminal = -1
        try:
            # char device redirected to /dev/pts/3 (label serial0)
            line = self._qemu.stdout.readline()
            assert " redirected to " in line, line + self._qemu.stdout.read()
            self.device = line.split()[4]
            # QEMU looks once a second for somebody at the other end; so there always is.
            self._terminal = os.open(self.device, os.O_RDWR | os.O_NOCTTY)
            self.wait_for_start(starts)
        except BaseException:
            self._power_off()
            raise

    def _power_off(self) -> None:
        if self._terminal >= 0:
            os.close(self._terminal)
        self._qemu.kill()
        self._qemu.wait()
        self._qemu.stdout.close()

    def power_cycle(self) -> None:
        """Switch off, and on again. What is in the flash stays."""
        self._power_off()
        struct.pack_into("<I", self._ram, CAUSE_AT, 0)
        self._power_on()

    @property
    def starts(self) -> int:
        """How often the machine has started: power-ons and resets, other than soft resets."""
        return int(struct.unpack_from("<I", self._ram, STARTS_AT)[0])

    def wait_for_start(self, starts: int, timeout_s: float = 30) -> None:
        """Wait until the machine has started more often than that."""
        end = time.monotonic() + timeout_s
        while self.starts <= starts:
            assert self._qemu.poll() is None, "QEMU ended: " + self._qemu.stdout.read()
            assert time.monotonic() < end, "the machine does not start"
            time.sleep(0.01)

    # -- memory

    def flash(self, offset: int = 0, size: int | None = None) -> bytes:
        """Return what is in the flash."""
        end = len(self._flash) if size is None else offset + size
        return self._ram[FLASH_AT + offset : FLASH_AT + end]

    def restore_flash(self) -> None:
        """Put back what was in the flash at first. The program's next start is then that of a new board."""
        self._ram[FLASH_AT : FLASH_AT + len(self._flash)] = self._flash
        for at in (CAUSE_AT, APP_AT):
            struct.pack_into("<I", self._ram, at, 0)

    def insert_rom(self, folder: Path) -> str:
        """Put a folder's files where the machine reads them in place; return the code that mounts them at /rom.

        A compiled module there takes no heap for its code, as one in the firmware.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            rom = make_romfs(str(folder), mpy_cross=None)
        assert len(rom) <= 4 << 20
        self._ram[ROM_AT : ROM_AT + len(rom)] = rom
        return (
            "import sys, uctypes, vfs\n"
            f"vfs.mount(vfs.VfsRom(uctypes.bytearray_at(0x{0x80000000 + ROM_AT:x}, {len(rom)})), '/rom')\n"
            "sys.path.append('/rom')\n"
        )

    # -- programs

    def mpremote(self, *args: str | Path, timeout_s: float = 60) -> str:
        """Run mpremote with this machine as its device; return what it printed."""
        command = [sys.executable, "-m", "mpremote", "connect", self.device, *args]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            self.power_cycle()
            raise
        if done.returncode:
            raise AssertionError(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def run(self, code: str, mount: Path | None = None, timeout_s: float = 60) -> str:
        """Restart the program and run code, as `mpremote mount FOLDER exec CODE`; return what it printed.

        In this process, which is ten times as fast. AssertionError with the traceback when it raises.
        """
        try:
            with contextlib.closing(SerialTransport(self.device, timeout=timeout_s)) as transport:
                transport.enter_raw_repl()
                if mount:
                    transport.mount_local(str(mount))
                output, error = transport.exec_raw(code, timeout=timeout_s)
                transport.exit_raw_repl()
        except TransportError as e:
            self.power_cycle()
            raise AssertionError(f"the machine hangs: {e}") from e
        if error:
            raise AssertionError((output + error).decode())
        return output.decode().replace("\r\n", "\n")


def compile_to(folder: Path, source: Path) -> None:
    """Compile a module into a folder."""
    target = folder / source.with_suffix(".mpy").name
    subprocess.run(
        [MPY_CROSS, "-march=rv32imc", "-s", source.name, "-o", target, source], check=True
    )
