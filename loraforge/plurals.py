# SPDX-License-Identifier: Apache-2.0
"""One of something, in English: ``1 row is``, where the sentence in the code says ``{n} rows are``. Chinese has no plural."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NOUNS = """
    adapters answers bytes captions cells characters columns conversations copies dimensions epochs errors examples features files
    findings folders formulas graders groups headings hints hours items layers lines measures minutes modules names numbers ones
    paragraphs parameters parts passes pictures pixels processes prompts questions reasons repeats requests rows runs seconds
    shards steps tables tags tensors texts threads times tokens tools turns values warnings words
"""
_VERBS = {"are": "is", "were": "was", "have": "has", "do": "does", "go": "goes"} | {
    verb: f"{verb}s"
    for verb in "begin belong change cite contain differ end hold lack lose mark repeat say stay stop".split()  # noqa: SIM905
}
_ENDINGS = ((r"ies$", "y"), (r"sses$", "ss"), (r"s$", ""))
# A number, at most two words that describe it ("held-out", "of {all}"), what is counted, what it does, and what else it does.
_COUNTED = re.compile(
    r"(?P<others>\w+s (?:\(\w+\) )?of )?(?P<there>\b[Tt]here are )?\{(?P<name>\w+)(?::,)?\} "
    r"(?P<between>(?:of (?:the )?(?:\{(?P<all>\w+)(?::,)?\} ))?(?:(?!errors|and )[A-Za-z'-]+ ){0,2}?)"
    rf"(?P<noun>(?:{'|'.join(_NOUNS.split())})\b|\{{(?P<word>items)\}})"
    rf"(?P<verb>(?: {'| '.join(_VERBS)})\b| (?:of|that|whose|in|outside|with) (?:(?!they )[^.,;:]){{1,40}}? (?:are|were)\b)?"
    r"(?P<more>[^.;:]{1,60} and (?:are|have)\b)?"
)


def singular(noun: str) -> str:
    """``row`` of ``rows``."""
    for ending, one in _ENDINGS:
        if re.search(ending, noun):
            return re.sub(ending, one, noun)
    return noun


def counted(sentence: str, values: Mapping[str, object]) -> str:
    """An English sentence with its nouns and verbs as the numbers in ``values`` want them."""

    def agree(found: re.Match[str]) -> str:
        one, noun, between = _one(values.get(found["name"])), found["noun"], found["between"]
        parts = re.fullmatch("of (?:the |its )?.*", between) is not None
        named = _one(values.get(found["all"])) if found["all"] else one and not parts
        number = found[0][len(found["others"] or found["there"] or "") : found.start("noun") - found.start()]
        thing = values.get(found["word"], noun) if found["word"] else noun
        thing = singular(thing) if named and isinstance(thing, str) and thing in _NOUNS.split() else noun
        said = [found["others"] or found["there"] or "", number, thing, found["verb"] or "", found["more"] or ""]
        if one and not found["others"]:
            said[0] = said[0].replace("are", "is")
            said[3:] = (re.sub(r"\w+$", lambda verb: _VERBS.get(verb[0], verb[0]), text) for text in said[3:])
        return "".join(said)

    return _COUNTED.sub(agree, sentence)


def _one(value: object) -> bool:
    return value is not True and str(value) == "1"
