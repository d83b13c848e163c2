# Sourced by the node's entry script before any daemon starts, where the controller hands out the configuration
# (SlurmctldParameters=enable_configless): a compute node then has none of its own.
if [[ $NODE_ROLE == compute ]]; then
    controller=$(sed -n 's/^SlurmctldHost=//p' /etc/slurm/slurm.conf)
    rm -rf /etc/slurm/*.conf /etc/slurm/*.conf.d
    slurmd() {
        # Without a controller that answers, slurmd would end.
        until (exec 3<> "/dev/tcp/$controller/6817") 2> /dev/null; do sleep 0.2; done
        exec "$(type -P slurmd)" --conf-server "$controller:6817" "$@"
    }
else
    # plugstack.conf is handed out where nothing says where it lies, and as it is: what it includes by a path is not.
    sed --in-place '/^PlugStackConfig=/d' /etc/slurm/slurm.conf
    cat /etc/slurm/plugstack.conf.d/*.conf > /etc/slurm/plugstack.conf
fi
