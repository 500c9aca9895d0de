"""What stands in for ESP-IDF, which is not here: upstream's real CMakeLists.txt runs up to where ESP-IDF takes over.

idf.py (idfstub) hands the words it is given to cmake, and ends a build with an sdkconfig out of the defaults as ESP-IDF
does: a name's last line counts, and an sdkconfig that is there is kept.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MPY = ROOT / "build" / "src" / "micropython"
PORT = MPY / "ports" / "esp32"
BOARDS = sorted(p.parent.name for p in ROOT.glob("boards/*/mpconfigboard.cmake"))

SEEN = ("IDF_TARGET", "PROJECT_VER", "MICROPY_FROZEN_MANIFEST", "MICROPY_MANIFEST_GEN_DIR")
VERSION_CMAKE = "set(IDF_VERSION_MAJOR {})\nset(IDF_VERSION_MINOR {})\nset(IDF_VERSION_PATCH {})\n"
PROJECT_CMAKE = f"""
function(idf_build_set_property)
endfunction()
macro(project name)
    file(WRITE ${{CMAKE_BINARY_DIR}}/seen "")
    foreach(_name {" ".join(SEEN)})
        file(APPEND ${{CMAKE_BINARY_DIR}}/seen "${{_name}}=${{${{_name}}}}\\n")
    endforeach()
    _project(${{name}} NONE)
endmacro()
"""
IDF_PY = """#!{python}
import sys
sys.path[:0] = {paths!r}
import idfstub
idfstub.main({log!r}, {drop!r}, {size})
"""


class Idf:
    """A folder that looks like an ESP-IDF of a version, and one that looks like a checkout with submodules."""

    def __init__(self, folder: Path, version=(5, 4, 0), drop=(), size=1000):
        self.path = folder / "esp-idf"
        cmake = self.path / "tools" / "cmake"
        cmake.mkdir(parents=True)
        (cmake / "version.cmake").write_text(VERSION_CMAKE.format(*version))
        (cmake / "project.cmake").write_text(PROJECT_CMAKE)
        self.log = folder / "idf.log"
        idf_py = self.path / "tools" / "idf.py"
        paths = [str(p) for p in (Path(__file__).parent, MPY / "tools", ROOT / "tools")]
        given = {"python": sys.executable, "paths": paths, "log": str(self.log)}
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

    def env(self):
        path = f"{self.path / 'tools'}:{os.environ['PATH']}"
        # Not the words of a `make test`.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        return env | {"PATH": path, "IDF_PATH": str(self.path)}

    def make(self, words: str, **env) -> subprocess.CompletedProcess:
        """Run make in the project; None takes a variable out of its environment."""
        merged = self.env() | env
        return subprocess.run(
            ["make", f"BUILD={self.build}", *shlex.split(words)],
            cwd=ROOT,
            env={k: v for k, v in merged.items() if v is not None},
            check=False,
            capture_output=True,
            text=True,
        )


def configure(folder: Path, board: str, *words: str, port: Path = PORT) -> dict:
    """Run upstream's CMakeLists.txt for a board; return what ESP-IDF would be handed, and the sdkconfig's values.

    Raises CalledProcessError with cmake's words in stderr.
    """
    idf = folder / "esp-idf"
    if not idf.exists():
        Idf(folder)
    build = folder / "build"
    board_dir = ROOT / "boards" / board
    subprocess.run(
        ["cmake", "-S", port, "-B", build, f"-DMICROPY_BOARD_DIR={board_dir}", *words],
        env=os.environ | {"IDF_PATH": str(idf)},
        check=True,
        capture_output=True,
        text=True,
    )
    seen = dict(line.split("=", 1) for line in (build / "seen").read_text().splitlines())
    seen["sdkconfig"] = settings((build / "sdkconfig.combined").read_text())
    return seen


def settings(text: str) -> dict:
    """The values of a file of CONFIG_NAME=value lines; the last one of a name counts."""
    lines = [line.strip() for line in text.splitlines()]
    return dict(
        line.removeprefix("CONFIG_").split("=", 1) for line in lines if line.startswith("CONFIG_")
    )
