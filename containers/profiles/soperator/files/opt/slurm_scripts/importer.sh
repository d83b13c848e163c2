#!/bin/bash
# Pyxis asks it for an image in place of `enroot import`. What has the same digest is packed once, and kept for all users of the node.
set -euo pipefail

get() {
    local digest file
    digest=$(enroot digest "$1")
    file=/var/cache/enroot-container-images/$digest.sqsh
    # Several steps may ask at the same time, also of several users.
    (umask 0 && touch "$file.lock")
    exec 9< "$file.lock"
    flock 9
    if [[ ! -e $file ]]; then
        rm -f "$file.new"
        enroot import --output "$file.new" "$1" >&2
        chmod 0644 "$file.new"
        mv "$file.new" "$file"
    fi
    echo "$file"
}

case $1 in
    get) get "$2" ;;
    release) ;;
    *) echo "usage: $0 get IMAGE | release" >&2 && exit 1 ;;
esac
