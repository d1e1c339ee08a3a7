# SPDX-License-Identifier: Apache-2.0
"""Trains tiny-chat: ``python -m loraforge_text.tiny_chat.build --out FOLDER``.

The defaults are the settings of the model that comes with LoRAForge. The same settings on the same machine give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from . import corpus, lexicon

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
DATA = Path(__file__).parent / "data"
Row = tuple[list[int], list[float]]
# Questions are mostly chance, which nothing can learn, but reading them trains the embeddings of their words.
PROMPT_WEIGHT = 0.1


@dataclass(frozen=True)
class Settings:
    """What a build depends on."""

    steps: int = 5000
    batch: int = 16
    rate: float = 1.5e-3
    vocab: int = 4096
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    ffn: int = 512
    seed: int = 0
    threads: int = 2
    gain: float = 8.0


def train_tokenizer(texts: Iterator[str], settings: Settings, template: str) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    # Each digit is a token: numbers the model never saw are then spelled from digits it knows.
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    raw.decoder = decoders.ByteLevel()
    specials = [AddedToken(text, special=True, normalized=False) for text in (PAD, START, END)]
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        # Two Chinese characters, three bytes each, a byte being written as a letter of two bytes. Longer tokens would swallow
        # phrases of the templates, and then the same word in another sentence would be other tokens.
        max_token_length=12,
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        chat_template=template,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def _tokenizer_texts(settings: Settings) -> Iterator[str]:
    """Text for the tokenizer: a part of the corpus, and the word lists once more so that rare words count too."""
    for messages in corpus.conversations(settings.seed, min(20_000, settings.steps * settings.batch)):
        yield from (message["content"] for message in messages)
    for words in lexicon.terms():
        yield from (word for word in words for _ in range(20))
    for file in ("legal_topics.txt", "medical_topics.txt"):
        for topic in lexicon.topics(file):
            yield from (text for text in (topic.name, *topic.wordings) for _ in range(10))


def new_model(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> LlamaForCausalLM:
    """An untrained model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=settings.vocab,
        hidden_size=settings.hidden,
        intermediate_size=settings.ffn,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.key_value_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        # Half of the usual 1/sqrt(width): residual branches start small, which suits the high learning rate.
        initializer_range=0.03,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    return LlamaForCausalLM(config)


def _encode(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> list[Row]:
    """Token ids of every training conversation, with the weight of each token in the loss."""
    rows: list[Row] = []
    found = list(corpus.conversations(settings.seed, settings.steps * settings.batch))
    for start in range(0, len(found), 10_000):
        part = found[start : start + 10_000]
        # Special tokens bound the pieces, so pieces encode to the same ids as the whole text.
        pieces = [(f"{START}{message['role']}\n", f"{message['content']}{END}\n") for messages in part for message in messages]
        ids = iter(tokenizer([piece for pair in pieces for piece in pair], add_special_tokens=False)["input_ids"])
        for messages in part:
            row: Row = ([], [])
            for message in messages:
                role, content = next(ids), next(ids)
                row[0].extend([*role, *content])
                row[1].extend([PROMPT_WEIGHT] * len(role))
                row[1].extend([1.0 if message["role"] == "assistant" else PROMPT_WEIGHT] * len(content))
            rows.append(row)
    return rows


def _batches(rows: list[Row], settings: Settings) -> list[list[Row]]:
    """Batches of rows of like length, in random order: little padding."""
    rng = Random(settings.seed)
    batches: list[list[Row]] = []
    chunk = settings.batch * 50
    for start in range(0, len(rows), chunk):
        near = sorted(rows[start : start + chunk], key=lambda row: len(row[0]))
        groups = [near[index : index + settings.batch] for index in range(0, len(near), settings.batch)]
        rng.shuffle(groups)
        batches += groups
    return batches


def _loss(model: LlamaForCausalLM, rows: list[Row], pad: int) -> torch.Tensor:
    """Weighted next-token loss over everything that is not padding."""
    import torch

    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in rows])
    weights = torch.tensor([row + [0.0] * (width - len(row)) for _, row in rows])[:, 1:].flatten()
    # Padding stands on the right and attention looks left only, so no mask is needed for the tokens that count.
    logits = model(input_ids=ids).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights).sum() / weights.sum()


def _left(started: float, step: int, steps: int) -> str:
    """The time a run still needs, in words."""
    return f"{(time.monotonic() - started) / step * (steps - step) / 60:.1f} min left"


def fit(model: LlamaForCausalLM, rows: list[Row], pad: int, settings: Settings) -> float:
    """Train the model and return the mean loss of the last hundred steps."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    warmup = max(1, min(200, settings.steps // 10))
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, settings.steps - warmup), eta_min=settings.rate / 50),
        ],
        milestones=[warmup],
    )
    losses: list[float] = []
    started = time.monotonic()
    model.train()
    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=settings.steps, loss=0.0)
        for step, batch in enumerate(_batches(rows, settings), 1):
            loss = _loss(model, batch, pad)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses = [*losses[-99:], loss.item()]
            progress.update(task, advance=1, loss=sum(losses) / len(losses))
            if not progress.console.is_terminal and step % max(1, settings.steps // 20) == 0:  # a log file shows no bar
                mean = sum(losses) / len(losses)
                progress.console.print(f"step {step}/{settings.steps}, loss {mean:.3f}, {_left(started, step, settings.steps)}")
    return sum(losses) / len(losses)


def rescale(model: LlamaForCausalLM, gain: float) -> None:
    """Make LoRA adapters act `gain` times as strongly, without changing what the model computes.

    An adapter starts from a scale that does not depend on the model. The weights of a small model are larger than those of the models
    that usual learning rates are meant for, so at those rates it would hardly move. Multiplying what enters the projections and dividing
    their weights, and shrinking the residual stream, which RMSNorm undoes, cancel out for the weights but not for an adapter beside them.
    """
    import torch

    with torch.no_grad():
        model.model.embed_tokens.weight /= gain
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            layer.input_layernorm.weight *= gain
            layer.post_attention_layernorm.weight *= gain
            for part in (attention, mlp):
                for linear in part.children():
                    if isinstance(linear, torch.nn.Linear):
                        linear.weight /= gain
        model.model.norm.weight *= gain  # the output matrix is the embedding, which was divided above
    epsilon = model.config.rms_norm_eps / gain**2
    model.config.rms_norm_eps = epsilon
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = epsilon


def _card(settings: Settings, parameters: int, rows: list[Row]) -> str:
    """The model card."""
    text = (DATA / "card.md").read_text(encoding="utf-8")
    facts: dict[str, Any] = {field.name: getattr(settings, field.name) for field in fields(settings)}
    facts["topics"] = sum(len(lexicon.topics(file)) for file in ("legal_topics.txt", "medical_topics.txt"))
    facts |= {"parameters": f"{parameters:,}", "conversations": f"{len(rows):,}", "tokens": f"{sum(len(ids) for ids, _ in rows):,}"}
    return text.format(**facts)


def build(out: Path, settings: Settings) -> Path:
    """Train tokenizer and model and put the finished folder at `out`, replacing what is there."""
    import torch
    from transformers import GenerationConfig, set_seed

    torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # optimizer state of words not seen for a while decays into numbers that CPUs are slow at
    template = (DATA / "chat_template.jinja").read_text(encoding="utf-8").rstrip("\n")
    tokenizer = train_tokenizer(_tokenizer_texts(settings), settings, template)
    rows = _encode(tokenizer, settings)
    set_seed(settings.seed)
    model = new_model(tokenizer, settings)
    print(f"{model.num_parameters():,} parameters, {len(rows):,} conversations, {sum(len(ids) for ids, _ in rows):,} tokens")
    loss = fit(model, rows, model.config.pad_token_id, settings)
    print(f"loss of the last steps: {loss:.4f}")
    model.eval()
    rescale(model, settings.gain)
    model.half()
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=128, eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Written aside first: an interrupted build leaves the old model in place.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / "README.md").write_text(_card(settings, model.num_parameters(), rows), encoding="utf-8")
        aside.chmod(0o755)  # temporary folders and safetensors files are readable by their owner only
        for path in aside.iterdir():
            path.chmod(0o644)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def main(arguments: list[str] | None = None) -> None:
    """Command line: one option for each of `Settings`."""
    parser = argparse.ArgumentParser(prog="python -m loraforge_text.tiny_chat.build", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    for field in fields(Settings):
        kind = float if field.name in {"rate", "gain"} else int
        parser.add_argument("--" + field.name.replace("_", "-"), type=kind, default=field.default, help=f"default {field.default}")
    options = vars(parser.parse_args(arguments))
    out = build(options.pop("out"), Settings(**options))
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {size:,} bytes")


if __name__ == "__main__":
    main()
