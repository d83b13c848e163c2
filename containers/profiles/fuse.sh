# Sourced by the node's entry script before any daemon starts, where Pyxis mounts squashfs files (use_squashfuse).
#
# That is done as the job's user. udev lets all users of a machine open /dev/fuse; a node has the mode that this machine's has.
if [[ $(stat --format %a /dev/fuse) != *6 ]]; then
    chmod 0666 /dev/fuse || fail "users can't be let to /dev/fuse"
fi
