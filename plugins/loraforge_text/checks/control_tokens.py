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
            elif marker is not None:
                text, match_ = marker
                yield Finding(
                    (index,),
                    say("'{marker}' looks like a left-over of a prompt. Keep the question and the answer alone.", marker=match_[0]),
                    excerpt(text, *match_.span()),
                    "warning",
                )
