# Upstream's board by the name that it had here. Paths are relative to upstream's ports/esp32.
set(IDF_TARGET esp32)
include(boards/ESP32_GENERIC/mpconfigboard.cmake)
