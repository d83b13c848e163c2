"""Each kind of fault in matrix.toml, with the words that tell a person what to write instead."""

from collections.abc import Callable
from pathlib import Path
import re

import pytest

from ci.errors import MatrixError
from ci.matrix.loading import load
from tests.support.rows import faults_in

SLURM = '[[slurm]]\nversion = "22.05"\nfrom = "packages"\nrequires-os = "debian12"'
ARCHIVE = '[[slurm]]\nversion = "25.11.7"\nfrom = "archive"'
OS = '[[os]]\nname = "debian12"\ncodename = "bookworm"'
PYXIS = '[[pyxis]]\nversion = "0.19.0"'
FAILURE = '[[known-failure]]\ntests = ["test_x"]\nreason = "it hangs"\nsays = "DUE TO TIME LIMIT"'

FAULTS: list[tuple[dict[str, str], str]] = [
    # Unquoted versions (case 111): TOML has lost the zero of 0.20, the message has not
    (
        {"pyxis": "[[pyxis]]\nversion = 0.20"},
        'pyxis[0].version: expected text in quotes, found the number 0.20; quote it: version = "0.20"',
    ),
    (
        {"pyxis": "[[pyxis]]\nversion = 1"},
        'pyxis[0].version: expected text in quotes, found the number 1; quote it: version = "1"',
    ),
    (
        {"slurm": '[[slurm]]\nversion = 22.05\nfrom = "packages"'},
        'slurm[0].version: expected text in quotes, found the number 22.05; quote it: version = "22.05"',
    ),
    (
        {"head": 'schema = 1\narch = ["amd64"]\npyxis = [0.18, 0.20]', "pyxis": ""},
        'pyxis[1]: expected a row, found the number 0.20; quote it: "0.20", write it as [[pyxis]] with version =',
    ),
    (
        {"head": 'schema = 1\narch = ["amd64"]\nenroot = 3.5', "enroot": ""},
        'enroot: expected [[enroot]] rows, found the number 3.5; write it as [[enroot]] with version = "3.5"',
    ),
    (
        {"head": 'schema = 1\narch = ["amd64"]\nenroot = ["3.5.0"]', "enroot": ""},
        "enroot[0]: expected a row, found the text '3.5.0'; write it as [[enroot]] with version = \"3.5.0\"",
    ),
    (
        {"head": 'schema = 1\narch = ["amd64"]\npyxis.0.20 = "x"', "pyxis": ""},
        "pyxis: expected [[pyxis]] rows, found a table with the key '0.20'; write it as [[pyxis]] with version",
    ),
    (
        {"extra": "[[exclude]]\npyxis = 0.20\nreason = 'x'"},
        'exclude[0].pyxis: expected text in quotes, found the number 0.20; quote it: pyxis = "0.20"',
    ),
    (
        {"groups": "[groups.smoke]\ncells = [{ slurm = 22.05 }]"},
        'groups.smoke.cells[0].slurm: expected text in quotes, found the number 22.05; quote it: slurm = "22.05"',
    ),
    ({"pyxis": "[[pyxis]]\nversion = true"}, "pyxis[0].version: expected text in quotes, found the boolean true"),
    (
        {"pyxis": "[[pyxis]]\nversion = 2024-11-01"},
        "pyxis[0].version: expected text in quotes, found the date 2024-11-01",
    ),
    # Versions that are none, or not the name of a release
    ({"pyxis": '[[pyxis]]\nversion = "latest"'}, "pyxis[0].version: 'latest' is not a version"),
    ({"pyxis": '[[pyxis]]\nversion = ""'}, "pyxis[0].version: must not be empty"),
    (
        {"pyxis": '[[pyxis]]\nversion = "0.20"'},
        "pyxis[0].version: write the version in full, as the release is named, for example \"0.20.0\", not '0.20'",
    ),
    ({"pyxis": '[[pyxis]]\nversion = "v0.20.0"'}, "pyxis[0].version: write the version in full"),
    (
        {"slurm": SLURM.replace("22.05", "22.05.8")},
        "slurm[0].version: packages have a Slurm series, written YY.MM, for example \"22.05\", not '22.05.8'",
    ),
    ({"slurm": SLURM.replace("22.05", "22.5")}, "slurm[0].version: packages have a Slurm series, written YY.MM"),
    (
        {"slurm": ARCHIVE.replace("25.11.7", "25.11")},
        "slurm[0].version: a release of Slurm is written YY.MM.N, for example \"25.11.7\", not '25.11'",
    ),
    ({"slurm": ARCHIVE.replace("25.11.7", "25-11-7-1")}, "slurm[0].version: '25-11-7-1' is not a version"),
    # Where a Slurm comes from, and the operating systems
    (
        {"slurm": SLURM.replace("packages", "source")},
        "slurm[0].from: unknown source 'source' (known: packages, archive)",
    ),
    ({"slurm": '[[slurm]]\nversion = "25.11.7"'}, "slurm[0]: the key 'from' is missing"),
    (
        {"slurm": '[[slurm]]\nversion = "22.05"\nfrom = "packages"'},
        "slurm[0].requires-os: missing: which system ships these packages?",
    ),
    ({"slurm": SLURM.replace("debian12", "debian21")}, "slurm[0].requires-os: no [[os]] row is debian21; did you mean"),
    ({"pyxis": PYXIS + "\nrequires-os = []"}, "pyxis[0].requires-os: names no operating system"),
    (
        {"slurm": ARCHIVE + '\nsupported-until = "2027-05-31"'},
        "slurm[0].supported-until: expected a date without quotes, such as 2026-11-30, found the text '2027-05-31'",
    ),
    ({"os": ""}, "os: the axis is empty, so nothing can be run; add an [[os]] row with name and codename"),
    (
        {"os": '[[os]]\nname = "Debian 12"\ncodename = "bookworm"'},
        'os[0].name: write a name such as "debian12" or',
    ),
    ({"os": OS + "\n" + OS.replace("bookworm", "sid")}, "os[1].name: duplicate row: debian12 is there already"),
    (
        {"os": OS + "\n" + OS.replace("12", "21")},
        "os[1].codename: duplicate: bookworm is the code name of os[0] already",
    ),
    (
        {"os": OS.replace("bookworm", "bokworm")},
        "os[0].codename: no family in containers/families/ has 'bokworm'; did you mean 'bookworm'?",
    ),
    ({"groups": "[groups.smoke]\ncells = 'all'\ncover = 'triples'"}, "groups.smoke.cover: must be"),
    ({"pyxis": "[[pyxis]]"}, "pyxis[0]: the key 'version' is missing"),
    # Unknown keys at every level (case 112)
    (
        {"head": 'schema = 1\narch = ["amd64"]\nenroots = ["3.5.0"]'},
        "enroots: unknown key 'enroots'; did you mean 'enroot'? (known: schema, os, slurm, enroot, pyxis, arch,",
    ),
    ({"slurm": SLURM + '\nform = "sid"'}, "slurm[0].form: unknown key 'form'; did you mean 'from'?"),
    (
        {"pyxis": PYXIS + '\nrequire-enroot = ">=4"'},
        "pyxis[0].require-enroot: unknown key 'require-enroot'; did you mean 'requires-enroot'?",
    ),
    ({"pyxis": PYXIS + '\nrequires-pyxis = ">=4"'}, "pyxis[0].requires-pyxis: unknown key 'requires-pyxis'"),
    ({"embedded": "[embedded]\nslrum = '22.05'"}, "embedded.slrum: unknown key 'slrum'; did you mean 'slurm'?"),
    (
        {"extra": "[[exclude]]\nenrot = '3.4.1'\nreason = 'x'"},
        "exclude[0].enrot: unknown key 'enrot'; did you mean 'enroot'?",
    ),
    ({"extra": FAILURE + "\ntest = 'x'"}, "known-failure[0].test: unknown key 'test'; did you mean 'tests'?"),
    (
        {"extra": "[[known_failure]]\nreason = 'x'"},
        "known_failure: unknown key 'known_failure'; did you mean 'known-failure'?",
    ),
    (
        {"groups": "[groups.smoke]\ncell = []\ncells = 'all'"},
        "groups.smoke.cell: unknown key 'cell'; did you mean 'cells'?",
    ),
    (
        {"groups": "[groups.smoke]\ncells = [{ slrum = '22.05' }]"},
        "groups.smoke.cells[0].slrum: unknown key 'slrum'; did you mean 'slurm'?",
    ),
    (
        {"subject": "[subject]\nrequirement = 'x'\nconstraint = 'y'"},
        "subject.constraint: unknown key 'constraint'; did you mean 'constraints'?",
    ),
    (
        {"extra": "[suite-environment]\nhosts = 'X'"},
        "suite-environment.hosts: unknown key 'hosts'; did you mean 'host'?",
    ),
    ({"defaults": "[defaults]\ngroup = 'smoke'\nnode = 3"}, "defaults.node: unknown key 'node'; did you mean 'nodes'?"),
    # Nothing to run (case 113)
    ({"slurm": ""}, "slurm: the axis is empty, so nothing can be run; add a [[slurm]] row with a version"),
    ({"enroot": ""}, "enroot: the axis is empty"),
    ({"pyxis": "", "head": 'schema = 1\narch = ["amd64"]\npyxis = []'}, "pyxis: the axis is empty"),
    ({"head": "schema = 1\narch = []"}, 'arch: the axis is empty, so nothing can be run; for example arch = ["amd64"]'),
    ({"head": "schema = 1"}, "arch: the axis is empty"),
    ({"groups": ""}, 'groups: there is no group; for example [groups.full] with cells = "all"'),
    ({"groups": "[groups.smoke]\ncells = []"}, "groups.smoke.cells: the group is empty; list selections"),
    ({"groups": "[groups.smoke]"}, "groups.smoke.cells: the group is empty"),
    (
        {"groups": "[groups.smoke]\ncells = [{}]"},
        'groups.smoke.cells[0]: expected a selection such as { slurm = "22.05" }, found an empty one',
    ),
    ({"extra": "[[exclude]]\nreason = 'x'"}, "exclude: no cell is left; they are excluded by exclude[0] (x)"),
    (
        {"extra": "[[exclude]]\nenroot = '>=0'\nreason = 'x'\n[[exclude]]\nruntime = 'embedded'\nreason = 'y'"},
        "exclude: no cell is left; they are excluded by exclude[1] (y), exclude[0] (x)",
    ),
    (
        {"pyxis": PYXIS + '\nrequires-enroot = ">=5"'},
        "pyxis[0]: nothing can be combined with pyxis 0.19.0: pyxis 0.19.0 requires enroot >=5",
    ),
    # Exclusions
    (
        {"extra": "[[exclude]]\nenroot = '3.5.0'\nreason = 'x'"},
        "exclude[0].enroot: no [[enroot]] row is 3.5.0 (rows: 3.4.1, 4.1.2)",
    ),
    (
        {"extra": "[[exclude]]\nslurm = '<22'\nreason = 'x'"},
        "exclude[0].slurm: no [[slurm]] row is <22 (rows: 22.05, 24.11)",
    ),
    (
        {"extra": "[[exclude]]\nruntime = 'embedded'\nenroot = '3.4.1'\nreason = 'x'"},
        "exclude[0]: the exclusion matches nothing: there is no such cell",
    ),
    (
        {"extra": "[[exclude]]\nenroot = '3.4.1'\nreason = 'x'\n" * 2},
        "exclude[1]: the exclusion matches nothing: all that it matches is excluded by exclude[0]",
    ),
    ({"extra": "[[exclude]]\nenroot = '3.4.1'"}, "exclude[0]: the key 'reason' is missing"),
    ({"extra": "[[exclude]]\nenroot = '3.4.1'\nreason = ' '"}, "exclude[0].reason: must not be empty"),
    (
        {"extra": "[[exclude]]\narch = 'host'\nreason = 'x'"},
        'exclude[0].arch: "host" makes sense in groups only; name the architecture',
    ),
    ({"extra": "[[exclude]]\narch = 'arm'\nreason = 'x'"}, "exclude[0].arch: unknown architecture 'arm'"),
    (
        {"extra": "[[exclude]]\nruntime = 'nvida'\nreason = 'x'"},
        "exclude[0].runtime: unknown runtime 'nvida'; did you mean 'nvidia'?",
    ),
    (
        {"extra": "[[exclude]]\nenroot = '3.4.1'\nreason = 'x'\nissue = '175'"},
        "exclude[0].issue: expected an address or OWNER/REPO#NUMBER",
    ),
    ({"extra": "exclude = 1"}, "embedded.exclude: unknown key 'exclude'"),
    # Known failures
    (
        {"extra": FAILURE + "\npyxis = '0.21.0'"},
        "known-failure[0].pyxis: no [[pyxis]] row is 0.21.0 (rows: 0.19.0, 0.24.0)",
    ),
    (
        {"extra": FAILURE + "\nruntime = 'legacy'\npyxis = '0.19.0'"},
        "known-failure[0]: the known failure matches no cell: there is no such cell",
    ),
    (
        {"extra": FAILURE + "\nenroot = '3.4.1'\n[[exclude]]\nenroot = '3.4.1'\nreason = 'x'"},
        "known-failure[0]: the known failure matches no cell: all that it matches is excluded by exclude[0]",
    ),
    ({"extra": "[[known-failure]]\nreason = 'x'"}, "known-failure[0].tests: names no tests"),
    ({"extra": "[[known-failure]]\ntests = []\nreason = 'x'"}, "known-failure[0].tests: names no tests"),
    (
        {"extra": "[[known-failure]]\ntests = 'x'\nreason = 'x'"},
        "known-failure[0].tests: expected a list of texts, found the text 'x'",
    ),
    ({"extra": "[[known-failure]]\ntests = ['x']"}, "known-failure[0]: the key 'reason' is missing"),
    (
        {"extra": "[[known-failure]]\ntests = ['x']\nreason = 'y'"},
        "known-failure[0]: the key 'says' is missing",
    ),
    ({"extra": "[[known-failure]]\ntests = ['x']\nsays = ''"}, "known-failure[0].says: must not be empty"),
    (
        {"extra": FAILURE + "\nos = 'sid'"},
        "known-failure[0].os: no [[os]] row is sid (known: debian12, debian13)",
    ),
    (
        {"extra": FAILURE + "\nos = ['debian12', 'debain13']"},
        "known-failure[0].os: no [[os]] row is debain13; did you mean 'debian13'?",
    ),
    ({"extra": FAILURE + "\nos = []"}, "known-failure[0].os: names no operating system"),
    ({"extra": FAILURE + "\nos = 12"}, "known-failure[0].os: expected text in quotes, found the number 12"),
    (
        {"extra": "[[exclude]]\nos = 'debian13'\nslurm = '22.05'\nreason = 'x'"},
        "exclude[0]: the exclusion matches nothing: there is no such cell",
    ),
    # Duplicates
    ({"pyxis": f"{PYXIS}\n{PYXIS}"}, "pyxis[1].version: duplicate row: 0.19.0 is in pyxis[0] already"),
    ({"slurm": f"{SLURM}\n{SLURM}"}, "slurm[1].version: duplicate row: 22.05 is in slurm[0] already"),
    (
        {"slurm": f"{SLURM}\n{SLURM.replace('22', '23')}"},
        "slurm[1].requires-os: debian12 belongs to slurm[0] already, and a system ships one Slurm",
    ),
    (
        {"head": 'schema = 1\narch = ["amd64", "x86_64"]'},
        "arch[1]: duplicate: x86_64 is amd64, which is listed already",
    ),
    # Names that are not known
    ({"head": 'schema = 1\narch = ["amd46"]'}, "arch[0]: unknown architecture 'amd46' (known: amd64, x86_64"),
    (
        {"groups": "[groups.smoke]\ncells = [{ slurm = '23.02' }]"},
        "groups.smoke.cells[0].slurm: no [[slurm]] row is 23.02 (rows: 22.05, 24.11)",
    ),
    (
        {"groups": "[groups.smoke]\ncells = [{ runtime = 'embedded' }]", "embedded": ""},
        "groups.smoke.cells[0]: selects no cell: there is no such cell",
    ),
    (
        {
            "extra": "[[exclude]]\nslurm = '24.11'\nreason = 'x'",
            "groups": "[groups.smoke]\ncells = [{ slurm = '24.11' }]",
        },
        "groups.smoke.cells[0]: selects no cell: all that it matches is excluded by exclude[0]",
    ),
    (
        {"defaults": "[defaults]\ngroup = 'smok'"},
        "defaults.group: there is no group 'smok'; did you mean 'smoke'? (known: smoke, full)",
    ),
    ({"defaults": "[defaults]"}, "defaults: the key 'group' is missing"),
    ({"defaults": ""}, 'defaults: missing; for example [defaults] with group = "smoke"'),
    # Specifiers, names, types
    (
        {"pyxis": PYXIS + '\nrequires-enroot = "=>4"'},
        "pyxis[0].requires-enroot: '=>4' is not a version specifier; for example \">=3.5\"",
    ),
    (
        {"pyxis": PYXIS + "\nrequires-enroot = 4"},
        'pyxis[0].requires-enroot: expected text in quotes, found the number 4; quote it: requires-enroot = "4"',
    ),
    (
        {"groups": "[groups.smoke]\ncells = [{ slurm = 'old' }]"},
        "groups.smoke.cells[0].slurm: 'old' is not a version specifier",
    ),
    (
        {"groups": "[groups.smoke]\ncells = 'every'"},
        "groups.smoke.cells: expected a list of selections or \"all\", found the text 'every'",
    ),
    (
        {"groups": "[groups.smoke]\ncells = ['x']"},
        "groups.smoke.cells[0]: expected a selection such as { slurm = \"22.05\" }, found the text 'x'",
    ),
    (
        {"groups": "[groups.Smoke_1]\ncells = 'all'"},
        "groups.Smoke_1: a group's name has small letters, digits and hyphens, not 'Smoke_1'",
    ),
    ({"groups": "[groups]\nsmoke = 'all'"}, "groups.smoke: expected a table [groups.smoke], found the text 'all'"),
    ({"head": 'schema = 1\narch = "amd64"'}, "arch: expected a list of texts, found the text 'amd64'"),
    ({"head": "schema = 1\narch = [64, '']"}, 'arch[0]: expected text in quotes, found the number 64; quote it: "64"'),
    ({"head": "schema = 1\narch = ['amd64', '']"}, "arch[1]: must not be empty"),
    ({"head": 'schema = 2\narch = ["amd64"]'}, "schema: must be 1, the only schema that this version reads"),
    ({"head": 'arch = ["amd64"]'}, "schema: must be 1"),
    ({"head": 'schema = "1"\narch = ["amd64"]'}, "schema: expected a whole number, found the text '1'"),
    ({"defaults": "[defaults]\ngroup = 'smoke'\nnodes = 0"}, "defaults.nodes: must be at least 1, is 0"),
    (
        {"defaults": "[defaults]\ngroup = 'smoke'\nnodes = true"},
        "defaults.nodes: expected a whole number, found the boolean true",
    ),
    (
        {"defaults": "[defaults]\ngroup = 'smoke'\nnodes = 1.0"},
        "defaults.nodes: expected a whole number, found the number 1.0",
    ),
    (
        {"slurm": SLURM + "\naccounting = 'yes'"},
        "slurm[0].accounting: expected true or false, found the text 'yes'",
    ),
    (
        {"embedded": "", "head": 'schema = 1\narch = ["amd64"]\nembedded = true'},
        "embedded: expected a table [embedded], found the boolean true",
    ),
    ({"subject": ""}, "subject: there is nothing to test"),
    ({"subject": "[subject]"}, "subject: the key 'requirement' is missing"),
    ({"subject": "[subject]\nrequirement = 'slurm sdk'"}, "subject.requirement: 'slurm sdk' is not a requirement"),
    (
        {"subject": "[subject]\nrequirement = 'x'\nconstraints = ['y<5']"},
        "subject.constraints: a constraint needs a reason",
    ),
    (
        {"subject": "[subject]\nrequirement = 'x'\nconstraints = ['y<<5']\nreason = 'z'"},
        "subject.constraints[0]: 'y<<5' is not a requirement",
    ),
    (
        {"extra": "[suite-environment]\nhost = 'SLURM HOST'"},
        "suite-environment.host: 'SLURM HOST' is not a valid name of an environment variable",
    ),
    (
        {"extra": "[suite-environment]\nhost = 'X'\nport = 'X'"},
        "suite-environment.port: duplicate: the variable X is set already",
    ),
    (
        {"extra": "[suite-environment]\nhost = 'X'\n[suite-environment.extra]\nX = '1'"},
        "suite-environment.extra.X: duplicate: the variable X is set already",
    ),
    (
        {"extra": "[suite-environment.extra]\nX = 1"},
        'suite-environment.extra.X: expected text in quotes, found the number 1; quote it: X = "1"',
    ),
]


@pytest.mark.parametrize(("sections", "fault"), FAULTS, ids=[fault.split(": ")[0] for _, fault in FAULTS])
def test_fault(write_matrix: Callable[..., Path], sections: dict[str, str], fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        load(write_matrix(**sections))
    found = faults_in(caught.value)
    assert [line for line in found if re.sub(r"^matrix\.toml(:\d+)?: ", "", line).startswith(fault)], "\n".join(found)


def test_a_fault_of_all_rows_of_an_axis_has_the_line_of_the_first(write_matrix: Callable[..., Path]) -> None:
    path = write_matrix(extra="[[exclude]]\nreason = 'x'\n[[exclude]]\nreason = 'y'")
    first = path.read_text(encoding="utf-8").splitlines().index("[[exclude]]") + 1
    with pytest.raises(MatrixError, match=f"matrix.toml:{first}: exclude: no cell is left"):
        load(path)
