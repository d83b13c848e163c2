#!/bin/sh
# Sites put a link here; a profile has files, so this one names the hook that the node's enroot has brought.
exec /usr/share/enroot/hooks.d/50-slurm-pytorch.sh
