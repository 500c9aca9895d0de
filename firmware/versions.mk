# The one place where versions of upstream parts are pinned.
# What the chips' firmware is built of. ESP-IDF's is the one that this MicroPython's ports/esp32/README.md recommends.
MPY_VERSION     := 1.28.0
IDF_VERSION     := v5.5.1
MPY_GIT         := https://github.com/micropython/micropython
IDF_GIT         := https://github.com/espressif/esp-idf
# What it may be built of, with one's word: these, with what their own README.md names.
MPY_OLDEST      := 1.23
MPY_NEWEST      := 1.29
# What the host interpreters are built of. A Debian suite whose source packages carry it and mbedTLS; of that any release of this
# series will do. The chip's own comes with ESP-IDF.
HOST_MPY        := 1.25.0
DEBIAN_SUITE    := trixie
MBEDTLS_SERIES  := 3.6
# Another one that tests run on, and its suite: make test-versions.
HOST_ALSO       := 1.26.1
ALSO_SUITE      := sid
