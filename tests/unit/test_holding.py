"""`hold`: what the pytest plugin is told, and what comes of its answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ci.cli import holding
from ci.cli.main import main
from ci.environment.launching import Environment
from ci.environment.plan import plan_environment
from ci.errors import EngineError, MatrixError, NotRunError, SelectionError
from ci.matrix import loading
from ci.matrix.arch import Arch
from ci.matrix.behaviours import AnswerKind, catalogue
from ci.matrix.cells import Cell, Runtime
from ci.matrix.suites import SUITES
from ci.options import Options
from ci.options.inputs import OwnSuite
from ci.record import store
from ci.record.store import CellRecord
from ci.report.model import State
from ci.session.record import Record
from ci.site.target import SiteTarget
from ci.terminal import signals
from tests.support import results as made
from tests.support.environments import environment

HERE = Arch.host()
CELL = f"slurm22.05-embedded-debian12-{HERE}"
FOREIGN = f"slurm22.05-embedded-debian12-{next(it for it in Arch if it is not HERE)}"


@pytest.fixture
def launched(tmp_path: Path) -> Environment:
    rows = loading.load()
    plan = plan_environment(rows.cell(CELL), rows, Options(run="r1", name="mine", results=tmp_path, pytest=True))
    file = environment(
        CELL,
        run="r1",
        suite="mine",
        enroot="3.4.1",
        registry="localhost:5",
        job_reference="localhost:5/job:1",
        engine_client="/state/bin/docker",
        results=str(tmp_path / "r1" / CELL / "mine"),
    )
    return Environment(plan=plan, file=file, path=tmp_path / "environment.json", cluster=cast("Any", None))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Record]:
    """Start no cell: collect what would be held, with its project as the working directory."""
    monkeypatch.chdir(tmp_path)
    records: list[Record] = []

    def run(record: Record) -> int:
        records.append(record)
        return 0

    monkeypatch.setattr(holding, "run_and_show", run)
    return records


def hold(*words: str) -> int:
    return main(["hold", *words])


def test_it_says_where_the_cell_is_and_returns_what_it_is_answered(
    launched: Environment, held: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hold(str(Path.cwd()), CELL, "--", "pytest", "-k", "a b") == 0
    assert held[0].elsewhere
    monkeypatch.setattr("sys.stdin", io.StringIO("5\n"))
    assert held[0].elsewhere(launched) == 5
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == "r1"
    assert told["log"].endswith(f"/r1/{CELL}/mine/reportlog.jsonl")
    assert told["facts"]["job-image"] == "localhost:5#job:1"
    assert told["facts"]["environment-file"] == str(launched.path)
    assert told["sdk"]["host_key_policy"] == "reject"
    assert "job_base_dir" not in told["sdk"], "each process has a folder of its own"
    assert told["variables"]["PYXIS_MATRIX_ENVIRONMENT"] == str(launched.path)


def test_where_nobody_answers_it_is_interrupted(
    launched: Environment, held: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(str(Path.cwd()), CELL)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert held[0].elsewhere
    with pytest.raises(signals.Interrupted):
        held[0].elsewhere(launched)


def test_results_are_those_of_a_suite_of_ones_own_and_say_how_to_do_it_again(held: list[Record]) -> None:
    tests = Path.cwd() / "tests" / "gpu"
    hold(str(tests), CELL, "--nodes", "2", "--", "pytest", "tests/gpu", "-k", "a b", "--cell", CELL)
    options = held[0].plan.options
    assert options.name.startswith(f"{Path.cwd().name}-tests-gpu-")
    assert (options.nodes, options.pytest) == (2, True)
    assert held[0].begun().again == f"pytest tests/gpu -k 'a b' --cell {CELL}"


def test_a_cell_that_is_none_is_refused(held: list[Record]) -> None:
    assert hold(str(Path.cwd()), "slurm1-none") == SelectionError.exit_code
    assert not held


def test_a_cell_that_can_not_run_here_is_refused_and_what_passed_before_does_not_stay(
    held: list[Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYXIS_MATRIX_RESULTS", str(tmp_path / "results"))
    suite = OwnSuite(path=Path.cwd(), project=Path.cwd()).name
    of = CellRecord.of(loading.load().cell(FOREIGN))
    (folder,) = made.write(tmp_path / "results", made.result(of, suite, run="again"))
    assert hold(str(Path.cwd()), FOREIGN, "--run", "again", "--", "pytest") == NotRunError.exit_code
    assert not held
    kept = store.load(folder / store.RESULT_FILE)
    assert (kept.exit_code, State.of(kept)) == (NotRunError.exit_code, State.NOT_RUN)
    assert "hardware" in kept.reason


# -- a cluster that exists ------------------------------------------------------------------------------------------

Sites = list[tuple[SiteTarget, Record, object]]


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sites:
    """Enter no cluster: collect what would be held there, and by what a job image would be built."""
    monkeypatch.chdir(tmp_path)
    found: Sites = []

    @contextmanager
    def reached(target: SiteTarget, options: Options, suites: list[str]) -> Iterator[Any]:
        assert suites == [options.name]
        axes = {"slurm": "22.05.8", "enroot": "3.4.1", "pyxis": "0.19.0", "os": "rocky9.3", "arch": "amd64"}
        yield SimpleNamespace(target=target, seen=SimpleNamespace(cell=Cell.of_site("blue", axes, {}), nodes=("n7",)))

    def run(record: Record, builder: object) -> int:
        found[-1:] = [(found[-1][0], record, builder)]
        return 0

    def environment_of(site: Any, builder: object) -> object:  # noqa: ANN401 - a double's
        found.append((site.target, cast("Any", None), builder))
        return builder

    monkeypatch.setattr(holding, "reached", reached)
    monkeypatch.setattr(holding, "environment_of", environment_of)
    monkeypatch.setattr(holding, "run_and_show", run)
    return found


def test_a_cluster_that_exists_is_held_and_its_address_is_written_nowhere(entered: Sites) -> None:
    assert hold(str(Path.cwd()), "ann@login", "--cluster", "--", "pytest", "-k", "a b") == 0
    (target, record, builder) = entered[0]
    assert (target.user, target.host, builder) == ("ann", "login", None)
    assert record.elsewhere
    begun = record.begun()
    assert (begun.cell.site, begun.suite) == ("blue", OwnSuite(path=Path.cwd(), project=Path.cwd()).name)
    assert begun.again == "pytest -k 'a b' --cluster USER@HOST"


@pytest.mark.parametrize("engine", ["an engine of its architecture", "an engine of another", ""])
def test_its_file_is_named_and_a_job_image_is_built_where_there_are_registry_and_engine(
    entered: Sites, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    found = SimpleNamespace(arch=Arch.ARM64 if engine == "an engine of another" else Arch.AMD64)

    def connect() -> object:
        if not engine:
            raise EngineError("no engine was found")
        return found

    monkeypatch.setattr(holding, "connect", connect)
    file = Path.cwd() / "blue.toml"
    file.write_text('host = "h"\nregistry = "r:5000"\n', encoding="utf-8")
    assert hold(str(Path.cwd()), str(file), "--cluster", "--", "pytest") == 0
    (_, record, builder) = entered[0]
    assert record.begun().again == f"pytest --cluster {file}"
    assert (builder() if callable(builder) else builder) == (found if engine.endswith("its architecture") else None)
    assert ("there will be no job image: " in capsys.readouterr().err) is (builder is None)


@pytest.mark.parametrize(
    ("text", "code"), [("gone.toml", SelectionError.exit_code), ("bad.toml", MatrixError.exit_code)]
)
def test_what_names_no_cluster_is_refused(entered: Sites, text: str, code: int) -> None:
    Path("bad.toml").write_text('hosst = "h"\n', encoding="utf-8")
    assert hold(str(Path.cwd()), text, "--cluster") == code
    assert not entered


def test_of_each_behaviour_it_is_told_whether_it_works_on_the_cell_and_else_what_happens() -> None:
    rows = loading.load()
    for cell in rows.cells("full", HERE):
        told = holding._behaviours(cell)  # noqa: SLF001 - what the plugin is told
        assert told.keys() == catalogue().keys()
        for name, words in told.items():
            kinds = {it.kind for it in catalogue()[name].answers}
            assert not words or words.partition(":")[0] in kinds - {AnswerKind.WORKS}
    told = holding._behaviours(rows.cell(CELL))  # noqa: SLF001
    assert any(told.values())
    plain = holding._behaviours(rows.cell(f"slurm22.05-legacy-debian12-{HERE}"))  # noqa: SLF001
    assert not any(plain[it.id] for it in catalogue().values() if Runtime.LEGACY not in SUITES[it.suite].runtimes)


def test_what_pytest_says_was_named_makes_it_a_part(launched: Environment, tmp_path: Path) -> None:
    plan = replace(launched.plan, options=replace(launched.plan.options, results=tmp_path))
    record = Record(plan=plan, command=["pytest"], command_started=True)
    folder = plan.options.folder(plan.cell)
    folder.mkdir(parents=True)
    line = {"$report_type": "Selection", "selected": ["t.py::a"], "deselected": 0, "part": ["t.py::a"]}
    (folder / "reportlog.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert record.log
    selection = record.selection(record.log)
    assert selection
    assert selection.by == ("t.py::a",)
