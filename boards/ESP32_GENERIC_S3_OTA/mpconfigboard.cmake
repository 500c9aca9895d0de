# Upstream's ESP32_GENERIC_S3 with two OTA slots and https_ota. Paths are relative to upstream's ports/esp32.
include(boards/ESP32_GENERIC_S3/mpconfigboard.cmake)

list(APPEND SDKCONFIG_DEFAULTS ${MICROPY_BOARD_DIR}/sdkconfig.board)

set(HTTPS_OTA_BOARD_PARTITIONS ${MICROPY_BOARD_DIR}/../../firmware/partitions-8MiB-ota.csv)
include(${MICROPY_BOARD_DIR}/../../firmware/https_ota.cmake)
