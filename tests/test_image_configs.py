# SPDX-License-Identifier: Apache-2.0
"""The configs that a maker starts from: every line has its advice in two languages, and every key means something to its family. No weights
are needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from loraforge_image.families.fitting import storing
from loraforge_image.records import ImageKeys

from loraforge import RunConfig
from loraforge.config.contradictions import contradictions
from loraforge.config.schema import validate
from loraforge.config.yaml_reader import read

CONFIGS = Path(__file__).parents[1] / "configs"
FAMILIES = {"zimage": "z-image", "flux2-klein": "flux2", "sdxl": "sdxl", "qwen-image": "qwen-image"}


@pytest.fixture(params=FAMILIES)
def config(request):
    """(its path, the name of its family)"""
    return CONFIGS / f"{request.param}.yaml", FAMILIES[request.param]


def test_every_line_says_why_in_chinese_and_english(config):
    lines = config[0].read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20
    for number, line in enumerate(lines, 1):
        said = re.split(r"(?:^|\s)#\s", line, maxsplit=1)[-1] if "# " in line else ""
        chinese, _, english = said.partition("/ ")
        assert re.search("[\u4e00-\u9fff]", chinese), f"line {number} has no advice in Chinese: {line}"
        assert re.search("[a-z]{3}", english) and not re.search("[\u4e00-\u9fff]", english), (
            f"line {number} has no advice in English: {line}"
        )


def test_the_keys_are_right_and_mean_something_to_the_family(config, host):
    path, name = config
    keys = validate(read(path, []), [RunConfig, ImageKeys], paths=False)
    run, mine = keys[RunConfig], keys[ImageKeys]
    assert not contradictions(run)
    assert not [one for one in storing.problems(run, mine) if "bitsandbytes" not in one]
    assert mine.bucket_step % 16 == 0 == mine.resolution % mine.bucket_step and run.lora_alpha <= run.lora_rank
    assert all("mystyle" in prompt for prompt in mine.sample_prompts) and mine.trigger_word == "mystyle"
    assert mine.offload == "blocks" or mine.offload_share == 1
    families = host.components("loraforge_model_families", "image")
    if name not in families:
        pytest.skip(f"the family {name} is not there")
    for key, reason in families[name][0].meaningless().items():
        assert getattr(mine, key) == ImageKeys.model_fields[key].default, f"{key}: {reason}"
