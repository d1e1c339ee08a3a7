# SPDX-License-Identifier: Apache-2.0
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
    shutil.rmtree(moved / "records", ignore_errors=True)  # they belong to the manifest as it was
    manifest = json.loads((moved / "manifest.json").read_text(encoding="utf-8"))
    manifest["config"]["train_data_dir"] = "/gone"
    (moved / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "assistant" in opened.load_run(host, moved).prompt("x")


def test_evaluation_asks_only_held_out_rows(run, host):
    result = compare.evaluate(host, opened.load_run(host, run.run.path), None, lambda done, total: None)
    held = {row["where"] for row in run.run.manifest()["data"]["rows"] if row["split"] == "held-out"}
    assert {row["where"] for row in result["rows"]} == held and result["examples"] == len(held)
    measures = {c["measure"] for c in result["comparisons"]}
    assert {
        "loss",
        "character overlap",
        "cites a wrong article",
        "cites the right article",
        "equals the reference",
        "never stops",
    } <= measures


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
    other = trainable.encode(Conversation("问", "长" * 40, where="y"), [*spans[:1], Span("长" * 40 + "<|im_end|>", learn=True)])
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
        ("mamba", r".*\.(in|out)_proj", "out_proj"),
        ("bamba", r"model\.layers\.\d+\.mamba\.(out_proj|conv1d)", "out_proj', 'conv1d"),
        ("mamba", r".*\.(?!out_proj)\w+_proj", None),
        ("mamba", r".*_proj", None),
        ("mamba", "all-linear", None),
        ("llama", "out_proj", None),
    ],
)
def test_a_layer_that_no_adapter_can_change_is_refused_before_anything_is_loaded(base, tmp_path, kind, target, refused):
    import shutil

    from loraforge_text.families.causal_lm import CausalLM, _refuse_scanned

    from loraforge import ConfigError, KeySet, RunConfig

    if refused is None:
        _refuse_scanned(target, kind)
        return
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**described, "model_type": kind}), encoding="utf-8")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    config = RunConfig(train_data_dir=".", base_model=str(folder), lora_target=target)
    with pytest.raises(ConfigError, match=rf"lora_target: '{refused}' cannot learn in a {kind} model"):
        CausalLM().examine(config, KeySet({}), [])


# --- batches, by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trainables(base):
    from builders.fast_text import both

    return both(base)


EXAMPLES = [
    {"ids": (5, 6, 7), "learned": (True, False, True)},  # the first token of a row is never predicted
    {"ids": (8, 9, 10, 11), "learned": (False, True, True, False)},
]


def test_padded_rows_and_their_targets(trainables):
    plain, _ = trainables
    batch = plain.collate(EXAMPLES)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]] and batch["attention_mask"].tolist() == [
        [1, 1, 1, 0],
        [1, 1, 1, 1],
    ]
    # Counted through both rows of four: after place 1 comes 7; after 4 and 5 come 9 and 10.
    assert batch["targets"].tolist() == [1, 4, 5] and batch["labels"].tolist() == [7, 9, 10]
    assert (batch["tokens"], plain.units(batch), plain.weight(batch)) == (7, 7.0, 3.0) and batch["input_ids"].dtype == batch["labels"].dtype


def test_rows_end_to_end_and_their_targets(trainables):
    _, fast = trainables
    batch = fast.collate(EXAMPLES)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11]] and batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert batch["targets"].tolist() == [1, 3, 4] and batch["labels"].tolist() == [7, 9, 10] and list(batch["row_lengths"]) == [3, 4]
    assert (fast.units(batch), fast.weight(batch)) == (7.0, 3.0)


@pytest.mark.parametrize(("length", "band"), [(1, 0), (16, 0), (17, 1), (32, 1), (33, 2)])
def test_rows_that_need_padding_share_a_batch_by_length(trainables, length, band):
    plain, fast = trainables
    assert plain.group({"ids": (1,) * length}) == band and fast.group({"ids": (1,) * length}) == 0


def test_a_row_that_cannot_be_learned_is_told_when_it_is_encoded(trainables):
    from loraforge_text.records import Conversation

    from loraforge import Span

    with pytest.raises(DataError, match="nothing of this row would be learned"):
        trainables[0].encode(Conversation("问", "答", where="x"), [Span("问")])


# --- what is loaded ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "matches"),
    [("tiny-chat", True), ("org/name", True), ("modelscope:a/b/c", True), ("org/name/more", False), ("name", False), ("./name", False), ("/name", False), ("../x", False)],
)  # fmt: skip
def test_which_names_it_takes_for_a_language_model(named, matches):
    from loraforge_text.families.causal_lm import CausalLM

    assert CausalLM().matches(named) is matches


@pytest.mark.parametrize(
    ("architectures", "matches"),
    [(["LlamaForCausalLM"], True), (["GPT2LMHeadModel"], True), (["Gemma3ForConditionalGeneration"], True), (["BertModel"], False), ([], False), (None, False),
     (["BertModel", "LlamaForCausalLM"], True)],
)  # fmt: skip
def test_which_folders_it_takes_for_a_language_model(tmp_path, architectures, matches):
    from loraforge_text.families.causal_lm import CausalLM

    (tmp_path / "config.json").write_text(
        json.dumps({"architectures": architectures} if architectures is not None else {}), encoding="utf-8"
    )
    assert CausalLM().matches(str(tmp_path)) is matches


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_base_is_loaded_in_the_precision_that_is_asked_for(base, monkeypatch, precision, dtype):
    import torch
    import transformers
    from loraforge_text.families.loading import load_model

    asked = []
    real = transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *given, **named: asked.append(named) or real(*given, **named)
    )
    model = load_model(base, precision, torch.device("cpu"))
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert asked == [
        {
            "output_loading_info": True,
            "ignore_mismatched_sizes": True,
            "dtype": getattr(torch, dtype),
            "local_files_only": True,
            "use_safetensors": True,
            "trust_remote_code": False,
        }
    ]


def test_four_bits_are_nf4_twice_quantised_and_keep_their_gradients(base):
    import torch
    from loraforge_text.families.loading import load_model

    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = load_model(base, "4bit", torch.device("cpu"))
    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 14
    for layer in layers:
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, layer.compute_dtype) == ("nf4", True, torch.bfloat16)
        assert not getattr(layer, "support_avx512bf16_for_cpu", False)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_weights_that_are_missing_or_of_another_kind_are_explained(base, tmp_path, monkeypatch):
    import importlib.util

    import torch
    from loraforge_text.families.loading import load_model

    from loraforge import ConfigError, ModelError

    cpu = torch.device("cpu")
    with pytest.raises(ModelError, match="it has no weights at all"):
        load_model(tmp_path, "fp32", cpu)
    for name in ("b.pth", "a.gguf", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError, match=r"it has a\.gguf, b\.pth, which are not read"):
        load_model(tmp_path, "fp32", cpu)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.safetensors \(0 bytes\) is damaged"):
        load_model(tmp_path, "fp32", cpu)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="4bit needs bitsandbytes"):
        load_model(base, "4bit", cpu)


def test_the_adapter_of_a_run_or_the_folder_itself(tmp_path):
    from loraforge_text.families.causal_lm import _adapter_folder

    assert _adapter_folder(str(tmp_path)) == tmp_path
    (tmp_path / "adapter").mkdir()
    assert _adapter_folder(str(tmp_path)) == tmp_path
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert _adapter_folder(str(tmp_path)) == tmp_path / "adapter" and _adapter_folder(str(tmp_path / "adapter")) == tmp_path / "adapter"


def test_what_an_examination_counts(base):
    from loraforge_text.families.causal_lm import CausalLM
    from loraforge_text.families.encoding import encode, tokenizer_of
    from loraforge_text.records import Conversation, TextKeys

    from loraforge import KeySet, RunConfig, Span

    rows = [
        (
            Conversation("问", "答", where=str(i)),
            [Span("问" * i), Span(f"答{'字' * (3 * i)}<|im_end|>", learn=True), Span("\n")] if i != 1 else [],
        )
        for i in range(5)
    ]
    made = [encode(tokenizer_of(base), spans) for _, spans in rows]
    longest = len(made[3].ids)
    keys = KeySet({TextKeys: TextKeys(max_seq_length=max(longest, 64))})
    rows[4] = (rows[4][0], [Span("问"), Span("字" * 100 + "<|im_end|>", learn=True)])
    found = CausalLM().examine(RunConfig(train_data_dir=".", base_model=str(base)), keys, rows)
    good = [made[i] for i in (0, 2, 3)]
    assert found.facts == {
        "tokens": sum(len(e.ids) for e in good),
        "learned_tokens": sum(sum(e.learned) for e in good),
        "longest_row": longest,
    }
    assert set(found.problems) == {4} and [len(pieces) for pieces in found.shown][1] == 0 and len(found.shown) == 5
    assert [(p.text, p.learn) for p in found.shown[2]] == [("问问", False), ("答" + "字" * 6 + "<|im_end|>", True), ("\n", False)]
    empty = CausalLM().examine(RunConfig(train_data_dir=".", base_model=str(base)), keys, [])
    assert empty.facts == {"tokens": 0, "learned_tokens": 0, "longest_row": 0}


def test_the_files_that_make_up_a_base(base, tmp_path):
    import shutil

    from loraforge_text.families.causal_lm import CausalLM

    from loraforge import RunConfig

    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    for name in ("readme.md", "a.bin", "vocab.txt", "tokenizer.model"):
        (folder / name).write_bytes(b"")
    (folder / "sub.json").mkdir()
    found = [p.name for p in CausalLM().base_files(RunConfig(train_data_dir=".", base_model=str(folder)))]
    assert found == sorted(found) and {"vocab.txt", "tokenizer.model", "config.json", "model.safetensors", "chat_template.jinja"} <= set(
        found
    )
    assert not {"readme.md", "a.bin", "sub.json"} & set(found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": "fp8"}, "precision: fp8 is for pictures"),
        ({"precision": "4bit", "lora_variant": "loha"}, "lora_variant: loha computes with the base's own weights"),
        ({"precision": "4bit", "lora_variant": "lokr"}, "lora_variant: lokr computes with the base's own weights"),
    ],
)
def test_what_a_language_model_is_not_kept_in(values, said, project, host):
    from loraforge import ConfigError
    from loraforge.data.dataset import load_data

    with pytest.raises(ConfigError, match=said):
        load_data(make_plan(host, "text", project(**values), ()))
