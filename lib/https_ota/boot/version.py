# Version checks of an image, for the option `check`.

from ..errors import OTAError
from ..flash.info import running_info


def newer_only(info):
    """For the option `check`: only an image with a later version than the running one's; False for the same version.

    Raises OTAError(VERSION) for an earlier one, and for what has none to compare, as MicroPython's own builds.
    """
    own = running_info().version
    new_key, own_key = version_key(info.version, "the image"), version_key(own, "this firmware")
    if new_key < own_key:
        raise OTAError(
            OTAError.VERSION,
            "the image has version %s, this board runs the later %s" % (info.version, own),
        )
    return new_key != own_key


def same_project(info):
    """For the option `check`: raise OTAError(PROJECT) for an image with another project name."""
    own = running_info().project_name
    if info.project_name != own:
        raise OTAError(
            OTAError.PROJECT,
            "the image is of project %r, this board runs %r" % (info.project_name, own),
        )


def version_key(text, what="this"):
    """What versions are compared by: "v1.10" is later than "1.9.2", and "2.0-rc1" earlier than "2.0".

    Numbers with dots, then nothing, a pre-release (Semantic Versioning 2.0.0, section 11), or what `git describe`
    adds: "1.2-5-gabcdef" is 5 commits after 1.2. What follows a "+", and "-dirty", don't count. Raises OTAError(VERSION) for
    a text that does not begin with a number; `what` names it then.
    """
    text = text.split("+", 1)[0]
    if text[:1] in ("v", "V"):
        text = text[1:]
    i = 0
    while i < len(text) and text[i] in "0123456789.":
        i += 1
    numbers = [int(n) for n in text[:i].split(".") if n]
    if not numbers:
        raise OTAError(
            OTAError.VERSION, "%s: expected a version like 1.2.3, got %r" % (what, text)
        )
    while numbers and numbers[-1] == 0:
        numbers.pop()
    rest = [part for part in text[i:].split("-") if part and part != "dirty"]
    commits = 0
    if len(rest) >= 2 and rest[-1][0] == "g" and rest[-2].isdigit():
        commits = int(rest[-2])
        rest = rest[:-2]
    before = [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in "-".join(rest).split(".")
        if part
    ]
    return numbers, (0, before) if before else (1, before), commits
