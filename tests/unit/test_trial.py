# trial.py: the time a firmware on trial has, on a chip whose clock and timers go by hand; resets are seen only.

import simboard
from esp32 import NVS, Partition
from fakenet import raises
from https_ota import confirm, guard, last_result
from https_ota.boot import guard as trial
from https_ota.flash.otadata import INVALID, PENDING_VERIFY, VALID, entries, partition, state
from makeimage import image
from test_confirm import record, write


class Reset(Exception):
    pass


class Chip:
    """In place of the machine and time modules, both."""

    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

    def __init__(self, cause=PWRON_RESET, ms=0, timers=2, version=(1, 25, 0, ""), board="ESP32C3"):
        self.cause = cause
        self.ms = ms
        self.timers = timers
        self.implementation = ("micropython", version, "Board with " + board, 0)
        self.used = []
        self.callback = None
        chip = self

        class Timer:
            PERIODIC = 1

            def __init__(self, number):
                if version >= (1, 25):
                    if number >= chip.timers or (number < 0 and version < (1, 29)):
                        raise ValueError("invalid Timer number")
                    chip.used.append(number)
                elif timers == 2 and not ("C3" in board and version >= (1, 24)):
                    assert number & 1 == 0, "it aborts (C3), or never calls (C6)"
                    chip.used.append(number >> 1 & 1)
                else:
                    chip.used.append(number & (timers - 1))

            def init(self, *, mode, period, callback):
                assert mode == self.PERIODIC
                chip.period = period
                chip.callback = callback

            def deinit(self):
                chip.callback = None

        self.Timer = Timer
        trial.machine = trial.time = trial.sys = self

    def reset_cause(self):
        return self.cause

    def ticks_ms(self):
        return self.ms % (1 << 30)

    def ticks_diff(self, a, b):
        return (a - b + (1 << 29)) % (1 << 30) - (1 << 29)

    def reset(self):
        raise Reset

    def go_on(self, ms):
        """So much time passes; returns when it resets, None if it does not."""
        end = self.ms + ms
        while self.callback and self.ms < end:
            self.ms += self.period
            try:
                self.callback(None)
            except Reset:
                return self.ms
        return None


class Dog:
    fed = 0

    def feed(self):
        self.fed += 1


def on_trial():
    write("ota_1", image())
    record(0, 2, VALID)
    record(1, 3, PENDING_VERIFY)
    assert state() == PENDING_VERIFY


def starts():
    return NVS("https_ota").get_i32("starts") & 127


# -- time


def test_not_on_trial_it_does_nothing():
    chip = Chip()
    simboard.reset_counters()
    assert guard(1) is False
    assert guard(1, Dog()) is False
    assert chip.used == [] and simboard.counters()[:2] == (0, 0)


def test_time_is_up():
    chip = Chip(ms=5000)
    on_trial()
    assert guard(30) is True
    assert chip.go_on(29000) is None
    assert chip.go_on(5000) == 35000
    assert NVS("https_ota").get_blob("last", bytearray(200)) == 68 + len("guard")


def test_time_is_up_beyond_the_counters_end():
    chip = Chip(ms=(1 << 30) - 10000)
    on_trial()
    guard(30)
    assert chip.go_on(60000) == (1 << 30) + 20000


def test_much_time():
    """More than the difference of two readings of the counter can be."""
    chip = Chip()
    on_trial()
    guard(1 << 20)
    chip.period = 1 << 28
    for _ in range(3):
        assert chip.go_on(1 << 28) is None
    assert chip.go_on(1 << 28)


def test_confirmed_in_time():
    chip = Chip()
    on_trial()
    guard(30)
    late = chip.callback
    assert confirm() is True
    assert chip.callback is None
    # It was in the queue of callbacks already.
    chip.ms = 60000
    late(None)


def test_what_can_not_be_confirmed_stays_guarded():
    chip = Chip()
    on_trial()
    guard(30)
    mark = Partition.mark_app_valid_cancel_rollback

    def failing():
        raise OSError(-261)

    Partition.mark_app_valid_cancel_rollback = failing
    raises(OSError, confirm)
    Partition.mark_app_valid_cancel_rollback = mark
    assert chip.go_on(40000) == 30000


def test_watchdog_is_fed_until_then():
    chip = Chip()
    dog = Dog()
    on_trial()
    guard(30, dog)
    chip.go_on(20000)
    assert dog.fed == 40
    confirm()
    chip.go_on(20000)
    assert dog.fed == 40


def test_a_soft_reset_gives_no_more_time():
    chip = Chip(cause=Chip.SOFT_RESET, ms=20000)
    on_trial()
    guard(30)
    assert chip.go_on(60000) == 30000


def test_time_was_up_before_a_soft_reset():
    chip = Chip(cause=Chip.SOFT_RESET, ms=31000)
    on_trial()
    guard(30)
    assert chip.go_on(60000) == 31500


def test_timer_is_the_last_of_the_chip():
    on_trial()
    for timers, expected in ((4, 3), (2, 1), (1, 0)):
        chip = Chip(timers=timers)
        guard(30)
        assert chip.used == [expected]


def test_timer_of_each_version():
    """What is used is the last that the chip has, or from 1.29 on a virtual one."""
    on_trial()
    for version in (
        (1, 23, 0),
        (1, 24, 1),
        (1, 25, 0),
        (1, 28, 0),
        (1, 29, 0, "preview"),
        (1, 30, 0),
    ):
        for board, timers in (("ESP32", 4), ("ESP32C3", 2), ("ESP32-C3FH4", 2), ("ESP32C6", 2)):
            if board == "ESP32C6" and version < (1, 24):
                continue  # there was none
            chip = Chip(timers=timers, version=version, board=board)
            guard(30)
            assert chip.used == [-1 if version >= (1, 29) else timers - 1], (version, board)
            assert chip.go_on(60000)


def test_timer_of_the_applications_choice():
    chip = Chip(timers=4)
    on_trial()
    guard(30, timer=2)
    assert chip.used == [2]
    raises(ValueError, guard, 30, timer=4)


def test_again_there_is_one_deadline():
    chip = Chip()
    on_trial()
    guard(30)
    chip.go_on(20000)
    guard(30)
    assert chip.go_on(60000) == 50000


def test_the_reset_does_not_depend_on_the_record():
    chip = Chip()
    on_trial()
    guard(30)
    from https_ota.boot import history as outcome

    def failing(why):
        raise MemoryError

    leaving, outcome.leaving = outcome.leaving, failing
    assert chip.go_on(60000) == 30000
    outcome.leaving = leaving


def test_confirmed_by_the_firmwares_own_function():
    """It keeps the firmware, and ends in what confirm() would have done."""
    chip = Chip()
    dog = Dog()
    on_trial()
    NVS("https_ota").set_blob("failed", bytes(32))
    guard(30, dog, starts=5)
    assert starts() == 1
    Partition.mark_app_valid_cancel_rollback()
    assert chip.go_on(60000) is None
    assert chip.callback is None and dog.fed == 59
    assert starts() == 0 and state() == VALID
    raises(OSError, NVS("https_ota").get_blob, "failed", bytearray(32))


def test_confirmed_by_both():
    chip = Chip()
    on_trial()
    NVS("https_ota").set_blob("failed", bytes(32))
    guard(30)
    Partition.mark_app_valid_cancel_rollback()
    assert confirm() is False
    assert chip.callback is None
    raises(OSError, NVS("https_ota").get_blob, "failed", bytearray(32))


def test_a_record_that_can_not_be_read_is_no_confirmation():
    chip = Chip()
    on_trial()
    guard(30)

    def failing():
        raise OSError(5)

    trial.state, before = failing, trial.state
    try:
        assert chip.go_on(60000) == 30000
    finally:
        trial.state = before


# -- starts


def test_starts_are_counted_once():
    Chip()
    guard(30, starts=5)
    guard(30, starts=5)
    assert starts() == 1


def start(chip, **options):
    """As after a reset; returns whether the firmware gave itself up."""
    import machine

    module = trial.confirm
    module.watch = None
    machine.reset = chip.reset
    try:
        guard(30, **options)
    except Reset:
        return True
    return False


def test_too_many_starts():
    chip = Chip()
    write("ota_1", image())
    record(0, 2, VALID)
    record(1, 3, VALID)
    assert [start(chip, starts=3) for _ in range(4)] == [False, False, False, True]
    assert entries(partition())[1] == (0, 3, INVALID)


def test_confirming_a_confirmed_firmware_counts_as_well():
    chip = Chip()
    for _ in range(5):
        start(chip, starts=3)
        assert starts() == 1
        assert confirm() is False
        assert starts() == 0


def test_wakes_count_on_trial_only():
    chip = Chip(cause=Chip.DEEPSLEEP_RESET)
    start(chip, starts=3)
    raises(OSError, starts)
    on_trial()
    for n in (1, 2, 3):
        start(chip, starts=3)
        assert starts() == n
    assert start(chip, starts=3)


def test_soft_resets_do_not_count():
    chip = Chip()
    write("ota_1", image())
    record(0, 2, VALID)
    record(1, 3, VALID)
    assert not start(chip, starts=3)
    chip.cause = Chip.SOFT_RESET
    assert [start(chip, starts=3) for _ in range(9)] == [False] * 9
    assert starts() == 1
    # But what comes after one may confirm.
    confirm()
    assert starts() == 0


def test_soft_resets_do_not_count_on_trial():
    chip = Chip()
    on_trial()
    assert not start(chip, starts=3)
    chip.cause = Chip.SOFT_RESET
    assert [start(chip, starts=3) for _ in range(9)] == [False] * 9
    assert starts() == 1
    chip.cause = Chip.WDT_RESET
    assert [start(chip, starts=3) for _ in range(3)] == [False, False, True]


def test_with_nothing_to_go_back_to_it_runs_on():
    chip = Chip()
    assert [start(chip, starts=2) for _ in range(5)] == [False] * 5
    assert starts() == 2


def test_count_has_its_limit():
    chip = Chip()
    NVS("https_ota").set_i32("starts", 126 + trial_image())
    start(chip, starts=1000)
    assert starts() == 127
    start(chip, starts=1000)
    assert starts() == 127


def trial_image():
    sha = bytearray(3)
    Partition(Partition.RUNNING).readblocks(0, sha, 176)
    return int.from_bytes(sha, "little") << 7


def test_count_of_another_firmware():
    chip = Chip()
    for other in (-128, 128, 1 << 20, -(1 << 30)):
        NVS("https_ota").set_i32("starts", (trial_image() + other) ^ 5)
        start(chip, starts=3)
        assert starts() == 1


def test_result_of_a_trial_that_has_begun():
    """Its record was made by the firmware before; this one has none."""
    Chip()
    on_trial()
    guard(30)
    assert last_result() is None
