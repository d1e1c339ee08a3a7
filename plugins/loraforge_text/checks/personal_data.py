# SPDX-License-Identifier: Apache-2.0
"""Personal data: what is in the rows can come out of the model word for word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from loraforge import Check, Finding, KeySet, RunConfig, Severity, speaker

from ..records import Conversation
from .folding import narrow
from .private import Kind, Private, find
from .texts import everything, excerpt

say = speaker(__name__)

# A landline is mostly an office's; the number of a published judgment is public.
_SEVERITY: Mapping[Kind, Severity] = {
    "identity": "error", "card": "warning", "phone": "warning", "email": "warning", "record": "warning", "landline": "hint", "case": "hint",
}  # fmt: skip
_ACCOUNT_WORDS = ("卡号", "银行卡", "账号", "帐号", "账户", "帐户", "card")


class PersonalData(Check[Conversation]):
    """One finding for each kind of personal data in a row; what is found is shown masked."""

    name = "personal_data"
    private = True
    task = "text"
    help = "Numbers of identity cards, phones, bank cards, patients and cases, and e-mail addresses: a model can repeat them."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Conversation]) -> Iterable[Finding]:
        for index, row in enumerate(rows):
            seen: dict[Kind, tuple[str, Private]] = {}
            count: dict[Kind, int] = {}
            for text in everything(row):
                for found in find(narrow(text)):
                    seen.setdefault(found.kind, (text, found))
                    count[found.kind] = count.get(found.kind, 0) + 1
            for kind, (text, found) in seen.items():
                severity = _SEVERITY[kind]
                if kind == "card" and any(word in narrow(text).lower() for word in _ACCOUNT_WORDS):
                    severity = "error"
                message = _message(kind)
                if count[kind] > 1:
                    message += say(" The row has {n} of them.", n=count[kind])
                yield Finding((index,), message, excerpt(text, found.start, found.end), severity)


def _message(kind: Kind) -> str:
    sentences: Mapping[Kind, str] = {
        "identity": say("The number of an identity card stands here: its date and checksum are right. Remove it."),
        "card": say("This looks like the number of a bank card. Remove it."),
        "phone": say("The number of a mobile phone stands here. Remove it."),
        "landline": say("A telephone number stands here. Leave it only if it is an office's and may be given out."),
        "email": say("An e-mail address stands here. Remove it, unless it is an office's and may be given out."),
        "record": say("The number of a patient's or a person's record stands here. Remove it."),
        "case": say("The number of a court case stands here. Leave it only if the judgment is published and meant to be cited."),
    }
    return sentences[kind]
