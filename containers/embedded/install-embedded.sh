#!/bin/sh
# Builds and installs the embedded runtime, in two steps so that no compiler stays in an image:
#   install-embedded.sh build DIR     compile the plugin against this image's own Slurm, put it into DIR
#   install-embedded.sh install DIR   install plugin (from DIR), command and settings into this image
# Packages: build needs gcc, libc6-dev, dpkg-dev and libslurm-dev; install needs python3, skopeo, squashfs-tools and zstd there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
usage() {
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
}
[ $# -eq 2 ] || usage

case $1 in
build)
    mkdir -p "$2"
    # The distribution's own flags, as if it were one of its packages: fortified, stack protector, relro, bind now.
    export DEB_BUILD_MAINT_OPTIONS=hardening=+all
    # shellcheck disable=SC2046 # several words
    gcc -std=gnu11 $(dpkg-buildflags --get CFLAGS) $(dpkg-buildflags --get CPPFLAGS) \
        -Wall -Wextra -Werror -Wno-missing-field-initializers -fPIC -shared -s $(dpkg-buildflags --get LDFLAGS) \
        -o "$2/spank_embedded.so" "$here/spank_embedded.c"
    ;;
install)
    for program in python3 skopeo mksquashfs unsquashfs zstd; do
        command -v "$program" >/dev/null || {
            echo "install-embedded.sh: $program is missing in this image" >&2
            exit 1
        }
    done
    install -D -m 755 "$2/spank_embedded.so" /usr/lib/embedded-runtime/spank_embedded.so
    install -d /usr/lib/embedded-runtime/embedded_runtime
    install -m 644 "$here"/embedded_runtime/*.py /usr/lib/embedded-runtime/embedded_runtime/
    python3 -m compileall -q /usr/lib/embedded-runtime
    install -D -m 755 "$here/enroot" /usr/bin/enroot
    install -D -m 644 "$here/enroot.conf" /etc/enroot/enroot.conf
    install -d /etc/slurm/plugstack.conf.d
    echo 'required /usr/lib/embedded-runtime/spank_embedded.so' >/etc/slurm/plugstack.conf.d/embedded.conf
    install -D -m 644 "$here/node-folders.sh" /usr/local/lib/node-entrypoint.d/embedded.sh
    ;;
*) usage ;;
esac
