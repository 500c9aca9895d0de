# The RV32 board: upstream's VIRT_RV32 (ports/qemu) with what an ESP32-C3 has and it lacks. See README.md.
include boards/VIRT_RV32/mpconfigboard.mk

# As in mpconfigboard.h.
MPY_CROSS_FLAGS := -march=rv32imc

# GCC 11 and 12 as Debian builds them find their libraries by the names of the ISA before Zicsr was split off.
ifneq ($(filter 11.% 12.%,$(shell riscv64-unknown-elf-gcc -dumpversion)),)
RV32_ARCH ?= rv32imac
AFLAGS += -misa-spec=2.2
endif

FROZEN_MANIFEST ?= $(BOARD_DIR)/manifest.py

MICROPY_VFS_LFS2 = 1
MICROPY_PY_SSL = 1
MICROPY_SSL_MBEDTLS = 1
# By this name MicroPython 1.29's own sources include it, too.
MBEDTLS_CONFIG_FILE = '"mbedtls/mbedtls_config_port.h"'

CFLAGS += -DMP_CONFIGFILE='"$(BOARD_DIR)/mpconfigboard.h"' -I$(BOARD_DIR)

vpath %.c $(BOARD_DIR)
SRC_C += rv32.c shared/timeutils/timeutils.c

# rv32.c puts its own in place of upstream's, or around them.
RV32_WRAP = --wrap=gc_init --wrap=mp_init --wrap=mp_hal_stdin_rx_chr --wrap=mp_hal_stdio_poll
ifneq ($(shell grep -e -Wl,--gc-sections Makefile),)
comma := ,
LDFLAGS += $(addprefix -Wl$(comma),$(RV32_WRAP))
else
# Since 1.29 the linker is called itself.
LDFLAGS += $(RV32_WRAP)
endif
