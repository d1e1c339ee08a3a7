# SPDX-License-Identifier: Apache-2.0
"""How well pictures follow their prompts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from builders.image_checks import scene
from PIL import Image

from loraforge import ModelError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny random CLIP model."""
    import torch
    from builders.tiny_images import make_tokenizer
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip") / "clip"
    size = make_tokenizer(folder)
    torch.manual_seed(0)
    text = {
        "vocab_size": size, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    return folder


def test_scores_are_clips_own_cosines(clip, monkeypatch):
    """Against transformers' own two encoders, two pictures at a time."""
    import torch
    from loraforge_image.evaluation import prompt_adherence
    from loraforge_image.evaluation.prompt_adherence import Scorer
    from transformers import AutoTokenizer, CLIPModel

    monkeypatch.setattr(prompt_adherence, "_AT_ONCE", 2)
    pictures, prompts = [scene(1, (32, 32)), scene(2, (96, 64)), scene(3, (40, 90))], ["a ball", "two red balls on a wall " * 20, "球"]
    scorer = Scorer(str(clip))
    prepared = [scorer.prepare(picture) for picture in pictures]
    found = scorer.score(prepared, prompts)
    assert len(found) == 3
    # The first picture needs no resizing: its tensor can be written down.
    mean, spread = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    wanted = ((np.asarray(pictures[0]) / 255 - mean) / spread).transpose(2, 0, 1)
    assert np.allclose(prepared[0], wanted, atol=1e-6)
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    with torch.no_grad():
        for values, prompt, score in zip(prepared, prompts, found, strict=True):
            words = tokenizer([prompt], truncation=True, max_length=77, return_tensors="pt")
            pixels = torch.from_numpy(values)[None]
            seen = model.visual_projection(model.vision_model(pixels).pooler_output)[0]
            said = model.text_projection(model.text_model(**words).pooler_output)[0]
            assert score == pytest.approx(float(torch.nn.functional.cosine_similarity(seen, said, dim=0)), abs=1e-5)


def test_sixteen_pictures_at_a_time_are_looked_at_where_the_model_is(clip):
    import torch
    from loraforge_image.evaluation.prompt_adherence import Scorer

    scorer, asked, moved = Scorer(str(clip)), [], []

    class Model:
        def to(self, device):
            moved.append(device)

        def __call__(self, **given):
            asked.append((len(given["pixel_values"]), {value.device.type for value in given.values()}))
            ones = torch.ones(len(given["pixel_values"]), 2)
            return SimpleNamespace(image_embeds=ones, text_embeds=ones * torch.tensor([1.0, -1.0]))

    scorer._model, scorer._device = Model(), torch.device("meta")
    assert scorer.score([np.zeros((3, 32, 32), np.float32)] * 35, ["x"] * 35) == [0.0] * 35
    assert asked == [(16, {"meta"}), (16, {"meta"}), (3, {"meta"})] and moved == [torch.device("meta")]


@pytest.mark.parametrize("colours", [{}, {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}])
def test_pictures_are_prepared_as_transformers_prepares_them(clip, tmp_path, colours):
    """Against its own processor that needs no torchvision, which not every release has: the middle of wide and tall pictures."""
    from loraforge_image.evaluation.prompt_adherence import Scorer

    folder = shutil.copytree(clip, tmp_path / "clip")
    if colours:
        (folder / "preprocessor_config.json").write_text(json.dumps(colours), encoding="utf-8")
    scorer = Scorer(str(folder))
    wide = Image.new("RGB", (96, 32), (255, 0, 0))
    wide.paste((0, 0, 255), (32, 0, 64, 32))
    for picture in (wide, wide.transpose(Image.Transpose.ROTATE_90)):
        assert np.array_equal(scorer.prepare(picture), scorer.prepare(Image.new("RGB", (32, 32), (0, 0, 255))))
    theirs = pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil
    processor = theirs(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, **colours)
    for size in ((96, 64), (40, 91), (20, 45), (49, 70)):  # 49 * (32 / 49) is a little less than 32
        wanted = processor(scene(1, size), return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(scorer.prepare(scene(1, size)), wanted, atol=1e-5)


def test_eval_scores_prompts_if_a_scorer_is_named(gallery, paint, command, clip):
    run = paint(gallery(prompt_scorer=str(clip))).run.path
    code, out, err = command("eval", run, "--limit", "8", "--json")
    assert code == 0, err
    figures = json.loads(out)["figures"]
    assert list(figures) == [
        "style distance", "nearer to your pictures", "structure kept", "structure that different prompts share", "shows what the base shows",
        "prompt adherence", "follows its prompts better", "pictures drawn",
    ]  # fmt: skip
    for text in figures["prompt adherence"].values():
        figure, low, high = (float(part.strip("()")) for part in text.replace(" to ", " ").split())
        assert -1 <= low <= figure <= high <= 1
    assert figures["pictures drawn"] == {"base": "8", "adapter": "8"}


def test_where_a_scorer_is(tmp_path, monkeypatch):
    """A folder, with ~ for one's own; otherwise what a hub has: its small files and safetensors, of no revision in particular."""
    from loraforge_image.evaluation import prompt_adherence

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "clip").mkdir()
    assert prompt_adherence._folder("~/clip") == tmp_path / "clip"
    asked = []
    monkeypatch.setattr(prompt_adherence, "fetch_base", lambda *given: asked.append(given) or tmp_path)
    for name in ("org/name", "modelscope:org/name"):
        assert prompt_adherence._folder(name) == tmp_path
        assert asked.pop() == (name, None, ("*.json", "*.safetensors", "*.txt", "*.model"), (), "prompt_scorer")


def test_no_code_that_comes_with_a_scorer_is_run(tmp_path, clip):
    from loraforge_image.evaluation.prompt_adherence import Scorer

    folder = shutil.copytree(clip, tmp_path / "clip")
    file = folder / "tokenizer_config.json"
    named = {**json.loads(file.read_text(encoding="utf-8")), "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    file.write_text(json.dumps(named), encoding="utf-8")
    ran = tmp_path / "ran"
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Mine:\n    pass\n", encoding="utf-8")
    Scorer(str(folder))
    assert not ran.exists()


def test_a_scorer_that_is_none_is_said(tmp_path, clip, monkeypatch):
    import torch
    from loraforge_image.evaluation.prompt_adherence import Scorer

    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside").mkdir()
    Path("inside/file").touch()
    for name in (str(tmp_path / "gone"), "no-such-folder", "./gone", "~nobody/x", "inside/file"):
        with pytest.raises(ModelError, match="prompt_scorer: .*there is no such folder"):
            Scorer(name)
    with pytest.raises(ModelError, match=r"prompt_scorer 'nobody/nothing' from Hugging Face: .*as prompt_scorer"):
        Scorer("nobody/nothing")
    for kind in ("llama", "chinese_clip"):  # behind clip in the alphabet, and before it
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
        with pytest.raises(ModelError, match=f"cannot be loaded as a CLIP model: model_type {kind}. It must be"):
            Scorer(str(tmp_path))
    for text, said in (("first.\nsecond", "first"), ("x" * 299 + "yz", "x" * 299 + "y"), ("", "OSError")):
        with monkeypatch.context() as patch, pytest.raises(ModelError, match=f"as a CLIP model: {said}. It must be"):
            patch.setattr("transformers.AutoTokenizer.from_pretrained", mock.Mock(side_effect=OSError(text)))
            Scorer(str(clip))
    if hasattr(os, "mkfifo"):  # a file that never ends, whoever would read it
        os.mkfifo(shutil.copytree(clip, tmp_path / "endless") / "notes.txt")
        with pytest.raises(ModelError, match="cannot be loaded as a CLIP model"):
            Scorer(str(tmp_path / "endless"))
    broken = shutil.copytree(clip, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    torch.save({}, broken / "pytorch_model.bin")  # a pickle can run code; what it would be loaded as is never asked
    monkeypatch.setattr("torch.load", lambda *given, **options: pytest.fail("a pickle was read"))
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP model"):
        Scorer(str(broken))
