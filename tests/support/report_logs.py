"""Lines of pytest's report log, as it and this project's plugin write them."""

import json
import re

BEGIN, END = '{"$report_type": "SessionStart"}\n', '{"$report_type": "SessionFinish"}\n'


def report(name: str, outcome: str) -> str:
    """Return what pytest reports of a test."""
    lines = [(when, outcome if when == "call" else "passed") for when in ("setup", "call", "teardown")]
    return "".join(
        f'{{"$report_type": "TestReport", "nodeid": "{name}", "when": "{when}", "outcome": "{what}"}}\n'
        for when, what in lines
    )


def selection(tests: str, *asked: tuple[str, str]) -> str:
    """Return what the project's plugin says at the end of a session in which all of these tests were to run."""
    names = list(dict.fromkeys(re.findall(r'"nodeid": "([^"]+)"', tests)))
    return json.dumps({"$report_type": "Selection", "selected": names, "deselected": 0, "asked": asked}) + "\n"
