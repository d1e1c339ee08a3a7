# SPDX-License-Identifier: Apache-2.0
"""Checks as plugins: severities, waivers by row and by report, what stops a run, and the reports themselves."""

from __future__ import annotations

import csv
import io
import json
import re
from types import SimpleNamespace

import pytest

from loraforge import Check, Finding, hookimpl
from loraforge.data import findings
from loraforge.data.dataset import load_data
from loraforge.errors import ConfigError, DataError, PluginError
from loraforge.plan import make_plan


class Sevens(Check):
    """Finds the rows that ask about 7."""

    name, task, help = "sevens", "text", "Rows with a 7 in the question."
    severity = "error"

    def run(self, config, keys, rows):
        for i, row in enumerate(rows):
            if "第7问" in row.instruction:
                yield Finding((i, 0), "has a seven. Remove it.", "=7+1")
            if "第3问" in row.instruction:
                yield Finding((i,), "has a three.", severity="hint")


class Broken(Check):
    name, task, help = "broken", "text", "Fails."

    def run(self, config, keys, rows):
        raise ValueError("oops")


@pytest.fixture
def host(host):
    host.register(SimpleNamespace(loraforge_checks=hookimpl(lambda: [Sevens()], specname="loraforge_checks")), "sevens")
    return host


def look(host, config, **options):
    return load_data(make_plan(host, "text", config), **options)


def mine(data):
    return [one for one in data.found if one.check == "sevens"]


def test_an_error_stops_the_run_and_names_row_check_and_way_out(project, host):
    with pytest.raises(DataError) as error:
        look(host, project())
    assert error.value.problems[0].startswith("metadata.csv, row 9: sevens: has a seven. Remove it. «=7+1» (also metadata.csv, row 2)")
    assert "waivers: REPORT.csv" in error.value.problems[-1] and "checks: {sevens: warning}" in error.value.problems[-1]
    found = mine(look(host, project(), stop=False))
    assert [(one.severity, one.waived) for one in found] == [("error", ""), ("hint", "")]  # the worst first


@pytest.mark.parametrize(
    "settings, severities",
    [
        ({"checks": {"sevens": "warning"}}, ["warning", "hint"]),
        ({"checks": {"sevens": "off"}}, []),
        ({"stop_on": "never"}, ["error", "hint"]),
    ],
)
def test_severities_are_the_users(project, host, settings, severities):
    assert [one.severity for one in mine(look(host, project(**settings)))] == severities


def test_a_finding_that_is_milder_than_its_check_does_not_become_worse(project, host):
    found = mine(look(host, project(checks={"sevens": "error"}, stop_on="never")))
    assert [one.severity for one in found] == ["error", "hint"]
    assert [one.severity for one in mine(look(host, project(checks={"sevens": "hint"})))] == ["hint", "hint"]


def test_stop_on_warning(project, host):
    with pytest.raises(DataError, match="has a seven"):
        look(host, project(stop_on="warning", checks={"sevens": "warning"}))


def test_a_misspelt_check_is_an_error_with_its_line(project, host):
    with pytest.raises(ConfigError, match=r"config.yaml:\d+: checks: there is no check 'seven'. Did you mean 'sevens'\?"):
        make_plan(host, "text", project(checks={"seven": "off"}))
    with pytest.raises(ConfigError, match="checks"):
        make_plan(host, "text", project(checks={"sevens": "fatal"}))


def test_a_check_that_fails_is_not_passed_over(project, host):
    host.register(SimpleNamespace(loraforge_checks=hookimpl(lambda: [Broken()], specname="loraforge_checks")), "broken")
    with pytest.raises(PluginError, match="the check 'broken' failed"):
        look(host, project())
    look(host, project(checks={"broken": "off", "sevens": "off"}))


def test_a_row_waives_in_its_own_column(project, host, tmp_path):
    file = tmp_path / "data" / "metadata.csv"
    config = project()
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [f"{line},{'waive' if i == 0 else 'sevens' if i == 8 else ''}" for i, line in enumerate(lines)]
    file.write_text("\n".join(lines), encoding="utf-8")
    found = mine(look(host, config))
    assert found[0].waived and not found[1].waived


def test_a_waiver_that_names_no_check_is_told(project, host, tmp_path):
    file = tmp_path / "data" / "metadata.csv"
    config = project(checks={"sevens": "off"})
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text(
        "\n".join(f"{line},{'waive' if i == 0 else 'seven' if i == 8 else ''}" for i, line in enumerate(lines)), encoding="utf-8"
    )
    assert any("row 9: waives 'seven', but there is no such check" in note for note in look(host, config).notes)


def test_the_report_is_worked_through_and_given_back(project, host, tmp_path):
    report = tmp_path / "findings.csv"
    findings.write_report(look(host, project(), stop=False).found, report, "title")
    rows = list(csv.DictReader(io.StringIO(report.read_text(encoding="utf-8-sig"))))
    row = next(row for row in rows if row["check"] == "sevens")
    assert row["excerpt"] == "'=7+1"  # no spreadsheet may take it for a formula
    row["waive"] = "reviewed by Dr Li"
    for encoding, delimiter in (("utf-8-sig", ","), ("gb18030", ";")):  # what people's spreadsheets make of it
        with report.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        assert mine(look(host, project(waivers=str(report))))[0].waived == "reviewed by Dr Li"
    # written again: what somebody typed stays
    findings.write_report(look(host, project(), stop=False).found, report, "title")
    again = list(csv.DictReader(io.StringIO(report.read_text(encoding="utf-8-sig"))))
    assert [r["waive"] for r in again if r["check"] == "sevens"] == ["reviewed by Dr Li", ""]
    # the row changes: the waiver is void, and that is said; the reason is not lost
    data = tmp_path / "data" / "metadata.csv"
    data.write_text(data.read_text(encoding="utf-8").replace("答案7", "另一个答案"), encoding="utf-8")
    with pytest.raises(DataError, match="has a seven"):
        look(host, project(waivers=str(report)))
    changed = look(host, project(waivers=str(report)), stop=False)
    assert any("1 reason in" in note and "hold no longer" in note for note in changed.notes)
    findings.write_report(changed.found, report, "title")
    assert "reviewed by Dr Li" in (tmp_path / "findings.before-1.csv").read_text(encoding="utf-8-sig")


def test_a_file_that_is_no_report_is_explained(project, host, tmp_path):
    (tmp_path / "no.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="is no report of"):
        look(host, project(waivers=str(tmp_path / "no.csv")))


def test_the_page_shows_text_as_text(project, host, tmp_path):
    data = look(host, project(checks={"sevens": "warning"}))
    evil = findings.PlacedFinding("sevens", "warning", ("<b>row</b>", "b & c"), "<script>alert(1)</script>", "<i>", "1" * 16)
    findings.write_report([*data.found, evil], tmp_path / "f.html", "<title>")
    page = (tmp_path / "f.html").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"\d+", re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.S))[:4]] == list(
        findings.counts([*data.found, evil]).values()
    )
    assert "<script>" not in page and "&lt;script&gt;" in page and "&lt;b&gt;row&lt;/b&gt;<br>b &amp; c" in page and "http" not in page
    with pytest.raises(ConfigError, match=r"\.csv"):
        findings.write_report([], tmp_path / "f.docx", "")


def placed(check="c", severity="hint", rows=("row 1",), excerpt="", waived="", id="w1", message="says so.") -> findings.PlacedFinding:
    return findings.PlacedFinding(check, severity, rows, message, excerpt, id, waived)


@pytest.mark.parametrize(
    ("rows", "excerpt", "line"),
    [
        (("a",), "", "a: c: says so."),
        (("a",), "x", "a: c: says so. «x»"),
        (("a", "b"), "x", "a: c: says so. «x» (also b)"),
        (("a", "b", "c", "d"), "", "a: c: says so. (also b; c; d)"),
        (("a", "b", "c", "d", "e"), "", "a: c: says so. (also b; c; d)"),
    ],
)
def test_a_finding_in_one_line_names_at_most_four_rows(rows, excerpt, line):
    assert placed(rows=rows, excerpt=excerpt).line() == line
    assert placed().private is False


MANY = [placed("b", "error", id="1"), placed("a", "warning", id="2", waived="seen"), placed("a", "warning", id="3"), placed("a", "hint", id="4"),
        placed("b", "error", id="5"), placed("b", "error", id="6", waived="seen")]  # fmt: skip


@pytest.mark.parametrize(("stop_on", "ids"), [("error", "15"), ("warning", "135"), ("never", "")])
def test_what_stops_a_run(stop_on, ids):
    stops = findings.stopping(MANY, stop_on)
    assert "".join(one.id for one in stops) == ids
    said = findings.explain(stops)
    assert len(said) == (len(ids) + 1 if ids else 0) and (not ids or said[-1].startswith(f"{len(ids)} findings stop the run"))


def test_findings_are_counted_open_and_waived():
    assert findings.counts(MANY) == {"error": 2, "warning": 1, "hint": 1, "waived": 2}
    assert list(findings.counts([])) == ["error", "warning", "hint", "waived"]
    assert findings.by_check(MANY) == [("b", "error", 2, MANY[0]), ("a", "warning", 1, MANY[2]), ("a", "hint", 1, MANY[3])]
    assert findings.waived(MANY) == [
        {"check": "a", "severity": "warning", "where": ["row 1"], "reason": "seen"},
        {"check": "b", "severity": "error", "where": ["row 1"], "reason": "seen"},
    ]


@pytest.mark.parametrize(
    ("usual", "own", "wanted", "level"),
    [("warning", None, None, "warning"), ("warning", "hint", None, "hint"), ("warning", "error", None, "error"), ("warning", None, "error", "error"),
     ("warning", "hint", "error", "hint"), ("error", "hint", "warning", "hint"), ("warning", "error", "hint", "hint"), ("error", "error", "warning", "warning")],
)  # fmt: skip
def test_the_milder_of_the_users_word_and_the_findings_own_counts(usual, own, wanted, level):
    assert findings._severity(usual, own, wanted) == level


class Sorted(Check):
    name, task, help = "a_check", "text", "Finds the last rows first."

    def run(self, config, keys, rows):
        yield Finding((3,), "third")
        yield Finding((1, 2), "both", excerpt="x")
        yield Finding((1,), "first")


def test_findings_come_by_severity_check_and_row_with_names_that_follow_the_rows(project, host):
    host.register(SimpleNamespace(loraforge_checks=hookimpl(lambda: [Sorted()], specname="loraforge_checks")), "sorted")
    found = look(host, project(stop_on="never", checks={"sevens": "hint"})).found
    both = [one for one in found if one.check in ("sevens", "a_check")]
    order = [(findings.SEVERITIES.index(one.severity), one.check, one.where) for one in both]
    assert order == sorted(order) and len(both) == 5
    assert [one.message for one in both if one.check == "a_check"] == ["first", "both", "third"]
    assert len({one.id for one in found}) == len(found) and all(len(one.id) == 17 and one.id[0] == "w" for one in found)
    one = next(one for one in both if one.message == "both")
    assert (one.where, one.excerpt, one.waived) == (("metadata.csv, row 3", "metadata.csv, row 4"), "x", "")


@pytest.mark.parametrize("row", [-1, 12])
@pytest.mark.parametrize("kind", ["rows", "nothing", "severity"])
def test_a_check_that_points_nowhere_is_broken(project, host, row, kind):
    made = {"rows": Finding((0, row), "m"), "nothing": Finding((), "m"), "severity": Finding((0,), "m", severity="fatal")}[kind]
    broken = type("Points", (Check,), {"name": "points", "task": "text", "help": "h", "run": lambda self, config, keys, rows: [made]})
    host.register(SimpleNamespace(loraforge_checks=hookimpl(lambda: [broken()], specname="loraforge_checks")), "points")
    with pytest.raises(PluginError, match="the check 'points' failed"):
        look(host, project(checks={"sevens": "off"}))


def test_the_last_row_can_be_found(project, host):
    last = type(
        "Last", (Check,), {"name": "last", "task": "text", "help": "h", "run": lambda self, config, keys, rows: [Finding((11, 0), "m")]}
    )
    host.register(SimpleNamespace(loraforge_checks=hookimpl(lambda: [last()], specname="loraforge_checks")), "last")
    found = look(host, project(checks={"sevens": "off"})).found
    assert [one.where[0] for one in found if one.check == "last"] == ["metadata.csv, row 13"]


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_the_largest_report(monkeypatch, tmp_path, size):
    report = tmp_path / "r.csv"
    report.write_text("waive,id\nyes,w1\n, w2\n  ,w3\n so , w4 \n", encoding="utf-8")
    assert findings._LARGEST == 100_000_000
    monkeypatch.setattr(findings, "_LARGEST", report.stat().st_size + size)
    if size < 0:
        with pytest.raises(DataError, match="larger than any report"):
            findings.read_waivers(report)
    else:
        assert findings.read_waivers(report) == {"w1": "yes", "w4": "so"}


@pytest.mark.parametrize(("head", "delimiter"), [("a,b;c,d", ","), ("a;b;c,d", ";"), ("a\tb\tc;d", "\t"), ("a;b\n,,,,", ";"), ("a", ",")])
def test_the_separator_of_a_report_is_that_of_its_first_line(head, delimiter):
    assert findings._delimiter(head) == delimiter


@pytest.mark.parametrize("name", ["r.xlsx", "r.XLS", "r.et"])
def test_a_workbook_is_no_report(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="is a workbook"):
        findings.read_waivers(tmp_path / name)


def test_a_report_without_one_of_its_columns(tmp_path):
    for head, missing in (("waive,x", "id"), ("id,x", "waive"), ("", "waive")):
        (tmp_path / "r.csv").write_text(head, encoding="utf-8")
        with pytest.raises(DataError, match=f"no column '{missing}'"):
            findings.read_waivers(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("cell", "harmless"),
    [("=1+1", "'=1+1"), ("  -2", "'  -2"), ("a;=b", "a;'=b"), ("a\n+b", "a\n'+b"), ("\tx", "'\tx"), ("＝1", "'＝1"), ("a=b", "a=b"), ("1-2", "1-2"), ("", "")],
)  # fmt: skip
def test_no_cell_is_a_formula(cell, harmless):
    assert findings.harmless(cell) == harmless


def test_an_earlier_report_with_reasons_that_fit_nothing_is_kept_under_a_free_name(tmp_path):
    report = tmp_path / "r.csv"
    (tmp_path / "r.before-1.csv").write_text("older", encoding="utf-8")
    report.write_text("waive,id\nmine,w1\nlost,w9\n", encoding="utf-8")
    before = report.read_bytes()
    findings.write_report([placed(id="w1"), placed(id="w2", waived="in the data")], report, "t")
    rows = list(csv.DictReader(io.StringIO(report.read_text(encoding="utf-8-sig"))))
    assert [row["waive"] for row in rows] == ["mine", "in the data"] and report.read_bytes().startswith(b"\xef\xbb\xbfseverity,check,")
    assert (tmp_path / "r.before-2.csv").read_bytes() == before and (tmp_path / "r.before-1.csv").read_text(encoding="utf-8") == "older"
    findings.write_report([placed(id="w1")], report, "t")
    assert (tmp_path / "r.before-3.csv").exists(), "'in the data' fits nothing now"
    findings.write_report([placed(id="w1")], report, "t")
    assert not (tmp_path / "r.before-4.csv").exists()


# --- review ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(project, tmp_path):
    def make(marks: dict[int, tuple[str, str]], **settings):
        config = project(**settings)
        file = tmp_path / "data" / "metadata.csv"
        lines = file.read_text(encoding="utf-8").splitlines()
        rows = [f"{line},{','.join(('reviewer', 'approved') if i == 0 else marks.get(i, ('', '')))}" for i, line in enumerate(lines)]
        file.write_text("\n".join(rows), encoding="utf-8")
        return config

    return make


def test_reviewers_are_counted_and_rejected_rows_are_left_out(reviewed, host):
    notes: list[str] = []
    config = reviewed({1: ("Dr Li", "yes"), 2: ("Dr Li", "no"), 3: ("Dr Wu", "")}, checks={"sevens": "off"})
    data = load_data(make_plan(host, "text", config), notes.append)
    assert data.review == {"reviewed": 2, "approved": 1, "rejected": 1, "unreviewed": 9, "reviewers": {"Dr Li": 2, "Dr Wu": 1}}
    assert len(data.records) == 11 and any("not approved: metadata.csv, row 3" in note for note in notes)


def test_review_can_be_required(reviewed, project, host):
    marks = {i: ("Dr Li", "") for i in range(1, 12)}
    config = reviewed(marks, require_review=True, checks={"sevens": "off"})
    with pytest.raises(DataError, match=r"metadata.csv, row 13: nobody answers for it"):
        look(host, config)
    skipping = project(require_review=True, on_bad_row="skip", checks={"sevens": "off"})
    assert len(look(host, skipping).records) == 11


def test_what_is_said_of_a_row_does_not_change_the_row(reviewed, host, project):
    plain = look(host, project(checks={"sevens": "off"}))
    with_marks = look(host, reviewed({1: ("Dr Li", "yes")}, checks={"sevens": "off"}))
    assert plain.digest() == with_marks.digest()


# --- the command -------------------------------------------------------------------------------------------------------------


def test_check_reports_and_exits_with_2(project, command, tmp_path):
    file = tmp_path / "data" / "metadata.csv"
    config = project()
    file.write_text(file.read_text(encoding="utf-8").replace("第7问", "身份证号11010519491231002X的人问"), encoding="utf-8")
    report = tmp_path / "findings.csv"
    code, out, err = command("check", "text", config, "--report", report, "--report", tmp_path / "findings.html")
    assert code == 2 and "personal_data" in err and "row 9" in err and "Report:" in out and report.exists()
    assert "11010519491231002X" not in out + err + report.read_text(encoding="utf-8-sig")
    code, out, _ = command("check", "text", config, "--json", "--set", "stop_on=never")
    result = json.loads(out)
    assert code == 0 and result["findings"]["error"] == 1 and result["review"]["unreviewed"] == 12
    assert any(one["check"] == "personal_data" for one in result["found"])
    code, _, err = command("train", "text", config)
    assert code == 2 and "personal_data" in err and not (tmp_path / "out").exists()
