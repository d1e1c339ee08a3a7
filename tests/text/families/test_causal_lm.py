"""A trained run of the text task: variants, precisions, rows that are too long, what counts in the loss."""

from __future__ import annotations

import json

import pytest
from builders.text_runs import QUESTION

from loraforge import DataError
from loraforge.evaluation import compare
from loraforge.plan import make_plan
from loraforge.runs import opened


def test_a_run_is_evaluated_without_the_exporters_it_was_made_with(run, host, tmp_path):
    import shutil

    import yaml

    moved = tmp_path / "run"
    shutil.copytree(run.run.path, moved)
    config = yaml.safe_load((moved / "config.yaml").read_text(encoding="utf-8"))
    (moved / "config.yaml").write_text(yaml.safe_dump({**config, "export": ["not-installed-any-more"]}), encoding="utf-8")
    assert compare.evaluate(host, opened.load_run(host, moved), 1, lambda done, total: None)["examples"] == 1


def test_our_own_contract_checks_on_our_own_parts(run, host, tmp_path):
    from loraforge_text.export.exporters import MergedExporter, PeftExporter

    from loraforge.adapters import lora
    from loraforge.testing import check_exporter, check_loader, check_template

    adapter = lora.read_peft(run.run.adapter)
    check_exporter(PeftExporter(), adapter, tmp_path / "peft")
    check_exporter(MergedExporter(), adapter, tmp_path / "merged")
    plan = make_plan(host, "text", run.run.config_file)
    source = tmp_path / "data.csv"
    source.write_text("instruction,output\n问？,答。\n问二？,答二。\n", encoding="utf-8")
    config = plan.config.model_copy(update={"train_data_dir": str(source)})
    records = check_loader(plan.loader, config, plan.keys, spoil=lambda: source.write_text("a,b\n1,2\n", encoding="utf-8"))
    check_template(plan.template.prepare(plan.config, plan.keys, records), records)


def test_checkpoints_are_adapters_of_their_own(run, host):
    there = opened.load_run(host, run.run.path)
    names = there.adapters([p for p in run.run.checkpoints()[:2]])
    assert list(names) == [p.name for p in run.run.checkpoints()[:2]]


def test_base_and_adapter_differ_and_switch_on_one_loaded_base(run, host):
    there = opened.load_run(host, run.run.path)
    inference_model = there.inference_model(there.adapters())
    prompt = [there.prompt(QUESTION)]
    base_says, adapter_says = inference_model.generate(prompt, None, max_tokens=8), inference_model.generate(prompt, "out", max_tokens=8)
    assert base_says != adapter_says and inference_model.generate(prompt, None, max_tokens=8) == base_says
    warm = [inference_model.generate(prompt, "out", max_tokens=8, temperature=2.0, seed=seed)[0] for seed in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]


def test_the_runs_folder_may_move_and_its_data_may_be_gone(run, host, tmp_path):
    import shutil

    moved = tmp_path / "elsewhere"
    shutil.copytree(run.run.path, moved)
    manifest = json.loads((moved / "manifest.json").read_text(encoding="utf-8"))
    manifest["config"]["train_data_dir"] = "/gone"
    (moved / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "assistant" in opened.load_run(host, moved).prompt("x")


def test_evaluation_asks_only_held_out_rows(run, host):
    result = compare.evaluate(host, opened.load_run(host, run.run.path), None, lambda done, total: None)
    held = {row["where"] for row in run.run.manifest()["data"]["rows"] if row["split"] == "held-out"}
    assert {row["where"] for row in result["rows"]} == held and result["examples"] == len(held)
    measures = {c["measure"] for c in result["comparisons"]}
    assert {"loss", "character overlap", "cites anything", "cites the right article", "equals the reference", "never stops"} <= measures


@pytest.mark.parametrize("variant", ["rslora", "dora", "pissa"])
def test_every_variant_trains_and_exports(project, train, variant):
    outcome = train(project(lora_variant=variant, save_steps=2, lora_target="q,v"))
    assert (outcome.exports["peft"] / "adapter_model.safetensors").exists()
    if variant == "dora":
        assert "vLLM does not read DoRA" in outcome.usage["peft"][0]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precisions(project, train, precision):
    outcome = train(project(precision=precision, gradient_checkpointing=precision == "fp32", epochs=1))
    assert outcome.run.manifest()["facts"]["precision"] == precision


def test_four_bit_training(project, train, tmp_path):
    """QLoRA, through the real bitsandbytes on the CPU."""
    pytest.importorskip("bitsandbytes")
    from builders.tiny_text import make_base

    # Its kernels for CPUs with bfloat16 units want widths that are multiples of its block of 64.
    wide = str(make_base(tmp_path / "wide", width=128))
    outcome = train(project(base_model=wide, precision="4bit", epochs=1, export=["peft", "merged"]))
    facts = outcome.run.manifest()["facts"]
    plain = train(project("plain.yaml", base_model=wide, output_dir=str(outcome.run.path) + "-plain", epochs=1)).run.manifest()["facts"]
    assert facts["precision"] == "4bit" and facts["parameters"] == plain["parameters"]
    assert outcome.metrics["held_out_loss"] < outcome.metrics["held_out_loss_base"]


def test_checkpointing_activations_changes_nothing(project, train, tmp_path):
    import safetensors.torch
    import torch

    one = train(project("a.yaml", output_dir=str(tmp_path / "a"), lora_dropout=0.1)).run
    two = train(project("b.yaml", output_dir=str(tmp_path / "b"), lora_dropout=0.1, gradient_checkpointing=True)).run
    a, b = (safetensors.torch.load_file(r.adapter / "adapter_model.safetensors") for r in (one, two))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)


def test_continuing_from_a_run_with_new_data(run, project, train):
    outcome = train(project(init_from_adapter=str(run.run.path), learning_rate=1e-5, epochs=1))
    manifest = outcome.run.manifest()
    assert manifest["init_from_adapter"] == str(run.run.path)
    # It starts where the other ended, not at the base.
    assert manifest["metrics"]["held_out_loss_start"] < run.metrics["held_out_loss_base"] - 0.05


def test_qwens_biases_and_shapes(tmp_path, project, train):
    from builders.tiny_text import make_base

    outcome = train(project(base_model=str(make_base(tmp_path / "qwen", architecture="qwen2")), epochs=1, lora_target="attention"))
    assert outcome.run.manifest()["facts"]["trainable_parameters"] > 0


def test_long_rows_stop_with_a_list_or_are_skipped_by_choice(project, train, tmp_path):
    data = tmp_path / "data" / "metadata.csv"
    data.write_text(data.read_text(encoding="utf-8") + f"长？,{'长' * 300}\n控制<|im_end|>？,x\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        train(project(max_seq_length=128))
    text = str(error.value)
    assert "metadata.csv, row 14: is " in text and "more than max_seq_length 128" in text
    assert "metadata.csv, row 15: the text contains the control token <|im_end|>" in text and "2 of 14 rows cannot be used" in text
    assert not (tmp_path / "out").exists()
    outcome = train(project(max_seq_length=128, on_bad_row="skip", epochs=1))
    manifest = outcome.run.manifest()
    assert len(manifest["data"]["rows"]) == 12 and sum("skipped: metadata.csv, row" in note for note in manifest["data"]["notes"]) == 2


def test_rows_that_cannot_be_read_and_rows_that_are_too_long_are_told_together(project, train, tmp_path):
    data = tmp_path / "data" / "metadata.csv"
    data.write_text(data.read_text(encoding="utf-8") + f"长？,{'长' * 300}\n空？,\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        train(project(max_seq_length=128))
    assert "row 15: 'output' is empty" in str(error.value) and "row 14: is " in str(error.value)


def test_only_the_answer_counts_in_the_loss(base):
    """Changing an unlearned token's label must not change the loss; changing a learned one must."""
    import torch
    from loraforge_text.base_files import read_base
    from loraforge_text.families.causal_lm import TrainableCausalLM, _tokenizer, load_model
    from loraforge_text.records import Conversation

    from loraforge import RunConfig, Span
    from loraforge.adapters import lora

    torch.manual_seed(0)
    attached = lora.inject(load_model(base, "fp32", torch.device("cpu")), RunConfig(train_data_dir=".", base_model="x", lora_dropout=0.0))
    trainable = TrainableCausalLM(attached, _tokenizer(base), read_base(base), 512)
    spans = [Span("<|im_start|>user\n问<|im_end|>\n<|im_start|>assistant\n"), Span("答案。<|im_end|>", learn=True), Span("\n")]
    record = Conversation("问", "答案。", where="x")
    example = trainable.encode(record, spans)
    batch = trainable.collate([example])
    assert trainable.weight(batch) == len(batch["labels"]) == sum(example["learned"])
    assert batch["labels"].tolist() == [i for i, learn in zip(example["ids"], example["learned"], strict=True) if learn]
    # By hand: the mean of -log p over exactly these tokens.
    logits = trainable.model(batch["input_ids"], use_cache=False).logits[0].detach().log_softmax(-1)
    places = [i for i, learn in enumerate(example["learned"]) if learn]
    expected = -sum(logits[i - 1, example["ids"][i]] for i in places) / len(places)
    assert float(trainable.loss(trainable.model, batch).detach()) == pytest.approx(float(expected), rel=1e-5)
    # Padding beside a longer row changes nothing.
    other = trainable.encode(record, [*spans[:1], Span("长" * 40 + "<|im_end|>", learn=True)])
    both = trainable.collate([example, other])
    total = trainable.loss(trainable.model, both) * trainable.weight(both)
    apart = sum(
        trainable.loss(trainable.model, trainable.collate([e])) * trainable.weight(trainable.collate([e])) for e in (example, other)
    )
    assert float(total.detach()) == pytest.approx(float(apart.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "target", "refused"),
    [
        ("mamba", "in_proj,out_proj", "out_proj"),
        ("mamba2", ["conv1d", "x_proj"], "conv1d"),
        ("falcon_h1", "mamba.out_proj", "out_proj"),
        ("mamba", "all-linear", None),
        ("llama", "out_proj", None),
    ],
)
def test_a_layer_that_no_adapter_can_change_is_refused_before_anything_is_loaded(base, tmp_path, kind, target, refused):
    import shutil

    from loraforge_text.families.causal_lm import CausalLM

    from loraforge import ConfigError, KeySet, RunConfig

    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**described, "model_type": kind}), encoding="utf-8")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    config = RunConfig(train_data_dir=".", base_model=str(folder), lora_target=target)
    if refused is None:
        CausalLM().examine(config, KeySet({}), [])
        return
    with pytest.raises(ConfigError, match=rf"lora_target: '{refused}' cannot learn in a {kind} model"):
        CausalLM().examine(config, KeySet({}), [])
