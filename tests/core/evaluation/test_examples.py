# SPDX-License-Identifier: Apache-2.0
"""Which examples base and adapter are compared on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from loraforge import RunError
from loraforge.errors import DataError
from loraforge.evaluation import examples
from loraforge.evaluation.examples import Rows, fair_order, find_rows, spread, start_of

HELD, LEARNED = "held-out", "train"


class Row:
    def __init__(self, sha: str) -> None:
        self.sha = sha

    def content_hash(self) -> str:
        return self.sha

    def __repr__(self) -> str:
        return self.sha


def opened(rows, **manifest):
    run = SimpleNamespace(path=Path("run"), manifest_file=Path("run/manifest.json"), config_file=Path("run/config.yaml"))
    return SimpleNamespace(manifest={"data": {"rows": rows}, **manifest}, run=run, task=SimpleNamespace(name="text"))


def planned(*shas: str):
    return SimpleNamespace(loader=SimpleNamespace(load=lambda config, keys, note: [Row(sha) for sha in shas]), config=None, keys=None)


def recorded(*rows):
    return [
        {
            "sha256": sha,
            "split": side,
            **({"group": group} if group is not None else {}),
            **({"answer_learned": False} if side == HELD else {}),
        }
        for sha, side, group in rows
    ]


def names(rows) -> list[str]:
    return [row.sha for row in rows]


def test_rows_that_are_still_there_by_side():
    run = opened(
        recorded(("a", HELD, 0), ("b", LEARNED, 1), ("c", HELD, 0), ("gone", HELD, 3), ("s", "set aside", 4), ("l", LEARNED, None))
    )
    found = find_rows(None, run, planned("new", "c", "b", "a", "l", "s"), None)
    assert (names(found.heldout), names(found.learned)) == (["c", "a"], ["b", "l"])
    assert (found.all_held, found.missing, found.earlier, found.earlier_group) == (3, 1, (), ())
    assert found.group == {"a": 0, "b": 1, "c": 0, "gone": 3, "s": 4}
    assert found.groups([Row("c"), Row("l"), Row("a"), Row("x")]) == [0, -2, 0, -4], "what has no cluster is one of its own"


def test_whose_answer_was_learned_stands_in_the_manifest():
    rows = [{"sha256": sha, "split": HELD, "group": 0, "question": i, "answer_learned": sha == "b"} for i, sha in enumerate("ab")]
    found = find_rows(None, opened(rows), planned("a", "b"), None)
    assert (found.part(False), found.part(True), found.question) == ([0], [1], {"a": 0, "b": 1})


def test_of_a_run_of_an_earlier_version_it_is_found_from_the_rows():
    from loraforge.plugin_api.types import Fingerprint, Lesson

    def fingerprint(row: Row) -> Fingerprint:
        key = row.sha.rstrip("0123456789")
        return Fingerprint(row.sha, frozenset({row.sha}), lessons=(Lesson(key, frozenset({key})),))

    rows = [{"sha256": sha, "split": side} for sha, side in (("a1", LEARNED), ("a2", HELD), ("b1", HELD), ("b2", "set aside"))]
    run = opened(rows)
    run.task.fingerprint = fingerprint
    found = find_rows(None, run, planned("a1", "a2", "b1", "b2"), None)
    assert names(found.heldout) == ["a2", "b1"] and (found.part(True), found.part(False)) == ([0], [1])


def test_a_row_that_stands_twice_is_not_two_that_are_missing_less():
    run = opened(recorded(("a", HELD, 0), ("b", HELD, 1)))
    assert find_rows(None, run, planned("a", "a"), None).missing == 1
    assert find_rows(None, run, planned("a", "b", "b"), None).missing == 0


def test_a_limit_is_of_held_out_rows_alone():
    run = opened(recorded(*((f"h{i}", HELD, i) for i in range(6)), *((f"l{i}", LEARNED, i) for i in range(6))))
    found = find_rows(None, run, planned(*(f"{side}{i}" for i in range(6) for side in "hl")), 3)
    every = [f"h{i}" for i in range(6)]
    assert (
        names(found.heldout) == [every[i] for i in sorted(fair_order([Row(sha) for sha in every], ())[:3])]
        and len(found.learned) == 6
        and (found.all_held, found.missing) == (6, 0)
    )


@pytest.mark.parametrize("data", [None, [], {}, {"rows": None}, {"rows": {}}, {"rows": ["a"]}, {"rows": [{"sha256": "a"}, {}]}])
def test_a_manifest_that_lists_no_rows(data):
    with pytest.raises(RunError, match="it lists no rows"):
        find_rows(None, opened([], data=data), planned(), None)


@pytest.mark.parametrize(
    ("count", "limit", "taken"),
    [(5, None, [0, 1, 2, 3, 4]), (5, 5, [0, 1, 2, 3, 4]), (5, 9, [0, 1, 2, 3, 4]), (5, 4, [0, 1, 2, 3]), (5, 2, [0, 2]), (10, 3, [0, 3, 6]), (3, 0, []), (0, 2, [])],
)  # fmt: skip
def test_evenly_over_all_rows(count, limit, taken):
    assert spread(list(range(count)), limit) == taken


@pytest.mark.parametrize(("given", "start"), [("a", "a"), (None, None), (3, None)])
def test_where_a_run_began(given, start):
    assert start_of(opened([], init_from_adapter=given)) == start and start_of(opened([])) is None


@pytest.fixture
def before(monkeypatch):
    """An earlier run with these rows, whose adapter has the hash ``d``; what is asked of it."""

    def make(rows, there, digest="d", fails=None):
        parent = SimpleNamespace(run=SimpleNamespace(path="earlier"), digest=lambda: digest)
        monkeypatch.setattr(examples, "parent_of", lambda start: parent if start == "earlier/adapter" else None)

        def load_run(host, path):
            assert path == "earlier"
            if fails:
                raise fails
            return opened(rows)

        monkeypatch.setattr(examples, "load_run", load_run)
        monkeypatch.setattr(
            examples, "make_plan", lambda host, name, file, paths, exporting: None if paths or exporting else planned(*there)
        )

    return make


EARLIER = recorded(("e1", HELD, 7), ("e2", LEARNED, 8), ("b", HELD, 9), ("e3", HELD, None), ("e4", HELD, 5))
MINE = recorded(("a", HELD, 0), ("b", LEARNED, 1))


def continued(**manifest):
    return opened(MINE, **{"init_from_adapter": "earlier/adapter", "lineage": [{"adapter": "d"}, {"adapter": "older"}], **manifest})


def test_what_the_earlier_run_held_out_and_this_one_has_not_learned(before):
    before(EARLIER, ["e4", "e2", "e3", "b", "e1", "other"])
    found = find_rows(None, continued(), planned("a", "b"), None)
    assert (names(found.earlier), found.earlier_group) == (["e4", "e3", "e1"], (5, -2, 7)) and names(found.heldout) == ["a"]
    found = find_rows(None, continued(), planned("a", "b"), 2)
    assert (names(found.earlier), found.earlier_group) == (["e4", "e3"], (5, -2))


@pytest.mark.parametrize(
    "manifest", [{"lineage": [{"adapter": "other"}]}, {"lineage": []}, {"lineage": ["d"]}, {"lineage": None}, {"init_from_adapter": None}]
)
def test_an_adapter_that_is_another_one_by_now_says_nothing(before, manifest):
    before(EARLIER, ["e1"])
    assert find_rows(None, continued(**manifest), planned("a"), None).earlier == ()


@pytest.mark.parametrize("fails", [DataError("gone"), RunError("gone"), KeyError("x"), TypeError("x")])
def test_data_that_are_gone_end_nothing(before, fails):
    before(EARLIER, ["e1"], fails=fails)
    assert find_rows(None, continued(), planned("a"), None).earlier == ()
    before([{}], ["e1"])
    assert find_rows(None, continued(), planned("a"), None).earlier == ()


def test_rows_hold_nothing_unless_told():
    assert Rows((), (), {}) == Rows((), (), {}, 0, 0, (), ())
