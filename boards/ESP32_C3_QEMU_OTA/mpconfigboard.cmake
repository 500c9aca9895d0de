# Upstream's QEMU variant of ESP32_GENERIC_C3 (Espressif's qemu with its OpenCores Ethernet) without what needs a radio. Paths are
# relative to upstream's ports/esp32.
if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/boards/ESP32_GENERIC_C3/mpconfigvariant_QEMU.cmake)
    message(FATAL_ERROR "ESP32_C3_QEMU_OTA: expected a MicroPython with the QEMU variant of ESP32_GENERIC_C3 "
        "(later than 1.28), came one without; give its checkout as MPY_DIR and its version as MPY_VERSION")
endif()
include(boards/ESP32_GENERIC_C3/mpconfigboard.cmake)
include(boards/ESP32_GENERIC_C3/mpconfigvariant_QEMU.cmake)
list(APPEND SDKCONFIG_DEFAULTS ${MICROPY_BOARD_DIR}/sdkconfig.board)
