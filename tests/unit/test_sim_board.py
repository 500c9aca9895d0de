# What the SIM board counts and how long its flash would take; clock, watchdog and station as far as one life shows them.

import time

import machine
import network
import simboard
from esp32 import Partition
from fakenet import raises
from versions import VIRTUAL_TIMERS

ERASE = 6


def spare():
    return Partition("ota_1")


def cost(function, *args):
    """Counters and milliseconds of one call."""
    simboard.reset_counters()
    function(*args)
    return simboard.counters(), simboard.flash_ms()


def test_nothing_done():
    spare()
    simboard.reset_counters()
    assert simboard.counters() == (0, 0, 0, 0)
    assert simboard.flash_ms() == 0


def test_erase():
    assert cost(spare().ioctl, ERASE, 0) == ((1, 0, 0, 0), 45)


def test_program_counts_pages_of_256_bytes():
    part = spare()
    assert cost(part.writeblocks, 0, bytes(256 * 10), 0) == ((0, 1, 0, 2560), 7)
    # Ten pages in length, eleven touched.
    assert cost(part.writeblocks, 0, bytes(256 * 10), 1) == ((0, 1, 0, 2560), 7)
    assert cost(part.writeblocks, 0, bytes(4096), 0) == ((0, 1, 0, 4096), 11)


def test_program_is_cut_at_sectors():
    assert cost(spare().writeblocks, 0, bytes(20), 4086) == ((0, 2, 0, 20), 1)


def test_write_is_erase_and_program():
    assert cost(spare().writeblocks, 0, bytes(8192)) == ((2, 2, 0, 8192), 112)


def test_read():
    assert cost(spare().readblocks, 0, bytearray(80000)) == ((0, 0, 1, 0), 10)


def test_fractions_of_a_millisecond_add_up():
    part = spare()
    simboard.reset_counters()
    for i in range(10):
        part.writeblocks(0, b"a", i)
    assert simboard.flash_ms() == 7


def test_set_boot_reads_the_image_and_fails_without_writing():
    def try_it():
        raises(OSError, spare().set_boot)

    erases, programs, reads, written = cost(try_it)[0]
    assert (erases, programs, written) == (0, 0, 0)
    assert reads


def test_chip_is_that_of_the_application():
    assert simboard.chip() == "esp32c3"


def test_boot_log_tells_what_was_booted():
    assert simboard.boot_log() == [
        "No factory image, trying OTA 0",
        "Loaded app from partition at offset 0x10000",
        "Set actual ota_seq=1 in otadata[0]",
    ]
    simboard.boot_log().clear()
    assert len(simboard.boot_log()) == 3


def test_power_on():
    assert machine.reset_cause() == machine.PWRON_RESET


def test_setting_the_clock():
    machine.RTC().datetime((2026, 7, 14, 0, 12, 30, 0, 0))
    assert time.gmtime()[:5] == (2026, 7, 14, 12, 30)
    assert machine.RTC().datetime()[:6] == (2026, 7, 14, 1, 12, 30)


def test_watchdog_wants_a_time():
    raises(ValueError, machine.WDT, timeout=0)
    raises(ValueError, machine.WDT, 1)


def test_fed_watchdog_lets_live():
    wdt = machine.WDT(timeout=1000)
    end = time.ticks_add(time.ticks_ms(), 1200)
    while time.ticks_diff(end, time.ticks_ms()) > 0:
        wdt.feed()
    machine.WDT(timeout=60000)


def calls(ms, **how):
    """How often a timer calls within so many milliseconds."""
    times = []
    timer = machine.Timer(1, callback=times.append, **how)
    time.sleep_ms(ms)
    timer.deinit()
    time.sleep_ms(1)  # one may be in the queue
    n = len(times)
    time.sleep_ms(100)
    assert len(times) == n and all(t is timer for t in times)
    return n


def test_timers():
    assert calls(400, mode=machine.Timer.ONE_SHOT, period=20) == 1
    assert calls(400, period=20) > 1
    assert calls(100, period=5000) == 0


def test_timers_are_those_of_the_chip():
    machine.Timer(0)
    for number in (2, 4) if VIRTUAL_TIMERS else (2, 4, -1):
        raises(ValueError, machine.Timer, number)


def test_virtual_timers():
    """From 1.29 on a chip has as many as one likes beside its own, each another one."""
    if not VIRTUAL_TIMERS:
        raise SystemExit("SKIP: there are none")
    seen = []
    fast = machine.Timer(period=20, callback=seen.append)
    slow = machine.Timer(-1, period=40, callback=seen.append)
    once = machine.Timer(-1, period=1, mode=machine.Timer.ONE_SHOT, callback=seen.append)
    time.sleep_ms(200)
    assert seen.count(fast) > 1 and seen.count(slow) > 1 and seen.count(once) == 1
    for timer in (fast, slow, once):
        timer.deinit()
    time.sleep_ms(1)
    del seen[:]
    time.sleep_ms(100)
    assert not seen


def test_a_number_is_one_timer():
    seen = []
    machine.Timer(1, period=20, callback=lambda t: seen.append(1))
    machine.Timer(1).init(period=20, callback=lambda t: seen.append(2))
    machine.Timer(1)
    time.sleep_ms(200)
    assert seen and 1 not in seen[1:]
    machine.Timer(1).deinit()


def test_registers_are_those_of_the_efuses():
    # ESP32-C3 v0.3: the minor revision is in bits 18 to 20 of RD_MAC_SPI_SYS_3.
    assert machine.mem32[0x60008850] >> 18 & 7 == 3
    assert machine.mem32[0x60000000] == 0


def test_station():
    wlan = network.WLAN(network.STA_IF)
    assert wlan is network.WLAN(network.WLAN.IF_STA)
    assert wlan.active() and wlan.isconnected()
    wlan.disconnect()
    assert not wlan.isconnected()
    assert wlan.status() == network.STAT_IDLE
    wlan.active(False)
    raises(OSError, wlan.connect, "ssid", "key")
    wlan.active(True)
    wlan.connect("ssid", "key")
    assert wlan.isconnected()


def test_power_save_of_the_station():
    wlan = network.WLAN()
    assert wlan.config("pm") == wlan.PM_PERFORMANCE
    wlan.config(pm=wlan.PM_NONE)
    assert wlan.config("pm") == wlan.PM_NONE
    raises(ValueError, wlan.config, "nonsense")
