# Sourced by the node's entry script before any daemon starts, where containers get devices of their own (ENROOT_RESTRICT_DEV).
#
# enroot then mounts /dev/log into each, and starts none without it. A machine has it from its log daemon; here nobody listens.
if [[ ! -e /dev/log ]]; then
    python3 -c 'import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind("/dev/log")' || fail "/dev/log can't be made"
    chmod 0666 /dev/log
fi
