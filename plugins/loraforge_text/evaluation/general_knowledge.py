# SPDX-License-Identifier: Apache-2.0
"""A small bilingual probe of general knowledge: 30 questions in Chinese and 30 in English, with four answers each."""

from __future__ import annotations

import functools
from pathlib import Path

from loraforge import ChoiceQuestion

from ..records import Conversation

FILE = Path(__file__).parent / "general_knowledge.tsv"


@functools.cache
def choice_questions() -> tuple[ChoiceQuestion[Conversation], ...]:
    """The questions in the order of the file."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            language, question, *answers = line.split("\t")
            choices = tuple(Conversation(where=f"{FILE.name}:{number}", instruction=question, output=answer) for answer in answers)
            found.append(ChoiceQuestion(choices, language))
    return tuple(found)
