# Turns an upstream board into one that updates itself. A board's mpconfigboard.cmake includes this last; what it adds
# to SDKCONFIG_DEFAULTS overrides what is there. From the command line (-D):
#   HTTPS_OTA_TLS_IN      TLS input buffer in bytes, 512 to 16384; 4096 without it
#   HTTPS_OTA_VERSION     the firmware's version, up to 31 characters; 0.0.0 without it
#   HTTPS_OTA_PARTITIONS  partition table (CSV); without it the board's, HTTPS_OTA_BOARD_PARTITIONS

if("${HTTPS_OTA_TLS_IN}" STREQUAL "")
    set(HTTPS_OTA_TLS_IN 4096)
endif()
# The range is that of CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN; ESP-IDF would silently take its default instead.
if(NOT HTTPS_OTA_TLS_IN MATCHES "^[1-9][0-9]*$" OR HTTPS_OTA_TLS_IN LESS 512 OR HTTPS_OTA_TLS_IN GREATER 16384)
    message(FATAL_ERROR "HTTPS_OTA_TLS_IN: expected 512 to 16384 (bytes of TLS input buffer), came '${HTTPS_OTA_TLS_IN}'")
endif()

# The descriptor has room for 31 characters; ESP-IDF would cut off the rest.
if("${HTTPS_OTA_VERSION}" STREQUAL "")
    set(HTTPS_OTA_VERSION 0.0.0)
endif()
string(LENGTH "${HTTPS_OTA_VERSION}" _length)
if(NOT HTTPS_OTA_VERSION MATCHES "^[0-9A-Za-z][0-9A-Za-z.+_-]*$" OR _length GREATER 31)
    message(FATAL_ERROR "HTTPS_OTA_VERSION: expected 1 to 31 of 0-9 A-Z a-z . + - _, came '${HTTPS_OTA_VERSION}'")
endif()
set(PROJECT_VER "${HTTPS_OTA_VERSION}")

set(_partitions "${HTTPS_OTA_PARTITIONS}")
if("${_partitions}" STREQUAL "")
    set(_partitions "${HTTPS_OTA_BOARD_PARTITIONS}")
endif()
if(NOT IS_ABSOLUTE "${_partitions}" OR NOT EXISTS "${_partitions}")
    message(FATAL_ERROR "HTTPS_OTA_PARTITIONS: expected the full path of a partition table, came '${_partitions}'")
endif()
get_filename_component(_partitions "${_partitions}" ABSOLUTE)

list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/sdkconfig.https_ota)

# ESP-IDF reads the defaults only while there is no sdkconfig. When anything in them changes, the old one has to go,
# or the frozen module would tell one size and mbedTLS have the other.
set(_all "")
foreach(_file ${SDKCONFIG_DEFAULTS})
    file(READ ${_file} _text)
    string(APPEND _all "${_text}")
endforeach()
string(MD5 _sum "${_all}")

set(_dir ${CMAKE_BINARY_DIR}/https_ota)
set(_sdkconfig "# Made by the build. The defaults before this file have MD5 ${_sum}.
CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN=${HTTPS_OTA_TLS_IN}
CONFIG_PARTITION_TABLE_CUSTOM=y
CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\"${_partitions}\"
")
set(_module "# Made by the build; what this firmware was compiled with.
from micropython import const

TLS_IN_CONTENT_LEN = const(${HTTPS_OTA_TLS_IN})
")
set(_before "")
if(EXISTS ${_dir}/sdkconfig)
    file(READ ${_dir}/sdkconfig _before)
endif()
if(NOT _before STREQUAL _sdkconfig OR NOT EXISTS ${_dir}/https_ota_board.py)
    file(REMOVE ${SDKCONFIG})
    file(WRITE ${_dir}/sdkconfig "${_sdkconfig}")
    file(WRITE ${_dir}/https_ota_board.py "${_module}")
endif()
list(APPEND SDKCONFIG_DEFAULTS ${_dir}/sdkconfig)

# $(GEN_DIR) in manifest.py.
set(MICROPY_MANIFEST_GEN_DIR ${_dir})
set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)
