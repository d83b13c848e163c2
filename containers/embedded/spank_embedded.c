/*
 * The SPANK half of the embedded runtime: it understands the container options of srun and sbatch, lets the `enroot`
 * command beside it prepare one container per step and node, and moves every task of the step into that container.
 *
 * What happens where:
 *   srun, sbatch   register and check the options (a wrong one must be refused before anything is allocated)
 *   slurmstepd     user_init   shared memory for the tasks of this step on this node
 *                  task_init   the first task starts `enroot step start`, every task joins the container's namespaces
 *                  task_exit   the last task runs `enroot step end` (save, remove)
 *
 * Everything that takes more than a few lines (fetching, unpacking, mounting) is done by the command, not here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

#ifndef EMBEDDED_COMMAND
#define EMBEDDED_COMMAND "/usr/bin/enroot"
#endif

/* Where the command finds the place for the output of the container's first process, which is shown when it fails. */
#define LOG_FD 3

SPANK_PLUGIN(embedded, 1)

struct text_list {
	char **items;
	size_t length;
};

struct mount {
	char *source, *target, *flags;
};

static struct {
	char *image, *workdir, *name, *name_flag, *save;
	struct text_list env;
	struct mount *mounts;
	size_t mounts_length;
	int mount_home, remap_root, writable, entrypoint, entrypoint_log; /* -1: not given */
	bool unshare_net, unshare_ipc, unshare_uts;
} options = {.mount_home = -1, .remap_root = -1, .writable = -1, .entrypoint = -1, .entrypoint_log = -1};

/* What the administrator wrote behind the plugin's path in plugstack.conf. */
static struct {
	bool run_entrypoint, no_sbatch, scope_job;
} settings;

/* Shared by slurmstepd and the tasks it forks. */
struct shared {
	pthread_mutex_t mutex;
	unsigned int tries;     /* tasks that came to prepare the container; only the first one does */
	bool ready;
	atomic_uint joined, left;
	char directory[PATH_MAX]; /* the job's working directory on the node */
	pid_t init;             /* the step's first process in the container, stopped until all tasks have joined */
};

static struct {
	bool enabled, failed;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int groups_length;
	uint32_t job, step, local_tasks, total_tasks;
	char *script; /* the batch script's path, to be visible inside */
	struct shared *shared;
} step;

/* ---- small helpers ---------------------------------------------------------------------------------------------- */

static void *must(void *pointer)
{
	if (pointer == NULL) {
		slurm_error("embedded: out of memory");
		_exit(1);
	}
	return pointer;
}

static char *copy(const char *text)
{
	return must(strdup(text));
}

static char *format(const char *pattern, ...)
{
	char *text = NULL;
	va_list arguments;

	va_start(arguments, pattern);
	if (vasprintf(&text, pattern, arguments) < 0)
		text = NULL;
	va_end(arguments);
	return must(text);
}

static void append(struct text_list *list, char *text)
{
	list->items = must(realloc(list->items, (list->length + 2) * sizeof(char *)));
	list->items[list->length++] = text;
	list->items[list->length] = NULL;
}

static bool contains(const struct text_list *list, const char *text)
{
	for (size_t i = 0; i < list->length; i++)
		if (strcmp(list->items[i], text) == 0)
			return true;
	return false;
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static int text_option(char **place, const char *option, const char *value)
{
	if (value == NULL || *value == '\0') {
		slurm_error("embedded: %s: argument required", option);
		return -1;
	}
	/* Slurm hands over the same value more than once; only a different one is a contradiction. */
	if (*place != NULL) {
		if (strcmp(*place, value) == 0)
			return 0;
		slurm_error("embedded: %s specified multiple times", option);
		return -1;
	}
	*place = copy(value);
	return 0;
}

static int flag_option(int *place, const char *option, const char *opposite, int value)
{
	if (*place != -1 && *place != value) {
		slurm_error("embedded: both %s and %s were specified", option, opposite);
		return -1;
	}
	*place = value;
	return 0;
}

static int on_image(int val, const char *value, int remote)
{
	(void)val, (void)remote;
	return text_option(&options.image, "--container-image", value);
}

static int add_mount(const char *source, const char *target, const char *flags)
{
	struct mount *added;

	if (strchr("./", source[0]) == NULL && strcmp(source, "tmpfs") != 0 && strcmp(source, "umount") != 0) {
		slurm_error("embedded: --container-mounts: the source must be a path that begins with / or ., "
			    "\"tmpfs\" or \"umount\": %s", source);
		return -1;
	}
	if (strchr("./", target[0]) == NULL) {
		slurm_error("embedded: --container-mounts: the target must be a path that begins with / or .: %s", target);
		return -1;
	}
	for (size_t i = 0; i < options.mounts_length; i++) {
		added = &options.mounts[i];
		if (!strcmp(added->source, source) && !strcmp(added->target, target) && !strcmp(added->flags, flags))
			return 0;
	}
	options.mounts = must(realloc(options.mounts, (options.mounts_length + 1) * sizeof(struct mount)));
	added = &options.mounts[options.mounts_length++];
	*added = (struct mount){copy(source), copy(target), copy(flags)};
	return 0;
}

static int on_mounts(int val, const char *value, int remote)
{
	char *specifications, *rest, *one;
	int result = 0;

	(void)val, (void)remote;
	if (value == NULL || *value == '\0') {
		slurm_error("embedded: --container-mounts: argument required");
		return -1;
	}
	rest = specifications = copy(value);
	while (result == 0 && (one = strsep(&rest, ",")) != NULL) {
		char *whole = copy(one), *flags = one;
		char *source = strsep(&flags, ":");
		char *target = flags == NULL ? source : strsep(&flags, ":");

		if (*source == '\0' || *target == '\0') {
			slurm_error("embedded: --container-mounts: invalid format: %s", whole);
			result = -1;
		} else {
			result = add_mount(source, target, flags == NULL ? "" : flags);
		}
		free(whole);
	}
	free(specifications);
	return result;
}

static int on_workdir(int val, const char *value, int remote)
{
	(void)val, (void)remote;
	return text_option(&options.workdir, "--container-workdir", value);
}

static int on_name(int val, const char *value, int remote)
{
	static const char *const known[] = {"auto", "create", "exec", "no_exec"};
	static char *given;
	char *flag;

	(void)val, (void)remote;
	if (text_option(&given, "--container-name", value) < 0)
		return -1;
	if (options.name != NULL)
		return 0;
	options.name = copy(value);
	flag = strchr(options.name, ':');
	if (flag != NULL)
		*flag++ = '\0';
	if (options.name[0] == '\0') {
		slurm_error("embedded: --container-name: empty name");
		return -1;
	}
	if (flag == NULL || *flag == '\0')
		flag = "auto";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(flag, known[i]) == 0) {
			options.name_flag = copy(flag);
			return 0;
		}
	slurm_error("embedded: --container-name: the flag must be \"auto\", \"create\", \"exec\" or \"no_exec\": %s", flag);
	return -1;
}

static int on_save(int val, const char *value, int remote)
{
	(void)val, (void)remote;
	if (value != NULL && *value != '\0' && value[strlen(value) - 1] == '/') {
		slurm_error("embedded: --container-save: target is a directory: %s", value);
		return -1;
	}
	return text_option(&options.save, "--container-save", value);
}

static int on_mount_home(int val, const char *value, int remote)
{
	(void)value, (void)remote;
	return flag_option(&options.mount_home, "--container-mount-home", "--no-container-mount-home", val);
}

static int on_remap_root(int val, const char *value, int remote)
{
	(void)value, (void)remote;
	return flag_option(&options.remap_root, "--container-remap-root", "--no-container-remap-root", val);
}

static int on_writable(int val, const char *value, int remote)
{
	(void)value, (void)remote;
	return flag_option(&options.writable, "--container-writable", "--container-readonly", val);
}

static int on_entrypoint(int val, const char *value, int remote)
{
	(void)value, (void)remote;
	return flag_option(&options.entrypoint, "--container-entrypoint", "--no-container-entrypoint", val);
}

static int on_entrypoint_log(int val, const char *value, int remote)
{
	(void)value, (void)remote;
	options.entrypoint_log = val;
	return 0;
}

static int on_env(int val, const char *value, int remote)
{
	char *names, *rest, *name;
	int result = 0;

	(void)val, (void)remote;
	if (value == NULL || *value == '\0') {
		slurm_error("embedded: --container-env: argument required");
		return -1;
	}
	rest = names = copy(value);
	while (result == 0 && (name = strsep(&rest, ",")) != NULL) {
		if (*name == '\0') {
			slurm_error("embedded: --container-env: invalid format: %s", value);
			result = -1;
		} else if (!contains(&options.env, name)) {
			append(&options.env, copy(name));
		}
	}
	free(names);
	return result;
}

static int on_unshare(int val, const char *value, int remote)
{
	char *names, *rest, *name;
	int result = 0;

	(void)val, (void)remote;
	if (value == NULL || *value == '\0') {
		slurm_error("embedded: --container-unshare: argument required");
		return -1;
	}
	rest = names = copy(value);
	while (result == 0 && (name = strsep(&rest, ",")) != NULL) {
		if (strcmp(name, "net") == 0) {
			options.unshare_net = true;
		} else if (strcmp(name, "ipc") == 0) {
			options.unshare_ipc = true;
		} else if (strcmp(name, "uts") == 0) {
			options.unshare_uts = true;
		} else {
			slurm_error("embedded: --container-unshare: unknown namespace '%s' (net, ipc, uts)", name);
			result = -1;
		}
	}
	free(names);
	return result;
}

#define TEXT(name, argument, usage, handler) {name, argument, "[embedded] " usage, 1, 0, handler}
#define FLAG(name, value, usage, handler) {name, NULL, "[embedded] " usage, 0, value, handler}

static struct spank_option table[] = {
	TEXT("container-image", "[USER@][REGISTRY#]IMAGE[:TAG]|PATH", "image to run in: a registry's reference, or the "
	     "path (with a / or ./ in front) of a squashfs file on the node", on_image),
	TEXT("container-mounts", "SRC[:DST[:FLAGS]][,...]", "bind mounts; FLAGS are joined with +, as in ro+nosuid", on_mounts),
	TEXT("container-workdir", "PATH", "working directory inside the container", on_workdir),
	TEXT("container-name", "NAME[:auto|create|exec|no_exec]", "keep the container's file system under this name, or "
	     "use the one that is there", on_name),
	TEXT("container-save", "PATH", "write the container's file system to a squashfs file when the step ends", on_save),
	FLAG("container-mount-home", 1, "bind mount the home directory", on_mount_home),
	FLAG("no-container-mount-home", 0, "do not mount the home directory", on_mount_home),
	FLAG("container-remap-root", 1, "be root (and only oneself) inside the container", on_remap_root),
	FLAG("no-container-remap-root", 0, "keep one's own user id inside the container", on_remap_root),
	FLAG("container-entrypoint", 1, "run the image's entrypoint first", on_entrypoint),
	FLAG("no-container-entrypoint", 0, "do not run the image's entrypoint", on_entrypoint),
	FLAG("container-entrypoint-log", 1, "show what the entrypoint prints", on_entrypoint_log),
	FLAG("container-writable", 1, "make the container's file system writable", on_writable),
	FLAG("container-readonly", 0, "make the container's file system read-only", on_writable),
	TEXT("container-env", "NAME[,NAME...]", "variables whose value in the job wins over the image's", on_env),
	TEXT("container-unshare", "NS[,NS...]", "new namespaces for the container: net, ipc, uts", on_unshare),
	SPANK_OPTIONS_TABLE_END
};

/* ---- options from the environment --------------------------------------------------------------------------------- */

static const char *variable(spank_t spank, const char *name, char *buffer, size_t size)
{
	const char *value = buffer;

	if (spank_context() != S_CTX_REMOTE)
		value = getenv(name);
	else if (spank_getenv(spank, name, buffer, (int)size) != ESPANK_SUCCESS)
		value = NULL;
	return value;
}

static int truth(const char *text)
{
	static const char *const yes[] = {"1", "true", "t", "yes", "y"}, *const no[] = {"0", "false", "f", "no", "n"};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcasecmp(text, yes[i]) == 0)
			return 1;
		if (strcasecmp(text, no[i]) == 0)
			return 0;
	}
	return -1;
}

/* PYXIS_CONTAINER_* stand in for options that were not given on the command line. */
static int options_from_environment(spank_t spank)
{
	char buffer[32768];
	const char *value;
	int result = 0, yes;

#define FROM(name) (value = variable(spank, "PYXIS_CONTAINER_" name, buffer, sizeof(buffer)))
#define TEXT_FROM(name, missing, handler) \
	if ((missing) && FROM(name) != NULL) \
		result |= handler(0, value, 0)
#define FLAG_FROM(name, place, handler, mask) \
	if (options.place == -1 && FROM(name) != NULL && (yes = truth(value)) >= 0) \
		result |= handler(yes ^ (mask), NULL, 0)

	TEXT_FROM("IMAGE", options.image == NULL, on_image);
	TEXT_FROM("MOUNTS", options.mounts_length == 0, on_mounts);
	TEXT_FROM("WORKDIR", options.workdir == NULL, on_workdir);
	TEXT_FROM("NAME", options.name == NULL, on_name);
	TEXT_FROM("SAVE", options.save == NULL, on_save);
	TEXT_FROM("ENV", options.env.length == 0, on_env);
	TEXT_FROM("UNSHARE", !options.unshare_net && !options.unshare_ipc && !options.unshare_uts, on_unshare);
	FLAG_FROM("MOUNT_HOME", mount_home, on_mount_home, 0);
	FLAG_FROM("REMAP_ROOT", remap_root, on_remap_root, 0);
	FLAG_FROM("ENTRYPOINT", entrypoint, on_entrypoint, 0);
	FLAG_FROM("ENTRYPOINT_LOG", entrypoint_log, on_entrypoint_log, 0);
	FLAG_FROM("WRITABLE", writable, on_writable, 0);
	FLAG_FROM("READONLY", writable, on_writable, 1);
	return result;
}

/* Pyxis' own settings; those that choose between its ways to the same end are known and change nothing here. */
static int read_settings(int argc, char **argv)
{
	static const char *const accepted[] = {"runtime_path=", "use_enroot_load=", "use_squashfuse="};
	struct { const char *name; bool *place; bool on; } switches[] = {
		{"execute_entrypoint=", &settings.run_entrypoint, true}, {"sbatch_support=", &settings.no_sbatch, false},
	};

	for (int i = 0; i < argc; i++) {
		const char *wrong = "unknown configuration option";

		for (size_t k = 0; k < sizeof(accepted) / sizeof(accepted[0]); k++)
			if (strncmp(argv[i], accepted[k], strlen(accepted[k])) == 0)
				wrong = NULL;
		for (size_t k = 0; k < sizeof(switches) / sizeof(switches[0]); k++)
			if (strncmp(argv[i], switches[k].name, strlen(switches[k].name)) == 0) {
				int value = truth(argv[i] + strlen(switches[k].name));

				wrong = value < 0 ? "invalid value" : NULL;
				*switches[k].place = (value == 1) == switches[k].on;
			}
		if (strncmp(argv[i], "container_scope=", 16) == 0) {
			settings.scope_job = strcmp(argv[i] + 16, "job") == 0;
			wrong = settings.scope_job || strcmp(argv[i] + 16, "global") == 0 ? NULL : "invalid value";
		}
		if (strncmp(argv[i], "importer=", 9) == 0)
			wrong = "the embedded runtime has no other importer";
		if (wrong != NULL) {
			slurm_error("embedded: %s: %s", wrong, argv[i]);
			slurm_error("embedded: failed to parse configuration");
			return -1;
		}
	}
	return 0;
}

static bool container_wanted(void)
{
	const struct { bool given; const char *option; } idle[] = {
		{options.mounts_length > 0, "--container-mounts"},
		{options.workdir != NULL, "--container-workdir"},
		{options.save != NULL, "--container-save"},
		{options.mount_home != -1, "--[no-]container-mount-home"},
		{options.remap_root != -1, "--[no-]container-remap-root"},
		{options.entrypoint != -1, "--[no-]container-entrypoint"},
		{options.entrypoint_log != -1, "--container-entrypoint-log"},
		{options.writable == 0, "--container-readonly"},
		{options.writable == 1, "--container-writable"},
	};

	if (options.image != NULL || options.name != NULL)
		return true;
	for (size_t i = 0; i < sizeof(idle) / sizeof(idle[0]); i++)
		if (idle[i].given)
			slurm_error("embedded: ignoring %s because neither --container-image nor --container-name is set",
				    idle[i].option);
	return false;
}

/* ---- starting the command ------------------------------------------------------------------------------------------ */

/* A job must not decide where the node keeps images, nor how it talks to registries. */
static bool denied(const char *entry)
{
	static const char *const names[] = {
		"PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "SLURM_PROCID", "SLURM_LOCALID",
		"SLURM_TASK_PID", "ENROOT_LIBRARY_PATH", "ENROOT_SYSCONF_PATH", "ENROOT_RUNTIME_PATH", "ENROOT_CACHE_PATH",
		"ENROOT_DATA_PATH", "ENROOT_TEMP_PATH", "ENROOT_TRANSFER_RETRIES", "ENROOT_CONNECT_TIMEOUT",
		"ENROOT_MAX_CONNECTIONS", "ENROOT_ALLOW_HTTP",
	};
	size_t length = strcspn(entry, "=");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == length && strncmp(entry, names[i], length) == 0)
			return true;
	return false;
}

static void switch_on(struct text_list *environment, const char *name, int value)
{
	if (value != -1)
		append(environment, format("%s=%s", name, value ? "yes" : "no"));
}

static struct text_list command_environment(spank_t spank)
{
	struct text_list environment = {0};
	char **job = NULL;

	/* Later entries do not override earlier ones for every reader, so the fixed ones come first and win. */
	append(&environment, copy("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	switch_on(&environment, "ENROOT_MOUNT_HOME", options.mount_home);
	switch_on(&environment, "ENROOT_REMAP_ROOT", options.remap_root);
	switch_on(&environment, "ENROOT_ROOTFS_WRITABLE", options.writable);
	switch_on(&environment, "ENROOT_UNSHARE_NET", options.unshare_net ? 1 : -1);
	switch_on(&environment, "ENROOT_UNSHARE_IPC", options.unshare_ipc ? 1 : -1);
	switch_on(&environment, "ENROOT_UNSHARE_UTS", options.unshare_uts ? 1 : -1);
	size_t fixed = environment.length;

	if (spank_get_item(spank, S_JOB_ENV, &job) == ESPANK_SUCCESS && job != NULL)
		for (size_t i = 0; job[i] != NULL; i++) {
			bool shadowed = denied(job[i]);

			for (size_t k = 0; k < fixed && !shadowed; k++) {
				size_t length = strcspn(environment.items[k], "=");
				shadowed = strncmp(job[i], environment.items[k], length + 1) == 0;
			}
			if (!shadowed)
				append(&environment, copy(job[i]));
		}
	return environment;
}

static void close_above(int last)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned int)last + 1, ~0U, 0) == 0)
		return;
#endif
	for (int fd = last + 1; fd < 65536; fd++)
		close(fd);
}

/* Only async-signal-safe work between fork and exec, except for setgroups; slurmstepd's threads do not hold its lock. */
static pid_t run_command(char *const arguments[], char *const environment[], int log_fd)
{
	pid_t parent = getpid(), child = fork();
	sigset_t none;
	int null_fd, oom_fd;

	if (child != 0)
		return child;

	/* A killed task must take the import with it; the command turns this into an orderly clean-up. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		_exit(127);

	/* slurmstepd blocks signals around here, and an import that can't be cancelled would hang the job's end. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int number = 1; number < NSIG; number++)
		if (number != SIGKILL && number != SIGSTOP)
			signal(number, SIG_DFL);

	oom_fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (oom_fd >= 0 && write(oom_fd, "0", 1) < 0)
		close(oom_fd);
	/* It may sit on a number that is about to be reused. */
	log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 16);
	null_fd = open("/dev/null", O_RDWR);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
		_exit(127);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0) /* slurmd's epilog may have none */
			dup2(null_fd, fd);
	dup2(log_fd >= 0 ? log_fd : null_fd, LOG_FD);
	close_above(LOG_FD);

	if (geteuid() == 0 || getuid() == 0) {
		if (setgroups((size_t)step.groups_length, step.groups) < 0 || setresgid(step.gid, step.gid, step.gid) < 0 ||
		    setresuid(step.uid, step.uid, step.uid) < 0)
			_exit(127);
		/* Changing the user clears it. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
			_exit(127);
	}
	execve(EMBEDDED_COMMAND, arguments, environment);
	_exit(127);
}

static void show_log(int log_fd, bool as_error)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t length;
	FILE *stream;

	if (lseek(log_fd, 0, SEEK_SET) < 0 || (stream = fdopen(dup(log_fd), "r")) == NULL)
		return;
	while ((length = getline(&line, &size, stream)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		if (as_error)
			slurm_error("embedded:     %s", line);
		else
			slurm_spank_log("%s", line);
	}
	free(line);
	fclose(stream);
}

/* ---- the container of a step ----------------------------------------------------------------------------------------- */

static char *container_name(void)
{
	return settings.scope_job ? format("%u_%s", step.job, options.name) : copy(options.name);
}

static bool entrypoint_wanted(void)
{
	return options.entrypoint == 1 || (options.entrypoint == -1 && settings.run_entrypoint);
}

static struct text_list start_arguments(void)
{
	struct text_list arguments = {0};
#define ADD2(key, value) append(&arguments, copy(key)), append(&arguments, (value))

	append(&arguments, copy("enroot"));
	append(&arguments, copy("step"));
	append(&arguments, copy("start"));
	ADD2("--id", format("%u.%u", step.job, step.step));
	ADD2("--verbose", copy(step.total_tasks <= 1 ? "yes" : "no"));
	ADD2("--entrypoint", copy(entrypoint_wanted() ? "yes" : "no"));
	if (options.image != NULL)
		ADD2("--image", copy(options.image));
	if (options.name != NULL) {
		ADD2("--name", container_name());
		ADD2("--name-flag", copy(options.name_flag));
	}
	for (size_t i = 0; i < options.env.length; i++)
		ADD2("--env", copy(options.env.items[i]));
	for (size_t i = 0; i < options.mounts_length; i++) {
		append(&arguments, copy("--mount"));
		append(&arguments, copy(options.mounts[i].source));
		append(&arguments, copy(options.mounts[i].target));
		append(&arguments, copy(options.mounts[i].flags));
	}
	if (step.script != NULL)
		ADD2("--script", copy(step.script));
	return arguments;
}

/* Run by the first task that gets here. On success the container's first process is stopped and waits for us. */
static int start_container(spank_t spank, struct shared *shared)
{
	struct text_list arguments = start_arguments(), environment = command_environment(spank);
	int log_fd = memfd_create("embedded-log", MFD_CLOEXEC), status = 0;
	pid_t child = run_command(arguments.items, environment.items, log_fd);

	if (child < 0) {
		slurm_error("embedded: could not start the container runtime: %s", strerror(errno));
		return -1;
	}
	while (waitpid(child, &status, WUNTRACED) < 0)
		if (errno != EINTR) {
			slurm_error("embedded: lost the container runtime: %s", strerror(errno));
			return -1;
		}
	if (!WIFSTOPPED(status)) {
		if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
			slurm_error("embedded: could not run " EMBEDDED_COMMAND);
		show_log(log_fd, true);
		slurm_error("embedded: container start failed with %s %d", WIFEXITED(status) ? "error code" : "signal",
			    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		if (entrypoint_wanted())
			slurm_error("embedded: if the image has an unusual entrypoint, try using --no-container-entrypoint");
		return -1;
	}
	shared->init = child;
	if (entrypoint_wanted() && options.entrypoint_log == 1)
		show_log(log_fd, false);
	close(log_fd);
	return 0;
}

/* The last task to join lets the container's first process end; the tasks keep the namespaces alive. */
static void release_container(struct shared *shared)
{
	if (shared->init > 0)
		kill(shared->init, SIGCONT);
	shared->init = 0;
}

static int lock(struct shared *shared)
{
	int result = pthread_mutex_lock(&shared->mutex);

	if (result == EOWNERDEAD) { /* the task that prepared the container was killed: nobody may use what is there */
		pthread_mutex_consistent(&shared->mutex);
		return 0;
	}
	return result == 0 ? 0 : -1;
}

static int prepare_container(spank_t spank, struct shared *shared)
{
	bool ready;

	if (lock(shared) < 0)
		return -1;
	if (shared->tries++ == 0) {
		if (getcwd(shared->directory, sizeof(shared->directory)) == NULL)
			shared->directory[0] = '\0';
		shared->ready = start_container(spank, shared) == 0;
	}
	ready = shared->ready;
	pthread_mutex_unlock(&shared->mutex);
	return ready ? 0 : -1;
}

/* ---- a task joins ------------------------------------------------------------------------------------------------------- */

/* Image and job meet here: the image's value wins, unless --container-env names the variable. */
static int import_environment(spank_t spank, pid_t init)
{
	static const char *const locale[] = {"LANG", "LANGUAGE", "LC_ALL"};
	char *path = format("/proc/%d/environ", init), *entry = NULL, *value;
	FILE *stream = fopen(path, "r");
	size_t size = 0;
	spank_err_t error;
	int result = 0;

	free(path);
	if (stream == NULL) {
		slurm_error("embedded: could not read the container's environment: %s", strerror(errno));
		return -1;
	}
	/* The job's locale is rarely installed in the image. */
	for (size_t i = 0; i < sizeof(locale) / sizeof(locale[0]); i++)
		if (!contains(&options.env, locale[i]))
			spank_unsetenv(spank, locale[i]);
	while (getdelim(&entry, &size, '\0', stream) > 0) {
		value = strchr(entry, '=');
		if (value == NULL)
			continue;
		*value++ = '\0';
		error = spank_setenv(spank, entry, value, !contains(&options.env, entry));
		if (error != ESPANK_SUCCESS && error != ESPANK_ENV_EXISTS) {
			slurm_error("embedded: could not set %s: %s", entry, spank_strerror(error));
			result = -1;
		}
	}
	free(entry);
	fclose(stream);
	return result;
}

static int open_directory(pid_t process)
{
	char *path = format("/proc/%d/cwd", process);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	free(path);
	return fd;
}

static int namespace_fd(pid_t process, const char *name)
{
	char *path = format("/proc/%d/ns/%s", process, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	free(path);
	return fd;
}

/*
 * There is one user id in the container's user namespace, so a package manager that gives files to other users or
 * changes its own fails. These calls therefore report success without doing anything.
 */
static int pretend_ownership(void)
{
#define PRETEND(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO)
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
#if defined(__x86_64__)
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
#elif defined(__aarch64__)
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_AARCH64, 1, 0),
#else
#error "the embedded runtime knows amd64 and arm64"
#endif
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#if defined(SYS_chown) && defined(SYS_lchown)
		PRETEND(SYS_chown), PRETEND(SYS_lchown),
#endif
		PRETEND(SYS_fchown), PRETEND(SYS_fchownat), PRETEND(SYS_setuid), PRETEND(SYS_setgid), PRETEND(SYS_setreuid),
		PRETEND(SYS_setregid), PRETEND(SYS_setresuid), PRETEND(SYS_setresgid), PRETEND(SYS_setgroups),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		slurm_error("embedded: could not install the seccomp filter: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int join_container(pid_t init)
{
	/* /proc/PID is out of reach once the user namespace has changed, so everything is opened first. */
	static const struct { const char *name; int kind; } kinds[] = {
		{"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
		{"net", CLONE_NEWNET}, {"mnt", CLONE_NEWNS},
	};
	enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
	int fds[KINDS], directory = open_directory(init);

	for (size_t i = 0; i < KINDS; i++) {
		struct stat theirs, ours;
		char *own = format("/proc/self/ns/%s", kinds[i].name);

		fds[i] = namespace_fd(init, kinds[i].name);
		if (fds[i] >= 0 && fstat(fds[i], &theirs) == 0 && stat(own, &ours) == 0 && theirs.st_ino == ours.st_ino) {
			close(fds[i]);
			fds[i] = -1;
		} else if (fds[i] < 0) {
			slurm_error("embedded: the container ended before the task could join it");
			return -1;
		}
		free(own);
	}
	for (size_t i = 0; i < KINDS; i++)
		if (fds[i] >= 0 && setns(fds[i], kinds[i].kind) < 0) {
			slurm_error("embedded: could not join the container's %s namespace: %s", kinds[i].name, strerror(errno));
			return -1;
		}
	if (options.workdir != NULL) {
		if (chdir(options.workdir) < 0) {
			slurm_error("embedded: couldn't chdir to %s: %s", options.workdir, strerror(errno));
			return -1;
		}
	} else if (directory < 0 || fchdir(directory) < 0) {
		slurm_error("embedded: couldn't chdir to the container's working directory: %s", strerror(errno));
		return -1;
	}
	return pretend_ownership();
}

/* ---- hooks that Slurm calls ---------------------------------------------------------------------------------------------- */

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	spank_context_t where = spank_context();

	if (read_settings(argc, argv) < 0)
		return -1;
	if (where != S_CTX_LOCAL && where != S_CTX_ALLOCATOR && where != S_CTX_REMOTE)
		return 0;
	if (where == S_CTX_ALLOCATOR && settings.no_sbatch)
		return 0;
	for (struct spank_option *option = table; option->name != NULL; option++)
		if (spank_option_register(spank, option) != ESPANK_SUCCESS) {
			slurm_error("embedded: could not register --%s", option->name);
			return -1;
		}
	return 0;
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	gid_t *groups = NULL;

	(void)argc, (void)argv;
	if (options_from_environment(spank) != 0)
		return -1;
	if (!container_wanted() || spank_context() != S_CTX_REMOTE)
		return 0;
	if (spank_get_item(spank, S_JOB_UID, &step.uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &step.gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ID, &step.job) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_STEPID, &step.step) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &step.local_tasks) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_TOTAL_TASK_COUNT, &step.total_tasks) != ESPANK_SUCCESS) {
		slurm_error("embedded: could not learn about the step");
		return -1;
	}
	if (spank_get_item(spank, S_JOB_SUPPLEMENTARY_GIDS, &groups, &step.groups_length) == ESPANK_SUCCESS &&
	    step.groups_length > 0) {
		step.groups = must(calloc((size_t)step.groups_length, sizeof(gid_t)));
		memcpy(step.groups, groups, (size_t)step.groups_length * sizeof(gid_t));
	}
	step.enabled = true;
	return 0;
}

int slurm_spank_user_init(spank_t spank, int argc, char **argv)
{
	pthread_mutexattr_t attributes;
	char **script = NULL;
	int script_length = 0;

	(void)argc, (void)argv;
	if (!step.enabled)
		return 0;
	step.shared = mmap(NULL, sizeof(*step.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (step.shared == MAP_FAILED) {
		/* srun does not notice a failure of this hook, so task_init reports it. */
		step.shared = NULL;
		return 0;
	}
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&step.shared->mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);

	if (step.step == SLURM_BATCH_SCRIPT &&
	    spank_get_item(spank, S_JOB_ARGV, &script_length, &script) == ESPANK_SUCCESS && script_length > 0)
		step.script = copy(script[0]);
	return 0;
}

int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
	pid_t init;

	(void)argc, (void)argv;
	if (!step.enabled)
		return 0;
	if (step.shared == NULL) {
		slurm_error("embedded: no memory to share between the tasks of this step");
		return -1;
	}
	if (prepare_container(spank, step.shared) < 0)
		return -1;
	init = step.shared->init;
	if (import_environment(spank, init) < 0 || join_container(init) < 0)
		return -1;
	if (atomic_fetch_add(&step.shared->joined, 1) + 1 == step.local_tasks)
		release_container(step.shared);
	return 0;
}

int slurm_spank_task_exit(spank_t spank, int argc, char **argv)
{
	struct text_list arguments = {0}, environment;
	int status = 0;
	pid_t child;

	(void)argc, (void)argv;
	if (!step.enabled || step.shared == NULL || step.shared->tries == 0)
		return 0;
	if (atomic_fetch_add(&step.shared->left, 1) + 1 != step.local_tasks)
		return 0;
	if (step.shared->init > 0) /* some task never joined, so nobody let it go */
		kill(step.shared->init, SIGKILL);

	append(&arguments, copy("enroot"));
	append(&arguments, copy("step"));
	append(&arguments, copy("end"));
	ADD2("--id", format("%u.%u", step.job, step.step));
	if (options.name != NULL)
		ADD2("--name", container_name());
	/* A step that was interrupted before all of it ran has nothing worth saving. */
	if (options.save != NULL && step.shared->joined == step.local_tasks)
		ADD2("--save", options.save[0] == '/' ? copy(options.save)
						      : format("%s/%s", step.shared->directory, options.save));
	environment = command_environment(spank);
	child = run_command(arguments.items, environment.items, -1);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (child < 0 || status != 0) {
		slurm_error("embedded: could not save or remove the container of step %u.%u", step.job, step.step);
		return -1;
	}
	return 0;
}

/* Called where slurmd runs its epilog: containers whose scope is a job end with it. */
int slurm_spank_job_epilog(spank_t spank, int argc, char **argv)
{
	struct text_list arguments = {0}, environment = {0};
	int status = 0;
	pid_t child;

	if (read_settings(argc, argv) < 0)
		return -1;
	if (!settings.scope_job)
		return 0;
	if (spank_get_item(spank, S_JOB_UID, &step.uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &step.gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ID, &step.job) != ESPANK_SUCCESS)
		return -1;
	append(&arguments, copy("enroot"));
	append(&arguments, copy("step"));
	append(&arguments, copy("epilog"));
	ADD2("--id", format("%u", step.job));
	append(&environment, copy("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	child = run_command(arguments.items, environment.items, -1);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return child > 0 && status == 0 ? 0 : -1;
}
