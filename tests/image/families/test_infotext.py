# SPDX-License-Identifier: Apache-2.0
"""What the WebUIs read in a PNG of ours, by A1111's own rule (modules/infotext_utils.py), written anew from its description."""

from __future__ import annotations

import io
import json
import re

import pytest
from loraforge_image.families.infotext import Called, Drawn, called, quoted, renamed
from PIL import Image

from loraforge import ConfigError, __version__, load_run
from loraforge.plan import make_plan

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def as_a1111_reads(text: str) -> tuple[str, str, dict[str, str]]:
    """(prompt, negative prompt, settings): the last line is settings only if it holds three pairs or more."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    sides: list[list[str]] = [[], []]
    negative = False
    for line in lines:
        if line.strip().startswith("Negative prompt:"):
            negative, line = True, line.strip()[len("Negative prompt:") :]
        sides[negative].append(line.strip())
    settings = {name: json.loads(value) if value.startswith('"') else value for name, value in pairs}
    return "\n".join(sides[0]), "\n".join(sides[1]), settings


def drawn(**values) -> Drawn:
    usual = {"prompt": "a ball", "negative": "", "steps": 20, "sampler": "DDIM", "cfg": 7.0, "seed": 3, "size": (64, 96), "model": "sd15"}
    return Drawn(**{**usual, **values})


@pytest.mark.parametrize(
    "prompt", ["a ball", "1girl, red hair: (long:1.2)", "霓虹街道，三座房子", 'a "quoted" word', "two\nlines", "Steps: 3, not: really"]
)
@pytest.mark.parametrize("negative", ["", "blurry, text: none", "模糊"])
def test_prompt_and_settings_come_back_as_they_were(prompt, negative):
    text = drawn(
        prompt=prompt,
        negative=negative,
        model='my, model: "v2"',
        model_sha256="ab" * 32,
        clip_skip=2,
        loras=[(Called("neon", "c" * 64), 0.8), (Called("b"), 1.0)],
    ).infotext()
    found, without, settings = as_a1111_reads(text)
    assert found == f"{prompt} <lora:neon:0.8> <lora:b:1>" and without == negative
    assert settings == {
        "Steps": "20", "Sampler": "DDIM", "CFG scale": "7", "Seed": "3", "Size": "64x96", "Model hash": "ababababab",
        "Model": 'my, model: "v2"', "Clip skip": "2", "Lora hashes": f"neon: {'c' * 12}", "Version": f"LoRAForge {__version__}",
    }  # fmt: skip


def test_what_is_not_known_is_not_written():
    assert set(as_a1111_reads(drawn().infotext())[2]) == {"Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Version"}


@pytest.mark.parametrize(("value", "written"), [("plain", "plain"), ("a, b", '"a, b"'), ("a: b", '"a: b"'), ("霓，虹", "霓，虹"), (7, "7")])
def test_values_are_quoted_as_a1111_does(value, written):
    assert quoted(value) == written


def test_a_file_gives_the_picture_its_name_and_hash_afterwards():
    text = renamed(drawn(loras=[(Called("run"), 1.0)]).infotext(), Called("neon_v2", "d" * 64))
    prompt, _, settings = as_a1111_reads(text)
    assert prompt == "a ball <lora:neon_v2:1>" and settings["Lora hashes"] == f"neon_v2: {'d' * 12}" and settings["Steps"] == "20"
    assert renamed(text, Called("neon_v2", "d" * 64)) == text and renamed("no lora here", Called("x")) == "no lora here"


PROMPTS = ["a ball --n blue, red --w 70 --h 100 --d 9 --l 3.5 --s 3", "a ball", "two -- dashes --S 1 --W 32 --h 64", "蓝色的球 --d 1"]
PROMPTS[2] = PROMPTS[2].replace("--W 32", "--W 64")


@pytest.fixture
def run(gallery, paint, host):
    values = {"sample_prompts": PROMPTS, "sample_negative": "grey", "sample_seed": 50, "sample_cfg": 4.0, "max_steps": 2}
    values |= {"epochs": 9, "save_steps": 1, "save_total_limit": 1, "adapter_from": "last", "export_at_saves": True}
    return paint(gallery(**values, export=["webui"], output_name="neon_v2")).run


def parameters(file) -> str:
    with Image.open(file) as picture:
        return picture.text["parameters"]


def saved_at_every_save(run, exported):
    """Of a checkpoint that is gone too; the last save's weights are those of the export, and no half-written file is left."""
    from safetensors import safe_open

    place = run.path / "saves" / "webui"
    assert sorted(path.name for path in place.iterdir()) == [
        f"neon_v2-00000{step}{end}" for step in (1, 2) for end in (".json", ".png", ".safetensors")
    ]
    files = {path.stem: safe_open(path, "pt") for path in [exported, *place.glob("*.safetensors")]}
    assert {stem: file.metadata()["ss_output_name"] for stem, file in files.items()} == {stem: stem for stem in files}
    first, last, final = (files[f"neon_v2{mark}"] for mark in ("-000001", "-000002", ""))
    same = [{bool((one.get_tensor(name) == final.get_tensor(name)).all()) for name in final.keys()} for one in (first, last)]  # noqa: SIM118
    assert False in same[0] and same[1] == {True} and first.metadata()["ss_steps"] == "1"
    assert as_a1111_reads(parameters(place / "neon_v2-000001.png"))[0].endswith("<lora:neon_v2-000001:1>")


def test_sample_pictures_have_settings_of_their_own_and_say_them(run, host, tmp_path):
    place = run.samples / "step-000002"
    names = sorted(path.name for path in place.iterdir())
    assert names == ["01-a-ball.png", "02-a-ball.png", "03-two-dashes.png", "04-蓝色的球.png"]
    read = [as_a1111_reads(parameters(place / name)) for name in names]
    assert [one[0] for one in read] == [f"{words} <lora:neon_v2:1>" for words in ("a ball", "a ball", "two -- dashes", "蓝色的球")]
    assert [one[1] for one in read] == ["blue, red", "grey", "grey", "grey"]
    told = [{key: one[2][key] for key in ("Steps", "CFG scale", "Seed", "Size")} for one in read]
    assert told[0] == {"Steps": "3", "CFG scale": "3.5", "Seed": "9", "Size": "64x96"}
    assert told[1] == {"Steps": "2", "CFG scale": "4", "Seed": "51", "Size": "64x64"} and told[2]["Steps"] == "1" and told[3]["Seed"] == "1"
    sizes = [Image.open(place / name).size for name in names]
    assert sizes == [(64, 96), (64, 64), (64, 64), (64, 64)] and (run.samples / "grid.png").is_file()
    base, _, _ = as_a1111_reads(parameters(run.samples / "step-000000" / "01-a-ball.png"))
    assert base == "a ball"  # drawn without the LoRA
    # The exported preview names the file that it lies beside, and its hash.
    file = run.exports / "webui" / "neon_v2.safetensors"
    header = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
    digest = header["__metadata__"]["sshs_model_hash"]
    prompt, _, settings = as_a1111_reads(parameters(file.with_suffix(".png")))
    assert prompt.endswith("<lora:neon_v2:1>") and settings["Lora hashes"] == f"neon_v2: {digest[:12]}"
    saved_at_every_save(run, file)
    # `sample` names the exported file, not the run's folder, and draws what the settings say.
    opened = load_run(host, run.path)
    model = opened.inference_model(adapters := opened.adapters())
    name = next(iter(adapters))
    (answer,) = model.generate(["a ball"], {name: 1.0}, negative="blue, red", size="64x96", seed=9, cfg=3.5, steps=3)
    prompt, without, settings = as_a1111_reads(parameters(io.BytesIO(answer.data)))
    assert (prompt, without) == ("a ball <lora:neon_v2:1>", "blue, red") and settings["Lora hashes"] == f"neon_v2: {digest[:12]}"
    import numpy as np

    again, before = (np.asarray(Image.open(file).convert("RGB")).astype(int) for file in (io.BytesIO(answer.data), place / names[0]))
    assert np.abs(again - before).max() <= 2
    checkpoint = opened.adapters([run.checkpoint(2)])
    assert called(next(iter(checkpoint.values()))) == Called("neon_v2")  # another file than the one that was exported, maybe


@pytest.mark.parametrize(
    ("entry", "said"),
    [("a --x 3", "there is no flag --x; there are: --n negative"), ("a --w wide", "--w wants a number; got 'wide'"), ("a --s 0", "--s must be from 1 to 200; got 0"),
     ("a --d -1", "--d must be from 0 to 4294967295"), ("a --l nan", "--l must be from 1 to 30"), ("--n b", "there is no prompt before the flags"), ("a --s 3 --s 4", "--s is given twice")],
)  # fmt: skip
def test_a_flag_that_is_wrong_is_told_with_its_entry_by_check(entry, said, gallery, host):
    with pytest.raises(ConfigError, match=re.escape(f"entry 2 ('{entry}'): {said}")):
        make_plan(host, "image", gallery(sample_prompts=["fine", entry]))


def test_a_size_that_is_rounded_is_said_by_check(gallery, command):
    code, out, _ = command("check", "image", gallery(sample_prompts=["a --w 70 --h 100", "b --w 64", "c"]))
    assert code == 0 and "sample_prompts, entry 1: 70x100 is drawn as 64x96, in multiples of" in out and "entry 2" not in out
