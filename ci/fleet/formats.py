"""A plan as text for a person, and as JSON for a program."""

from collections.abc import Callable
import json

from ci.fleet import github, gitlab, slurm
from ci.fleet.model import Batch, FleetPlan, Job, Shard
from ci.matrix.arch import Arch
from ci.terminal.quantities import count

SCHEMA = 1
GITHUB = "github"
_NAMED = 3
"""As many reasons are shown; the JSON has all."""


def runners(form: str) -> dict[Arch, str]:
    """Return the machines of each architecture where nobody names others."""
    return github.RUNNERS if form == GITHUB else {arch: arch.value for arch in Arch}


def as_json(plan: FleetPlan) -> str:
    """Return everything about a plan as JSON; docs/ci.md describes the keys."""
    content = {
        "schema": SCHEMA,
        "run": plan.run,
        "group": plan.group,
        "suites": plan.suites,
        "since": plan.since,
        "image_cache": plan.image_cache,
        "images": [_batch(batch, plan) for batch in plan.images],
        "shards": [_shard(shard, plan) for shard in plan.shards],
        "left_out": [{"id": cell, "reason": why} for cell, why in plan.left_out.items()],
    }
    return json.dumps(content, indent=2) + "\n"


def _batch(batch: Batch, plan: FleetPlan) -> dict[str, object]:
    return {
        "arch": batch.arch.value,
        "runner": plan.runners[batch.arch],
        "command": batch.command,
        "arguments": batch.arguments,
        "cells": [cell.id for cell in batch.cells],
    }


def _shard(shard: Shard, plan: FleetPlan) -> dict[str, object]:
    jobs = [
        {
            "id": job.cell.id,
            "suites": job.suites,
            "seconds": round(job.seconds, 1),
            "measured": job.measured,
            "reasons": job.reasons,
            "untried": job.cell.untried,
        }
        for job in shard.jobs
    ]
    more = {"number": shard.number, "seconds": round(shard.seconds, 1), "cells": jobs}
    return _batch(shard, plan) | more


def as_text(plan: FleetPlan) -> str:
    """Return a plan for people."""
    of_group = f"of the group {plan.group}" if plan.group else "by name"
    lines = [f"run {plan.run}: {count(len(plan.jobs), 'cell')} {of_group}, suites {', '.join(plan.suites)}"]
    if plan.jobs:
        lines.append(_basis(plan))
    if plan.images:
        lines += ["", f"images first, into {plan.image_cache}:"]
        lines += [f"  {batch.arch}, {count(len(batch.cells), 'cell')}: {batch.command}" for batch in plan.images]
    for shard in plan.shards:
        runner = plan.runners[shard.arch]
        where = f"on {shard.arch}" + (f" ({runner})" if runner != shard.arch else "")
        lines += ["", f"shard {shard.number} of {len(plan.shards)}, {where}, about {_span(shard.seconds)}:"]
        lines += [line for job in shard.jobs for line in _job(job)]
        lines.append(f"  $ {shard.command}")
    if not plan.shards:
        lines += ["", plan.nothing]
    if plan.left_out:
        lines += ["", "left out:", *(f"  {cell}: {why}" for cell, why in plan.left_out.items())]
    return "\n".join(lines) + "\n"


def _basis(plan: FleetPlan) -> str:
    if plan.measured == len(plan.jobs):
        return "balanced by the seconds of earlier results"
    if plan.measured:
        measured = count(plan.measured, "cell")
        return f"balanced by earlier results of {measured}; for the others the median is taken (marked ~)"
    return "balanced by the number of suites: there are no earlier results of these cells"


def _job(job: Job) -> list[str]:
    shown = [f"      {reason}" for reason in job.reasons[:_NAMED]]
    if more := len(job.reasons) - _NAMED:
        shown += [f"      (and {more} more)"] if more > 0 else []
    head = f"{job.cell.id}  {'' if job.measured else '~'}{_span(job.seconds)}  {job.cell.remark}"
    return [f"  {head.rstrip()}", *shown]


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


FORMATS: dict[str, Callable[[FleetPlan], str]] = {
    "text": as_text,
    "json": as_json,
    GITHUB: github.outputs,
    "gitlab": gitlab.pipeline,
    "sbatch": slurm.script,
}
"""What a plan can be written as, by the name that ``plan --format`` has for it; with a line break at the end.

Each raises ``SelectionError`` for a plan that it can't hold.
"""
