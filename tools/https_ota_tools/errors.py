"""The one exception that a user of the tools sees."""


class ToolError(RuntimeError):
    """A command can't do its work: what was expected, what came, what to do.

    `https-ota` prints it without a traceback and exits with 2.
    """
