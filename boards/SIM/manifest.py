include("../../lib/manifest.py")
include("$(MPY_DIR)/extmod/asyncio")

freeze("modules")
# https_ota_board.py: made by the build from the same word as mbedTLS's configuration.
freeze("$(GEN_DIR)", "https_ota_board.py")
