"""The command `https-ota`; so is `python -m https_ota_tools`."""

import sys

from https_ota_tools.errors import INTERRUPTED


def main() -> int:
    """Run the command line and return the exit status."""
    try:
        # This takes a second, and Ctrl-C may come at any moment.
        from https_ota_tools import cli

        return cli.main()
    except KeyboardInterrupt:
        print("https-ota: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
