# SPDX-License-Identifier: Apache-2.0
"""Small bases of every architecture as folders, trained by the product and, beside it, by transformers and peft alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from builders.architectures import architectures, small
from builders.tiny_text import write_config

_LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789?.,:"
_SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|bot|>")
_CHAT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|bot|>{{ m.content }}</s>{% else %}<|user|>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
LENGTHS = (1, 4, 2, 30, 7, 1, 12, 3, 9, 5)  # letters more or less: rows of 17 to 60 tokens


def write_letters(folder: Path) -> None:
    """A tokenizer of one token for each letter: 74 tokens, fewer than the 97 of the small models."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # In the form of bytes that GPT-2 began: some of transformers' own tokenizers read a vocabulary in that form only.
    letters = [letter.replace(" ", "\u0120").replace("\n", "\u010a") for letter in _LETTERS]
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *letters, "<unk>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(_CHAT, encoding="utf-8")


def quiet(config: Any) -> None:
    """Nothing random in the forward pass: no dropout, no jitter."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in vars(part).items():
            if isinstance(value, float) and value and any(word in name for word in ("drop", "jitter", "pdrop")):
                setattr(part, name, 0.0)


def make_base(kind: str, folder: Path, model: Any = None) -> Path:
    """A base of model type ``kind`` with random weights, none of them zero as a whole. Skips the test if it cannot be made small."""
    model = small(architectures()[kind]) if model is None else model
    quiet(model.config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim and not parameter.any():  # nothing would be learned behind it
            parameter.data.normal_(std=0.02)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_letters(folder)
    return folder


def write_rows(folder: Path, lengths: tuple[int, ...] = LENGTHS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"Who is {i}{'x' * (n // 2)}?,He {i}{'y' * (n - n // 2)}." for i, n in enumerate(lengths)]
    (folder / "metadata.csv").write_text("\n".join(["instruction,output", *rows]) + "\n", encoding="utf-8")
    return folder


@dataclass
class Trained:
    """What five steps of the product did.

    Attributes:
        start: the LoRA's parameters before the first step, by peft's name without the adapter's.
        steps: the encoded examples of each step.
        losses: of each step.
        notes: what the run said of where the LoRA sits.
        peft, merged: the exports.
    """

    config: Any
    start: dict[str, torch.Tensor] = field(default_factory=dict)
    steps: list[list[Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    peft: Path = Path()
    merged: Path = Path()


def train(base: Path, here: Path, monkeypatch: Any, lengths: tuple[int, ...] = LENGTHS, **settings: Any) -> Trained:
    """Five steps by the commands' own way, from the data to the exports."""
    from loraforge.pipeline.run import run_training
    from loraforge.plan import make_plan
    from loraforge.plugin_api.host import PluginHost
    from loraforge.training import loop

    values = {
        "lora_rank": 4, "batch_size": 2, "epochs": 1, "eval_ratio": 0, "eval_answers": False, "learning_rate": 0.001, "lora_dropout": 0.0,
        "precision": "fp32", "save_steps": 0, "export": ["peft", "merged"],
    }  # fmt: skip
    places = {"train_data_dir": str(write_rows(here / "data", lengths)), "base_model": str(base), "output_dir": str(here / "out")}
    host = PluginHost(blocked=())
    plan = make_plan(host, "text", write_config(here / "c.yaml", **{**values, **places, **settings}))
    seen = Trained(plan.config)
    run, step = loop.Loop.run, loop.Loop.step

    def watched_run(self: Any, done: int = 0) -> None:
        seen.start = {n.replace(".default", "").replace(".head.", "."): p.detach().clone() for n, p in self.parameters.items()}
        run(self, done)

    def watched_step(self: Any, indices: Any, number: int) -> Any:
        seen.steps.append([self.examples[i] for i in indices])
        event = step(self, indices, number)
        seen.losses.append(event.loss)
        return event

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "run", watched_run)
        patch.setattr(loop.Loop, "step", watched_step)
        outcome = run_training(plan, host)
    events = [json.loads(line) for line in (outcome.run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    seen.notes = [event["detail"] for event in events if event["event"] == "StageStarted" and event["stage"] == "LoRA injection"][1:]
    seen.peft, seen.merged = outcome.exports["peft"], outcome.exports["merged"]
    return seen


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def reload(base: Path, export: Path, trainable: bool = False) -> Any:
    """The base with the exported adapter on it, by peft alone."""
    import peft

    return peft.PeftModel.from_pretrained(load(base), export, is_trainable=trainable)


def pairs(model: Any) -> dict[str, torch.nn.Parameter]:
    """The LoRA's parameters of a peft model by their names in the exported file."""
    return {n.removeprefix("base_model.model.").replace(".default", ""): p for n, p in model.named_parameters() if ".lora_" in n}


def reference(base: Path, seen: Trained) -> tuple[Any, list[float]]:
    """The same five steps by transformers, peft and torch: every row by itself, no kernel of ours. The model and the losses."""
    from transformers import get_scheduler

    model = reload(base, seen.peft, trainable=True).train()
    own = pairs(model)
    assert set(own) == set(seen.start)
    for name, parameter in own.items():
        parameter.data.copy_(seen.start[name])
    config = seen.config
    optimizer = torch.optim.AdamW(own.values(), lr=config.learning_rate, weight_decay=config.weight_decay)
    warmup = math.ceil(config.warmup * len(seen.steps)) if config.warmup < 1 else round(config.warmup)
    scheduler = get_scheduler(config.lr_scheduler, optimizer, num_warmup_steps=warmup, num_training_steps=len(seen.steps) + 1)
    scheduler.step()
    losses = []
    for rows in seen.steps:
        count = sum(sum(row["learned"][1:]) for row in rows)
        total = 0.0
        for row in rows:
            ids = torch.tensor(row["ids"])
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            at = torch.tensor(row["learned"][1:]).nonzero()[:, 0]
            loss = torch.nn.functional.cross_entropy(logits[at].float(), ids[at + 1], reduction="sum") / count
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(own.values(), config.max_grad_norm or math.inf)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(total)
    return model.eval(), losses


@dataclass(frozen=True)
class Compared:
    """What the product did beside what transformers and peft do.

    Attributes:
        loss: the largest difference of the losses of the five steps.
        weights: how far the LoRA's weights are apart, as a part of how far they have come.
        trained: the largest difference between logits of the reference and of the export that peft has loaded, as a part of the largest.
        merged: likewise between the merged model and that.
        layers: how many are adapted.
        still: those of them that have not learned anything.
        notes: see ``Trained``.
    """

    loss: float
    weights: float
    trained: float
    merged: float
    layers: int
    still: tuple[str, ...]
    notes: tuple[str, ...]


def compare(base: Path, here: Path, monkeypatch: Any, lengths: tuple[int, ...] = LENGTHS, **settings: Any) -> Compared:
    """Trains ``base`` in both ways. Raises what the product raises where it refuses."""
    import safetensors.torch

    seen = train(base, here, monkeypatch, lengths, **settings)
    model, losses = reference(base, seen)
    file = {
        name.removeprefix("base_model.model."): tensor
        for name, tensor in safetensors.torch.load_file(seen.peft / "adapter_model.safetensors").items()
    }
    own = {name: parameter.detach() for name, parameter in pairs(model).items()}
    assert set(file) == set(own)
    way = math.sqrt(sum(float((own[name] - seen.start[name]).square().sum()) for name in own))
    apart = math.sqrt(sum(float((own[name] - file[name]).square().sum()) for name in own))
    loaded = logits(reload(base, seen.peft), seen)
    return Compared(
        max(abs(x - y) for x, y in zip(seen.losses, losses, strict=True)),
        apart / way,
        far(loaded, logits(model, seen)),
        far(logits(load(seen.merged), seen), loaded),
        len(file) // 2,
        tuple(name for name, tensor in file.items() if ".lora_B" in name and not tensor.any()),
        tuple(seen.notes),
    )


def logits(model: Any, seen: Trained) -> list[torch.Tensor]:
    """Of every row, by itself."""
    with torch.no_grad():
        return [model.eval()(input_ids=torch.tensor(row["ids"])[None], use_cache=False).logits[0] for rows in seen.steps for row in rows]


def far(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """The largest difference between two lists of tensors, as a part of the largest number."""
    size = max(float(x.abs().max()) for x in others)
    return max(float((x - y).abs().max()) for x, y in zip(some, others, strict=True)) / max(size, 1e-6)
