# progress.py: the bar on the REPL.

from fakenet import Clock
import https_ota.repl as progress


class Out:
    """Takes the place of sys: what was written to stdout."""

    def __init__(self):
        self.stdout = self
        self.text = ""

    def write(self, text):
        self.text += text

    def take(self):
        text, self.text = self.text, ""
        return text


def start():
    progress.sys = out = Out()
    progress.time = clock = Clock()
    return out, clock


def test_line_is_rewritten_in_place():
    out, clock = start()
    progress.bar(4096, 40960)
    clock.ms += 1000
    progress.bar(20480, 40960)
    text = out.take()
    assert text.count("\r") == 2 and "\n" not in text


def test_percent_rate_and_time_left():
    out, clock = start()
    progress.bar(4096, 102400)
    out.take()
    clock.ms += 1000
    progress.bar(24576, 102400)
    text = out.take()
    # What had come before the first call took no time that is known.
    assert " 24% [####                ] 24/100 KB 20 KB/s 0:03 left" in text


def test_time_left_to_the_second():
    for left, said in ((999999, "16:39"), (1000000, "16:40"), (60000, "1:00"), (59999, "0:59")):
        out, clock = start()
        progress.bar(1024, 1024 + 5000 + left)
        clock.ms += 5000
        progress.bar(1024 + 5000, 1024 + 5000 + left)
        assert " 1 KB/s %s left" % said in out.take(), left
        progress.bar(1024, 1024)  # the end of this one


def test_end_of_the_line():
    out, clock = start()
    progress.bar(4096, 8192)
    clock.ms += 10
    progress.bar(8192, 8192)
    text = out.take()
    assert "100% [" + "#" * 20 + "]" in text and text.endswith("\n")


def test_small_file_is_done_at_once():
    out, _ = start()
    progress.bar(500, 500)
    text = out.take()
    assert "100%" in text and text.endswith("\n")


def test_at_most_four_lines_a_second():
    out, clock = start()
    for i in range(1, 51):
        clock.ms += 20
        progress.bar(i * 4096, 409600)
    assert 4 <= out.take().count("\r") <= 5


def test_unknown_total():
    out, clock = start()
    progress.bar(4096, None)
    clock.ms += 2000
    progress.bar(45056, None)
    text = out.take().split("\r")[-1]
    assert "44 KB 20 KB/s" in text and "%" not in text


def test_no_time_has_passed():
    out, _ = start()
    progress.bar(4096, 8192)
    progress.bar(8192, 8192)
    assert "100%" in out.take()


def test_each_update_counts_anew():
    out, clock = start()
    progress.bar(4096, 8192)
    clock.ms += 100000
    progress.bar(8192, 8192)
    clock.ms += 100000
    progress.bar(4096, 102400)
    clock.ms += 1000
    out.take()
    progress.bar(24576, 102400)
    assert "20 KB/s" in out.take()
