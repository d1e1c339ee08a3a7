"""Prompt templates: the base's own chat template, the well-known formats, and inline strings.

All of them render through the Jinja sandbox of transformers, the one that servers use, so that what is trained is what is served.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from loraforge import ConfigError, DataError, KeySet, LoraForgeError, ModelError, RunConfig, Span, Template, speaker

from ..base_files import BaseFiles, locate, read_base
from ..records import Conversation, TextKeys
from .formats import FORMATS, format_for
from .jinja_limits import LONGEST, SECONDS, TooLong, limited, refuse_powers

say = speaker(__name__)

# Some templates print today's date, which would make every day's prompts another training set: it is pinned, and the manifest says so.
# It is the day that Llama 3's own template falls back to.
PINNED_DATE = "26 Jul 2024"
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KINDS: Mapping[str, Any] = {
    "jinja": str | None, "inline": str | None, "kwargs": Mapping, "tokens": Mapping, "stops": tuple, "bos": str, "system": str | None,
}  # fmt: skip
_KNOWN = ("instruction", "input", "system")
_THINK_END = "</think>"


@dataclass(frozen=True)
class Prompting:
    """All that decides the text of a prompt. The manifest keeps it; an opened run is rebuilt from it.

    Attributes:
        jinja: a chat template, or None when ``inline`` is used.
        inline: an inline string such as ``[INST]{instruction}[/INST]``.
        kwargs: what the chat template is called with besides the messages.
        tokens: the base's named special tokens.
        stops: the tokens that end an answer, the usual one first.
        bos: what stands before an inline prompt.
    """

    jinja: str | None = None
    inline: str | None = None
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stops: tuple[str, ...] = ()
    bos: str = ""
    system: str | None = None

    @property
    def stop(self) -> str:
        """The usual stop token, or nothing if the base has none."""
        return self.stops[0] if self.stops else ""

    # --- rendering ---------------------------------------------------------------------------------------------------------

    def text(self, messages: Sequence[Mapping[str, str]], *, ask: bool) -> str:
        """The chat template's text of messages; ``ask`` adds what asks for an answer.

        Raises:
            DataError: with what the template itself complains about.
        """
        try:
            return self._written(messages, ask)
        except DataError:
            if messages[0]["role"] != "system" or len(messages) < 2:
                raise
            # Gemma and others know no system role; the first question carries it, as their own documentation advises.
            first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
            with contextlib.suppress(DataError):
                return self._written([first, *messages[2:]], ask)
            raise

    def _written(self, messages: Sequence[Mapping[str, str]], ask: bool) -> str:
        """The chat template's text of these messages.

        Raises:
            DataError: with what the template itself complains about.
            ModelError: if the template comes to no end.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            with limited(SECONDS):
                refuse_powers(self.jinja)
                rendered, _ = render_jinja_template(
                    conversations=[[dict(m) for m in messages]], chat_template=self.jinja, add_generation_prompt=ask,
                    **{"bos_token": "", "eos_token": self.stop, **self.tokens},
                    **{"date_string": PINNED_DATE, "strftime_now": _pinned, **self.kwargs},
                )  # fmt: skip
        except TooLong:
            raise ModelError(say("the chat template is not done with one conversation after {n} seconds.", n=SECONDS)) from None
        except Exception as error:  # a template is a program, and can fail as one
            text = str(error) or type(error).__name__
            raise DataError(say("the chat template refuses this conversation: {error}", error=text.split("\n")[0])) from None
        if len(rendered[0]) > LONGEST:
            raise ModelError(say("the chat template makes {n} characters of one conversation.", n=len(rendered[0])))
        return str(rendered[0])

    def render(self, record: Conversation) -> list[Span]:
        """The spans of one row: prompts as they will be asked, and after each the answer with its stop token."""
        if self.inline is not None:
            return self._render_inline(record, self.inline)
        messages = _messages(record, self.system)
        turns = [*record.history, (record.question, record.output)] if record.output else list(record.history)
        spans: list[Span] = []
        whole = ""
        for number, (question, answer) in enumerate(turns):
            messages = [*messages, {"role": "user", "content": question}]
            prompt = self.text(messages, ask=True)
            messages = [*messages, {"role": "assistant", "content": answer}]
            full = self.text(messages, ask=False)
            if not prompt.startswith(whole):
                # The template shows earlier turns otherwise than it asked for them (thinking models drop their thoughts): they are context.
                spans, whole = [], ""
            learned = self._learned(prompt, full, answer)
            spans += [Span(prompt[len(whole) :]), Span(learned, learn=True)]
            whole = prompt + learned
            rest = full[len(whole) :] if full.startswith(whole) else ""
            if rest and number < len(turns) - 1:
                spans.append(Span(rest))
                whole += rest
        if not record.output:
            messages = [*messages, {"role": "user", "content": record.question}]
            prompt = self.text(messages, ask=True)
            spans = [*spans, Span(prompt[len(whole) :])] if prompt.startswith(whole) else [Span(prompt)]
        return spans

    def _learned(self, prompt: str, full: str, answer: str) -> str:
        """The answer and its stop token, as they follow ``prompt``.

        Raises:
            DataError: if the template writes an answered conversation otherwise than it asks for the answer.
        """
        if full.startswith(prompt):
            tail = full[len(prompt) :]
            # Up to the end of the stop token: the line break that follows it in ChatML is the server's, not the model's.
            after = tail.find(answer.strip()) + len(answer.strip()) if answer.strip() in tail else 0
            ends = [tail.index(stop, after) + len(stop) for stop in self.stops if stop and stop in tail[after:]]
            return tail[: min(ends)] if ends else tail.rstrip() + self.stop
        if prompt.rstrip().endswith("<think>"):
            # The prompt opens a thought that the template leaves out of finished answers: the model has to close it itself.
            return f"\n{_THINK_END}\n\n{answer}{self.stop}"
        raise DataError(
            say(
                "the base's chat template writes a finished answer otherwise than it asks for one, so it cannot be trained as it will be "
                "served. Choose another prompt_template: {names}.",
                names=", ".join(FORMATS),
            )
        )

    def _render_inline(self, record: Conversation, inline: str) -> list[Span]:
        spans = []
        for question, answer in [*record.history, (record.question, record.output)]:
            current = dataclasses.replace(record, instruction=question, input="") if question != record.question else record
            spans.append(Span(self.bos + fill(inline, current, self.system)))
            if answer:
                spans.append(Span(answer + self.stop, learn=True))
        return spans


def _pinned(pattern: str) -> str:
    from datetime import datetime

    return datetime.strptime(PINNED_DATE, "%d %b %Y").strftime(pattern)


def _messages(record: Conversation, system: str | None) -> list[dict[str, str]]:
    """The system message, if there is one."""
    content = record.system if record.system is not None else system
    return [{"role": "system", "content": content}] if content else []


def fill(inline: str, record: Conversation, system: str | None = None) -> str:
    """An inline template with its known names replaced, and nothing else: no attribute access, no format specifications."""
    inline = inline.removesuffix("{output}")
    values = {
        "instruction": record.instruction,
        "input": record.input,
        "system": (record.system if record.system is not None else system) or "",
    }
    if record.input and "{input}" not in inline:
        values["instruction"] = record.question
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), inline)


def check_inline(inline: str) -> str | None:
    """What is wrong with an inline template, or None."""
    if "{" not in inline:
        return say(
            "there is no template '{name}'. There are: {names}; or write it out, like [INST]{{instruction}}[/INST].",
            name=inline,
            names=", ".join(FORMATS),
        )
    names = _PLACEHOLDER.findall(inline.removesuffix("{output}"))
    if "instruction" not in names:
        return say("the template '{value}' has no {{instruction}}, so the question would be missing.", value=inline)
    unknown = sorted({name for name in names if name not in _KNOWN})
    if unknown:
        return say(
            "the template '{value}' has the unknown placeholder {{{unknown}}}. Known: {{instruction}}, {{input}}, {{system}}; the answer "
            "follows by itself.",
            value=inline,
            unknown=unknown[0],
        )
    return None


class TextTemplate(Template[Conversation]):
    """What all text templates share: they are prepared with a base, and rendered by a ``Prompting``."""

    task: ClassVar[str] = "text"

    def __init__(self, prompting: Prompting | None = None, reason: str = "", base: BaseFiles | None = None) -> None:
        self.prompting = prompting or Prompting()
        self.reason = reason
        self._base = base

    def choose(self, base: BaseFiles, config: RunConfig, records: Sequence[Conversation]) -> tuple[Prompting, str]:
        """The prompting for a base, and why."""
        raise TypeError(f"{type(self).__name__} does not choose")

    def prepare(self, config: RunConfig, keys: KeySet, records: Sequence[Conversation]) -> TextTemplate:
        base = read_base(locate(config.base_model, config.revision))
        prompting, reason = self.choose(base, config, records)
        prompting = dataclasses.replace(
            prompting,
            tokens=dict(base.tokens),
            stops=base.stops,
            system=keys[TextKeys].system_prompt,
            bos=base.tokens.get("bos_token", "") if base.adds_bos else "",
        )
        if prompting.jinja and prompting.jinja != base.chat_template and not base.adds_bos:
            # A format of ours must not add a BOS that the base's tokenizer would not add.
            prompting = dataclasses.replace(prompting, tokens={**prompting.tokens, "bos_token": ""})
        try:
            prompting, remark = _decide_thinking(prompting, records)
        except LoraForgeError as error:
            raise type(error)([f"{base.folder}: {line}" for line in error.problems]) from None
        return type(self)(prompting, reason + remark, base)

    def describe(self) -> Mapping[str, Any]:
        return {"name": self.name, "reason": self.reason, "pinned_date": PINNED_DATE, **dataclasses.asdict(self.prompting)}

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
        if not own:
            return self.prompting.render(record)
        if own in FORMATS:
            misfit = FORMATS[own].misfit(own, self.prompting.stops)
            if misfit:
                raise DataError(misfit)
            return dataclasses.replace(self.prompting, jinja=FORMATS[own].jinja, inline=None, kwargs={}).render(record)
        problem = check_inline(own)
        if problem:
            raise DataError(problem)
        return dataclasses.replace(self.prompting, inline=own).render(record)


def _decide_thinking(prompting: Prompting, records: Sequence[Conversation]) -> tuple[Prompting, str]:
    """Whether a template that can switch thinking on and off shall think: as the answers do. Found by rendering both ways."""
    if prompting.jinja is None or prompting.inline is not None:
        return prompting, ""
    sample = [{"role": "user", "content": "question"}]
    if "question" not in prompting.text(sample, ask=True):
        raise ModelError(say("the chat template leaves the question out."))
    on, off = (dataclasses.replace(prompting, kwargs={**prompting.kwargs, "enable_thinking": value}) for value in (True, False))
    if on.text(sample, ask=True) == off.text(sample, ask=True):
        return prompting, ""
    thinking = sum(_THINK_END in record.output for record in records)
    if thinking:
        return on, say("; thinking is on, as {n} answers contain their reasoning", n=thinking)
    return off, say("; thinking is off (enable_thinking: false), as the answers contain no reasoning: ask the trained model the same way")


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
            return Prompting(jinja=base.chat_template), say("the base model's own chat template")
        name, sign = format_for(base)
        if not sign:
            return Prompting(jinja=FORMATS[name].jinja), say(
                "plain (question, line break, answer), because the base has no chat template "
                "and no known format; set prompt_template to choose another"
            )
        return Prompting(jinja=FORMATS[name].jinja), say(
            "{name}, because the base has no chat template of its own and {sign}", name=name, sign=sign
        )


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


def export_jinja(prompting: Mapping[str, Any]) -> str | None:
    """The template as a Jinja chat template for servers; an inline string becomes one for single questions.

    Args:
        prompting: what ``describe`` returned.
    """
    if prompting.get("jinja"):
        return _resolved(str(prompting["jinja"]), prompting)
    inline = prompting.get("inline")
    if not inline:
        return None
    pieces = re.split(r"(\{(?:instruction|input|system)\})", str(inline).removesuffix("{output}"))
    names = {"{instruction}": "{{ message.content }}", "{input}": "", "{system}": "{{ system }}"}
    body = "".join(names[p] if p in names else "{{ " + _quoted(p) + " }}" for p in pieces if p)
    system = (
        "{% set system = messages[0].content if messages[0].role == 'system' else " + _quoted(str(prompting.get("system") or "")) + " %}"
    )
    bos = "{{ " + _quoted(str(prompting.get("bos") or "")) + " }}"
    stop = "{{ " + _quoted(str((prompting.get("stops") or [""])[0])) + " }}"
    return (
        system + "{% for message in messages %}{% if message.role == 'user' %}" + bos + body + "{% endif %}"
        "{% if message.role == 'assistant' %}{{ message.content }}" + stop + "{% endif %}{% endfor %}"
    )


def _resolved(jinja: str, prompting: Mapping[str, Any]) -> str:
    """A chat template with all that training decided written into it, so that a server need not be told: thinking, date, system message."""
    first = ""
    for name, value in (prompting.get("kwargs") or {}).items():
        first += "{% set " + name + " = " + (str(value).lower() if isinstance(value, bool) else _quoted(str(value))) + " %}"
    if "date_string" in jinja:
        first += "{% set date_string = " + _quoted(PINNED_DATE) + " %}"
    patterns = sorted(set(re.findall(r"strftime_now\(\s*['\"]([^'\"]+)['\"]", jinja)))
    if patterns:
        cases = "".join("{% if pattern == " + _quoted(p) + " %}" + _pinned(p) + "{% endif %}" for p in patterns)
        first += "{% macro strftime_now(pattern) %}" + cases + "{% endmacro %}"
    system = prompting.get("system")
    if system:
        message = "{'role': 'system', 'content': " + _quoted(str(system)) + "}"
        first += "{% if not messages or messages[0]['role'] != 'system' %}{% set messages = [" + message + "] + messages %}{% endif %}"
    return first + jinja


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
