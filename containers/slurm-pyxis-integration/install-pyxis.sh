#!/usr/bin/env bash
# Compiles a release of Pyxis against the Slurm of this very image, and installs it below DESTDIR.
#
# usage: install-pyxis.sh VERSION FOLDER DESTDIR
#   FOLDER holds one v*.tar.gz, the source archive of the release, or of a checkout that calls itself VERSION.
#
# A SPANK plugin records the Slurm it was compiled for, and every other Slurm refuses it ("Incompatible plugin version",
# NVIDIA/pyxis#95): that is why this is not done once for all cells.
set -euo pipefail

version=$1 folder=$2 destination=$3

source_folder=$(mktemp -d)
tar --extract --file "$folder"/v*.tar.gz --directory "$source_folder" --strip-components 1
# Up to 0.20 it is VERSION, later PYXIS_VER.
found=$(sed -n -E 's/^(PYXIS_VER|VERSION)[[:space:]]*[?:]?=[[:space:]]*([^[:space:]]+).*/\2/p' "$source_folder/Makefile" | head -n 1)
[ "$found" = "$version" ] || {
    echo "install-pyxis: the archive holds Pyxis ${found:-of an unknown version}, not $version" >&2
    exit 1
}
make --directory "$source_folder" --jobs "$(nproc)" install prefix=/usr DESTDIR="$destination"
rm -rf "$source_folder"

mkdir -p "$destination/etc/slurm/plugstack.conf.d"
plugin=$(cd "$destination" && find usr -name spank_pyxis.so)
echo "required /$plugin" > "$destination/etc/slurm/plugstack.conf.d/pyxis.conf"
# The name stands relative to slurm.conf's folder, wherever that is.
echo "include /etc/slurm/plugstack.conf.d/*.conf" > "$destination/etc/slurm/plugstack.conf"
