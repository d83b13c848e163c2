# Sourced by the node's entry script before any daemon starts, where jobs get mount namespaces of their own
# (job_container/tmpfs). It is the first: what follows mounts something.
#
# slurmd binds the namespace that it makes for a job to a file, and the kernel takes only one with a higher id than slurmd's own.
# Linux 6.18 and later give ids out in blocks, one to each CPU, so that depends on chance ("ns base mount failed: Invalid
# argument"); on a real machine slurmd lives in the first namespace of all. So does this node, with one below all that come.
if [[ -z ${NODE_LOGIN:-} ]]; then
    export NODE_LOGIN cpus
    NODE_LOGIN=$(< /etc/ssh/sshd_config.d/05-password.conf) # the password is gone when this script runs again
    cpus=$(awk '/^Cpus_allowed_list/ { print $2 }' /proc/self/status)
    probe='for range in ${cpus//,/ }; do
        for cpu in $(seq "${range%-*}" "${range#*-}"); do
            taskset --cpu-list "$cpu" unshare --mount=/run/probe/namespace true || exit 1
            umount /run/probe/namespace
        done
    done 2> /dev/null'
    mkdir -p /run/probe
    mount -t tmpfs -o size=64k probe /run/probe
    mount --make-private /run/probe
    touch /run/probe/namespace
    if ! bash -c "$probe"; then
        for range in ${cpus//,/ }; do
            for cpu in $(seq "${range%-*}" "${range#*-}"); do
                within=(taskset --cpu-list "$cpu" unshare --mount --propagation unchanged bash -c)
                "${within[@]}" "$probe" || continue
                umount /run/probe
                say "in the mount namespace of CPU $cpu"
                exec "${within[@]}" 'taskset --cpu-list --pid "$cpus" $$ > /dev/null && exec /usr/local/sbin/node-entrypoint'
            done
        done
        fail "no CPU's new mount namespaces are below those of all others; jobs can't get one of their own"
    fi
    umount /run/probe
    unset probe range cpu within
else
    echo "$NODE_LOGIN" > /etc/ssh/sshd_config.d/05-password.conf
fi
unset NODE_LOGIN cpus
