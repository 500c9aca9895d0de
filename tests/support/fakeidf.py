"""What stands in for ESP-IDF, which is not here: upstream's real CMakeLists.txt runs up to where ESP-IDF takes over.

idf.py (idfstub) hands the words it is given to cmake, and ends a build with an sdkconfig out of the defaults as ESP-IDF
does: a name's last line counts, and an sdkconfig that is there is kept.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import built
from built import ROOT

MPY = built.SOURCE
PORT = MPY / "ports" / "esp32"
BOARDS = sorted(p.parent.name for p in ROOT.glob("boards/*/mpconfigboard.cmake"))

SEEN = (
    "IDF_TARGET",
    "PROJECT_VER",
    "SDKCONFIG_DEFAULTS",
    "MICROPY_BOARD_DIR",
    "MICROPY_FROZEN_MANIFEST",
    "MICROPY_MANIFEST_FROZEN_MANIFEST",
    "MICROPY_MANIFEST_GEN_DIR",
)
VERSION_CMAKE = "set(IDF_VERSION_MAJOR {})\nset(IDF_VERSION_MINOR {})\nset(IDF_VERSION_PATCH {})\n"
PROJECT_CMAKE = f"""
function(idf_build_set_property)
endfunction()
macro(project name)
    _project(${{name}} NONE)
    file(WRITE ${{CMAKE_BINARY_DIR}}/seen "")
    foreach(_name {" ".join(SEEN)})
        file(APPEND ${{CMAKE_BINARY_DIR}}/seen "${{_name}}=${{${{_name}}}}\\n")
    endforeach()
endmacro()
"""
IDF_PY = """#!{python}
import os, sys
os.environ["MPY_BUILD"] = {folder!r}
sys.path[:0] = {paths!r}
import idfstub
idfstub.main({log!r}, {drop!r}, {size})
"""


def mpy_version(checkout: Path = MPY) -> str:
    """The version of a checkout, as make calls it."""
    text = (checkout / "py" / "mpconfig.h").read_text()
    found = dict(re.findall(r"#define MICROPY_VERSION_(\w+) +\(?(\d+)", text))
    suffix = "-preview" if found["PRERELEASE"] == "1" else ""
    return f"{found['MAJOR']}.{found['MINOR']}.{found['MICRO']}{suffix}"


def idf_versions(checkout: Path = MPY) -> list[tuple[int, ...]]:
    """The ESP-IDF versions that a checkout's README.md says it takes, the newest last."""
    readme = (checkout / "ports" / "esp32" / "README.md").read_text()
    paragraph = readme.partition("ESP-IDF changes quickly")[2].partition("\n\n")[0]
    named = re.findall(r"v(\d+)\.(\d+)(?:\.(\d+))?", paragraph)
    return sorted(tuple(int(n or 0) for n in version) for version in named)


def idf_name(version: tuple[int, ...]) -> str:
    """As ESP-IDF's tags are called."""
    return "v" + ".".join(map(str, version[: 3 if version[2] else 2]))


class Idf:
    """A folder that looks like an ESP-IDF of a version, and one that looks like a checkout with submodules.

    make is told that these are the versions that are wanted; of ESP-IDF it is the newest one that goes with MicroPython.
    """

    def __init__(self, folder: Path, version: tuple[int, ...] = (), drop=(), size=1000):
        self.version = version or idf_versions()[-1]
        self.name = idf_name(self.version)
        self.words = [f"MPY_VERSION={mpy_version()}", f"IDF_VERSION={self.name}"]
        self.path = folder / "esp-idf"
        cmake = self.path / "tools" / "cmake"
        cmake.mkdir(parents=True)
        (cmake / "version.cmake").write_text(VERSION_CMAKE.format(*self.version))
        (cmake / "project.cmake").write_text(PROJECT_CMAKE)
        self.log = folder / "idf.log"
        idf_py = self.path / "tools" / "idf.py"
        paths = [str(p) for p in (Path(__file__).parent, MPY / "tools", ROOT / "tools")]
        given = {"python": sys.executable, "paths": paths, "log": str(self.log)}
        given["folder"] = str(built.FOLDER)
        idf_py.write_text(IDF_PY.format(drop=drop, size=size, **given))
        idf_py.chmod(0o755)
        self.mpy = folder / "micropython"
        (self.mpy / "lib").mkdir(parents=True)
        for name in ("py", "ports"):
            (self.mpy / name).symlink_to(MPY / name)
        for name in ("berkeley-db-1.xx", "micropython-lib", "tinyusb"):
            (self.mpy / "lib" / name).mkdir()
            (self.mpy / "lib" / name / "README.md").touch()
        self.build = folder / "build"

    def pretend(self, version: str, takes: str):
        """Make the checkout look like another version, whose README.md says these words of ESP-IDF."""
        numbers = dict(zip(("MAJOR", "MINOR", "MICRO"), re.findall(r"\d+", version), strict=True))
        numbers["PRERELEASE"] = "1" if version.endswith("-preview") else "0"
        for name in ("py", "ports"):
            (self.mpy / name).unlink()
        (self.mpy / "py").mkdir()
        lines = [f"#define MICROPY_VERSION_{name} {n}\n" for name, n in numbers.items()]
        (self.mpy / "py" / "mpconfig.h").write_text("".join(lines))
        port = self.mpy / "ports" / "esp32"
        port.mkdir(parents=True)
        for path in PORT.iterdir():
            (port / path.name).symlink_to(path)
        (port / "README.md").unlink()
        text = f"The ESP-IDF changes quickly and so on. {takes}.\n\nGet v9.9.9 of it.\n"
        (port / "README.md").write_text(text)

    def env(self):
        path = f"{self.path / 'tools'}:{os.environ['PATH']}"
        # Not the words of a `make test`.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "MPY_"))}
        return env | {"PATH": path, "IDF_PATH": str(self.path)}

    def make(self, words: str, **env) -> subprocess.CompletedProcess:
        """Run make in the project; None takes a variable out of its environment."""
        merged = self.env() | env
        return subprocess.run(
            ["make", f"BUILD={self.build}", *self.words, *shlex.split(words)],
            cwd=ROOT,
            env={k: v for k, v in merged.items() if v is not None},
            check=False,
            capture_output=True,
            text=True,
        )


def home(board: str, port: Path = PORT) -> Path:
    """The folder of a board: ours, or else upstream's."""
    ours = ROOT / "boards" / board
    return ours if (ours / "mpconfigboard.cmake").exists() else port / "boards" / board


def configure(
    folder: Path, board: str | Path, *words: str, port: Path = PORT, ours: bool = True
) -> dict:
    """Run upstream's CMakeLists.txt for a board, as make does; return what ESP-IDF would be handed, and the sdkconfig's values.

    The board is a name or a folder; without `ours` it is what upstream makes of it. Raises CalledProcessError with cmake's words in stderr.
    """
    idf = folder / "esp-idf"
    if not idf.exists():
        Idf(folder)
    board_dir = home(board, port) if isinstance(board, str) else board
    given = {
        "MICROPY_BOARD": board_dir.name,
        "MICROPY_BOARD_DIR": board_dir,
    }
    if ours:
        given["CMAKE_PROJECT_INCLUDE_BEFORE"] = ROOT / "firmware" / "https_ota.cmake"
    subprocess.run(
        [
            "cmake",
            "-S",
            port,
            "-B",
            folder / "build",
            *(f"-D{k}={v}" for k, v in given.items()),
            *words,
        ],
        env=os.environ | {"IDF_PATH": str(idf)},
        check=True,
        capture_output=True,
        text=True,
    )
    return handed(folder / "build")


def handed(build: Path) -> dict:
    """What CMake would hand to ESP-IDF, out of a build folder."""
    seen: dict = dict(line.split("=", 1) for line in (build / "seen").read_text().splitlines())
    defaults = [Path(p).read_text() for p in seen["SDKCONFIG_DEFAULTS"].split(";")]
    seen["sdkconfig"] = settings("".join(defaults))
    return seen


def settings(text: str) -> dict:
    """The values of a file of CONFIG_NAME=value lines; the last one of a name counts, and has its place."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        if name.startswith("CONFIG_"):
            name = name.removeprefix("CONFIG_")
            values.pop(name, None)
            values[name] = value
    return values
