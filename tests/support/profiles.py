"""What tests of profiles share: a cell of each runtime, and the plan of one with a profile over it."""

from collections.abc import Callable, Mapping

from ci.artefacts import candidates
from ci.environment.configuration import configuration
from ci.environment.plan import EnvironmentPlan, plan_environment
from ci.matrix import loading
from ci.options import Options

REAL, EMBEDDED, LEGACY = (
    "slurm22.05-enroot3.4.1-pyxis0.19.0-debian12-amd64",
    "slurm22.05-embedded-debian12-amd64",
    "slurm22.05-legacy-debian12-amd64",
)
SLURM_CONF = "/etc/slurm/slurm.conf"
MakeProfile = Callable[[Mapping[str, str]], str]


def planned(profile: str, cell: str = REAL, **options: object) -> EnvironmentPlan:
    asked = Options(run="run", profile=profile, **options)  # type: ignore[arg-type]
    put = candidates.read(asked, loading.load())
    return plan_environment(put.into(loading.load().cell(cell)), loading.load(), put.options)


def slurm_conf(plan: EnvironmentPlan) -> list[str]:
    return [it for it in configuration(plan)[SLURM_CONF].decode().splitlines() if it and not it.startswith("#")]
