"""The environment variables of a command that uses a cluster."""

from collections.abc import Mapping
import os
from pathlib import Path, PurePosixPath
from typing import Any

from ci import environment_file, paths
from ci.environment.cluster import SSH_PORT
from ci.environment.launching import Environment
from ci.environment_file import EnvironmentFile
from ci.matrix.arch import Arch
from ci.terminal import signals


def additions(launched: Environment, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are added to ``environ`` for a command that uses a cluster.

    They name the environment's file, put a client that can build first on PATH, and, with the option ``plain``, hold
    the variables of ``[suite-environment]``.
    """
    file = launched.file
    mine = {
        environment_file.VARIABLE: str(launched.path),
        # A suite may set another HOME for the subject; the cache must stay where it is.
        paths.CACHE_VARIABLE: str(paths.cache_dir(environ)),
        **client_settings(file.engine_environment, environ),
        **file.engine_environment,
    }
    if file.site:  # nothing else would end the suite where this process is killed: no cluster goes with it
        mine[signals.PARENT_VARIABLE] = str(os.getpid())
    if file.engine_client:  # a site is asked without one
        mine["PATH"] = f"{Path(file.engine_client).parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
    if launched.plan.options.plain:
        mine |= launched.plan.suite_environment.render(facts(launched))
    return mine


def client_settings(client: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return where a client finds its plugins (buildx), settings and passwords, whatever HOME a suite sets.

    To Podman a folder that is named is the promise of a config.json in it: without that it pushes nothing.

    :param client: the client's own variables; those of Podman name its engine in its own way.
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
    """Return what slurm-sdk's ``Cluster`` is made from but for ``job_base_dir``, which each process has its own of."""
    login = file.login
    return {
        "backend_type": "ssh",
        "hostname": login.host,
        "port": login.port or SSH_PORT,
        "username": login.user,
        "key_filename": login.private_key or None,
        "allow_agent": login.own,
        "look_for_keys": login.own,
        "host_key_policy": "reject",
        "default_packaging": "container",
        "default_packaging_registry": f"{file.registry}/test/",
        "default_packaging_platform": Arch(file.arch).platform,
        "default_packaging_tls_verify": False,
        **{f"default_{name}": value for name, value in file.jobs.items()},
    }


def login_facts(launched: Environment, results: PurePosixPath) -> dict[str, str | None]:
    """Return what a suite on the login node is told: the same facts as far as they hold there.

    :param results: the folder there whose files come back.
    """
    file = launched.file
    # No key and no file of this machine; and whoever stands on the node has no engine that knows its container.
    absent = dict.fromkeys(("private-key", "known-hosts", "container", "environment-file"))
    there = {
        "host": file.nodes[0],
        "port": str(SSH_PORT),
        "home": f"/home/{file.login.user}",
        "results": str(results),
    }
    return {**facts(launched), **absent, **there}
