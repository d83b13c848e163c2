import pytest


def test_a_container_job(cluster_shell, job_image):
    said = cluster_shell.run(f"srun --container-image={job_image} cat /etc/pyxis-matrix-image").stdout
    assert "pyxis-matrix job image" in said


@pytest.mark.slurm(">=99")
def test_of_another_slurm(cluster_shell): ...
