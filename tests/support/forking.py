"""Many runs of `https-ota`, each in a process of its own that has loaded its modules already."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_SERVER = """\
import gc, json, os, sys
from https_ota_tools import __main__, cli
gc.freeze()  # at its end, a process looks through what it has made, and not through all that was here before
for line in iter(sys.stdin.readline, ""):
    todo = json.loads(line)
    if not (pid := os.fork()):
        os.chdir(todo["cwd"])
        for fd, name in enumerate((os.devnull, todo["stdout"], todo["stderr"])):
            opened = os.open(name or os.devnull, os.O_RDWR if fd else os.O_RDONLY)
            os.dup2(opened, fd)
            os.close(opened)
        if todo["pipe"]:
            read, write = os.pipe()
            os.dup2(write, 1)
            os.close(read)
            os.close(write)
        elif not todo["stdout"]:
            os.close(1)
        sys.stdin = open(0)
        sys.stdout = open(1, "w") if todo["stdout"] or todo["pipe"] else None
        sys.stderr = open(2, "w", errors="backslashreplace")
        sys.argv = ["https-ota", *todo["args"]]
        sys.exit(__main__.main())
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Done(NamedTuple):
    """How a run ended."""

    status: int
    out: str
    err: str


class Forking:
    """Runs commands. `stdout`: a file to use, "pipe" for one that nobody reads, "closed"; None to get the output."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "PYTHONUNBUFFERED": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *error):
        with self._process.stdout:
            self._process.communicate()
        self._folder.cleanup()

    def run(self, cwd, *args, stdout=None):
        out, err = (Path(self._folder.name, name) for name in ("out", "err"))
        out.write_bytes(b"")
        err.write_bytes(b"")
        special = stdout in ("pipe", "closed")
        todo = {
            "cwd": str(cwd),
            "args": [str(a) for a in args],
            "stdout": None if special else stdout or str(out),
            "stderr": str(err),
            "pipe": stdout == "pipe",
        }
        print(json.dumps(todo), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return Done(status, out.read_text(), err.read_text())
