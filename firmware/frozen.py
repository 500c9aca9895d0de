"""What `make firmware` freezes: what the board's manifest names, or FROZEN_MANIFEST=, and this package unless that has it."""

include("$(FROZEN_MANIFEST)")
there = {file.target_path for file in include.__self__.files()}
if "https_ota/ota.py" not in there:
    # With metadata of its own, as what require() brings.
    include("../lib/manifest.py", is_require=True)
if "https_ota_board.py" not in there:
    # What this firmware was compiled with: https_ota.cmake writes it from the same word as the TLS buffer of ESP-IDF.
    freeze("$(GEN_DIR)", "https_ota_board.py")
