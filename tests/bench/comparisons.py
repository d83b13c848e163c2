"""All comparisons, in the order in which they are made and shown."""

from tests.bench.building import layers
from tests.bench.installing import venv
from tests.bench.measuring import Comparison
from tests.bench.starting import first, harness, start
from tests.bench.suites import one_environment, side_by_side, workers

COMPARISONS: tuple[Comparison, ...] = (
    layers,
    start,
    first,
    workers,
    side_by_side,
    one_environment,
    harness,
    venv,
)
