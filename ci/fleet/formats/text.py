"""A plan as text for a person."""

from ci.fleet.formats import Format
from ci.fleet.model import FleetPlan, Job
from ci.terminal.quantities import count

_NAMED = 3
"""How many reasons are shown; the JSON has all."""


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
    if len(job.reasons) > _NAMED:
        shown.append(f"      (and {len(job.reasons) - _NAMED} more)")
    head = f"{job.cell.id}  {'' if job.measured else '~'}{_span(job.seconds)}  {job.cell.remark}"
    return [f"  {head.rstrip()}", *shown]


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


FORMAT = Format(name="text", write=as_text)
