# The os module, with what the SIM board's modules look up in the environment.
from uos import *  # noqa: F403


def getenv(name):
    if name == "SIM_FLASH":
        return "/chip/flash"
    if name == "SIM_SLEEPING_APP":
        import _sim

        return _sim.app()
    return None
