"""TAB at MicroPython's own REPL: it completes the package's names and loads nothing for that."""

import os
import pty
import re
import select
import subprocess
import time

import built
import pytest
import simflash


class Repl:
    """The REPL of a SIM board on a terminal."""

    def __init__(self, flash):
        self.host, terminal = pty.openpty()
        environment = {**os.environ, "SIM_FLASH": str(flash), "TERM": "dumb"}
        self.process = subprocess.Popen(
            [built.interpreter("sim")],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            start_new_session=True,
        )
        os.close(terminal)
        self.lines = 0
        self.until(">>> ")

    def until(self, *words):
        """Return what comes up to these words, one after the other."""
        text, at = "", 0
        end = time.monotonic() + 60
        for word in words:
            while word not in text[at:]:
                assert time.monotonic() < end, text
                if select.select([self.host], [], [], 1)[0]:
                    text += os.read(self.host, 4096).decode()
            at = text.index(word, at) + len(word)
        return text

    def line(self, words):
        """Run a line, and return what it prints."""
        return self.tab(words, "")

    def tab(self, words, key="\t"):
        """Return what TAB shows behind these words, and what comes of running the line then."""
        self.lines += 1
        mark = f"#{self.lines}."
        os.write(self.host, f"{words}{key} {mark}\r".encode())
        # The prompt is also shown again below what TAB has listed.
        return self.until(mark, "\r\n>>> ")

    def close(self):
        os.write(self.host, b"\x04")
        self.process.wait(20)
        os.close(self.host)


@pytest.fixture
def repl(tmp_path):
    repl = Repl(simflash.make_flash(tmp_path / "flash.bin"))
    yield repl
    repl.close()


LOADED = "print('loaded', sorted(n[10:] for n in sys.modules if n.startswith('https_ota.')))"


def loaded(repl):
    return re.findall(r"'([\w.]+)'", repl.line(LOADED).rpartition("loaded [")[2])


def test_tab_completes_and_loads_nothing(repl):
    repl.line("import sys, https_ota")
    before = loaded(repl)
    assert "boot.confirm" in before
    assert "https_ota.update" in repl.tab("https_ota.upd")
    for _ in range(2):
        shown = repl.tab("https_ota.")
        for name in ("update", "OTA", "OTAError", "status", "install", "help", "confirm"):
            assert re.search(rf"\b{name}\b", shown), name
    repl.tab("https_ota.st")
    repl.tab("https_ota.c")
    assert loaded(repl) == before
    repl.line("dir(https_ota)")
    repl.line("help(https_ota)")
    assert loaded(repl) == before
    assert "https_ota.install(" in repl.line("https_ota.help()")
    assert "OTAError" in repl.line("https_ota.OTAError")
    new = set(loaded(repl)) - set(before)
    assert {"errors", "repl"} <= new
    assert not [name for name in new if name.startswith(("ota", "net", "trust", "names"))]
