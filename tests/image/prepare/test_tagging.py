# SPDX-License-Identifier: Apache-2.0
"""WD taggers: what they are shown, and which tags are written. The model is a graph of two operations made here."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from loraforge_image.prepare.command import prepare
from loraforge_image.prepare.tagging import as_seen
from PIL import Image

from loraforge import ModelError

TAGS = [("general", 9), ("sensitive", 9), ("red_hair", 0), ("blue_eyes", 0), ("^_^", 0), ("1girl", 0), ("hatsune_miku", 4), ("rin", 4)]


def make_tagger(path, weights, side: int = 8):
    """``weights`` (3, tags) of the mean blue, green and red, 0 to 255, before the sigmoid."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.asarray(weights, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "w"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["output"]),
        ],
        "tagger",
        [helper.make_tensor_value_info("input", kind, ["batch", side, side, 3])],
        [helper.make_tensor_value_info("output", kind, ["batch", weights.shape[1]])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    path.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path / "model.onnx")
    lines = [f"{number},{name},{category},100" for number, (name, category) in enumerate(TAGS)]
    (path / "selected_tags.csv").write_text("tag_id,name,category,count\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def logits(red: dict[str, float]) -> np.ndarray:
    """The tags that a wholly red picture has, with their confidence; blue and green say nothing."""
    weights = np.zeros((3, len(TAGS)))
    for number, (name, _) in enumerate(TAGS):
        share = red.get(name, 0.01)
        weights[2, number] = np.log(share / (1 - share)) / 255
    return weights


@pytest.fixture
def red(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (300, 300), (255, 0, 0)).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures"


def tagged(folder, *arguments) -> str:
    result = CliRunner().invoke(prepare, ["image", str(folder), *map(str, arguments), "--overwrite"])
    assert result.exit_code == 0, (result.output, result.exception)
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))["text"]


def test_tags_by_confidence_without_ratings_as_people_write_them(red, tmp_path):
    pytest.importorskip("onnxruntime")
    made = {"general": 0.99, "red_hair": 0.6, "blue_eyes": 0.34, "^_^": 0.7, "1girl": 0.9, "hatsune_miku": 0.5, "rin": 0.3}
    model = make_tagger(tmp_path / "wd", logits(made))
    for options, right in (
        ([], "1girl, ^_^, red hair, hatsune miku"),
        (["--tag-threshold", 0.3], "1girl, ^_^, red hair, hatsune miku, blue eyes"),
        (["--character-threshold", 0.8], "1girl, ^_^, red hair"),
        (["--character-threshold", 0.25, "--undesired-tags", "1girl，Red_Hair"], "^_^, hatsune miku, rin"),
        (["--trigger", "mks"], "mks, 1girl, ^_^, red hair, hatsune miku"),
    ):
        (red / "metadata.csv").unlink(missing_ok=True)
        assert tagged(red, "--captioner", model, *options) == right, options


def test_a_picture_is_shown_as_the_taggers_were_trained_to_see_it():
    """Blue first, 0 to 255, on a white square, in the middle (sd-scripts, tag_images_by_wd14_tagger.py)."""
    image = Image.new("RGB", (40, 20), (200, 100, 50))
    seen = as_seen(image, 40)
    right = np.full((40, 40, 3), 255, dtype=np.float32)
    right[10:30] = (50, 100, 200)
    assert seen.dtype == np.float32 and seen.flags.c_contiguous and (seen == right).all()
    assert (as_seen(image, 20)[5:15] == (50, 100, 200)).all() and as_seen(image, 8).shape == (8, 8, 3)


def test_what_is_no_tagger_is_explained(red, tmp_path, monkeypatch):
    import sys

    def told(*arguments) -> str:
        result = CliRunner().invoke(prepare, ["image", str(red), *map(str, arguments)])
        assert isinstance(result.exception, ModelError), (result.output, result.exception)
        return str(result.exception)

    pytest.importorskip("onnxruntime")
    model = make_tagger(tmp_path / "wd", logits({}))
    assert "is a tagger" in told("--captioner", model, "--caption-prompt", "x")
    with (model / "selected_tags.csv").open("a", encoding="utf-8") as file:
        file.write("99,one_more,0,1\n")
    assert "8 numbers" in told("--captioner", model) and "9 tags" in told("--captioner", model)
    (model / "model.onnx").write_bytes(b"nonsense")
    assert "cannot be loaded as a tagger" in told("--captioner", model)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "loraforge[tagger]" in told("--captioner", model)
