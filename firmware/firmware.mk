# Sources, mpy-cross and the host interpreters. Included by the Makefile at the top.
include firmware/versions.mk

BUILD     := build
SIM_DIR   := $(abspath boards/SIM)
PYTHON    ?= python3
JOBS      := -j$(shell nproc)

# MPY_DIR=/a/checkout/with/submodules takes the place of the version that is fetched. What is built of it lies in a folder of its
# own, so that one may go back and forth between versions.
MPY_GIVEN := $(abspath $(MPY_DIR))
ifeq ($(MPY_GIVEN),)
override MPY_DIR := $(abspath $(BUILD))/src/micropython-$(HOST_MPY)
MPY_FOUND := $(HOST_MPY)
MPY_BUILD := $(BUILD)
else
override MPY_DIR := $(MPY_GIVEN)
MPY_FOUND := $(shell awk '/^.define MICROPY_VERSION_(MAJOR|MINOR|MICRO) / { v = v d $$3; d = "." } \
	/^.define MICROPY_VERSION_PRERELEASE 1/ { v = v "-preview" } END { print v }' '$(MPY_GIVEN)/py/mpconfig.h' 2>/dev/null)
MPY_BUILD := $(BUILD)/mpy-$(MPY_FOUND)
# Who gives a checkout may work on it.
MPY_SOURCES := $(shell find $(addprefix $(MPY_DIR)/,py extmod shared drivers ports/unix ports/qemu mpy-cross tools) \
	-name 'build*' -prune -o -type f '(' -name '*.[chS]' -o -name '*.py' -o -name '*.mk' -o -name Makefile ')' -print 2>/dev/null)
endif
MPY_READY := $(MPY_DIR)/py/mpconfig.h
MPY_CROSS := $(abspath $(MPY_BUILD))/mpy-cross/mpy-cross

fetch = firmware/fetch-sources.sh $(1) $(2) v$(2) $(MPY_GIT) $(MBEDTLS_SERIES) $(3)
ifeq ($(MPY_GIVEN),)
$(MPY_READY): | $(BUILD)/.apt
	@echo "fetching MicroPython $(HOST_MPY) and mbedTLS $(MBEDTLS_SERIES)"
	@mkdir -p $(BUILD)/src
	@$(call fetch,$(MPY_DIR),$(HOST_MPY),$(DEBIAN_SUITE)) >$(BUILD)/src/fetch.log 2>&1 || { cat $(BUILD)/src/fetch.log; exit 1; }
	@touch $@
else
$(MPY_READY):
	@echo "MPY_DIR=$(MPY_DIR): expected a checkout of MicroPython" >&2; exit 1
endif

# Says to the tests, too, which sources are in this folder (tests/support/built.py). A tar file's times are of long ago, and
# another checkout's may be: objects of other sources would look as if they were up to date.
MPY_MADE_WITH := $(MPY_BUILD)/made-with
$(MPY_MADE_WITH): $(MPY_READY) .FORCE
	@mkdir -p $(MPY_BUILD)
	@[ -d $(MPY_DIR)/lib/mbedtls/library ] || { echo "MPY_DIR=$(MPY_DIR): the submodule lib/mbedtls is empty. Get it once:"; \
		echo "    git -C $(MPY_DIR) submodule update --init lib/mbedtls"; exit 1; } >&2
	@[ "$$(cat $@ 2>/dev/null)" = "$(MPY_FOUND) $(MPY_DIR)" ] || { \
		rm -rf $(addprefix $(MPY_BUILD)/,mpy-cross sim sim-tls4k sim64 sim64-names rv32); echo "$(MPY_FOUND) $(MPY_DIR)" >$@; }

$(MPY_CROSS): $(MPY_MADE_WITH) $(MPY_SOURCES) | $(BUILD)/.apt
	@echo "building mpy-cross of MicroPython $(MPY_FOUND)"
	@mkdir -p $(dir $@)
	@$(MAKE) -s $(JOBS) -C $(MPY_DIR)/mpy-cross BUILD=$(patsubst %/,%,$(dir $@)) PROG=mpy-cross \
		>$(dir $@)build.log 2>&1 || { tail -30 $(dir $@)build.log; exit 1; }
	@touch $@

# MPY_LIB_DIR: nothing of micropython-lib is used; upstream's rule only wants a folder with a README.md there.
# One interpreter of the SIM board: $(call sim,NAME,TLS input buffer,mpy-cross arch,extra make words).
# The TLS buffer goes to mbedTLS and to the frozen https_ota_board.py from the same word, so they can't differ.
SIM_SOURCES = $(shell find boards/SIM lib -name '*.py' -o -name '*.h' -o -name '*.c' -o -name '*.mk')
define sim
$(MPY_BUILD)/$(1)/micropython: $$(SIM_SOURCES) $$(MPY_CROSS) $$(MPY_SOURCES) firmware/firmware.mk
	@echo "building the SIM board: $(1) (TLS input buffer $(2))"
	@mkdir -p $(MPY_BUILD)/$(1)/board
	@printf '# Made by the build; what this firmware was compiled with.\nfrom micropython import const\n\nTLS_IN_CONTENT_LEN = const($(2))\n' \
		>$(MPY_BUILD)/$(1)/board/https_ota_board.py
	@$$(MAKE) -s $$(JOBS) -C $$(MPY_DIR)/ports/unix VARIANT_DIR=$$(SIM_DIR) BUILD=$$(abspath $(MPY_BUILD)/$(1)) \
		MICROPY_MPYCROSS=$$(MPY_CROSS) MICROPY_MPYCROSS_DEPENDENCY= MPY_CROSS_FLAGS=-march=$(3) \
		MPY_LIB_DIR=$$(MPY_DIR)/lib MICROPY_MANIFEST_GEN_DIR=$$(abspath $(MPY_BUILD)/$(1)/board) \
		CFLAGS_EXTRA=-DSIM_TLS_IN_CONTENT_LEN=$(2) $(4) >$(MPY_BUILD)/$(1)/build.log 2>&1 || { tail -30 $(MPY_BUILD)/$(1)/build.log; exit 1; }
	@touch $$@
endef
# 1.25 knows MICROPY_FORCE_32BIT, later versions only CC; both at once suit all of them.
M32 := MICROPY_FORCE_32BIT=1 CC="gcc -m32"
$(eval $(call sim,sim,16384,x86,$(M32)))
$(eval $(call sim,sim-tls4k,4096,x86,$(M32)))
$(eval $(call sim,sim64,16384,x64,))
SIMS := $(MPY_BUILD)/sim/micropython $(MPY_BUILD)/sim-tls4k/micropython $(MPY_BUILD)/sim64/micropython

# The RV32 board: an ESP32-C3's instruction set on bare metal, for QEMU. Its heap is what a test may ask for at most.
RV32_DIR  := $(abspath boards/RV32)
RV32_HEAP := 1048576
RV32      := $(MPY_BUILD)/rv32/firmware.elf
$(RV32): $(shell find boards/RV32 boards/SIM/modules lib -type f -not -name '*.md') $(MPY_CROSS) $(MPY_SOURCES) firmware/firmware.mk
	@echo "building the RV32 board"
	@mkdir -p $(dir $@)
	@$(MAKE) -s $(JOBS) -C $(MPY_DIR)/ports/qemu BOARD=RV32 BOARD_DIR=$(RV32_DIR) BUILD=$(abspath $(dir $@)) \
		MICROPY_HEAP_SIZE=$(RV32_HEAP) MICROPY_MPYCROSS=$(MPY_CROSS) MICROPY_MPYCROSS_DEPENDENCY= MPY_LIB_DIR=$(MPY_DIR)/lib \
		>$(dir $@)build.log 2>&1 || { tail -30 $(dir $@)build.log; exit 1; }
	@touch $@

.PHONY: .FORCE
