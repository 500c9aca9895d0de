#!/bin/sh
# Bring MicroPython's and mbedTLS's sources to DEST: from Debian's source packages, else by git.
# usage: fetch-sources.sh DEST MPY_VERSION MPY_TAG MPY_GIT MBEDTLS_SERIES DEBIAN_SUITE
set -eu
dest=$(realpath -m "$1") mpy=$2 tag=$3 git_url=$4 mbedtls=$5 suite=$6
part=$dest.part
rm -rf "$part" "$dest"
mkdir -p "$part"

# apt with a state folder of its own: the machine's configuration and package lists stay as they
# are. The mirror is the one the machine already uses; the signature is checked against Debian's key.
from_debian() {
    command -v apt-get >/dev/null || return 1
    uri=$(apt-get indextargets --format '$(REPO_URI)|$(LABEL)' 'Created-By: Packages' 2>/dev/null |
        awk -F'|' '$2 == "Debian" { print $1; exit }')
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -n "$uri" ] && [ -r "$key" ] || return 1
    state=$part/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/src"
    : >"$state/status"
    echo "deb-src [signed-by=$key] $uri $suite main" >"$state/sources.list"
    apt="-q -o Dir::State=$state -o Dir::State::status=$state/status -o Dir::Cache=$state/cache
        -o Dir::Etc::SourceList=$state/sources.list -o Dir::Etc::SourceParts=/dev/null
        -o APT::Sandbox::User=root -o Acquire::Retries=3"
    # shellcheck disable=SC2086  # $apt is a list of words
    (cd "$state/src" && apt-get $apt update && apt-get $apt source --download-only micropython mbedtls) || return 1
    mpy_tar=$(ls "$state"/src/micropython_"$mpy"*.orig.tar.* 2>/dev/null) || return 1
    mbedtls_tar=$(ls "$state"/src/mbedtls_"$mbedtls".*.orig.tar.* 2>/dev/null) || return 1
    mkdir "$part/mpy"
    tar -xf "$mpy_tar" -C "$part/mpy" --strip-components=1 &&
        tar -xf "$mbedtls_tar" -C "$part/mpy/lib/mbedtls" --strip-components=1
}

from_git() {
    command -v git >/dev/null || return 1
    rm -rf "$part/mpy"
    git clone -q --depth 1 --branch "$tag" "$git_url" "$part/mpy" &&
        git -C "$part/mpy" submodule update -q --init --depth 1 lib/mbedtls lib/micropython-lib
}

from_debian || from_git || {
    echo "MicroPython $mpy and mbedTLS $mbedtls could be had neither from Debian's $suite source packages" >&2
    echo "nor from $git_url; give a checkout with submodules: make MPY_DIR=/path/to/micropython" >&2
    exit 1
}
rm -rf "$part/apt"
mv "$part/mpy" "$dest"
rmdir "$part"
