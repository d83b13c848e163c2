"""A plan as JSON for a program; docs/ci.md describes the keys."""

import json

from ci.fleet.formats import Format
from ci.fleet.model import Batch, FleetPlan, Shard

SCHEMA = 1


def as_json(plan: FleetPlan) -> str:
    """Return everything about a plan as JSON."""
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


FORMAT = Format(name="json", write=as_json)
