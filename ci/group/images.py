"""The images of a group's cells: built in a thread, one after another, while cells whose images exist already run."""

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
"""Seconds to wait for a build to end; after that the engine ends it, because its client has gone."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A cell whose images exist, or the reason why they can't be built."""

    cell: str
    images: str = ""
    """Their hash; see `ci.group.fingerprint.images_of`."""
    problem: PyxisMatrixError | None = None


class Images:
    """Builds the images of cells. If one cell's fail, the others are still built."""

    def __init__(self, builder: Builder, plans: Sequence[EnvironmentPlan]) -> None:
        """Build nothing yet."""
        self._builder = builder
        self._plans = plans
        self._news: SimpleQueue[Ready | BaseException] = SimpleQueue()
        self._stop = threading.Event()
        self.waiting = len(plans)
        """The number of cells that `news` has not yielded yet."""
        self.at = ""
        """The cell whose images are being built."""

    @contextmanager
    def built_meanwhile(self, stream: TextIO) -> Iterator[None]:
        """Build the images during the block, with progress on ``stream``; the end of the block ends a build."""
        # A daemon, so that a client that does not end within `_PATIENCE` does not keep this process from ending.
        thread = threading.Thread(target=self._make_all, args=(stream,), name="images", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join(_PATIENCE)

    def stop(self) -> None:
        """Have the current build end, and begin no other."""
        self._stop.set()

    def news(self) -> Iterator[Ready]:
        """Yield the cells whose images were built, or failed, since the last call."""
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
        processes.STOP.set(self._stop)  # in the context of this thread, which other threads do not share
        try:
            with console.plain_lines(stream):
                for plan in in_order(self._plans, self._has):
                    if self._stop.is_set():
                        return
                    self.at = plan.cell.id
                    self._news.put(self._ready(plan))
        except processes.Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - a bug of this program: `news` raises it in the main thread
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
        except PyxisMatrixError:  # the same error is reported when a cell that needs the image is built
            return False


def in_order(plans: Sequence[EnvironmentPlan], has: Callable[[ImagePlan], bool]) -> Iterator[EnvironmentPlan]:
    """Yield the cells in the order that gives results soonest.

    First those that wait for no compiler, then those of the compiled image that most cells need, and so on.

    :param has: tells whether an image exists; called once for each, before the first cell is yielded.
    """
    slow = {plan.cell.id: compiled(plan) for plan in plans}
    # By name, because a plan has no hash. One name is one Slurm on one system and architecture.
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
        # Built with this cell: from here on nobody waits for them.
        for name in slow[best.cell.id]:
            lacking.pop(name, None)


def compiled(plan: EnvironmentPlan) -> Mapping[str, ImagePlan]:
    """Return the images of a cell that take a compiler minutes, by name."""
    return {member.name: member for image in plan.images.all() for member in image.family() if member.is_compiled}
