# The chips' firmware: upstream's esp32 port, built by ESP-IDF, with this package frozen in. Included by the Makefile.
#   BOARD=          a board of upstream's, or a folder of boards/
#   BOARD_DIR=      a board of one's own         BOARD_VARIANT=  one of its mpconfigvariant_*.cmake
#   IDF_PATH        set by ESP-IDF's export.sh   MPY_DIR=        a checkout of MicroPython with submodules
#   TLS_IN=         TLS input buffer in bytes    FW_VERSION=     the version in the application descriptor
#   FLASH=          MB of flash, where that is more than the board says
#   PARTITIONS=     another partition table      FROZEN_MANIFEST=  as upstream's, in place of the board's
#   USER_C_MODULES= as upstream's
# MPY_VERSION= and IDF_VERSION= on the make line take other versions than versions.mk pins, of those that go together.
TLS_IN     ?= 4096
FW_VERSION ?= 0.0.0
ifeq ($(BOARD_DIR),)
BOARD      ?= ESP32_GENERIC
BOARD_HOME := $(abspath $(dir $(or $(wildcard boards/$(BOARD)/mpconfigboard.cmake),$(MPY_GIVEN)/ports/esp32/boards/$(BOARD)/x)))
else
# Not that of the environment, which is another's.
ifneq ($(origin BOARD),command line)
BOARD      := $(notdir $(abspath $(BOARD_DIR)))
endif
BOARD_HOME := $(abspath $(BOARD_DIR))
endif

FW_BUILD := $(abspath $(BUILD))/firmware/$(BOARD)$(addprefix -,$(BOARD_VARIANT))

# An option that is not given is passed on as empty, as cmake would go on with that of the last time.
# Without our MAKEFLAGS, since the build of mpy-cross inside would take the words of this make line as its own.
IDF_PY = env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL idf.py -C "$(abspath $(MPY_GIVEN))/ports/esp32" -B "$(FW_BUILD)" \
	-D MICROPY_BOARD=$(BOARD) -D MICROPY_BOARD_DIR="$(BOARD_HOME)" \
	$(if $(BOARD_VARIANT),-D MICROPY_BOARD_VARIANT=$(BOARD_VARIANT)) \
	-D MICROPY_FROZEN_MANIFEST="$(abspath $(FROZEN_MANIFEST))" -D USER_C_MODULES="$(abspath $(USER_C_MODULES))" \
	-D CMAKE_PROJECT_INCLUDE_BEFORE="$(abspath firmware/https_ota.cmake)" \
	-D HTTPS_OTA_TLS_IN=$(TLS_IN) -D HTTPS_OTA_VERSION="$(FW_VERSION)" \
	-D HTTPS_OTA_FLASH="$(FLASH)" -D HTTPS_OTA_PARTITIONS="$(abspath $(PARTITIONS))"

check-esp32:
	@firmware/check-esp32.sh "$(BOARD)" "$(BOARD_HOME)" "$(BOARD_VARIANT)" "$(TLS_IN)" "$(FW_VERSION)" "$(PARTITIONS)" \
		"$(FROZEN_MANIFEST)" \
		"$(MPY_GIVEN)" "$(MPY_VERSION)" "$(MPY_OLDEST)" "$(MPY_NEWEST)" "$(MPY_GIT)" "$(IDF_VERSION)" "$(IDF_GIT)"
	@$(if $(wildcard $(PARTITIONS)),PYTHONPATH=tools $(PYTHON) firmware/check_firmware.py --table "$(PARTITIONS)")
	@firmware/check-build.sh "$(FW_BUILD)" "$(abspath $(MPY_GIVEN))" "$(MPY_VERSION)" "$(abspath $(IDF_PATH))" "$(IDF_VERSION)"

# What decides whether frozen code is made anew upstream is the age of the modules alone: another FROZEN_MANIFEST=, or other slices
# in it, would go unnoticed.
firmware: check-esp32 ## the firmware of a board (BOARD= or BOARD_DIR=, MPY_DIR=, IDF_PATH=, FW_VERSION=, TLS_IN=)
	@rm -f "$(FW_BUILD)/frozen_content.c"
	$(IDF_PY) build
	@firmware/check-sdkconfig.sh $(FW_BUILD)/sdkconfig $(FW_BUILD)/https_ota/sdkconfig
	@echo "$(BOARD) $(FW_VERSION), TLS input buffer $(TLS_IN):"
	@PYTHONPATH=tools $(PYTHON) firmware/check_firmware.py "$(FW_BUILD)"
	@echo "the first time, over USB:  make flash BOARD=$(BOARD) PORT=/dev/ttyUSB0 ..."
	@echo "the file to serve to boards:  $(FW_BUILD)/micropython.bin"

check-port:
	@test -n "$(PORT)" || { echo "PORT is not set: expected the board's serial port, PORT=/dev/ttyUSB0 or so;" \
		"there are: $$(ls /dev/ttyUSB* /dev/ttyACM* /dev/cu.usb* 2>/dev/null | tr '\n' ' ')" >&2; exit 1; }

flash: check-port firmware ## build and write bootloader, table and firmware over USB (PORT=)
	$(IDF_PY) -p "$(PORT)" flash

monitor: check-port check-esp32 ## the board's console (PORT=)
	$(IDF_PY) -p "$(PORT)" monitor

size: check-esp32 ## what takes the room in a board's firmware (BOARD=)
	$(IDF_PY) size

# By instructions: by the host's clock, FreeRTOS's tick can stop when the host is busy.
qemu: firmware ## run ESP32_C3_QEMU_OTA in Espressif's qemu
	$(IDF_PY) qemu --qemu-extra-args "-icount shift=3" monitor

# What `make test-chip` needs: both say all that they miss.
QEMU ?= qemu-system-riscv32
check-chip:
	@$(MAKE) -s check-esp32 BOARD=ESP32_C3_QEMU_OTA BUILD=$(BUILD)/chip/1.0.0; esp32=$$?; \
		firmware/check-qemu.sh "$(QEMU)" "$(MPY_GIVEN)" && exit $$esp32

.PHONY: check-chip check-esp32 check-port firmware flash monitor size qemu
