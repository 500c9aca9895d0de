# The SIM board: MicroPython's unix port dressed as an ESP32. See README.md.
FROZEN_MANIFEST ?= $(VARIANT_DIR)/manifest.py

MICROPY_PY_FFI = 0
MICROPY_PY_BTREE = 0
MICROPY_PY_SSL = 1
MICROPY_SSL_MBEDTLS = 1
MBEDTLS_CONFIG_FILE = \"$(VARIANT_DIR)/mbedtls_config.h\"

# For speed, as the esp32 port is compiled.
COPT = -O2 -fno-pie
LDFLAGS_EXTRA += -no-pie

# sim.c puts the board's real-time clock in place of the host's, and its serial line in place of a terminal.
LDFLAGS_EXTRA += -Wl,--wrap=time,--wrap=gettimeofday,--wrap=__time64,--wrap=__gettimeofday64,--wrap=mp_hal_set_interrupt_char
