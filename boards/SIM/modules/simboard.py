# Questions to the SIM board that no chip would answer: what the flash has done so far, and what it would have cost.
import simboot


def reset_counters():
    """Count from zero."""
    simboot.flash.reset_counters()


def counters():
    """(sectors erased, program operations, reads, bytes programmed) since the start or reset_counters()."""
    f = simboot.flash
    return f.erases, f.programs, f.reads, f.bytes


def flash_ms():
    """Milliseconds that the flash of a real board would have been busy."""
    return simboot.flash.ms


def chip():
    """Name of the chip that this board is."""
    return simboot.chip.name


def boot_log():
    """What the bootloader said."""
    return list(simboot.log)
