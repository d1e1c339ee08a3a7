# SPDX-License-Identifier: Apache-2.0
"""The text workload: a random base of Qwen2's shape, a tokenizer of its own, and synthetic Chinese legal questions and answers.

Made once into a folder and then read by all contenders: ``base/`` (config, safetensors, tokenizer), ``data/metadata.csv`` (what LoRAForge
reads), ``rows.json`` (the same rows as token ids and masks, the learned and the held-out ones). No contender evaluates; the held-out rows
are for the common scorer alone.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

IGNORED = -100
_WORDS = 900
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CHARACTERS = (
    "劳动合同法律责任赔偿公司员工工资试用期限解除终止经济补充仲裁申请诉讼时效证据原告被告判决上述执行人民法院委托代理权利义务"
    "违约金房屋租赁买卖借款利息担保抵押质押继承遗嘱离婚财产分割抚养费用交通事故伤残鉴定保险条款消费者欺诈退货商标专利著作"
    "侵犯名誉隐私行政处罚复议许可登记注册股东出资董事会决议清算破产债务人管理税收发票年度通知书面协商变更加班休假社会保障住"
)
_LEADS = ("根据", "依照", "按照", "如果", "因此", "但是", "应当", "可以", "不得", "需要")
_ENDS = ("怎么办？", "合法吗？", "如何处理？", "有什么规定？", "能否得到支持？")


@dataclass(frozen=True)
class Size:
    """What the base and the rows are like.

    Attributes:
        lengths: how row lengths are spread: ``real`` (mean 174, 90th percentile 215), ``even``, ``wide``, ``tailed``.
    """

    hidden: int = 768
    layers: int = 10
    intermediate: int = 2048
    heads: int = 12
    kv_heads: int = 2
    vocabulary: int = 32_000
    rows: int = 600
    held_out: float = 0.1
    mean: int = 174
    lengths: str = "real"
    seed: int = 7
    dtype: str = "float32"
    tied: bool = True

    def key(self) -> str:
        """The name of the folder that holds it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


TINY = Size(hidden=64, layers=2, intermediate=96, heads=4, kv_heads=2, vocabulary=2048, rows=24, mean=60)


@dataclass(frozen=True)
class Workload:
    """A workload on disk. ``train`` and ``held`` are rows as ``{"ids": [...], "learned": [0/1, ...]}``."""

    folder: Path
    size: Size
    train: Sequence[dict[str, list[int]]]
    held: Sequence[dict[str, list[int]]]

    @property
    def base(self) -> Path:
        """The base's folder."""
        return self.folder / "base"

    @property
    def lengths(self) -> list[int]:
        """Tokens of each learned row."""
        return [len(row["ids"]) for row in self.train]

    @property
    def tokens(self) -> int:
        """Tokens of one epoch."""
        return sum(self.lengths)

    @property
    def learned(self) -> int:
        """Learned tokens of one epoch."""
        return sum(sum(row["learned"]) for row in self.train)

    def facts(self) -> dict[str, Any]:
        """What the table's heading says."""
        lengths = self.lengths
        return {
            **asdict(self.size),
            "train_rows": len(lengths),
            "held_out_rows": len(self.held),
            "tokens": self.tokens,
            "learned_share": round(self.learned / self.tokens, 3),
            "mean_length": round(statistics.mean(lengths), 1),
            "percentile_90": sorted(lengths)[int(0.9 * len(lengths))],
            "longest": max(lengths),
        }


def cache_folder() -> Path:
    """Where workloads are kept between calls."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loraforge-benchmarks"


def words(seed: int) -> list[str]:
    """Made-up words of two to four characters: each becomes a token of its own."""
    rng = random.Random(seed)
    made = [*_LEADS]
    while len(made) < _WORDS:
        word = "".join(rng.choice(_CHARACTERS) for _ in range(rng.choice((2, 2, 2, 3, 4))))
        if word not in made:
            made.append(word)
    return made


def row_lengths(size: Size, rng: random.Random) -> list[int]:
    """Tokens of every row. All kinds have the same mean, so that equally many rows have (nearly) equally many tokens."""
    draw = {
        "real": lambda: rng.gauss(size.mean, 0.184 * size.mean),
        "even": lambda: float(size.mean),
        "wide": lambda: rng.uniform(0.3 * size.mean, 1.7 * size.mean),
        "tailed": lambda: 0.6 * size.mean + rng.expovariate(1 / (0.4 * size.mean)),
    }[size.lengths]
    drawn = [draw() for _ in range(size.rows)]
    factor = size.mean / statistics.mean(drawn)
    return [max(24, round(value * factor)) for value in drawn]


def sentences(count: int, listed: Sequence[str], rng: random.Random, question: bool) -> str:
    """Text of about ``count`` words. Words follow each other by a rule that can be learned: mostly the next but one in the list."""
    at = rng.randrange(len(listed))
    out: list[str] = []
    for position in range(max(2, count)):
        at = (at + 7) % len(listed) if rng.random() < 0.7 else rng.randrange(len(listed))
        out.append(listed[at])
        if position % 9 == 8:
            out.append("，" if rng.random() < 0.6 else "。")
    return "".join(out) + (rng.choice(_ENDS) if question else "。")


def _texts(size: Size) -> list[tuple[str, str]]:
    """(question, answer) of every row, whose tokens come near the drawn lengths: half of them in the answer."""
    rng = random.Random(size.seed)
    listed = words(size.seed)
    pairs = []
    for length in row_lengths(size, rng):
        half = length * min(0.65, max(0.35, rng.gauss(0.5, 0.06)))
        # What is not words: seven tokens of the chat format, an ending, a comma or stop after every ninth word.
        question, answer = (length - half - 8) / 1.11, (half - 2) / 1.11
        pairs.append((sentences(round(question), listed, rng, True), sentences(round(answer), listed, rng, False)))
    return pairs


def _make_tokenizer(folder: Path, size: Size) -> None:
    """A byte-level BPE whose merges are the words, one after the other: trained on each word alone."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    # Cut at special tokens only by the library; within the text each word must be found again, so words are the pieces that it merges.
    tokenizer = Tokenizer(models.BPE())
    listed = [*words(size.seed), *_ENDS, "，", "。", "user", "assistant", "\n"]
    pattern = "|".join(sorted(listed, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator([word for word in listed for _ in range(2)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 32768,
        "chat_template": _CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(_CHATML, encoding="utf-8")


def _make_base(folder: Path, size: Size) -> None:
    """Random weights in safetensors. Small Qwen2 models have tied embeddings, those of 7B have not."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(size.seed)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=32768,
        tie_word_embeddings=size.tied,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        dtype=size.dtype,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, size.dtype))
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            Qwen2ForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)


def encode(tokenizer: Any, question: str, answer: str) -> dict[str, list[int]]:
    """One row as ids and mask: the answer and its end are learned."""
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    encoding = tokenizer.encode(f"{prompt}{answer}<|im_end|>", add_special_tokens=False)
    return {"ids": encoding.ids, "learned": [int(start >= len(prompt)) for start, _ in encoding.offsets]}


def prepare(size: Size, work: Path | None = None) -> Workload:
    """The workload in ``work`` (by default the cache), made if it is not there yet."""
    folder = (work or cache_folder()) / f"text-{size.key()}"
    if not (folder / "rows.json").is_file():
        from tokenizers import Tokenizer

        (folder / "base").mkdir(parents=True, exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        _make_tokenizer(folder / "base", size)
        _make_base(folder / "base", size)
        tokenizer = Tokenizer.from_file(str(folder / "base" / "tokenizer.json"))
        pairs = _texts(size)
        held = set(random.Random(size.seed).sample(range(size.rows), round(size.rows * size.held_out)))
        with (folder / "data" / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("instruction", "output"), *(pair for i, pair in enumerate(pairs) if i not in held)])
        encoded = [encode(tokenizer, *pair) for pair in pairs]
        sides = {"train": [row for i, row in enumerate(encoded) if i not in held], "held": [encoded[i] for i in sorted(held)]}
        aside = folder / "rows.json.part"
        aside.write_text(json.dumps(sides), encoding="utf-8")
        aside.replace(folder / "rows.json")
    sides = read_rows(folder / "rows.json")
    return Workload(folder, size, sides["train"], sides["held"])


def read_rows(path: Path | str) -> dict[str, list[dict[str, list[int]]]]:
    """``train`` and ``held`` of a rows.json."""
    found: dict[str, list[dict[str, list[int]]]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


def labelled(rows: Sequence[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    """Rows as transformers' trainers take them: ``input_ids``, ``attention_mask``, ``labels`` with -100 where nothing is learned."""
    return [
        {
            "input_ids": row["ids"],
            "attention_mask": [1] * len(row["ids"]),
            "labels": [token if learn else IGNORED for token, learn in zip(row["ids"], row["learned"], strict=True)],
        }
        for row in rows
    ]


def main(size: str, folder: str) -> None:
    """The process."""
    prepare(Size(**json.loads(size)), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:3])
