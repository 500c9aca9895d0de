"""What a board says: answers, lines, and that it has started over."""

from __future__ import annotations

import re
from collections.abc import Callable

from https_ota_tools import onboard

_MAX_ANSWER = 1 << 16

# What a board says when it starts: MicroPython, its soft reset, the ROMs of the chips.
START = re.compile(
    r"MicroPython \S+ on \d{4}-|MPY: soft reboot|ESP-ROM:|rst:0x|ets [A-Z][a-z]{2} "
)
# What MicroPython tells of an error: without memory, only its last line.
ERROR = re.compile(rb"Traceback \(most recent|\b[A-Z]\w*(?:Error|Exception|Interrupt)\b")
RESTART = re.compile(rb"(?:^|\n)(?:ESP-ROM:|rst:0x|ets [A-Z][a-z]{2} )")


class Parser:
    """Tells answers from lines in what a board says; "?" and "+" are about files.

    Without on_answer, lines are what counts.
    """

    def __init__(
        self,
        nonce: str,
        on_line: Callable[[str], None] | None,
        on_answer: Callable[[str], None] | None,
    ) -> None:
        mark = (
            f"{onboard.OPEN}([^{onboard.OPEN}{onboard.CLOSE}]*){onboard.END}{nonce}{onboard.CLOSE}"
        )
        self._mark = re.compile(mark.encode())
        self._on_line = on_line
        self._on_answer = on_answer
        self._text = bytearray()
        self.asked: list[str] = []
        self.taken = False
        self.done = False
        self.restarted = False
        self.bitten = False
        self.last = 0.0

    def __call__(self, data: bytes) -> bool:
        """Take some bytes; True when something came that counts."""
        if not data:
            return False
        self._text += data
        came = False
        while found := self._mark.search(self._text):
            text = found[1].decode(errors="replace")
            del self._text[found.start() : found.end()]
            came = True
            if text[:1] == "?":
                self.asked.append(text)
            elif text == "+":
                self.taken = True
            elif text == onboard.DONE:
                self.done = True
            elif self._on_answer:
                self._on_answer(text)
        while b"\n" in self._text:
            # What may be the beginning of an answer waits for its end.
            line, _, rest = bytes(self._text).partition(b"\n")
            if onboard.OPEN.encode() in line and len(line) < _MAX_ANSWER:
                break
            self._text[:] = rest
            self._say(line)
            came = came or not self._on_answer
        return came

    def end(self) -> None:
        """Take the last line, which need not have an end."""
        if self._text:
            self._say(bytes(self._text))

    def _say(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if "task_wdt" in text or "WDT_" in text:
            self.bitten = True
        if START.match(text):
            self.restarted = True
        elif self._on_line:
            self._on_line(text)
