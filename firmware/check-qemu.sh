#!/bin/sh
# Say what is missing for firmware that is to run in an emulated ESP32-C3, all of it at once.
# usage: check-qemu.sh QEMU MPY_DIR
set -eu
qemu=$1 mpy=$2 bad=

say() {
    bad=1
    printf '%s\n' "$1" >&2
    shift
    printf '    %s\n' "$@" >&2
}

if ! command -v "$qemu" >/dev/null; then
    say "$qemu is not in PATH: expected Espressif's qemu. Get it once:" \
        "${IDF_PATH:-esp-idf}/tools/idf_tools.py install qemu-riscv32" "and in each new shell:" \
        ". ${IDF_PATH:-esp-idf}/export.sh" "or say where it is: QEMU=/path/to/qemu-system-riscv32"
elif ! "$qemu" -M help | grep -q '^esp32c3 '; then
    say "QEMU=$qemu has no machine esp32c3: expected Espressif's, that of a distribution has none. Get it once:" \
        "${IDF_PATH:-esp-idf}/tools/idf_tools.py install qemu-riscv32" "or say where it is: QEMU=/path/to/qemu-system-riscv32"
elif ! "$qemu" -netdev help | grep -qx user; then
    say "QEMU=$qemu has no user network: expected a build with libslirp" \
        "or say where another one is: QEMU=/path/to/qemu-system-riscv32"
fi
if [ -f "$mpy/ports/esp32/CMakeLists.txt" ] && [ ! -f "$mpy/ports/esp32/boards/ESP32_GENERIC_C3/mpconfigvariant_QEMU.cmake" ]; then
    say "MPY_DIR=$mpy has no qemu variant of ESP32_GENERIC_C3, which upstream has since 1.29. Either" \
        "git -C $mpy fetch origin && git -C $mpy checkout origin/master    # and say which version that is: MPY_VERSION=" \
        "or bring the two commits to what is there: git -C $mpy cherry-pick -X theirs b8a9782a2b f71a2316ee"
fi
[ -z "$bad" ]
