# A progress bar for the REPL: one line, rewritten in place.

import sys
import time

_first = None  # (bytes, moment) of the first call of this update
_last = 0, 0


def bar(done, total):
    """Pass it as progress=https_ota.bar: percent, KB/s and the time left on one line."""
    global _first, _last
    now = time.ticks_ms()
    if _first is None or done <= _last[0]:  # another update, or this one started over
        _first = done, now
    elif time.ticks_diff(now, _last[1]) < 250 and done != total:
        return  # a terminal at 115200 baud is slower than the network
    _last = done, now
    ms = time.ticks_diff(now, _first[1])
    rate = (done - _first[0]) / ms if ms > 0 else 0  # bytes per ms are KB/s
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
    if done == total:
        _first = None
    sys.stdout.write("\r" + text + "   " + ("\n" if done == total else ""))
