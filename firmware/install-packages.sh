#!/bin/sh
# Install the Debian packages named as arguments that are missing; say what is missing when that can't be done.
# Of "new-name|old-name" it is the first that this release of Debian has.
set -eu

names() {
    for p in "$@"; do
        case $p in
        *"|"*)
            old=${p#*|} p=${p%|*}
            apt-cache show --quiet "$p" >/dev/null 2>&1 || p=$old
            ;;
        esac
        echo "$p"
    done
}

find_missing() {
    missing=
    for p in $(names "$@"); do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
}

find_missing "$@"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "missing Debian packages, install them with:  apt-get install$missing" >&2
    exit 1
fi
apt="$sudo apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
fail() {
    cat "$log" >&2
    rm -f "$log"
    exit 1
}
$apt update >"$log" 2>&1 || fail
find_missing "$@" # apt may only now know a package's new name
echo "installing:$missing"
# shellcheck disable=SC2086  # a list of words
$apt install -y --no-install-recommends $missing >"$log" 2>&1 || fail
rm -f "$log"
