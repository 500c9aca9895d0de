#!/bin/sh
# A build folder belongs to one checkout of MicroPython and one ESP-IDF, each of one version: with others in it, CMake or a
# compiler would end in the middle, for reasons that tell nobody what to do. What it was made with is noted in it.
# usage: check-build.sh FW_BUILD MPY_DIR MPY_VERSION IDF_PATH IDF_VERSION
set -eu
build=$1
now="MicroPython $3 in $2, ESP-IDF $5 in $4"
note=$build/https_ota/made-with
home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
if [ -f "$note" ]; then
    before=$(cat "$note")
elif [ -n "$home" ] && [ "$home" != "$2/ports/esp32" ]; then
    before="MicroPython in ${home%/ports/esp32}"
else
    before=$now
fi
if [ "$before" != "$now" ]; then
    {
        echo "$build was made with other sources:"
        echo "    then  $before"
        echo "    now   $now"
        echo "go on with the former, or begin anew: rm -r $build"
    } >&2
    exit 1
fi
mkdir -p "$build/https_ota"
echo "$now" >"$note"
