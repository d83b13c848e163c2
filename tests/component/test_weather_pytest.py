"""Plain ``pytest`` on a container suite: exactly one environment, however many workers, and it goes away again."""

from pathlib import Path
import sys

import docker

from ci.environment import launching
from ci.images.building import BuiltCell
from tests.component.weather import LEGACY, Process, left_behind

PROBE = "tests/component/data/container_packaging_probe.py"
# The probe is in no suite's folder, for which it would be loaded.
PLUGIN = ("-p", "tests.integration.conftest_container_packaging")


def pytest(tmp_path: Path, *arguments: str) -> Process:
    notes = tmp_path / "notes"
    notes.mkdir()
    environ = {"PYXIS_MATRIX_RESULTS": str(tmp_path / "results"), "PROBE_NOTES": str(notes)}
    words = (*PLUGIN, *arguments, "--cell", LEGACY, "-p", "no:cacheprovider", PROBE)
    return Process([sys.executable, "-m", "pytest", *words], environ)


def test_two_workers_share_one_environment(tmp_path: Path, images: BuiltCell, api: docker.DockerClient) -> None:
    assert images.node
    process = pytest(tmp_path, "-n", "2")
    assert process.end() == 0, process.output
    notes = list((tmp_path / "notes").iterdir())
    assert {note.name.split("-")[0] for note in notes} == {"gw0", "gw1"}
    (run,) = {note.read_text(encoding="utf-8") for note in notes}
    # Whatever was launched by this call left a folder of results, also if it was never used.
    assert [folder.name for folder in (tmp_path / "results").iterdir()] == [run]
    assert process.output.count(f"launching {LEGACY} …\n") == 1
    assert left_behind(api, run) == []


def test_ctrl_c_takes_it_down(tmp_path: Path, images: BuiltCell, api: docker.DockerClient) -> None:
    assert images.node
    process = pytest(tmp_path, "-n", "2", "--verbose")
    process.wait_for_output("waiting until usable")
    process.press_ctrl_c()
    assert process.end() != 0, process.output
    for folder in (tmp_path / "results").iterdir():
        assert left_behind(api, folder.name) == []
        assert not launching.state_dir(folder.name, LEGACY).exists()
