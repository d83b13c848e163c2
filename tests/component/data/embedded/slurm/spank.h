/* The part of spank(8) that the plugin uses, for a Slurm that plugin_driver.c plays. */
#ifndef DRIVER_SPANK_H
#define DRIVER_SPANK_H

#include <stdint.h>

typedef struct driver *spank_t;
typedef int (*spank_opt_cb_f)(int val, const char *optarg, int remote);
typedef enum { ESPANK_SUCCESS, ESPANK_ENV_EXISTS, ESPANK_ENV_NOEXIST, ESPANK_NOSPACE, ESPANK_ERROR } spank_err_t;
typedef enum { S_CTX_LOCAL, S_CTX_REMOTE, S_CTX_ALLOCATOR } spank_context_t;
typedef enum {
	S_JOB_UID, S_JOB_GID, S_JOB_ID, S_JOB_STEPID, S_JOB_LOCAL_TASK_COUNT, S_JOB_TOTAL_TASK_COUNT,
	S_JOB_SUPPLEMENTARY_GIDS, S_JOB_ENV, S_JOB_ARGV,
} spank_item_t;

struct spank_option {
	char *name, *arginfo, *usage;
	int has_arg, val;
	spank_opt_cb_f cb;
};

#define SPANK_OPTIONS_TABLE_END {0}
#define SPANK_PLUGIN(name, version) extern const char plugin_name[]; const char plugin_name[] = #name;

spank_context_t spank_context(void);
spank_err_t spank_option_register(spank_t spank, struct spank_option *option);
spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...);
spank_err_t spank_getenv(spank_t spank, const char *name, char *buffer, int size);
spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite);
spank_err_t spank_unsetenv(spank_t spank, const char *name);
const char *spank_strerror(spank_err_t error);
void slurm_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void slurm_spank_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

int slurm_spank_init(spank_t spank, int argc, char **argv);
int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv);
int slurm_spank_user_init(spank_t spank, int argc, char **argv);
int slurm_spank_task_init(spank_t spank, int argc, char **argv);
int slurm_spank_task_exit(spank_t spank, int argc, char **argv);
int slurm_spank_job_epilog(spank_t spank, int argc, char **argv);

#endif
