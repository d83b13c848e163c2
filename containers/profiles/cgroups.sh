# Sourced by the node's entry script before any daemon starts, where the settings of a profile use cgroups.
#
# The engine mounts the container's own cgroups read-only. With SYS_ADMIN, which nodes have, they can be made writable.
if [[ $(stat --file-system --format=%T /sys/fs/cgroup) == cgroup2fs ]]; then
    mount -o remount,rw,bind /sys/fs/cgroup || fail "/sys/fs/cgroup can't be made writable"
    mkdir -p /sys/fs/cgroup/init /sys/fs/cgroup/system.slice
    # A group that hands controllers down may hold no process itself.
    while read -r pid; do
        echo "$pid" > /sys/fs/cgroup/init/cgroup.procs || continue # it has ended meanwhile
    done < /sys/fs/cgroup/cgroup.procs
    for group in /sys/fs/cgroup /sys/fs/cgroup/system.slice; do
        for controller in cpuset cpu memory pids io; do echo "+$controller" > "$group/cgroup.subtree_control"; done
    done
else
    for controller in /sys/fs/cgroup/*; do
        mount -o remount,rw,bind "$controller" || fail "$controller can't be made writable"
    done
fi
unset pid group controller
