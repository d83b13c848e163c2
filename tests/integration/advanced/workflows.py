"""What a workflow needs so that it can submit from inside its container: settings and a key."""

from pathlib import Path

from tests.support.cluster import Shell


def write_slurmfile(path: Path, *, home: str, node: str, user: str, key: str) -> None:
    """Write what a workflow learns the cluster from: it runs in a container, and ``key`` is a path in there."""
    lines = (
        "[default.cluster]",
        'backend = "ssh"',
        f'job_base_dir = "{home}"',
        "[default.cluster.backend_config]",
        f'hostname = "{node}"',
        f'username = "{user}"',
        f'key_filename = "{key}"',
        'host_key_policy = "reject"',
        "allow_agent = false",
        "look_for_keys = false",
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def give_key(login: Shell, folder: str) -> None:
    """Make a folder on the cluster with the run's key and the login node's host key, as a user has it in ~/.ssh."""
    settings = login.environment.login
    host_key = Path(settings.known_hosts).read_text(encoding="utf-8").splitlines()[0].partition(" ")[2]
    login.run(f"mkdir -m 700 {folder} && echo {login.environment.nodes[0]} {host_key} > {folder}/known_hosts")
    key = Path(settings.private_key).read_text(encoding="utf-8")
    login.run(f"umask 077 && cat > {folder}/key", stdin=key, secret=True)
