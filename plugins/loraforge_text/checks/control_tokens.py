# SPDX-License-Identifier: Apache-2.0
"""Marks by which some model family tells turns apart: inside the data they end an answer early, or teach the model to forge turns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, speaker

from ..records import Conversation
from ..templates.conversation import messages_of
from .texts import everything, excerpt

say = speaker(__name__)

# ChatML, Llama 3, Phi, GLM, Falcon: <|name|>; DeepSeek: the same with full-width bars; Llama 2 and Mistral: [INST], <<SYS>>, </s>;
# Gemma: <start_of_turn>; ChatGLM: [gMASK]; Baichuan: <reserved_106>; MiniCPM: <用户>, <AI>; T5: <extra_id_0>; Seed: <seed:bos>.
# BERT's [MASK] and [SEP] are no tokens of language models that answer, and stand for removed names in many texts.
_TOKEN = re.compile(
    r"<\|[A-Za-z0-9_:/ -]{2,40}\|>|<[|｜][^|｜<>\n]{2,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?s>|<(?:unk|pad|bos|eos|sop|eop|eot|mask)>"
    r"|</?(?:start|end)_of_(?:turn|image|text|role)>|\[gMASK\]|\[sMASK\]|<reserved_\d+>|<extra_id_\d+>|<seed:[a-z_]+>|<用户>|<AI>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\]|</?tool_(?:call|response)>|<(?:start|end)_header_id>"
)
# Characters that belong to no script: what is left of a symbol font, or of text read in the wrong encoding.
_PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010fffd]")
# What makes text worth a closer look: first bytes of UTF-8 as GBK (锛 for ， and ！, 鐨 for 的) or a code page of Windows reads them.
_SUSPECT = re.compile("[锛銆鈥鐨鏄鍦鏈涓浠鍙浣鎴鎮璇闂]|[â€ÃÂåäæçèé][\u0080-\u00ff\u0152-\u2122]")
_FOREIGN = re.compile("[^\x00-\x7f\ufffd]{2,}")
# U+FFFD written as UTF-8 and read as GBK; memory that Windows' debugger had filled.
_LEFT = re.compile("锟斤拷|烫烫烫|屯屯屯")
_THINK = re.compile(r"</?think>")
# The only place where thinking may stand: once, before the answer.
_THOUGHT = re.compile(r"^\s*(?:<think>)?(?:(?!</?think>).)*</think>(?=\s*\S)", re.DOTALL)
# What is left of another trainer's prompt.
_MARKER = re.compile(
    r"^(?:#{2,3} ?(?:Instruction|Response|Input|Human|Assistant|指令|回答) ?[:：]|(?:USER|ASSISTANT|Human|Assistant) ?[:：])", re.MULTILINE
)


class ControlTokens(Check[Conversation]):
    """One finding for each row with control tokens of any known family, the base's or another's."""

    name = "control_tokens"
    task = "text"
    help = "Control tokens of any model family inside the data, such as <|im_end|>, [INST] or </s>."
    severity = "error"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        for index, row in enumerate(rows):
            learned = {row.output, *(one.content for one in messages_of(row) if one.role == "assistant")}
            found: list[str] = []
            place = ""
            marker: tuple[str, re.Match[str]] | None = None
            for text in everything(row):
                plain = _THOUGHT.sub("", text) if text in learned else text
                for match in (*_TOKEN.finditer(plain), *_THINK.finditer(plain)):
                    place = place or excerpt(plain, *match.span())
                    found.append(match[0])
                if marker is None and (match_ := _MARKER.search(plain)):
                    marker = (plain, match_)
            if found:
                tokens = ", ".join(dict.fromkeys(found))
                yield Finding(
                    (index,),
                    say(
                        "The text contains the control token {tokens}, which begins or ends a turn for some model. Remove it.",
                        tokens=tokens,
                    ),
                    place,
                )
            elif (private := next(((text, m) for text in everything(row) if (m := _PRIVATE_USE.search(text))), None)) is not None:
                text, match_ = private
                yield Finding(
                    (index,),
                    say(
                        "The text contains U+{code}, a character that no script knows: left of a symbol font, or of a wrong encoding. "
                        "Replace it.",
                        code=f"{ord(match_[0]):04X}",
                    ),
                    excerpt(text, *match_.span()),
                )
            elif (broken := next((problem for text in everything(row) if (problem := _misread(text))), None)) is not None:
                yield Finding((index,), *broken)
            elif (lost := next((text for text in everything(row) if "\ufffd" in text), None)) is not None:
                yield Finding(
                    (index,),
                    say("The text contains U+FFFD (�), which stands where a character was lost. Write the character out again."),
                    excerpt(lost, lost.index("\ufffd"), lost.index("\ufffd") + 1),
                    "warning",
                )
            elif marker is not None:
                text, match_ = marker
                yield Finding(
                    (index,),
                    say("'{marker}' looks like a left-over of a prompt. Keep the question and the answer alone.", marker=match_[0]),
                    excerpt(text, *match_.span()),
                    "warning",
                )


def _misread(text: str) -> tuple[str, str] | None:
    """(what is wrong, where) if a part of the text is UTF-8 that was read as GBK or as a code page of Windows."""
    left = _LEFT.search(text)
    if left:
        return say("'{found}' is what is left of text in the wrong encoding. Write the text out again.", found=left[0]), excerpt(
            text, *left.span()
        )
    if not _SUSPECT.search(text):
        return None
    for run in _FOREIGN.finditer(text):
        for encoding in ("gb18030", "cp1252"):
            right = _as_utf8(run[0], encoding)
            if right:
                shown = run[0] if len(run[0]) <= 20 else f"{run[0][:17]}..."
                return (
                    say("'{found}' is text in the wrong encoding; it should read '{right}'. Save the source again as UTF-8.",
                        found=shown, right=right[:20]),
                    excerpt(text, *run.span()),
                )  # fmt: skip
    return None


def _as_utf8(run: str, encoding: str) -> str:
    """What the characters' bytes are as UTF-8, if they nearly all are: those of real text hardly ever are. Otherwise empty."""
    try:
        # Python leaves five bytes of cp1252 undefined, which Windows reads as control characters.
        data = b"".join(bytes([ord(c)]) if encoding == "cp1252" and "\x80" <= c <= "\x9f" else c.encode(encoding, "strict") for c in run)
    except UnicodeEncodeError:
        return ""
    right = data.decode("utf-8", "ignore")
    enough = len(data) >= (6 if encoding == "gb18030" else 2)
    return right if enough and len(right.encode()) * 5 >= len(data) * 4 and not right.isascii() else ""
