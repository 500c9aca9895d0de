"""`python -m https_ota_tools` is `https-ota`."""

import sys

from https_ota_tools.cli import main

sys.exit(main())
