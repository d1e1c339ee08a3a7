# SPDX-License-Identifier: Apache-2.0
"""Rows of two lists are matched."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from loraforge import Review
from loraforge.audit import rows
from loraforge.audit.rows import match
from loraforge.audit.verdicts import UNCHANGED, Verifier
from loraforge.errors import DataError
from loraforge.runs.folder import RunFolder


def test_rows_are_matched_by_their_neighbours():
    assert match(list("abcd"), list("abcd")) == ([], [], [], False)
    assert match(list("abcd"), list("aXcd")) == ([(1, 1)], [], [], False)
    assert match(list("abcd"), list("acXd")) == ([], [1], [2], False)
    assert match(list("abcde"), list("bXde")) == ([(2, 1)], [0], [], False)
    assert match(list("abc"), list("cab")) == ([], [], [], True)
    assert match(list("aab"), list("ab")) in (([], [0], [], False), ([], [1], [], False))
    assert match([], list("ab")) == ([], [], [0, 1], False)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("abc", "aXYc", ([(1, 1)], [], [2], False)),
        ("abc", "Xabc", ([], [], [0], False)),
        ("abcd", "dXbc", ([(0, 1)], [], [], True)),
        ("abcd", "bacdX", ([], [], [4], True)),
        ("abab", "ba", ([], [0, 3], [], False)),
        ("a", "b", ([(0, 0)], [], [], False)),
        ("aa", "aaa", ([], [], [2], False)),
        ("abcdef", "aXcdYf", ([(1, 1), (4, 4)], [], [], False)),
    ],
)
def test_what_was_altered_gone_new_and_moved(before, after, wanted):
    assert match(list(before), list(after)) == wanted


class Row:
    def __init__(self, sha: str, where: str = "", approved=None) -> None:
        self.sha, self.where, self.review = sha, where or f"row {sha}", Review("", approved)

    def content_hash(self) -> str:
        return self.sha


@pytest.fixture
def looked(tmp_path, monkeypatch):
    """Verifies the data of a manifest against rows; (name, state) of each part, and the sentences."""

    def go(recorded, there, *, template=None, made=None, wanted=True, parts=(), data=None, load=None, **config):
        source = tmp_path / "data"
        source.mkdir(exist_ok=True)
        if there is not None:
            (source / "rows.csv").write_text("x", encoding="utf-8")
        shown = SimpleNamespace(metadata_path=None, train_data_dir=str(source), **config)
        shown.model_copy = lambda update: SimpleNamespace(**{**vars(shown), **update})
        asked = []

        def loads(config, keys, note):
            asked.append(config.on_bad_row)
            if load:
                raise load
            return there

        def prepare(config, keys, records):
            asked.append((config.base_model, [r.sha for r in records]))
            if isinstance(made, Exception):
                raise made
            return SimpleNamespace(describe=lambda: made)

        plan = SimpleNamespace(config=shown, keys=None, loader=SimpleNamespace(load=loads), template=SimpleNamespace(prepare=prepare))

        def make_plan(host, task, file, overrides, paths, exporting):
            asked.append((task, overrides, paths, exporting))
            return plan

        monkeypatch.setattr(rows, "make_plan", make_plan)
        manifest = {
            "data": {"rows": recorded, **(data or {})},
            "template": template or {"name": "auto"},
            "base": {"folder": "/base"},
            "task": "text",
            "family": "f",
        }
        verifier = Verifier(None, RunFolder(tmp_path), manifest)
        for part in parts:
            verifier.add(*part)
        rows.verify_data(verifier, wanted)
        mine = verifier.parts[len(parts) :]
        return [(part.name, part.state) for part in mine], [part.sentence for part in mine], asked

    return go


def recorded(*shas: str, **where: str):
    return [{"sha256": sha, "where": where.get(sha, f"row {sha}")} for sha in shas]


def test_rows_that_say_what_they_said(looked):
    parts, sentences, asked = looked(
        recorded("a", "b"), [Row("a"), Row("b")], template={"name": "auto", "reason": "because"}, made={"name": "auto", "reason": "weil"}
    )
    assert (
        parts == [("rows", "unchanged"), ("auto", "unchanged")]
        and sentences[0] == "2 of 2 rows say what they said when the run was trained."
    )
    assert asked == [("text", ['model_family="f"'], False, False), "skip", ("/base", ["a", "b"])]


def test_each_row_is_told_by_its_name_then_and_now(looked):
    parts, sentences, _ = looked(recorded("a", "b", "c", "d"), [Row("X", "row b"), Row("c"), Row("Y"), Row("e", "row 9"), Row("a")])
    assert ("row c", "altered") not in parts and parts[-2] == ("rows", "altered")
    parts, sentences, _ = looked(recorded("a", "b", "c"), [Row("a"), Row("X", "row 7"), Row("c"), Row("n", "row 8")])
    assert parts[:3] == [("row b", "altered"), ("row 8", "added"), ("rows", "altered")]
    assert sentences[0].endswith(" (today it is row 7)") and sentences[2].startswith("2 of 3 rows")
    parts, sentences, _ = looked(recorded("a", "b", "c"), [Row("a"), Row("X", "row b")])
    assert (
        parts[:3] == [("row b", "altered"), ("row c", "missing"), ("rows", "altered")]
        and "today" not in sentences[0]
        and sentences[2].startswith("1 of 3")
    )
    parts, sentences, _ = looked(recorded("a", "b", "c"), [Row("c"), Row("a"), Row("b")])
    assert (
        parts[0] == ("rows", "differs") and sentences[0].startswith("3 of 3") and sentences[0].endswith("The order of the rows is another.")
    )


def test_rows_that_somebody_rejected_or_the_run_left_out_are_none_of_it(looked):
    there = [Row("a"), Row("no", approved=False), Row("b", approved=True), Row("left"), Row("other", "row 9"), Row("new")]
    parts, _, _ = looked(recorded("a", "b"), there, data={"skipped": ["left", "row 9", 3]}, made={"name": "auto"})
    assert parts[:2] == [("row new", "added"), ("rows", "altered")]
    # What was used is looked at, whatever is said of its place.
    parts, _, _ = looked(recorded("a", "b"), there[:3], data={"skipped": ["row a", "b"]}, made={"name": "auto"})
    assert parts[0] == ("rows", "unchanged")


@pytest.mark.parametrize(
    ("parts", "wanted", "reason"),
    [
        ([], False, "it was not asked for"),
        ([("file", "config.yaml", "altered", "")], True, "config.yaml, which says where the data are, is not the one of the run"),
        ([("file", "config.yaml", "not checked", "")], False, "config.yaml, which says where"),
        ([("file", "other.yaml", "altered", "")], True, None),
        ([("data", "config.yaml", "altered", "")], True, None),
        ([("file", "config.yaml", UNCHANGED, "")], True, None),
    ],
)
def test_data_are_looked_at_only_where_the_config_says_so(looked, parts, wanted, reason):
    found, sentences, asked = looked(recorded("a"), [Row("a")], made={"name": "auto"}, wanted=wanted, parts=parts)
    if reason is None:
        assert found[0] == ("rows", "unchanged")
    else:
        assert found == [("rows", "not checked"), ("template", "not checked")] and sentences[0].startswith(reason) and not asked


def test_data_that_are_gone_and_data_that_cannot_be_read(looked):
    found, sentences, _ = looked(recorded("a"), None)
    assert found == [("rows", "not checked"), ("template", "not checked")] and sentences[0].startswith("the data are not on this computer")
    for error in (DataError(["first line", "second"]), OSError("first line")):
        found, sentences, _ = looked(recorded("a"), [Row("a")], load=error)
        assert found == [("rows", "altered"), ("template", "not checked")] and sentences[0] == "first line"


@pytest.mark.parametrize("bad", [[1], [{"sha256": None}], [{"sha256": "a"}, {}]])
def test_rows_of_another_form(looked, bad):
    assert looked(bad, [Row("a")])[0] == [("data.rows", "altered")]


@pytest.mark.parametrize(
    ("made", "parts", "state"),
    [({"name": "auto"}, [], "unchanged"), ({"name": "other"}, [], "differs"), ({"name": "auto", "more": 1}, [], "differs"), (DataError("no template"), [], "not checked"),
     ({"name": "auto"}, [("base", "x", "altered", "")], "not checked"), ({"name": "auto"}, [("base", "x", "not checked", "")], "not checked"),
     ({"name": "auto"}, [("base", "x", UNCHANGED, "")], "unchanged")],
)  # fmt: skip
def test_the_template_is_made_again_where_base_and_data_are_what_they_were(looked, made, parts, state):
    assert looked(recorded("a"), [Row("a")], made=made, parts=parts)[0][-1] == ("auto", state)
    assert looked(recorded("a"), [Row("b")], made=made)[0][-1] == ("auto", "not checked")
    assert looked(
        recorded("a"), [Row("a")], made={"name": "auto", "path": Path("x")}, template=json.loads('{"name": "auto", "path": "x"}')
    )[0][-1] == ("auto", "unchanged")


@pytest.mark.parametrize(("place", "there"), [("empty", False), ("full", True), ("full/file", True), ("gone", False)])
def test_whether_there_are_data_at_all(tmp_path, place, there):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x", encoding="utf-8")
    for config in (
        SimpleNamespace(metadata_path=None, train_data_dir=str(tmp_path / place)),
        SimpleNamespace(metadata_path=str(tmp_path / place), train_data_dir="x"),
    ):
        assert rows._there(SimpleNamespace(config=config)) is there
