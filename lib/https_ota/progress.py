# A progress bar for the REPL: one line, rewritten in place.

import sys
import time

_start = 0
_last = 0


def bar(done, total):
    """Pass it as progress=https_ota.bar: percent, KB/s and the time left on one line."""
    global _start, _last
    now = time.ticks_ms()
    if done <= 4096:
        _start = now
    elif time.ticks_diff(now, _last) < 250 and done != total:
        return  # a terminal at 115200 baud is slower than the network
    _last = now
    ms = time.ticks_diff(now, _start) or 1
    rate = done / ms  # bytes per ms are KB/s
    if total:
        left = int((total - done) / rate / 1000) if rate else 0
        n = done * 20 // total
        text = "%3d%% [%s%s] %d/%d KB %d KB/s %d:%02d left" % (
            done * 100 // total,
            "#" * n,
            " " * (20 - n),
            done // 1024,
            total // 1024,
            rate,
            left // 60,
            left % 60,
        )
    else:
        text = "%d KB %d KB/s" % (done // 1024, rate)
    sys.stdout.write("\r" + text + "   " + ("\n" if done == total else ""))
