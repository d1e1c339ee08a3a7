# SPDX-License-Identifier: Apache-2.0
"""Captions that are longer than what is read of them: the rest is never learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraforge import Check, Finding, KeySet, ModelError, RunConfig, first_few, speaker

from ..data.captions import CaptionTemplate
from ..families.base_files import is_ours
from ..families.stable_diffusion.caption_length import WINDOW, WINDOWS, counts, windows
from ..families.stable_diffusion.identify import identify
from ..records import ImageKeys, Picture
from .personal_data import excerpt

say = speaker(__name__)


class LongCaptions(Check[Picture]):
    """One finding for all captions that are cut, with what to set: for bases whose captions are read in windows of CLIP."""

    name = "long_captions"
    task = "image"
    help = "Captions that are longer than what is read of them (max_caption_tokens, 225 at most): their ends are not learned."
    severity = "warning"

    def run(self, config: RunConfig, keys: KeySet, rows: Sequence[Picture]) -> Iterable[Finding]:
        mine = keys[ImageKeys]
        try:
            family = (config.model_family or identify(config.base_model, config.revision).family) if is_ours(config.base_model) else ""
        except ModelError:
            return  # the family says so
        if family not in ("sd15", "sd2", "sdxl") or not rows:
            return
        template = CaptionTemplate().prepare(config, keys, rows)
        tokens = counts(config, family, mine, ["".join(span.text for span in template.render(row)) for row in rows])
        read = WINDOW * WINDOWS if mine.max_caption_tokens == "auto" else mine.max_caption_tokens
        long = [index for index, count in enumerate(tokens or ()) if count > read]
        if not long or tokens is None:
            return
        longest = max(tokens[index] for index in long)
        told = {
            "n": len(long),
            "read": read,
            "longest": longest,
            "names": first_few([f"{rows[index].where} ({tokens[index]})" for index in long], 5),
        }
        if read < WINDOW * WINDOWS:
            fits = windows(longest) * WINDOW
            yield Finding(
                tuple(long),
                say(
                    "{n} captions are longer than the {read} tokens that are read of them, and their ends are not learned: {names}. Set "
                    "max_caption_tokens: {fits}, or auto.",
                    **told,
                    fits=fits,
                )
                + (say(" More than 225 are never read: shorten what is longer.") if longest > fits else ""),
                excerpt(rows[long[0]].caption),
            )
            return
        yield Finding(
            tuple(long),
            say(
                "{n} captions are longer than {read} tokens, of which more are never read, and their ends are not learned: {names}. "
                "Shorten them, or put what matters first.",
                **told,
            ),
            excerpt(rows[long[0]].caption),
        )
