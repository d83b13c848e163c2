"""The jobs of a fleet: which cells run where, and how the plan is written."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json
from pathlib import Path

import msgspec
import pytest

from ci.errors import SelectionError
from ci.fleet import balancing, earlier, planning
from ci.fleet.balancing import NOMINAL_SECONDS, Expectation, balance
from ci.fleet.formats import formats
from ci.fleet.model import FleetPlan, Job
from ci.fleet.planning import FleetRequest, of_arch, plan_fleet
from ci.images import cache
from ci.matrix.arch import Arch
from ci.matrix.cells import Cell
from ci.matrix.mentioned import requested_cells
from ci.matrix.model import Matrix
from ci.matrix.suites import requested_suites as suites_of
from ci.options import Options
from ci.record import store
from ci.record.outcomes import Outcome
from ci.record.store import CellRecord
from ci.report.model import SCHEMA, CellReport, Compat, Past, State, SuiteReport
from tests.support.results import result
from tests.unit.conftest import MatrixLoader

Planner = Callable[..., FleetPlan]
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def rows(load_matrix: MatrixLoader) -> Matrix:
    """Return a matrix with 8 real, 2 embedded and 2 legacy cells per architecture."""
    return load_matrix()


@pytest.fixture
def plan(rows: Matrix) -> Planner:
    """Return a function that plans the group `full` for some suites."""

    def planned(
        *suites: str,
        seconds: balancing.Seconds | None = None,
        reasons: planning.Reasons | None = None,
        arch: Arch | None = Arch.AMD64,
        **more: object,
    ) -> FleetPlan:
        options, runners = Options(run="r"), formats()["text"].runners
        asked = FleetRequest(suites=suites_of(suites), options=options, group="full", runners=runners)
        cells = of_arch(requested_cells([], "full", rows, Arch.AMD64, {}), arch, "full")
        return plan_fleet(cells, rows, replace(asked, **more), seconds or {}, reasons)  # type: ignore[arg-type]

    return planned


def jobs(rows: Matrix, *seconds: float, arch: Arch = Arch.AMD64) -> list[Job]:
    cells = of_arch(requested_cells([], "full", rows, Arch.AMD64, {}), arch, "full")
    return [Job(cell=cell, suites=("s",), seconds=it, measured=True) for cell, it in zip(cells, seconds, strict=False)]


# -- who gets what --------------------------------------------------------------------------------------------------


def test_the_longest_jobs_are_given_out_first(rows: Matrix) -> None:
    shards = balance(jobs(rows, 5, 4, 3, 3, 3), 2)
    assert [[job.seconds for job in shard] for shard in shards] == [[5, 3], [4, 3, 3]]


def test_every_job_is_in_one_shard_and_none_is_empty(rows: Matrix) -> None:
    given = jobs(rows, *[0] * 7)
    shards = balance(given, 7)
    assert all(shards)
    assert sorted(job.cell.id for shard in shards for job in shard) == sorted(job.cell.id for job in given)


def test_a_shard_has_one_architecture_and_the_longer_one_gets_more_shards(rows: Matrix) -> None:
    shards = balance([*jobs(rows, 10, 10, 10, 10), *jobs(rows, 1, 1, arch=Arch.ARM64)], 4)
    assert [{job.cell.arch for job in shard} for shard in shards] == [{Arch.AMD64}] * 3 + [{Arch.ARM64}]


def test_no_architecture_gets_more_shards_than_it_has_cells(rows: Matrix) -> None:
    shards = balance([*jobs(rows, 1000), *jobs(rows, 1, 1, arch=Arch.ARM64)], 3)
    assert [len(shard) for shard in shards] == [1, 1, 1]


def test_impossible_numbers_of_shards_are_refused(rows: Matrix) -> None:
    both = [*jobs(rows, 1, 1), *jobs(rows, 1, arch=Arch.ARM64)]
    with pytest.raises(SelectionError, match="too few for the architectures amd64 and arm64"):
        balance(both, 1)
    with pytest.raises(SelectionError, match=r"--shards 4 is more than there are cells: 3[\s\S]*--shards 3 or fewer"):
        balance(both, 4)


def test_what_was_not_measured_counts_as_the_median_of_its_suite(rows: Matrix) -> None:
    first, second = requested_cells([], "full", rows, Arch.AMD64, {})[:2]
    expect = Expectation({(first.id, "a"): 10, ("x", "a"): 30, ("y", "a"): 50, (first.id, "b"): 1000})
    assert expect.of(first, "a") == (10, True)
    assert expect.of(second, "a") == (30, False)
    assert expect.of(second, "never") == (40, False)  # of all that was measured
    assert Expectation({}).of(first, "a") == (NOMINAL_SECONDS, False)


# -- what is planned ------------------------------------------------------------------------------------------------


def test_suites_run_on_the_cells_that_they_are_for(plan: Planner) -> None:
    made = plan("pyxis_basic", "pyxis_upstream", "legacy_integration")
    by_runtime: dict[str, set[tuple[str, ...]]] = {}
    for job in made.jobs:
        by_runtime.setdefault(job.cell.runtime.value, set()).add(job.suites)
    assert by_runtime == {
        "nvidia": {("pyxis_basic", "pyxis_upstream")},
        "embedded": {("pyxis_basic",)},
        "legacy": {("legacy_integration",)},
    }
    assert made.left_out == {}


def test_a_cell_without_a_suite_is_left_out_with_the_reason(plan: Planner) -> None:
    left_out = plan("pyxis_basic").left_out
    assert all("-legacy-" in cell and "pyxis_basic: it is for" in why for cell, why in left_out.items())
    assert left_out


def test_without_a_number_each_architecture_gets_one_shard(plan: Planner) -> None:
    assert [shard.arch for shard in plan(arch=None).shards] == [Arch.AMD64, Arch.ARM64]


def test_the_command_of_a_shard_names_its_cells_its_suites_and_the_options(plan: Planner) -> None:
    shard = plan("registry", "pyxis_basic", shards=3, options=Options(run="r", nodes=3)).shards[0]
    cells = " ".join(cell.id for cell in shard.cells)
    assert shard.command == f"nox -s matrix -- {cells} --suite pyxis_basic --suite registry --nodes 3"


def test_images_come_first_where_a_cache_is_named_and_each_slurm_once(plan: Planner) -> None:
    assert plan("pyxis_basic").images == ()
    made = plan("pyxis_basic", image_cache="reg.example/x")
    planned = [{cell.slurm for cell in batch.cells} for batch in made.images]
    assert [len(slurms) for slurms in planned] == [1, 1]
    assert planned[0] != planned[1]
    assert sum(len(batch.cells) for batch in made.images) == len(made.jobs)
    assert made.images[0].command.startswith(f"nox -s images -- {made.images[0].cells[0].id} ")


def test_a_change_leaves_only_the_cells_that_it_can_affect(plan: Planner) -> None:
    everything = plan("pyxis_basic")
    wanted = everything.jobs[0].cell
    made = plan("pyxis_basic", reasons={wanted.id: ("why",)}, since="main", shards=5)
    assert [(job.cell, job.reasons) for job in made.jobs] == [(wanted, ("why",))]
    assert len(made.shards) == 1  # five were asked for by somebody who could not know
    assert "since main" in [*made.left_out.values()][-1]
    nothing = plan("pyxis_basic", reasons={}, since="main", shards=5)
    assert nothing.shards == ()
    assert "nothing to run" in formats()["text"].write(nothing)


@pytest.mark.parametrize(
    ("group", "arch", "says"), [("ful", None, "did you mean 'full'"), ("smoke", Arch.ARM64, "has no cell for arm64")]
)
def test_a_group_that_is_unknown_or_empty_is_refused(rows: Matrix, group: str, arch: Arch | None, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        of_arch(requested_cells([], group, rows, Arch.AMD64, {}), arch, group)


def test_suites_that_fit_no_cell_are_refused(rows: Matrix) -> None:
    legacy = tuple(cell for cell in rows.all_cells(Arch.AMD64) if cell.runtime == "legacy")
    with pytest.raises(SelectionError, match=r"none of these suites[\s\S]*registry: it is for"):
        plan_fleet(legacy, rows, FleetRequest(suites=suites_of(["registry"]), options=Options(run="r")), {})
    with pytest.raises(SelectionError, match="did you mean 'registry'"):
        suites_of(["registri"])


# -- how it is written ----------------------------------------------------------------------------------------------


def test_the_json_has_everything(plan: Planner) -> None:
    cell = plan("registry").jobs[0].cell
    written = json.loads(formats()["json"].write(plan("registry", seconds={(cell.id, "registry"): 12.34})))
    assert (written["schema"], written["run"], written["group"], written["suites"]) == (1, "r", "full", ["registry"])
    (shard,) = written["shards"]
    assert shard["command"].startswith("nox -s matrix -- ")
    assert shard["cells"][0] == {
        "id": cell.id,
        "suites": ["registry"],
        "seconds": 12.3,
        "measured": True,
        "reasons": [],
        "untried": [],
    }
    assert shard["seconds"] == pytest.approx(12.3 * len(shard["cells"]), abs=1)
    assert len(written["left_out"]) == 2


def test_the_text_says_what_the_plan_rests_on(plan: Planner) -> None:
    made = plan("registry")
    assert "there are no earlier results" in formats()["text"].write(made)
    one = {(made.jobs[0].cell.id, "registry"): 125.0}
    assert "earlier results of 1 cell;" in formats()["text"].write(plan("registry", seconds=one))
    every = {(job.cell.id, "registry"): 125.0 for job in made.jobs}
    text = formats()["text"].write(plan("registry", seconds=every))
    assert "by the seconds of earlier results" in text
    assert f"  {made.jobs[0].cell.id}  2 min 05 s\n" in text


def outputs(plan: FleetPlan) -> dict[str, str]:
    """Return the outputs as GitHub reads them from the file."""
    lines = formats()["github"].write(plan).splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_github_gets_a_matrix_of_shards(plan: Planner) -> None:
    runners = formats()["github"].runners
    made = plan("registry", arch=None, shards=3, runners=runners, image_cache="x")
    found = outputs(made)
    shards = json.loads(found["shards"])["include"]
    assert [shard["name"] for shard in shards] == ["1 of 3 (amd64)", "2 of 3 (amd64)", "3 of 3 (arm64)"]
    assert [shard["runner"] for shard in shards] == [runners[Arch.AMD64], runners[Arch.AMD64], runners[Arch.ARM64]]
    assert shards[2]["arguments"].split() == [*made.shards[2].arguments]
    assert len(json.loads(found["images"])["include"]) == 4
    assert found["run"] == "r"


def test_github_gets_empty_text_where_there_is_nothing_to_do(plan: Planner) -> None:
    found = outputs(plan("registry", reasons={}, since="main"))
    assert (found["images"], found["shards"]) == ("", "")


def test_what_a_shell_would_change_is_not_handed_to_github(plan: Planner, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="can't be handed"):
        outputs(plan("registry", options=Options(run="r", mirror=tmp_path / "a b")))


def test_github_makes_no_more_than_256_jobs(plan: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.fleet.formats.github._MOST_JOBS", 3)
    with pytest.raises(SelectionError, match="the plan has 4 shards"):
        outputs(plan("registry", shards=4))


def test_gitlab_gets_a_child_pipeline(plan: Planner) -> None:
    made = plan("registry", arch=None, shards=3, image_cache="x", runners={Arch.AMD64: "big", Arch.ARM64: "small"})
    pipeline = json.loads(formats()["gitlab"].write(made))
    assert pipeline["variables"] == {"PYXIS_MATRIX_RUN": "r"}
    assert pipeline["shard 3/3"]["tags"] == ["small"]
    assert pipeline["shard 3/3"]["script"] == [f"ci/bootstrap {made.shards[2].command}"]
    assert pipeline["shard 3/3"]["artifacts"]["when"] == "always"
    assert [name for name in pipeline if name.startswith("images")] == [f"images {number}/4" for number in range(1, 5)]
    assert pipeline["report"]["when"] == "always"
    stages = [job["stage"] for job in pipeline.values() if isinstance(job, dict) and "stage" in job]
    assert stages == sorted(stages, key=pipeline["stages"].index)


def test_a_cache_that_may_be_read_only_is_filled_by_no_job(plan: Planner) -> None:
    made = plan("registry", image_cache="x", images_first=False)
    assert made.images == ()
    pipeline = json.loads(formats()["gitlab"].write(made))
    assert pipeline["variables"] == {"PYXIS_MATRIX_RUN": "r", cache.READ_ONLY_VARIABLE: "1"}


def test_gitlab_has_a_job_even_if_there_is_nothing_to_do(plan: Planner) -> None:
    pipeline = json.loads(formats()["gitlab"].write(plan("registry", reasons={}, since="main")))
    assert [name for name, job in pipeline.items() if "script" in job] == ["nothing to run"]


def test_slurm_gets_an_array_job(plan: Planner) -> None:
    made = plan("registry", shards=2)
    script = formats()["sbatch"].write(made)
    assert "#SBATCH --array=1-2\n" in script
    for shard in made.shards:
        assert f'"shards {shard.number}") exec ci/bootstrap {shard.command} ;;\n' in script
    assert "images" not in script.partition("set -e")[2]
    with_images = formats()["sbatch"].write(plan("registry", shards=2, image_cache="x"))
    assert '--array=1-2 "$@" "$0" images' in with_images
    assert "exec ci/bootstrap nox -s images -- " in with_images


def test_an_array_job_has_one_architecture(plan: Planner) -> None:
    with pytest.raises(SelectionError, match=r"for amd64 and arm64[\s\S]*--arch amd64, and a second .* --run r"):
        formats()["sbatch"].write(plan("registry", arch=None))


def test_the_script_says_that_there_is_nothing_to_do(plan: Planner) -> None:
    assert "nothing to run" in formats()["sbatch"].write(plan("registry", reasons={}, since="main"))


# -- what earlier results say ---------------------------------------------------------------------------------------


@pytest.fixture
def keep(tmp_path: Path, rows: Matrix) -> Callable[..., Cell]:
    """Return a function that writes a result into the folder of a run."""
    cell = rows.cells("full", Arch.AMD64)[0]

    def written(run: str, seconds: float, outcome: Outcome = Outcome.PASSED, age: int = 0) -> Cell:
        started = WHEN - timedelta(days=age)
        of = result(CellRecord.of(cell), "registry", outcome, run=run, started=started, seconds=seconds)
        store.write(of, tmp_path / run / cell.id / "registry" / store.RESULT_FILE)
        return cell

    return written


def test_the_newest_result_of_a_suite_that_ended_counts(keep: Callable[..., Cell], tmp_path: Path) -> None:
    keep("z-old", 10, age=9)
    keep("a-new", 20, Outcome.FAILED, age=1)
    cell = keep("newest", 3, Outcome.INTERRUPTED)
    keep("error", 4, Outcome.ERROR)
    keep("ahead", 999, age=-36_500)  # by a clock that is wrong
    assert earlier.seconds_of([tmp_path]) == {(cell.id, "registry"): 20}


def test_what_can_not_be_true_tells_no_seconds(keep: Callable[..., Cell], tmp_path: Path) -> None:
    cell = keep("r", 10, age=9)
    keep("elsewhere", 1)
    (tmp_path / "elsewhere" / cell.id / "registry").rename(tmp_path / "elsewhere" / cell.id / "pyxis_basic")
    assert earlier.seconds_of([tmp_path]) == {(cell.id, "registry"): 10}


def test_an_earlier_report_tells_seconds_too(keep: Callable[..., Cell], tmp_path: Path) -> None:
    cell = keep("r", 10, age=5)

    def time(seconds: float, age: int, outcome: Outcome = Outcome.PASSED, reused_from: str = "") -> Past:
        moment = WHEN - timedelta(days=age)
        return Past(
            run="r",
            outcome=outcome,
            started=moment,
            seconds=seconds,
            reused_from=reused_from,
            state=State.PASSED,
        )

    history = (time(1, 0, Outcome.ERROR), time(0, 1, reused_from="r0"), time(30, 2), time(40, 3))
    suite = SuiteReport(**msgspec.structs.asdict(history[0]), suite="registry", history=history)
    report = Compat(
        schema=SCHEMA, made=WHEN, cells=(CellReport(id=cell.id, runtime="nvidia", state=State.PASSED, suites=(suite,)),)
    )
    (tmp_path / "report").mkdir()
    (tmp_path / "report/compat.json").write_bytes(msgspec.json.encode(report))
    assert earlier.seconds_of([tmp_path]) == {(cell.id, "registry"): 30}
    (tmp_path / "report/compat.json").write_text("{", encoding="utf-8")
    assert earlier.seconds_of([tmp_path]) == {(cell.id, "registry"): 10}


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 99}', b"[]", b'{"cell":{"id":1}}', b"\xff\xfe"])
def test_what_is_no_result_is_passed_over(keep: Callable[..., Cell], tmp_path: Path, content: bytes) -> None:
    cell = keep("r", 10)
    bad = tmp_path / "r/other/registry" / store.RESULT_FILE
    bad.parent.mkdir(parents=True)
    bad.write_bytes(content)
    assert earlier.seconds_of([tmp_path, tmp_path / "not there"]) == {(cell.id, "registry"): 10}
