"""The images of the cells of a group: made in a thread, one after another, while the cells that have theirs run."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
import threading
from typing import TextIO

from ci.engine.refusals import errors_of_ours
from ci.environment.plan import EnvironmentPlan
from ci.errors import PyxisMatrixError
from ci.group import fingerprint
from ci.images.building import Builder
from ci.images.plan import ImagePlan
from ci.terminal import console, processes

_PATIENCE = 30.0
"""Seconds that a build has to end in; the engine ends by itself what its client no longer waits for."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A cell whose images are there, or why they are not."""

    cell: str
    images: str = ""
    """Their hash; see `ci.group.fingerprint.images_of`."""
    problem: PyxisMatrixError | None = None


class Images:
    """Makes the images of cells. What one cell lacks does not keep the others from theirs."""

    def __init__(self, builder: Builder, plans: Sequence[EnvironmentPlan]) -> None:
        """Have nothing made yet."""
        self._builder = builder
        self._plans = plans
        self._news: SimpleQueue[Ready | BaseException] = SimpleQueue()
        self._stop = threading.Event()
        self.waiting = len(plans)
        """How many cells have neither their images nor a problem, as far as `news` has told."""
        self.at = ""
        """The cell whose images are made now."""

    @contextmanager
    def being_made(self, stream: TextIO) -> Iterator[None]:
        """Make them during the block, which tells their progress to ``stream``; its end ends what is under way."""
        thread = threading.Thread(target=self._make_all, args=(stream,), name="images", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join(_PATIENCE)

    def stop(self) -> None:
        """Ask what is under way to end; nothing more is begun."""
        self._stop.set()

    def news(self) -> Iterator[Ready]:
        """Yield the cells that are ready by now, or will never be, each once."""
        while True:
            try:
                found = self._news.get_nowait()
            except Empty:
                return
            if isinstance(found, BaseException):
                raise found
            self.waiting -= 1
            yield found

    def _make_all(self, stream: TextIO) -> None:
        processes.STOP.set(self._stop)  # a thread has a context of its own
        try:
            with console.plain_lines(stream):
                for plan in in_order(self._plans, self._has):
                    if self._stop.is_set():
                        return
                    self.at = plan.cell.id
                    self._news.put(self._ready(plan))
        except processes.Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - a fault of this program: it is raised in the main thread
            self._news.put(error)
        finally:
            self.at = ""

    def _ready(self, plan: EnvironmentPlan) -> Ready:
        try:
            with console.step(f"images of {plan.cell.id}"), errors_of_ours("building images"):
                self._builder.build(plan.images)
                return Ready(cell=plan.cell.id, images=fingerprint.images_of(plan, self._builder))
        except PyxisMatrixError as error:
            return Ready(cell=plan.cell.id, problem=error)

    def _has(self, image: ImagePlan) -> bool:
        try:
            with errors_of_ours("looking for images"):
                return self._builder.has(image)
        except PyxisMatrixError:  # a cell that needs it says so in its turn
            return False


def in_order(plans: Sequence[EnvironmentPlan], has: Callable[[ImagePlan], bool]) -> Iterator[EnvironmentPlan]:
    """Yield the cells in the order in which they answer soonest.

    First come those that wait for no compiler, then those of the compile that most cells wait for, and so on.

    :param has: tells whether an image need not be made any more; asked before the first, and once of each.
    """
    slow = {plan.cell.id: compiled(plan) for plan in plans}
    lacking = {name: image for images in slow.values() for name, image in images.items()}
    lacking = {name: image for name, image in lacking.items() if not has(image)}
    left = list(plans)
    while left:
        shared = Counter(name for plan in left for name in slow[plan.cell.id] if name in lacking)

        def cost(plan: EnvironmentPlan, shared: Counter[str] = shared) -> tuple[int, int]:
            waits = [shared[name] for name in slow[plan.cell.id] if name in lacking]
            return len(waits), -max(waits, default=0)

        best = min(left, key=cost)
        left.remove(best)
        yield best
        for name in slow[best.cell.id]:
            lacking.pop(name, None)


def compiled(plan: EnvironmentPlan) -> Mapping[str, ImagePlan]:
    """Return the images of a cell that a compiler makes, by name."""
    return {member.name: member for image in plan.images.all() for member in image.family() if member.is_compiled}
