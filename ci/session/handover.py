"""The environment variables of a command that uses a cluster."""

from collections.abc import Mapping
import os
from pathlib import Path, PurePosixPath
from typing import Any

from ci import environment_file, paths
from ci.environment.launching import Environment
from ci.environment.ssh import SSH_PORT
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.terminal import signals


def additions(launched: Environment, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are added to ``environ`` for a command that uses a cluster.

    They name the environment's file and put a client that can build first on PATH. With the option ``plain``, the
    variables of ``[suite-environment]`` are among them.
    """
    file = launched.file
    mine = {
        environment_file.VARIABLE: str(launched.path),
        # A suite may set another HOME for the subject; the cache must not move with it.
        paths.CACHE_VARIABLE: str(paths.cache_dir(environ)),
        **client_settings(file.engine_environment, environ),
        **file.engine_environment,
    }
    if file.site:  # if this process is killed, no cluster is removed under the suite, so nothing else would end it
        mine[signals.PARENT_VARIABLE] = str(os.getpid())
    if file.engine_client:  # a site has none
        mine["PATH"] = f"{Path(file.engine_client).parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
    if launched.plan.options.plain:
        mine |= launched.plan.suite_environment.render(facts(launched))
    return mine


def client_settings(client: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return where a client finds its plugins (buildx), settings and passwords, whatever HOME a suite sets.

    Podman fails to push if DOCKER_CONFIG names a folder without a config.json, so then the variable is left out.

    :param client: the client's own variables; CONTAINER_HOST is Podman's.
    """
    named, usual = environ.get("DOCKER_CONFIG"), Path.home() / ".docker"
    if not named and "CONTAINER_HOST" in client and not (usual / "config.json").is_file():
        return {}
    return {"DOCKER_CONFIG": named or str(usual)}


def facts(launched: Environment) -> dict[str, str | None]:
    """Return the facts for ``[suite-environment]``; see docs/your-own-suite.md."""
    file = launched.file
    return {
        "host": file.login.host,
        "port": str(file.login.port or SSH_PORT),
        "user": file.login.user,
        "password": file.login.password or None,
        "private-key": file.login.private_key,
        "known-hosts": file.login.known_hosts,
        "home": file.login.home,
        "registry": file.registry,
        "registry-name": file.registry_name,
        "job-image": file.container_image,
        "job-image-docker": file.job_reference,
        "container": file.containers[0] if file.containers else None,
        "results": file.results,
        "cell": file.cell,
        "environment-file": str(launched.path),
    }


def sdk_settings(file: EnvironmentFile) -> dict[str, Any]:
    """Return the arguments of slurm-sdk's ``Cluster``, except ``job_base_dir``, which differs for each process."""
    login = file.login
    return {
        "backend_type": "ssh",
        "hostname": login.host,
        "port": login.port or SSH_PORT,
        "username": login.user,
        "key_filename": login.private_key or None,
        "allow_agent": login.own,
        "look_for_keys": login.own,
        # Its default, written down: the node's key is known in advance, and no other is accepted.
        "host_key_policy": "reject",
        "default_packaging": "container",
        "default_packaging_registry": f"{file.registry}/test/",
        "default_packaging_platform": Arch(file.arch).platform,
        # The registry speaks plain http.
        "default_packaging_tls_verify": False,
        **{f"default_{name}": value for name, value in file.jobs.items()},
    }


def login_facts(launched: Environment, results: PurePosixPath) -> dict[str, str | None]:
    """Return the facts for a suite on the login node: those that are also true there.

    :param results: the folder there whose files are copied back.
    """
    file = launched.file
    # The key and the file are on this machine, and the node has no engine that knows its container.
    absent = dict.fromkeys(("private-key", "known-hosts", "container", "environment-file"))
    there = {
        "host": file.nodes[0],
        "port": str(SSH_PORT),
        "home": f"/home/{file.login.user}",
        "results": str(results),
    }
    return {**facts(launched), **absent, **there}
