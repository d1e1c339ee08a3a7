# SPDX-License-Identifier: Apache-2.0
"""The plugin host keeps its promises; each message names the plugin."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from loraforge import Exporter, PluginError, StageStarted, hookimpl
from loraforge.plugin_api.host import PluginHost


def plugin_file(tmp_path: Path, name: str, body: str) -> Path:
    file = tmp_path / f"{name}.py"
    file.write_text(textwrap.dedent(body), encoding="utf-8")
    return file


def error_of(host: PluginHost, name: str) -> str:
    return next(info.error or "" for info in host.plugins() if info.name == name)


EXPORTER = """
    from loraforge import Exporter, hookimpl

    class Mine(Exporter):
        name = "{name}"
        task = "text"
        def export(self, adapter, destination):
            return destination

    @hookimpl
    def loraforge_exporters():
        return [Mine()]
"""


def test_a_one_file_plugin_brings_an_exporter(tmp_path):
    host = PluginHost([plugin_file(tmp_path, "mine", EXPORTER.format(name="mine"))], ())
    assert "mine" in host.components("loraforge_exporters", "text")


@pytest.mark.parametrize("given", ["", "__init__.py"])
def test_the_folder_of_a_package_is_a_plugin_of_that_name(given, tmp_path):
    package = tmp_path / "loraforge_mine"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("from .parts.one import loraforge_exporters\n", encoding="utf-8")
    (package / "parts" / "one.py").write_text(textwrap.dedent(EXPORTER.format(name="mine")), encoding="utf-8")
    host = PluginHost([package / given])
    assert host.components("loraforge_exporters", "text")["mine"][1] == "loraforge_mine" and not host.unusable()
    missing = error_of(PluginHost([package / "parts" / given]), "parts")
    assert missing == f"there is no file {package / 'parts' / '__init__.py'}"


def test_a_name_claimed_twice_is_an_error_that_names_both(tmp_path):
    files = [plugin_file(tmp_path, f"plugin_{n}", EXPORTER.format(name="same")) for n in "ab"]
    host = PluginHost(files, ())
    with pytest.raises(PluginError, match="exporter 'same' is claimed by two plugins, 'plugin_.' and 'plugin_.'"):
        host.components("loraforge_exporters", "text")
    assert "same" in PluginHost(files, ("plugin_b",)).components("loraforge_exporters", "text")


def test_a_broken_import_sets_only_that_plugin_aside(tmp_path):
    host = PluginHost(
        [plugin_file(tmp_path, "broken", "import no_such_module_anywhere"), plugin_file(tmp_path, "good", EXPORTER.format(name="x"))], ()
    )
    assert "ModuleNotFoundError" in error_of(host, "broken") and "no_such_module_anywhere" in error_of(host, "broken")
    assert "x" in host.components("loraforge_exporters", "text")
    with pytest.raises(PluginError, match="plugin 'broken' is not in use: could not be imported"):
        host.component("loraforge_exporters", "text", "webui")


def test_a_syntax_error_and_an_exit_do_not_end_the_host(tmp_path):
    host = PluginHost([plugin_file(tmp_path, "syntax", "def ("), plugin_file(tmp_path, "leaves", "raise SystemExit(3)")], ())
    assert "SyntaxError" in error_of(host, "syntax") and "SystemExit" in error_of(host, "leaves")
    assert "text" in host.tasks()


def test_a_misspelt_hook_is_named_with_the_right_one(tmp_path):
    body = "from loraforge import hookimpl\n@hookimpl\ndef loraforge_exporter():\n    return []\n"
    assert error_of(PluginHost([plugin_file(tmp_path, "typo", body)], ()), "typo") == (
        "there is no hook 'loraforge_exporter'. Did you mean 'loraforge_exporters'?"
    )


def test_a_hook_without_its_mark_is_told(tmp_path):
    host = PluginHost([plugin_file(tmp_path, "unmarked", "def loraforge_exporters():\n    return []\n")], ())
    assert "'loraforge_exporters' is not marked with @hookimpl" in error_of(host, "unmarked")


def test_wrong_arguments_are_told(tmp_path):
    body = "from loraforge import hookimpl\n@hookimpl\ndef loraforge_event(evnt):\n    pass\n"
    error = error_of(PluginHost([plugin_file(tmp_path, "args", body)], ()), "args")
    assert "evnt" in error and "write def loraforge_event(event):" in error


def test_blocking_by_name_works_for_built_ins_too(monkeypatch):
    monkeypatch.setenv("LORAFORGE_BLOCK", "text, image, tensorboard")
    host = PluginHost()
    assert host.tasks() == {}
    with pytest.raises(PluginError, match=r"there is no task 'text'\. There are: none\.\n(plugin '\w+' is not in use: blocked.*\n?){3}"):
        host.task("text")


def test_a_hook_that_raises_is_reported_and_the_others_go_on(tmp_path):
    body = "from loraforge import hookimpl\n@hookimpl\ndef loraforge_exporters():\n    raise ValueError('nope')\n"
    host = PluginHost([plugin_file(tmp_path, "raises", body)], ())
    assert "peft" in host.components("loraforge_exporters", "text")
    assert error_of(host, "raises") == f"loraforge_exporters failed: ValueError: nope ({tmp_path / 'raises.py'}, line 4)"


def test_a_command_that_shadows_a_core_one_is_left_out(tmp_path):
    body = """
        import click
        from loraforge import hookimpl
        @click.command()
        def train():
            click.echo("not the real one")
        @hookimpl
        def loraforge_commands():
            return [train]
    """
    host = PluginHost([plugin_file(tmp_path, "shadow", body)], ())
    assert "train" not in host.commands(["train", "check"])
    assert "its command 'train' is already taken by LoRAForge itself" in error_of(host, "shadow")


def test_two_plugins_with_one_command(tmp_path):
    @hookimpl
    def loraforge_commands():
        return [click.Command("chat")]

    host = PluginHost(blocked=())
    host.register(SimpleNamespace(loraforge_commands=loraforge_commands), "other")
    host.commands([])
    errors = [info.error for info in host.plugins() if info.error]
    assert len(errors) == 1 and "'chat' is already taken by" in errors[0]


def test_an_observer_that_raises_is_noted_and_the_run_goes_on(host):
    heard = []

    class Bad:
        @hookimpl
        def loraforge_event(self, event):
            raise RuntimeError("disk on fire")

    class Good:
        @hookimpl
        def loraforge_event(self, event):
            heard.append(event)

    host.register(Good(), "good")
    host.register(Bad(), "bad")
    for _ in range(3):
        host.tell(StageStarted("data"))
    assert len(heard) == 3
    assert host.failures == ["plugin 'bad' failed on StageStarted: RuntimeError: disk on fire"]


def test_unknown_names_get_a_suggestion(host):
    with pytest.raises(PluginError, match="there is no task 'txet'. Did you mean 'text'"):
        host.task("txet")


def test_hosts_do_not_share_anything():
    class Mine(Exporter):
        name, task = "only-here", "text"

        def export(self, adapter, destination):
            return destination

    @hookimpl
    def loraforge_exporters():
        return [Mine()]

    one, other = PluginHost(blocked=()), PluginHost(blocked=())
    one.register(SimpleNamespace(loraforge_exporters=loraforge_exporters), "mine")
    assert "only-here" in one.components("loraforge_exporters", "text")
    assert "only-here" not in other.components("loraforge_exporters", "text")


def test_a_second_plugin_of_the_same_name_is_set_aside(tmp_path):
    (tmp_path / "sub").mkdir()
    files = [plugin_file(tmp_path, "twin", EXPORTER.format(name="one")), plugin_file(tmp_path / "sub", "twin", EXPORTER.format(name="two"))]
    host = PluginHost(files, ())
    there = host.components("loraforge_exporters", "text")
    assert "one" in there and "two" not in there
    assert any("has the name of the one from" in (info.error or "") for info in host.plugins())


TASK = """
    from dataclasses import dataclass
    from loraforge import Loader, Record, Sampling, Span, Task, Template, hookimpl

    @dataclass(frozen=True)
    class Line(Record):
        text: str

    class Whole(Template):
        name, task, help = "whole", "lines", "All of it."
        def render(self, record):
            return [Span(record.text, learn=True)]

    class Fixed(Loader):
        name, task, help = "fixed", "lines", "Three lines."
        def load(self, config, keys, note):
            return [Line(str(i), where=f"line {i}") for i in range(3)]

    @hookimpl
    def loraforge_tasks():
        return [Task(name="lines", help="Lines.", record=Line, loader="fixed", template="whole", exporters=(), sampling=Sampling(lambda t: Line(t, where="q")))]

    @hookimpl
    def loraforge_templates():
        return [Whole()]

    @hookimpl
    def loraforge_data_loaders():
        return [Fixed()]
"""


def test_a_task_whose_template_is_not_called_auto(tmp_path):
    """The effective config of a run says ``prompt_template: auto``; that still means the task's own template."""
    from loraforge.config.yaml_reader import read
    from loraforge.plan import _template

    host = PluginHost([plugin_file(tmp_path, "lines", TASK)], ())
    assert _template(host, host.task("lines"), "auto").name == "whole" == _template(host, host.task("lines"), "").name
    file = tmp_path / "c.yaml"
    file.write_text("train_data_dir: .\n", encoding="utf-8")
    assert read(file).values["train_data_dir"].value == "."


def test_the_contract_checks_accept_a_plugin_that_is_installed_already():
    import loraforge_text

    from loraforge.testing import check_plugin

    check_plugin(loraforge_text)


def test_the_contract_checks_find_what_is_wrong(tmp_path):
    from loraforge.testing import check_component, check_exporter

    class Silent(Exporter):
        name, task, help = "silent", "text", ""

        def export(self, adapter, destination):
            return destination

    with pytest.raises(AssertionError, match="help"):
        check_component(Silent())
    Silent.help = "Writes nothing."
    with pytest.raises(AssertionError, match="nothing was written"):
        check_exporter(Silent(), SimpleNamespace(tensors={}), tmp_path)
