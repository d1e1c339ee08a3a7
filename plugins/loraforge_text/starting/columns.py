# SPDX-License-Identifier: Apache-2.0
"""Which columns of a table are probably the questions and the answers, where their names are not among those that are known."""

from __future__ import annotations

from collections.abc import Sequence

from loraforge import ConfigLine, DataError, KeySet, RunConfig, fold_name, speaker

from ..data.columns import SYNONYMS

say = speaker(__name__)

_FIELDS = ("instruction", "output")
_SHORTEST = 3  # letters of an English word that means something inside of another name


def probable(names: Sequence[str]) -> dict[str, str] | None:
    """The two fields and the columns whose names hold a known name (客户问题, "Client question"); None if that is not certain."""
    found: dict[str, str] = {}
    for field in _FIELDS:
        words = [word for word in SYNONYMS[field] if not word.isascii() or len(word) > _SHORTEST]
        matching = [name for name in names if name and any(word in fold_name(name) for word in words)]
        if len(matching) != 1:
            return None
        found[field] = matching[0]
    return found if len(set(found.values())) == len(_FIELDS) else None


def guess(config: RunConfig, keys: KeySet) -> Sequence[ConfigLine]:
    """The line ``columns`` with which the data can probably be read; none if the files do not agree."""
    from ..data.files import find_files
    from ..data.readers import read_tables
    from ..data.readers.rows import Reading, Source
    from ..data.table_loader import TableKeys

    options = keys[TableKeys]
    guesses = []
    try:
        for file in find_files(config, lambda text: None):
            reading = Reading(options.encoding, (), options.header_row, lambda names: probable(names) is not None, lambda text: None)
            for table in read_tables(Source.of(file.path, file.name), reading, only_questions=False):
                guesses.append(probable(list(table.rows[0].values)) if table.rows else None)
    except DataError:
        return ()
    first = next(iter(guesses), None)
    if first is None or any(one != first for one in guesses):
        return ()
    why = say("their names are none of the usual ones, but hold them: look whether that is right")
    return [ConfigLine("columns", first, why)]
