# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that is made of a GGUF file cuts every text as llama.cpp does with that file."""

from __future__ import annotations

import json
import random

import pytest
from builders import ROOT
from builders.llama_cpp import LlamaCpp, gguf, write_base
from loraforge_text.base_files import EMBEDDED, read_base
from loraforge_text.gguf_bases import conversion
from loraforge_text.gguf_bases.gguf_file import read_head
from loraforge_text.gguf_bases.tokenizer_files import write_tokenizer

from loraforge import ModelError

TEXTS = [
    "Hello world", "  two  spaces   three", "a\n\nb\n \n c\r\nd\te", "it's I'LL we'Re don't DON'T", "1234567 3.14 1,000 x2 2x ½ ²", "第46条，测试。",
    "émigré naïve Ⅷ", "\u00a0nbsp\u3000wide\u2003em", "😀👩\u200d👩\u200d👧", "<|im_start|>user\nhi<|im_end|>\n", "...!!!??? ---", " leading", "trailing ",
    "", "\n", "\t\t", "مرحبا ١٢٣", "हिन्दी १२", "ไทย", "한국어 테스트", "a\u0301", "x\u200by\ufeffz", "\x00\x01", "ſ K 'ſ", "\u2028line\x85next\x1f\x1c",
]  # fmt: skip
random.seed(1)
TEXTS += ["".join(random.choice("ab 1'sT.\n\t中é\u00a0\u0301😀<|") for _ in range(random.randint(1, 40))) for _ in range(60)]


def differing(file):
    from tokenizers import Tokenizer

    mine, theirs = Tokenizer.from_file(str(conversion.base_of(file) / "tokenizer.json")), LlamaCpp(file)
    return [(text, mine.encode(text).ids, told) for text in TEXTS if mine.encode(text).ids != (told := theirs.tokens(text))]


@pytest.mark.parametrize("cut", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_bytes_are_cut_as_llama_cpp_cuts_them(cut, tmp_path):
    assert not differing(write_base(EMBEDDED["tiny-chat"], tmp_path / "b.gguf", "Q8_0", cut, more={"tokenizer.ggml.bos_token_id": 1}))


@pytest.mark.parametrize("prefix", [True, False])
def test_letters_are_merged_as_llama_cpp_merges_them(prefix, tmp_path, monkeypatch):
    """SentencePiece, as of Llama 2 with a blank before every text, and as of Gemma without."""
    from builders import llama_cpp
    from tokenizers import SentencePieceBPETokenizer

    trained = SentencePieceBPETokenizer()
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")]
    trained.train_from_iterator(texts, vocab_size=2000, show_progress=False, limit_alphabet=900)
    model = json.loads(trained.to_str())["model"]
    merged = ["".join(merge) for merge in model["merges"]]
    words = list(dict.fromkeys([*merged, *(token for token in model["vocab"] if token not in merged and token != "<unk>")]))[:3700]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, "<|im_start|>", "<|im_end|>", "  ", "[own]"]

    def write(writer, folder, config, cut):
        writer.add_tokenizer_model("llama")
        filled = [*tokens, *(f"<unused{i}>" for i in range(config["vocab_size"] - len(tokens)))]
        writer.add_token_list(filled)
        kinds = [2, 3, 3, *[6] * 256, *[1] * len(words), 3, 3, 4, 4]
        writer.add_token_types([*kinds, *[5] * (len(filled) - len(kinds))])
        writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(filled) - 259)])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(prefix)
        writer.add_add_bos_token(prefix)

    monkeypatch.setattr(llama_cpp, "_write_vocabulary", write)
    assert not differing(write_base(EMBEDDED["tiny-chat"], tmp_path / "b.gguf", "Q8_0"))


def test_what_the_files_say(tmp_path):
    more = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eot_token_id": 3, "tokenizer.chat_template.tool_use": "{{ tools }}"}
    base = read_base(conversion.base_of(write_base(EMBEDDED["tiny-chat"], tmp_path / "b.gguf", "Q8_0", more=more)))
    wanted = read_base(EMBEDDED["tiny-chat"])
    assert base.stops[0] == wanted.stops[0] and base.added.items() >= wanted.added.items()
    assert base.chat_template == wanted.chat_template and base.named == {"default": wanted.chat_template, "tool_use": "{{ tools }}"}
    assert json.loads((base.folder / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
    assert not base.adds_bos and base.tokens["bos_token"]


@pytest.mark.parametrize("said,adds", [(None, True), (False, False)])
def test_llama_3_begins_with_bos_unless_the_file_says_otherwise(said, adds, tmp_path):
    file = read_head(write_base(EMBEDDED["tiny-chat"], tmp_path / "b.gguf", "Q8_0", "llama-bpe", {"tokenizer.ggml.bos_token_id": 1}))
    values = {**file.values, "tokenizer.ggml.add_bos_token": said}
    values = {key: value for key, value in values.items() if value is not None}
    write_tokenizer(type(file)(file.path, values, file.tensors, file.size, "llama"), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert read_base(tmp_path).adds_bos == adds


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ggml.pre", "deepseek-v3", "it cuts text in a way that is not known ('deepseek-v3'); known are gpt-2, smollm, qwen2"),
        ("ggml.pre", None, "it cuts text in a way that is not known ('?')"),
        ("ggml.model", "bert", "it is of the kind 'bert', and only gpt2, llama are read"),
        ("ggml.model", "llama", "its scores are missing"),
        ("ggml.eos_token_id", None, "it names no token that ends an answer"),
        ("ggml.eos_token_id", 9_999_999, "it names no token that ends an answer"),
        ("ggml.add_eos_token", True, "behind every text"),
        ("ggml.add_bos_token", True, "it puts a token before every text that it does not name"),
        ("ggml.tokens", None, "it has none"),
        ("ggml.tokens", ["a", "a"], "several of its tokens are the same text"),
        ("ggml.token_type", [1], "it does not say which of its tokens are special"),
        ("ggml.merges", ["a b c"], "its list of merged pairs is missing or damaged"),
    ],
)
def test_a_tokenizer_that_cannot_be_made_again_is_refused(key, value, words, tmp_path, tiny):
    values = {**tiny.values, f"tokenizer.{key}": value}
    values = {name: one for name, one in values.items() if one is not None}
    with pytest.raises(ModelError) as error:
        write_tokenizer(type(tiny)(tiny.path, values, tiny.tensors, tiny.size, "llama"), tmp_path)
    assert words in str(error.value) and "Take the model that it was made from" in str(error.value)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return read_head(write_base(EMBEDDED["tiny-chat"], tmp_path_factory.mktemp("tiny") / "b.gguf", "Q8_0"))


def test_gguf_knows_these_kinds_of_tokens_too():
    kinds = gguf.TokenType
    assert (kinds.UNKNOWN, kinds.CONTROL, kinds.USER_DEFINED) == (2, 3, 4)
