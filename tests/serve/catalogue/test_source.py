# SPDX-License-Identifier: Apache-2.0
"""What can be served, and what is said of what cannot."""

from __future__ import annotations

import json
import shutil

import pytest
from builders.serving import export_adapter
from loraforge_serve.catalogue.source import Source, read_all

from loraforge import LoraForgeError, RunError


@pytest.fixture
def source(host):
    return Source(host)


def test_an_export_is_asked_with_its_own_template_and_stops(source, exports):
    legal, other = (source.read(exports[name]) for name in ("legal", "other"))
    assert legal.chat.stop_ids == other.chat.stop_ids == (2, 0)
    for version, folder in ((legal, exports["legal"]), (other, exports["other"])):
        golden = json.loads((folder / "golden_prompts.json").read_text(encoding="utf-8"))["prompts"]
        assert [version.chat.prompt(one["messages"]) for one in golden] == [one["ids"] for one in golden]
    assert legal.chat.longest == 512


def test_a_template_that_was_altered_or_never_ends_is_not_served(source, exports, tmp_path, monkeypatch):
    """An export's template is a program of a stranger: it is rendered in a process that is watched."""
    monkeypatch.setattr("loraforge_text.templates.prompting.SECONDS", 1.0)
    for number, (text, words) in enumerate((("{{ 'a' * 9000000000 }}", "memory|seconds"), ("{{ messages }}", "what was trained"))):
        folder = tmp_path / f"evil{number}"
        shutil.copytree(exports["legal"], folder)
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
        with pytest.raises(LoraForgeError, match=words):
            source.read(folder)


def test_all_that_cannot_be_served_is_said_at_once(source, exports, tmp_path, base):
    from builders.tiny_text import make_base

    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    shutil.copytree(exports["legal"], half)
    (half / "chat_template.jinja").unlink()
    stranger = export_adapter(tmp_path / "stranger", make_base(tmp_path / "b", seed=9), 1)
    with pytest.raises(RunError) as caught:
        wanted = [
            exports["legal"],
            tmp_path / "empty",
            half,
            stranger,
            tmp_path / "nothing",
            f"x={exports['legal']}",
            f"base={exports['legal']}",
        ]
        read_all(source, [*map(str, wanted), str(exports["legal"])], lambda version: None)
    for number, words in enumerate(
        ("neither a run nor", "no chat_template.jinja", "another base", "no such folder", "'base'", "one name, 'legal'")
    ):
        assert words in caught.value.problems[number], caught.value.problems
    assert len(caught.value.problems) == 6


def test_a_run_is_served_with_its_seal_and_refused_once_altered(source, tmp_path, base, exports, host):
    """A sealed run, made without training."""
    from loraforge_serve.routes.models import entry

    from loraforge.runs.folder import RunFolder
    from loraforge.runs.seal import seal_run

    run = RunFolder(tmp_path / "law")
    run.start({"base_model": str(base)})
    shutil.copytree(exports["legal"], run.exports / "peft")
    shutil.copytree(exports["legal"], run.adapter)
    facts = json.loads((exports["legal"] / "loraforge.json").read_text(encoding="utf-8"))["facts"]
    manifest = {
        "format": 2,
        "status": "finished",
        "task": "text",
        "family": "causal-lm",
        "config": {"base_model": str(base), "train_data_dir": "x", "output_dir": str(run.path)},
        "template": facts["template"],
        "lineage": [{"run": "/home/me/earlier", "seal": "cd" * 32}],
        "evaluation": {
            "sentence": ["Better than the base.", "Recited: 1 of 9."],
            "comparisons": [
                {
                    "measure": "loss",
                    "rows": 9,
                    "base": 2.0,
                    "adapter": 1.0,
                    "difference": -1.0,
                    "low": -2,
                    "high": -0.5,
                    "verdict": "better",
                }
            ],
        },
        "cautions": ["It can be wrong."],
    }
    seal = seal_run(run, manifest)
    version = source.read(run.path)
    told = entry(version)
    assert (told["id"], told["loraforge"]["seal"], version.folder) == ("law", seal, run.exports / "peft")
    assert told["loraforge"]["facts"]["sentences"] == ["Better than the base.", "Recited: 1 of 9."]
    assert told["loraforge"]["facts"]["caution"] == ["It can be wrong."]
    assert told["loraforge"]["facts"]["lines"][0]["interval"] == [-2, -0.5]
    assert told["loraforge"]["lineage"]["earlier"] == [{"run": "earlier", "seal": "cd" * 32, "started": None}]
    assert source.read(run.exports / "peft").seal == seal, "the export lies in its run"
    with (run.exports / "peft" / "chat_template.jinja").open("a") as file:
        file.write(" ")
    with pytest.raises(RunError, match="altered since it was sealed"):
        source.read(run.path)
    shutil.rmtree(run.exports)
    with pytest.raises(RunError, match="loraforge export"):
        source.read(run.path)
