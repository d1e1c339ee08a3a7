# SPDX-License-Identifier: Apache-2.0
"""A finished run that is used: sampled, exported, compared."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..config.schema import RunConfig
from ..device import make_accelerator, quiet_libraries
from ..errors import PluginError, RunError
from ..messages import speaker
from ..plugin_api.components import ModelFamily, Template
from ..plugin_api.models import InferenceModel
from ..plugin_api.task import Task
from ..plugin_api.types import Adapter, File, prompt_of
from .folder import RunFolder, atomic_write
from .seal import kept_seal, require_sound

if TYPE_CHECKING:
    from ..plugin_api.host import PluginHost

say = speaker(__name__)

# Names of other things beside a run's adapter: the base, the picture of all sides, no adapter, the run before.
_TAKEN = ("base", "beside", "none", "earlier run")
_MAPPINGS = ("config", "template", "base", "data", "facts", "metrics", "chosen", "exports", "evaluation", "machine")


@dataclass(frozen=True)
class LoadedRun:
    """A run that is there to be used: sampled, evaluated, exported.

    Attributes:
        adapter: the folder of an adapter that is about to become the run's; None for the one that it has.
    """

    run: RunFolder
    task: Task[Any]
    template: Template[Any]
    family: ModelFamily
    config: RunConfig
    manifest: Mapping[str, Any]
    adapter: Path | None = None

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def seal(self) -> str | None:
        """The run's seal (SHA-256, hex); None where it was never sealed."""
        return kept_seal(self.run) or None

    def require_sound(self, names: Sequence[str]) -> None:
        """Files or folders of the run, relative, are what was sealed or recorded.

        Raises:
            RunError: naming those that are not.
        """
        require_sound(self.run, names)

    def prompt(self, question: str) -> str:
        """The text that the model is given for a question: the same template that was trained."""
        return prompt_of(self.template.render(self.task.sampling.ask(question)))

    def adapters(self, others: Sequence[Path] = ()) -> dict[str, Adapter]:
        """This run's adapter, or ``others`` instead, by name. Each may be a run's folder or an adapter's; one that is given twice is there
        once.

        Raises:
            RunError: if one cannot be read.
        """
        quiet_libraries()  # before peft is imported, which looks for optional libraries
        from ..adapters import lora

        folders = [_adapter_folder(path) for path in others or [self.adapter or self.run.path]]
        found = dict(zip(_names(folders), folders, strict=True))
        return {name: _placed(lora.read_peft(folder), folder) for name, folder in found.items()}

    def names(self, others: Sequence[Path]) -> list[str]:
        """The name in ``adapters`` of each of ``others``; of this run's own adapter, where there are none."""
        return _names([_adapter_folder(path) for path in others or [self.adapter or self.run.path]])

    def inference_model(self, adapters: Mapping[str, Adapter]) -> InferenceModel:
        """The base with these adapters on this machine's device."""
        quiet_libraries()
        accelerator, config = make_accelerator(self.config)
        return self.family.open(config, adapters, accelerator.device)


def _placed(adapter: Adapter, folder: Path) -> Adapter:
    """The adapter, with what the run that it lies in says of it: its ``config``, and the files that were ``exported`` of it, by exporter. A
    checkpoint's adapter is not the one that was exported."""
    run = next((RunFolder(place) for place in folder.absolute().parents[:3] if (place / "manifest.json").is_file()), None)
    try:
        manifest = run.manifest() if run is not None else {}
    except RunError:
        manifest = {}
    config, exports = manifest.get("config"), manifest.get("exports")
    if run is None or not isinstance(config, Mapping):
        return adapter
    own = folder.absolute().parent == run.path and isinstance(exports, Mapping)
    exported = {str(name): str(run.path / str(path)) for name, path in exports.items()} if own and isinstance(exports, Mapping) else {}
    return dataclasses.replace(adapter, facts={**adapter.facts, "config": dict(config), "exported": exported})


def _adapter_folder(path: Path) -> Path:
    return path / "adapter" if (path / "adapter" / "adapter_config.json").exists() else path


def _names(folders: Sequence[Path]) -> list[str]:
    """A name for each adapter's folder, one and the same where a folder comes again: that of its run or checkpoint, and of runs or
    checkpoints with one name also those of the folders in which they differ."""
    given = [Path(os.path.realpath(folder)) for folder in folders]
    # Links keep their own names, and `.` and `..` have none.
    places = {real: Path(os.path.abspath(folder)) for real, folder in reversed(list(zip(given, folders, strict=True)))}
    places = {real: place.parent if place.name == "adapter" else place for real, place in places.items()}
    names: dict[Path, str] = {}
    for real in dict.fromkeys(given):
        place = places[real]
        alike = [other.parts[:-1] for other in places.values() if other.name == place.name]
        even = len({len(parts) for parts in alike}) == 1
        same = [len(set(at)) == 1 for at in zip(*alike, strict=False)]
        start = (same.index(False) if False in same else len(same)) if len(alike) > 1 else len(place.parts)
        apart = [part for at, part in enumerate(place.parts[:-1]) if at >= start and not (even and same[at])]
        name = "-".join([*apart, place.name]).replace(".", "_") or "adapter"  # torch allows no dot
        while name in names.values() or not _free(name):
            name = f"{name}+"
        names[real] = name
    return [names[real] for real in given]


def _free(name: str) -> bool:
    """Whether an adapter may have this name: torch keeps adapters as attributes, beside its own such as ``train`` and ``keys``."""
    import torch

    return name not in _TAKEN and not any(hasattr(kind(), name) for kind in (torch.nn.ModuleDict, torch.nn.ParameterDict))


def load_run(host: PluginHost, folder: Path) -> LoadedRun:
    """The run in ``folder``.

    Raises:
        RunError: if it is none, or its plugins are missing.
    """
    run = RunFolder(folder)
    manifest = run.manifest()
    odd = [key for key in _MAPPINGS if not isinstance(manifest.get(key), Mapping | None)]
    if odd:
        text = say("{path}: not of the form that LoRAForge writes: {names}.", path=run.manifest_file, names=", ".join(odd))
        raise RunError(text)
    try:
        task = host.task(str(manifest["task"]))
        family = cast(ModelFamily, host.component("loraforge_model_families", task.name, str(manifest["family"])))
        template = cast("Template[Any]", host.component("loraforge_templates", task.name, str(manifest["template"]["name"])))
        config = RunConfig(**{k: v for k, v in manifest["config"].items() if k in RunConfig.model_fields})
        return LoadedRun(run, task, template.recall(manifest["template"]), family, config, manifest)
    except PluginError as error:
        way_out = say("What {run} was trained with has to be here: install its plugin, or give its file again (-p FILE.py).", run=folder)
        raise RunError([*error.problems, way_out]) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(say("{path} cannot be read: {error}.", path=run.manifest_file, error=repr(error))) from None


def ask(
    opened: LoadedRun,
    inference_model: InferenceModel,
    questions: Sequence[str],
    sides: Mapping[str, Mapping[str, float] | None],
    settings: Mapping[str, Any],
    folder: Path,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each question with the answer of each side: its text (an ``Answer``, where the model gives one), or the path of the file that was
    written into ``folder``. As many questions at once as the model takes.

    Args:
        sides: names with the strengths of the adapters that answer; None for the base alone.
        tick: called with (done, all) answers, from within a batch too.
    """
    size, total = int(getattr(inference_model, "batch_size", 1)), len(questions) * len(sides)
    done = 0
    tick(0, total)
    for start in range(0, len(questions), size):
        some = questions[start : start + size]
        prompts = [opened.prompt(question) for question in some]
        given: dict[str, Sequence[str | File]] = {}
        for name, strengths in sides.items():
            with watched(inference_model, functools.partial(_told, tick, done, total)):
                given[name] = inference_model.generate(prompts, strengths, **settings)
            done += len(some)
            tick(done, total)
        for place, question in enumerate(some):
            yield question, _kept(opened, question, {name: answers[place] for name, answers in given.items()}, folder)


@contextlib.contextmanager
def watched(inference_model: InferenceModel, watch: Callable[[int], None]) -> Iterator[None]:
    """Has ``watch`` called from within a batch, where the model can; see ``InferenceModel``."""
    if not hasattr(inference_model, "watch"):
        yield
        return
    inference_model.watch = watch
    try:
        yield
    finally:
        inference_model.watch = None


def _told(tick: Callable[[int, int], None], before: int, total: int, ended: int) -> None:
    tick(before + ended, total)


def _kept(opened: LoadedRun, question: str, given: Mapping[str, str | File], folder: Path) -> dict[str, str]:
    """The answers of all sides to one question as text, files by their path."""
    files = {name: answer for name, answer in given.items() if isinstance(answer, File)}
    if opened.task.sampling.side_by_side is not None and len(files) > 1:
        files["beside"] = opened.task.sampling.side_by_side(files)
    answers = {name: answer for name, answer in given.items() if isinstance(answer, str)}
    start = _in_bytes(re.sub(r"[^\w-]+", "-", question).strip("-")[:60], 120).strip("-") or "answer"
    for name, file in files.items():
        side = _in_bytes(re.sub(r"[^\w.-]+", "-", name), 80).strip("-.")
        answers[name] = str(atomic_write(folder, f"{start}.{side}{file.suffix}", file.data))
    return answers


def _in_bytes(text: str, most: int) -> str:
    """As much of a text as the name of a file has room for."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
