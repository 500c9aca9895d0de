"""Upstream's modules, this package, and what this firmware was compiled with."""

include("$(PORT_DIR)/boards/manifest.py")
include("../lib/manifest.py")
# https_ota_board.py: https_ota.cmake writes it from the same word as the TLS buffer of ESP-IDF's configuration.
freeze("$(GEN_DIR)", "https_ota_board.py")
