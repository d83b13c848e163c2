"""Lists of checksums: pins.toml and SHA256SUMS."""

from datetime import date
import errno
from pathlib import Path
import tomllib

import pytest

from ci import paths
from ci.artefacts.pins import (
    ImagePin,
    Pin,
    load_image_pins,
    load_pins,
    load_sums,
    render_pins,
    save_pins,
    write_image_pins,
)
from ci.errors import ArtefactError, ChecksumError, DiskFullError

A = Pin(path="o/a.deb", sha256="a" * 64, size=1, date=date(2026, 11, 25))
B = Pin(path="o/b+caps.deb", sha256="b" * 64, size=2, date=date(2026, 1, 2))
C = Pin(path="o/archive/refs/tags/v1.tar.gz", sha256="c" * 64, size=3, date=date(2026, 1, 2), commit="d" * 40)


def test_pins_survive_being_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"

    save_pins(file, [B, C, A])

    assert load_pins(file) == {"o/a.deb": A, "o/b+caps.deb": B, C.path: C}
    assert [entry.name for entry in tmp_path.iterdir()] == ["pins.toml"], "no draft is left behind"


def test_the_text_is_the_same_in_whatever_order_pins_come() -> None:
    assert render_pins([A, B]) == render_pins([B, A])
    assert [row["path"] for row in tomllib.loads(render_pins([B, A]))["artefact"]] == ["o/a.deb", "o/b+caps.deb"]


def test_the_sum_of_a_tags_archive_is_written_as_that_of_its_tar() -> None:
    (row,) = tomllib.loads(render_pins([C]))["archive"]

    assert (row["tar-sha256"], row["tar-size"], row["commit"]) == (C.sha256, C.size, C.commit)


def test_the_header_says_who_writes_the_file() -> None:
    assert render_pins([]).startswith("# Written by `nox -s pins`")


def test_the_committed_file_is_as_the_session_writes_it() -> None:
    assert paths.PINS_FILE.read_text(encoding="utf-8") == render_pins(
        load_pins(paths.PINS_FILE).values(), load_image_pins(paths.PINS_FILE).values()
    )


def test_a_file_that_is_not_there_has_no_pins(tmp_path: Path) -> None:
    assert load_pins(tmp_path / "pins.toml") == {}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<<<<<<< HEAD", "line 1"),
        ("artefact = 3", "Expected `array`, got `int` - at `$.artefact`"),
        ("[[artefact]]\npath = 'x'", "sha256"),
        (
            "[[artefact]]\npath = 'x'\nsha256 = 'ABC'\nsize = 1\ndate = 2026-11-25",
            "[0-9a-f]{64}$' - at `$.artefact[0].sha256`",
        ),
        ("[[artefact]]\npath = 1\nsha256 = 'ABC'\nsize = 1\ndate = 2026-11-25", "got `int` - at `$.artefact[0].path`"),
        (f"[[artefact]]\npath = 'x'\nsha256 = '{'a' * 64}'\nsize = 1\ndate = 'today'", "at `$.artefact[0].date`"),
        (f"[[archive]]\npath = 'x'\nsha256 = '{'a' * 64}'\nsize = 1\ndate = 2026-11-25", "commit"),
        ("[[archive]]\npath = 'x'\ncommit = 'v1'", "[0-9a-f]{40}$' - at `$.archive[0].commit`"),
    ],
)
def test_a_damaged_file_is_reported_with_its_name_and_the_cause(tmp_path: Path, text: str, cause: str) -> None:
    file = tmp_path / "pins.toml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ArtefactError) as caught:
        load_pins(file)

    assert str(file) in str(caught.value)
    assert cause in str(caught.value)


def test_pins_that_cannot_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "pins.toml"
    target.mkdir()

    with pytest.raises(ArtefactError, match="failed to write the pins"):
        save_pins(target, [A])

    assert list(tmp_path.iterdir()) == [target]


def test_pins_for_which_there_is_no_room_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskFullError, match="failed to write the pins"):
        save_pins(tmp_path / "pins.toml", [A])
    assert list(tmp_path.iterdir()) == []


def test_sums_are_read_as_sha256sum_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "SHA256SUMS"
    file.write_text(
        f"# a remark\n{'a' * 64}  o/a.deb\n{'B' * 64} *o/b c.deb\n\n{'c' * 64}  ./o/c.deb\n", encoding="utf-8"
    )

    assert load_sums(file) == {"o/a.deb": "a" * 64, "o/b c.deb": "b" * 64, "o/c.deb": "c" * 64}


def test_a_list_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    assert load_sums(tmp_path / "SHA256SUMS") == {}


def test_a_line_that_is_no_checksum_is_refused_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "SHA256SUMS"
    file.write_text(f"{'a' * 64}  o/a.deb\nabc  o/b.deb\n", encoding="utf-8")

    with pytest.raises(ChecksumError, match="SHA256SUMS:2"):
        load_sums(file)


# -- images ---------------------------------------------------------------------------------------------------------


def test_images_are_pinned_beside_release_files_and_keep_what_no_registry_answers_for(tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    one, two = (f"sha256:{digit * 64}" for digit in "12")
    save_pins(file, [A], [ImagePin(reference="debian:sid-slim", digest=one, date=date(2026, 1, 1))])
    answers = {"registry:2": two, "debian:bookworm-slim": two}
    assert write_image_pins(file, ["debian:sid-slim", *answers], answers.get) == ["debian:sid-slim"]
    pins = load_image_pins(file)
    assert {name: pin.digest for name, pin in pins.items()} == {"debian:sid-slim": one, **answers}
    assert pins["debian:sid-slim"].date == date(2026, 1, 1)
    assert load_pins(file) == {A.path: A}
    assert pins["registry:2"].pinned == f"registry@{two}"


def test_a_digest_that_has_not_changed_keeps_its_date(tmp_path: Path) -> None:
    file = tmp_path / "pins.toml"
    digest = f"sha256:{'1' * 64}"
    save_pins(file, [], [ImagePin(reference="registry:2", digest=digest, date=date(2026, 1, 1))])
    assert write_image_pins(file, ["registry:2"], lambda _reference: digest) == []
    assert load_image_pins(file)["registry:2"].date == date(2026, 1, 1)


@pytest.mark.parametrize("digest", ["", "latest", "sha256:12", f"sha256:{'G' * 64}"])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, digest: str) -> None:
    file = tmp_path / "pins.toml"
    file.write_text(f'[[image]]\nreference = "registry:2"\ndigest = "{digest}"\ndate = 2026-01-01\n', encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"at `\$\.image\[0\]\.digest`"):
        load_image_pins(file)
