"""What can be left out and nothing fails: rights, modes, settings, identities; and lines of the project's own code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from ci.environment import registry
from ci.environment.service import Service
from ci.matrix.cells import Runtime
from tests.mutations import images
from tests.mutations.mutation import UNIT_TESTS, Mutation, Source

_EMBEDDED = frozenset({Runtime.EMBEDDED})
_CONFORMANCE = frozenset({"pyxis_conformance"})
_RUNTIME = "/usr/lib/embedded-runtime/embedded_runtime"
_INSTEAD_OF_MKSQUASHFS = r"""
mkdir -p /usr/local/lib/real && program=$(command -v mksquashfs) && mv $program /usr/local/lib/real/mksquashfs
cat > $program <<'END_OF_PROGRAM'
#!/bin/bash
exec /usr/local/lib/real/mksquashfs "$1" "$2" -action "chmod(0755)@true" "${@:3}"
END_OF_PROGRAM
chmod 755 $program
"""


def _edited(pattern: str, script: str, *files: str) -> str:
    """Return what edits, by sed, those of the files that a node has; one of them has to have the pattern."""
    there = f'files=; for file in {" ".join(files)}; do if [ -e "$file" ]; then files="$files $file"; fi; done'
    has = f"if ! grep -qs -e '{pattern}' -- $files /dev/null; then echo 'no file has {pattern}'; exit 1; fi"
    return f"{there}\n{has}\nsed -i -e '{script}' $files"


def _setting(name: str, value: int) -> str:
    """Return what gives a key of slurm.conf another value."""
    return f"{_edited(f'^{name}=', f's/^{name}=.*/{name}={value}/', '/etc/slurm/slurm.conf')} && scontrol reconfigure"


@contextmanager
def _registry_that_keeps_all() -> Iterator[None]:
    planned = registry.planned

    def keeping(*arguments: object, **options: object) -> Service:
        service = planned(*arguments, **options)  # type: ignore[arg-type]
        return replace(service, environment={**service.environment, "REGISTRY_STORAGE_DELETE_ENABLED": "false"})

    with mock.patch.object(registry, "planned", keeping):
        yield


DETAILS = (
    Mutation(
        name="containers may gain privileges",
        nodes=_edited(
            "^        no_new_privileges()", "s/^        no_new_privileges()/        pass/", f"{_RUNTIME}/start.py"
        ),
        says="NoNewPrivs",
        runtimes=_EMBEDDED,
        suites=_CONFORMANCE,
        file="test_isolation.py",
    ),
    Mutation(
        name="another umask",
        nodes=_edited("os.umask(_umask", "/os.umask(_umask/d", f"{_RUNTIME}/start.py"),
        says="0022",
        runtimes=_EMBEDDED,
        suites=_CONFORMANCE,
        file="test_isolation.py",
    ),
    Mutation(
        name="no resolv.conf of the node's",
        nodes=_edited("resolv.conf", "/resolv.conf/d", f"{_RUNTIME}/mounts.py", "/etc/enroot/mounts.d/20-config.fstab"),
        says="resolv.conf",
        suites=_CONFORMANCE,
        file="test_isolation.py",
    ),
    Mutation(
        name="sys is writable",
        nodes=_edited(
            '/sys.*[, "]ro,',
            "/^ *entry(.\\/sys\\|^\\/sys/s/\\brbind,ro,/rbind,rw,/",
            f"{_RUNTIME}/mounts.py",
            "/etc/enroot/mounts.d/10-system.fstab",
        ),
        says="/sys ",
        suites=_CONFORMANCE,
        file="test_isolation.py",
    ),
    Mutation(
        name="homes are everybody's",
        nodes="chmod 0777 /home/*",
        says="777|not-mine",
        suites=_CONFORMANCE,
        file="test_isolation.py",
    ),
    Mutation(
        name="modes of saved images",
        nodes=_INSTEAD_OF_MKSQUASHFS,
        says="400 400",
        suites=_CONFORMANCE,
        file="test_save.py",
    ),
    Mutation(
        name="enroot.conf.d is not read",
        # Real nodes have their own settings there, too: with them gone, nothing at all would run.
        nodes='for file in /etc/enroot/enroot.conf.d/*.conf; do if [ -e "$file" ]; then cat "$file"; fi; done'
        " >> /etc/enroot/enroot.conf\n"
        + _edited(
            "conf.d\\|{file}.d",
            "s/conf\\.d/conf.no/;s/{file}\\.d/{file}.no/",
            f"{_RUNTIME}/settings.py",
            "/usr/bin/enroot",
        ),
        says="PYXIS_MATRIX_ROOT",
        suites=_CONFORMANCE,
        file="test_enroot.py",
    ),
    *(
        Mutation(
            name=f"{key} is {value}",
            nodes=_setting(key, value),
            says=key,
            suites=_CONFORMANCE,
            file="test_slurm.py",
        )
        for key, value in (("JobRequeue", 1), ("KillWait", 30))
    ),
    Mutation(
        name="the registry deletes nothing",
        launch=_registry_that_keeps_all,
        says="DELETE",
        suites=frozenset({"registry"}),
        file="test_http.py",
    ),
    Mutation(
        name="another subject in the job image",
        environment=images.with_another_subject,
        says="another subject in the job image",
        suites=frozenset({"pyxis_basic"}),
    ),
)

CODE = tuple(
    Mutation(
        name=name,
        source=Source(path=path, old=old, new=new),
        says=says,
        runtimes=frozenset(Runtime),
        suites=frozenset({UNIT_TESTS}),
    )
    for name, path, old, new, says in (
        (
            "observed Pyxis is that of the id",
            "ci/environment/cluster.py",
            'questions["pyxis"] = ',
            'questions["pyxis"] = f"echo {cell.release(\'pyxis\')}" or ',
            "[Pp]yxis",
        ),
        (
            "one SSH key for all runs",
            "ci/environment/ssh.py",
            "def new_key(",
            '@__import__("functools").cache\ndef new_key(',
            "[Kk]ey",
        ),
        (
            "known failures are not strict",
            "tests/support/known_failures.py",
            "strict=True",
            "strict=False",
            "[Ss]trict|passed",
        ),
    )
)
