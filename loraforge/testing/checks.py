"""Contract checks for plugin authors: call them from your tests.

    from loraforge.testing import check_exporter, check_loader, check_plugin, check_template

Each raises AssertionError with what the contract says.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..config.schema import KeySet, RunConfig
from ..errors import LoraForgeError
from ..plugin_api.components import Component, Exporter, Loader, Template
from ..plugin_api.host import PluginHost
from ..plugin_api.types import Adapter, Record, Span


def check_plugin(plugin: object) -> None:
    """The plugin can be registered, every hook answers, its names clash with nobody's, and importing it does not import torch.

    Args:
        plugin: the module, or an object with marked hooks.
    """
    from ..plugin_api.host import KINDS

    host = PluginHost(blocked=())
    name = host.name_of(plugin)  # an installed one is there already
    if name is None:
        name = "plugin-under-test"
        host.register(plugin, name)
    tasks = host.tasks()
    for task in tasks:
        for hook in KINDS:
            for component, _ in host.components(hook, task).values():
                check_component(component)
    host.commands(())
    errors = [info.error for info in host.plugins() if info.name == name and info.error]
    assert not errors, errors
    if inspect.ismodule(plugin) and plugin.__name__ in sys.modules and importlib.util.find_spec(plugin.__name__):
        code = f"import {plugin.__name__}, sys; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, (
            "importing the plugin imports torch: import it in the function"
        )


def check_component(component: Component) -> None:
    """It has a name, a task and a sentence of help, and every key of its own has a description."""
    kind = type(component).__name__
    for attribute in ("name", "task", "help"):
        assert isinstance(getattr(component, attribute, None), str) and getattr(component, attribute), f"{kind} needs a text '{attribute}'"
    for key, info in component.keys.model_fields.items():
        assert info.description, f"{kind}: the key '{key}' has no description"
        assert key not in RunConfig.model_fields, f"{kind}: the key '{key}' belongs to the core"


def check_loader(loader: Loader[Any], config: RunConfig, keys: KeySet, spoil: Callable[[], None] | None = None) -> list[Record]:
    """It yields records that know where they stand, the same ones each time, and explains bad data.

    Args:
        spoil: damages the data; afterwards ``load`` must raise a LoraForgeError.

    Returns:
        the records of the sound data.
    """
    check_component(loader)
    notes: list[str] = []
    first, second = (list(loader.load(config, keys, notes.append)) for _ in range(2))
    assert first, "no records"
    assert all(isinstance(record, Record) for record in first), "records must derive from loraforge.Record"
    assert [r.content_hash() for r in first] == [r.content_hash() for r in second], "two loads of the same data differ"
    assert len({r.where for r in first}) == len(first), "every record needs its own 'where'"
    assert all(isinstance(note, str) for note in notes)
    if spoil is not None:
        spoil()
        try:
            list(loader.load(config, keys, notes.append))
        except LoraForgeError:
            return first
        raise AssertionError("bad data must raise a LoraForgeError")
    return first


def check_template(template: Template[Any], records: Iterable[Record]) -> None:
    """It renders spans, the same ones each time, something of which is learned."""
    check_component(template)
    for record in records:
        spans: Sequence[Span] = template.render(record)
        assert spans and all(isinstance(span, Span) for span in spans), "render returns a sequence of Span"
        assert list(spans) == list(template.render(record)), "render must be a function of the record"
        assert any(span.learn and span.text for span in spans), f"nothing is learned of {record.where}"


def check_exporter(exporter: Exporter, adapter: Adapter, destination: Path) -> Path:
    """It writes inside its folder only, the same bytes each time, and leaves the adapter as it was.

    Returns:
        what it wrote.
    """
    import torch

    check_component(exporter)
    before = {name: tensor.clone() for name, tensor in adapter.tensors.items()}
    contents = []
    for number in range(2):
        folder = destination / str(number)
        folder.mkdir(parents=True)
        written = exporter.export(adapter, folder)
        assert written.exists() and (written == folder or folder in written.parents), "export must return what it wrote, inside its folder"
        contents.append({p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()})
    assert contents[0], "nothing was written"
    assert contents[0] == contents[1], "two exports of one adapter differ"
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.tensors.items()), "the adapter was changed"
    return destination / "0" / written.relative_to(destination / "1")
