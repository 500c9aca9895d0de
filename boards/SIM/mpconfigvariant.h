// The SIM board: what the esp32 port switches on, on the unix port.

#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)

// As on the chip: single-precision floats, whole seconds from time.time().
#define MICROPY_FLOAT_IMPL (MICROPY_FLOAT_IMPL_FLOAT)

#include "ports/unix/variants/mpconfigvariant_common.h"

// As on the chip: short messages.
#undef MICROPY_ERROR_REPORTING
#define MICROPY_ERROR_REPORTING (MICROPY_ERROR_REPORTING_NORMAL)

// mbedTLS takes its memory from the MicroPython heap (mbedtls_config.h), so that gc.mem_alloc() sees it.
#define MICROPY_TRACKED_ALLOC (1)
