"""Job arrays on plain Slurm: order, items, single failures, the limit on how many run at once."""

from itertools import pairwise
import uuid

import pytest
from slurm import DownloadError

from tests.integration import legacy_tasks as tasks
from tests.integration.legacy_support import Prepare, result, state_at_end

pytestmark = pytest.mark.integration_test


def test_results_come_in_order(on_nodes: Prepare, legacy_folder: str) -> None:
    # The first element ends last, so the order of the results is not that of the ends.
    marks = [f"{legacy_folder}/order-{uuid.uuid4().hex}-{number}" for number in range(4)]
    array = on_nodes(tasks.element).map(
        [
            {"index": 100 + number, "mark": mark, "after": marks[1:] if number == 0 else []}
            for number, mark in enumerate(marks)
        ]
    )
    results = [result(job) for job in array]
    assert [(answer["index"], answer["task"]) for answer in results] == [
        (100, "0"),
        (101, "1"),
        (102, "2"),
        (103, "3"),
    ]
    assert results[0]["ended"] > max(answer["ended"] for answer in results[1:])
    assert array.get_results() == results


def test_items_are_single_values_tuples_or_names(on_nodes: Prepare) -> None:
    array = on_nodes(tasks.subtract).map([(10, 3), {"subtrahend": 4, "minuend": 10}, (10, 5)])
    assert [result(job) for job in array] == [7, 6, 5]
    assert [result(job) for job in on_nodes(tasks.echo).map(["a", ["b"], None])] == ["a", ["b"], None]


def test_one_failing_element_leaves_the_others(on_nodes: Prepare) -> None:
    array = on_nodes(tasks.fail_if).map([(index, 1) for index in range(3)])
    assert [state_at_end(job) for job in array] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert array[0].get_result() == 0
    assert array[2].get_result() == 20
    with pytest.raises(DownloadError, match="RuntimeError: element 1 is unlucky"):
        array[1].get_result()


def test_limit_on_elements_at_once(on_nodes: Prepare) -> None:
    array = on_nodes(tasks.element).map([{"index": number, "seconds": 1.5} for number in range(3)], max_concurrent=1)
    spans = sorted((answer["begun"], answer["ended"]) for answer in (result(job) for job in array))
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans)), spans
