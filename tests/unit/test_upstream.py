"""New releases: asking GitHub, what counts as new, and how rows are added."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
import difflib
from http import HTTPStatus
import io
import json
from pathlib import Path
import tomllib
from typing import cast

import pytest
from requests import Response
import urllib3

from ci import paths, web
from ci.cli import bumping
from ci.cli.main import main
from ci.errors import ArtefactError, MatrixError, NewReleaseError, UpstreamError
from ci.matrix import loading
from ci.upstream.bump import BumpOutcome
from ci.upstream.github import GitHub, Release, Tag
from ci.upstream.news import NewRelease, Published, look, newer, published
from ci.upstream.rows import with_row
from tests.unit.conftest import MatrixLoader

BASE = "https://api.github.com/"
Of = Callable[["Api"], GitHub]
COMMIT = "f56e676bbd3e7cccbdd7c505c030c62bb983ebee"


class Api:
    """Answers of GitHub's API, by address; what comes first is answered first, and the last one again and again."""

    def __init__(self, **answers: list[Response]) -> None:
        """Take the answers by OWNER__REPOSITORY__WHAT."""
        self.answers = {f"{BASE}repos/{path.replace('__', '/')}": given for path, given in answers.items()}
        self.asked: list[str] = []

    @contextmanager
    def opened(self, url: str, **_how: object) -> Iterator[Response]:
        """Answer, as `web.opened` does."""
        self.asked.append(url)
        given = self.answers[url.partition("?")[0] if "page=2" not in url else url]
        found = given.pop(0) if len(given) > 1 else given[0]
        if not found.ok:
            raise web.StatusError(found)
        yield found


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Callable[[Api], GitHub]:
    """Return a function that returns GitHub with another API in its place."""

    def of(api: Api) -> GitHub:
        monkeypatch.setattr(web, "opened", api.opened)
        return GitHub()

    return of


def answer(body: object, status: int = 200, **headers: str) -> Response:
    made = Response()
    made.status_code, made.reason = status, HTTPStatus(status).phrase
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    made.raw = urllib3.HTTPResponse(io.BytesIO(content), preload_content=False)
    return made


def tags(*names: str) -> list[Mapping[str, object]]:
    return [{"name": name, "commit": {"sha": COMMIT, "url": "x"}, "node_id": "x"} for name in names]


def releases(*names: str, **more: object) -> list[Mapping[str, object]]:
    return [{"tag_name": name, "html_url": f"https://github.com/x/{name}", "assets": [], **more} for name in names]


# -- asking ---------------------------------------------------------------------------------------------------------


def test_all_pages_are_read(github: Of) -> None:
    second = f"{BASE}repositories/7/tags?per_page=100&page=2"
    api = Api(SchedMD__slurm__tags=[answer(tags("one"), link=f'<{second}>; rel="next", <{second}>; rel="last"')])
    api.answers[second] = [answer(tags("two"), link=f'<{BASE}x?page=1>; rel="prev"')]

    assert [tag.name for tag in github(api).tags("SchedMD/slurm")] == ["one", "two"]
    assert api.asked == [f"{BASE}repos/SchedMD/slurm/tags?per_page=100", second]


def test_pages_without_end_and_pages_elsewhere_are_refused(github: Of) -> None:
    first = f"{BASE}repos/o/r/tags"
    with pytest.raises(UpstreamError, match="more than 100 pages"):
        github(Api(o__r__tags=[answer([], link=f'<{first}?page=1>; rel="next"')])).tags("o/r")
    with pytest.raises(UpstreamError, match=r"next page is elsewhere: https://elsewhere\.example"):
        github(Api(o__r__tags=[answer([], link='<https://elsewhere.example/>; rel="next"')])).tags("o/r")


def test_requests_that_are_used_up_say_until_when_and_what_helps(github: Of) -> None:
    reset = datetime.now(UTC) + timedelta(minutes=40)
    used_up = answer({}, 403, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(reset.timestamp())))

    with pytest.raises(UpstreamError, match=f"more from {reset:%H:%M} UTC on") as caught:
        github(Api(o__r__tags=[used_up])).tags("o/r")

    assert "GITHUB_TOKEN" in caught.value.next_step


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (answer({}, 404), "no such repository"),
        (answer({}, 500), "HTTP 500"),
        (answer({}, 403), "HTTP 403"),
        (answer({"message": "a page of a proxy"}), "not what the API promises"),
        (answer(b"<html>"), "not what the API promises"),
    ],
    ids=["404", "500", "403", "object", "html"],
)
def test_what_is_no_answer_is_an_error_with_the_address(github: Of, given: Response, why: str) -> None:
    with pytest.raises(UpstreamError, match=why) as caught:
        github(Api(o__r__tags=[given])).tags("o/r")

    assert caught.value.where == f"{BASE}repos/o/r/tags?per_page=100"


def test_a_release_says_the_checksums_of_its_files_or_nothing(github: Of) -> None:
    assets = [{"name": "a.deb", "digest": f"sha256:{'a' * 64}"}, {"name": "old.deb", "digest": None}, {"name": "b"}]

    (release,) = github(Api(o__r__releases=[answer(releases("v1.0.0", assets=assets))])).releases("o/r")

    assert [(asset.name, asset.sha256) for asset in release.assets] == [("a.deb", "a" * 64), ("old.deb", ""), ("b", "")]


# -- what is new ----------------------------------------------------------------------------------------------------


def test_slurm_has_tags_and_only_those_of_releases_count(github: Of) -> None:
    names = ["slurm-25-11-7-1", "slurm-25-05-8-1", "slurm-26-11-0-0rc1", "slurm-25-11-8-0rc1", "slurm-25-11-7-2"]
    api = Api(SchedMD__slurm__tags=[answer(tags(*names, "master-base", "slurm-2-6-0-pre1", "start"))])

    found = published("slurm", github(api))

    assert [(it.version, it.commit) for it in found] == [("25.11.7", COMMIT), ("25.05.8", COMMIT)]
    assert found[0].url == "https://github.com/SchedMD/slurm/tree/slurm-25-11-7-1"


def test_drafts_pre_releases_and_other_names_are_no_releases(github: Of) -> None:
    listed = [
        *releases("v0.25.0"),
        *releases("v0.26.0", prerelease=True),
        *releases("v0.27.0", draft=True),
        *releases("v0.28.0-rc.1", "nightly", "0.29.0"),
    ]
    api = Api(
        NVIDIA__pyxis__releases=[answer(listed)], NVIDIA__pyxis__tags=[answer(tags("v0.25.0", "v0.30.0", "v0.26.0"))]
    )

    assert published("pyxis", github(api)) == [
        Published(version="0.25.0", url="https://github.com/x/v0.25.0", commit=COMMIT)
    ]


@pytest.mark.parametrize(
    ("rows", "upstream", "expected"),
    [
        pytest.param(["4.1.2"], ["4.1.2", "4.1.1"], [], id="nothing"),
        pytest.param(["3.4.1", "4.1.2"], ["4.1.3"], [("4.1.3", "4.1.2", True)], id="a patch"),
        pytest.param(["3.4.1", "4.1.2"], ["3.4.2"], [("3.4.2", "3.4.1", True)], id="a patch of an old series"),
        pytest.param(["4.1.2"], ["4.2.0", "4.2.1"], [("4.2.1", "4.1.2", False)], id="the newest of a new series"),
        pytest.param(["4.1.2"], ["4.3.0", "4.2.1"], [("4.2.1", "4.1.2", False), ("4.3.0", "4.1.2", False)], id="two"),
        pytest.param(["3.4.1", "4.1.2"], ["3.5.0", "4.0.1"], [], id="old series that nobody asked for"),
        pytest.param(["0.9.0"], ["0.10.0"], [("0.10.0", "0.9.0", False)], id="numbers and not letters"),
        pytest.param(
            ["24.11", "24.11.6", "24.11.7", "26.05"],
            ["24.11.8", "26.05.3"],
            [("24.11.8", "24.11.7", True), ("26.05.3", "24.11.7", False)],
            id="rows of packages do not count",
        ),
        pytest.param(["22.05", "24.11"], ["25.11.7"], [], id="only packages"),
        pytest.param(["25.05.8"], ["25.05.9"], [("25.05.9", "25.05.8", True)], id="noughts are kept"),
    ],
)
def test_new_is_the_newest_release_of_each_series(
    rows: list[str], upstream: list[str], expected: list[tuple[str, str, bool]]
) -> None:
    found = newer("slurm", rows, [Published(version=version, url="") for version in upstream])

    assert [(new.published.version, new.model, new.same_series) for new in found] == expected


def test_all_three_upstreams_are_asked(load_matrix: MatrixLoader) -> None:
    class Everything:
        def releases(self, repository: str) -> list[Release]:
            return [Release(tag_name={"NVIDIA/enroot": "v4.1.3", "NVIDIA/pyxis": "v0.25.0"}[repository])]

        def tags(self, repository: str) -> list[Tag]:
            assert repository in {"SchedMD/slurm", "NVIDIA/pyxis"}
            return []

    assert [str(new) for new in look(load_matrix(), cast("GitHub", Everything()))] == [
        "enroot 4.1.3 (after 4.1.2): ",
        "pyxis 0.25.0 (a new series): ",
    ]


# -- rows -----------------------------------------------------------------------------------------------------------


def new(axis: str, version: str, model: str, *, same_series: bool = True) -> NewRelease:
    release = Published(version=version, url="https://example.org")
    return NewRelease(axis=axis, published=release, model=model, same_series=same_series)


TEXT = """\
# What is tested.

[[slurm]] # head
version = "24.11.7" # why
from = "archive"
requires-os = ["debian12",
  "debian13"] # both
supported-until = 2026-05-31

# about the next
[[slurm]]
version = "25.11.7"
from   =   'archive'

# ---------------- enroot

[[enroot]]
version = "4.1.2"
"""


def test_a_row_is_added_beneath_its_own_and_all_else_stays_as_it_was() -> None:
    text = with_row(TEXT, new("slurm", "24.11.8", "24.11.7"))

    before, after = TEXT.splitlines(), text.splitlines()
    changes = [line for line in difflib.ndiff(before, after) if not line.startswith("  ")]
    assert all(line.startswith("+ ") for line in changes), "nothing is taken away"
    rows = tomllib.loads(text)["slurm"]
    assert [row["version"] for row in rows] == ["24.11.7", "24.11.8", "25.11.7"]
    assert {**rows[1], "version": "24.11.7"} == rows[0]
    assert after[after.index("# about the next") + 2] == 'version = "25.11.7"'


def test_the_last_row_of_an_axis_stays_above_the_heading_of_the_next() -> None:
    text = with_row(TEXT, new("slurm", "26.05.3", "25.11.7", same_series=False))

    assert text.index('"26.05.3"') < text.index("# ---------------- enroot") < text.index("[[enroot]]")
    assert text.endswith('[[enroot]]\nversion = "4.1.2"\n')


def test_the_very_last_row_of_a_file_can_get_one_beneath() -> None:
    assert with_row(TEXT, new("enroot", "4.1.3", "4.1.2")).endswith(
        'version = "4.1.2"\n\n[[enroot]]\nversion = "4.1.3"\n'
    )


def test_rows_that_do_not_stand_together_stay_where_they_are() -> None:
    text = f'{TEXT}\n[defaults]\nnodes = 1\n\n[[slurm]] # the last\nversion = "26.05.3"\n# the end\n'
    changed = with_row(text, new("slurm", "26.05.4", "26.05.3"))

    changes = [line for line in difflib.ndiff(text.splitlines(), changed.splitlines()) if line[0] in "+-"]
    assert changes == ["+ ", "+ [[slurm]]", '+ version = "26.05.4"']
    assert changed.endswith('version = "26.05.4"\n# the end\n')


def test_several_new_rows_stand_in_order_and_below_a_series_of_packages() -> None:
    text = TEXT.replace(
        "from   =   'archive'\n", 'from   =   \'archive\'\n\n[[slurm]]\nversion = "26.05"\nfrom = "packages"\n'
    )
    for version, model in (("25.11.8", "25.11.7"), ("26.05.3", "25.11.7"), ("26.11.0", "25.11.7")):
        text = with_row(text, new("slurm", version, model, same_series=False))

    rows = tomllib.loads(text)["slurm"]
    assert [row["version"] for row in rows] == ["24.11.7", "25.11.7", "25.11.8", "26.05", "26.05.3", "26.11.0"]
    assert [row["from"] for row in rows] == ["archive", "archive", "archive", "packages", "archive", "archive"]


def test_what_holds_for_a_series_is_not_taken_over_to_the_next() -> None:
    rows = tomllib.loads(with_row(TEXT, new("slurm", "25.05.8", "24.11.7", same_series=False)))["slurm"]

    assert rows[1] == {"version": "25.05.8", "from": "archive", "requires-os": ["debian12", "debian13"]}


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MatrixError, match="no row"):
        with_row(TEXT, new("slurm", "24.11.8", "24.11.5"))


@pytest.mark.project_matrix
@pytest.mark.parametrize("axis", ["slurm", "enroot", "pyxis"])
def test_the_committed_matrix_takes_a_new_row_and_is_still_valid(axis: str, tmp_path: Path) -> None:
    rows = getattr(loading.load(), axis)
    text = paths.MATRIX_FILE.read_text(encoding="utf-8")
    file = tmp_path / "matrix.toml"

    file.write_text(with_row(text, new(axis, "99.11.0", rows[-1].name, same_series=False)), encoding="utf-8")

    found = [row.name for row in getattr(loading.load(file), axis)]
    assert found[found.index("99.11.0") - 1] == max(rows, key=lambda row: row.version).name
    assert [name for name in found if name != "99.11.0"] == [row.name for row in rows]
    changes = difflib.ndiff(text.splitlines(), file.read_text(encoding="utf-8").splitlines())
    assert not [line for line in changes if line.startswith("- ")]


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "code"), [((), 0), ((new("enroot", "4.1.3", "4.1.2"),), NewReleaseError.exit_code)], ids=["none", "one"]
)
def test_check_only_says_what_is_new_and_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: tuple[NewRelease, ...], code: int
) -> None:
    monkeypatch.setattr(bumping, "look", lambda _matrix, _upstream: found)

    assert main(["bump", "--check"]) == code

    assert ("enroot 4.1.3 (after 4.1.2)" in capsys.readouterr().err) == bool(found)


def test_what_could_not_be_added_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    news = (new("enroot", "4.1.3", "4.1.2"), new("pyxis", "0.25.0", "0.24.0", same_series=False))
    monkeypatch.setattr(bumping, "look", lambda _matrix, _upstream: news)
    taken = BumpOutcome(added=[news[1]], left={news[0]: "HTTP 404 Not Found"})
    monkeypatch.setattr(bumping, "take", lambda _news, _sources: taken)

    assert main(["bump"]) == ArtefactError.exit_code

    said = capsys.readouterr().err
    assert "added: pyxis 0.25.0; look at its limits: it is a new series" in said
    assert "enroot 4.1.3: HTTP 404 Not Found" in said
