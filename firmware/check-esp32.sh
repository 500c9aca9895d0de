#!/bin/sh
# Say what is missing or of another version before ESP-IDF starts, all of it at once.
# usage: check-esp32.sh BOARD BOARD_DIR VARIANT TLS_IN FW_VERSION PARTITIONS FROZEN_MANIFEST
#        MPY_DIR MPY_VERSION MPY_OLDEST MPY_NEWEST MPY_GIT IDF_VERSION IDF_GIT
set -eu
board=$1 home=$2 variant=$3 tls_in=$4 version=$5 partitions=$6 frozen=$7
shift 7
mpy=$1 mpy_want=$2 mpy_oldest=$3 mpy_newest=$4 mpy_git=$5 idf_want=$6 idf_git=$7
idf=${IDF_PATH:-}
bad=
# The ESP-IDF versions that the MicroPython at hand takes, one a line; none while that isn't known.
goes=

say() {
    bad=1
    printf '%s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '    %s\n' "$@" >&2
}

# value FILE NAME: the number behind NAME, in `#define NAME 1` and in `set(NAME 1)`.
value() {
    sed -n "s/^[# a-z(]*[ (]$2[ (]*\([0-9]*\).*/\1/p" "$1" | head -n 1
}

# names FILE...: what * stands for in FOLDER/*/mpconfigboard.cmake and FOLDER/mpconfigvariant_*.cmake.
names() {
    for file; do
        [ ! -f "$file" ] || echo "$file"
    done | sed 's,/mpconfigboard.cmake$,,; s,.*/,,; s,^mpconfigvariant_\(.*\).cmake$,\1,' | tr '\n' ' ' | sed 's/ $//'
}

if [ ! -f "$home/mpconfigboard.cmake" ]; then
    # Without a checkout there is no telling; that it is missing is said below.
    [ -z "$mpy" ] ||
        say "BOARD=$board: $home/mpconfigboard.cmake is not there; expected a board's folder, BOARD_DIR=path, or one of:" \
            "$(names boards/*/mpconfigboard.cmake "$mpy"/ports/esp32/boards/*/mpconfigboard.cmake)"
elif [ -n "$variant" ] && [ ! -f "$home/mpconfigvariant_$variant.cmake" ]; then
    say "BOARD_VARIANT=$variant: $board has no such variant; leave it away, or expected one of:" \
        "$(names "$home"/mpconfigvariant_*.cmake)"
fi
if [ -n "$frozen" ] && [ ! -f "$frozen" ]; then
    say "FROZEN_MANIFEST=$frozen: there is no such file"
elif [ -n "$frozen" ] && grep -qF '$(BOARD_DIR)/manifest.py' "$frozen" && [ ! -f "$home/manifest.py" ]; then
    say "FROZEN_MANIFEST=$frozen: it includes \$(BOARD_DIR)/manifest.py, but $board has no manifest of its own. Write" \
        'include("$(PORT_DIR)/boards/manifest.py")' "which is upstream's for all boards; this package is added to it"
fi
case $tls_in in
'' | *[!0-9]* | 0* | ??????*) ok=0 ;;
*) ok=$((tls_in >= 512 && tls_in <= 16384)) ;;
esac
[ "$ok" = 1 ] || say "TLS_IN=$tls_in: expected 512 to 16384, the TLS input buffer in bytes (4096 without TLS_IN=)"
case $version in
'' | [!0-9A-Za-z]* | *[!0-9A-Za-z.+_-]* | ????????????????????????????????*)
    say "FW_VERSION=$version: expected 1 to 31 of 0-9 A-Z a-z . + - _, such as 1.4.0" ;;
esac
[ -z "$partitions" ] || [ -f "$partitions" ] || say "PARTITIONS=$partitions: there is no such file"

# older A B: is version A before B?
older() {
    [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

submodules='lib/berkeley-db-1.xx lib/micropython-lib'
if [ -z "$mpy" ]; then
    say "MPY_DIR is not set: expected a checkout of MicroPython $mpy_want with submodules. Get it once:" \
        "git clone -b v$mpy_want $mpy_git" \
        "git -C micropython submodule update --init $submodules" \
        "and give it to make: MPY_DIR=/path/to/micropython"
elif [ ! -f "$mpy/py/mpconfig.h" ] || [ ! -f "$mpy/ports/esp32/CMakeLists.txt" ]; then
    say "MPY_DIR=$mpy: expected a checkout of MicroPython, but py/mpconfig.h or ports/esp32/CMakeLists.txt is not there"
else
    h=$mpy/py/mpconfig.h
    release=$(value "$h" MICROPY_VERSION_MAJOR).$(value "$h" MICROPY_VERSION_MINOR)
    mpy_have=$release.$(value "$h" MICROPY_VERSION_MICRO)
    [ "$(value "$h" MICROPY_VERSION_PRERELEASE)" != 1 ] || mpy_have=$mpy_have-preview
    get_mpy="git -C $mpy fetch origin tag v$mpy_want && git -C $mpy checkout v$mpy_want"
    if older "$release" "$mpy_oldest"; then
        say "MPY_DIR=$mpy: MicroPython $mpy_have is too old, this takes $mpy_oldest or later:" "$get_mpy"
    elif [ "$mpy_have" != "$mpy_want" ]; then
        tried=
        ! older "$mpy_newest" "$release" || tried=" (nobody tried it: $mpy_newest is the newest that was)"
        say "MPY_DIR=$mpy: expected MicroPython $mpy_want, came $mpy_have. Either" "$get_mpy" \
            "or say that $mpy_have is what you want: MPY_VERSION=$mpy_have$tried"
    fi
    # One paragraph of its README says which.
    goes=$(sed -n '/ESP-IDF changes quickly/,/^$/p' "$mpy/ports/esp32/README.md" 2>/dev/null |
        grep -o 'v[0-9][0-9.]*[0-9]' | sed 's/^\(v[0-9]*\.[0-9]*\)\.0$/\1/' | sort -uV)
    # Later versions have it from Espressif's registry.
    ! grep -q 'GIT_SUBMODULES lib/tinyusb' "$mpy/ports/esp32/esp32_common.cmake" || submodules="$submodules lib/tinyusb"
    for m in $submodules; do
        if [ -z "$(ls -A "$mpy/$m" 2>/dev/null)" ]; then
            say "MPY_DIR=$mpy: the submodule $m is empty. Get it once:" \
                "git -C $mpy submodule update --init $submodules"
            break
        fi
    done
fi

# takes VERSION: does that MicroPython take this ESP-IDF?
takes() {
    [ -z "$goes" ] || printf '%s\n' "$goes" | grep -qxF "$1"
}

# near VERSION: or another release of the same series? That is no pair which anybody tried, but nobody says that it fails.
near() {
    for v in $goes; do
        case $1. in "$(echo "$v" | cut -d . -f 1-2)".*) return 0 ;; esac
    done
    return 1
}

# One that goes with the MicroPython that is there.
takes "$idf_want" && get=$idf_want || get=$(printf '%s\n' "$goes" | tail -n 1)
get_idf="git clone -b $get --depth 1 --recursive --shallow-submodules $idf_git"
if [ -z "$idf" ]; then
    say "IDF_PATH is not set: expected ESP-IDF $get. Get it once:" \
        "$get_idf" "esp-idf/install.sh" "and in each new shell:" ". esp-idf/export.sh"
elif [ ! -f "$idf/tools/cmake/version.cmake" ]; then
    say "IDF_PATH=$idf: expected ESP-IDF, but tools/cmake/version.cmake is not there"
else
    c=$idf/tools/cmake/version.cmake
    idf_have=v$(value "$c" IDF_VERSION_MAJOR).$(value "$c" IDF_VERSION_MINOR)
    patch=$(value "$c" IDF_VERSION_PATCH)
    # Its tags leave a last 0 out.
    [ "$patch" = 0 ] || idf_have=$idf_have.$patch
    word="say that $idf_have is what you want: IDF_VERSION=$idf_have"
    if [ "$idf_have" = "$idf_want" ] && near "$idf_have"; then
        :
    elif ! takes "$idf_have"; then
        say "IDF_PATH=$idf: ESP-IDF $idf_have does not go with MicroPython $mpy_have, whose ports/esp32/README.md names" \
            "$(echo $goes)" "get one of them, in another folder:" "$get_idf" "esp-idf/install.sh && . esp-idf/export.sh"
        [ "$get" = "$idf_want" ] || say "and say that it is what you want: IDF_VERSION=$get"
        ! near "$idf_have" || say "or, as it is near to one of them, $word"
    elif [ "$idf_have" = "$idf_want" ]; then
        :
    elif takes "$idf_want"; then
        say "IDF_PATH=$idf: expected ESP-IDF $idf_want, came $idf_have. Either get the other one, in another folder:" \
            "$get_idf" "esp-idf/install.sh && . esp-idf/export.sh" "or $word"
    else
        say "IDF_PATH=$idf: ESP-IDF $idf_want does not go with MicroPython $mpy_have, but $idf_have does:" "$word"
    fi
    command -v idf.py >/dev/null || say "idf.py is not in PATH: in each new shell" ". $idf/export.sh"
fi
[ -z "$bad" ]
