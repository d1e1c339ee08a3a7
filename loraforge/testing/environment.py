# SPDX-License-Identifier: Apache-2.0
"""What a check runs in: the installed plugins with what is tested beside them, and the CPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from ..errors import PluginError
from ..plugin_api.host import PluginHost


def host_with(plugins: Iterable[object] = ()) -> PluginHost:
    """A host of the installed plugins and ``plugins``, whether or not these are installed.

    Raises:
        AssertionError: if one cannot be taken in: a misspelt or unmarked hook, wrong arguments.
    """
    host = PluginHost(blocked=())
    for number, plugin in enumerate(plugins):
        if host.name_of(plugin) is None:
            try:
                host.register(plugin, f"plugin-under-test-{number}")
            except PluginError as error:
                raise AssertionError(f"the plugin cannot be used: {error}") from None
    return host


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """Inside, a run computes on the CPU even where there is a GPU: results are the same on every machine."""
    there = os.environ.get("ACCELERATE_USE_CPU")
    os.environ["ACCELERATE_USE_CPU"] = "true"
    try:
        yield
    finally:
        if there is None:
            del os.environ["ACCELERATE_USE_CPU"]
        else:
            os.environ["ACCELERATE_USE_CPU"] = there
