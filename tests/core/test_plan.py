# SPDX-License-Identifier: Apache-2.0
"""Where the messages of a plan say that something is wrong."""

from __future__ import annotations

import pytest

from loraforge import ConfigError, DataError
from loraforge.plan import located, make_plan
from loraforge.plugin_api.host import PluginHost

HOST = PluginHost(blocked=())
BASE = "base_model: tiny-sd\ntrain_data_dir: .\n"


def told(path, text):
    path.write_text(BASE + text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        make_plan(HOST, "image", path)
    return [problem.replace(str(path), "c.yaml") for problem in error.value.problems]


@pytest.mark.parametrize(
    ("text", "place"),
    [("lora_variant: dora\nexport: [webui]\n", "c.yaml:4: export: "), ("export: [diffusers]\nlora_variant: dora\n", "c.yaml:3: export: "),
     ("\nlora_variant: dora\n", "c.yaml:4: export: "), ("lora_target: 'q,v'\ntrain_text_encoder: true\n", "c.yaml:3: export: "),
     ("use_dora: true\n", "c.yaml:3: export: "), ("epochs: 2\noutput_name: a:b\n", "c.yaml:4: output_name: ")],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_refused_exports_stand_at_their_line_or_at_that_of_their_reason(tmp_path, text, place, language, monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", language)
    [problem] = told(tmp_path / "c.yaml", text)
    assert problem.replace("：", ": ").startswith(place)


def test_a_reason_that_names_no_written_key_stands_at_the_file(tmp_path, monkeypatch):
    from loraforge_image.export.webui import WebuiExporter

    monkeypatch.setattr(WebuiExporter, "refuses", lambda *_: "export: not today.")
    assert told(tmp_path / "c.yaml", "") == ["c.yaml: export: not today."]


@pytest.mark.parametrize(
    ("problem", "place"),
    [("export: webui, because of lora_variant: dora", "c.yaml:3: "), ("resolution: must not be smaller than bucket_step (64).", "c.yaml:4: "),
     ("bucket_step：太大", "c.yaml:4: "), ("data.csv, row 3: 'output' is empty.", ""), ("seed 3: lora_variant: x", ""), ("nothing of it: lora_variant: x", "")],
)  # fmt: skip
def test_what_shows_later_is_placed_where_it_begins_with_a_key(tmp_path, problem, place):
    file = tmp_path / "c.yaml"
    file.write_text(f"{BASE}lora_variant: lora\nbucket_step: 32\n", encoding="utf-8")
    plan = make_plan(HOST, "image", file)
    with pytest.raises(DataError) as error, located(plan):
        raise DataError(problem)
    assert error.value.problems[0].replace(str(file), "c.yaml") == place + problem


def test_a_base_that_is_gone_is_named_where_paths_are_not_looked_up(host, project, tmp_path):
    with pytest.raises(ConfigError, match="base_model: there is no"):
        make_plan(host, "text", project(base_model=str(tmp_path / "gone")), paths=False)
