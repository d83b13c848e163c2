"""A cell's cluster as bare commands of the docker client, as one would type them, with the same images and settings."""

from pathlib import Path
import shlex

from ci.engine.connection import Engine, packed
from ci.engine.labels import labels
from ci.environment import cluster, registry
from ci.environment.cluster import Secrets
from ci.environment.plan import EnvironmentPlan
from ci.environment.service import Service
from ci.errors import EngineError
from ci.images.building import BuiltCell
from tests.support.markers import IMAGE_MARKER, IMAGE_MARKER_TEXT
from tests.support.program import free_port

_LIMIT_SECONDS = 120


def script(engine: Engine, plan: EnvironmentPlan, images: BuiltCell, folder: Path) -> str:
    """Return functions of bash: up, wait_idle SECONDS, push, job, down.

    :param folder: gets the files that are copied into the containers.
    """
    if engine.found.kind != "docker" or images.registry is None or images.job is None:
        what, where = "the bare commands are those of Docker for a cell with containers", plan.cell.id
        next_step = "take another cell or engine, or leave this comparison out"
        raise EngineError(what, where=f"{where} on {engine.found.kind}", next_step=next_step)
    names, port = plan.names, free_port()
    filled = registry.filled_name(images.registry.identity, images.job.identity)
    stored = filled if engine.image_exists(filled) else images.registry.tag
    services = (
        registry.planned(stored, names.registry, hostname=names.registry_hostname, port=port),
        cluster.planned_node(plan, 0, image=images.node.tag, keys=Secrets.new(password=False), registry_port=port),
    )
    node, reference = names.nodes[0], f"localhost:{port}/bench/job:1"

    def labelled(role: str) -> list[str]:
        its = labels(plan.options.run, plan.cell.id, role)  # so that what a killed run leaves is found
        return [word for name, value in its.items() for word in ("--label", f"{name}={value}")]

    volumes = (names.home_volume, names.data_volumes[0])
    up = [shlex.join(["network", "create", *labelled("network"), names.network])]
    up += [shlex.join(["volume", "create", *labelled("volume"), volume]) for volume in volumes]
    for wanted in services:
        file = folder / f"{wanted.role}.tar"
        file.touch(mode=0o600)  # it has keys
        file.write_bytes(packed(wanted.files))
        up += [shlex.join(created(wanted, names.network, labelled(wanted.role)))]
        up += [f"cp - {wanted.name}:/ < {shlex.quote(str(file))}", f"start {wanted.name}"]
    client = {**engine.found.environment, **engine.build_client.environment}
    inside = f"cd && srun --container-image={reference.replace('/', '#', 1)} cat {IMAGE_MARKER}"
    idle = 'test "$(sinfo --noheader --Node --format %T | sort -u)" = idle'
    lines = [f"export {name}={shlex.quote(value)}" for name, value in client.items()]
    lines += [f'docker() {{ {shlex.quote(str(engine.build_client.path))} "$@"; }}']
    lines += ["up() {", *(f"    docker {command} || return" for command in up), "}"]
    lines += [f"wait_idle() {{ local end=$((SECONDS + {_LIMIT_SECONDS}))"]
    lines += [f"    until docker exec {node} bash -c {shlex.quote(idle)}"]
    lines += ["    do ((SECONDS < end)) || return 1; sleep $1; done; }"]
    lines += [f"push() {{ docker tag {images.job.tag} {reference} && docker push --quiet {reference}; }}"]
    answer = f"docker exec --user tester {node} bash -lc {shlex.quote(inside)}"
    lines += [f'job() {{ test "$({answer})" = "{IMAGE_MARKER_TEXT}"; }}']
    lines += [f"down() {{ docker rm --force --volumes {node} {names.registry}; docker network rm {names.network}"]
    lines += [f"    docker volume rm --force {' '.join(volumes)}; docker image rm {reference}; }}"]
    return "\n".join(lines) + "\n"


def created(wanted: Service, network: str, labelled: list[str]) -> list[str]:
    """Return the words of ``docker`` that create a service's container."""
    rights = wanted.rights
    whole_proc = ("systempaths=unconfined",) if rights.whole_proc else ()
    mounts = (
        f"type={mount['Type']},source={mount['Source']},target={mount['Target']}"
        + (",readonly" if mount.get("ReadOnly") else "")
        for mount in wanted.mounts
    )
    several = {
        "--env": (f"{name}={value}" for name, value in wanted.environment.items()),
        "--mount": mounts,
        "--publish": (f"127.0.0.1:{outside or ''}:{inside}" for inside, outside in wanted.ports.items()),
        "--tmpfs": (f"{folder}:exec,mode=755" for folder in wanted.tmpfs),
        "--cap-add": rights.capabilities,
        "--cap-drop": rights.dropped,
        "--security-opt": (*rights.security_options, *whole_proc),
        "--device": rights.devices,
    }
    names = ["--name", wanted.name, "--hostname", wanted.hostname, "--network", network]
    words = [word for option, values in several.items() for value in values for word in (option, value)]
    return ["create", *names, "--network-alias", wanted.hostname, *words, *labelled, wanted.image]
