# SPDX-License-Identifier: Apache-2.0
"""The prompt templates that a run can name: the base's own, the well-known formats, and inline strings."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from loraforge import ConfigError, DataError, KeySet, LoraForgeError, ModelError, RunConfig, Span, Template, speaker

from ..base_files import TOOL_USE, BaseFiles, locate, read_base
from ..records import Conversation, TextKeys
from .formats import FORMATS, format_for
from .inline import check_inline, fits_inline
from .prompting import PINNED_DATE, Prompting
from .settling import settle

say = speaker(__name__)

_MOST_AT_ONCE, _MOMENT = 32, 0.5  # rows, seconds
_KINDS: Mapping[str, Any] = {
    "jinja": str | None, "inline": str | None, "kwargs": Mapping, "tokens": Mapping, "stops": tuple, "bos": str, "system": str | None,
    "reasoning": str, "parts": bool,
}  # fmt: skip


class TextTemplate(Template[Conversation]):
    """What all text templates share: they are prepared with a base, and rendered by a ``Prompting``."""

    task: ClassVar[str] = "text"

    def __init__(self, prompting: Prompting | None = None, reason: str = "", base: BaseFiles | None = None) -> None:
        self.prompting = prompting or Prompting()
        self.reason = reason
        self._base = base
        self._own: dict[str, Prompting] = {}  # of rows with a template of their own
        self._upcoming: list[Conversation] = []  # in the order in which they will be asked for
        self._at_once = 1

    def choose(self, base: BaseFiles, config: RunConfig, records: Sequence[Conversation]) -> tuple[Prompting, str]:
        """The prompting for a base, and why."""
        raise TypeError(f"{type(self).__name__} does not choose")

    def prepare(self, config: RunConfig, keys: KeySet, records: Sequence[Conversation]) -> TextTemplate:
        base = read_base(locate(config.base_model, config.revision))
        if not base.stops:
            raise ModelError(
                say(
                    "{folder}: the base names no token that ends an answer, so the model would never stop. Write eos_token into its "
                    "tokenizer_config.json, a token that its tokenizer has.",
                    folder=base.folder,
                )
            )
        prompting, reason = self.choose(base, config, records)
        prompting = dataclasses.replace(
            prompting,
            tokens=dict(base.tokens),
            stops=base.stops,
            system=keys[TextKeys].system_prompt,
            bos=base.tokens.get("bos_token", "") if base.adds_bos else "",
            reasoning=keys[TextKeys].reasoning or "",
        )
        own = [base.template_for(tools=tools) for tools in (False, True)]
        if prompting.jinja and prompting.jinja not in own and not base.adds_bos:
            # A format of ours must not add a BOS that the base's tokenizer would not add.
            prompting = dataclasses.replace(prompting, tokens={**prompting.tokens, "bos_token": ""})
        _refuse_lost(prompting, records)
        try:
            prompting, remark = settle(prompting, records)
        except LoraForgeError as error:
            raise type(error)([f"{base.folder}: {line}" for line in error.problems]) from None
        made = type(self)(prompting, reason + remark, base)
        made._upcoming = list(records)
        return made

    def describe(self) -> Mapping[str, Any]:
        values = dataclasses.asdict(self.prompting)
        for name in ("reasoning", "parts"):
            if not values[name]:
                del values[name]  # so that the manifests of runs without it stay as they were
        return {"name": self.name, "reason": self.reason, "pinned_date": PINNED_DATE, **values}

    def recall(self, description: Mapping[str, Any]) -> TextTemplate:
        known = {f.name for f in dataclasses.fields(Prompting)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in description.items() if k in known}
        prompting = Prompting(**values)
        odd = [name for name, kind in _KINDS.items() if not isinstance(getattr(prompting, name), kind)]
        if odd or not all(isinstance(stop, str) for stop in prompting.stops):
            raise TypeError(f"template: {', '.join(odd) or 'stops'}")
        return type(self)(prompting, str(description.get("reason", "")))

    def render(self, record: Conversation) -> list[Span]:
        own = record.prompt_template
        if self._upcoming and record is self._upcoming[0]:
            self._render_ahead()
        if not own:
            return self.prompting.render(record)
        if own not in self._own:
            self._own[own] = self._row_prompting(own)
        return self._own[own].render(record)

    def _render_ahead(self) -> None:
        """Prepares the next rows: as many as take a moment, so that one who waits can be told how far it is."""
        begun = time.monotonic()
        self.prompting.render_ahead(self._upcoming[: self._at_once])
        del self._upcoming[: self._at_once]
        self._at_once = min(_MOST_AT_ONCE, 2 * self._at_once) if time.monotonic() - begun < _MOMENT else max(1, self._at_once // 2)

    def _row_prompting(self, own: str) -> Prompting:
        """The prompting of rows that say which template they have.

        Raises:
            DataError: if it does not suit the base.
        """
        problem = FORMATS[own].misfit(own, self.prompting.stops) if own in FORMATS else check_inline(own)
        if problem:
            raise DataError(problem)
        if own in FORMATS:
            return dataclasses.replace(self.prompting, jinja=FORMATS[own].jinja, inline=None, kwargs={}, parts=False)
        return dataclasses.replace(self.prompting, inline=own)


def _refuse_lost(prompting: Prompting, records: Sequence[Conversation]) -> None:
    """Stops where an inline template has no place for something that the rows or the config bring.

    Raises:
        DataError: naming what, and in how many rows.
    """
    inline = ((record, record.prompt_template or prompting.inline) for record in records)
    problems = [fits_inline(own, record, prompting.system) for record, own in inline if own and own not in FORMATS]
    counts = Counter(problem for problem in problems if problem)
    if counts:
        raise DataError([say("{n} rows: {problem}", n=n, problem=problem) for problem, n in counts.items()])


class AutoTemplate(TextTemplate):
    """The base's own chat template if it has one; otherwise the format that suits the base. Rows that agree on one template win."""

    name = "auto"
    help = "The base's own chat template, or the format that suits it; a prompt_template column that is the same in every row wins."

    def choose(self, base: BaseFiles, config: RunConfig, records: Sequence[Conversation]) -> tuple[Prompting, str]:
        own = {record.prompt_template for record in records}
        only = next(iter(own)) if len(own) == 1 else None
        if only and check_inline(only) is None:
            return Prompting(inline=only), say("{value}, because every row says so", value=only)
        if only and only in FORMATS and FORMATS[only].misfit(only, base.stops) is None:
            return Prompting(jinja=FORMATS[only].jinja), say("{value}, because every row says so", value=only)
        if base.chat_template:
            tools = sum(bool(record.tools) for record in records)
            return Prompting(jinja=base.template_for(tools=tools > 0)), _which(base, tools)
        name, sign = format_for(base)
        if not sign:
            return Prompting(jinja=FORMATS[name].jinja), say(
                "plain (question, line break, answer), because the base has no chat template "
                "and no known format; set prompt_template to choose another"
            )
        return Prompting(jinja=FORMATS[name].jinja), say(
            "{name}, because the base has no chat template of its own and {sign}", name=name, sign=sign
        )


def _which(base: BaseFiles, tools: int) -> str:
    """Which of the base's own templates is taken; ``tools``: how many rows have some."""
    usual = next((name for name, text in base.named.items() if text == base.chat_template), "")
    first = say("the base model's own chat template") if not usual else say("the base model's own chat template '{name}'", name=usual)
    if not tools or usual == TOOL_USE or TOOL_USE not in base.named:
        return first
    return first + say(", and '{name}' for the {n} rows with tools", name=TOOL_USE, n=tools)


class InlineTemplate(TextTemplate):
    """A string in the config such as ``[INST]{instruction}[/INST]``."""

    name = "inline"
    help = "An inline string with {instruction}, and if wanted {input} and {system}; the answer and the stop token follow it."

    def matches(self, value: str) -> bool:
        return "{" in value

    def choose(self, base: BaseFiles, config: RunConfig, records: Sequence[Conversation]) -> tuple[Prompting, str]:
        problem = check_inline(config.prompt_template)
        if problem:
            raise ConfigError(say("prompt_template: {problem}", problem=problem))
        return Prompting(inline=config.prompt_template), say("{value}, because prompt_template says so", value=config.prompt_template)


def _named(format_name: str) -> TextTemplate:
    class Named(TextTemplate):
        name = format_name
        help = FORMATS[format_name].help

        def choose(self, base: BaseFiles, config: RunConfig, records: Sequence[Conversation]) -> tuple[Prompting, str]:
            misfit = FORMATS[format_name].misfit(format_name, base.stops)
            if misfit:
                raise ConfigError(say("prompt_template: {problem}", problem=misfit))
            return Prompting(jinja=FORMATS[format_name].jinja), say("{value}, because prompt_template says so", value=format_name)

    Named.__name__ = f"{format_name.title()}Template"
    return Named()


def templates() -> list[TextTemplate]:
    """All built-in templates."""
    return [AutoTemplate(), InlineTemplate(), *(_named(name) for name in FORMATS)]
