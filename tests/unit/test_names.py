"""One word, one meaning: no two classes of ``ci`` share a name."""

import ast
from collections import defaultdict
from pathlib import Path

CI = Path(__file__).parents[2] / "ci"


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in sorted(CI.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(file.relative_to(CI).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
