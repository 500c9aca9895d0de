"""A SIM board: one of the interpreters and a flash file."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Board:
    """A board whose flash is the file `flash`; every run of it is a power-on.

    `build` names the interpreter: sim, sim-tls4k or sim64. `env` adds to the environment (SIM_CHIP ...).
    """

    def __init__(self, flash: Path, build: str = "sim", **env: str) -> None:
        self.flash = flash
        self.interpreter = ROOT / "build" / build / "micropython"
        self.env = env

    def start(self, code: str, *, capture: bool = True, timeout_s: float = 100, **env: str):
        """Run code and return the finished process; `env` adds to the environment of this run."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIM_", "MICROPY"))}
        clean |= {"SIM_FLASH": str(self.flash), **self.env, **env}
        return subprocess.run(
            [self.interpreter, "-c", code],
            env=clean,
            cwd=self.flash.parent,
            capture_output=capture,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run(self, code: str, **env: str) -> str:
        """Run code that must end well; return what it printed."""
        done = self.start(code, **env)
        if done.returncode:
            raise AssertionError(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def fail(self, code: str, **env: str) -> str:
        """Run code that must raise; return the last line of the traceback."""
        done = self.start(code, **env)
        if done.returncode != 1:
            raise AssertionError(f"exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stderr.rstrip().rpartition("\n")[2]
