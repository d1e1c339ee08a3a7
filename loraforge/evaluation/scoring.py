# SPDX-License-Identifier: Apache-2.0
"""The losses of single examples, with and without an adapter, on one loaded base. Imports torch when a ``Scorer`` is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..device import make_accelerator, quiet_libraries
from ..errors import DataError
from ..training.loop import seed_step

if TYPE_CHECKING:
    from ..plan import Plan
    from ..plugin_api.types import Adapter, Record
    from ..runs.opened import LoadedRun


class Scorer:
    """Measures examples one by one: their losses can then be compared in pairs.

    Attributes:
        watch: called with how many losses have been measured, after each.

    Args:
        planned: the run's own plan; its ``keys`` say how the base is loaded.
        adapters: by name.
        records: all that will be asked for; they are encoded at once, because encoders may leave memory afterwards. Some may not fit (a
            probe question longer than the rows may be): ask ``fits``.
    """

    def __init__(self, opened: LoadedRun, planned: Plan, adapters: Mapping[str, Adapter], records: Sequence[Record]) -> None:
        from ..adapters import lora

        self.watch: Callable[[int], None] = lambda done: None
        self._measured = 0
        quiet_libraries()
        # A fresh plain LoRA, which stays idle: what changes the base itself (PiSSA) must not be in the base's own figures.
        fresh = planned.config.model_copy(update={"init_from_adapter": None, "lora_variant": "lora"})
        self._accelerator, config = make_accelerator(fresh)
        self._seed = config.seed
        self._trainable = opened.family.load(config, planned.keys, self._accelerator.device)
        self._examples = [self._encode(opened, record) for record in records]
        self._trainable.on_encoded()
        lora.load_adapters(self._trainable.model, adapters)
        self._trainable.model.eval()

    def _encode(self, opened: LoadedRun, record: Record) -> Any:
        try:
            return self._trainable.encode(record, opened.template.render(record))
        except DataError:
            return None

    def fits(self, row: int) -> bool:
        """Whether a record can be measured."""
        return self._examples[row] is not None

    def losses(self, rows: Sequence[int], adapter: str | None) -> list[float]:
        """The mean loss of each of the ``records``, by index, under the adapter; None: the base alone."""
        import torch

        from ..adapters import lora

        lora.set_adapter(self._trainable.model, adapter)
        seed_step(self._seed, 0, 0)
        found = []
        with torch.no_grad():
            for row in rows:
                batch = self._on_device(self._trainable.collate([self._examples[row]]))
                with self._accelerator.autocast():
                    found.append(float(self._trainable.loss(self._trainable.model, batch)))
                self._measured += 1
                self.watch(self._measured)
        return found

    def _on_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v.to(self._accelerator.device) if hasattr(v, "to") else v for k, v in batch.items()}
