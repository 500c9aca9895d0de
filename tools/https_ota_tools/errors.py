"""The exceptions that a user of the tools sees, and the status that each ends with."""

DONE, BAD, IMPOSSIBLE = range(3)
# What a shell makes of a program that SIGINT ended.
INTERRUPTED = 130


class ToolError(RuntimeError):
    """A command can't do its work: what was expected, what came, what to do.

    `https-ota` prints it without a traceback and exits with 2. For Ctrl-C, a KeyboardInterrupt does: its argument, if
    it has one, is printed as well, and the status is 130.
    """


class BadFileError(ToolError):
    """A file was checked, and is bad. `https-ota` exits with 1."""
