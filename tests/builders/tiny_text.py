# SPDX-License-Identifier: Apache-2.0
"""A tiny random base model with its own tokenizer, made in seconds: what the tests train on."""

from __future__ import annotations

import json
from pathlib import Path

TEXTS = [
    "劳动合同到期不续签，公司应当支付经济补偿。根据《劳动合同法》第46条处理。",
    "试用期工资不得低于百分之八十。加班费怎么算？离婚冷静期是三十日。",
    "What is the notice period? The notice period is thirty days.",
    "一二三四五六七八九十 0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ",
]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(
    folder: Path,
    chat_template: str | None = CHATML,
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    bos: str | None = None,
) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": special[0], "model_max_length": 512}
    if bos:
        config["bos_token"] = bos
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")


def make_base(folder: Path, seed: int = 0, architecture: str = "llama", width: int = 32, **tokenizer) -> Path:
    """A random base in ``folder``: 2 layers."""
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder, **tokenizer)
    shape = {
        "vocab_size": 512,
        "hidden_size": width,
        "intermediate_size": 48 if width == 32 else 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    special = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    eos = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["eos_token"]
    stop = next(t["id"] for t in special if t["content"] == eos)
    if architecture == "gpt2":
        config = GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=4, n_positions=512, eos_token_id=stop, bos_token_id=None)
    else:
        config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture](**shape, eos_token_id=stop, bos_token_id=None, pad_token_id=0)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: int = 12) -> Path:
    """A CSV of short questions and answers that a tiny base can learn."""
    lines = ["instruction,output"]
    lines += [f"第{i}问：试用期工资怎么算？,答案{i}：根据《劳动合同法》第{i + 10}条。" for i in range(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_config(path: Path, **values) -> Path:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return path
