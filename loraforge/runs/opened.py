"""A finished run that is used: sampled, exported, compared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .config import RunConfig
from .errors import RunError
from .interfaces import ModelFamily, Responder, Task, Template
from .machine import make_accelerator, quiet_libraries
from .messages import speaker
from .rundir import RunDir, keep
from .types import Adapter, File, prompt_of

if TYPE_CHECKING:
    from .plugins import PluginHost

say = speaker(__name__)

# Names of other things beside a run's adapter: the base, the picture of all sides, no adapter, the run before.
_TAKEN = ("base", "beside", "none", "earlier run")
_MAPPINGS = ("config", "template", "base", "data", "facts", "metrics", "chosen", "exports", "evaluation", "machine")


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
        quiet_libraries()  # before peft is imported, which looks for optional libraries
        from . import lora

        found: dict[str, Adapter] = {}
        for path in others or [self.run.path]:
            folder = path / "adapter" if (path / "adapter" / "adapter_config.json").exists() else path
            place = Path(os.path.abspath(path))  # `.` and `..` have no name of their own
            name = (place.name if place.name != "adapter" else place.parent.name).replace(".", "_") or "adapter"  # torch allows no dot
            while name in found or not _free(name):  # two checkpoints of different runs may have one name
                name = f"{name}+"
            found[name] = lora.read_peft(folder)
        return found

    def responder(self, adapters: Mapping[str, Adapter]) -> Responder:
        """The base with these adapters on this machine's device."""
        quiet_libraries()
        accelerator, config = make_accelerator(self.config)
        return self.family.open(config, adapters, accelerator.device)


def _free(name: str) -> bool:
    """Whether an adapter may have this name: torch keeps adapters as attributes, beside its own such as ``train`` and ``keys``."""
    import torch

    return name not in _TAKEN and not any(hasattr(kind(), name) for kind in (torch.nn.ModuleDict, torch.nn.ParameterDict))


def open_run(host: PluginHost, folder: Path) -> OpenRun:
    """The run in ``folder``.

    Raises:
        RunError: if it is none, or its plugins are missing.
    """
    run = RunDir(folder)
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
        return OpenRun(run, task, template.recall(manifest["template"]), family, config, manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(say("{path} cannot be read: {error}.", path=run.manifest_file, error=repr(error))) from None


def ask(
    opened: OpenRun,
    responder: Responder,
    question: str,
    sides: Mapping[str, Mapping[str, float] | None],
    settings: Mapping[str, Any],
    folder: Path,
) -> dict[str, str]:
    """The answer of each side to one question: its text, or the path of the file that was written into ``folder``.

    Args:
        sides: names with the strengths of the adapters that answer; None for the base alone.
    """
    prompt = opened.prompt(question)
    given = {name: responder.respond([prompt], strengths, **settings)[0] for name, strengths in sides.items()}
    files = {name: answer for name, answer in given.items() if isinstance(answer, File)}
    if opened.task.beside is not None and len(files) > 1:
        files["beside"] = opened.task.beside(files)
    answers = {name: answer for name, answer in given.items() if isinstance(answer, str)}
    start = re.sub(r"[^\w-]+", "-", question).strip("-")[:60] or "answer"
    for name, file in files.items():
        side = re.sub(r"[^\w-]+", "-", name)
        answers[name] = str(keep(folder, f"{start}.{side}{file.suffix}", file.data))
    return answers
