include("../../lib/manifest.py")
include("$(MPY_DIR)/extmod/asyncio")

freeze("../SIM/modules")
freeze("modules")
