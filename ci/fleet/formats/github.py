"""A plan as outputs of a job of GitHub Actions: lines for the file that ``$GITHUB_OUTPUT`` names."""

from collections.abc import Sequence
import json
import shlex

from ci.errors import SelectionError
from ci.fleet.formats import Format
from ci.fleet.model import Batch, FleetPlan
from ci.matrix.arch import Arch

_RUNNERS = {Arch.AMD64: "ubuntu-24.04", Arch.ARM64: "ubuntu-24.04-arm"}
"""GitHub's own machines of each architecture."""
_MOST_JOBS = 256
"""GitHub makes no more jobs from one matrix."""


def outputs(plan: FleetPlan) -> str:
    """Return one ``name=value`` per line.

    ``images`` and ``shards`` are matrices for ``fromJSON``; where there is nothing to do, they are empty text, because
    GitHub refuses a matrix without a job.

    :raises SelectionError: for more jobs than GitHub makes, and for arguments that a shell would not take as they are.
    """
    if max(len(plan.shards), len(plan.images)) > _MOST_JOBS:
        raise SelectionError(
            f"GitHub makes at most {_MOST_JOBS} jobs from a matrix, and the plan has {len(plan.shards)} shards",
            next_step=f"--shards {_MOST_JOBS} or fewer",
        )
    total = len(plan.shards)
    slurms = [f"slurm {batch.cells[0].slurm} on {batch.cells[0].os} ({batch.arch})" for batch in plan.images]
    lines = {
        "run": plan.run,
        "suites": " ".join(plan.suites),
        "images": _matrix(plan.images, plan, slurms),
        "shards": _matrix(plan.shards, plan, [f"{shard.number} of {total} ({shard.arch})" for shard in plan.shards]),
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def _matrix(batches: Sequence[Batch], plan: FleetPlan, titles: Sequence[str]) -> str:
    if not batches:
        return ""
    jobs = [
        {"name": title, "number": number, "runner": plan.runners[batch.arch], "arguments": _words(batch.arguments)}
        for number, (batch, title) in enumerate(zip(batches, titles, strict=True), start=1)
    ]
    # On one line: in the file of outputs, a value of several would need a delimiter.
    return json.dumps({"include": jobs}, separators=(",", ":"))


def _words(arguments: Sequence[str]) -> str:
    """Join arguments with blanks; the workflow's step hands them to the shell in a variable, which is split there."""
    if odd := [word for word in arguments if shlex.quote(word) != word]:
        raise SelectionError(
            f"{odd[0]!r} can't be handed to a job of GitHub Actions",
            why="it holds a character that a shell changes",
            next_step="leave the option out, or set what it says in the workflow itself",
        )
    return " ".join(arguments)


FORMAT = Format(name="github", write=outputs, runners=_RUNNERS, appends=True)
