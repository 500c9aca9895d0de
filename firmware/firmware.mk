# Sources, mpy-cross and the host interpreters. Included by the Makefile at the top.
include firmware/versions.mk

BUILD     := build
SIM_DIR   := $(abspath boards/SIM)
PYTHON    ?= python3
JOBS      := -j$(shell nproc)

# MPY_DIR=/a/checkout/with/submodules on the command line skips fetching.
MPY_GIVEN := $(MPY_DIR)
ifeq ($(origin MPY_DIR), undefined)
MPY_DIR   := $(abspath $(BUILD))/src/micropython
endif
MPY_READY := $(MPY_DIR)/py/mpconfig.h
MPY_CROSS := $(abspath $(BUILD))/mpy-cross/mpy-cross

$(abspath $(BUILD))/src/micropython/py/mpconfig.h: firmware/versions.mk firmware/fetch-sources.sh | $(BUILD)/.apt
	@echo "fetching MicroPython $(HOST_MPY) and mbedTLS $(MBEDTLS_SERIES)"
	@mkdir -p $(BUILD)/src
	@firmware/fetch-sources.sh $(BUILD)/src/micropython $(HOST_MPY) v$(HOST_MPY) $(MPY_GIT) \
		$(MBEDTLS_SERIES) $(DEBIAN_SUITE) >$(BUILD)/src/fetch.log 2>&1 || { cat $(BUILD)/src/fetch.log; exit 1; }
	@touch $@

$(MPY_CROSS): $(MPY_READY) | $(BUILD)/.apt
	@echo "building mpy-cross"
	@mkdir -p $(dir $@)
	@$(MAKE) -s $(JOBS) -C $(MPY_DIR)/mpy-cross BUILD=$(patsubst %/,%,$(dir $@)) PROG=mpy-cross \
		>$(dir $@)build.log 2>&1 || { tail -30 $(dir $@)build.log; exit 1; }

# MPY_LIB_DIR: nothing of micropython-lib is used; upstream's rule only wants a folder with a README.md there.
# One interpreter of the SIM board: $(call sim,NAME,TLS input buffer,mpy-cross arch,extra make words).
# The TLS buffer goes to mbedTLS and to the frozen https_ota_board.py from the same word, so they can't differ.
SIM_SOURCES = $(shell find boards/SIM lib -name '*.py' -o -name '*.h' -o -name '*.c' -o -name '*.mk')
define sim
$(BUILD)/$(1)/micropython: $$(SIM_SOURCES) $$(MPY_CROSS) firmware/firmware.mk
	@echo "building the SIM board: $(1) (TLS input buffer $(2))"
	@mkdir -p $(BUILD)/$(1)/board
	@printf '# Made by the build; what this firmware was compiled with.\nfrom micropython import const\n\nTLS_IN_CONTENT_LEN = const($(2))\n' \
		>$(BUILD)/$(1)/board/https_ota_board.py
	@$$(MAKE) -s $$(JOBS) -C $$(MPY_DIR)/ports/unix VARIANT_DIR=$$(SIM_DIR) BUILD=$$(abspath $(BUILD)/$(1)) \
		MICROPY_MPYCROSS=$$(MPY_CROSS) MICROPY_MPYCROSS_DEPENDENCY= MPY_CROSS_FLAGS=-march=$(3) \
		MPY_LIB_DIR=$$(MPY_DIR)/lib MICROPY_MANIFEST_GEN_DIR=$$(abspath $(BUILD)/$(1)/board) \
		CFLAGS_EXTRA=-DSIM_TLS_IN_CONTENT_LEN=$(2) $(4) >$(BUILD)/$(1)/build.log 2>&1 || { tail -30 $(BUILD)/$(1)/build.log; exit 1; }
	@touch $$@
endef
# 1.25 knows MICROPY_FORCE_32BIT, later versions only CC; both at once suit all of them.
M32 := MICROPY_FORCE_32BIT=1 CC="gcc -m32"
$(eval $(call sim,sim,16384,x86,$(M32)))
$(eval $(call sim,sim-tls4k,4096,x86,$(M32)))
$(eval $(call sim,sim64,16384,x64,))
SIMS := $(BUILD)/sim/micropython $(BUILD)/sim-tls4k/micropython $(BUILD)/sim64/micropython

# The RV32 board: an ESP32-C3's instruction set on bare metal, for QEMU. Its heap is what a test may ask for at most.
RV32_DIR  := $(abspath boards/RV32)
RV32_HEAP := 1048576
RV32      := $(BUILD)/rv32/firmware.elf
$(RV32): $(shell find boards/RV32 boards/SIM/modules lib -type f -not -name '*.md') $(MPY_CROSS) firmware/firmware.mk
	@echo "building the RV32 board"
	@mkdir -p $(dir $@)
	@$(MAKE) -s $(JOBS) -C $(MPY_DIR)/ports/qemu BOARD=RV32 BOARD_DIR=$(RV32_DIR) BUILD=$(abspath $(dir $@)) \
		MICROPY_HEAP_SIZE=$(RV32_HEAP) MICROPY_MPYCROSS=$(MPY_CROSS) MICROPY_MPYCROSS_DEPENDENCY= MPY_LIB_DIR=$(MPY_DIR)/lib \
		>$(dir $@)build.log 2>&1 || { tail -30 $(dir $@)build.log; exit 1; }
	@touch $@
