# SPDX-License-Identifier: Apache-2.0
"""The models behind ``--captioner``, each made here: tiny, random, and of the real classes."""

from __future__ import annotations

import pytest
from builders.prepared import call, kinds, rows, scene
from click.testing import CliRunner
from loraforge_image.prepare.command import prepare
from PIL import Image

from loraforge import ModelError


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """A tiny random BLIP whose vocabulary is sixty words."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    path = tmp_path_factory.mktemp("models") / "blip"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *(f"word{i}" for i in range(60))]
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizer(str(path / "vocab.txt"), additional_special_tokens=["[DEC]"])
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={
            **size,
            "vocab_size": len(words),
            "encoder_hidden_size": 16,
            "bos_token_id": 5,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "pad_token_id": 0,
        },
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(path)
    BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(path)
    return path


def test_the_captioner_describes_only_what_has_no_caption(folder, blip):
    for i, name in enumerate("ab"):
        scene(i).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("mine", encoding="utf-8")
    call(folder, "--captioner", blip, "--trigger", "mks")
    table = rows(folder / "metadata.csv")
    assert table["a.png"]["text"] == "mks, mine"
    assert table["b.png"]["text"].startswith("mks, word") and "[" not in table["b.png"]["text"]
    assert "no_caption" not in kinds(folder).get("b.png", set())


def test_a_captioner_that_cannot_be_used_is_explained(folder, tmp_path, blip):
    scene(1).save(folder / "a.png")
    assert "no such folder" in call(folder, "--captioner", tmp_path / "none", fails=ModelError)
    (tmp_path / "empty").mkdir()
    assert "image-to-text" in call(folder, "--captioner", tmp_path / "empty", fails=ModelError)
    assert "nobody/nothing" in call(folder, "--captioner", "nobody/nothing", fails=ModelError)
    import shutil

    import torch

    shutil.copytree(blip, tmp_path / "pickle")
    (tmp_path / "pickle" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pickle" / "pytorch_model.bin")
    assert "safetensors" in call(folder, "--captioner", tmp_path / "pickle", fails=ModelError)
    assert not (folder / "metadata.csv").exists()


LIST = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}ASSISTANT:{% if enable_thinking is not defined or enable_thinking %} <think>{% endif %}"
)
TEXT = "{% for m in messages %}USER: <image> {{ m['content'] | trim }} {% endfor %}ASSISTANT:"
PLAIN = "{% for m in messages %}USER: {{ m['content'] | trim }} {% endfor %}ASSISTANT:"


def make_llava(path, template: str):
    """A tiny random Llava, which is what JoyCaption is, with a vocabulary of words."""
    import tokenizers
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "USER:", "ASSISTANT:", "Name", "it", *(f"word{i}" for i in range(40))]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=["<image>"], **special)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=28, patch_size=14, projection_dim=16).to_dict(),
        text_config=LlamaConfig(**size, vocab_size=len(words), bos_token_id=1, eos_token_id=2, pad_token_id=3).to_dict(),
        image_token_index=4,
        image_token_id=4,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(path)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        pixels, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=template
    ).save_pretrained(path)
    return path


@pytest.mark.parametrize("template", [LIST, TEXT, PLAIN], ids=["parts", "text", "no picture"])
def test_a_chat_model_is_asked_in_its_template_and_its_answer_alone_is_kept(folder, tmp_path, template):
    """What Llava itself generates for the prompt written out by hand, without the prompt."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    make_llava(tmp_path / "llava", template)
    scene(1).save(folder / "a.png")
    told = call(folder, "--captioner", tmp_path / "llava", "--caption-prompt", "Name it", "--caption-tokens", 9, "--trigger", "mks")
    processor = AutoProcessor.from_pretrained(tmp_path / "llava")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "llava")
    inputs = processor(text=["USER: <image> Name it ASSISTANT:"], images=[scene(1)], return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=9, do_sample=False)
    right = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    assert rows(folder / "metadata.csv")["a.png"]["text"] == f"mks, {right}" and "word" in right and "USER" not in right
    assert "1 caption ends at the limit of 9 tokens" in " ".join(told.split())


def test_a_package_that_a_processor_needs_is_named(folder, blip, monkeypatch):
    """As transformers says it of Qwen-VL's, which takes its video half from torchvision."""
    from transformers import AutoProcessor

    def refuse(*given, **named):
        raise ImportError("\nQwen2VLVideoProcessor requires the Torchvision library but it was not found in your environment.")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", refuse)
    scene(1).save(folder / "a.png")
    assert "pip install torchvision" in call(folder, "--captioner", blip, fails=ModelError)


def test_thoughts_are_left_out_and_pictures_are_not_larger_than_needed():
    from loraforge_image.prepare.captioners import _THOUGHTS, _smaller

    assert _THOUGHTS.sub("", "<think>it may be\na cat</think> a cat") == " a cat" and _THOUGHTS.sub("", "a cat") == "a cat"
    assert _smaller(Image.new("RGB", (400, 300))).size == (400, 300)
    width, height = _smaller(Image.new("RGB", (6000, 3000))).size
    assert abs(width * height / 1280**2 - 1) < 0.01 and abs(width / height - 2) < 0.01


def test_options_that_a_model_has_no_use_for_are_refused(folder, blip, tmp_path):
    scene(1).save(folder / "a.png")
    assert "no chat model" in call(folder, "--captioner", blip, "--caption-prompt", "x", fails=ModelError)
    assert "no tagger" in call(folder, "--captioner", blip, "--undesired-tags", "x", fails=ModelError)
    result = CliRunner().invoke(prepare, ["image", str(folder), "--caption-tokens", "20"])
    assert result.exit_code == 2 and "--caption-tokens" in result.output and not (folder / "metadata.csv").exists()


@pytest.mark.parametrize("again", ["--captioner alone", "with the trigger", "findings.csv is gone"])
def test_what_an_earlier_call_left_without_a_caption_is_described_later(folder, blip, again):
    """The text that is the trigger word alone is no caption; one that somebody wrote stays, and the word stays in front."""
    for i, name in enumerate("abcd"):
        scene(i).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("mine", encoding="utf-8")
    call(folder, "--trigger", "mks")
    file = folder / "metadata.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("d.png,mks,", 'd.png,"a red door, mks",'), encoding="utf-8")
    assert [row["text"] for row in rows(file).values()] == ["mks, mine", "mks", "mks", "a red door, mks"]
    if again == "findings.csv is gone":
        (folder / "findings.csv").unlink()
    call(folder, "--captioner", blip, "--overwrite", *(["--trigger", "mks"] if again == "with the trigger" else []))
    texts = [row["text"] for row in rows(file).values()]
    assert texts[0] == "mks, mine" and "a red door, mks" in texts[3]
    assert all(text.startswith("mks, word") for text in texts[1:3])
    assert "written nothing" in call(folder, "--captioner", blip, "--overwrite")


def test_the_message_names_the_option_and_not_a_key(folder, tmp_path, monkeypatch):
    scene(1).save(folder / "a.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("nobody/nothing", "models/joycaption", "./joy", "joy", "modelscope:a:b"):
        told = call(folder, "--captioner", name, fails=ModelError)
        assert "--captioner" in told and "base_model" not in told, name
    assert "no such folder" in call(folder, "--captioner", "models/joycaption", fails=ModelError)
