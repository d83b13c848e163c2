# Sourced by the node's entry script before any daemon starts; makes the job user that was asked for.
#
#   JOB_USER                       the name; one that exists already (SlurmUser) is turned into a user with a login
#   /etc/pyxis-matrix/job-user     optional: NAME:PASSWORD, as chpasswd reads it; removed again
if ! id "$JOB_USER" > /dev/null 2>&1; then
    useradd --uid 1002 --user-group --no-create-home "$JOB_USER"
fi
# `*` means "no password", as opposed to the "locked" that sshd refuses even with a key.
usermod --home "/home/$JOB_USER" --shell /bin/bash --password '*' "$JOB_USER"
install -d -o "$JOB_USER" -g "$(id -g "$JOB_USER")" -m 0755 "/home/$JOB_USER"
# What rootless engines in the node map their users to; as the images have it for theirs.
if [[ -e /etc/subuid ]] && ! grep -q "^$JOB_USER:" /etc/subuid; then
    job_user_first=$(($(id -u "$JOB_USER") * 65536))
    usermod --add-subuids "$job_user_first-$((job_user_first + 65535))" \
        --add-subgids "$job_user_first-$((job_user_first + 65535))" "$JOB_USER"
    unset job_user_first
fi
if [[ -e /etc/pyxis-matrix/job-user ]]; then
    chpasswd < /etc/pyxis-matrix/job-user
    rm /etc/pyxis-matrix/job-user
fi
