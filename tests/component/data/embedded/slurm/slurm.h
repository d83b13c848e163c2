/* What the plugin uses of Slurm, for a Slurm that plugin_driver.c plays. */
#ifndef DRIVER_SLURM_H
#define DRIVER_SLURM_H

#define SLURM_BATCH_SCRIPT 0xfffffffb

#endif
