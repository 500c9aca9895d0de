"""Collect the tests that MicroPython runs: each function of tests/unit/test_*.py, on each interpreter."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import built
import pytest

INTERPRETERS = ("sim", "sim64")


class UnitFile(pytest.Module):
    """A file of tests for MicroPython; read, never imported, by CPython."""

    def collect(self):
        tree = ast.parse(self.path.read_text())
        names = [
            n.name
            for n in tree.body
            if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")
        ]
        for name in names:
            for interpreter in INTERPRETERS:
                yield UnitItem.from_parent(
                    self,
                    name=f"{name}[{interpreter}]",
                    test_function=name,
                    interpreter=interpreter,
                )


class UnitFailure(Exception):
    """What MicroPython printed when a test failed."""


class UnitItem(pytest.Item):
    """One test function on one interpreter, in a process and with a flash of its own."""

    def __init__(self, *, test_function: str, interpreter: str, **kwargs):
        super().__init__(**kwargs)
        self.test_function = test_function
        self.interpreter = interpreter

    def runtest(self):
        factory = self.config._tmp_path_factory  # type: ignore[attr-defined]
        work = factory.mktemp("unit")
        flash = work / "flash.bin"
        shutil.copyfile(_blank_flash(factory), flash)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SIM_", "MICROPY"))}
        env |= {"SIM_FLASH": str(flash), "TMPDIR": str(work)}
        run = subprocess.run(
            [
                built.interpreter(self.interpreter),
                Path(__file__).with_name("runner.py"),
                f"{self.path.stem}.{self.test_function}",
            ],
            env=env,
            cwd=work,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        if run.returncode:
            raise UnitFailure(f"exit status {run.returncode}\n{run.stdout}{run.stderr}")
        if run.stdout.startswith("SKIP"):
            pytest.skip(run.stdout.splitlines()[0])
        shutil.rmtree(work)

    def repr_failure(self, excinfo, style=None):
        if isinstance(excinfo.value, UnitFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, self.name


_flash: Path | None = None


def _blank_flash(factory) -> Path:
    """A 4 MB flash with an OTA table and a small ESP32-C3 application in ota_0."""
    global _flash
    if _flash is None:
        from simflash import make_flash

        _flash = make_flash(factory.mktemp("flash") / "flash.bin")
    return _flash


def pytest_pycollect_makemodule(module_path, parent):
    return UnitFile.from_parent(parent, path=module_path)
