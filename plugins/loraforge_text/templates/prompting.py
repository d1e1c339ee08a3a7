"""A base's way of asking: messages to text, through the Jinja sandbox of transformers, the one that servers use."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraforge import DataError, ModelError, Span, speaker

from ..records import Conversation
from .formats import FORMATS
from .inline import fill
from .jinja_limits import LONGEST, SECONDS, TooLong, limited, refuse_powers

say = speaker(__name__)

# Some templates print today's date, which would make every day's prompts another training set: it is pinned, and the manifest says so.
# It is the day that Llama 3's own template falls back to.
PINNED_DATE = "26 Jul 2024"
THINK_END = "</think>"


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
                    **{"date_string": PINNED_DATE, "strftime_now": pinned_date, **self.kwargs},
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
            return f"\n{THINK_END}\n\n{answer}{self.stop}"
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


def pinned_date(pattern: str) -> str:
    """``PINNED_DATE`` in the form that a template asks for."""
    from datetime import datetime

    return datetime.strptime(PINNED_DATE, "%d %b %Y").strftime(pattern)


def _messages(record: Conversation, system: str | None) -> list[dict[str, str]]:
    """The system message, if there is one."""
    content = record.system if record.system is not None else system
    return [{"role": "system", "content": content}] if content else []
