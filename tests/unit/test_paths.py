"""Where things lie."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
import pwd
import re
from typing import NoReturn

import pytest

from ci import paths
from ci.errors import ArtefactError, PyxisMatrixError


def test_the_repository_is_found_from_any_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert (paths.REPOSITORY / "ci" / "paths.py").is_file()
    assert paths.CONTAINERS.is_dir()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/pyxis-matrix"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/pyxis-matrix"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/pyxis-matrix"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "PYXIS_MATRIX_CACHE": "/own"}, "/own"),
        ({"HOME": "/h", "PYXIS_MATRIX_CACHE": "~/own"}, "/h/own"),
        ({"HOME": "/h", "PYXIS_MATRIX_CACHE": ""}, "/h/.cache/pyxis-matrix"),
    ],
)
def test_the_cache_follows_the_environment(
    environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "PYXIS_MATRIX_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert paths.cache_dir() == Path(expected)


@pytest.mark.parametrize("chosen", ["", "~nobody-of-this-name/cache"])
def test_a_user_without_a_home_is_told_how_to_choose_a_place(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: object) -> NoReturn:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(PyxisMatrixError, match="set PYXIS_MATRIX_CACHE"):
        paths.cache_dir({"PYXIS_MATRIX_CACHE": chosen})


def test_results_are_kept_in_the_repository_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert paths.results_dir({}) == paths.REPOSITORY / "results"
    assert paths.results_dir({"PYXIS_MATRIX_RESULTS": "here"}) == tmp_path / "here"


def test_a_run_id_is_utc_time_and_something_random() -> None:
    tokyo = datetime(2026, 11, 25, 11, 34, 31, tzinfo=timezone(timedelta(hours=9)))

    ids = {paths.new_run_id(tokyo) for _ in range(20)}

    assert all(re.fullmatch(r"20261125-023431-[0-9a-f]{4}", run_id) for run_id in ids)
    assert len(ids) > 1


def test_run_ids_sort_by_time() -> None:
    earlier = datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)

    assert paths.new_run_id(earlier) < paths.new_run_id(earlier + timedelta(seconds=1))


def test_a_folder_that_cannot_be_made_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ArtefactError, match=r"file/below\n.*Not a directory\n.*PYXIS_MATRIX_CACHE"):
        paths.make_directory(tmp_path / "file" / "below", ArtefactError)
