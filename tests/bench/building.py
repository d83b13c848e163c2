"""Comparison of building: variants that share layers against each on its own."""

from collections.abc import Iterator
from dataclasses import replace
import os
import secrets
import subprocess

from ci.artefacts import sources
from ci.engine.labels import LABEL
from ci.errors import BuildError, NotRunError
from ci.images.building import Builder, sources_of
from ci.images.content import Content
from ci.images.plan import ImagePlan
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell, Runtime
from tests.bench.measuring import Bench, Sides, comparison, timed


@comparison(
    "layers",
    goal=0.35,
    ours="node images of several variants (enroot, Pyxis) of one Slurm, with shared layers, from a bare Debian",
    other="the same variants, each from a bare Debian of its own, so that nothing is shared",
    times=1,
    runtimes=frozenset({Runtime.NVIDIA}),
)
def layers(bench: Bench) -> Iterator[Sides]:
    """Compare building variants together with building each alone."""
    cells = variants(bench)
    images = {cell: bench.plan(cell).images for cell in cells}
    for cell in cells:  # release files, wheels and the bare Debian are there before anything is measured
        bench.images(cell)
    yield Sides(
        ours=lambda: _build(bench, [images[cell].node for cell in cells]),
        other=lambda: sum(_build(bench, [images[cell].node]) for cell in cells),
    )


def variants(bench: Bench) -> list[Cell]:
    """Return as many cells of the same Slurm as are asked for, the one that is measured first.

    :raises NotRunError: if there are not so many whose release files are to be had.
    """
    cell, where = bench.cell, sources_of(bench.options)
    others = [
        it
        for it in bench.matrix.cells("full", Arch.host())
        if it != cell and (it.slurm, it.os, it.runtime) == (cell.slurm, cell.os, cell.runtime)
    ]
    chosen = [cell, *(it for it in others if not sources.missing(it, where))][: bench.variants]
    if len(chosen) < bench.variants:
        raise NotRunError(
            f"there are release files for {len(chosen)} variants of Slurm {cell.slurm.version} only",
            next_step=f"--variants {len(chosen)}, or --mirror DIR with more releases",
        )
    return chosen


def _build(bench: Bench, images: list[ImagePlan]) -> float:
    """Build images upon a bare Debian that no other image shares; return the seconds without that one's."""
    builder = bench.builder()
    fresh = _fresh(bench, builder, images[0])
    wanted = [upon(image, fresh) for image in images]
    try:
        return timed(lambda: [builder.ensure(image) for image in wanted])
    finally:
        made = [Content(plan=fresh, parents={}).tag, *(it.tag for it in builder.done if fresh in it.plan.family())]
        for tag in reversed(list(dict.fromkeys(made))):  # what others are built upon comes last
            bench.engine.untag_exactly(tag)


def _fresh(bench: Bench, builder: Builder, image: ImagePlan) -> ImagePlan:
    """Return a base like that of an image, with a file in it that no other has.

    A label would not do: BuildKit knows images by their layers, and would take what it has built upon the same ones.
    """
    base = next(it for it in image.family() if it.folder == "base")
    salt = secrets.token_hex(4)
    fresh = replace(base, variant=f"{base.variant}-bench-{salt}", pulled_as="")
    tag = Content(plan=fresh, parents={}).tag
    client = bench.engine.build_client
    done = subprocess.run(
        [str(client.path), "build", "--quiet", "--label", f"{LABEL}=1", "--tag", tag, "-"],
        env={**os.environ, **bench.engine.found.environment, **client.environment},
        input=f"FROM {builder.ensure(base).tag}\nRUN echo {salt} > /etc/pyxis-matrix-bench\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError("a bare Debian for this comparison was not made", why=done.stderr)
    return fresh


def upon(image: ImagePlan, base: ImagePlan) -> ImagePlan:
    """Return the plan of the same image upon another base."""
    if image.folder == "base":
        return base
    return replace(image, parents={name: upon(parent, base) for name, parent in image.parents.items()})
