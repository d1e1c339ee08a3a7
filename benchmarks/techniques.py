# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks techniques``: what each single technique of text training gives, by leaving it out.

One process, one model. Steps with and without a technique alternate on the same batches, so that a machine whose speed wanders treats both
alike; what a step keeps for its backward pass is counted, not measured. All of them left out at once is transformers with PEFT on padded
rows, and a plain loss.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click

from .reporting import Table, machine, publish, spread
from .text import TARGETS, prepared
from .workload import TINY, Size, Workload, cache_folder

Without = Callable[["Built"], contextlib.AbstractContextManager[Any]]


@dataclass
class Built:
    """The product's model with a LoRA, ready to train."""

    trainable: Any
    optimizer: Any
    batches: Sequence[Sequence[dict[str, list[int]]]]

    @property
    def model(self) -> Any:
        """The model with its adapters."""
        return self.trainable.lora.model


def built(work: Workload, targets: Sequence[str], rank: int, dropout: float, batch_size: int) -> Built:
    """The base of the workload, with a LoRA that has learned something."""
    import torch
    from loraforge_text.families.causal_lm import TrainableCausalLM, load_model

    from loraforge import RunConfig
    from loraforge.adapters import lora
    from loraforge.training.optimizers import make_optimizer

    config = RunConfig(
        train_data_dir=".", base_model=str(work.base), lora_rank=rank, lora_dropout=dropout, lora_target=list(targets), learning_rate=1e-4
    )
    torch.manual_seed(0)
    injected = lora.inject(load_model(work.base, "fp32", torch.device("cpu")), config)
    for name, parameter in injected.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    trainable = TrainableCausalLM(injected, None, None, max(work.lengths), fast=True)  # type: ignore[arg-type]
    trained = [p for p in injected.model.parameters() if p.requires_grad]
    batches = [work.train[i : i + batch_size] for i in range(0, len(work.train), batch_size)]
    return Built(trainable, make_optimizer(config, [{"params": trained, "lr": config.learning_rate}]), batches)


def step(made: Built, number: int) -> float:
    """Seconds of one step on the batch of that number."""
    import torch

    torch.manual_seed(number)
    began = time.perf_counter()
    batch = made.trainable.collate(made.batches[number % len(made.batches)])
    made.trainable.loss(made.model, batch).backward()
    made.optimizer.step()
    made.optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def kept(made: Built) -> float:
    """MB that a forward pass over the first batch keeps for the backward pass, without the parameters."""
    import torch

    own = {p.untyped_storage().data_ptr() for p in made.model.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = made.trainable.loss(made.model, made.trainable.collate(made.batches[0]))
    size = sum(storage.nbytes() for place, storage in found.items() if place not in own) / 1e6
    del loss
    return size


def figure(made: Built) -> float:
    """The loss of the first batch, without dropout."""
    import torch

    made.model.eval()
    try:
        with torch.no_grad():
            return float(made.trainable.loss(made.model, made.trainable.collate(made.batches[0])))
    finally:
        made.model.train()


# --- what is left out ----------------------------------------------------------------------------------------------------------


def _onednn(made: Built) -> contextlib.AbstractContextManager[Any]:
    from loraforge.kernels import frozen

    return mock.patch.object(frozen, "onednn_is_faster", lambda: False)


def _head_pieces(made: Built) -> contextlib.AbstractContextManager[Any]:
    from loraforge.kernels import frozen

    faster, limit = frozen._faster, 2 * frozen._PIECE
    return mock.patch.object(frozen, "_faster", lambda x, weight, out: weight.numel() <= limit and faster(x, weight, out))


def _blocks(made: Built) -> contextlib.AbstractContextManager[Any]:
    from loraforge_text.kernels import packed_attention

    return mock.patch.object(packed_attention, "_BLOCK", 10**9)


def _places(made: Built) -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(made.trainable, "_places", False)


def _recomputed(made: Built) -> contextlib.AbstractContextManager[Any]:
    from loraforge.kernels import frozen

    return mock.patch.object(frozen, "recompute", lambda x, make, *needed: x)


@contextlib.contextmanager
def _bits(made: Built) -> Iterator[None]:
    from loraforge.kernels import lora

    with (
        mock.patch.object(lora, "_packed", lambda mask: mask),
        mock.patch.object(lora, "_unpacked", lambda mask, x: mask.to(x.dtype)),
    ):
        yield


def _lora(made: Built) -> contextlib.AbstractContextManager[Any]:
    from loraforge.kernels import lora

    return mock.patch.object(lora.FastLoraLinear, "_plain", lambda layer: None)


@contextlib.contextmanager
def _fast_blocks(made: Built) -> Iterator[None]:
    from loraforge_text.kernels import fast_blocks

    changed = [(module, type(module)) for module in made.model.modules() if type(module).__module__ == fast_blocks.__name__]
    for module, kind in changed:
        module.__class__ = kind.__bases__[0]
    try:
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind


@contextlib.contextmanager
def _head(made: Built) -> Iterator[None]:
    stand_in, head = made.model.get_output_embeddings(), made.trainable._head
    made.model.set_output_embeddings(head)
    try:
        with mock.patch.object(made.trainable, "_head", None), _places(made):
            yield
    finally:
        made.model.set_output_embeddings(stand_in)


@contextlib.contextmanager
def _line(made: Built) -> Iterator[None]:
    before = made.model.config._attn_implementation
    made.model.set_attn_implementation("sdpa")
    try:
        with mock.patch.object(made.trainable, "_in_line", False), _places(made):
            yield
    finally:
        made.model.set_attn_implementation(before)


TECHNIQUES: dict[str, Without] = {
    "products with frozen weights by the faster library": _onednn,
    "of these the head's": _head_pieces,
    "attention as plain products in blocks": _blocks,
    "the last feed-forward block on learned positions": _places,
    "head and loss on learned positions, in pieces": _head,
    "rows end to end, without padding": _line,
    "LoRA in one function": _lora,
    "norms and gates in one function": _fast_blocks,
    "what norms and gates make is made again": _recomputed,
    "of dropout a bit for each number": _bits,
}


@contextlib.contextmanager
def _everything(made: Built) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for without in TECHNIQUES.values():
            stack.enter_context(without(made))
        yield


def compare(made: Built, without: Without, pairs: int) -> tuple[list[float], float, float, float]:
    """(time with the technique over that without, pair by pair; MB kept with it, and without it; how far the losses are apart)."""
    ratios = []
    for number in range(-1, pairs):  # the first pair warms both up
        first = number % 2 == 0
        seconds = {}
        for on in (first, not first):
            with contextlib.nullcontext() if on else without(made):
                seconds[on] = step(made, max(0, number))
        if number >= 0:
            ratios.append(seconds[True] / seconds[False])
    size, loss = kept(made), figure(made)
    with without(made):
        return ratios, size, kept(made), abs(figure(made) - loss)


@click.command()
@click.option("--rows", default=40, show_default=True)
@click.option("--vocabulary", default=32_000, show_default=True)
@click.option("--target", type=click.Choice(list(TARGETS)), default="attention", show_default=True, help="Where the adapters sit.")
@click.option("--dropout", default=0.1, show_default=True)
@click.option("--pairs", default=8, show_default=True, help="Steps with and without each technique.")
@click.option("--work", type=click.Path(path_type=Path), help="Where bases and rows are kept; by default the user's cache.")
@click.option("--out", type=click.Path(path_type=Path), help="Write techniques.md and techniques.json there.")
@click.option("--tiny", is_flag=True, help="A base of 64 units: whether everything works, not how fast it is.")
def command(rows: int, vocabulary: int, target: str, dropout: float, pairs: int, work: Path | None, out: Path | None, tiny: bool) -> None:
    """Techniques: the time of a step and what it keeps, with each of them over without it."""
    size = TINY if tiny else Size(rows=rows, vocabulary=vocabulary)
    made = built(prepared(size, work or cache_folder()), TARGETS[target], 4 if tiny else 16, dropout, 4)
    table = Table(
        f"Text, {target}, vocabulary {size.vocabulary}: one step",
        ["technique", "time with / without", "MB kept with", "MB kept without", "losses apart"],
        facts={**machine(), "pairs": pairs, "dropout": dropout},
    )
    raw = {}
    for name, without in {**TECHNIQUES, "all of them": _everything}.items():
        click.echo(f"{name} ...", err=True)
        ratios, on, off, apart = compare(made, without, pairs)
        raw[name] = {"ratios": ratios, "kept_with": on, "kept_without": off, "apart": apart}
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        table.rows.append([name, spread((quartiles[1], quartiles[0], quartiles[2]), 2), f"{on:.0f}", f"{off:.0f}", f"{apart:.1e}"])
    table.notes.append("In brackets: the middle half of the pairs. Both sides run in one process, without the settings of the allocator.")
    publish("techniques", [table], out, raw)
