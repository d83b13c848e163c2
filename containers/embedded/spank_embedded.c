/*
 * The SPANK half of the embedded runtime: it makes the container options known to srun and sbatch, lets the `enroot`
 * command beside it prepare one container per step and node, and moves every task of the step into that container.
 *
 * What happens where:
 *   srun, sbatch   `enroot step check` reads the options (a wrong one must be refused before anything is allocated)
 *   slurmstepd     user_init   memory and a channel that the tasks of this step on this node share
 *                  task_init   the first task runs `enroot step start`, every task joins the container's namespaces
 *                  task_exit   the last task runs `enroot step end` (save, remove)
 *
 * What an option means, and what is said about a wrong one, is the command's business: it gets the options as they were
 * written, and replies with the few facts that are needed here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
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
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

#ifndef EMBEDDED_COMMAND
#define EMBEDDED_COMMAND "/usr/bin/enroot"
#endif

/* Where the command finds the places for what its container says (shown when it fails) and for its reply. */
enum { LOG_FD = 3, REPLY_FD = 4 };

SPANK_PLUGIN(embedded, 1)

struct words {
	char **items; /* NULL at the end; no array when there is none */
	size_t length;
};

/* A list of one function's own, freed when it returns. */
#define WORDS __attribute__((cleanup(discard))) struct words

static void discard(struct words *words)
{
	for (size_t i = 0; i < words->length; i++)
		free(words->items[i]);
	free(words->items);
}

static struct words given;    /* options, NAME or NAME=VALUE */
static struct words settings; /* what the administrator wrote behind the plugin's path in plugstack.conf */

/* Shared by slurmstepd and the tasks it forks. */
struct shared {
	pthread_mutex_t mutex;
	unsigned int tries; /* tasks that came to prepare the container; only the first one does */
	atomic_uint joined, left;
};

static struct {
	bool enabled;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	int groups_length;
	uint32_t job, step, local_tasks, total_tasks;
	char *script;   /* the batch script's path, to be visible inside */
	int channel[2]; /* holds one message with the descriptors of the container */
	struct shared *shared;
} step = {.channel = {-1, -1}};

/*
 * The container of the step. `process` is the /proc folder of its first process, which is stopped until all tasks have
 * joined. Unlike the number of a process, it never comes to mean another one.
 */
struct container {
	int process, reply;
};

/* ---- small helpers ---------------------------------------------------------------------------------------------- */

static void *must(void *pointer)
{
	if (pointer == NULL) {
		slurm_error("embedded: out of memory");
		_exit(1);
	}
	return pointer;
}

__attribute__((format(printf, 1, 2))) static char *format(const char *pattern, ...)
{
	char *text = NULL;
	va_list arguments;

	va_start(arguments, pattern);
	if (vasprintf(&text, pattern, arguments) < 0)
		text = NULL;
	va_end(arguments);
	return must(text);
}

/* Takes over the text. */
static void append(struct words *words, char *text)
{
	words->items = must(realloc(words->items, (words->length + 2) * sizeof(char *)));
	words->items[words->length++] = text;
	words->items[words->length] = NULL;
}

static void append_all(struct words *words, const struct words *more)
{
	for (size_t i = 0; i < more->length; i++)
		append(words, format("%s", more->items[i]));
}

static bool contains(const struct words *words, const char *text)
{
	for (size_t i = 0; i < words->length; i++)
		if (strcmp(words->items[i], text) == 0)
			return true;
	return false;
}

/* What follows KEY= in the first word that begins so; NULL when there is none. */
static const char *value_of(const struct words *words, const char *key)
{
	size_t length = strlen(key);

	for (size_t i = 0; i < words->length; i++)
		if (strncmp(words->items[i], key, length) == 0 && words->items[i][length] == '=')
			return words->items[i] + length + 1;
	return NULL;
}

/* A file as words, each ended by the delimiter. Takes over the path; errno is set when it could not be opened. */
static struct words words_of(char *path, int delimiter)
{
	struct words words = {0};
	FILE *stream = fopen(path, "re");
	char *word = NULL;
	size_t size = 0;
	ssize_t length;

	free(path);
	if (stream == NULL)
		return words;
	while ((length = getdelim(&word, &size, delimiter, stream)) > 0) {
		if (word[length - 1] == delimiter)
			word[length - 1] = '\0';
		append(&words, format("%s", word));
	}
	free(word);
	fclose(stream);
	errno = 0;
	return words;
}

static bool switched_off(const char *setting)
{
	static const char *const no[] = {"0", "false", "f", "no", "n"};
	const char *value = value_of(&settings, setting);

	for (size_t i = 0; value != NULL && i < sizeof(no) / sizeof(no[0]); i++)
		if (strcasecmp(value, no[i]) == 0)
			return true;
	return false;
}

/* ---- options ---------------------------------------------------------------------------------------------------- */

static int on_option(int number, const char *value, int remote);

#define TEXT(name, argument, usage) {name, argument, "[embedded] " usage, 1, 0, on_option}
#define FLAG(name, usage) {name, NULL, "[embedded] " usage, 0, 0, on_option}

static struct spank_option table[] = {
	TEXT("container-image", "[USER@][REGISTRY#]IMAGE[:TAG]|PATH", "image to run in: a registry's reference, or the "
	     "path (with a / or ./ in front) of a squashfs file on the node"),
	TEXT("container-mounts", "SRC[:DST[:FLAGS]][,...]", "bind mounts; FLAGS are joined with +, as in ro+nosuid"),
	TEXT("container-workdir", "PATH", "working directory inside the container"),
	TEXT("container-name", "NAME[:auto|create|exec|no_exec]", "keep the container's file system under this name, or "
	     "use the one that is there"),
	TEXT("container-save", "PATH", "write the container's file system to a squashfs file when the step ends"),
	FLAG("container-mount-home", "bind mount the home directory"),
	FLAG("no-container-mount-home", "do not mount the home directory"),
	FLAG("container-remap-root", "be root (and only oneself) inside the container"),
	FLAG("no-container-remap-root", "keep one's own user id inside the container"),
	FLAG("container-entrypoint", "run the image's entrypoint first"),
	FLAG("no-container-entrypoint", "do not run the image's entrypoint"),
	FLAG("container-entrypoint-log", "show what the entrypoint prints"),
	FLAG("container-writable", "make the container's file system writable"),
	FLAG("container-readonly", "make the container's file system read-only"),
	TEXT("container-env", "NAME[,NAME...]", "variables whose value in the job wins over the image's"),
	TEXT("container-unshare", "NS[,NS...]", "new namespaces for the container: net, ipc, uts"),
	SPANK_OPTIONS_TABLE_END
};

/* Slurm hands over the same option more than once. */
static int on_option(int number, const char *value, int remote)
{
	const struct spank_option *option = &table[number];
	char *word = option->has_arg ? format("%s=%s", option->name, value == NULL ? "" : value) : format("%s", option->name);

	(void)remote;
	if (contains(&given, word))
		free(word);
	else
		append(&given, word);
	return 0;
}

static bool container_wanted(spank_t spank)
{
	char start[2];

	return value_of(&given, "container-image") != NULL || value_of(&given, "container-name") != NULL ||
	       spank_getenv(spank, "PYXIS_CONTAINER_IMAGE", start, sizeof(start)) != ESPANK_ENV_NOEXIST ||
	       spank_getenv(spank, "PYXIS_CONTAINER_NAME", start, sizeof(start)) != ESPANK_ENV_NOEXIST;
}

/* ---- starting the command ------------------------------------------------------------------------------------------ */

/* The job's environment, without what would decide which programs and libraries the command runs. */
static struct words command_environment(spank_t spank)
{
	struct words environment = {0};
	char **job = NULL;

	append(&environment, format("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	if (spank != NULL && spank_get_item(spank, S_JOB_ENV, &job) == ESPANK_SUCCESS && job != NULL)
		for (size_t i = 0; job[i] != NULL; i++)
			if (strncmp(job[i], "PATH=", 5) != 0 && strncmp(job[i], "LD_", 3) != 0)
				append(&environment, format("%s", job[i]));
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
static pid_t start_command(const struct words *arguments, char *const environment[], int log_fd, int reply_fd)
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
	/* They may sit on numbers that are about to be reused. */
	log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 16);
	reply_fd = fcntl(reply_fd, F_DUPFD_CLOEXEC, 16);
	null_fd = open("/dev/null", O_RDWR);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
		_exit(127);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0) /* slurmd's epilog may have none */
			dup2(null_fd, fd);
	dup2(log_fd >= 0 ? log_fd : null_fd, LOG_FD);
	dup2(reply_fd >= 0 ? reply_fd : null_fd, REPLY_FD);
	close_above(REPLY_FD);

	if (geteuid() == 0 || getuid() == 0) {
		if (setgroups((size_t)step.groups_length, step.groups) < 0 || setresgid(step.gid, step.gid, step.gid) < 0 ||
		    setresuid(step.uid, step.uid, step.uid) < 0)
			_exit(127);
		/* Changing the user clears it. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
			_exit(127);
	}
	execve(EMBEDDED_COMMAND, arguments->items, environment);
	_exit(127);
}

/* Wait until the command has ended or, with WUNTRACED, stopped; -1 when it can't be started or waited for. */
static int wait_for(pid_t child, int flags)
{
	int status = 0;

	if (child < 0) {
		slurm_error("embedded: could not start the container runtime: %s", strerror(errno));
		return -1;
	}
	while (waitpid(child, &status, flags) < 0)
		if (errno != EINTR) {
			slurm_error("embedded: lost the container runtime: %s", strerror(errno));
			return -1;
		}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		slurm_error("embedded: could not run " EMBEDDED_COMMAND);
	return status;
}

/* Run the command to its end. */
static int run_command(const struct words *arguments, char *const environment[], int log_fd)
{
	return wait_for(start_command(arguments, environment, log_fd, -1), 0) == 0 ? 0 : -1;
}

static void show_log(int log_fd, const char *indent)
{
	WORDS lines = words_of(format("/proc/self/fd/%d", log_fd), '\n');

	for (size_t i = 0; i < lines.length; i++) {
		if (indent == NULL)
			slurm_spank_log("%s", lines.items[i]);
		else
			slurm_error("embedded: %s%s", indent, lines.items[i]);
	}
}

static struct words command_line(const char *verb, const struct words *facts, bool with_options)
{
	struct words arguments = {0};

	append(&arguments, format("enroot"));
	append(&arguments, format("step"));
	append(&arguments, format("%s", verb));
	append_all(&arguments, facts);
	if (with_options) {
		append(&arguments, format("--"));
		append_all(&arguments, &given);
		append(&arguments, format("--"));
		append_all(&arguments, &settings);
	}
	return arguments;
}

/* ---- the container of a step ----------------------------------------------------------------------------------------- */

/* Leave the descriptors where every task and slurmstepd itself can take copies of them. */
static int publish(const struct container *container)
{
	union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(*container))]; } control = {0};
	struct iovec content = {.iov_base = "", .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};

	control.header = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(*container)),
	};
	memcpy(CMSG_DATA(&control.header), container, sizeof(*container));
	return sendmsg(step.channel[1], &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -1;
}

/* Take copies of the descriptors, which stay for the others; -1 in both when there is no container. */
static struct container published(void)
{
	union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(struct container))]; } control = {0};
	struct container container = {-1, -1};
	char byte;
	struct iovec content = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &content, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};

	if (recvmsg(step.channel[0], &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1 &&
	    message.msg_controllen >= CMSG_LEN(sizeof(container)) && control.header.cmsg_type == SCM_RIGHTS)
		memcpy(&container, CMSG_DATA(&control.header), sizeof(container));
	return container;
}

static struct words reply_of(const struct container *container)
{
	return words_of(format("/proc/self/fd/%d", container->reply), '\0');
}

/* Run by the first task that gets here. On success the container's first process is stopped and waits for us. */
static void start_container(spank_t spank)
{
	struct container container = {-1, memfd_create("embedded-reply", MFD_CLOEXEC)};
	WORDS facts = {0}, environment = command_environment(spank);
	int log_fd = memfd_create("embedded-log", MFD_CLOEXEC), status;
	pid_t child;

	append(&facts, format("id=%u.%u", step.job, step.step));
	append(&facts, format("tasks=%u", step.total_tasks));
	if (step.script != NULL)
		append(&facts, format("script=%s", step.script));

	WORDS arguments = command_line("start", &facts, true);
	child = start_command(&arguments, environment.items, log_fd, container.reply);
	status = wait_for(child, WUNTRACED);

	WORDS reply = reply_of(&container);
	if (status != -1 && WIFSTOPPED(status)) {
		/* It is our child and not yet waited for to its end, so the number is still its own. */
		char *path = format("/proc/%d", child);

		container.process = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		free(path);
		if (container.process < 0 || publish(&container) < 0) {
			slurm_error("embedded: could not hand the container to the tasks: %s", strerror(errno));
			kill(child, SIGKILL);
		}
		if (value_of(&reply, "log") != NULL)
			show_log(log_fd, NULL);
	} else if (status != -1) {
		show_log(log_fd, "    ");
		slurm_error("embedded: container start failed with %s %d", WIFEXITED(status) ? "error code" : "signal",
			    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		if (value_of(&reply, "hint") != NULL)
			slurm_error("embedded: %s", value_of(&reply, "hint"));
	}
	close(log_fd);
}

/* The first task makes the container, the others wait for it. Returns what there is then. */
static struct container prepared_container(spank_t spank, struct shared *shared)
{
	/* The task that held the lock was killed: it has published nothing, and nobody tries again. */
	if (pthread_mutex_lock(&shared->mutex) == EOWNERDEAD)
		pthread_mutex_consistent(&shared->mutex);
	if (shared->tries++ == 0)
		start_container(spank);
	pthread_mutex_unlock(&shared->mutex);
	return published();
}

/* ---- a task joins ------------------------------------------------------------------------------------------------------- */

/* Image and job meet here: the image's value wins, unless the reply names the variable. */
static int import_environment(spank_t spank, const struct container *container, const struct words *reply)
{
	WORDS environment = words_of(format("/proc/self/fd/%d/environ", container->process), '\0');
	int result = 0;

	if (errno != 0) {
		slurm_error("embedded: could not read the container's environment: %s", strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < reply->length; i++)
		if (strncmp(reply->items[i], "unset=", 6) == 0)
			spank_unsetenv(spank, reply->items[i] + 6);
	for (size_t i = 0; i < environment.length; i++) {
		char *value = strchr(environment.items[i], '='), *wish;
		spank_err_t error;

		if (value == NULL)
			continue;
		*value++ = '\0';
		wish = format("env=%s", environment.items[i]);
		error = spank_setenv(spank, environment.items[i], value, !contains(reply, wish));
		free(wish);
		if (error != ESPANK_SUCCESS && error != ESPANK_ENV_EXISTS) {
			slurm_error("embedded: could not set %s: %s", environment.items[i], spank_strerror(error));
			result = -1;
		}
	}
	return result;
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

static int join_container(const struct container *container, const char *workdir)
{
	/* /proc is out of reach once the user namespace has changed, so everything is opened first. */
	static const struct { const char *name; int kind; } kinds[] = {
		{"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
		{"net", CLONE_NEWNET}, {"mnt", CLONE_NEWNS},
	};
	enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
	int fds[KINDS], directory = openat(container->process, "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < KINDS; i++) {
		struct stat theirs, ours;
		char *path = format("/proc/self/ns/%s", kinds[i].name);

		fds[i] = openat(container->process, path + strlen("/proc/self/"), O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0) {
			slurm_error("embedded: the container ended before the task could join it");
			free(path);
			return -1;
		}
		if (fstat(fds[i], &theirs) == 0 && stat(path, &ours) == 0 && theirs.st_ino == ours.st_ino) {
			close(fds[i]);
			fds[i] = -1;
		}
		free(path);
	}
	for (size_t i = 0; i < KINDS; i++)
		if (fds[i] >= 0 && setns(fds[i], kinds[i].kind) < 0) {
			slurm_error("embedded: could not join the container's %s namespace: %s", kinds[i].name, strerror(errno));
			return -1;
		}
	if (workdir != NULL ? chdir(workdir) < 0 : directory < 0 || fchdir(directory) < 0) {
		slurm_error("embedded: couldn't chdir to %s: %s", workdir != NULL ? workdir : "the container's working directory",
			    strerror(errno));
		return -1;
	}
	return pretend_ownership();
}

/* ---- hooks that Slurm calls ---------------------------------------------------------------------------------------------- */

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	spank_context_t where = spank_context();

	for (int i = 0; i < argc; i++)
		append(&settings, format("%s", argv[i]));
	if (where != S_CTX_LOCAL && where != S_CTX_ALLOCATOR && where != S_CTX_REMOTE)
		return 0;
	if (where == S_CTX_ALLOCATOR && switched_off("sbatch_support"))
		return 0;
	for (int i = 0; table[i].name != NULL; i++) {
		table[i].val = i;
		if (spank_option_register(spank, &table[i]) != ESPANK_SUCCESS) {
			slurm_error("embedded: could not register --%s", table[i].name);
			return -1;
		}
	}
	return 0;
}

/* srun and sbatch: nothing may be allocated for options that are wrong. */
static int check_options(void)
{
	struct words nothing = {0};
	WORDS arguments = command_line("check", &nothing, true);
	bool worthwhile = given.length > 0 || settings.length > 0;
	int log_fd, result = 0;

	for (char **entry = environ; *entry != NULL && !worthwhile; entry++)
		worthwhile = strncmp(*entry, "PYXIS_CONTAINER_", 16) == 0;
	if (worthwhile) {
		/* Whoever started us may have it ignored, and a child's end would be lost. */
		void (*before)(int) = signal(SIGCHLD, SIG_DFL);

		log_fd = memfd_create("embedded-log", MFD_CLOEXEC);
		result = run_command(&arguments, environ, log_fd);
		signal(SIGCHLD, before);
		show_log(log_fd, "");
		close(log_fd);
	}
	return result;
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	gid_t *groups = NULL;

	(void)argc, (void)argv;
	if (spank_context() != S_CTX_REMOTE)
		return check_options();
	if (!container_wanted(spank))
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
	/* srun does not notice a failure of this hook, so task_init reports it. */
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, step.channel) < 0)
		return 0;
	step.shared = mmap(NULL, sizeof(*step.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (step.shared == MAP_FAILED) {
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
		step.script = format("%s", script[0]);
	return 0;
}

int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
	struct container container;
	int result;

	(void)argc, (void)argv;
	if (!step.enabled)
		return 0;
	if (step.shared == NULL) {
		slurm_error("embedded: no memory to share between the tasks of this step");
		return -1;
	}
	container = prepared_container(spank, step.shared);
	if (container.process < 0)
		return -1;

	WORDS reply = reply_of(&container);
	result = import_environment(spank, &container, &reply);
	if (result == 0)
		result = join_container(&container, value_of(&reply, "workdir"));
	/* The last task to join lets the container's first process end; the tasks keep the namespaces alive. */
	if (result == 0 && atomic_fetch_add(&step.shared->joined, 1) + 1 == step.local_tasks)
		pidfd_send_signal(container.process, SIGCONT, NULL, 0);
	close(container.process);
	close(container.reply);
	return result;
}

int slurm_spank_task_exit(spank_t spank, int argc, char **argv)
{
	WORDS facts = {0}, reply = {0}, environment = command_environment(spank);
	struct container container;
	bool complete;

	(void)argc, (void)argv;
	if (!step.enabled || step.shared == NULL || step.shared->tries == 0)
		return 0;
	if (atomic_fetch_add(&step.shared->left, 1) + 1 != step.local_tasks)
		return 0;
	container = published();
	complete = step.shared->joined == step.local_tasks;
	if (!complete && container.process >= 0) /* some task never joined, so nobody let it go */
		pidfd_send_signal(container.process, SIGKILL, NULL, 0);

	append(&facts, format("id=%u.%u", step.job, step.step));
	append(&facts, format("complete=%s", complete ? "yes" : "no"));
	if (container.reply >= 0)
		reply = reply_of(&container);
	append_all(&facts, &reply);

	WORDS arguments = command_line("end", &facts, false);
	if (run_command(&arguments, environment.items, -1) == 0)
		return 0;
	slurm_error("embedded: could not save or remove the container of step %u.%u", step.job, step.step);
	return -1;
}

/* Called where slurmd runs its epilog: containers whose scope is a job end with it. */
int slurm_spank_job_epilog(spank_t spank, int argc, char **argv)
{
	WORDS facts = {0}, environment = command_environment(NULL);
	bool wanted = false;

	for (int i = 0; i < argc; i++)
		wanted |= strcmp(argv[i], "container_scope=job") == 0;
	if (!wanted)
		return 0;
	if (spank_get_item(spank, S_JOB_UID, &step.uid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_GID, &step.gid) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ID, &step.job) != ESPANK_SUCCESS)
		return -1;
	append(&facts, format("id=%u", step.job));

	WORDS arguments = command_line("epilog", &facts, false);
	return run_command(&arguments, environment.items, -1);
}
