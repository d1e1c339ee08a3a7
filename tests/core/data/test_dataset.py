# SPDX-License-Identifier: Apache-2.0
"""From a plan to learned and held-out rows: what is counted, what is told, what continues an earlier run."""

from __future__ import annotations

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest

from loraforge import Examination, Record, Review
from loraforge.data import dataset
from loraforge.data.dataset import Data, load_data
from loraforge.data.findings import PlacedFinding
from loraforge.data.splitting import ASIDE, HELD_OUT, LEARNED, Split
from loraforge.errors import ConfigError, DataError
from loraforge.plan import make_plan
from loraforge.plugin_api.host import PluginHost


def record(number: int, **more) -> Record:
    return Record(where=f"row {number}", **more)


def data(records, sides, found=()) -> Data:
    parted = Split(tuple(sides), tuple(range(len(sides))), tuple(f"key {i}" for i in range(len(sides))), known=frozenset({1}))
    return Data(tuple(records), ((),) * len(records), parted, SimpleNamespace(), Examination(), (), tuple(found), {})


def finding(rows, private: bool, waived: str = "") -> PlacedFinding:
    return PlacedFinding("c", "hint", rows, "m", "", "w1", waived, private)


def test_sides_repeats_and_what_may_be_handed_on():
    records = [record(0, repeats=2), record(1), record(2, repeats=3), record(3), record(4, review=Review("Dr Li"))]
    found = [finding(("row 1", "row 4"), True, "looked at"), finding(("row 3",), False)]
    made = data(records, [LEARNED, HELD_OUT, LEARNED, ASIDE, HELD_OUT], found)
    assert made.pick(False) == [0, 2] and made.pick(True) == [1, 4]
    assert made.learned() == [0, 0, 2, 2, 2]
    assert made.shareable([0, 1, 2, 3, 4]) == [0, 2, 3], "waived or not"
    rows = made.rows()
    assert [row["where"] for row in rows] == [f"row {i}" for i in range(5)] and rows[4] == {
        "where": "row 4", "sha256": records[4].content_hash(), "asks": "key 4", "split": HELD_OUT, "group": 4, "reviewer": "Dr Li",
        "answer_learned": False,
    }  # fmt: skip
    assert [row.get("answer_learned") for row in rows] == [None, True, None, None, False], "of held-out rows alone"
    assert made.digest() == hashlib.sha256("".join(r.content_hash() for r in records).encode()).hexdigest()


def test_how_many_rows_somebody_answers_for():
    said = [Review("Dr Wu", True), Review("", True), Review("Dr Li", None), Review("Dr Li", False), Review(), Review("", False), Review()]
    counted = dataset._review([record(i, review=one) for i, one in enumerate(said)])
    assert counted == {"reviewed": 3, "approved": 2, "rejected": 2, "unreviewed": 2, "reviewers": {"Dr Li": 2, "Dr Wu": 1}}
    assert list(counted["reviewers"]) == ["Dr Li", "Dr Wu"]


@pytest.fixture
def look(host, project, tmp_path):
    """The data of a config with these rows, and what was told while they were read."""

    def go(lines=None, name: str = "config.yaml", **settings):
        told: list[str] = []
        config = project(name, **settings)
        if lines is not None:
            (tmp_path / "data" / "metadata.csv").write_text("\n".join(["instruction,output", *lines]) + "\n", encoding="utf-8")
        return load_data(make_plan(host, "text", config), told.append), told

    return go


QUESTIONS = ["工伤怎么认定", "加班费如何计算", "离婚冷静期多长", "试用期最长几个月", "租房押金不退怎么办", "遗嘱必须公证吗", "产假有多少天"]


def test_what_was_told_is_kept(look):
    made, told = look([f"{q}？,答{i}" for i, q in enumerate(QUESTIONS)], eval_ratio=0.3)
    assert made.notes == tuple(told) and [r.instruction for r in made.records] == [f"{q}？" for q in QUESTIONS]
    assert len(made.pick(True)) + len(made.pick(False)) == 7 and made.skipped == () and made.inherited == {}
    assert len(made.texts) == len(made.examination.shown) == 7 and all("答0" not in span.text for span in made.texts[1])


def test_rows_that_are_left_out_take_their_texts_along(look):
    lines = ["甲问？,答0", f"乙问？,{'长' * 300}", "丙问？,答2", "控制<|im_end|>？,x"]
    made, told = look(lines, max_seq_length=128, on_bad_row="skip", eval_ratio=0)
    assert [r.instruction for r in made.records] == ["甲问？", "丙问？"]
    for texts in (made.texts, made.examination.shown):
        assert ["答2" in "".join(span.text for span in spans) for spans in texts] == [False, True]
    assert len(made.skipped) == 2 and not set(made.skipped) & {r.content_hash() for r in made.records}
    assert made.examination.facts["longest_row"] < 128 and made.examination.problems == {}
    skipped = [line for line in told if line.startswith("skipped: ")]
    assert ["row 3" in skipped[0], "row 5" in skipped[1], len(skipped)] == [True, True, 2]


def test_a_hold_out_that_the_data_give_is_the_only_one_and_leaks_are_told(look, tmp_path, host, project):
    config = project("given.yaml", eval_ratio=0.5)
    sides = ["train"] * 6 + ["test", "test"]
    asked = [*QUESTIONS[:6], QUESTIONS[6], QUESTIONS[0]]
    rows = "".join(f"{q}？,答{i},{side}\n" for i, (q, side) in enumerate(zip(asked, sides, strict=True)))
    (tmp_path / "data" / "metadata.csv").write_text("instruction,output,split\n" + rows, encoding="utf-8")
    told: list[str] = []
    made = load_data(make_plan(host, "text", config), told.append)
    by_side = {side: {made.records[i].where.rpartition(" ")[2] for i in made.split.of(side)} for side in (LEARNED, HELD_OUT, ASIDE)}
    assert by_side == {LEARNED: {"3", "4", "5", "6", "7"}, HELD_OUT: {"8", "9"}, ASIDE: {"2"}}
    assert any("row 2: is nearly the same as metadata.csv, row 9, which is held out, so it is not learned" in line for line in told)
    plain = made.records[-1]
    assert plain.side == "train" and "side" not in plain.content()


def test_no_row_at_all(look):
    with pytest.raises(DataError, match="no row can be used") as error:
        look([f"乙问？,{'长' * 300}"], max_seq_length=64, on_bad_row="skip")
    assert len(error.value.problems) == 2
    with pytest.raises(DataError):
        look([])


def test_no_row_that_could_be_read(look, host):
    with pytest.raises(DataError) as error:
        look([",", ",答"])
    assert any("row 2" in problem or "row 3" in problem for problem in error.value.problems)


def test_a_loader_that_finds_nothing_is_explained(host, project):
    plan = make_plan(host, "text", project())
    plan = SimpleNamespace(**{**vars(plan), "loader": SimpleNamespace(load=lambda config, keys, note: [])})
    with pytest.raises(DataError, match="there are no examples in"):
        load_data(plan)


def test_everything_is_wrong_at_once(look, host, project):
    """What cannot be read, what cannot be learned, and what a template says before it looks at rows, in one message."""
    with pytest.raises(DataError) as error:
        look(["甲问？,", f"乙问？,{'长' * 300}", "丙问？,好"], max_seq_length=128)
    assert error.value.problems[0].startswith("metadata.csv, row 2: ") and error.value.problems[-1].startswith("metadata.csv, row 3: is ")
    plan = make_plan(host, "text", project())

    def refuses(config, keys, records):
        raise ConfigError("the template does not suit")

    broken = SimpleNamespace(**{**vars(plan), "template": SimpleNamespace(prepare=refuses)})
    with pytest.raises(DataError) as together:
        load_data(broken)
    assert [*together.value.problems][-1] == "the template does not suit" and "row 2" in together.value.problems[0]


def test_a_template_alone_keeps_its_kind_of_error(host, project):
    plan = make_plan(host, "text", project())

    def refuses(config, keys, records):
        raise ConfigError("the template does not suit")

    with pytest.raises(ConfigError, match="does not suit"):
        load_data(SimpleNamespace(**{**vars(plan), "template": SimpleNamespace(prepare=refuses)}))


def test_rows_of_which_a_template_makes_no_text_cannot_be_used(host, project, tmp_path):
    plugin = tmp_path / "silent.py"
    plugin.write_text(
        "from loraforge import Span, Template, hookimpl\n\n\nclass Silent(Template):\n    name, task, help = 'silent', 'text', 'Of some rows nothing.'\n\n"
        "    def render(self, record):\n        return [] if '离婚' in record.input + record.instruction else [Span(record.output, learn=True)]\n\n\n"
        "@hookimpl\ndef loraforge_templates():\n    return [Silent()]\n",
        encoding="utf-8",
    )
    config = project(prompt_template="silent")
    rows = "".join(f"{question},答{i}\n" for i, question in enumerate(QUESTIONS))
    (tmp_path / "data" / "metadata.csv").write_text("instruction,output\n" + rows, encoding="utf-8")
    with pytest.raises(DataError, match=r"row 4: the template 'silent' makes no text of it\."):
        load_data(make_plan(PluginHost([plugin], ()), "text", config))


@pytest.mark.parametrize(("ratio", "told"), [(0.3, True), (0.0, False)])
def test_it_is_said_when_nothing_could_be_held_out(look, ratio, told):
    made, notes = look(["同一个问题？,答"] * 3, eval_ratio=ratio)
    assert not made.pick(True) and any("no row could be held out" in note for note in notes) is told


def test_a_leak_is_told_by_the_names_of_its_rows(look, monkeypatch):
    leaks = (dataset.splitting.Leak(2, 0, 1), dataset.splitting.Leak(3, 3, 1), dataset.splitting.Leak(4, 0, 4))
    sides = (LEARNED, HELD_OUT, ASIDE, ASIDE, ASIDE)
    monkeypatch.setattr(dataset.splitting, "split", lambda *given: Split(sides, (0, 1, 2, 3, 4), ("a", "b", "c", "d", "e"), leaks))
    _, told = look([f"{q}？,答{i}" for i, q in enumerate(QUESTIONS[:5])])
    said = [note for note in told if "kept out of both" in note]
    row = "metadata.csv, row {}".format
    assert [row(2) in said[0], row(3) in said[0], said[0].startswith(row(4)), len(said)] == [True, True, True, 3]
    assert "same as a row of the earlier run, which is learned, and as metadata.csv, row 3," in said[1]
    assert "same as metadata.csv, row 2, which is learned, and as a row of the earlier run," in said[2]


@pytest.fixture
def earlier(tmp_path):
    """A finished run around an adapter, with the sides that its manifest lists."""

    def make(rows, inherited=None):
        folder = tmp_path / "earlier"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "adapter").mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / "adapter" / name).write_text("{}", encoding="utf-8")
        manifest = {"format": 1, "config": {}, "task": "text", "data": {"rows": rows}, "inherited": inherited or {}}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return str(folder)

    return make


LONG = [f"{q}，依法应当这样处理，并保留证据。" for q in QUESTIONS]


def test_how_rows_were_divided_is_told_in_one_line(look):
    """Three wordings of each point: the answers hold them together."""
    lines = [
        f"{q}{more}？,{answer}"
        for q, answer in zip(QUESTIONS, LONG, strict=True)
        for more in ("", "，小王想知道这件事", "，另外还有什么要注意")
    ]
    made, told = look(lines, eval_ratio=0.3)
    (line,) = [note for note in told if note.startswith("held out: ")]
    held = len(made.pick(True))
    assert line == (
        f"held out: {held} of 21 rows; near-identical questions and near-identical answers stay on one side (7 groups); the answers of {held} "
        "of them are never learned"
    )
    learned = {made.records[i].output for i in made.pick(False)}
    assert held and not any(made.records[i].output in learned for i in made.pick(True))
    assert all(row["beside"] and row["question"] <= i for i, row in enumerate(made.rows()))
    apart, told = look(lines, eval_ratio=0.3, split_by="question")
    assert any("near-identical questions stay on one side" in note for note in told) and not any(row.get("beside") for row in apart.rows())


def test_a_column_that_nobody_has(look, host, project):
    with pytest.raises(DataError, match="split_by: there is no column 'patient'. It takes answer, question, auto, or one of the columns"):
        look([f"{q}？,{answer}" for q, answer in zip(QUESTIONS, LONG, strict=True)], split_by="patient")


def test_answers_of_an_earlier_run_keep_their_sides(look, earlier):
    """Its rows are gone from the table, which asks for the same in other words."""
    before, _ = look([f"{q}？,{answer}" for q, answer in zip(QUESTIONS, LONG, strict=True)])
    rows = [{**row, "split": HELD_OUT if i % 2 else LEARNED} for i, row in enumerate(before.rows())]
    made, _ = look([f"另一种完全不同的问法第{i * 7919}号？,{answer}" for i, answer in enumerate(LONG)], init_from_adapter=earlier(rows))
    assert made.split.sides == tuple(HELD_OUT if i % 2 else LEARNED for i in range(7)) and not made.split.known
    # What both learned and held out counts as learned, and a held-out question whose answer was learned then is nothing new.
    both = [*rows, {**rows[1], "asks": "x", "sha256": "y", "split": LEARNED}]
    made, told = look(
        [f"{QUESTIONS[1]}？,{LONG[1]}", "别的问题，别的事？,别的回答，说的完全是另外一回事情。"], init_from_adapter=earlier(both)
    )
    assert made.split.sides[0] == HELD_OUT and made.split.known == {0} and any("answers of 0 of them" in note for note in told)


@pytest.mark.parametrize("ratio", [0.0, 0.9])
def test_questions_of_an_earlier_run_keep_their_sides(look, earlier, ratio):
    lines = [f"{q}？,答{i}" for i, q in enumerate(QUESTIONS)]
    plain, _ = look(lines)
    asks = plain.split.keys
    other = [{"asks": asks[i], "split": HELD_OUT if i % 2 else LEARNED} for i in range(4)]
    made, told = look(eval_ratio=ratio, init_from_adapter=earlier([*other, {"asks": "gone", "split": LEARNED}]))
    assert made.split.sides[:4] == (LEARNED, HELD_OUT, LEARNED, HELD_OUT)
    assert made.inherited == {"gone": LEARNED} and not any("earlier version" in note or "no run is around" in note for note in told)
    # A run of an earlier version knows its rows by their whole content; what a question says comes first.
    hashes = [record.content_hash() for record in plain.records]
    old = [{"sha256": hashes[i], "split": HELD_OUT if i % 2 else LEARNED} for i in range(4)]
    made, told = look(eval_ratio=ratio, init_from_adapter=earlier([*old, {"asks": asks[0], "sha256": "x", "split": HELD_OUT}]))
    assert made.split.sides[:4] == (HELD_OUT, HELD_OUT, LEARNED, HELD_OUT)
    assert sum("of an earlier version" in note for note in told) == 1


def test_a_strangers_adapter_is_told(look, tmp_path):
    (tmp_path / "stranger").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "stranger" / name).touch()
    _, told = look(init_from_adapter=str(tmp_path / "stranger"))
    assert sum("no run is around that adapter" in note for note in told) == 1
    _, told = look()
    assert not any("no run is around" in note for note in told)


def test_rows_for_something_else_are_never_held_out(look, host, monkeypatch):
    from loraforge_text.records import Conversation

    monkeypatch.setattr(Conversation, "can_be_held_out", property(lambda self: not self.instruction.startswith("例")))
    lines = [f"{'例' if i % 2 else ''}{q}？,答{i}" for i, q in enumerate(QUESTIONS)]
    made, _ = look(lines, eval_ratio=0.9)
    assert {i for i in range(7) if i % 2} <= set(made.pick(False)) and made.pick(True)


def test_every_row_that_was_refused_is_named(host, project, tmp_path):
    config = project(eval_ratio=0)
    file = tmp_path / "data" / "metadata.csv"
    file.write_text("instruction,output,approved\n甲？,a,yes\n乙？,b,no\n丙？,c,\n丁？,d,no\n", encoding="utf-8")
    made = load_data(make_plan(host, "text", config))
    assert any(note.endswith("not approved: metadata.csv, row 3; metadata.csv, row 5") for note in made.notes)
    assert len(made.records) == 2 and len(made.skipped) == 2 and made.review["rejected"] == 2
    file.write_text("instruction,output,approved\n甲？,a,no\n", encoding="utf-8")
    with pytest.raises(DataError, match="every row is marked as not approved"):
        load_data(make_plan(host, "text", config))


def test_a_template_that_cannot_render_a_row_names_it(host, project):
    plan = make_plan(host, "text", project(on_bad_row="skip", eval_ratio=0))

    class Picky:
        def __init__(self, inner):
            self.inner = inner

        def prepare(self, config, keys, records):
            return Picky(self.inner.prepare(config, keys, records))

        def render(self, record):
            if record.instruction.startswith("第3问"):
                raise DataError("no threes")
            return self.inner.render(record)

    made = load_data(SimpleNamespace(**{**vars(plan), "template": Picky(plan.template)}))
    assert "skipped: metadata.csv, row 5: no threes" in made.notes and len(made.records) == 11


def test_the_same_look_with_findings_that_do_not_stop(host, project):
    plan = make_plan(host, "text", project())
    assert load_data(plan, stop=False).records == load_data(plan).records


@pytest.mark.parametrize(
    ("lines", "settings", "said"),
    [
        (["甲问？,答,x", ",答,x"], {}, "'instruction' is empty"),
        (["甲问？,答,0", "乙问？,答,0"], {"columns": {"weight": "note"}}, "there are no examples"),
        ([f"甲问？,{'长' * 300},x"], {"max_seq_length": 32}, "cannot be used"),
        ([f"甲问？,{'长' * 300},x"], {"max_seq_length": 32, "on_bad_row": "skip"}, "no row can be used"),
    ],
)
def test_an_error_tells_what_was_told_of_the_files(host, project, tmp_path, lines, settings, said):
    config = project("c.yaml", **settings)
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(["instruction,output,note", *lines]) + "\n", encoding="utf-8")
    plan = make_plan(host, "text", config)
    told: list[str] = []
    with pytest.raises(DataError) as heard:
        load_data(plan, told.append)
    with pytest.raises(DataError) as error:
        load_data(plan)
    assert any(said in problem for problem in error.value.problems) and told
    assert error.value.problems == (*heard.value.problems, *(f"note: {text}" for text in told))
