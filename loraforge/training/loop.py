# SPDX-License-Identifier: Apache-2.0
"""The one training loop, for every task, on accelerate.

One optimizer step over ``batch_size x gradient_accumulation x processes`` examples is cut into batches of one group each. Every batch
counts by its weight (learned tokens, pictures), so that 4x1, 2x2, 1x4 and two processes give the same losses and parameters.

The order of the examples is a function of (seed, epoch) and the random state of a step is a function of (seed, step, process). A run that
was stopped therefore continues to the bit from its step number alone.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..plugin_api.events import Evaluated, Event, MemoryRanOut, StepFinished, StoppedEarly
from .batching import epoch_steps, schedule, shard, split_batches
from .optimizers import averages, make_optimizer, named_rates, parameter_groups, step_rate
from .schedules import make_scheduler

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from ..config.schema import RunConfig
    from ..plugin_api.models import TrainableModel
    from ..plugin_api.types import Batch, Example

T = TypeVar("T")


def seed_step(seed: int, step: int, process: int) -> None:
    """Sets every random generator to the state that belongs to one step of one process."""
    from accelerate.utils import set_seed

    set_seed(random.Random(f"{seed}/{step}/{process}").getrandbits(32))


class Stopped(Exception):
    """Somebody asked the run to stop; the state after ``step`` is saved."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class NotFinite(Exception):
    """A loss or gradient is no number. ``rows`` are the indices of the examples of the step."""

    def __init__(self, what: str, step: int, rows: Sequence[int]) -> None:
        super().__init__(what)
        self.what, self.step, self.rows = what, step, tuple(rows)


class OutOfMemory(Exception):
    """The device has too little memory even for one example at a time."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step, self.reason = step, reason


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether torch (or Python) could not get the memory it asked for, on whatever device."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and ("out of memory" in str(error) or "can't allocate memory" in str(error))


@dataclass(frozen=True)
class Examples:
    """What a trainable model has encoded: the examples to learn, and those to measure by."""

    train: Sequence[Example]
    held_out: Sequence[Example] = ()


@dataclass(frozen=True)
class Callbacks:
    """What the loop calls.

    Attributes:
        tell: receives every event.
        save: called after each step that ends in a checkpoint, with the step.
        sample: called before it, and once before the first step, with the averaged parameters in place if there are any.
        stop: asked after each step whether to save and stop.
    """

    tell: Callable[[Event], None]
    save: Callable[[int], None] = lambda step: None
    sample: Callable[[int], None] = lambda step: None
    stop: Callable[[], bool] = lambda: False


class Loop:
    """Trains one ``TrainableModel`` on encoded examples."""

    def __init__(
        self, trainable: TrainableModel, examples: Examples, config: RunConfig, accelerator: Accelerator, callbacks: Callbacks
    ) -> None:
        self.trainable, self.examples, self.heldout = trainable, examples.train, examples.held_out
        self.config, self.accelerator, self.call = config, accelerator, callbacks
        self.groups = [trainable.group(example) for example in self.examples]
        self.schedule = schedule(config, len(self.examples), accelerator.num_processes)
        self.parameters = {name: p for name, p in trainable.model.named_parameters() if p.requires_grad}
        self.average: dict[str, torch.Tensor] = (
            {name: p.detach().clone() for name, p in self.parameters.items()} if config.ema_decay else {}
        )
        bare = make_optimizer(config, parameter_groups(config, self.parameters, trainable.lora))
        self.scheduler = make_scheduler(config, bare, self.schedule.steps)
        self.model, self.optimizer = accelerator.prepare(trainable.model, bare)
        self.rows = config.batch_size  # examples of one forward pass; fewer once memory has run out
        self.losses: list[float] = []
        self.done = 0
        self.measured: list[tuple[int, float]] = []  # (step, held-out loss), the base's first

    # --- one step ----------------------------------------------------------------------------------------------------------

    def batches(self, indices: Sequence[int], step: int) -> list[tuple[Batch, bool]]:
        """This process's collated batches of one step, on the CPU, each with whether it counts."""
        parts = shard(split_batches(indices, self.groups, self.rows), self.accelerator.process_index, self.accelerator.num_processes)
        seed = random.Random(f"{self.config.seed}/{step}").getrandbits(62)
        return [(self.trainable.collate([self.examples[i] for i in part], seed), counts) for part, counts in parts]

    def _to_device(self, batch: Batch) -> Batch:
        from accelerate.utils import send_to_device

        moved: Batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
        return moved

    def _everywhere(self, value: float) -> float:
        """The sum over the processes."""
        if self.accelerator.num_processes == 1:
            return value
        import torch

        total = self.accelerator.reduce(torch.tensor(value, dtype=torch.float64, device=self.accelerator.device), "sum")
        return float(total)

    def backward(self, indices: Sequence[int], step: int) -> tuple[torch.Tensor, float, float]:
        """Accumulates the gradient of one step.

        Returns:
            (loss, weight, units): the mean loss of this process's share of what all processes learn in this step, still on the device,
            so that nothing waits for it; what it was averaged over; what was processed.
        """
        seed_step(self.config.seed, step, self.accelerator.process_index)
        batches = self.batches(indices, step)
        weights = [self.trainable.weight(batch) if counts else 0.0 for batch, counts in batches]
        total = self._everywhere(sum(weights))
        units = self._everywhere(sum(self.trainable.units(batch) for batch, counts in batches if counts))
        sums = []
        for position, ((batch, _), weight) in enumerate(zip(batches, weights, strict=True)):
            last = position == len(batches) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    loss = self.trainable.loss(self.model, self._to_device(batch))
                # Gradients are averaged over the processes; the factor makes that a sum.
                self.accelerator.backward(loss * (weight / total * self.accelerator.num_processes))
            if weight:
                sums.append(loss.detach() * (weight / total))
        import torch

        return torch.stack(sums).sum() if sums else torch.zeros((), device=self.accelerator.device), total, units

    def _within_memory(self, make: Callable[[], T], step: int) -> T:
        """What ``make`` returns. When memory runs out, half as many examples go into one pass and there are twice as many passes: the
        same mathematics.

        Raises:
            OutOfMemory: if one example at a time is still too much, or several processes would have to agree.
        """
        while True:
            try:
                return make()
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                reason = str(error).strip().split("\n")[0] or type(error).__name__
            # Out of the handler: the error holds the frames, and with them the tensors, of the pass that did not fit.
            self._halve(step, reason)

    def _halve(self, step: int, reason: str) -> None:
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        if self.rows == 1 or self.accelerator.num_processes > 1:
            raise OutOfMemory(step, reason)
        self.rows = (self.rows + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.call.tell(MemoryRanOut(step, self.rows, math.ceil(self.schedule.per_step / self.rows)))

    def step(self, indices: Sequence[int], step: int) -> StepFinished:
        """One optimizer step.

        Raises:
            NotFinite: before any parameter changed.
            OutOfMemory: likewise.
        """
        import torch

        started = time.perf_counter()
        mean, weight, units = self._within_memory(lambda: self.backward(indices, step), step)
        length = self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.config.max_grad_norm or math.inf)
        # The only place where the host waits for the device.
        loss, norm = torch.stack([mean.float(), torch.as_tensor(length, device=mean.device).float()]).tolist()
        loss = self._everywhere(loss)
        if not math.isfinite(loss):
            raise NotFinite("loss", step, indices)
        # fp16 scales gradients up and skips a step that overflows by itself; elsewhere infinity is an error.
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            raise NotFinite("gradient", step, indices)
        rate, rates = step_rate(self.optimizer), named_rates(self.optimizer)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average(step)
        epoch = step / self.schedule.per_epoch
        return StepFinished(step, self.schedule.steps, epoch, loss, rate, weight, units, time.perf_counter() - started, norm, rates)

    def _update_average(self, step: int) -> None:
        """Moves the averaged parameters towards the new ones. The decay grows: a slow average would stay at the start for long."""
        if not self.average:
            return
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        update: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(list(self.average.values()), [p.detach() for p in self.parameters.values()], None)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged parameters in place of the trained ones, for measuring, showing and saving; nothing where none are averaged.

        A schedule-free optimizer keeps its own: it trains at points between the average and the newest one, and moves the parameters there
        and back. What it moves back differs in the last bits, so the trained ones are put back as they were.
        """
        if not self.average and not averages(self.config):
            yield
            return
        trained = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimizer.eval()
        if self.average:
            self._put(self.average)
        try:
            yield
        finally:
            self.optimizer.train()
            self._put(trained)

    def _put(self, values: Mapping[str, Any]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])

    # --- the run -----------------------------------------------------------------------------------------------------------

    def estimate_seconds(self) -> float:
        """Seconds that the run will take, from one forward and backward pass over the first batch; changes nothing."""
        self.trainable.model.train()  # or activations would not be computed twice where that saves memory
        first = epoch_steps(self.groups, self.schedule.per_step, self.config.seed, 0)[0]
        self._within_memory(lambda: self.backward(first, 0), 0)  # the first pass pays for warming up
        started = time.perf_counter()
        loss = float(self._within_memory(lambda: self.backward(first, 0), 0)[0])
        seconds = time.perf_counter() - started
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(self._everywhere(loss)):
            raise NotFinite("loss", 0, first)
        return seconds * self.schedule.steps

    def remaining_steps(self, done: int) -> Iterator[tuple[int, list[int]]]:
        """(step, examples) for every step after ``done``."""
        per_epoch = self.schedule.per_epoch
        epoch, steps = -1, list[list[int]]()
        for step in range(done + 1, self.schedule.steps + 1):
            if (step - 1) // per_epoch != epoch:
                epoch = (step - 1) // per_epoch
                steps = epoch_steps(self.groups, self.schedule.per_step, self.config.seed, epoch)
            yield step, steps[(step - 1) % per_epoch]

    def run(self, done: int = 0) -> None:
        """All steps after ``done``. Evaluates and saves where ``Schedule.saves`` says so. Raises ``Stopped`` if that was asked for."""
        self.trainable.model.train()
        self.optimizer.train()
        self.done = done
        if not done:
            self.evaluate(0)
            self.call.sample(0)
        for step, indices in self.remaining_steps(done):
            if self._everywhere(float(self.out_of_patience())):
                self.call.tell(StoppedEarly(step - 1, self.best()[0]))
                break
            event = self.step(indices, step)
            self.losses.append(event.loss)
            self.done = step
            self.call.tell(event)
            if self.schedule.saves(step):
                with self.averaged():
                    self.evaluate(step)
                    self.call.sample(step)
                self.call.save(step)
            if self._everywhere(float(self.call.stop())) and step < self.schedule.steps:
                if not self.schedule.saves(step):
                    self.call.save(step)
                raise Stopped(step)

    def best(self) -> tuple[int, float]:
        """(step, loss) of the lowest held-out loss so far; of several equal ones the first."""
        return min(self.measured, key=lambda pair: (pair[1], pair[0]))

    def out_of_patience(self) -> bool:
        """Whether ``patience`` held-out losses have passed without a new best one."""
        if not self.config.patience or not self.measured:
            return False
        return sum(1 for step, _ in self.measured if step > self.best()[0]) >= self.config.patience

    def evaluate(self, step: int) -> float | None:
        """The mean loss on the held-out examples, without dropout; None if there are none. Every process computes all of them."""
        if not self.heldout:
            return None
        import torch

        self.trainable.model.eval()
        try:
            with torch.no_grad():
                mean = self._within_memory(self._heldout_loss, step)
        finally:
            self.trainable.model.train()
        self.measured.append((step, mean))
        self.call.tell(Evaluated(step, mean, len(self.heldout)))
        return mean

    def _heldout_loss(self) -> float:
        groups = [self.trainable.group(example) for example in self.heldout]
        seed_step(self.config.seed, 0, 0)
        total = weights = 0.0
        for part in split_batches(range(len(self.heldout)), groups, self.rows):
            batch = self.trainable.collate([self.heldout[i] for i in part])
            weight = self.trainable.weight(batch)
            with self.accelerator.autocast():
                loss = self.trainable.loss(self.trainable.model, self._to_device(batch))
            total, weights = total + float(loss) * weight, weights + weight
        return total / weights

    # --- what a checkpoint holds -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Parameters, optimizer, schedule and scaler: nested dicts and lists of tensors and plain values."""
        return {
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {},
            "average": self.average,
            "measured": self.measured,
            "rows": self.rows,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what ``state`` returned."""
        self._put(state["parameters"])
        self.measured = [(int(step), float(loss)) for step, loss in state["measured"]]
        self.rows = min(self.rows, int(state["rows"]))
        self.average = {name: value.to(self.parameters[name].device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
