# https_ota: `make demo` shows an update, `make test` proves it, `make help` lists the rest.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

include firmware/firmware.mk
include firmware/esp32.mk

APT_PACKAGES := gcc make cmake git xz-utils bzip2 ca-certificates openssl python3-venv \
	gcc-multilib gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf \
	'qemu-system-riscv|qemu-system-misc' nginx-light \
	apache2-bin lighttpd lighttpd-mod-openssl tabix pigz zopfli valgrind libc6-dbg
VENV := .venv
# Where the tests find what is built: tests/support/built.py.
export MPY_BUILD
PY   := $(VENV)/bin/python

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: $(BUILD)/.apt $(VENV)/.ready $(SIMS) $(RV32) ## install what is missing, build the interpreters (idempotent)

$(BUILD)/.apt: Makefile firmware/install-packages.sh
	mkdir -p $(BUILD)
	firmware/install-packages.sh $(APT_PACKAGES)
	touch $@

$(VENV)/.ready: tests/requirements.txt pyproject.toml | $(BUILD)/.apt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -r tests/requirements.txt
	$(PY) -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

sim-builds: $(SIMS) ## build the SIM board's three interpreters only

rv32-build: $(RV32) ## build the RV32 board's firmware only

SIM_FLASH ?= $(BUILD)/demo/flash.bin
$(SIM_FLASH): | $(VENV)/.ready
	@mkdir -p $(BUILD)/demo
	@$(PY) tests/data/app/build.py --version 1.0.0 -o $(BUILD)/demo/app-1.0.0.bin
	@$(VENV)/bin/https-ota mkflash $(BUILD)/demo/app-1.0.0.bin -o $@

sim: setup $(SIM_FLASH) ## the REPL of a SIM board (SIM_FLASH=file)
	SIM_FLASH=$(SIM_FLASH) $(MPY_BUILD)/sim/micropython

sim-serial: setup $(SIM_FLASH) ## a SIM board behind a serial port, for mpremote and https-ota push (SIM_FLASH=file)
	@$(PY) tests/support/simserial.py $(SIM_FLASH)

# It runs on one of the three interpreters: no need to wait for the others.
demo: $(VENV)/.ready $(MPY_BUILD)/sim-tls4k/micropython ## an update from a real nginx, seen through reset, confirm and rollback
	@$(PY) tests/demo.py

# Most tests wait for something half of their time: two processes more than there are cores.
WORKERS ?= $(shell expr $$(nproc) + 2)
# Hundreds of processes import the tools: what one has compiled, the others need not.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup lint ## everything that CI checks (WORKERS=n processes)
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal -m "not quiet"
	$(PY) -m pytest -q -m quiet

# What depends on MicroPython's version, in four minutes with the builds: tests/unit on one interpreter, on RV32 it takes as long alone.
VERSION_TESTS := tests/unit tests/sim -k "not sim64]" --deselect tests/sim/test_rv32.py::test_unit \
	$(addprefix tests/updates/test_,aio.py figures.py http_real.py memory.py tls.py) \
	$(addprefix tests/tools/test_,board_packages.py budgets.py package.py)
ifeq ($(MPY_GIVEN),)
ALSO := $(abspath $(BUILD))/src/micropython-$(HOST_ALSO)
# Debian's sid moves on, and no mirror need be in reach: what can't be had is no fault of what is tested here.
test-versions: setup ## what depends on MicroPython's version, on another one (MPY_DIR=/its/checkout)
	@[ -e $(ALSO)/py/mpconfig.h ] || { echo "fetching MicroPython $(HOST_ALSO)"; \
		$(call fetch,$(ALSO),$(HOST_ALSO),$(ALSO_SUITE)) >$(BUILD)/src/fetch-$(HOST_ALSO).log 2>&1; } || cat $(BUILD)/src/fetch-$(HOST_ALSO).log
	@if [ -e $(ALSO)/py/mpconfig.h ]; then $(MAKE) $@ MPY_DIR=$(ALSO); else echo "SKIPPED: no tests on MicroPython $(HOST_ALSO)"; fi
else
test-versions: setup
	$(PY) -m pytest -q -n $(WORKERS) --dist worksteal -m "not quiet" $(VERSION_TESTS)
endif

PORT ?=
test-device: setup ## the tests on a board (PORT=/dev/ttyUSB0; WIFI_SSID, WIFI_KEY; without PORT a SIM board)
	@DEVICE_PORT="$(PORT)" $(PY) -m pytest -q -rs tests/device --timeout 1200

# The firmware that runs first, and the one that it is updated to, with another TLS input buffer.
test-chip: check-chip ## the same on ESP32_C3_QEMU_OTA, built twice and run in an emulated chip (MPY_DIR=, IDF_PATH=, QEMU=)
	$(MAKE) firmware BOARD=ESP32_C3_QEMU_OTA BUILD=$(BUILD)/chip/1.0.0 FW_VERSION=1.0.0 TLS_IN=4096
	$(MAKE) firmware BOARD=ESP32_C3_QEMU_OTA BUILD=$(BUILD)/chip/2.0.0 FW_VERSION=2.0.0 TLS_IN=16384
	$(MAKE) setup MPY_DIR=
	@DEVICE_CHIP="$(abspath $(BUILD)/chip)" QEMU="$(QEMU)" MPY_BUILD="$(BUILD)" $(PY) -m pytest -q -rs tests/device --timeout 1200

test-unit: setup ## the tests that MicroPython runs
	$(PY) -m pytest -q tests/unit

lint: $(VENV)/.ready ## ruff, codespell, mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/mypy

# The objects of sim64, linked once more with the names of functions: what valgrind tells instructions apart by.
NAMED := $(MPY_BUILD)/sim64-names/micropython
$(NAMED): $(MPY_BUILD)/sim64/micropython
	@mkdir -p $(dir $@)
	@$(MAKE) -s -W firmware/firmware.mk $< STRIP= PROG=../sim64-names/micropython
	@touch $@

bench: setup $(NAMED) ## memory, sizes, counts and times into build/bench.json and tests/bench/README.md
	@PYTHONPATH=tests/support:firmware $(PY) tests/bench/run.py

budgets: setup ## lower the budgets to what is needed now: memory and size, counts
	@PYTHONPATH=tests/support:firmware $(PY) tests/support/budgets.py
	@PYTHONPATH=tests/support:firmware $(PY) tests/support/figures.py

bench-crypto: setup ## what signatures and decryption take, likewise
	@PYTHONPATH=tests/support $(PY) tests/bench/crypto.py

IMAGES ?=
bench-pack: setup ## compressed images and deltas of what you give, likewise (IMAGES="OLD.bin:NEW.bin=what_it_is ...")
	@PYTHONPATH=tests/support $(PY) tests/bench/packing.py $(IMAGES)

zoo: setup ## the servers that updates come from, likewise
	@$(PY) tests/bench/zoo.py

ARCHES ?= xtensawin rv32imc py
package: $(MPY_CROSS) ## package.json, and build/mip/ to install from with mip (ARCHES="xtensawin rv32imc py")
	@$(PYTHON) firmware/mip_package.py --mpy-cross $(MPY_CROSS) $(ARCHES)

SECONDS ?= 600
soak: setup ## cuts, drops and changes in any order, then any calls beside a model (SECONDS=n, each)
	@SECONDS=$(SECONDS) PYTHONPATH=tests/support $(PY) tests/updates/test_soak.py
	@SECONDS=$(SECONDS) PYTHONPATH=tests/support $(PY) tests/updates/test_model.py

clean: ## remove what was built (the sources stay)
	rm -rf $(addprefix $(BUILD)/,sim sim-tls4k sim64 sim64-names rv32 mpy-cross made-with mpy-* demo firmware mip)

.PHONY: help setup sim-builds rv32-build sim demo test test-versions test-unit lint bench budgets bench-crypto bench-pack zoo package soak clean sim-serial test-device test-chip
