"""Programs that the tools run on a board, and how these answer: _say(text) writes a text with marks around it."""

# Around an answer; its end has a number that was drawn for the program alone.
OPEN = "\x1d"
END = "\x1f"
CLOSE = "\x1e"
# One write without a line end: what a thread or a timer prints comes before or behind it. Not print(), which an
# application may have for something else.
SAY = f"import sys as _sys\ndef _say(x): _sys.stdout.write({OPEN!r}+x+{END!r}%r{CLOSE!r})\n"
# What a program says that has come to its end: only behind one that has not can an error be what MicroPython tells of.
DONE = "\x06"
_DONE = f"\nimport sys as _sys\n_sys.stdout.write({OPEN + DONE + END!r}'%s'{CLOSE!r})\n"


def ending(code: str, nonce: str) -> str:
    """Return a program that says when it is done, each line where it was: of these, errors tell the numbers."""
    return code + _DONE % nonce


def talking(code: str, nonce: str, files: bool = False) -> str:
    """Return a program that can use _say(), also _Source when there are files, and says when it is done."""
    return ending(SAY % nonce + (SOURCE if files else "") + code, nonce)


# A watchdog can't be stopped, but be given another time: until a reset, or until the application gives it its own again.
WATCHDOG_MS = 3_600_000
FEED = f"import machine; machine.WDT(timeout={WATCHDOG_MS})\n"
# Is there a watchdog? Nothing tells, so: it has bitten, something holds it, or a program at the top names it.
FIND_WATCHDOG = """\
import machine, sys, os
def _holds(d, deep):
    for v in list(d.values()):
        if isinstance(v, machine.WDT) or deep and v is machine.WDT:
            return True
        if deep and _holds(getattr(v, "__dict__", {}), False):
            return True
def _names(n):
    with open(n) as f:
        for s in f:
            if "WDT(" in s and s.strip()[0] != "#":
                return True
def _found():
    if machine.reset_cause() == getattr(machine, "WDT_RESET", -1):
        return True
    if _holds(globals(), True):
        return True
    for m in list(sys.modules.values()):
        if m is not machine and _holds(getattr(m, "__dict__", {}), True):
            return True
    for n in ("/boot.py", "/main.py"):
        try:
            if _names(n):
                return True
        except (OSError, ValueError):
            pass
    return False
_w = hasattr(machine, "WDT") and _found()
if _w:
    machine.WDT(timeout=%d)
_say(repr(_w))
"""

# Whether there is something in boot.py that must not be interrupted, and in main.py what may take an interruption amiss.
PROGRAMS = """\
def _any(n, words):
    try:
        with open(n) as f:
            for s in f:
                s = s.strip()
                if s and s[0] != "#" and (not words or any(w in s for w in words)):
                    return True
    except (OSError, ValueError):
        pass
    return False
_say(repr((
    _any("/main.py", ()),
    _any("/boot.py", ()),
    _any("/main.py", ("except:", "BaseException", "KeyboardInterrupt", "rollback", "kbd_intr", "deepsleep")),
)))
"""

# Files of this machine, read by the board in pieces of at most 1024 bytes: "=", length, data, CRC-32 of the question and
# these. What the application prints in between does no harm, a byte that got lost is asked for again (also one of the
# question: what another one has as its answer is not taken), and a host that is gone is noticed.
SOURCE = """\
import sys, select, micropython, binascii
class _Source:
    def __init__(self, n):
        self.n = n
        self.at = 0
        self.b = memoryview(bytearray(1030))
        self.i = sys.stdin.buffer
        self.p = select.poll()
        self.p.register(sys.stdin, 1)
    def readinto(self, buf):
        want = min(len(buf), 1024)
        b = self.b[: want + 6]
        for wait in (0, 100, 100, 100):
            micropython.kbd_intr(-1)
            try:
                for _ in range(1100):
                    if not self.p.poll(wait):
                        break
                    self.i.read(1)
                q = "?%d %d %d" % (self.n, self.at, want)
                _say(q)
                c = self.p.poll(10000) and self.i.read(1)
                # One may be a byte of an answer that came too late.
                if c == b"\\x03" and self.p.poll(100) and self.i.read(1) == c:
                    raise KeyboardInterrupt
                if c != b"=":
                    continue
                self.i.readinto(b)
            finally:
                micropython.kbd_intr(3)
            n = b[0] | b[1] << 8
            if n <= want and binascii.crc32(b[: want + 2], binascii.crc32(q)) == int.from_bytes(b[want + 2 :], "little"):
                _say("+")
                buf[:n] = b[2 : n + 2]
                self.at += n
                return n
        raise OSError(110, "the line to the computer loses too much: another cable, another port?")
    def close(self):
        pass
"""
