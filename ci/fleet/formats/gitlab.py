"""A plan as the child pipeline of ci/gitlab-ci.yml. It is written as JSON, which is YAML, too."""

import json
import shlex

from ci.fleet.formats import Format
from ci.fleet.model import SET_UP, Batch, FleetPlan, report
from ci.images import cache

_KEPT = "30 days"


def pipeline(plan: FleetPlan) -> str:
    """Return the configuration of the child pipeline: images, shards, and the report of all of them."""
    jobs: dict[str, object] = {}
    for number, batch in enumerate(plan.images, start=1):
        jobs[f"images {number}/{len(plan.images)}"] = _job(batch, plan, "images")
    for shard in plan.shards:
        kept = {"when": "always", "paths": ["results/"], "expire_in": _KEPT}
        jobs[f"shard {shard.number}/{len(plan.shards)}"] = _job(shard, plan, "shards") | {"artifacts": kept}
    if plan.shards:
        jobs["report"] = _report(plan)
    else:
        said = f"echo {shlex.quote(plan.nothing)}"
        jobs["nothing to run"] = {"stage": "report", "tags": list(plan.runners.values())[:1], "script": [said]}
    # A cache that no job fills is only read; GitLab does not hand every variable down by itself.
    reading = {cache.READ_ONLY_VARIABLE: "1"} if plan.image_cache and not plan.images else {}
    head = {
        "stages": ["images", "shards", "report"],
        # Said once more here: variables of the parent that were set by hand would come before those of its file.
        "workflow": {"rules": [{"when": "always"}]},
        "variables": {"PYXIS_MATRIX_RUN": plan.run, **reading},
    }
    return json.dumps(head | jobs, indent=2) + "\n"


def _job(batch: Batch, plan: FleetPlan, stage: str) -> dict[str, object]:
    return {"stage": stage, "tags": [plan.runners[batch.arch]], "script": [f"{SET_UP}{batch.command}"]}


def _report(plan: FleetPlan) -> dict[str, object]:
    """Return the job that makes one report of the results of all shards, also where some of them failed."""
    return {
        "stage": "report",
        "tags": [plan.runners[plan.shards[0].arch]],
        "when": "always",
        # The report that lies in the cache is the one before: it has the history, and what has changed since is told.
        "cache": {"key": "report-$CI_COMMIT_REF_SLUG", "paths": ["results/report/"]},
        "script": [f"{SET_UP}{report()}"],
        "artifacts": {
            "when": "always",
            "paths": ["results/report/"],
            "reports": {"junit": "results/report/junit.xml"},
            "expose_as": "compatibility report",
            "expire_in": _KEPT,
        },
    }


FORMAT = Format(name="gitlab", write=pipeline)
