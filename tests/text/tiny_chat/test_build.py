# SPDX-License-Identifier: Apache-2.0
"""tiny-chat: the build is repeatable, and the model that ships is small, loads offline and answers as its card says."""

import csv
import subprocess
import sys

import pytest
from builders import ROOT
from loraforge_text import tiny_chat
from loraforge_text.evaluation.citations import citations
from loraforge_text.tiny_chat import build, corpus

CONFIGS = ROOT / "configs" / "data"
TINY = build.Settings(steps=6, batch=8, vocab=400, hidden=32, layers=1, heads=2, key_value_heads=1, ffn=48)
FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
FILES |= {"chat_template.jinja", "README.md"}
LEGAL = [
    "公司把我辞退了，要给多少经济补偿？", "试用期最长可以是几个月？", "离婚以后孩子归谁？", "彩礼能要回来吗？", "房东卖房，租客能先买吗？",
    "被狗咬了谁赔？", "加班不给加班费合法吗？", "没有遗嘱，遗产怎么分？", "定金交了不想买能退吗？", "楼上掉东西砸到人谁负责？",
]  # fmt: skip


@pytest.fixture(scope="module")
def shipped():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_chat.FOLDER), AutoModelForCausalLM.from_pretrained(tiny_chat.FOLDER, dtype="float32")


def _questions():
    for file in sorted(CONFIGS.glob("*/metadata.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            yield from (row["instruction"] for row in csv.DictReader(stream) if "instruction" in row)


def _answer(shipped, question, length=64):
    tokenizer, model = shipped
    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    output = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=length, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])


def test_build_twice_gives_the_same_loadable_bytes(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    first, second = (build.build(tmp_path / name, TINY) for name in ("one", "two"))
    assert {path.name for path in first.iterdir()} == FILES
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    model = AutoModelForCausalLM.from_pretrained(first)
    assert model.get_input_embeddings().weight.shape[0] == len(AutoTokenizer.from_pretrained(first)) == 400


def test_build_replaces_a_folder_and_leaves_nothing_aside(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    build.build(tmp_path / "model", TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "old").exists()


def test_rescaling_does_not_change_what_the_model_says(tmp_path):
    import torch
    from transformers import AutoTokenizer

    build.build(tmp_path / "model", TINY)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    model = build.new_model(tokenizer, TINY).eval()
    ids = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        build.rescale(model, 8.0)
        after = model(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-4)


def test_import_leaves_torch_alone():
    code = "import sys; import loraforge_text.tiny_chat.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_corpus_is_seeded_and_shares_no_question_with_the_samples():
    conversations = list(corpus.conversations(0, 30_000))
    assert conversations[:50] == list(corpus.conversations(0, 50))
    assert conversations[:50] != list(corpus.conversations(1, 50))
    asked = {message["content"] for messages in conversations for message in messages}
    texts = "\n".join(asked)
    samples = list(_questions())
    assert len(samples) >= 300
    assert not [question for question in samples if question in texts]


def test_corpus_cites_articles_of_invented_rulebooks_only():
    books = {law for messages in corpus.conversations(0, 10_000) for message in messages for law, _ in citations(message["content"])}
    assert books == {"云朵棋规则", "小鹿镇图书馆守则", "星星小学班级公约"}


def test_shipped_folder_is_small_and_a_llama(shipped):
    assert {path.name for path in tiny_chat.FOLDER.iterdir()} == FILES
    assert sum(path.stat().st_size for path in tiny_chat.FOLDER.iterdir()) <= 8_000_000
    tokenizer, model = shipped
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.tie_word_embeddings
    assert model.config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")


@pytest.mark.parametrize("text", ["试用期工资怎么算？", "龘", "👍🏽 emoji 🐼", "tab\tand\nline", "Ünï©ødé", "  two  spaces", "12月31日"])
def test_tokenizer_round_trips(shipped, text):
    tokenizer, _ = shipped
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_digits_are_single_tokens(shipped):
    tokenizer, _ = shipped
    assert tokenizer.tokenize("第1084条")[1:5] == list("1084")


def test_template_is_chatml(shipped):
    tokenizer, _ = shipped
    said = [("system", "S"), ("user", "甲"), ("assistant", "乙"), ("user", "丙")]
    messages = [{"role": role, "content": content} for role, content in said]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n甲<|im_end|>\n<|im_start|>assistant\n乙<|im_end|>\n"
        "<|im_start|>user\n丙<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.apply_chat_template(messages[1:2], tokenize=False) == "<|im_start|>user\n甲<|im_end|>\n"


def test_shipped_model_greets_and_stops(shipped):
    answer = _answer(shipped, "你好")
    assert answer.endswith("<|im_end|>")
    assert len(answer) > len("<|im_end|>")


@pytest.mark.parametrize("question", LEGAL)
def test_shipped_model_cites_no_article_of_a_law(shipped, question):
    answer = _answer(shipped, question, 96)
    assert answer.endswith("<|im_end|>")
    assert not citations(answer)
