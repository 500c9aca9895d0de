# The SIM board's REPL over its serial line, standard input and output: what a host sees of a chip.
#
#     micropython -c "import simrepl"
#
# Friendly mode (no line editing), raw mode and raw-paste mode follow upstream's shared/runtime/pyexec.c and
# docs/reference/repl.rst; only a syntax error is found later, when all of a pasted program has come. The folder SIM_FS
# is the board's filesystem, or littlefs in the flash's own partition: boot.py and main.py run from there as on a chip.
# SIM_STOCK=1 is a firmware that has nothing of this project frozen into it.
import io
import os
import sys
import time
import vfs
import _sim
import esp32
import machine
import network  # noqa: F401
import simboot
from micropython import const

_CTRL_A = const(1)
_CTRL_B = const(2)
_CTRL_C = const(3)
_CTRL_D = const(4)
_CTRL_E = const(5)
_BACKSPACE = (8, 127)
# Half of the 256 bytes that upstream's ports buffer.
_WINDOW = const(128)

_RAW_BANNER = "raw REPL; CTRL-B to exit\r\n"

_globals = {"__name__": "__main__"}
_byte = bytearray(1)


def _put(data):
    sys.stdout.buffer.write(data)


def _get():
    if not sys.stdin.buffer.readinto(_byte):
        _sim.halt(0)  # the other end of the line is gone
    return _byte[0]


def _soft_reset(raw):
    _put("MPY: soft reboot\r\n")
    os.putenv("SIM_REPL_RAW", "1" if raw else "")
    simboot.soft_reset()


# Lines of a traceback that a chip would not have.
def _traceback(e):
    out = io.StringIO()
    sys.print_exception(e, out)
    return "".join(
        line + "\r\n" for line in out.getvalue().split("\n") if line and '"simrepl.py"' not in line
    )


# Run a program; return what it raised, None when it ended well. SystemExit is a soft reset.
def _run(source, kind, raw, name="<stdin>"):
    try:
        code = compile(source, name, kind)
    except Exception as e:
        return e
    e = _sim.run(exec, code, _globals)
    if isinstance(e, SystemExit):
        if raw:
            _put(b"\x04\x04")
        _soft_reset(raw)
    return e


def _run_raw(source):
    e = _run(source, "exec", True)
    _put(b"\x04")
    if e is not None:
        _put(_traceback(e))
    _put(b"\x04")


# False when it raised something; a file that is missing is none that did.
def _run_file(name):
    try:
        with open(name) as f:
            source = f.read()
    except OSError:
        return True
    e = _run(source, "exec", False, name)
    if e is not None:
        _put(_traceback(e))
    return e is None


def _raw_paste():
    _put(b"R\x01")
    _put(bytes((_WINDOW, 0, 1)))
    source = bytearray()
    room = _WINDOW
    while True:
        c = _get()
        if c == _CTRL_C or c == _CTRL_D:
            break
        source.append(c)
        room -= 1
        if room == 0:
            _put(b"\x01")
            room = _WINDOW
    _put(b"\x04")
    if c == _CTRL_D:
        _run_raw(bytes(source))
    else:
        _put(b"\x04" + _traceback(KeyboardInterrupt()) + b"\x04")


def _raw():
    _put(_RAW_BANNER)
    while True:
        _put(b">")
        line = bytearray()
        while True:
            c = _get()
            if c == _CTRL_C:
                line = bytearray()
            elif c == _CTRL_B:
                return
            elif c == _CTRL_A or c == _CTRL_D:
                break
            else:
                line.append(c)
        if c == _CTRL_A:
            if line == b"\x05A":
                _raw_paste()
            elif len(line) == 2 and line[0] == _CTRL_E:
                _put(b"R\x00")
            else:
                _put(_RAW_BANNER)
            continue
        _put(b"OK")
        if not line:
            _put("\r\n")
            _soft_reset(True)
        _run_raw(bytes(line))


def _friendly():
    _put("%s; %s\r\n" % (sys.version.split("; ")[-1], sys.implementation._machine))
    while True:
        _put(">>> ")
        source = ""
        line = bytearray()
        while True:
            c = _get()
            if c == _CTRL_A and not source:
                _put("\r\n")
                return
            if c == _CTRL_D and not source:
                _put("\r\n")
                _soft_reset(False)
            if c == _CTRL_B or c == _CTRL_C:
                _put("\r\n")
                source = ""
                break
            if c in _BACKSPACE:
                if line:
                    line = line[:-1]
                    _put("\b \b")
                continue
            if c >= 32 or c == 9:
                line.append(c)
                _put(bytes((c,)))
                continue
            if c != 13 and c != _CTRL_D:
                continue
            _put("\r\n")
            try:
                text = line.decode()
            except UnicodeError:
                text = "?"  # no program in any case
            line = bytearray()
            block = source or text.rstrip().endswith(":")
            source += text + "\n"
            if not block or not text.strip() or c == _CTRL_D:
                break
            _put("... ")
        if source.strip():
            e = _run(source, "single", False)
            if e is not None:
                _put(_traceback(e))


# A folder of the host. Upstream's rename() makes both names in the same place when there is a root.
class _Folder:
    def __init__(self, root):
        self._root = root
        folder = vfs.VfsPosix(root)
        for name in dir(folder):
            if name[0] != "_" and name != "rename":
                setattr(self, name, getattr(folder, name))

    def rename(self, old, new):
        old, new = (self._root + n if n[0] == "/" else n for n in (old, new))
        vfs.VfsPosix().rename(old, new)


# Littlefs in the partition of that name, made when there is none, as the port's inisetup.py does.
def _flash_filesystem():
    part = esp32.Partition("vfs")
    try:
        return vfs.VfsLfs2(part)
    except OSError:
        vfs.VfsLfs2.mkfs(part)
        return vfs.VfsLfs2(part)


# What the port's _boot.py does, which Ctrl-C ends as well: nothing is mounted then, and no program found.
def _mount():
    folder = os.getenv("SIM_FS")
    # As long as it takes to look through a flash.
    time.sleep_ms(int(os.getenv("SIM_MOUNT_MS") or 10))
    vfs.mount(_flash_filesystem() if folder == "flash" else _Folder(folder), "/")
    os.chdir("/")


def main():
    soft = machine.reset_cause() == machine.SOFT_RESET
    raw = soft and os.getenv("SIM_REPL_RAW") == "1"
    _sim.serial()
    if not soft:
        _put("rst:0x%x (SIM),boot:0x8 (SPI_FAST_FLASH_BOOT)\r\n" % machine.reset_cause())
        for line in simboot.log:
            _put("boot: %s\r\n" % line)
    # simboot has opened the flash: from now on paths are the board's.
    vfs.umount("/")
    e = _sim.run(_mount)
    if e is not None:
        _put(_traceback(e))
    sys.path[:] = ["", "/lib"] if os.getenv("SIM_STOCK") == "1" else ["", ".frozen", "/lib"]
    # What boot.py raised, a Ctrl-C too, keeps main.py from running.
    if _run_file("boot.py") and not raw:
        _run_file("main.py")
    while True:
        if raw:
            _raw()
        raw = True
        _friendly()


main()
