# SPDX-License-Identifier: Apache-2.0
"""Text to token ids, with exactly the answer learned. No torch.

The rendered text is tokenised once, as a whole, and a token is learned when its first character lies in a learned span: the several tokens
of one character (a rare 汉字, an emoji) share that character's offsets, so none of them is lost. Where a token would straddle the border
between prompt and answer, both are tokenised apart, which is what a server does with a prompt.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraforge import Examination, ModelError, Record, RunConfig, Span, panics_as_errors, refuse_machines_fault, speaker

from ..base_files import BaseFiles
from ..records import Conversation
from ..templates.conversation import messages_of, parts_of
from . import limits

say = speaker(__name__)


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Attributes:
        ids: token ids.
        learned: for each, whether its prediction counts in the loss.
    """

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


@functools.cache
def tokenizer_of(folder: Path) -> Any:
    """The base's ``tokenizers.Tokenizer``; None where it has no tokenizer.json (it is then made when the model is loaded)."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        with panics_as_errors():
            tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare Exception
        refuse_machines_fault(error)
        raise ModelError(say("{path} of the base model cannot be read: {error}.", path=file, error=error)) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer: Any, spans: Sequence[Span]) -> Encoded:
    """Token ids of the joined spans, with the learned ones marked."""
    text = "".join(span.text for span in spans)
    ranges, position = [], 0
    for span in spans:
        ranges.append((position, position + len(span.text), span.learn))
        position += len(span.text)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    learned = []
    for start, end in encoding.offsets:
        inside = [r for r in ranges if r[0] <= start < r[1]]
        if inside and end > inside[0][1] and any(r[2] != inside[0][2] for r in ranges if r[0] < end and r[1] > start):
            return _apart(tokenizer, spans)
        learned.append(bool(inside) and inside[0][2])
    return Encoded(tuple(encoding.ids), tuple(learned))


def _apart(tokenizer: Any, spans: Sequence[Span]) -> Encoded:
    ids: list[int] = []
    learned: list[bool] = []
    for span in spans:
        piece = tokenizer.encode(span.text, add_special_tokens=False).ids
        ids += piece
        learned += [span.learn] * len(piece)
    return Encoded(tuple(ids), tuple(learned))


def pieces(tokenizer: Any, encoded: Encoded) -> list[Span]:
    """The row as the tokens cut it: runs of learned and unlearned tokens, decoded."""
    runs: list[tuple[bool, list[int]]] = []
    for token, learn in zip(encoded.ids, encoded.learned, strict=True):
        if not runs or runs[-1][0] != learn:
            runs.append((learn, []))
        runs[-1][1].append(token)
    return [Span(tokenizer.decode(ids, skip_special_tokens=False), learn) for learn, ids in runs]


def examine(tokenizer: Any, base: BaseFiles, record: Record, spans: Sequence[Span], longest: int) -> tuple[Encoded | None, str | None]:
    """One row's tokens, and why it cannot be trained on, if it cannot.

    The learned tokens must decode to the row's answers and their stop token; a row longer than ``longest`` is never cut; control tokens
    inside the user's own text would end the answer early.

    Raises:
        ModelError: if the stop token is no token of this base, whatever the row.
    """
    assert isinstance(record, Conversation)
    own = _texts(record)
    control = sorted({token for token in base.special if len(token) > 1 and any(token in text for text in own)})
    if control:
        return None, say("the text contains the control token {token}, which would end or begin a turn. Remove it.", token=control[0])
    encoded = encode(tokenizer, spans)
    if not any(encoded.learned):
        return encoded, say("nothing of this row would be learned.")
    if len(encoded.ids) > longest:
        return encoded, say(
            "is {n} tokens long, more than max_seq_length {longest}. Shorten it or raise max_seq_length: answers are never cut.",
            n=len(encoded.ids),
            longest=longest,
        )
    wanted = [span.text for span in spans if span.learn]
    got = [piece.text for piece in pieces(tokenizer, encoded) if piece.learn]
    if [_fold(text) for text in got] != [_fold(text) for text in wanted]:
        return encoded, say("the tokens that would be learned say {got!r}, not {wanted!r}.", got=_short(got), wanted=_short(wanted))
    if base.stops and not all(any(text.endswith(stop) for stop in base.stops) for text in wanted):
        return encoded, say(
            "the answer does not end in a stop token ({stops}), so the model would never stop.", stops=", ".join(base.stops)
        )
    for stop in {stop for text in wanted for stop in base.stops if text.endswith(stop)}:
        _check_stop(tokenizer, base, stop)
    if not _as_the_row(record, wanted):
        return encoded, say("what would be learned is not the row's answer: {wanted!r}.", wanted=_short(wanted))
    return encoded, None


def examine_rows(
    tokenizer: Any, base: BaseFiles, config: RunConfig, longest: int, rows: Sequence[tuple[Record, Sequence[Span]]]
) -> Examination:
    """What a tokenizer makes of the rows; ``longest``: in tokens."""
    text = limits.text_config(base.config)
    problems: dict[int, str] = {}
    shown: list[list[Span]] = []
    lengths, learned, read = [], 0, 0
    for index, (record, spans) in enumerate(rows):
        encoded, problem = examine(tokenizer, base, record, spans, longest) if spans else (None, None)
        problem = problem or (limits.problem(encoded.ids, text) if encoded else None)
        if problem:
            problems[index] = problem
        shown.append(pieces(tokenizer, encoded) if encoded else [])
        if encoded and not problem:
            lengths.append(len(encoded.ids))
            learned += sum(encoded.learned)
            read += only_read(record, spans)
    facts = {"tokens": sum(lengths), "learned_tokens": learned, "longest_row": max(lengths, default=0)}
    lines = list(limits.notes(base.config, lengths, config.lora_target))
    if read:
        facts["answers_only_read"] = read
        lines.append(
            say(
                "Turns:      {n} earlier answers are read but not learned: when the next question is asked, this base's "
                "template shows them "
                "otherwise than they were given",
                n=read,
            )
        )
    return Examination(problems, facts, shown, lines)


def _check_stop(tokenizer: Any, base: BaseFiles, stop: str) -> None:
    if len(tokenizer.encode(stop, add_special_tokens=False).ids) == 1:
        return
    raise ModelError(
        say(
            "{folder}: '{stop}', which ends an answer, is no token of this base's tokenizer, so the model would never stop. "
            "Correct eos_token "
            "in tokenizer_config.json, or set prompt_template to a format whose end the tokenizer has.",
            folder=base.folder,
            stop=stop,
        )
    )


def _texts(record: Conversation) -> list[str]:
    """All that people wrote in a row; the marks around an answer's reasoning are replaced by those of the template."""
    texts = [record.system or "", record.tools]
    for message in messages_of(record):
        parts = parts_of(message) if message.role == "assistant" else None
        texts += [parts.thought, parts.answer] if parts else [message.content]
        texts.append(message.tool_calls)
    return texts


def _answers(record: Conversation) -> list[str]:
    """The answers that could be learned, without their reasoning."""
    return [parts_of(one).answer for one in messages_of(record) if one.role == "assistant" and one.learn]


def only_read(record: Record, spans: Sequence[Span]) -> int:
    """How many answers of a row are only read, as the conversation later shows them otherwise than they were given."""
    assert isinstance(record, Conversation)
    return max(0, len(_answers(record)) - sum(span.learn for span in spans))


def _as_the_row(record: Conversation, learned: Sequence[str]) -> bool:
    """Whether the learned texts hold the row's answers, the last one at the end, each once and in their order."""
    answers = [_fold(answer) for answer in _answers(record)]
    for number, text in enumerate(map(_fold, reversed(learned))):
        while answers and answers[-1] not in text and number:
            answers.pop()  # it is only read
        if not answers or answers[-1] not in text:
            return False
        answer = answers.pop()
        if answer and len(answer) > 20 and text.count(answer) > 1:
            return False
    return True


def _fold(text: str) -> str:
    # Some tokenizers normalise width and drop the space before a word; neither changes what is learned.
    return "".join(unicodedata.normalize("NFKC", text).split())


def _short(texts: Sequence[str]) -> str:
    text = " | ".join(texts)
    return text if len(text) <= 80 else text[:77] + "..."
