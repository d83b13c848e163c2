"""Results without a site's names (`ci.site.redaction`): what goes, what stays, and that files stay what they are."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from ci.record import reportlog, store
from ci.record.outcomes import Outcome, TestOutcome, TestState
from ci.site.redaction import Redaction, of_host
from tests.support import results as made

NAMES = (
    *[("n1", "NODE1"), ("n2", "NODE2"), ("gpu-07", "NODE3"), ("n1-ib", "NODE1")],
    *of_host("login03.blue.example.org"),
    *of_host("192.0.2.7"),
    *of_host("Head9.lan"),
    *of_host("registry.example.org", "REGISTRY"),
    *[("ann", "USER"), ("/home/ann", "/HOME"), ("ann-lab", "GROUP"), ("short-q", "PARTITION")],
    *[
        ("debug", "PARTITION"),
        ("root", "USER"),
        ("jo", "USER"),
        ("tester", "USER"),
        ("", "QOS"),
        ("7", "QOS"),
        ("ann", "ACCOUNT"),
        ("Batch", "QOS"),
    ],
)
BLUE = Redaction(NAMES)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("ann@login03.blue.example.org:22", "ADDRESS:22"),
        ("ann@login03: refused", "USER@HOST: refused"),
        ("login04.blue.example.org, www.example.org", "login04.DOMAIN, www.DOMAIN"),
        ("Login03.Blue.example.org", "HOST"),
        ("head9 HEAD9.LAN lan", "HOST HOST lan"),
        ("registry.example.org:5000/tiny", "REGISTRY:5000/tiny"),
        ("cd /home/ann/pyxis-matrix", "cd /HOME/pyxis-matrix"),
        ("/gpfs/home/ann/x", "/gpfs/home/USER/x"),
        ("/home/anna/x", "/home/anna/x"),
        ("a channel, joann, ann2, Ann", "a channel, joann, ann2, Ann"),
        ("uid=7(ann) gid=7(ann-lab)", "uid=7(USER) gid=7(GROUP)"),
        ("containers_ann ann_x ann-x", "containers_USER USER_x USER-x"),
        ("on n1, n2, n12 and gpu-07", "on NODE1, NODE2, n12 and NODE3"),
        ("n1-ib n1-eth n1.blue.example.org", "NODE1 NODE1-eth NODE1.DOMAIN"),
        ("n[1-2,12] gpu-[07-08] x[1]", "NODES NODES x[1]"),
        ("--partition=short-q", "--partition=PARTITION"),
        # What is anybody's, or too short.
        ("debug root tester jo 7", "debug root tester jo 7"),
        # Behind an escape that ends in a letter or a digit.
        (r"'\nann\tann\\nann \x1bann \u2026ann'", r"'\nUSER\tUSER\\nUSER \x1bUSER \u2026USER'"),
        (
            "\x1b[31mann\x1b[0m \x1b[1;32mann \x1b[7mann #x1B[mann #x08ann",
            "\x1b[31mUSER\x1b[0m \x1b[1;32mUSER \x1b[7mUSER #x1B[mUSER #x08USER",
        ),
        ("http://x/%2Fann", "http://x/%2FUSER"),
        # Addresses.
        ("10.1.2.3:22 and 192.0.2.7.", "ADDRESS:22 and ADDRESS."),
        (r"a\n10.1.2.3", r"a\nADDRESS"),
        ("127.0.0.1 0.0.0.0 24.11.7 1.2.3.4.5", "127.0.0.1 0.0.0.0 24.11.7 1.2.3.4.5"),
        ("2001:db8::1/64 [fe80::a:b]:22 fd00:1:2:3:4:5:6:7", "ADDRESS/64 [ADDRESS]:22 ADDRESS"),
        ("::1 12:34:56 2026:11:30 x.py::test_a std::abs", "::1 12:34:56 2026:11:30 x.py::test_a std::abs"),
        (r"ether 52:54:00:12:34:56\n52:54:00:12:34:57", r"ether ADDRESS\nADDRESS"),
        ("ask help@example.com", "ask ADDRESS"),
    ],
)
def test_a_text(said: str, kept: str) -> None:
    assert BLUE.text(said) == kept
    assert BLUE.text(kept) == kept, "twice is as once"


def test_what_is_not_replaced_is_known() -> None:
    assert BLUE.left == ["Batch", "debug", "jo", "registry", "root", "tester"]


def test_thousands_of_nodes_have_one_pattern() -> None:
    many = Redaction((f"node{number:05}", f"NODE{number}") for number in range(2_000))
    assert len(many._patterns[1].pattern) < 400  # noqa: SLF001 - its size is its speed
    assert many.text("node00042 node42 node02000") == "NODE42 node42 node02000"


def test_data_is_not_broken() -> None:
    data = "QUJD" * 300 + "/ann+n1/=="
    assert BLUE.text(f"ann\n{data}\nann") == f"USER\n{data}\nUSER"
    assert BLUE.text(f"{data}-ann").endswith("/USER+NODE1/==-USER")


def test_without_names_a_text_is_what_it_was() -> None:
    assert Redaction(()).text("ann on n1") == "ann on n1"


# -- files ------------------------------------------------------------------------------------------------------------

WORDS = Redaction(
    [(word, "USER") for word in ("outcome", "limits", "message", "testcase", "reruns", "pyxis_basic", "ann")]
)


def test_a_result_is_read_as_before(tmp_path: Path) -> None:
    test = TestOutcome(
        name="test_limits.py::test_ann",
        outcome=TestState.FAILED,
        message='\x1b[31mann said "limits"\n\nann',
        saw=(("limits", "ann"),),
    )
    of = msgspec.structs.replace(
        made.result(made.cell("22.05.8", "debian12"), "pyxis_basic", run="ann"),
        outcome=Outcome.FAILED,
        tests=(test,),
        again="é ann",
    )
    (folder,) = made.write(tmp_path, of)
    path = folder / store.RESULT_FILE
    was = store.load(path)
    kept = WORDS.content(path.name, before := path.read_bytes())
    assert Redaction(()).content(path.name, before) == before, "its form is the same"
    path.write_bytes(kept)
    told = msgspec.structs.replace(test, message='\x1b[31mUSER said "USER"\n\nUSER')
    assert store.load(path) == msgspec.structs.replace(was, tests=(told,), again="é USER")


def test_lines_of_a_log_are_read_as_before() -> None:
    def line(**more: object) -> dict[str, object]:
        first = {
            "$report_type": "TestReport",
            "nodeid": "test_limits.py::test_ann",
            "when": "call",
            "outcome": "failed",
        }
        return {**first, "longrepr": None, "sections": [], "user_properties": [], **more}

    said = [
        line(longrepr={"reprcrash": {"path": "/x/ann", "lineno": 1, "message": "\nann\ud800"}, "ann": "é"}),
        line(sections=[["Captured stdout call", "$ id\nann"]]),
        line(user_properties=[["behaviour", {"limits": "ann"}], ["reruns", ["because of ann", "ann"]]]),
    ]
    half = b'{"nodeid": "a", "longrepr": "of\\nann'
    content = b"".join(json.dumps(it).encode() + b"\n" for it in said) + half
    kept = WORDS.content("reportlog.jsonl", content)
    *lines, rest = kept.split(b"\n")
    assert [json.loads(it) for it in lines] == [
        line(longrepr={"reprcrash": {"path": "/x/USER", "lineno": 1, "message": "\nUSER\ud800"}, "ann": "é"}),
        line(sections=[["Captured stdout call", "$ id\nUSER"]]),
        line(user_properties=[["behaviour", {"limits": "ann"}], ["reruns", ["because of USER", "USER"]]]),
    ]
    assert [reportlog.PytestReport.of(it).nodeid for it in lines] == ["test_limits.py::test_ann"] * 3
    assert rest == half.replace(b"ann", b"USER")


def test_xml_is_read_as_before() -> None:
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", {"name": "pytest", "hostname": "ann", "errors": "0"})
    case = ET.SubElement(suite, "testcase", {"name": "test_ann", "classname": "tests.test_limits"})
    ET.SubElement(case, "failure", {"message": 'x > "ann"\n<ann>'}).text = 'f(name="ann") & <ann> #x1B[31mann'
    content = ET.tostring(root, encoding="utf-8")
    assert Redaction(()).content("junit.xml", content) == content
    kept = ET.fromstring(WORDS.content("junit.xml", content))  # noqa: S314 - made here
    assert [it.tag for it in kept.iter()] == ["testsuites", "testsuite", "testcase", "failure"]
    assert kept[0].attrib == {"name": "pytest", "hostname": "USER", "errors": "0"}
    assert kept[0][0].attrib == {"name": "test_ann", "classname": "tests.test_limits"}
    assert kept[0][0][0].attrib == {"message": 'x > "USER"\n<USER>'}
    assert kept[0][0][0].text == 'f(name="USER") & <USER> #x1B[31mUSER'


def test_other_bytes_stay() -> None:
    assert WORDS.content("x.log", b"\xff\0ann \xc3\xa9\r\n") == b"\xff\0USER \xc3\xa9\r\n"
