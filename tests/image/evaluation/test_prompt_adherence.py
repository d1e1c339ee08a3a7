"""How well pictures follow their prompts."""

from __future__ import annotations

import json
import shutil

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
        "style distance", "nearer to your pictures", "prompt adherence", "follows its prompts better", "pictures drawn",
    ]  # fmt: skip
    for text in figures["prompt adherence"].values():
        figure, low, high = (float(part.strip("()")) for part in text.replace(" to ", " ").split())
        assert -1 <= low <= figure <= high <= 1
    assert figures["pictures drawn"] == {"base": "8", "adapter": "8"}


def test_a_scorer_that_is_none_is_said(tmp_path, clip, monkeypatch):
    import torch
    from loraforge_image.evaluation.prompt_adherence import Scorer

    for name in (str(tmp_path / "gone"), "no-such-folder"):
        with pytest.raises(ModelError, match="prompt_scorer: .*there is no such folder"):
            Scorer(name)
    with pytest.raises(ModelError, match=r"prompt_scorer: nobody/nothing: .*"):
        Scorer("nobody/nothing")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP model: model_type llama"):
        Scorer(str(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(ModelError, match="as a CLIP model: first. It must be"):
        patch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *given, **options: exec("raise OSError('first.\\nsecond')"))
        Scorer(str(clip))
    broken = shutil.copytree(clip, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    torch.save({}, broken / "pytorch_model.bin")  # a pickle can run code; what it would be loaded as is never asked
    monkeypatch.setattr("torch.load", lambda *given, **options: pytest.fail("a pickle was read"))
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP model"):
        Scorer(str(broken))
