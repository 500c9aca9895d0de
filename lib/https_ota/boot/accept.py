# Whether an image is to be installed: update history, anti-rollback, and the caller's checks.
#
# The history is a slice; without it nothing is known to have failed. The lowest secure version is the core's own.

from ..errors import OTAError
from ..flash import nvs


def failed_before(info):
    """The OTAError that tells why the image of this ImageInfo is not to be installed again, or None."""
    try:
        from .history import refusal
    except ImportError:
        return None
    return refusal(info)


def wanted(info, region, checks):
    """Whether to install an image in a slot.Region, by the checks of the option `check`; False when one returned something false.

    Raises OTAError(SECURE_VERSION), and what the checks raise.
    """
    if region.holds_back:
        floor = max(region.running_info().secure_version, nvs.get_number("floor"))
        if info.secure_version < floor:
            raise OTAError(
                OTAError.SECURE_VERSION,
                "the image has secure version %d, this board takes %d or later"
                % (info.secure_version, floor),
            )
    for check in checks:
        found = check(info)
        # A check without a return statement means to raise.
        if found is not None and not found:
            return False
    return True


def selecting(number, info):
    """Record that the image of this ImageInfo, in slot `number`, is about to be selected."""
    try:
        from .history import installed
    except ImportError:
        return
    installed(number, info)


def raise_floor(secure_version):
    """From now on take nothing below this secure version. False when that can't be stored: it is to be tried again."""
    secure_version = min(secure_version, 0x3FFFFFFF)  # NVS has it signed
    if secure_version <= nvs.get_number("floor") or nvs.keep("floor", secure_version):
        return True
    # What became of the last update is less than what must not be installed.
    return nvs.drop("last") and nvs.put("floor", secure_version)
