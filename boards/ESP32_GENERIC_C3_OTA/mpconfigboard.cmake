# Upstream's board by the name that it had here. Paths are relative to upstream's ports/esp32.
include(boards/ESP32_GENERIC_C3/mpconfigboard.cmake)
