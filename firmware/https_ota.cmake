# Makes of any board one that updates itself: two slots by the size of its flash, rollback, a TLS input buffer, and the package
# frozen in beside what the board freezes. It runs when board and variant have said all they have to say and ESP-IDF has not read
# it yet: `make firmware` gives it to CMake as CMAKE_PROJECT_INCLUDE_BEFORE. A board that is built without that Makefile has
# it by including this file in its mpconfigboard.cmake. From the command line (-D):
#   HTTPS_OTA_TLS_IN      TLS input buffer in bytes, 512 to 16384; 4096 without it
#   HTTPS_OTA_VERSION     the firmware's version, up to 31 characters; 0.0.0 without it
#   HTTPS_OTA_FLASH       MB of flash; without it what the board says
#   HTTPS_OTA_PARTITIONS  partition table (CSV); without it HTTPS_OTA_BOARD_PARTITIONS of the board, or the board's own if it has two
#                         slots, or ours for its flash
if(NOT "${SDKCONFIG_DEFAULTS}" STREQUAL "${CMAKE_BINARY_DIR}/sdkconfig.combined")
    set(CMAKE_PROJECT_INCLUDE_BEFORE ${CMAKE_CURRENT_LIST_FILE})
    return()
endif()

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

set(_name "${MICROPY_BOARD}")
if(MICROPY_BOARD_VARIANT)
    string(APPEND _name "-${MICROPY_BOARD_VARIANT}")
endif()

# What the board says; of several lines for one name, and of several sizes, the last counts.
file(READ "${SDKCONFIG_DEFAULTS}" _board)
set(_flash "")
file(STRINGS "${SDKCONFIG_DEFAULTS}" _sizes REGEX "^CONFIG_ESPTOOLPY_FLASHSIZE_[0-9]+MB=y")
if(_sizes)
    list(GET _sizes -1 _flash)
    string(REGEX REPLACE ".*_([0-9]+)MB=y.*" "\\1" _flash "${_flash}")
endif()
set(_board_flash "${_flash}")
set(_board_table "")
file(STRINGS "${SDKCONFIG_DEFAULTS}" _tables REGEX "^CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\"")
if(_tables)
    list(GET _tables -1 _board_table)
    string(REGEX REPLACE "^[^\"]*\"([^\"]*)\".*" "\\1" _board_table "${_board_table}")
    get_filename_component(_board_table "${_board_table}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")
endif()

if(NOT "${HTTPS_OTA_FLASH}" STREQUAL "")
    set(_flash "${HTTPS_OTA_FLASH}")
    if(NOT _flash MATCHES "^[1-9][0-9]*$")
        message(FATAL_ERROR "FLASH: expected the MB of flash, 4, 8, 16 or 32, came '${_flash}'")
    endif()
elseif("${_flash}" STREQUAL "")
    message(FATAL_ERROR "${_name} does not say how much flash it has: expected CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y, or of another "
        "size, in its sdkconfig, or FLASH=4 on the make line")
endif()
if(_flash LESS 4)
    message(FATAL_ERROR "${_name} has ${_flash} MB of flash: expected 4 or more, as two slots of less than 2 MB do not hold MicroPython "
        "with its network. If yours has more, say so: FLASH=4")
endif()

set(_table "${HTTPS_OTA_PARTITIONS}")
if("${_table}" STREQUAL "" AND "${HTTPS_OTA_FLASH}" STREQUAL "")
    set(_table "${HTTPS_OTA_BOARD_PARTITIONS}")
    if("${_table}" STREQUAL "" AND EXISTS "${_board_table}")
        file(STRINGS "${_board_table}" _slots REGEX "^[^#,]*,[ \t]*app[ \t]*,[ \t]*(ota_[0-9]+|0x1[0-9a-fA-F])[ \t]*,")
        file(STRINGS "${_board_table}" _otadata REGEX "^[^#,]*,[ \t]*data[ \t]*,[ \t]*(ota|0x00?)[ \t]*,")
        list(LENGTH _slots _slots)
        if(_slots GREATER 1 AND _otadata)
            set(_table "${_board_table}")
        endif()
    endif()
endif()
set(_ours "")
if("${_table}" STREQUAL "")
    if(_flash EQUAL 4)
        set(_ours partitions-4MiB-ota-large.csv)
    else()
        set(_ours partitions-${_flash}MiB-ota.csv)
    endif()
    set(_table "${CMAKE_CURRENT_LIST_DIR}/${_ours}")
    if(NOT EXISTS "${_table}")
        message(FATAL_ERROR "there is no partition table here for ${_flash} MB of flash: give one of your own, PARTITIONS=table.csv")
    endif()
    file(STRINGS "${SDKCONFIG_DEFAULTS}" _offsets REGEX "^CONFIG_PARTITION_TABLE_OFFSET=")
    if(_offsets AND NOT "${_offsets}" MATCHES "=(0x8000|32768)[ \t]*$")
        message(FATAL_ERROR "${_name} has its partition table elsewhere than at 0x8000 (${_offsets}), where those here begin behind it: give one "
            "of your own, PARTITIONS=table.csv")
    endif()
elseif(NOT IS_ABSOLUTE "${_table}" OR NOT EXISTS "${_table}")
    message(FATAL_ERROR "HTTPS_OTA_PARTITIONS: expected the full path of a partition table, came '${_table}'")
endif()
get_filename_component(_table "${_table}" ABSOLUTE)

set(_dir "${CMAKE_BINARY_DIR}/https_ota")
# A board whose table has no file system leaves that to MicroPython (1.26 or later), which makes it at the first start of all that is left
# behind the table: of 4 MB of flash as much as ours has, of more flash more.
if(_ours AND EXISTS "${_board_table}")
    file(STRINGS "${_board_table}" _files REGEX "^[ \t]*(vfs|ffat)[ \t]*,")
    if(NOT _files)
        file(READ "${_table}" _text)
        string(REGEX REPLACE "\nvfs,[^\n]*" "" _text "${_text}")
        set(_table "${_dir}/${_ours}")
        set(_before "")
        if(EXISTS "${_table}")
            file(READ "${_table}" _before)
        endif()
        if(NOT _before STREQUAL _text)
            file(WRITE "${_table}" "${_text}")
        endif()
    endif()
endif()

file(READ "${CMAKE_CURRENT_LIST_DIR}/sdkconfig.https_ota" _more)
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/sdkconfig.window" _lines REGEX "^CONFIG_")
foreach(_line ${_lines})
    string(REGEX REPLACE "=.*" "=" _option "${_line}")
    if(NOT "\n${_board}" MATCHES "\n${_option}")
        string(APPEND _more "${_line}\n")
    endif()
endforeach()
if(_flash EQUAL 4)
    file(READ "${CMAKE_CURRENT_LIST_DIR}/sdkconfig.4MiB" _text)
    string(APPEND _more "${_text}")
endif()
if(NOT "${_flash}" STREQUAL "${_board_flash}")
    if(_board_flash)
        string(APPEND _more "CONFIG_ESPTOOLPY_FLASHSIZE_${_board_flash}MB=n\n")
    endif()
    string(APPEND _more "CONFIG_ESPTOOLPY_FLASHSIZE_${_flash}MB=y\n")
endif()

# ESP-IDF reads the defaults only while there is no sdkconfig. When anything in them changes, the old one has to go,
# or the frozen module would tell one size and mbedTLS have the other.
string(MD5 _sum "${_board}")
set(_sdkconfig "# Made by the build. The defaults before this file have MD5 ${_sum}.
${_more}CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN=${HTTPS_OTA_TLS_IN}
CONFIG_PARTITION_TABLE_CUSTOM=y
CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\"${_table}\"
")
set(_module "# Made by the build; what this firmware was compiled with.
from micropython import const

TLS_IN_CONTENT_LEN = const(${HTTPS_OTA_TLS_IN})
")
set(_before "")
if(EXISTS "${_dir}/sdkconfig")
    file(READ "${_dir}/sdkconfig" _before)
endif()
if(NOT _before STREQUAL _sdkconfig OR NOT EXISTS "${_dir}/https_ota_board.py")
    file(REMOVE "${SDKCONFIG}")
    file(WRITE "${_dir}/sdkconfig" "${_sdkconfig}")
    file(WRITE "${_dir}/https_ota_board.py" "${_module}")
endif()
list(APPEND SDKCONFIG_DEFAULTS "${_dir}/sdkconfig")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/sdkconfig.https_ota"
    "${CMAKE_CURRENT_LIST_DIR}/sdkconfig.window" "${CMAKE_CURRENT_LIST_DIR}/sdkconfig.4MiB")
message(STATUS "https_ota: ${_flash} MB of flash, partition table ${_table}")

# $(GEN_DIR) and $(FROZEN_MANIFEST) in manifests.
set(MICROPY_MANIFEST_GEN_DIR "${_dir}")
set(MICROPY_MANIFEST_FROZEN_MANIFEST "${MICROPY_FROZEN_MANIFEST}")
set(MICROPY_FROZEN_MANIFEST "${CMAKE_CURRENT_LIST_DIR}/frozen.py")
