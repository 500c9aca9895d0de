# Upstream's ESP32_GENERIC with two OTA slots and https_ota. Paths are relative to upstream's ports/esp32.
set(IDF_TARGET esp32)
include(boards/ESP32_GENERIC/mpconfigboard.cmake)

# Upstream's settings of its OTA variant: code for size.
list(APPEND SDKCONFIG_DEFAULTS boards/ESP32_GENERIC/sdkconfig.ota)

set(HTTPS_OTA_BOARD_PARTITIONS ${MICROPY_BOARD_DIR}/../../firmware/partitions-4MiB-ota-large.csv)
include(${MICROPY_BOARD_DIR}/../../firmware/https_ota.cmake)
