"""Bisecting: what is asked next, and what is left in the end."""

from collections.abc import Sequence

import pytest

from ci.bisect.search import Judgement, Search

PASSED, FAILED, NONE = Judgement.PASSED, Judgement.FAILED, Judgement.NONE


def searched(answers: Sequence[Judgement]) -> tuple[range, list[int]]:
    """Return what is left of a search, and what was asked for it."""
    search, asked = Search(length=len(answers)), list[int]()
    while (at := search.next()) is not None:
        asked.append(at)
        search.answers[at] = answers[at]
    return search.suspects, asked


@pytest.mark.parametrize("length", [2, 3, 6, 7, 100])
def test_every_change_is_found_in_few_steps(length: int) -> None:
    for first in range(1, length):
        suspects, asked = searched([PASSED] * first + [FAILED] * (length - first))
        assert list(suspects) == [first]
        assert asked[:2] == [0, length - 1], "the ends tell whether there is anything to be found"
        assert len(asked) == len(set(asked)) <= 2 + length.bit_length()


def test_a_repair_is_found_as_well() -> None:
    assert list(searched([FAILED, FAILED, PASSED, PASSED])[0]) == [2]


def test_what_gives_no_answer_is_left_out() -> None:
    assert list(searched([PASSED, PASSED, NONE, PASSED, FAILED, NONE, FAILED])[0]) == [4]


def test_where_nothing_between_answers_the_range_is_left() -> None:
    suspects, asked = searched([PASSED, NONE, NONE, NONE, FAILED])
    assert (list(suspects), sorted(asked)) == ([1, 2, 3, 4], [0, 1, 2, 3, 4])


def test_a_long_stretch_that_does_not_build_is_not_tried_to_its_end() -> None:
    suspects, asked = searched([PASSED] * 20 + [NONE] * 60 + [FAILED] * 20)
    assert list(suspects) == list(range(20, 81))
    assert asked.index(19) < 30, "what lies outside of it is asked long before the last of it"


@pytest.mark.parametrize("ends", [(PASSED, PASSED), (FAILED, FAILED), (NONE, PASSED), (FAILED, NONE)])
def test_ends_that_do_not_tell_end_it(ends: tuple[Judgement, Judgement]) -> None:
    search = Search(length=5, answers={0: ends[0], 4: ends[1]})
    assert search.undecided
    assert search.next() is None
