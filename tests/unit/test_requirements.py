"""Versions of packages that pyproject.toml has to keep out."""

from pathlib import Path
import tomllib

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))


def requested_suites(name: str) -> Requirement:
    groups = {"run": PROJECT["project"]["dependencies"], **PROJECT["dependency-groups"]}
    (found,) = [Requirement(line) for group in groups.values() for line in group if Requirement(line).name == name]
    return found


def test_docker_py_that_breaks_with_todays_requests_is_excluded() -> None:
    """docker/docker-py#3256: before 7.1 every connection fails under requests 2.32."""
    assert "7.0.0" not in requested_suites("docker").specifier
    assert "7.1.0" in requested_suites("docker").specifier
