"""With slurm-sdk: it builds an image, pushes it and submits a job that runs in it; skipped where it is not installed."""

from pathlib import Path

import foreign_tasks


def test_a_task_in_a_container(slurm_pyxis_cluster, local_registry, pyxis_matrix_cell, tmp_path, monkeypatch):
    from slurm import task

    (tmp_path / "foreign_tasks.py").write_text(Path(foreign_tasks.__file__).read_text())
    base = pyxis_matrix_cell.environment["job_image"]
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY foreign_tasks.py /opt/tasks/\nENV PYTHONPATH=/opt/tasks\n")
    monkeypatch.chdir(tmp_path)
    what_runs = task(
        time="00:10:00",
        mem="1G",
        packaging="container",
        packaging_dockerfile="Dockerfile",
        packaging_registry=f"{local_registry}/test/",
        packaging_name="foreign",
        packaging_tag="1",
        packaging_platform=f"linux/{pyxis_matrix_cell.environment['arch']}",
        packaging_tls_verify=False,
    )(foreign_tasks.what_runs)
    with slurm_pyxis_cluster:
        job = what_runs()
        assert job.wait(timeout=300)
        assert job.get_result() == "pyxis-matrix job image"
