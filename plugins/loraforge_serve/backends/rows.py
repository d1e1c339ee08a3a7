# SPDX-License-Identifier: Apache-2.0
"""Answers in progress and the keys and values of their attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import Job, Piece

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(eq=False)
class Row:
    """One answer in progress.

    Attributes:
        tell: called with each piece, or with the error that ended the answer; from the thread of the model.
        left: set by whoever does not wait any more.
        made: the tokens so far.
        length: how many tokens are in its keys and values.
    """

    job: Job
    tell: Callable[[Piece | BaseException], None]
    left: bool = False
    made: list[int] = field(default_factory=list)
    length: int = 0

    def __post_init__(self) -> None:
        import torch

        self._decoder = self.job.chat.decoder()
        self._stops = frozenset(self.job.chat.stop_ids)
        self._silent = 0  # tokens since the last piece
        self._generator = torch.Generator().manual_seed(self.job.seed) if self.job.temperature > 0 else None

    @property
    def adapter(self) -> str:
        """What peft calls it."""
        return self.job.version.key if self.job.version else "__base__"

    def choose(self, logits: Tensor) -> int:
        """The next token, of logits (vocabulary,), as transformers' ``generate`` chooses with temperature and top_p. What it draws follows
        from the row's own seed, whoever shares the batch."""
        import torch

        if self._generator is None:
            return int(logits.argmax())
        scores = logits.float().cpu() / self.job.temperature
        if self.job.top_p < 1:
            ordered, places = scores.sort()
            unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - self.job.top_p
            unlikely[-1] = False  # the likeliest always stays
            scores[places[unlikely]] = -torch.inf
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))

    def add(self, token: int) -> bool:
        """Takes a token in; whether the answer goes on."""
        self.made.append(token)
        self._silent += 1
        stopped = token in self._stops
        if stopped or len(self.made) >= self.job.max_tokens:
            text = ("" if stopped else self._decoder.step(token)) + self._decoder.rest()
            self.tell(Piece(text, self._silent, "stop" if stopped else "length"))
            return False
        if text := self._decoder.step(token):
            self.tell(Piece(text, self._silent))
            self._silent = 0
        return True


class Network:
    """A language model of transformers, one step at a time.

    Attributes:
        batches: whether rows of different lengths can share a batch, as far as its interface says.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        known = inspect.signature(model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"  # its name before transformers 5.2x
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.batches = {"position_ids", "attention_mask"} <= set(known)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def begin(self, ids: Sequence[int]) -> tuple[Tensor, Any]:
        """Reads a prompt: the logits (vocabulary,) after it, and its keys and values."""
        import torch

        given = torch.tensor([list(ids)], device=self.device)
        out = self.model(input_ids=given, attention_mask=torch.ones_like(given), use_cache=True, **self._last)
        held = out[self._cache] if self._cache in out else out.past_key_values  # noqa: SIM401  it is no dict
        return out.logits[0, -1], held

    def step(self, tokens: Sequence[int], cache: Any, lengths: Sequence[int], width: int) -> Tensor:
        """The logits (rows, vocabulary) after one more token for each row; ``cache`` grows by one.

        Args:
            lengths: of the rows in the cache; they are padded on the left to ``width``.
        """
        import torch

        given = torch.tensor(list(tokens), device=self.device)[:, None]
        where: dict[str, Any] = {}
        if self.batches:  # otherwise the one row has no padding, and Mamba would take a mask for one of the new token alone
            own = torch.tensor(list(lengths), device=self.device)[:, None]
            mask = (torch.arange(width + 1, device=self.device) >= width - own).long()
            where = {"attention_mask": mask, "position_ids": own}
        out = self.model(input_ids=given, use_cache=True, **where, **{self._cache: cache}, **self._last)
        logits: Tensor = out.logits[:, -1]
        return logits


def joinable(cache: Any, length: int) -> bool:
    """Whether the keys and values of a prompt can stand beside others of another length: plain attention over all that was said."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return isinstance(cache, DynamicCache) and all(
        type(layer) is DynamicLayer and layer.is_initialized and layer.keys.ndim == 4 and layer.keys.shape[-2] == length
        for layer in cache.layers
    )


def join(cache: Any, width: int, new: Any, length: int) -> None:
    """Puts the one row of ``new`` under those of ``cache`` (in place); both are padded on the left to the longer."""
    import torch

    widest = max(width, length)
    for mine, other in zip(cache.layers, new.layers, strict=True):
        mine.keys = torch.cat([_padded(mine.keys, widest), _padded(other.keys, widest)])
        mine.values = torch.cat([_padded(mine.values, widest), _padded(other.values, widest)])


def keep(cache: Any, rows: Sequence[int], cut: int) -> None:
    """Keeps these rows of ``cache`` (in place), without the first ``cut`` places, which none of them uses."""
    import torch

    for layer in cache.layers:
        chosen = torch.tensor(list(rows), device=layer.keys.device)
        layer.keys = layer.keys[:, :, cut:].index_select(0, chosen)
        layer.values = layer.values[:, :, cut:].index_select(0, chosen)


def _padded(values: Tensor, width: int) -> Tensor:
    """On the left with zeros, which the mask hides."""
    from torch.nn.functional import pad

    return pad(values, (0, 0, width - values.shape[-2], 0))
