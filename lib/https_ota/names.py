# The names of the package and where they come from: nothing is loaded before it is used.
#
# dir() and TAB at the REPL ask a module for every name that the interpreter has ever seen. So to ask for a name must
# not load anything: until its module is there, something stands in for it that loads it when it is called, or
# asked for something in turn.

import sys

# All modules, and after each what of it is offered. A text, as it takes half the memory of a dict.
_NAMES = (
    "|ota update OTA |errors OTAError |image ImageInfo |progress bar |slot running_info |trial guard "
    "|back rollback cancel |outcome last_result |policy newer_only same_project |encrypted EncryptedImage |data beside fetch together "
    "|status status |install install |usage help |release check update_from |decide Decision "
    "|aio |chain |chip |crypt |digest |download |ec |ecies |events |explain |find |gcm |hot |http |nonblocking |nvs |odd "
    "|otadata |pin |recover |request |resume |sha384 |sign |steps |trust |wrong "
)

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
    at = _NAMES.find(" " + name + " ")
    offered = at > 0
    at = _NAMES.rfind("|", 0, at) if offered else _NAMES.find("|" + name + " ")
    if at < 0:
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
    value = __import__(home, None, None, (name,))
    if offered:
        value = getattr(value, name)
    setattr(sys.modules["https_ota"], name, value)
    return value
