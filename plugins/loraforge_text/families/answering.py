# SPDX-License-Identifier: Apache-2.0
"""A loaded base with its adapters that answers prompts: several at once where that changes no answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loraforge import Adapter, Answer, DataError, speaker

from ..base_files import BaseFiles
from ..templates.builtin import AutoTemplate
from ..templates.stops import opening, stop_ids, trained_stop
from . import limits
from .repetition import REPEATED, repeats

if TYPE_CHECKING:
    from torch import Tensor

say = speaker(__name__)

_TOGETHER = 8  # prompts; their caches must fit beside the base
_LOOKED = 16  # tokens between two looks for repetition
_EXACT, _ROUNDED = 1e-3, 5e-2  # of the largest score: what float32, and 16 bits, may differ by for another order of summing


def trained_stops(adapters: Mapping[str, Adapter]) -> list[str]:
    """The stop tokens that the answers of these adapters were trained to end in, as their facts say."""
    prompts = [AutoTemplate().recall(adapter.facts.get("template") or {}).prompting for adapter in adapters.values()]
    return [stop for one in prompts if (one.jinja or one.inline) and (stop := trained_stop(one))]


class CausalInferenceModel:
    """Answers prompts with the base, or with one of the mounted adapters. All of them stop at the same tokens.

    Attributes:
        batch_size: how many prompts ``generate`` answers in one go; halved where memory does not suffice.
        watch: see ``InferenceModel``.
    """

    def __init__(self, model: Any, tokenizer: Any, base: BaseFiles, trained: Sequence[str] = ()) -> None:
        from transformers import GenerationConfig

        self._model, self._tokenizer = model, tokenizer
        self._stops = list(dict.fromkeys(number for stop in [*trained, ""] for number in stop_ids(base, stop)))
        self._opening, self._special = opening(base), base.special
        self._mixes: bool | None = None
        self.batch_size = _TOGETHER
        self.watch: Callable[[int], None] | None = None
        # The base's own sampling defaults (temperature, penalties) would answer otherwise than what is asked for here.
        self._model.generation_config = GenerationConfig()

    def generate(self, prompts: Sequence[str], adapter: str | Mapping[str, float] | None, **settings: Any) -> Sequence[Answer]:
        """One answer per prompt; ``stopped`` is False for those that only max_tokens ended, ``repeats`` True for those that were ended
        because they only repeated themselves.

        Args:
            settings: max_tokens (default 512), temperature (default 0: always the likeliest token), top_p, seed. What is drawn at random
                for a prompt is the same whatever stands beside it.
        """
        import torch

        from loraforge.adapters import lora

        lora.set_adapter(self._model, adapter)
        temperature = float(settings.get("temperature", 0))
        sampling = {"do_sample": True, "temperature": temperature, "top_p": float(settings.get("top_p", 1.0))} if temperature > 0 else {}
        longest = int(settings.get("max_tokens", 512))
        rows = [self._encoded(prompt) for prompt in prompts]
        rooms = [limits.room(row, self._model, longest) for row in rows]
        answers: dict[int, Answer] = {}
        waiting = list(range(len(rows)))
        while waiting:
            batch = [waiting[0]] if sampling else self._together(waiting, rows, rooms)
            if sampling:
                torch.manual_seed(int(settings.get("seed", 0)))
            try:
                made = self._answered([rows[i] for i in batch], rooms[batch[0]], sampling)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self.batch_size = len(batch) // 2
                continue
            answers |= zip(batch, made, strict=True)
            waiting = [i for i in waiting if i not in answers]
        return [answers[i] for i in range(len(rows))]

    def _encoded(self, prompt: str) -> list[int]:
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise DataError(say("the question holds bytes that are no text here. Save or type it as UTF-8."))
        return list(self._tokenizer.encode(prompt, add_special_tokens=False).ids)

    def _together(self, waiting: Sequence[int], rows: Sequence[Sequence[int]], rooms: Sequence[int]) -> list[int]:
        """The first of the rows that wait, with others that may share a batch with it."""
        batch = [i for i in waiting if rooms[i] == rooms[waiting[0]]][: self.batch_size]
        if len(batch) > 1 and not self._answers_together([rows[i] for i in batch]):
            return batch[:1]
        return batch

    def _answers_together(self, rows: Sequence[Sequence[int]]) -> bool:
        """Whether the model scores a row behind padding, and beside another row, as it does alone: tried once, for the first token and the
        next from the cache. Some architectures read padding as if it were text, or mix rows up."""
        import torch
        from transformers import GenerationConfig

        if self._mixes is None:
            config = GenerationConfig(max_new_tokens=2, min_new_tokens=2, output_logits=True, return_dict_in_generate=True, pad_token_id=0)
            short, long = min(rows, key=len), max(rows, key=len)
            width = len(long) + (len(long) == len(short))
            alone, beside = (
                torch.stack(self._model.generate(**self._batch(some, size), generation_config=config).logits)[:, 0].float()
                for some, size in (([short], len(short)), ([short, long], width))
            )
            known = torch.isfinite(alone)
            near = _EXACT if self._model.dtype == torch.float32 else _ROUNDED
            apart = (alone - beside)[known].abs().max()
            self._mixes = not (known.equal(torch.isfinite(beside)) and bool(apart <= near * alone[known].abs().max()))
        return not self._mixes

    def _batch(self, rows: Sequence[Sequence[int]], width: int) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` (rows, width), padded on the left."""
        import torch

        pad = self._stops[0] if self._stops else 0
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=self._model.device)
        lengths = torch.tensor([len(row) for row in rows], device=self._model.device)
        return {"input_ids": ids, "attention_mask": (torch.arange(width, device=ids.device) >= width - lengths[:, None]).long()}

    def _answered(self, rows: Sequence[Sequence[int]], room: int, sampling: Mapping[str, Any]) -> list[Answer]:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        width = max(len(row) for row in rows)
        config = GenerationConfig(
            max_new_tokens=room, eos_token_id=self._stops or None, pad_token_id=self._stops[0] if self._stops else 0, **sampling
        )
        ended = _Ended(len(rows), width, set(self._stops), self.watch)
        criteria = StoppingCriteriaList([ended])
        with torch.no_grad():
            out = self._model.generate(**self._batch(rows, width), generation_config=config, stopping_criteria=criteria)
        answers = []
        for made, repeated in zip(out[:, width:].tolist(), ended.repeated, strict=True):
            end = next((i + 1 for i, token in enumerate(made) if token in self._stops), None)
            # A stop token may be the last one that was allowed; behind an end there is padding.
            answers.append(Answer(self._text(made[: repeated or end]), bool(end) and not repeated, bool(repeated)))
        return answers

    def _text(self, made: Sequence[int]) -> str:
        """The answer in what the model wrote: where the template has channels, the words of the last one, without its name."""
        whole = self._tokenizer.decode(made, skip_special_tokens=False) if self._opening else ""
        if not self._opening or self._opening not in whole:
            return str(self._tokenizer.decode(made, skip_special_tokens=True)).strip()
        answer = whole.rpartition(self._opening)[2]
        for token in self._special:
            answer = answer.replace(token, "")
        return answer.strip()


class _Ended:
    """Ends the rows of a batch that only repeat themselves, and tells who watches how many rows have ended.

    Attributes:
        repeated: for each row, after how many tokens it was ended for that; 0: it was not.
    """

    def __init__(self, rows: int, width: int, stops: set[int], watch: Callable[[int], None] | None) -> None:
        self.repeated = [0] * rows
        self._over = [False] * rows
        self._width, self._stops, self._watch = width, stops, watch

    def __call__(self, ids: Tensor, scores: Any, **given: Any) -> Tensor:
        import torch

        count = ids.shape[1] - self._width
        for row, last in enumerate(ids[:, -1].tolist()):
            self._over[row] |= last in self._stops
        if count >= REPEATED and count % _LOOKED == 0:
            for row, made in enumerate(ids[:, self._width :].tolist()):
                if not self._over[row] and repeats(made):
                    self.repeated[row], self._over[row] = count, True
        if self._watch is not None:
            self._watch(sum(self._over))
        return torch.tensor([bool(number) for number in self.repeated], device=ids.device)
