"""From a spreadsheet to an adapter that every reader loads."""

from __future__ import annotations

import json

import pytest

from loraforge import DataError
from loraforge.evaluation import compare
from loraforge.pipeline.run import run_training
from loraforge.plan import make_plan
from loraforge.runs import opened


@pytest.fixture(scope="module")
def run(tmp_path_factory, base):
    """One trained run that several tests look at."""
    from tiny import write_config, write_rows

    from loraforge.plugin_api.host import PluginHost

    folder = tmp_path_factory.mktemp("run")
    write_rows(folder / "data" / "metadata.csv", 16)
    config = write_config(
        folder / "c.yaml",
        train_data_dir=str(folder / "data"),
        base_model=str(base),
        output_dir=str(folder / "out"),
        lora_rank=4,
        epochs=4,
        learning_rate=0.05,
        save_steps=5,
        export=["peft", "merged"],
    )
    host = PluginHost(blocked=())
    return run_training(make_plan(host, "text", config), host)


QUESTION = "第3问：试用期工资怎么算？"


def generate(model, tokenizer, count: int = 12) -> list[int]:
    import torch

    ids = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt")[
        "input_ids"
    ]
    with torch.no_grad():
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)[0, ids.shape[1] :].tolist()


def test_the_peft_folder_loads_in_transformers_and_peft_and_answers_like_our_own_sample(run, base, host):
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run.exports["peft"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    there = opened.load_run(host, run.run.path)
    adapters = there.adapters()
    ours = there.inference_model(adapters).generate([there.prompt(QUESTION)], "out", max_tokens=12)[0]
    direct = generate(AutoModelForCausalLM.from_pretrained(folder), tokenizer)
    wrapped = generate(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder), tokenizer)
    automatic = generate(AutoPeftModelForCausalLM.from_pretrained(folder), tokenizer)
    assert direct == wrapped == automatic
    assert tokenizer.decode(direct, skip_special_tokens=True).strip() == ours
    assert generate(AutoModelForCausalLM.from_pretrained(base), tokenizer) != direct


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
    from loraforge.plan import make_plan
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


def test_exported_files_can_be_read_by_others(run):
    """safetensors and temporary folders are private by default; a server often runs as somebody else."""
    import os
    import sys

    if sys.platform == "win32":
        pytest.skip("no such permissions")
    mask = os.umask(0)
    os.umask(mask)
    for path in [run.run.adapter, *run.run.adapter.rglob("*"), run.exports["peft"], *run.exports["peft"].rglob("*")]:
        assert path.stat().st_mode & 0o044 == 0o044 & ~mask, path


def test_what_vllm_wants_is_in_the_folder(run):
    folder = run.exports["peft"]
    written = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (
        isinstance(written["r"], int)
        and isinstance(written["lora_alpha"], int)
        and written["target_modules"] == sorted(written["target_modules"])
    )
    assert written["bias"] == "none" and not written["modules_to_save"] and not written["use_dora"] and written["task_type"] == "CAUSAL_LM"
    assert {"adapter_model.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"} <= {
        p.name for p in folder.iterdir()
    }
    line = run.usage["peft"][0]
    assert line.startswith("vllm serve") and "--max-lora-rank 8" in line and "--chat-template" in line and "--lora-modules out=" in line


def test_the_merged_model_is_a_plain_one_that_says_the_same(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = run.exports["merged"]
    assert not (merged / "adapter_config.json").exists()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert generate(AutoModelForCausalLM.from_pretrained(merged), tokenizer) == generate(
        AutoModelForCausalLM.from_pretrained(run.exports["peft"]), tokenizer
    )


def test_a_merged_bf16_base_stays_bf16(base, tmp_path, project, train):
    import torch
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (half / name).write_bytes((base / name).read_bytes())
    outcome = train(project(base_model=str(half), export=["merged"], epochs=1))
    assert AutoModelForCausalLM.from_pretrained(outcome.exports["merged"]).dtype == torch.bfloat16


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
    from tiny import make_base

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
    from tiny import make_base

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


def test_chat_remembers_switches_and_ends(run, host, monkeypatch, command):
    lines = iter(["第1问？", "/base", "第2问？", "/adapter none", "第3问？", "/adapter nonsense", "/new", "/exit"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    code, out, _ = command("chat", run.run.path, "--max-tokens", "4")
    assert code == 0
    assert out.count("[out]") == 2 and out.count("[base]") == 2
    assert "The base model answers too." in out and "Answers come from the base model alone." in out and "A new conversation." in out


def test_chat_gives_the_whole_conversation_to_the_model(run, host):
    from loraforge_text.cli.chat import Session

    there = opened.load_run(host, run.run.path)
    seen = []

    class Fake:
        def generate(self, prompts, adapter, **settings):
            seen.append(prompts[0])
            return ["A"]

    session = Session(there, ["out"], False)
    session.ask("一", Fake(), {})
    session.ask("二", Fake(), {})
    assert (
        seen[1]
        == "<|im_start|>user\n一<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\n二<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [("根据《劳动合同法》第46条，应当支付。", {("劳动合同法", 46)}), ("《中华人民共和国劳动合同法》第四十六条规定", {("劳动合同法", 46)}),
     ("《民法典》第1062条和《民法典》第一千零六十二条", {("民法典", 1062)}), ("《劳动法》第 44 条第三项", {("劳动法", 44)}), ("视情况而定", set()),
     ("第46条", set()), ("《民法典》第一百八十八条", {("民法典", 188)}), ("《劳动合同法》第十条", {("劳动合同法", 10)})],
)  # fmt: skip
def test_citations(text, found):
    from loraforge_text.evaluation.citations import citations

    assert citations(text) == found
