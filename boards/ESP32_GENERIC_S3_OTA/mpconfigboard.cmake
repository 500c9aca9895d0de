# Upstream's board by the name that it had here. Paths are relative to upstream's ports/esp32.
include(boards/ESP32_GENERIC_S3/mpconfigboard.cmake)

list(APPEND SDKCONFIG_DEFAULTS ${MICROPY_BOARD_DIR}/sdkconfig.board)
