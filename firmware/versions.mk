# The one place where versions of upstream parts are pinned.
MPY_VERSION     := 1.25.0
MPY_TAG         := v$(MPY_VERSION)
MPY_GIT         := https://github.com/micropython/micropython
# mbedTLS for the host interpreters: any release of this series. The chip's own comes with ESP-IDF.
MBEDTLS_SERIES  := 3.6
# Debian suite whose source packages carry MPY_VERSION and MBEDTLS_SERIES.
DEBIAN_SUITE    := trixie
# What the boards' firmware is built with: the newest that MPY_VERSION's ports/esp32/README.md names. ESP-IDF 5.5
# takes MicroPython 1.27 or later; `make firmware MPY_VERSION=1.28.0 IDF_VERSION=v5.5.1` is such a pair.
IDF_VERSION     := v5.4
IDF_GIT         := https://github.com/espressif/esp-idf
