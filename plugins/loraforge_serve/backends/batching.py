# SPDX-License-Identifier: Apache-2.0
"""The thread that owns the model: answers join a batch and leave it at any step, each with its own adapter."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .rows import Network, Row, join, joinable, keep

T = TypeVar("T")


@dataclass
class _Group:
    """Rows that take their steps together.

    Attributes:
        width: how many places the keys and values have.
        alone: the adapter that is made the model's only one for them; None: each row has its own.
    """

    rows: list[Row]
    cache: Any
    width: int
    alone: str | None = None
    last: list[int] = field(default_factory=list)  # the token that each row is to read next


class Engine:
    """Answers rows until it is closed.

    Args:
        model: a base of transformers; adapters are put on it.
        most: rows at once; more wait in their order.
    """

    def __init__(self, model: Any, most: int = 32) -> None:
        self.network, self.most = Network(model), most
        self._layers: list[Any] = []  # those of peft that adapters sit on
        self._names: list[str] | None = None  # whose row each is, for the layers
        self._exclusive: str | None = None
        self._alone: set[str] = set()  # adapters that cannot share a batch with others
        self._together = self.network.batches
        self._groups: list[_Group] = []
        self._waiting: deque[Row] = deque()
        self._inbox: queue.SimpleQueue[Row | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="loraforge-serve", daemon=True)
        self._thread.start()

    # --- for other threads -------------------------------------------------------------------------------------------------

    def submit(self, row: Row) -> None:
        """An answer that is wanted."""
        self._inbox.put(row)

    def call(self, work: Callable[[], T]) -> T:
        """Does something with the model between two steps, and waits for it."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def order() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        self._inbox.put(order)
        return done.result()

    def load(self, key: str, adapter: Any, probe: Sequence[int]) -> None:
        """Puts an adapter on the model under a name that no other has.

        Args:
            probe: some token ids, for seeing whether it can share a batch.

        Raises:
            RunError: if it does not fit.
        """
        self.call(lambda: self._load(key, adapter, probe))

    def verify(self, probe: Sequence[int]) -> None:
        """Sees whether rows of this base can share a batch at all.

        Args:
            probe: some token ids.
        """

        def look() -> None:
            self._together = self._agrees(["__base__", "__base__"], probe)

        self.call(look)

    def unload(self, key: str) -> None:
        """Takes an adapter off that no row uses."""

        from loraforge.adapters import lora

        def off() -> None:
            lora.unload_adapter(self.network.model, key)
            self._alone.discard(key)

        self._inbox.put(off)

    def close(self) -> None:
        """Ends the thread; rows that are not done get an error."""
        self._inbox.put(None)
        self._thread.join(timeout=60)

    # --- the thread --------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import torch

        with torch.no_grad():
            while self._orders():
                self._admit()
                for group in list(self._groups):
                    self._step(group)
        ended = RuntimeError("the server ends")
        for row in [*self._waiting, *(row for group in self._groups for row in group.rows)]:
            row.tell(ended)

    def _orders(self) -> bool:
        """Carries out what others wanted; waits for something if there is nothing to do. False at the end."""
        wait = not self._groups and not self._waiting
        while True:
            try:
                order = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            if order is None:
                return False
            if isinstance(order, Row):
                self._waiting.append(order)
            else:
                order()

    def _admit(self) -> None:
        """Reads the prompts of rows that wait, as long as there is room."""
        while self._waiting and sum(len(group.rows) for group in self._groups) < self.most:
            row = self._waiting.popleft()
            if row.left:
                continue
            try:
                self._begin(row)
            except Exception as error:
                row.tell(error)

    def _begin(self, row: Row) -> None:
        alone = row.adapter if row.adapter in self._alone or not self._together else None
        with self._using([row.adapter], alone):
            logits, cache = self.network.begin(row.job.prompt)
        row.length = len(row.job.prompt)
        token = row.choose(logits)
        if not row.add(token):
            return
        group = next((one for one in self._groups if one.alone is None), None) if alone is None else None
        if group is None or not joinable(cache, row.length):
            self._groups.append(_Group([row], cache, row.length, alone if alone or joinable(cache, row.length) else row.adapter, [token]))
            return
        join(group.cache, group.width, cache, row.length)
        group.rows.append(row)
        group.last.append(token)
        group.width = max(group.width, row.length)

    def _step(self, group: _Group) -> None:
        """One token more for each row of a group; those that are done leave it."""
        self._drop(group, [row for row in group.rows if row.left])
        if not group.rows:
            return
        rows = group.rows
        try:
            with self._using([row.adapter for row in rows], group.alone):
                logits = self.network.step(group.last, group.cache, [row.length for row in rows], group.width)
            likeliest = logits.argmax(-1).tolist()
        except Exception as error:
            for row in rows:
                row.tell(error)
            self._groups.remove(group)
            return
        group.width += 1
        done = []
        for number, row in enumerate(rows):
            row.length += 1
            try:  # an adapter whose weights are no numbers, say, ends its own answers alone
                group.last[number] = likeliest[number] if row.job.temperature == 0 else row.choose(logits[number])
                if row.add(group.last[number]):
                    continue
            except Exception as error:
                row.tell(error)
            done.append(row)
        self._drop(group, done)

    def _drop(self, group: _Group, gone: Sequence[Row]) -> None:
        if not gone:
            return
        stay = [number for number, row in enumerate(group.rows) if row not in gone]
        if not stay:
            group.rows = []
            self._groups.remove(group)
            return
        longest = max(group.rows[number].length for number in stay)
        keep(group.cache, stay, group.width - longest)
        group.rows, group.last, group.width = [group.rows[n] for n in stay], [group.last[n] for n in stay], longest

    # --- adapters ----------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _using(self, names: Sequence[str], alone: str | None) -> Iterator[None]:
        """Each row of a batch with its own adapter; or one that is made the model's only one, where that cannot be."""
        if alone is not None:
            if self._exclusive != alone:
                from loraforge.adapters import lora

                lora.set_adapter(self.network.model, None if alone == "__base__" else alone)
                self._exclusive = alone
            yield
            return
        if self._exclusive is not None:
            self._enable()
        self._names = list(names) if self._layers else None
        try:
            yield
        finally:
            self._names = None

    def _load(self, key: str, adapter: Any, probe: Sequence[int]) -> None:
        from loraforge.adapters import lora

        model = self.network.model
        try:
            lora.load_adapters(model, {key: adapter})
        except BaseException:
            lora.unload_adapter(model, key)
            raise
        finally:
            self._watch_layers()
            self._enable()
        # peft mixes the rows of plain LoRAs only.
        if adapter.dora or adapter.kind != "lora" or not self._agrees([key, "__base__"], probe):
            self._alone.add(key)

    def _enable(self) -> None:
        """After layers may have been switched off for the base alone. LoKr and LoHa act on whole batches, and have theirs alone."""
        from loraforge.adapters import lora

        for layer in self._layers:
            layer.enable_adapters(True)
        for _, layer in lora.adapted_layers(self.network.model, ("lokr", "loha")):
            layer.enable_adapters(False)
        self._exclusive = None

    def _watch_layers(self) -> None:
        from loraforge.adapters import lora

        known = set(map(id, self._layers))
        for _, module in lora.adapted_layers(self.network.model, ("lora",)):
            if id(module) not in known:
                self._layers.append(module)
                module.register_forward_pre_hook(self._name_rows, with_kwargs=True)

    def _name_rows(self, module: Any, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """peft's own way of mixing adapters in a batch."""
        return None if self._names is None else (args, {**kwargs, "adapter_names": self._names})

    def _agrees(self, names: Sequence[str], probe: Sequence[int]) -> bool:
        """Whether two rows of one batch get what each gets alone: not where a layer sees other rows than the batch has (routed experts), or
        a model reads the padding."""
        import torch

        if not self._together:
            return False
        prompts = [list(probe), list(probe[: max(1, len(probe) // 2)])]
        lengths = [len(ids) for ids in prompts]
        lasts, caches, wanted = [], [], []
        try:
            for name, ids in zip(names, prompts, strict=True):
                with self._using([name], name):
                    first, cache = self.network.begin(ids)
                    lasts.append(int(first.argmax()))
                    wanted.append(self.network.step(lasts[-1:], cache, [len(ids)], len(ids))[0])
                with self._using([name], None):
                    caches.append(self.network.begin(ids)[1])
            if not all(joinable(cache, length) for cache, length in zip(caches, lengths, strict=True)):
                return False
            join(caches[0], lengths[0], caches[1], lengths[1])
            with self._using(names, None):
                found = self.network.step(lasts, caches[0], lengths, lengths[0])
        except (ValueError, TypeError, RuntimeError, IndexError):
            return False
        alone = torch.stack(wanted)
        loose = 1e-3 if found.dtype == torch.float32 else 5e-2
        return bool((found - alone).abs().max() <= loose * alone.abs().max())
