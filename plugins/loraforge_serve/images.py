# SPDX-License-Identifier: Apache-2.0
"""Pictures of image runs, one at a time."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from loraforge import File, InferenceModel, speaker

from .catalogue.source import Source
from .library import Library
from .problems import RequestError
from .versions import Version

say = speaker(__name__)


class Painter:
    """Draws with the image runs that are served. Runs of one base share it, so that their adapters can act together; a base is loaded when
    it is first asked for.

    Args:
        source: keeps the opened runs.
    """

    def __init__(self, source: Source, library: Library) -> None:
        self._source, self._library = source, library
        self._lock = threading.Lock()
        self._loaded: tuple[frozenset[str], InferenceModel, Mapping[str, str]] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being drawn."""
        return self._lock.locked()

    def draw(
        self,
        version: Version,
        strengths: Mapping[str, float] | None,
        prompts: Sequence[str],
        settings: Mapping[str, Any],
        wanted: threading.Event,
    ) -> list[bytes]:
        """One PNG per prompt. Blocks; one call at a time.

        Args:
            strengths: by the names of adapters; None: the version's own with strength 1.
            wanted: cleared by whoever waits no more; what is drawn already is drawn to its end.

        Raises:
            RequestError: if an adapter is not served, or stands on another base.
        """
        opened = self._source.runs[version.key]
        served = {one.name: one for one in self._library.versions() if one.key in self._source.runs}
        served[version.name] = version
        mixed = {version.name: 1.0} if strengths is None else dict(strengths)
        base = opened.config.base_model
        odd = [name for name in mixed if name not in served or self._source.runs[served[name].key].config.base_model != base]
        if odd:
            text = say("there is no adapter called {names} on the base of '{model}'.", names=", ".join(odd), model=version.name)
            raise RequestError(404, text, "adapter_not_found")
        beside = {one.key: one for one in served.values() if self._source.runs[one.key].config.base_model == base}
        with self._lock:
            if not wanted.is_set():
                return []
            if self._loaded is None or not {served[name].key for name in mixed} | {version.key} <= self._loaded[0]:
                self._loaded = None  # before the next is loaded: two bases may be too many
                # The names stand in the pictures' own text; the numbers keep two versions apart, and names of torch's own out.
                names = {key: re.sub(r"[^\w-]+", "_", f"{one.name}-{number}") for number, (key, one) in enumerate(beside.items(), 1)}
                adapters = {name: next(iter(self._source.runs[key].adapters().values())) for key, name in names.items()}
                self._loaded = (frozenset(beside), opened.inference_model(adapters), names)
            _, model, called = self._loaded
            given = {called[served[name].key]: strength for name, strength in mixed.items()}
            made = model.generate(prompts, given or None, **settings)
        return [one.data for one in made if isinstance(one, File)]
