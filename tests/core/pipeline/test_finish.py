# SPDX-License-Identifier: Apache-2.0
"""After training: the chosen step, early stopping, the comparison, promote, continued runs, learning rate applied once."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from builders import everyday

from loraforge.diagnosis import curves
from loraforge.evaluation import compare
from loraforge.runs import signing
from loraforge.runs.folder import RunFolder, save_state
from loraforge.runs.opened import load_run


def tensors(folder):
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


def same(one, other) -> bool:
    a, b = tensors(one), tensors(other)
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def apart(project, monkeypatch):
    """A run whose held-out loss is lowest after step 9: what is tested is what follows from that."""
    from loraforge.plugin_api.events import Evaluated
    from loraforge.training.loop import Loop

    def evaluate(self, step):
        loss = 5 + abs(step - 9) / 10
        self.measured.append((step, loss))
        self.call.tell(Evaluated(step, loss, len(self.heldout)))

    monkeypatch.setattr(Loop, "evaluate", evaluate)
    return lambda **settings: project(**{"epochs": 9, "save_steps": 3, "learning_rate": 0.02, **settings})


# --- the chosen step ---------------------------------------------------------------------------------------------------------


def test_the_adapter_is_that_of_the_best_checkpoint(apart, train, tmp_path):
    outcome = train(apart(save_total_limit=2))
    manifest = outcome.run.manifest()
    best = manifest["metrics"]["best_step"]
    last = manifest["facts"]["steps"]
    assert best == 9 < last
    lowest = manifest["metrics"]["best_held_out_loss"]
    assert manifest["chosen"] == {"step": best, "by": "held-out loss", "held_out_loss": lowest, "of": last // 3}
    assert manifest["metrics"]["held_out_loss"] < manifest["metrics"]["last_held_out_loss"]
    assert same(outcome.run.adapter, outcome.run.checkpoint(best) / "adapter")  # kept, although newer ones pushed it out
    assert not same(outcome.run.adapter, outcome.run.checkpoint(last) / "adapter")
    assert same(outcome.exports["peft"], outcome.run.adapter)
    final = train(apart(adapter_from="last", output_dir=str(tmp_path / "last")))
    assert final.run.manifest()["chosen"]["by"] == "last step"
    assert same(final.run.adapter, final.run.checkpoint(last) / "adapter")


def test_patience_stops_the_run_and_a_resumed_one_alike(apart, train, tmp_path, monkeypatch):
    outcome = train(apart(patience=2))
    events = [json.loads(line) for line in outcome.run.log_file.read_text(encoding="utf-8").splitlines()]
    stop = next(e for e in events if e["event"] == "StoppedEarly")
    best, steps = outcome.metrics["best_step"], outcome.run.manifest()["facts"]["steps"]
    assert stop["best_step"] == best and stop["step"] == best + 2 * 3 < steps
    assert max(e["step"] for e in events if e["event"] == "StepFinished") == stop["step"]

    saved = []
    keep = save_state

    def break_after_two(folder, state, position):
        keep(folder, state, position)
        saved.append(folder)
        if len(saved) == 2:
            monkeypatch.setattr("loraforge.pipeline.session.save_state", keep)
            raise KeyboardInterrupt

    monkeypatch.setattr("loraforge.pipeline.session.save_state", break_after_two)
    config = apart(patience=2, output_dir=str(tmp_path / "broken"))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    resumed = train(config, resume=True)
    assert same(resumed.run.adapter, outcome.run.adapter) and resumed.metrics["best_step"] == best


def test_promote_takes_another_checkpoint_and_writes_the_exports_again(apart, train, command, monkeypatch):
    run, drawn = train(apart(save_total_limit=20)).run, []
    monkeypatch.setattr(curves, "draw_checkpoints", lambda *given: (drawn.append(given), given[2].write_bytes(b"drawn again")))
    code, out, err = command("promote", run.path, 3)
    assert code == 0 and "now comes from step 3" in out, err
    [(rows, chosen, _, name, began)] = drawn
    first = json.loads(run.log_file.read_text(encoding="utf-8").splitlines()[0])
    assert chosen == 3 and [row["step"] for row in rows if row["chosen"]] == [3] and (name, began) == (run.path.name, first["time"])
    assert (run.path / "checkpoints.png").read_bytes() == b"drawn again"
    assert same(run.adapter, run.checkpoint(3) / "adapter") and same(run.exports / "peft", run.adapter)
    manifest = run.manifest()
    assert manifest["chosen"]["step"] == 3 and manifest["chosen"]["by"] == "promote"
    assert manifest["chosen"]["held_out_loss"] == manifest["metrics"]["held_out_loss"]
    assert command("verify", run.path)[0] == 0
    code, _, err = command("promote", run.path, 4)
    assert code == 2 and "no checkpoint of step 4. There are: 3, 6" in err
    weights = run.checkpoint(6) / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    before = (run.adapter / "adapter_model.safetensors").read_bytes()
    code, _, err = command("promote", run.path, 6)
    assert code == 2 and "altered since it was sealed: checkpoints/step-000006/adapter/adapter_model.safetensors" in err
    assert (run.adapter / "adapter_model.safetensors").read_bytes() == before


def test_an_altered_adapter_is_not_exported_under_a_fresh_seal(apart, train, command):
    run = train(apart()).run
    assert command("export", run.path, "--to", "merged")[0] == 0 and command("verify", run.path)[0] == 0
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    code, _, err = command("export", run.path, "--to", "peft")
    assert code == 2 and "altered since it was sealed: adapter/adapter_model.safetensors" in err


def test_runs_compares_the_checkpoints_of_one_run(apart, train, command):
    run = train(apart(save_total_limit=2)).run
    code, out, _ = command("runs", run.path)
    assert code == 0 and "the run's adapter" in out and "lowest" in out and "deleted" in out and (run.path / "checkpoints.png").is_file()
    rows = json.loads(command("runs", run.path, "--json")[1])["checkpoints"]
    assert [row["step"] for row in rows] == list(range(3, run.manifest()["facts"]["steps"] + 1, 3))
    assert sum(row["kept"] for row in rows) == 3 and sum(row["chosen"] for row in rows) == 1
    assert min(rows, key=lambda row: row["held_out_loss"])["chosen"]
    listed = json.loads(command("runs", run.path.parent, "--json")[1])
    assert listed[0]["step"] == run.manifest()["chosen"]["step"]


# --- the comparison ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory, base):
    """One run with its comparison, which takes seconds; the tests only look at it."""
    from builders.tiny_text import write_config, write_rows

    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    folder = tmp_path_factory.mktemp("compared")
    write_rows(folder / "data" / "metadata.csv", 15)
    settings = {"train_data_dir": str(folder / "data"), "base_model": str(base), "output_dir": str(folder / "out"), "lora_rank": 4}
    config = write_config(folder / "config.yaml", **settings, learning_rate=0.03, epochs=8, save_steps=0)
    host = PluginHost(blocked=())
    key = signing.read_secret(signing.generate(folder / "keys", "Dr. Li")[0], str)
    return run_training(make_plan(host, "text", config), host, signer=key)


@pytest.mark.xdist_group("compared")
def test_base_and_adapter_are_compared_at_the_end_of_training(compared):
    result = json.loads((compared.run.path / "eval.json").read_text(encoding="utf-8"))
    loss = next(c for c in result["comparisons"] if c["measure"] == "loss")
    assert loss["rows"] == result["examples"] == len(result["rows"]) and loss["adapter"] < loss["base"]
    assert result["sentence"] and result["quiz"]["rows"] == 6 and result["memorisation"]["learned_asked"] > 0
    manifest = compared.run.manifest()
    assert manifest["evaluation"]["sentence"] == result["sentence"] and "rows" not in manifest["evaluation"]
    card = (compared.run.path / "model-card.md").read_text(encoding="utf-8")
    assert result["sentence"][0].split(".")[0] in card.replace("\\", "")


@pytest.mark.xdist_group("compared")
def test_a_training_signs_its_run(compared, command):
    assert (compared.run.path / "manifest.json.minisig").is_file()
    _, out, _ = command("verify", compared.run.path, "--json", "--public-key", compared.run.path.parent / "keys" / "signing.pub")
    signed = {part["name"]: part["state"] for part in json.loads(out)["parts"] if part["kind"] == "signature"}
    assert signed["manifest.json"] == "unchanged"


@pytest.mark.xdist_group("compared")
def test_the_losses_are_those_of_the_training_loop(compared):
    """One row at a time, on the base without and with the mounted adapter, against the loop's own held-out loss."""
    result = json.loads((compared.run.path / "eval.json").read_text(encoding="utf-8"))
    before, after = compared.metrics["held_out_loss_base"], compared.metrics["held_out_loss"]
    # The loop weighs by tokens, the comparison by rows; these rows are about equally long.
    assert abs(result["losses"]["base"] - before) < 0.02 and abs(result["losses"]["adapter"] - after) < 0.05


@pytest.mark.parametrize("variant", everyday(["rslora", "dora", "pissa"], 1))
def test_every_variant_is_measured_as_it_was_trained(variant, project, train, host):
    outcome = train(project(lora_variant=variant, learning_rate=0.02, epochs=4, batch_size=1, lora_dropout=0.0))
    result = compare.evaluate(host, load_run(host, outcome.run.path), None, lambda done, total: None)
    assert abs(result["losses"]["base"] - outcome.metrics["held_out_loss_base"]) < 0.02
    assert abs(result["losses"]["adapter"] - outcome.metrics["held_out_loss"]) < 0.02


@pytest.mark.xdist_group("compared")
def test_eval_writes_a_blind_sheet_and_grades_it(compared, command, tmp_path):
    import openpyxl

    sheet = tmp_path / "review.xlsx"
    code, _, err = command("eval", compared.run.path, "--sheet", sheet)
    assert code == 0 and "questions to judge" in err, err
    book = openpyxl.load_workbook(sheet)
    head = next(r for r in book.active.iter_rows() if any(c.value == "Question" for c in r))
    columns = {c.value: c.column for c in head}
    for row in range(head[0].row + 1, book.active.max_row + 1):
        if book.active.cell(row, columns["Question"]).value:
            for column in ("A factually accurate?", "B factually accurate?"):
                book.active.cell(row, columns[column]).value = "no"
    book.save(sheet)
    code, out, err = command("eval", compared.run.path, "--grade", sheet)
    assert code == 0 and "no evidence" in out.lower(), err
    assert command("verify", compared.run.path)[0] == 0
    keys = compared.run.path / "review-keys.json"
    assert "review-keys.json" in compared.run.manifest()["files"] and compared.run.manifest()["grades"]["questions"]
    written = keys.read_text(encoding="utf-8")
    keys.write_text(written.replace('"a": "base"', '"a": "adapter"'), encoding="utf-8")  # who turns the key round wins every question
    assert command("verify", compared.run.path)[0] == 1
    for arguments in (("--grade", sheet), ("--sheet", tmp_path / "another.xlsx")):
        code, _, err = command("eval", compared.run.path, *arguments)
        assert code == 2 and "altered since it was sealed: review-keys.json" in err
    keys.write_text(written, encoding="utf-8")
    code, _, err = command("eval", compared.run.path, "--sheet", sheet)
    assert code == 2 and "exists already" in err
    assert "exclude each other" in command("eval", compared.run.path, "--sheet", tmp_path / "b.xlsx", "--grade", sheet)[2]


@pytest.mark.xdist_group("compared")
def test_golden_prompts_travel_with_adapter_and_export(compared, host):
    opened = load_run(host, compared.run.path)
    for folder in (compared.run.adapter, compared.exports["peft"]):
        document = json.loads((folder / "golden_prompts.json").read_text(encoding="utf-8"))
        for prompt in document["prompts"]:
            assert prompt["text"] == opened.prompt(prompt["question"]) and prompt["ids"]
    held = {row["sha256"] for row in compared.run.manifest()["data"]["rows"] if row["split"] == "held-out"}
    assert {prompt["row_sha256"] for prompt in document["prompts"]} <= held


@pytest.mark.xdist_group("compared")
def test_a_comparison_that_time_ended_says_so_and_does_not_take_the_place_of_the_whole(compared, command, monkeypatch):
    from loraforge.evaluation import asking

    seconds = iter(range(0, 10_000_000, 20))
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    before = (compared.run.path / "eval.json").read_bytes(), (compared.run.path / "manifest.json").read_bytes()
    code, out, err = command("eval", compared.run.path, "--minutes", "0.1", "--json")
    result = json.loads(out)
    assert code == 0 and result["cut"] == {"answered": 0, "of": 3, "again": 0, "minutes": 0.1}, err
    assert [c["measure"] for c in result["comparisons"]] == ["loss"] and result["rows"] == [] and result["record"] is None
    assert before == ((compared.run.path / "eval.json").read_bytes(), (compared.run.path / "manifest.json").read_bytes())
    code, _, err = command("eval", compared.run.path, "--minutes", "0.1", "--sheet", compared.run.path.parent / "none.xlsx")
    assert code == 2 and "no question was answered in time" in err


@pytest.mark.xdist_group("compared")
def test_the_comparison_of_a_run_gives_the_same_numbers_again(compared, host):
    first = json.loads((compared.run.path / "eval.json").read_text(encoding="utf-8"))
    again = compare.evaluate(host, load_run(host, compared.run.path), None, lambda done, total: None, minutes=60)
    assert json.loads(json.dumps(again, default=str)) == first


@pytest.mark.parametrize("minutes", [10.0, 0.0, 2.5])
def test_training_ends_with_the_budget_of_its_config(minutes, host, monkeypatch, tmp_path):
    from loraforge.pipeline import finish

    given = []
    monkeypatch.setattr(finish, "evaluate", lambda host, opened, limit, tick, *, measured, draw, minutes: given.append((limit, minutes)))
    told = []
    opened = SimpleNamespace(config=SimpleNamespace(eval_minutes=minutes), run=SimpleNamespace(path=tmp_path))
    finish._compared(host, opened, told.append)
    assert given == [(200, minutes)] and (f"{minutes:g} minutes at most" in told[0].detail) is bool(minutes)


def test_interrupting_the_comparison_keeps_the_run(project, train, monkeypatch):
    monkeypatch.setattr("loraforge.pipeline.finish.evaluate", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    outcome = train(project(eval_answers=True))
    assert outcome.run.manifest()["status"] == "finished" and outcome.result is None and outcome.exports["peft"].is_dir()


# --- one run after another ---------------------------------------------------------------------------------------------------


def test_a_continued_run_keeps_sides_records_its_lineage_and_looks_back(project, train, tmp_path, command):
    from builders.tiny_text import write_rows

    write_rows(tmp_path / "data" / "metadata.csv", 30)
    first = train(project("one.yaml", eval_answers=True)).run
    file = tmp_path / "new" / "metadata.csv"
    write_rows(file, 40)
    lines = file.read_text(encoding="utf-8").splitlines()
    changed = [line.replace("答案", "新答案") for line in lines[1:9]]  # the law changed: the same questions, other answers
    file.write_text("\n".join([lines[0], *changed, *lines[31:]]) + "\n", encoding="utf-8")
    second = train(
        project("two.yaml", train_data_dir=str(file.parent), output_dir=str(tmp_path / "two"), init_from_adapter=str(first.path),
                eval_answers=True)
    ).run  # fmt: skip
    before, after = first.manifest(), second.manifest()
    sides = {row["asks"]: row["split"] for row in before["data"]["rows"]}
    shared = [row for row in after["data"]["rows"] if row["asks"] in sides]
    assert len(shared) == 8 and all(row["split"] in (sides[row["asks"]], "set aside") for row in shared)
    (parent,) = after["lineage"]
    assert parent["run"] == str(first.path) and parent["seal"] == (first.path / "manifest.sha256").read_text().split()[0]
    earlier = json.loads((second.path / "eval.json").read_text(encoding="utf-8"))["earlier"]
    held = [row for row in before["data"]["rows"] if row["split"] == "held-out"]
    new = {row["sha256"] for row in after["data"]["rows"]}
    assert earlier["examples"] == len(held) > 0 and new.isdisjoint(row["sha256"] for row in held)
    third = train(project("three.yaml", output_dir=str(tmp_path / "three"), init_from_adapter=str(second.path))).run
    assert [p["run"] for p in third.manifest()["lineage"]] == [str(second.path), str(first.path)]
    listed = {row["run"]: row for row in json.loads(command("runs", tmp_path, "--json")[1])}
    assert listed[str(second.path)]["continues"] == str(first.path)


def test_advice_on_the_rate_is_applied_once_and_the_better_run_is_kept(project, train, tmp_path, monkeypatch):
    from loraforge.diagnosis import diagnose

    def advise(history):
        return [diagnose.Diagnosis("too_slow", "It falls too slowly.", "evidence", None, 0.05)]

    monkeypatch.setattr("loraforge.diagnosis.diagnose.diagnose", advise)
    monkeypatch.setattr("loraforge.diagnosis.diagnose.advised_rate", lambda diagnoses, history: 0.05)
    shown = train(project(learning_rate=0.0001))
    assert shown.advised_rate == 0.05 and shown.run.manifest()["advice"] is None
    outcome = train(project(learning_rate=0.0001, lr_advice="apply", output_dir=str(tmp_path / "two")))
    manifest = outcome.run.manifest()
    assert manifest["config"]["learning_rate"] == 0.05 and manifest["advice"]["from"] == 0.0001 and outcome.exports["peft"].is_dir()
    first = next(p for p in tmp_path.iterdir() if p.name.startswith("two."))
    assert manifest["advice"]["first"] == str(first) and RunFolder(first).manifest()["config"]["learning_rate"] == 0.0001

    monkeypatch.setattr("loraforge.diagnosis.diagnose.advised_rate", lambda diagnoses, history: 1e-8)  # so small that its probes are, too
    outcome = train(project(learning_rate=0.02, lr_advice="apply", output_dir=str(tmp_path / "three")))
    manifest = outcome.run.manifest()
    assert manifest["config"]["learning_rate"] == 0.02 and manifest["advice"]["taken"] == "first" and outcome.exports["peft"].is_dir()
    assert outcome.seal and len([p for p in tmp_path.iterdir() if p.name.startswith("three")]) == 2


def test_the_earlier_hold_out_is_measured_where_rows_were_appended(project, train, tmp_path):
    from builders.tiny_text import write_rows

    file = write_rows(tmp_path / "data" / "metadata.csv", 20)
    first = train(project("one.yaml")).run
    write_rows(file, 30)
    second = train(project("two.yaml", output_dir=str(tmp_path / "two"), init_from_adapter=str(first.path), eval_answers=True)).run
    held = [row for row in first.manifest()["data"]["rows"] if row["split"] == "held-out"]
    earlier = json.loads((second.path / "eval.json").read_text(encoding="utf-8"))["earlier"]
    assert earlier["examples"] == len(held) and earlier["base"] == pytest.approx(first.manifest()["metrics"]["held_out_loss"], abs=0.05)


def test_what_was_learned_stays_learned_through_generations_and_from_an_export(project, train, tmp_path):
    from builders.tiny_text import write_rows

    file = write_rows(tmp_path / "data" / "metadata.csv", 10)
    first = train(project("one.yaml", eval_ratio=0)).run  # everything is learned
    other = write_rows(tmp_path / "other" / "metadata.csv", 30)
    lines = other.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join([lines[0], *lines[16:]]) + "\n", encoding="utf-8")
    second = train(
        project(
            "two.yaml", train_data_dir=str(other.parent), output_dir=str(tmp_path / "two"), init_from_adapter=str(first.exports / "peft")
        )
    ).run
    assert second.manifest()["lineage"][0]["run"] == str(first.path)
    write_rows(file, 30)
    third = train(project("three.yaml", output_dir=str(tmp_path / "three"), init_from_adapter=str(second.path), eval_ratio=0.5)).run
    learned = {row["asks"] for run in (first, second) for row in run.manifest()["data"]["rows"] if row["split"] == "train"}
    rows = third.manifest()["data"]["rows"]
    assert not [row for row in rows if row["asks"] in learned and row["split"] == "held-out"]
    assert [row for row in rows if row["split"] == "held-out"]


def test_a_row_that_would_leak_is_named(project, train, tmp_path, host, monkeypatch):
    from loraforge.data import splitting
    from loraforge.data.dataset import load_data
    from loraforge.plan import make_plan

    real = splitting.split
    monkeypatch.setattr(
        splitting, "split", lambda fingerprints, ratio, fixed, *more: real(fingerprints, ratio, ["train", "held-out", *[None] * 10], *more)
    )
    config = project()
    file = tmp_path / "data" / "metadata.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    core = "劳动者在试用期内提前几天通知用人单位可以解除劳动合同"
    lines[1:4] = [f"{core}甲乙？,答一。", f"{core}丙丁？,答二。", f"{core}？,答三。"]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    notes = []
    data = load_data(make_plan(host, "text", config), notes.append)
    assert data.split.sides[2] == "set aside" or data.split.sides[1] == "set aside"
    assert any(note.startswith("metadata.csv, row ") and "is nearly the same as metadata.csv, row " in note for note in notes)
    outcome = train(config)
    assert [row["split"] for row in outcome.run.manifest()["data"]["rows"]].count("set aside") == 1


def test_rows_with_personal_data_do_not_travel(project, train, tmp_path):
    config = project(checks={"personal_data": "hint"})
    file = tmp_path / "data" / "metadata.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("试用期工资怎么算", "我的手机是13812345678怎么算"), encoding="utf-8")
    run = train(config).run
    assert not [p for p in run.path.rglob("golden_prompts.json") if "13812345678" in p.read_text(encoding="utf-8")]


@pytest.mark.xdist_group("compared")
def test_a_limited_comparison_does_not_take_the_place_of_the_whole(compared, command):
    before = (compared.run.path / "eval.json").read_bytes(), (compared.run.path / "manifest.json").read_bytes()
    code, out, _ = command("eval", compared.run.path, "--limit", "1", "--json")
    result = json.loads(out)
    assert code == 0 and result["examples"] == 1 and "of 3 held-out examples was asked" in "".join(result["sentence"]).replace("1 of", "of")
    assert before == ((compared.run.path / "eval.json").read_bytes(), (compared.run.path / "manifest.json").read_bytes())


def test_a_failed_second_training_leaves_the_first(project, train, tmp_path, monkeypatch):
    from loraforge import TrainingError
    from loraforge.diagnosis import diagnose
    from loraforge.pipeline.run import _run_once

    monkeypatch.setattr("loraforge.diagnosis.diagnose.diagnose", lambda history: [diagnose.Diagnosis("too_slow", "Slow.", "", None, 0.05)])
    monkeypatch.setattr("loraforge.diagnosis.diagnose.advised_rate", lambda diagnoses, history: 0.05)
    real = _run_once

    def second_fails(plan, host, **options):
        if plan.config.learning_rate == 0.05:
            raise TrainingError("not a number")
        return real(plan, host, **options)

    monkeypatch.setattr("loraforge.pipeline.run._run_once", second_fails)
    outcome = train(project(lr_advice="apply"))
    assert outcome.run.manifest()["advice"]["taken"] == "first" and outcome.exports["peft"].is_dir() and outcome.seal


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(apart, train, monkeypatch):
    config = apart()
    whole = train(config).run
    manifest = whole.manifest()
    for state in (whole.checkpoints()[-1] / "state.safetensors", whole.checkpoints()[-2] / "state.json"):
        state.write_bytes(state.read_bytes()[:20])
    weights = (whole.adapter / "adapter_model.safetensors").read_bytes()
    whole.write_manifest({**manifest, "status": "failed"})
    again = train(config, resume=True).run
    assert (again.adapter / "adapter_model.safetensors").read_bytes() == weights
    assert len(list((whole.path / "checkpoints").glob("damaged-*"))) == 2
    log = whole.log_file.read_text(encoding="utf-8")
    assert "is damaged" in log and "the one before it is used" in log


def test_a_failing_comparison_leaves_a_sealed_run(project, train, command, monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("loraforge.pipeline.finish.evaluate", fails)
    run = train(project(eval_answers=True)).run
    assert run.manifest()["status"] == "finished" and run.manifest()["exports"] and command("verify", run.path)[0] == 0


def test_an_export_that_fails_can_be_resumed(project, train, monkeypatch):
    from loraforge_text.export.exporters import PeftExporter

    from loraforge import ExportError

    def fails(self, adapter, destination):
        raise ExportError("no room")

    real = PeftExporter.export
    monkeypatch.setattr(PeftExporter, "export", fails)
    config = project()
    with pytest.raises(ExportError):
        train(config)
    monkeypatch.setattr(PeftExporter, "export", real)
    outcome = train(config, resume=True)
    assert outcome.exports["peft"].is_dir() and outcome.run.manifest()["status"] == "finished"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])  # in bf16 accelerate wraps forward, which makes a circle
def test_the_trained_model_is_gone_before_the_comparison_loads_the_base(project, train, monkeypatch, precision):
    import gc

    from transformers import LlamaForCausalLM

    alive = []
    monkeypatch.setattr(
        "loraforge.pipeline.finish.evaluate",
        lambda *args, **options: (
            alive.append(sum(isinstance(o, LlamaForCausalLM) for o in gc.get_objects())) or {"sentence": [], "rows": []}
        ),
    )
    train(project(eval_answers=True, precision=precision))
    assert alive == [0]


@pytest.mark.xdist_group("compared")
def test_the_seal_of_the_training_holds_after_a_later_command(compared, command):
    before = (compared.run.path / "manifest.sha256").read_text(encoding="utf-8").split()[0]
    code, out, err = command("export", compared.run.path, "--to", "merged")
    assert code == 0 and "Recorded in records/" in out and "The run's seal is the one that" in out, err
    assert (compared.run.path / "manifest.sha256").read_text(encoding="utf-8").split()[0] == before
    code, out, _ = command("verify", compared.run.path, "--seal", before)
    assert code == 0 and "the file whose seal you kept" in out and ": export, 20" in out
    assert command("verify", compared.run.path, "--seal", "0" * 64)[0] == 1


def test_a_run_without_a_log_ends_well_and_says_nothing_of_its_losses(project):
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost

    host = PluginHost(blocked=("log",))
    outcome = run_training(make_plan(host, "text", project(epochs=1)), host)
    assert outcome.run.manifest()["status"] == "finished" and outcome.diagnoses == () and outcome.seal
    assert not outcome.run.log_file.exists()
