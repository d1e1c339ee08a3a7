# SPDX-License-Identifier: Apache-2.0
"""A whole model family of sixty lines that keeps every promise and trains in milliseconds: tests break one promise of it at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from loraforge import Examination, KeySet, ModelFamily, Record, RunConfig, Span, TrainableModel

BASE = "toy"


@dataclass(frozen=True)
class Line(Record):
    text: str


def network():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(64, 16), torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 64))


class TrainableToy(TrainableModel):
    """The next byte from the one before; one of them is replaced at random."""

    def __init__(self, lora):
        self.lora = lora

    def encode(self, record, text):
        return {"bytes": [byte % 64 for byte in "".join(span.text for span in text).encode()], "key": record.text}

    def group(self, example):
        return 0

    def draw(self, example, seed):
        rng = random.Random(f"{seed}/{example['key']}/{example.get('repeat', 0)}")
        return rng.randrange(len(example["bytes"]) - 1), rng.randrange(64)

    def collate(self, examples, seed=None):
        import torch

        longest = max(len(example["bytes"]) for example in examples)
        given, wanted = torch.zeros(len(examples), longest - 1, dtype=torch.long), torch.full((len(examples), longest - 1), -100)
        for row, example in enumerate(examples):
            data = torch.tensor(example["bytes"])
            given[row, : len(data) - 1], wanted[row, : len(data) - 1] = data[:-1], data[1:]
            place, byte = self.draw(example, seed)
            given[row, place] = byte
        return {"given": given, "wanted": wanted}

    def weight(self, batch):
        return float((batch["wanted"] >= 0).sum())

    def units(self, batch):
        return float((batch["wanted"] >= 0).sum())

    def loss(self, model, batch):
        import torch

        return torch.nn.functional.cross_entropy(model(batch["given"]).flatten(0, 1), batch["wanted"].flatten())

    def sample(self, folder, step):
        file = folder / f"{step}.png"
        file.write_bytes(b"a picture")
        return file

    def facts(self):
        return {"toy": True}

    def files(self):
        return {"note.txt": b"small"}


class ToyInferenceModel:
    """The likeliest next eight bytes."""

    def __init__(self, model):
        self.model = model.eval()

    def switch(self, adapter):
        from loraforge.adapters import lora

        lora.set_adapter(self.model, adapter)

    def generate(self, prompts, adapter, **settings):
        import torch

        self.switch(adapter)
        answers = []
        for prompt in prompts:
            made = [prompt.encode()[-1] % 64]
            with torch.no_grad():
                for _ in range(8):
                    made.append(int(self.model(torch.tensor(made[-1:])).argmax()))
            answers.append(" ".join(map(str, made[1:])))
        return answers


class Toy(ModelFamily):
    """The family. Tests make subclasses whose ``trainable`` and ``inference`` are broken."""

    name, task, help = "toy", "lines", "A random model of bytes, called toy."
    trainable, inference = TrainableToy, ToyInferenceModel

    def matches(self, base_model):
        return base_model == BASE

    def examine(self, config, keys, rows):
        return Examination(facts={"rows": len(rows)}, shown=[spans for _, spans in rows])

    def load(self, config, keys, device):
        from loraforge.adapters import lora

        start = Path(config.init_from_adapter or "")
        folder = start / "adapter" if (start / "adapter").is_dir() else start
        given = lora.read_peft(folder) if config.init_from_adapter else None
        return self.trainable(lora.inject(network().to(device), config, given))

    def open(self, config, adapters, device):
        from loraforge.adapters import lora

        model = network()
        lora.load_adapters(model, adapters)
        return self.inference(model)


def toy(trainable=(), inference=(), **methods) -> Toy:
    """The family with some methods replaced: its own by keyword, those of its models by mappings."""
    parts = {
        "trainable": type("Broken", (TrainableToy,), dict(trainable)),
        "inference": type("Other", (ToyInferenceModel,), dict(inference)),
    }
    return type("Changed", (Toy,), {**parts, **methods})()


def toy_config(**values) -> tuple[RunConfig, KeySet]:
    config = RunConfig(**{"train_data_dir": ".", "base_model": BASE, "lora_rank": 4, "learning_rate": 0.02, **values})
    return config, KeySet({RunConfig: config})


def toy_rows() -> list[tuple[Line, list[Span]]]:
    """Four rows of different lengths."""
    lines = [
        Line(text, where=f"line {number}") for number, text in enumerate(("ab", "a longer line of bytes", "abcabc", "words, and words"), 1)
    ]
    return [(line, [Span(line.text[:1]), Span(line.text[1:], learn=True)]) for line in lines]
