# SPDX-License-Identifier: Apache-2.0
"""What a base cannot read: by the tables here, and by transformers itself."""

from __future__ import annotations

import json
import shutil

import pytest
from loraforge_text.families import limits

from loraforge import DataError

KINDS = ("gpt2", "opt", "gptj", "codegen", "ctrl", "bart", "bloom", "llama", "qwen2", "mamba", "biogpt", "openai-gpt", "gpt_neo", "mpt")


@pytest.mark.parametrize("kind", KINDS)
def test_the_longest_row_is_the_longest_that_transformers_can_read(kind):
    torch = pytest.importorskip("torch")
    from builders.architectures import architectures, small

    model = small(architectures()[kind])
    if kind == "mpt":
        model = type(model)(type(model.config)(**{**model.config.to_dict(), "max_seq_len": 64})).eval()
    most = limits.most_tokens(model.config.to_dict())
    ids = torch.randint(5, 60, (1, 66))
    if most is None:
        assert model(input_ids=ids, use_cache=False).logits.shape[1] == 66
        return
    assert most == 64 and model(input_ids=ids[:, :most], use_cache=False).logits.shape[1] == 64
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids[:, : most + 1], use_cache=False)


@pytest.mark.parametrize(
    ("config", "ids", "told"),
    [
        ({"model_type": "gpt2", "n_positions": 8}, range(8), None),
        ({"model_type": "gpt2", "n_positions": 8}, range(9), "is 9 tokens long, but this base has positions for 8 only"),
        ({"model_type": "llama", "max_position_embeddings": 8, "vocab_size": 9}, range(9), None),
        ({"model_type": "llama", "vocab_size": 9}, range(10), "has the token 9, but the base's weights know tokens 0 to 8 only"),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 12}, range(11), "positions for 10 only"),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 12, "pad_token_id": 0}, range(11), None),
        ({"model_type": "whisper", "max_target_positions": 4}, range(5), "positions for 4 only"),
        ({}, range(10**4), None),
    ],
)
def test_one_row(config, ids, told):
    found = limits.problem(list(ids), config)
    assert found is None if told is None else told in found


def test_the_loaded_embedding_is_believed_before_the_configuration():
    assert limits.problem([5], {"vocab_size": 3}, rows=6) is None and limits.problem([5], {"vocab_size": 9}, rows=5)


def test_rows_that_the_base_was_not_made_for_and_what_stays_as_it_is_are_notes():
    config = {"model_type": "llama", "max_position_embeddings": 10}
    (note,) = limits.notes(config, [9, 10, 11, 12], "all-linear")
    assert note.startswith("2 rows are longer than the 10 tokens that the base was made for")
    assert not list(limits.notes({"model_type": "gpt2", "n_positions": 10}, [11], "all-linear"))  # said of the row
    seeing = {"model_type": "gemma3", "text_config": {"max_position_embeddings": 10}, "vision_config": {}, "audio_config": {}}
    assert [("vision, audio" in n, "longer" in n) for n in limits.notes(seeing, [11], "attention")] == [(False, True), (True, False)]
    (experts,) = limits.notes({"num_local_experts": 8}, [], "all-linear")
    assert "routed experts" in experts and not list(limits.notes({"num_local_experts": 8}, [], "q,v"))


@pytest.fixture
def short(tmp_path):
    """A GPT-2 with 64 positions."""
    from builders.tiny_text import make_base

    return shortened(make_base(tmp_path / "gpt2", architecture="gpt2"))


def shortened(folder):
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "n_positions": 64}), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("wpe.weight"))
    save_file({**tensors, name: tensors[name][:64].contiguous()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_check_names_the_rows_and_sampling_says_it_of_a_prompt(short, project, train, command, tmp_path):
    (tmp_path / "data" / "metadata.csv").write_text(f"instruction,output\n{'长' * 60}？,x\n短？,答。\n中？,答二。\n", encoding="utf-8")
    code, _, err = command("check", "text", project(base_model=str(short)))
    assert code == 2 and "metadata.csv, row 2: is " in err and "this base has positions for 64 only" in err and "row 3" not in err
    outcome = train(project(base_model=str(short), on_bad_row="skip", epochs=1))
    code, _, err = command("sample", outcome.run.path, "长" * 60)
    assert code == 2 and "the prompt is " in err and "positions for 64 only" in err


def test_an_answer_ends_where_the_positions_end(short):
    torch = pytest.importorskip("torch")
    from loraforge_text.base_files import read_base
    from loraforge_text.families.causal_lm import CausalInferenceModel, load_model
    from loraforge_text.families.encoding import tokenizer_of

    model = CausalInferenceModel(load_model(short, "fp32", torch.device("cpu")), tokenizer_of(short), read_base(short))
    (answer,) = model.generate(["abc"], None, max_tokens=500)
    assert not answer.stopped
    with pytest.raises(DataError, match="nothing could be answered"):
        limits.room(list(range(64)), model._model, 5)


def test_tokens_that_the_weights_were_never_given(base, project, command, tmp_path):
    folder = shutil.copytree(base, tmp_path / "base")
    settings = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings["added_tokens"].append({**settings["added_tokens"][0], "content": "新词", "id": 600, "special": False})
    (folder / "tokenizer.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer

    number = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("新词")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": number}), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:number].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (tmp_path / "data" / "metadata.csv").write_text("instruction,output\n新词？,答。\n短？,答。\n", encoding="utf-8")
    code, _, err = command("check", "text", project(base_model=str(folder)))
    assert (
        code == 2
        and f"row 2: has the token {number}, but the base's weights know tokens 0 to {number - 1} only" in err
        and "row 3:" not in err
    )
