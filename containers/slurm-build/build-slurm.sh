#!/usr/bin/env bash
# Compiles Slurm from a source archive, and installs it below DESTDIR.
#
# usage: build-slurm.sh ARCHIVE VERSION DESTDIR OPTION...
#   ARCHIVE is the source archive of a release or of a checkout, packed in any way that tar knows; it holds one folder. The
#   options are configure's.
#
# Beside Slurm, DESTDIR gets usr/share/slurm-build/packages: the Debian packages whose libraries the programs need.
set -euo pipefail

archive=$1 version=$2 destination=$3
shift 3

fail() { printf 'build-slurm: %s\n' "$*" >&2; exit 1; }

source_folder=/usr/src/slurm
mkdir -p "$source_folder"
tar --extract --file "$archive" --directory "$source_folder" --strip-components 1 --no-same-owner
[[ -s $source_folder/META && -x $source_folder/configure ]] || fail "$archive is no source archive of Slurm: it has no META or configure"
grep -Eq '^[[:space:]]*Name:[[:space:]]*slurm[[:space:]]*$' "$source_folder/META" || fail "$archive is no source archive of Slurm: META names another project"
found=$(sed -n 's/^[[:space:]]*Version:[[:space:]]*//p' "$source_folder/META")
[[ $found == "$version" ]] || fail "$archive is Slurm $found, not $version"

# The distribution's own flags, without debug information. Slurm's plugins need lazy binding (SchedMD's packages say so, too).
export DEB_BUILD_MAINT_OPTIONS=hardening=+all,-bindnow DEB_CFLAGS_STRIP=-g DEB_CXXFLAGS_STRIP=-g
CFLAGS=$(dpkg-buildflags --get CFLAGS) CPPFLAGS=$(dpkg-buildflags --get CPPFLAGS) LDFLAGS=$(dpkg-buildflags --get LDFLAGS)
export CFLAGS CPPFLAGS LDFLAGS
# Releases of one line differ in few files, and so do a checkout's commits.
export CC="ccache gcc" CXX="ccache g++"
export CCACHE_BASEDIR=$source_folder CCACHE_NOHASHDIR=1

cd "$source_folder"
./configure "$@" || { tail -n 40 config.log >&2; fail "configure failed"; }
make --jobs "$(nproc)" --output-sync=line
make install DESTDIR="$destination"
make -C contribs/pmi install DESTDIR="$destination"
make -C contribs/pmi2 install DESTDIR="$destination"
cd /
rm -rf "$source_folder"

# configure leaves out, and says nothing, what it finds no library for. Debian's packages for nodes have all of these.
for plugin in accounting_storage_mysql.so auth_jwt.so auth_munge.so cgroup_v2.so job_submit_lua.so mpi_pmi2.so mpi_pmix.so \
    serializer_json.so serializer_yaml.so; do
    [[ -n $(find "$destination/usr" -name "$plugin") ]] || fail "the plugin $plugin was not built"
done

find "$destination" -name '*.la' -delete
rm -rf "$destination/usr/share/doc" "$destination/usr/share/man"
find "$destination/usr" -type f \( -perm /111 -o -name '*.so*' \) -exec sh -c \
    'for file; do ! head -c 4 "$file" | grep -q ELF || strip --strip-unneeded "$file"; done' _ {} +

# owner FILE: the package that a library belongs to. With merged /usr dpkg knows it by one of two paths, and complains of the
# other.
owner() {
    { dpkg-query --search "$1" "/usr$1" "${1#/usr}" 2> /dev/null || true; } | sed -n '1s/:.*//p'
}

mkdir -p "$destination/usr/share/slurm-build"
# The plugin for PMIx opens its library by name.
mapfile -t libraries < <(
    find "$destination/usr" -type f \( -perm /111 -o -name '*.so*' \) -exec ldd {} + 2> /dev/null |
        sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort --unique
    readlink --canonicalize "$(find /usr/lib -name libpmix.so.2 | head -n 1)"
)
for library in "${libraries[@]}"; do
    [[ $library == "$destination"* ]] || owner "$library"
done | sort --unique > "$destination/usr/share/slurm-build/packages"
[[ -s $destination/usr/share/slurm-build/packages ]] || fail "no package of the libraries was found"
