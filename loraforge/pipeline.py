"""The one-way street: config -> plan -> data -> model -> loop -> adapter -> exports. Torch is imported by ``run`` and ``OpenRun`` only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from . import rundir
from .config import Keys, KeySet, RunConfig, Source, advice, read, resolve_base, validate
from .errors import ConfigError, DataError, PluginError, RunError, TrainingError
from .events import CheckpointSaved, Exported, RunFailed, RunFinished, RunStarted, StageStarted
from .interfaces import Examination, Exporter, Loader, ModelFamily, Responder, Task, Template
from .messages import speaker
from .rundir import RunDir
from .types import Adapter, Record, Span, prompt_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .interfaces import Trainee
    from .loop import Loop
    from .plugins import PluginHost

say = speaker(__name__)


# --- the plan ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A validated config with the components that it names."""

    task: Task[Any]
    loader: Loader[Any]
    template: Template[Any]
    family: ModelFamily
    exporters: tuple[Exporter, ...]
    config: RunConfig
    keys: KeySet
    advice: tuple[str, ...]


def plan(host: PluginHost, task_name: str, path: Path, overrides: Sequence[str] = (), *, paths: bool = True) -> Plan:
    """Reads and validates a config for ``loraforge train TASK``.

    Raises:
        ConfigError, PluginError: with everything that is wrong.
    """
    task = host.task(task_name)
    source = read(path, overrides)
    problems = _task_problems(task, source)

    def pick(choose: Callable[[], Any]) -> Any:
        try:
            return choose()
        except PluginError as error:
            problems.extend(error.problems)
            return None

    loader = pick(lambda: host.component("loraforge_data_loaders", task.name, _raw(source, "data_loader") or task.loader))
    template = pick(lambda: _template(host, task, _raw(source, "prompt_template")))
    family = pick(lambda: _family(host, task, source))
    wanted = source.values["export"].value if "export" in source.values else None
    names = wanted if isinstance(wanted, list) else task.exporters
    exporters = [pick(lambda n=name: host.component("loraforge_exporters", task.name, str(n))) for name in names]  # type: ignore[misc]
    components = [c for c in (loader, template, family, *exporters) if c is not None]
    owners = _owners(task, components)
    try:
        keys = validate(source, owners, paths=paths)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    if problems:
        raise ConfigError(problems)
    return Plan(task, loader, template, family, tuple(exporters), keys[RunConfig], keys, tuple(advice(keys, source)))


def owners_of(host: PluginHost, task: Task[Any]) -> list[tuple[str, type[Keys]]]:
    """Every owner of keys that a run of ``task`` may have, named for people: for ``loraforge keys``."""
    found: list[tuple[str, type[Keys]]] = [("core", RunConfig), (f"task {task.name}", task.keys)]
    for hook, kind in (("loraforge_data_loaders", "loader"), ("loraforge_templates", "template"), ("loraforge_model_families", "family"),
                       ("loraforge_exporters", "exporter")):
        for name, (component, _) in sorted(host.components(hook, task.name).items()):
            if component.keys.model_fields and component.keys not in [keys for _, keys in found]:
                found.append((f"{kind} {name}", component.keys))
    return found


def _owners(task: Task[Any], components: Sequence[Any]) -> list[type[Keys]]:
    """The owners of keys of one run, each once.

    Raises:
        PluginError: if one key has two owners.
    """
    owners: list[type[Keys]] = []
    claimed: dict[str, type[Keys]] = {}
    problems = []
    for owner in [RunConfig, task.keys, *(component.keys for component in components)]:
        if owner in owners:
            continue
        owners.append(owner)
        for key in owner.model_fields:
            if key in claimed:
                problems.append(say("the key '{key}' is declared by {first} and by {second}.", key=key, first=_label(claimed[key]),
                                    second=_label(owner)))
            claimed.setdefault(key, owner)
    if problems:
        raise PluginError(problems)
    return owners


def _label(owner: type[Keys]) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"


def _raw(source: Source, key: str) -> str:
    value = source.values[key].value if key in source.values else None
    return "" if value is None else str(value)


def _task_problems(task: Task[Any], source: Source) -> list[str]:
    """A ``task_type`` that contradicts the command line."""
    written = source.values.get("task_type")
    if written is None or written.value is None or written.value in (task.name, *task.aliases):
        return []
    return [say("{where}: task_type is '{value}', but the command says '{task}'. Change one of them.", where=written.where,
                value=written.value, task=task.name)]


def _template(host: PluginHost, task: Task[Any], wanted: str) -> Any:
    """By name; else the one that recognises the value; else an error that lists the names."""
    if not wanted:
        return host.component("loraforge_templates", task.name, task.template)
    there = host.components("loraforge_templates", task.name)
    if wanted not in there:
        for component, _ in there.values():
            if cast("Template[Any]", component).recognises(wanted):
                return component
    return host.component("loraforge_templates", task.name, wanted)


def _family(host: PluginHost, task: Task[Any], source: Source) -> Any:
    """By name; else the one that recognises the base.

    Raises:
        PluginError: if none or several do.
    """
    named = _raw(source, "model_family")
    if named:
        return host.component("loraforge_model_families", task.name, named)
    base = resolve_base(source)
    if not base:
        return None  # validate says that the key is missing
    there = host.components("loraforge_model_families", task.name)
    fitting = [name for name, (family, _) in there.items() if cast(ModelFamily, family).recognises(base)]
    where = source.values["base_model"].where
    if len(fitting) > 1:
        raise PluginError(say("{where}: several model families take '{base}': {names}. Choose one with model_family.", where=where, base=base,
                              names=", ".join(fitting)))
    if not fitting:
        helps = "; ".join(f"{name}: {say(family.help)}" for name, (family, _) in sorted(there.items())) or say("none")
        raise PluginError([say("{where}: no model family takes base_model '{base}'. There are: {helps}", where=where, base=base, helps=helps),
                           *host.broken()])
    return there[fitting[0]][0]


# --- the data ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """The examples of a run, rendered and looked at. ``heldout`` are indices of ``records``."""

    records: tuple[Record, ...]
    texts: tuple[Sequence[Span], ...]
    heldout: frozenset[int]
    template: Template[Any]
    examination: Examination
    notes: tuple[str, ...]

    def pick(self, heldout: bool) -> list[int]:
        """The indices of one side of the split."""
        return [i for i in range(len(self.records)) if (i in self.heldout) == heldout]

    def digest(self) -> str:
        """SHA-256 over the content of all rows, in order."""
        return hashlib.sha256("".join(record.fingerprint() for record in self.records).encode()).hexdigest()


def load_data(plan: Plan, note: Callable[[str], None] = lambda text: None) -> Data:
    """Reads, renders, examines and splits the examples.

    Raises:
        DataError: with every row that cannot be used, unless ``on_bad_row`` is skip.
    """
    notes: list[str] = []

    def remember(text: str) -> None:
        notes.append(text)
        note(text)

    records: list[Record] = list(plan.loader.load(plan.config, plan.keys, remember))
    if not records:
        raise DataError(say("there are no examples in {path}.", path=plan.config.metadata_path or plan.config.train_data_dir))
    template = plan.template.prepare(plan.config, plan.keys, records)
    texts: list[Sequence[Span]] = []
    problems: dict[int, str] = {}
    for index, record in enumerate(records):
        try:
            texts.append(template.render(record))
        except DataError as error:
            texts.append(())
            problems[index] = str(error)
    examination = plan.family.examine(plan.config, plan.keys, list(zip(records, texts, strict=True)))
    problems = {**examination.problems, **problems}
    lines = [f"{records[i].where}: {problems[i]}" for i in sorted(problems)]
    if lines and plan.config.on_bad_row == "stop":
        hint = say("on_bad_row: skip leaves such rows out and goes on.")
        raise DataError([*lines, say("{n} of {all} rows cannot be used. {hint}", n=len(lines), all=len(records), hint=hint)])
    for line in lines:
        remember(say("skipped: {line}", line=line))
    good = [i for i in range(len(records)) if i not in problems]
    if not good:
        raise DataError([*lines, say("no row can be used.")])
    if examination.shown:
        examination = Examination({}, examination.facts, [examination.shown[i] for i in good])
    kept = tuple(records[i] for i in good)
    return Data(kept, tuple(texts[i] for i in good), split(kept, plan.config.eval_ratio), template, examination, tuple(notes))


def split(records: Sequence[Record], ratio: float) -> frozenset[int]:
    """The indices that are held out: those whose content hash falls below ``ratio``.

    A row's side depends on that row alone, so it stays when rows are appended, and equal rows never stand on both sides. Very small
    data still get one held-out row.
    """
    if ratio <= 0 or len(records) < 2:
        return frozenset()
    points = [int(record.fingerprint()[:16], 16) / 16**16 for record in records]
    chosen = frozenset(i for i, point in enumerate(points) if point < ratio)
    if len(chosen) == len(records):
        return chosen - {max(chosen, key=lambda i: points[i])}
    if not chosen:
        lowest = min(points)
        chosen = frozenset(i for i, point in enumerate(points) if point == lowest)
    return chosen if len(chosen) < len(records) else frozenset()


# --- the run -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a finished run left behind."""

    run: RunDir
    exports: Mapping[str, Path]
    usage: Mapping[str, tuple[str, ...]]
    metrics: Mapping[str, Any]
    seconds: float
    question: str


def quiet_libraries() -> None:
    """No telemetry and no advertising of the libraries that we call; what they warn of, we say ourselves."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def make_accelerator(config: RunConfig) -> tuple[Accelerator, RunConfig]:
    """The accelerator, and the config with ``precision: auto`` decided for its device."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(True)  # a second run in one process may want another precision
    # Without this, accelerate starts several processes on the CPU as if each were alone.
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.accelerator.is_available()
    device = PartialState(cpu=cpu).device
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    mixed = {"fp32": "no", "bf16": "bf16", "fp16": "fp16", "4bit": "bf16"}[precision]
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError(say("precision: fp16 needs a GPU; on the CPU use fp32 (or auto)."))
    return Accelerator(mixed_precision=mixed, cpu=cpu), config.model_copy(update={"precision": precision})


def run(plan: Plan, host: PluginHost, *, resume: bool = False, fresh: bool = False) -> Outcome:
    """Trains, saves and exports.

    Args:
        resume: continue from the newest checkpoint in output_dir.
        fresh: rename an earlier run in output_dir out of the way.
    """
    started = time.time()
    folder = RunDir(Path(plan.config.output_dir))
    if folder.occupied() and not resume and not fresh:
        raise RunError(say("{path} already holds a run. --resume continues it, --fresh renames it and trains anew, "
                           "--set output_dir=... trains beside it.", path=folder.path))
    quiet_libraries()
    host.tell(StageStarted("data", plan.config.metadata_path or plan.config.train_data_dir))
    data = load_data(plan, lambda text: host.tell(StageStarted("data", text)))
    host.tell(StageStarted("template", str(data.template.describe().get("reason", data.template.name))))
    if not data.pick(heldout=False):
        raise DataError(say("eval_ratio leaves nothing to train on; there are {n} rows.", n=len(data.records)))
    accelerator, config = make_accelerator(plan.config)
    main = accelerator.is_main_process
    tell = host.tell if main else lambda event: None
    if main and folder.occupied() and fresh and not resume:
        tell(StageStarted("folder", say("the earlier run is now {path}", path=folder.set_aside())))
    accelerator.wait_for_everyone()
    session = _Session(plan, config, data, folder, accelerator, tell, started)
    try:
        return session.go(resume)
    except BaseException as error:
        if main:
            session.fail(error)
        raise


class _Session:
    """One run, from the loaded data to the exports. Holds what the stages share."""

    def __init__(self, plan: Plan, config: RunConfig, data: Data, folder: RunDir, accelerator: Accelerator, tell: Callable[[Any], None],
                 started: float) -> None:
        self.plan, self.config, self.data, self.folder = plan, config, data, folder
        self.accelerator, self.tell, self.started = accelerator, tell, started
        self.base: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.begun = False

    # --- stages ------------------------------------------------------------------------------------------------------------

    def go(self, resume: bool) -> Outcome:
        checkpoint = self._resumable() if resume else None
        trainee, loop = self._load()
        done = 0
        if checkpoint is not None:
            self.tell(StageStarted("resume", str(checkpoint)))
            state, position = rundir.load_state(checkpoint)
            self._check_initial(trainee, state)
            loop.restore(state["loop"])
            done = int(position["step"])
            self.metrics.update(position["metrics"])
        if self.accelerator.is_main_process:
            self.folder.start({**self.plan.keys.flat(), "precision": self.plan.config.precision})
            self.begun = True
            self._write_manifest(rundir.RUNNING)
        self.accelerator.wait_for_everyone()
        try:
            seconds = loop.probe() if done < loop.schedule.steps else 0.0
            self.facts["estimated_seconds"] = round(seconds * (1 - done / loop.schedule.steps), 1)
            self.tell(RunStarted(self.folder.path, self.plan.task.name, loop.schedule.steps, done, self.facts))
            loop.run(done)
        except _not_finite() as error:
            raise TrainingError(self._explain(cast(Any, error))) from None
        return self._finish(trainee, loop)

    def _load(self) -> tuple[Trainee, Loop]:
        """The base with its LoRA, and the loop over the encoded examples."""
        from accelerate.utils import set_seed

        from .loop import Loop

        files = self.plan.family.base_files(self.config)
        self.tell(StageStarted("base model", self.config.base_model))
        # Before the adapter is made: its random start belongs to the seed too.
        set_seed(self.config.seed)
        trainee = self.plan.family.load(self.config, self.plan.keys, self.accelerator.device)
        trainable = sum(p.numel() for p in trainee.model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in trainee.model.parameters())
        self.tell(StageStarted("LoRA injection", say("{trainable:,} of {total:,} parameters are trained ({share:.3%}), in {n} layers",
                                                     trainable=trainable, total=total, share=trainable / total,
                                                     n=sum(1 for _ in trainee.lora.layers()))))
        encoded = [trainee.encode(r, t) for r, t in zip(self.data.records, self.data.texts, strict=True)]
        train, heldout = self.data.pick(False), self.data.pick(True)
        loop = Loop(trainee, [encoded[i] for i in train], [encoded[i] for i in heldout], self.config, self.accelerator, self._hear,
                    lambda step: self._save(trainee, loop, step))
        if self.accelerator.is_main_process:
            self.base = {"name": self.config.base_model, "revision": self.config.revision, "folder": str(files[0].parent) if files else None,
                         "files": {file.name: _hash_file(file) for file in files}}
        self.facts = {
            "base_model": self.config.base_model,
            "examples": len(train),
            "held_out": len(heldout),
            "epochs": loop.schedule.steps / loop.schedule.per_epoch,
            "steps": loop.schedule.steps,
            "trainable_parameters": trainable,
            "parameters": total,
            "device": _device(self.accelerator),
            "precision": self.config.precision,
            "template": str(self.data.template.describe().get("reason", self.data.template.name)),
            **self.data.examination.facts,
        }
        return trainee, loop

    def _hear(self, event: Any) -> None:
        """Keeps the figures of the manifest while the loop's events pass through."""
        if event.name == "Evaluated":
            self.metrics["held_out_loss_base" if event.step == 0 else "held_out_loss"] = event.loss
        elif event.name == "StepFinished":
            self.metrics["train_loss"] = event.loss
        self.tell(event)

    def _save(self, trainee: Trainee, loop: Loop, step: int) -> None:
        """A checkpoint, whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        from . import lora

        target = self.folder.checkpoint(step)
        state = {"loop": loop.state(), "initial": trainee.lora.initial}
        with rundir.aside(target) as partial:
            lora.write_peft(self._adapter(trainee), partial / "adapter")
            rundir.save_state(partial, state, {"step": step, "metrics": self.metrics})
        self.folder.prune(self.config.save_total_limit)
        self.tell(CheckpointSaved(step, target))

    def _adapter(self, trainee: Trainee) -> Adapter:
        return trainee.lora.adapter(self.base.get("folder"), {
            "name": self.folder.path.name,
            "task": self.plan.task.name,
            "family": self.plan.family.name,
            "peft_task_type": self.plan.family.peft_task_type,
            "template": dict(self.data.template.describe()),
            "revision": self.config.revision,
            "base_files": self.base.get("files", {}),
            "variant": self.config.lora_variant,
        })  # fmt: skip

    def _finish(self, trainee: Trainee, loop: Loop) -> Outcome:
        from . import lora

        self.accelerator.wait_for_everyone()
        exports: dict[str, Path] = {}
        usage: dict[str, tuple[str, ...]] = {}
        if self.accelerator.is_main_process:
            with rundir.aside(self.folder.adapter) as partial:
                lora.write_peft(self._adapter(trainee), partial)
            del trainee, loop  # the exporters may need the memory for a base of their own
            for exporter in self.plan.exporters:
                self.tell(StageStarted("export", exporter.name))
                exports[exporter.name], usage[exporter.name] = write_export(exporter, self.folder)
                self.tell(Exported(exporter.name, exports[exporter.name]))
        seconds = time.time() - self.started
        self.metrics["seconds"] = round(seconds, 1)
        if self.accelerator.is_main_process:
            self._write_manifest(rundir.FINISHED, exports)
            self.tell(RunFinished(self.folder.path, seconds, self.metrics))
        unseen = self.data.pick(True) or self.data.pick(False)
        question = self.plan.task.question(self.data.records[unseen[0]])
        return Outcome(self.folder, exports, usage, self.metrics, seconds, question)

    def fail(self, error: BaseException) -> None:
        """Notes in the manifest and the log that the run did not end well; the error goes on its way."""
        if not self.begun:
            return
        reason = str(error) or type(error).__name__
        with contextlib.suppress(OSError):  # the disk may be the reason
            self._write_manifest(rundir.FAILED, error=reason)
        self.tell(RunFailed(self.folder.path, reason))

    # --- resuming ----------------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on as if it had never stopped."""
        free = ("output_dir", "save_steps", "save_total_limit", "export")
        config = {k: v for k, v in self.plan.keys.flat().items() if k not in free}
        return {"config": config, "data": self.data.digest(), "template": _digest(self.data.template.describe())}

    def _resumable(self) -> Path | None:
        """The newest checkpoint, or None to begin at the start.

        Raises:
            RunError: if the run in the folder was another one; it shows the difference.
        """
        if not self.folder.manifest_file.exists():
            return None
        before = self.folder.manifest()
        if before.get("status") == rundir.FINISHED:
            raise RunError(say("{path}: this run is finished; there is nothing to resume. --fresh trains anew.", path=self.folder.path))
        theirs, ours = before.get("identity", {}), json.loads(json.dumps(self._identity(), default=str))
        problems = [
            say("{key}: was {old}, is now {new}.", key=key, old=theirs.get("config", {}).get(key), new=value)
            for key, value in ours["config"].items()
            if theirs.get("config", {}).get(key) != value
        ]
        if theirs.get("data") != ours["data"]:
            problems.append(say("the examples have changed."))
        if theirs.get("template") != ours["template"]:
            problems.append(say("the prompt template has changed."))
        if problems:
            head = say("{path} cannot be resumed, because it would be another run:", path=self.folder.path)
            raise RunError([head, *problems, say("--fresh trains anew; init_from_adapter continues from an adapter with new data.")])
        there = self.folder.checkpoints()
        return there[-1] if there else None

    def _check_initial(self, trainee: Trainee, state: Mapping[str, Any]) -> None:
        """PiSSA's start is computed from the base again; it must have come out the same."""
        import torch

        for name, tensor in state["initial"].items():
            if not torch.equal(tensor, trainee.lora.initial[name]):
                raise RunError(say("{path} cannot be resumed: PiSSA starts differently on this machine.", path=self.folder.path))

    def _explain(self, error: Any) -> list[str]:
        """A loss or gradient that is no number, with the rows of the step."""
        train = self.data.pick(False)
        rows = [self.data.records[train[i]].where for i in error.rows]
        last = self.folder.checkpoints()
        return [
            say("step {step}: the {what} is not a number. Nothing was changed by this step.", step=error.step, what=say(error.what)),
            say("The rows of the step: {rows}", rows="; ".join(rows)),
            say("What usually helps: a lower learning_rate; precision: bf16 or fp32 instead of fp16; a look at these rows."),
            say("The last checkpoint: {path}", path=last[-1] if last else say("none")),
        ]

    # --- the manifest ------------------------------------------------------------------------------------------------------

    def _write_manifest(self, status: str, exports: Mapping[str, Path] | None = None, error: str | None = None) -> None:
        template = dict(self.data.template.describe())
        self.folder.write_manifest({
            "format": 1,
            "status": status,
            "error": error,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "task": self.plan.task.name,
            "family": self.plan.family.name,
            "config": self.plan.keys.flat(),
            "identity": self._identity(),
            "seed": self.config.seed,
            "template": template,
            "base": self.base,
            "init_from_adapter": self.config.init_from_adapter,
            "data": {
                "sha256": self.data.digest(),
                "rows": [{"where": r.where, "sha256": r.fingerprint(), "split": "held-out" if i in self.data.heldout else "train"}
                         for i, r in enumerate(self.data.records)],
                "notes": list(self.data.notes),
            },
            "facts": self.facts,
            "metrics": self.metrics,
            "exports": {name: str(path.relative_to(self.folder.path)) for name, path in (exports or {}).items()},
            "versions": _versions(),
            "machine": {"system": platform.platform(), "processor": platform.machine(), "device": self.facts.get("device")},
        })  # fmt: skip


def _not_finite() -> type[Exception]:
    from .loop import NotFinite

    return NotFinite


def write_export(exporter: Exporter, folder: RunDir, destination: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Exports the adapter of a run to ``destination`` (by default ``export/<name>``), whole or not at all.

    Returns:
        (what to hand on, the lines that use it).
    """
    from . import lora

    quiet_libraries()
    adapter = lora.read_peft(folder.adapter)
    target = destination or folder.exports / exporter.name
    with rundir.aside(target) as partial:
        written = exporter.export(adapter, partial).relative_to(partial)
    path = target / written
    return path, tuple(exporter.usage(adapter, path))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash_slowly(file)


def _hash_slowly(file: Any) -> str:
    """``hashlib.file_digest`` for Python 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("loraforge", "torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _device(accelerator: Accelerator) -> str:
    import torch

    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    several = f" x {accelerator.num_processes}" if accelerator.num_processes > 1 else ""
    return f"{name}{threads}{several}"


# --- opening a run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenRun:
    """A run that is there to be used: sampled, evaluated, exported."""

    run: RunDir
    task: Task[Any]
    template: Template[Any]
    family: ModelFamily
    config: RunConfig
    manifest: Mapping[str, Any]

    def prompt(self, question: str) -> str:
        """The text that the model is given for a question: the same template that was trained."""
        return prompt_of(self.template.render(self.task.ask(question)))

    def adapters(self, others: Sequence[Path] = ()) -> dict[str, Adapter]:
        """This run's adapter, or ``others`` instead, by name. Each may be a run's folder or an adapter's.

        Raises:
            RunError: if one cannot be read.
        """
        from . import lora

        found: dict[str, Adapter] = {}
        for path in others or [self.run.path]:
            folder = path / "adapter" if (path / "adapter" / "adapter_config.json").exists() else path
            name = path.name if path.name != "adapter" else path.parent.name
            while name in found or "." in name:  # two checkpoints of different runs may have one name; torch allows no dot
                name = name.replace(".", "_") if "." in name else f"{name}+"
            found[name] = lora.read_peft(folder)
        return found

    def responder(self, adapters: Mapping[str, Adapter]) -> Responder:
        """The base with these adapters on this machine's device."""
        quiet_libraries()
        accelerator, config = make_accelerator(self.config)
        return self.family.open(config, adapters, accelerator.device)


def open_run(host: PluginHost, folder: Path) -> OpenRun:
    """The run in ``folder``.

    Raises:
        RunError: if it is none, or its plugins are missing.
    """
    run = RunDir(folder)
    manifest = run.manifest()
    try:
        task = host.task(str(manifest["task"]))
        family = cast(ModelFamily, host.component("loraforge_model_families", task.name, str(manifest["family"])))
        template = cast("Template[Any]", host.component("loraforge_templates", task.name, str(manifest["template"]["name"])))
        config = RunConfig(**{k: v for k, v in manifest["config"].items() if k in RunConfig.model_fields})
        return OpenRun(run, task, template.recall(manifest["template"]), family, config, manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(say("{path} cannot be read: {error}.", path=run.manifest_file, error=repr(error))) from None


def evaluate(host: PluginHost, opened: OpenRun, limit: int | None, tick: Callable[[int, int], None]) -> dict[str, Any]:
    """Base and adapter on the same held-out examples of a run.

    Args:
        limit: at most so many examples.
        tick: called with (done, all) answers.

    Returns:
        ``scores``: measure -> {"base": share, "adapter": share}; ``losses``; ``rows``: every question with both answers and the reference.
    """
    plan_ = plan(host, opened.task.name, opened.run.config_file)
    heldout = {row["sha256"] for row in opened.manifest["data"]["rows"] if row["split"] == "held-out"}
    records = [r for r in plan_.loader.load(plan_.config, plan_.keys, lambda text: None) if r.fingerprint() in heldout][:limit]
    if not records:
        raise RunError(say("{path}: none of the run's held-out examples is in its data any more.", path=opened.run.path))
    prompts = [prompt_of(opened.template.render(record)) for record in records]
    responder = opened.responder(opened.adapters())
    name = next(iter(opened.adapters()))
    answers: dict[str, list[str]] = {"base": [], "adapter": []}
    for side, adapter in (("base", None), ("adapter", name)):
        for prompt in prompts:
            answers[side].append(str(responder.respond([prompt], adapter)[0]))
            tick(len(answers["base"]) + len(answers["adapter"]), 2 * len(prompts))
    judged = {side: [opened.task.judge(r, a) for r, a in zip(records, given, strict=True)] for side, given in answers.items()}
    measures = sorted({measure for scores in judged["adapter"] for measure in scores})
    scores = {m: {side: _mean([s[m] for s in judged[side] if m in s]) for side in judged} for m in measures}
    rows = [
        {"where": r.where, "question": opened.task.question(r), "reference": opened.task.answer(r), "base": b, "adapter": a}
        for r, b, a in zip(records, answers["base"], answers["adapter"], strict=True)
    ]
    losses = {side: opened.manifest["metrics"].get(key) for side, key in (("base", "held_out_loss_base"), ("adapter", "held_out_loss"))}
    return {"run": str(opened.run.path), "examples": len(records), "scores": scores, "losses": losses, "rows": rows}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

