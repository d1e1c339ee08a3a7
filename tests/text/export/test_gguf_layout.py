# SPDX-License-Identifier: Apache-2.0
"""The files beside those of llama.cpp's own converter, and what is read of a base for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders.gguf_bases import no_adapter, served_by, small_base
from builders.llama_cpp import NEAR, PROMPT, LlamaCpp, expected, furthest, gguf, random_adapter
from builders.small_bases import make_base
from loraforge_text.export import gguf_layout
from loraforge_text.export.gguf_model import GgufModel
from loraforge_text.export.llama_cpp import ARCHITECTURES

from loraforge import ExportError

# Told which tokenizer it is, as it knows published ones only, and given no SentencePiece file, which tiny bases have none of.
_CONVERTER = """
import runpy, sys
place, sys.path[:0] = sys.argv[1], [sys.argv[1], sys.argv[1] + "/gguf-py"]
from conversion import base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
base.TextModel._set_vocab_sentencepiece = lambda self, add_to_gguf=True: self._set_vocab_gpt2()
sys.argv = ["", sys.argv[2], "--outfile", sys.argv[3], "--outtype", sys.argv[4]]
runpy.run_path(place + "/convert_hf_to_gguf.py", run_name="__main__")
"""
# Of these it is known that they differ: provenance, the tokens that transformers' own classes add to a tiny tokenizer, and what it leaves out.
_OTHERWISE = ("general.name", "general.size_label", "general.basename", "general.finetune", "tokenizer.")


@pytest.mark.slow
@pytest.mark.skipif("LORAFORGE_LLAMA_CPP" not in os.environ, reason="set LORAFORGE_LLAMA_CPP to a checkout of llama.cpp")
@pytest.mark.parametrize("kind", gguf_layout._KINDS)
@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0"])
def test_keys_and_tensors_are_those_of_llama_cpps_own_converter(kind, type, tmp_path):
    folder = make_base(kind, tmp_path / "base")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    # The only class by which the converter takes a Phi's tokenizer from tokenizer.json.
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | ({"tokenizer_class": "GPT2Tokenizer"} if kind == "phi3" else {})))
    place, theirs, ours = Path(os.environ["LORAFORGE_LLAMA_CPP"]), tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    subprocess.run([sys.executable, "-c", _CONVERTER, place, folder, theirs, type], check=True, capture_output=True)
    GgufModel.make(served_by(folder), no_adapter(folder), type).write(ours)
    one, two = (gguf.GGUFReader(file) for file in (theirs, ours))
    keys, others = ({n: (f.types, f.contents()) for n, f in read.fields.items() if not n.startswith(_OTHERWISE)} for read in (one, two))
    assert {n: v for n, v in keys.items() if not n.startswith("GGUF.")} == {n: v for n, v in others.items() if not n.startswith("GGUF.")}
    tensors, found = ({t.name: (t.tensor_type, t.data.tobytes()) for t in read.tensors} for read in (one, two))
    if kind.startswith("gemma3"):  # its tiny tokenizer has fewer tokens than the embedding rows, which the converter then cuts off
        del tensors["token_embd.weight"], found["token_embd.weight"]
    assert tensors == found


def test_every_type_has_llama_cpps_name():
    assert set(gguf_layout._KINDS) <= set(ARCHITECTURES)


def test_a_base_in_several_files(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = small_base("llama", tmp_path / "base")
    whole = GgufModel.make(served_by(folder), no_adapter(folder), "f16")
    whole.write(tmp_path / "one.gguf")
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    GgufModel.make(served_by(folder), no_adapter(folder), "f16").write(tmp_path / "two.gguf")
    one, two = ({t.name: t.data.tobytes() for t in gguf.GGUFReader(tmp_path / name).tensors} for name in ("one.gguf", "two.gguf"))
    assert one == two
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(ExportError, match=r"model-00002-of-\d+.safetensors"):
        GgufModel.make(served_by(folder), no_adapter(folder), "f16")


def test_a_head_that_is_the_embedding_gets_a_tensor_of_its_own_where_it_was_trained(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    folder = small_base("qwen3", tmp_path / "base", tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    adapter, wrapped = random_adapter(tmp_path / "lora", model, names=["lm_head"])
    whole = GgufModel.make(served_by(folder), adapter, "f32")
    whole.write(tmp_path / "x.gguf")
    assert whole.verify(tmp_path / "x.gguf") == pytest.approx(1, abs=1e-3)
    assert furthest(LlamaCpp(tmp_path / "x.gguf").next_token(PROMPT, 97), expected(wrapped)) < NEAR


def test_a_layer_that_the_base_has_not(tmp_path):
    import torch

    from loraforge import Adapter

    folder = small_base("llama", tmp_path / "base")
    name = "model.layers.7.self_attn.q_proj"
    pair = {f"{name}.lora_A.weight": torch.ones(2, 32), f"{name}.lora_B.weight": torch.ones(32, 2)}
    adapter = Adapter(tensors=pair, rank=2, alpha=2, targets=("q_proj",), probes={}, base_model="x")
    with pytest.raises(ExportError, match=r"no tensor for 1 of the base's or adapted layers \(model.layers.7"):
        GgufModel.make(served_by(folder), adapter, "f16")
