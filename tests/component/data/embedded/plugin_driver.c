/*
 * Plays Slurm for the plugin: `plugin_driver SCENARIO [OPTION[=VALUE]...]` calls its hooks in Slurm's order and prints
 * what they answer. Scenarios: srun, step (three tasks), lost (one of three tasks never joins), epilog.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

enum { TASKS = 3 };

static spank_context_t context;
static struct spank_option options[32];
static int registered;
static gid_t groups[64];
static int groups_length;
extern char **environ;

spank_context_t spank_context(void)
{
	return context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
	(void)spank;
	options[registered++] = *option;
	return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	va_list arguments;

	(void)spank;
	va_start(arguments, item);
	switch (item) {
	case S_JOB_UID: *va_arg(arguments, uid_t *) = getuid(); break;
	case S_JOB_GID: *va_arg(arguments, gid_t *) = getgid(); break;
	case S_JOB_ID: *va_arg(arguments, uint32_t *) = 7; break;
	case S_JOB_STEPID: *va_arg(arguments, uint32_t *) = 0; break;
	case S_JOB_LOCAL_TASK_COUNT: *va_arg(arguments, uint32_t *) = TASKS; break;
	case S_JOB_TOTAL_TASK_COUNT: *va_arg(arguments, uint32_t *) = TASKS; break;
	case S_JOB_SUPPLEMENTARY_GIDS:
		*va_arg(arguments, gid_t **) = groups;
		*va_arg(arguments, int *) = groups_length;
		break;
	case S_JOB_ENV: *va_arg(arguments, char ***) = environ; break;
	default: va_end(arguments); return ESPANK_ERROR;
	}
	va_end(arguments);
	return ESPANK_SUCCESS;
}

spank_err_t spank_getenv(spank_t spank, const char *name, char *buffer, int size)
{
	const char *value = getenv(name);

	(void)spank;
	if (value == NULL)
		return ESPANK_ENV_NOEXIST;
	return snprintf(buffer, (size_t)size, "%s", value) < size ? ESPANK_SUCCESS : ESPANK_NOSPACE;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	(void)spank;
	if (!overwrite && getenv(name) != NULL)
		return ESPANK_ENV_EXISTS;
	return setenv(name, value, overwrite) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
	(void)spank;
	return unsetenv(name) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

const char *spank_strerror(spank_err_t error)
{
	return error == ESPANK_SUCCESS ? "success" : "failure";
}

#define SAY(prefix) \
	va_list arguments; \
	char text[4096]; \
	va_start(arguments, format); \
	vsnprintf(text, sizeof(text), format, arguments); \
	va_end(arguments); \
	printf(prefix ": %s\n", text); \
	fflush(stdout)

void slurm_error(const char *format, ...)
{
	SAY("error");
}

void slurm_spank_log(const char *format, ...)
{
	SAY("log");
}

static void answer(const char *hook, int result)
{
	printf("%s: %d\n", hook, result);
	fflush(stdout);
}

static void give(char *word)
{
	char *value = strchr(word, '=');
	size_t length = value == NULL ? strlen(word) : (size_t)(value - word);

	for (int i = 0; i < registered; i++)
		if (strlen(options[i].name) == length && strncmp(options[i].name, word, length) == 0) {
			/* Slurm calls twice. */
			options[i].cb(options[i].val, value == NULL ? NULL : value + 1, 0);
			options[i].cb(options[i].val, value == NULL ? NULL : value + 1, 0);
			return;
		}
	printf("unrecognized option: %s\n", word);
	exit(2);
}

static const char *known(const char *variable)
{
	return getenv(variable) == NULL ? "(none)" : getenv(variable);
}

/* A task joins, says what it sees, and stays until all have. */
static void task(int wait_fd, int ready_fd)
{
	char byte, directory[4096];
	int result = slurm_spank_task_init(NULL, 0, NULL);

	printf("task_init: %d BOTH=%s IMAGE=%s LANG=%s directory=%s chown=%d\n", result, known("BOTH"), known("IMAGE"),
	       known("LANG"), getcwd(directory, sizeof(directory)), chown("/proc/none", 1, 1));
	fflush(stdout);
	if (write(ready_fd, "", 1) == 1 && read(wait_fd, &byte, 1) > 0)
		exit(9);
	exit(result == 0 ? 0 : 1);
}

static void step(int joining)
{
	int ready[2], go[2], status;
	char byte;

	answer("user_init", slurm_spank_user_init(NULL, 0, NULL));
	if (pipe(ready) < 0 || pipe(go) < 0)
		exit(3);
	for (int i = 0; i < joining; i++)
		if (fork() == 0) {
			close(go[1]);
			task(go[0], ready[1]);
		}
	close(ready[1]); /* a task that dies is noticed */
	for (int i = 0; i < joining; i++)
		if (read(ready[0], &byte, 1) != 1)
			exit(3);
	for (int i = joining; i < TASKS; i++)
		answer("task_exit", slurm_spank_task_exit(NULL, 0, NULL));
	close(go[1]);
	for (int i = 0; i < joining; i++) {
		wait(&status);
		answer("task", WEXITSTATUS(status));
		answer("task_exit", slurm_spank_task_exit(NULL, 0, NULL));
	}
}

int main(int argc, char **argv)
{
	static char job_scope[] = "container_scope=job";
	char *settings[] = {job_scope};
	const char *scenario = argc > 1 ? argv[1] : "";

	groups_length = getgroups(64, groups);
	if (strcmp(scenario, "epilog") == 0) {
		answer("epilog", slurm_spank_job_epilog(NULL, 1, settings));
		answer("epilog", slurm_spank_job_epilog(NULL, 0, NULL));
		return 0;
	}
	context = strcmp(scenario, "srun") == 0 ? S_CTX_LOCAL : S_CTX_REMOTE;
	answer("init", slurm_spank_init(NULL, 1, settings));
	for (int i = 2; i < argc; i++)
		give(argv[i]);
	answer("post_opt", slurm_spank_init_post_opt(NULL, 1, settings));
	if (context == S_CTX_REMOTE)
		step(strcmp(scenario, "lost") == 0 ? TASKS - 1 : TASKS);
	return 0;
}
