"""The images of all cells of a group, those first that most cells need."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ci.engine.refusals import errors_of_ours
from ci.environment.plan import EnvironmentPlan
from ci.errors import PyxisMatrixError
from ci.images.building import Builder
from ci.images.plan import ImagePlan
from ci.terminal import console


def in_order(plans: Iterable[EnvironmentPlan]) -> list[tuple[ImagePlan, int]]:
    """Return all images, each once with the number of cells that need it; what most cells need comes first.

    What an image is built on is needed by as many cells as itself, or more. So it stands before it.
    """
    needed: list[ImagePlan] = []
    count: Counter[str] = Counter()
    for plan in plans:
        family = list(dict.fromkeys(_key(it) for image in plan.images.all() for it in image.family()))
        count.update(family)
        needed += [it for image in plan.images.all() for it in image.family()]
    unique: dict[str, ImagePlan] = {}
    for image in needed:
        unique.setdefault(_key(image), image)
    return sorted(((image, count[key]) for key, image in unique.items()), key=lambda pair: -pair[1])


def build_all(builder: Builder, plans: Sequence[EnvironmentPlan]) -> dict[str, PyxisMatrixError]:
    """Build the images of cells; return what kept a cell from having its own, by its id.

    What one cell lacks does not keep the others from theirs.
    """
    broken: list[tuple[ImagePlan, PyxisMatrixError]] = []
    for image, cells in in_order(plans):
        if any(it == failed for it in image.family() for failed, _ in broken):
            continue
        with console.step(f"{image.name} (for {cells} {'cell' if cells == 1 else 'cells'})") as step:
            try:
                with errors_of_ours("building images"):
                    step.note = builder.ensure(image).how
            except PyxisMatrixError as error:
                step.note = "failed"
                broken.append((image, error))
    problems: dict[str, PyxisMatrixError] = {}
    for plan in plans:
        family = [it for image in plan.images.all() for it in image.family()]
        found = next((error for failed, error in broken if failed in family), None)
        try:
            if found is None:
                with errors_of_ours("building images"):
                    builder.build(plan.images)
        except PyxisMatrixError as error:
            found = error
        if found:
            problems[plan.cell.id] = found
    return problems


def _key(image: ImagePlan) -> str:
    return repr(image)  # its mappings have no hash
