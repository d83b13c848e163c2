#!/usr/bin/env bash
# Installs a release of enroot from its Debian packages, and configures it for a node that is itself a container.
#
# usage: install-enroot.sh VERSION FOLDER
#   FOLDER holds the two packages of this version: enroot_*.deb and enroot+caps_*.deb.
set -euo pipefail

version=$1 folder=$2

dpkg --install "$folder"/enroot_*.deb "$folder"/enroot+caps_*.deb

# Without its file capabilities enroot imports nothing, and says so only when the first job runs.
for helper in enroot-aufs2ovlfs enroot-mksquashovlfs; do
    getcap "$(command -v "$helper")" | grep -q cap_sys_admin || {
        echo "install-enroot: $helper has no file capabilities; this engine's storage drops them" >&2
        exit 1
    }
done

# Hardly any compression: what is imported here lives for minutes, and packing took three quarters of the time of a first
# job. zstd is for the layers that enroot keeps.
squash_options="-noI -noD -noF -noX -no-duplicates"
# From 4.1.0 on enroot asks mksquashfs to stop at the first error; our options must not take away what is its own default.
if grep -q -- -exit-on-error "$(command -v enroot)"; then squash_options+=" -exit-on-error"; fi

mkdir -p /etc/enroot/enroot.conf.d
# enroot evaluates $(…) itself, per user and at run time.
cat > /etc/enroot/enroot.conf.d/50-node.conf <<EOF
ENROOT_RUNTIME_PATH /run/enroot/user-\$(id -u)
ENROOT_CACHE_PATH /var/lib/enroot-data/cache/user-\$(id -u)
ENROOT_DATA_PATH /var/lib/enroot-data/data/user-\$(id -u)
ENROOT_TEMP_PATH /var/lib/enroot-data/tmp
ENROOT_SQUASH_OPTIONS $squash_options
ENROOT_ZSTD_OPTIONS --fast=100
ENROOT_ALLOW_HTTP yes
EOF

found=$(enroot version)
[ "$found" = "$version" ] || { echo "install-enroot: the packages hold enroot $found, not $version" >&2; exit 1; }
