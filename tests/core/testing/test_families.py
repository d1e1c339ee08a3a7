# SPDX-License-Identifier: Apache-2.0
"""check_model_family: the families that are there keep the contract, and one that breaks a promise of recognising and examining is told."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest
from builders import ROOT, everyday
from builders.toy_family import BASE, toy, toy_config, toy_rows

from loraforge import Examination, KeySet, RunConfig
from loraforge.plugin_api.host import PluginHost
from loraforge.testing import check_model_family, check_task, check_template

# --- families that keep it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "pissa"])
def test_a_family_that_keeps_every_promise_passes(variant):
    config, keys = toy_config(lora_variant=variant)
    adapter = check_model_family(toy(), config, keys, toy_rows())
    assert adapter.modules == ("1", "3") and adapter.facts["toy"] is True and adapter.files == {"note.txt": b"small"}


def test_task_template_and_family_of_the_documentation_keep_the_contract(tmp_path):
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    files = []
    for name in ("lines", "toy_bytes"):
        code = re.search(rf"```python\n(# {name}\.py\n.*?)```", page, re.DOTALL)[1]
        files.append(tmp_path / f"{name}.py")
        files[-1].write_text(code, encoding="utf-8")
    host = PluginHost(files, ())
    task, family = host.task("lines"), host.component("loraforge_model_families", "lines", "toy-bytes")
    template = host.component("loraforge_templates", "lines", "whole")
    records = [task.record(text, where=text) for text in ("one line", "and another", "the third of them")]
    check_template(template, records, [task.sampling.ask("a line")])
    check_task(task, records, plugins=[sys.modules[f"loraforge_file_plugin_{file.stem}"] for file in files])
    config = RunConfig(train_data_dir=".", base_model="toy-bytes", learning_rate=0.01)
    check_model_family(family, config, KeySet({RunConfig: config}), [(record, template.render(record)) for record in records])


@pytest.fixture
def text_rows(host):
    """``rows(config)``: the text family with all that it is checked with, on rows of three lengths."""
    from loraforge_text.records import Conversation, TextKeys

    def make(base: str, **values):
        config = RunConfig(train_data_dir=".", base_model=base, lora_rank=4, learning_rate=5e-3, **values)
        keys = KeySet({RunConfig: config, TextKeys: TextKeys()})
        records = [Conversation(f"第{i}问：试用期工资？" * (1 + i % 3), "最长" * i + "六个月。", where=f"row {i}") for i in range(1, 5)]
        template = host.component("loraforge_templates", "text", "auto").prepare(config, keys, records)
        family = host.component("loraforge_model_families", "text", "causal-lm")
        rows = [(record, template.render(record)) for record in records]
        return SimpleNamespace(family=family, config=config, keys=keys, rows=rows, described=template.describe())

    return make


@pytest.mark.slow
@pytest.mark.parametrize("values", [{}, {"lora_variant": "dora", "kernels": "off"}, {"lora_variant": "pissa"}], ids=str)
def test_the_text_family_keeps_the_contract(text_rows, values):
    there = text_rows("tiny-chat", **values)
    adapter = check_model_family(
        there.family, there.config, there.keys, there.rows, settings={"max_tokens": 6}, template=there.described, steps=4
    )
    assert "golden_prompts.json" in adapter.files


@pytest.mark.slow
def test_a_base_with_dropout_of_its_own_is_compared_without(text_rows, tmp_path):
    from builders.tiny_text import make_base

    there = text_rows(str(make_base(tmp_path / "gpt2", architecture="gpt2")))
    check_model_family(there.family, there.config, there.keys, there.rows, settings={"max_tokens": 4}, template=there.described, steps=3)


def pictures_alike(one, other) -> bool:
    """The parameters that are noted in a PNG name the adapter's strength: the pixels count."""
    from PIL import Image

    return Image.open(io.BytesIO(one.data)).tobytes() == Image.open(io.BytesIO(other.data)).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    everyday(
        [
            pytest.param({}, id="plain"),
            pytest.param(
                {"train_text_encoder": True, "conv_rank": 2, "crop": "random", "flip": True, "caption_shuffle": True, "min_snr_gamma": 5},
                id="everything",
            ),
        ],
        0,
    ),
)
def test_the_image_family_keeps_the_contract(host, tmp_path, more):
    from builders.tiny_images import draw_pictures
    from loraforge_image.records import ImageKeys

    draw_pictures(tmp_path / "pictures", 4, sizes=((64, 64), (64, 64), (96, 64)))
    config = RunConfig(train_data_dir=str(tmp_path / "pictures"), base_model="tiny-sd", lora_rank=4, learning_rate=5e-3)
    settings = {"resolution": 64, "bucket_step": 16, "sample_prompts": ["a ball"], "sample_steps": 2, "cache_dir": str(tmp_path / "cache")}
    loader = host.component("loraforge_data_loaders", "image", "pictures")
    keys = KeySet({RunConfig: config, ImageKeys: ImageKeys(**settings, **more), loader.keys: loader.keys()})
    records = list(loader.load(config, keys, lambda text: None))
    template = host.component("loraforge_templates", "image", "caption").prepare(config, keys, records)
    adapter = check_model_family(
        host.component("loraforge_model_families", "image", "sd15"),
        config,
        keys,
        [(record, template.render(record)) for record in records],
        prompts=["a ball"],
        settings={"steps": 2, "size": "64x64"},
        template=template.describe(),
        steps=4,
        same=pictures_alike,
    )
    assert "preview.png" in adapter.files


# --- and that break a promise --------------------------------------------------------------------------------------------------


def imports_torch(self, config, keys, rows):
    import torch

    return Examination(facts={"threads": torch.get_num_threads()})


def brings_torch(self, base_model):
    from loraforge.adapters import lora

    return base_model == BASE and bool(lora)


def prints(self, config, keys, rows):
    print("looking")
    return Examination()


def is_counted(self, config, keys, rows):
    self.calls = getattr(self, "calls", 0) + 1
    return Examination(facts={"calls": self.calls})


def changes_rows(self, config, keys, rows):
    for record, _ in rows:
        object.__setattr__(record, "text", record.text + "!")
    return Examination()


def needs_text(self, config, keys, rows):
    return Examination(facts={"first": [spans[0].text for _, spans in rows]})


BROKEN = {
    "has no help": ({"help": ""}, "needs a text 'help'"),
    "does not know its base": ({"matches": lambda self, base: False}, "matches must be True for its own base, 'toy'"),
    "takes every base": ({"matches": lambda self, base: True}, "matches must be False for a base of somebody else's, 'no-such-base'"),
    "answers with a text": ({"matches": lambda self, base: base and "yes"}, "matches must be True for its own base"),
    "recognises with torch": ({"matches": brings_torch}, "matches must not import torch"),
    "describes with nothing": ({"describe_base": lambda self, base: None}, "describe_base must return a text"),
    "has a range upside down": ({"typical_ranges": lambda self, base: {"learning_rate": (1, 0)}}, "typical_ranges must return .low, high."),
    "names files that are not there": ({"base_files": lambda self, config: [ROOT / "not-there"]}, "base_files must be files that are there"),
    "has a PEFT type that is none": ({"peft_task_type": 1}, "peft_task_type must be a text or None"),
    "examines with torch": ({"examine": imports_torch}, "examine must not import torch"),
    "prints": ({"examine": prints}, "examine must not print.*looking"),
    "examines into a dict": ({"examine": lambda self, config, keys, rows: {}}, "examine must return a loraforge.Examination, not dict"),
    "refuses sound rows": ({"examine": lambda *_: Examination({0: "too long"})}, "examine must find nothing wrong with rows that are sound.*too long"),
    "numbers rows from one": ({"examine": lambda *_: Examination({4: "x"})}, "must be numbered as the rows are, 0 to 3; found .4."),
    "needs a text of every row": ({"examine": needs_text}, "examine must bear a row without text, which its template could not render: IndexError"),
    "counts its calls": ({"examine": is_counted}, "examine must say the same of the same rows"),
    "shows some rows": ({"examine": lambda *_: Examination(shown=[[], []])}, "'shown' must hold every row of an examination or none: 2 of 4"),
    "changes the rows": ({"examine": changes_rows}, "examine must leave the rows as they are"),
    "estimates a number": ({"estimate_memory": lambda *_: 1}, "estimate_memory must return a loraforge.MemoryEstimate, or None"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_family_that_breaks_a_promise_is_told(name):
    import torch  # as in most sessions: what imports it again must be seen all the same

    assert torch
    methods, message = BROKEN[name]
    config, keys = toy_config()
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        check_model_family(toy(**methods), config, keys, toy_rows())


def test_it_asks_for_enough_rows_to_cut():
    config, keys = toy_config()
    with pytest.raises(AssertionError, match="needs three rows or more"):
        check_model_family(toy(), config, keys, toy_rows()[:2])
