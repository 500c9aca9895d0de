#!/bin/sh
# ESP-IDF drops settings it doesn't know, and those whose conditions don't hold, without a word: compare.
# usage: check-sdkconfig.sh SDKCONFIG FRAGMENT...
set -eu
sdkconfig=$1
shift
cat "$@" | awk -v sdkconfig="$sdkconfig" '
    BEGIN {
        while ((getline line <sdkconfig) > 0)
            if (line ~ /^CONFIG_/) have[substr(line, 1, index(line, "=") - 1)] = substr(line, index(line, "=") + 1)
    }
    # What is switched off is absent there. Of several lines for one name the last counts.
    /^CONFIG_/ { name = substr($0, 1, index($0, "=") - 1); want[name] = substr($0, index($0, "=") + 1) }
    END {
        for (name in want) {
            w = want[name] == "" ? "n" : want[name]
            h = have[name] == "" ? "n" : have[name]
            if (w != h) { printf "%s: expected %s=%s, came %s\n", sdkconfig, name, w, h; bad = 1 }
        }
        exit bad
    }' >&2 || {
    echo "this version of ESP-IDF does not know these settings, or something they depend on is off" >&2
    exit 1
}
