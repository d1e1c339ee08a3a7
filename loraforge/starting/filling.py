# SPDX-License-Identifier: Apache-2.0
"""A first config for a task, filled in with what can be seen of somebody's data: by the functions that ``check`` goes by."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.schema import RunConfig
from ..data import findings
from ..data.dataset import Data, load_data
from ..errors import ConfigError, DataError, LoraForgeError
from ..evaluation import foresight
from ..evaluation.bootstrap import FEWEST_GROUPS
from ..messages import speaker
from ..pipeline import estimate
from ..plan import Plan, make_plan
from ..plugin_api.host import PluginHost
from ..plugin_api.start import ConfigLine, Seen
from ..plugin_api.task import Task
from .config_text import config_file, merged, yaml_text

say = speaker(__name__)

_MOST_HELD_OUT = 0.3  # a larger share, somebody should want: it is taken away from what is learned


@dataclass(frozen=True)
class Filled:
    """A config that is not written yet.

    Attributes:
        chosen: the lines that follow from the data.
        notes: how the data were read.
        problems: what is wrong with the data, as ``check`` says it.
        remarks: findings and other things to look at, in sentences.
    """

    lines: Sequence[ConfigLine]
    chosen: Sequence[ConfigLine] = ()
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()
    remarks: Sequence[str] = field(default=())


def first_config(task: Task[Any], folder: str, base: str, output: str) -> list[ConfigLine]:
    """The lines of a config for a task, before any data are seen: the keys that one needs, in the order in which one thinks of them.

    Args:
        folder: what ``train_data_dir`` says.
        base: ``base_model``; empty: that of the task's ``start``.
    """
    head = [
        ConfigLine("train_data_dir", folder, say("the folder with your examples")),
        ConfigLine("base_model", base or task.start.base, say("what is adapted: a folder, a file or the name of a model")),
        ConfigLine("task_type", task.name),
        ConfigLine("output_dir", output, say("where everything goes; a folder of its own for every run")),
    ]
    usual = [_usual(key) for key in ("lora_rank", "batch_size", "epochs", "learning_rate", "save_steps")]
    own = task.start.lines(base or task.start.base)
    said = {line.key for line in own}
    return [*merged(head, own), *(line for line in usual if line.key not in said)]


def _usual(key: str) -> ConfigLine:
    info = RunConfig.model_fields[key]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return ConfigLine(key, info.default, say(str(extra.get("why") or info.description)))


def fill_in(host: PluginHost, task: Task[Any], lines: Sequence[ConfigLine], config: Path, progress: Callable[[str], None]) -> Filled:
    """Reads the data that the lines name, and puts in their place what follows.

    Args:
        config: where the config will be, for messages.

    Raises:
        LoraForgeError: if the config itself is wrong, or its base cannot be used.
    """

    def read(now: Sequence[ConfigLine], **more: Any) -> tuple[Plan, Data]:
        plan = planned(host, task, now, config, {**task.start.probe, **more})
        return plan, load_data(plan, stop=False, progress=progress)

    bad: list[str] = []
    chosen: list[ConfigLine] = []
    try:
        plan, data = read(lines)
    except DataError as error:
        bad = list(error.problems)
        found = _guessed(task, planned(host, task, lines, config, task.start.probe), lambda guessed: read(merged(lines, guessed)))
        if found is not None:
            bad, (chosen, (plan, data)) = [], found
            lines = merged(lines, chosen)
        else:
            try:
                plan, data = read(lines, on_bad_row="skip")
            except DataError:
                return Filled(lines, problems=bad)
    share = _hold_out(plan, data)
    if share is not None:
        chosen.append(share)
        lines = merged(lines, [share])
        plan, data = read(lines, **({"on_bad_row": "skip"} if bad else {}))
    seen = Seen(plan.config, plan.keys, plan.family, data.records, len(data.learned()), data.examination.facts)
    chosen = [*chosen, *task.start.suggest(seen)]
    plan = planned(host, task, merged(lines, chosen), config, {"on_bad_row": "skip"} if bad else {})
    try:
        data = load_data(plan, stop=False, progress=progress)  # what is said below is said of the config that is written
    except DataError as error:
        bad += error.problems
    fit = estimate.estimate(plan, data)
    if fit is not None and not fit.fits and fit.changes:
        needed, there = estimate.size(fit.needed), estimate.size(fit.available or 0)
        why = say("otherwise it would take {needed} of memory, and {there} are free", needed=needed, there=there)
        chosen = merged(chosen, [ConfigLine(key, value, why) for key, value in fit.changes.items()])
    remarks = [*foresight.too_few(plan, data), *_findings(data)]
    if fit is not None and not fit.fits and not fit.changes:
        remarks += [line.strip() for line in estimate.lines(fit)[-1:]]
    return Filled(merged(lines, chosen), chosen, _told(plan, data, bad), bad, remarks)


def _told(plan: Plan, data: Data, bad: Sequence[str]) -> list[str]:
    """How the data were read and are put, without what is told as a problem."""
    skipped = say("skipped: {line}", line="").strip()
    template = plan.template.prepare(plan.config, plan.keys, data.records)
    reason = template.describe().get("reason", template.name)
    notes = [note for note in (*plan.notes, *data.notes) if not bad or not note.startswith(skipped)]
    return [*notes, say("template: {template}", template=reason)]


def _guessed(
    task: Task[Any], plan: Plan, read: Callable[[Sequence[ConfigLine]], tuple[Plan, Data]]
) -> tuple[list[ConfigLine], tuple[Plan, Data]] | None:
    """The task's guess at how the data are meant, if they can be read so."""
    guessed = list(task.start.guess(plan.config, plan.keys))
    try:
        return (guessed, read(guessed)) if guessed else None
    except DataError:
        return None


def planned(host: PluginHost, task: Task[Any], lines: Sequence[ConfigLine], config: Path, more: Mapping[str, Any] | None = None) -> Plan:
    """What ``check`` makes of the lines, although nothing is written yet.

    Raises:
        LoraForgeError: what ``check`` would say, about ``config``.
    """
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / config.name
        # From there no path is relative to the config; those that are were made so by us.
        draft.write_text(config_file((), [_absolute(line, config) for line in lines]), encoding="utf-8")
        try:
            return make_plan(host, task.name, draft, [f"{key}={yaml_text(value)}" for key, value in (more or {}).items()])
        except LoraForgeError as error:
            beside = str(config.absolute().parent)
            error.problems = tuple(problem.replace(str(draft), str(config)).replace(folder, beside) for problem in error.problems)
            raise


def _absolute(line: ConfigLine, config: Path) -> ConfigLine:
    place = config.absolute().parent / str(line.value)
    named = line.key in ("train_data_dir", "metadata_path") and isinstance(line.value, str)
    return replace(line, value=str(place)) if named and place.exists() else line


def _hold_out(plan: Plan, data: Data) -> ConfigLine | None:
    """A larger share to hold out, where the usual one is too small to tell anything and a larger one is not."""
    if foresight.independent(data) >= FEWEST_GROUPS or not data.pick(True) or data.split.known:
        return None
    if any(record.side for record in data.records):
        return None  # the data say it themselves
    share = math.ceil(100 * FEWEST_GROUPS / len(data.records)) / 100
    if not plan.config.eval_ratio < share <= _MOST_HELD_OUT:
        return None
    return ConfigLine("eval_ratio", share, say("fewer held-out examples than {n} could show no difference", n=FEWEST_GROUPS))


def _findings(data: Data) -> list[str]:
    """What the checks of the data found, the first of each kind."""
    return [
        say("{check} x {n}, the first: {line}", check=check, n=number, line=first.line().replace(f" {check}:", "", 1))
        for check, _, number, first in findings.by_check(data.found)
    ]


def written_path(path: Path, config: Path) -> str:
    """A path as it is written into a config: from the config's folder where it lies there, otherwise in full.

    A relative path is looked for from the working directory first; where that finds another one, it is written in full too.
    """
    place, folder = path.absolute(), config.absolute().parent
    try:
        inside = place.relative_to(folder)
    except ValueError:
        return str(place)
    from_here = Path.cwd() / inside
    other = os.path.lexists(from_here) and not (os.path.exists(from_here) and os.path.exists(place) and os.path.samefile(from_here, place))
    return str(place) if other else f"./{inside.as_posix()}"


def require_data(path: Path) -> None:
    """Raises:
    ConfigError: if there is no such file or folder.
    """
    if not path.exists():
        raise ConfigError(say("{path}: there is no such file or folder.", path=path.absolute()))
