# The names of the package and where they come from: nothing is loaded before it is used.
#
# dir() and TAB at the REPL ask a module for every name that the interpreter has ever seen. So to ask for a name must
# not load anything: until its module is there, something stands in for it that loads it when it is called, or
# asked for something in turn.

import sys

# After each module what of it is offered, and with a star a name for itself. A text, as it takes half the memory of a
# dict.
_NAMES = (
    "|ota update OTA *ota |errors OTAError |flash.info ImageInfo running_info |boot.guard guard "
    "|boot.rollback rollback cancel |boot.history last_result |boot.version newer_only same_project "
    "|trust.encrypted EncryptedImage *encrypted |trust.signature *sign |flash.data *data |fleet.fetch fetch |fleet.together beside together "
    "|fleet.manifest Decision |fleet.poll check update_from *release |aio *aio |events *events |repl bar help install status "
)

_STAY = "errors boot.guard flash.info"
_passes = 0  # how often dir() or TAB is still to ask for OTAError


class _Later:
    # Whatever was asked for, before it is loaded.

    def __init__(self, name):
        object.__setattr__(self, "_name", name)

    def __call__(self, *args, **options):
        return find(self._name, True)(*args, **options)

    def __getattr__(self, name):
        return getattr(find(self._name, True), name)

    def __setattr__(self, name, value):
        setattr(find(self._name, True), name, value)


def find(name, now=False):
    """What the package offers by this name, or something that loads it when it is used; loaded `now` if that is True."""
    global _passes
    # From now on it is asked itself, and not listed as a module.
    package = sys.modules["https_ota"]
    package.__getattr__ = find
    sys.modules.pop("https_ota.names", None)
    at = _NAMES.find(" " + name + " ")
    whole = at < 0
    if whole:
        at = _NAMES.find(" *" + name + " ")
    at = _NAMES.rfind("|", 0, at) if at > 0 else -1
    if at < 0 or not name:
        # Nobody but dir() and TAB asks for these two, first of all. dir() asks for each name once; TAB leaves out
        # those with underscores, and asks a second time to print them.
        if name == "__dir__":
            _passes = -1
        elif name == "\n":
            _passes += 2
        raise AttributeError("https_ota has no %s" % name)
    home = "https_ota." + _NAMES[at + 1 : _NAMES.find(" ", at)]
    if name == "OTAError":
        # Nothing can stand in for what follows `except`.
        if _passes > 0:
            _passes -= 1
        else:
            now = True
    if not now and home not in sys.modules:
        return _Later(name)
    value = __import__(home, None, None, ("_",))
    if not whole:
        value = getattr(value, name)
    if home[10:] in _STAY:  # see memory.py
        setattr(package, name, value)
    return value
