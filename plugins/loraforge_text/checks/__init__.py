# SPDX-License-Identifier: Apache-2.0
"""What is looked at in questions and answers before a run trains on them. One file per idea; word lists as text files beside them.

Checks read answers with an expert's eyes: whatever a good doctor or lawyer would have written on purpose is no finding.
"""

from __future__ import annotations

from loraforge import Check


def checks() -> list[Check]:
    """All checks of the text plugin, the gravest first."""
    from .conclusion_first import ConclusionFirst
    from .contradictions import Contradictions
    from .control_tokens import ControlTokens
    from .duplicates import Duplicates, NearDuplicates
    from .missing_citation import MissingCitation
    from .personal_data import PersonalData
    from .unfinished import Unfinished
    from .wording import Abbreviations, Colloquial, EmptyPhrases, Hedging

    return [
        PersonalData(),
        ControlTokens(),
        Contradictions(),
        Duplicates(),
        NearDuplicates(),
        Unfinished(),
        Hedging(),
        Colloquial(),
        Abbreviations(),
        EmptyPhrases(),
        ConclusionFirst(),
        MissingCitation(),
    ]
