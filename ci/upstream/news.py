"""Which releases of upstream are newer than the rows of matrix.toml."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
import re

from packaging.version import Version

from ci.artefacts.releases import slurm_tag
from ci.matrix.model import VERSION_AXES, Matrix
from ci.upstream.github import GitHub

REPOSITORIES = {"slurm": "SchedMD/slurm", "enroot": "NVIDIA/enroot", "pyxis": "NVIDIA/pyxis"}
_RELEASE = re.compile(r"\d+\.\d+\.\d+")  # neither 22.05, a series that an OS ships, nor 25.11.0rc1


@dataclass(frozen=True, kw_only=True)
class Published:
    """A finished release of upstream."""

    version: str
    """As upstream writes it: ``25.05.8``, not ``25.5.8``."""
    url: str
    commit: str = ""
    """The commit of its tag, if it is known."""
    # Not hashed, because a dict can't be: releases are keys of what was left out.
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The sha256 of its files, by name, as far as the host says it."""

    @property
    def parsed(self) -> Version:
        """The version for comparisons."""
        return Version(self.version)

    @property
    def series(self) -> tuple[int, int]:
        """The release series: (25, 5) for 25.05.8."""
        return self.parsed.major, self.parsed.minor


@dataclass(frozen=True, kw_only=True)
class NewRelease:
    """A release that the matrix does not have."""

    axis: str
    published: Published
    model: str
    """The version of the row whose keys its own takes over: the newest of its series, or of all."""
    same_series: bool
    """Whether that row is of the same series."""

    def __str__(self) -> str:
        """Return it as a list shows it."""
        which = f"after {self.model}" if self.same_series else "a new series"
        return f"{self.axis} {self.published.version} ({which}): {self.published.url}"


def look(matrix: Matrix, upstream: GitHub) -> tuple[NewRelease, ...]:
    """Ask the three upstreams for releases that the matrix does not have.

    :raises UpstreamError: if one of them can't be asked.
    """
    return tuple(
        new
        for axis in VERSION_AXES
        for new in newer(axis, [row.name for row in getattr(matrix, axis)], published(axis, upstream))
    )


def published(axis: str, upstream: GitHub) -> list[Published]:
    """Return the finished releases of an axis' upstream."""
    repository = REPOSITORIES[axis]
    # SchedMD has tags and no releases on GitHub; a release of Pyxis does not say the commit of its tag.
    commits = {} if axis == "enroot" else {tag.name: tag.commit.sha for tag in upstream.tags(repository)}
    if axis == "slurm":
        named = {name: _slurm_version(name) for name in commits}
        page = f"https://github.com/{repository}/tree"
        return [
            Published(version=version, url=f"{page}/{name}", commit=commits[name])
            for name, version in named.items()
            if version
        ]
    return [
        Published(
            version=release.tag_name.removeprefix("v"),
            url=release.html_url,
            commit=commits.get(release.tag_name, ""),
            digests={asset.name: asset.sha256 for asset in release.assets if asset.sha256},
        )
        for release in upstream.releases(repository)
        if not (release.draft or release.prerelease) and re.fullmatch(rf"v{_RELEASE.pattern}", release.tag_name)
    ]


def newer(axis: str, rows: Iterable[str], releases: Iterable[Published]) -> list[NewRelease]:
    """Return what is new, oldest first: of each series the newest release, if it is newer than the series' rows.

    A series without a row counts only if it is newer than all of them: nobody asked for the old ones. Rows that name a
    series, such as the Slurm that an operating system ships, name no release and are not looked at.
    """
    named = (Published(version=row, url="") for row in rows if _RELEASE.fullmatch(row))
    ours = sorted(named, key=lambda row: row.parsed)
    if not ours:
        return []
    newest: dict[tuple[int, int], Published] = {}
    # In ascending order, so that the newest of each series is the one that stays.
    for release in sorted(releases, key=lambda release: release.parsed):
        newest[release.series] = release
    found = []
    for series, release in sorted(newest.items()):
        above = next((row for row in reversed(ours) if row.series == series), None)  # the newest row of the series
        if release.parsed > above.parsed if above else series > ours[-1].series:
            model = above or ours[-1]
            found.append(
                NewRelease(axis=axis, published=release, model=model.version, same_series=model.series == series)
            )
    return found


def _slurm_version(tag: str) -> str | None:
    """Return the release that a tag is: 25.05.8 for slurm-25-05-8-1; ``None`` for candidates and whatever else."""
    # slurm-21-08-8-2 is not taken: it was made again after a -1, which is the tag that a row stands for.
    version = ".".join(tag.removeprefix("slurm-").split("-")[:3])
    return version if _RELEASE.fullmatch(version) and tag == slurm_tag(version) else None
