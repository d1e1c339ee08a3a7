# SPDX-License-Identifier: Apache-2.0
"""Pictures that look alike stand on one side of the split."""

from __future__ import annotations

import itertools
from pathlib import Path

from builders import ROOT
from builders.drawings import ORANGE, PURPLE, cat, cropped
from builders.image_checks import row, rows, run_check, shipped
from loraforge_image.data import perceptual_hash
from loraforge_image.records import Picture
from loraforge_image.task import IMAGE
from PIL import Image

from loraforge.data import splitting
from loraforge.plan import make_plan


def variants(image: Image.Image, folder: Path) -> list[Path]:
    saved = {
        "q90.jpg": (image, {"quality": 90}),
        "q30.jpg": (image, {"quality": 30}),
        "q50.webp": (image, {"quality": 50}),
        "half.png": (image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS), {}),
        "third.jpg": (image.resize((image.width // 3, image.height // 3), Image.Resampling.BICUBIC), {"quality": 70}),
        "double.jpg": (image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC), {"quality": 85}),
    }
    for name, (made, options) in saved.items():
        made.save(folder / name, **options)
    return [folder / name for name in saved]


def test_a_copy_always_lands_on_the_side_of_its_original(tmp_path):
    """24 of the shipped pictures, each with six copies, in one split: 168 rows, 24 clusters, no leak."""
    originals = shipped()[:24]
    data = list(originals)
    for one in originals:
        folder = tmp_path / Path(one.path).stem
        folder.mkdir()
        data += [row(None, path, "another caption") for path in variants(Image.open(one.path).convert("RGB"), folder)]
    fingerprints = [IMAGE.fingerprint(one) for one in data]
    parted = splitting.split(fingerprints, 0.3)
    assert len(set(parted.groups)) == 24 and parted.leaks == ()
    assert {splitting.LEARNED, splitting.HELD_OUT} == set(parted.sides)
    for i in range(24):
        assert {parted.sides[24 + 6 * i + k] for k in range(6)} == {parted.sides[i]}


def test_the_shipped_pictures_are_64_of_their_own():
    seen = [perceptual_hash.picture_info(one.path) for one in shipped()]
    closest = min(a.distance(b) for a, b in itertools.combinations(seen, 2))
    assert closest == 12
    assert len(set(splitting.split([IMAGE.fingerprint(one) for one in shipped()], 0.15).groups)) == 64


def test_a_mirrored_picture_is_the_same_where_it_is_learned_mirrored(tmp_path):
    """Drawn by Pillow's own mirror, saved as JPEG; of the shipped pictures none is another's mirror image."""
    from dataclasses import replace

    from PIL import ImageOps

    data = []
    for i, one in enumerate(shipped()[:24]):
        with Image.open(one.path) as picture:
            ImageOps.mirror(picture.convert("RGB")).save(tmp_path / f"{i}.jpg", quality=92)
        data.append(row(None, tmp_path / f"{i}.jpg", one.caption))
    whole = [*shipped()[:24], *data]
    assert len(set(splitting.split([IMAGE.fingerprint(one) for one in whole], 0.3).groups)) == 48
    flipped = [replace(one, mirrored=True) for one in whole]
    assert splitting.split([IMAGE.fingerprint(one) for one in flipped], 0.3).groups == (*range(24), *range(24))
    assert run_check("duplicates", whole, flip=False) == []
    found = run_check("duplicates", whole, flip=True)
    assert [f.rows for f in found] == [(24 + i, i) for i in range(24)] and "mirror image" in found[0].message


def test_crops_stand_together_and_other_colours_and_proportions_do_not(tmp_path):
    blue = cat()
    images = [
        blue,
        cropped(blue, left=0.1),
        cropped(blue, top=0.08, right=0.06),
        cat(ORANGE),
        cat(PURPLE, size=(320, 420)),
        cat(pose="lies"),
    ]
    fingerprints = [IMAGE.fingerprint(row(image, tmp_path / f"{i}.png")) for i, image in enumerate(images)]
    assert splitting.split(fingerprints, 0.3).groups == (0, 0, 0, 3, 4, 5)


def test_mirrored_copies_stand_on_one_side_of_a_run_with_flip(tmp_path, gallery, host):
    """From the folder to the sides: each of twelve drawings has a mirrored, a cropped and a mirrored and cropped copy."""
    from PIL import ImageOps

    from loraforge.data.dataset import load_data

    folder = tmp_path / "mirrored"
    folder.mkdir()
    for i, one in enumerate(shipped()[:12]):
        with Image.open(one.path) as file:
            image = file.convert("RGB")
        for kind, copy in (("a", image), ("b", ImageOps.mirror(image)), ("c", cropped(image, left=0.08)),
                           ("d", cropped(ImageOps.mirror(image), top=0.06, right=0.06))):  # fmt: skip
            copy.save(folder / f"{i:02d}{kind}.jpg", quality=92)
            (folder / f"{i:02d}{kind}.txt").write_text(f"drawing {i} {kind}", encoding="utf-8")
    for flip, together in ((True, 1), (False, 2)):
        data = load_data(make_plan(host, "image", gallery(train_data_dir=str(folder), flip=flip, eval_ratio=0.4)))
        held = {data.records[row].where[:3] for row in data.pick(True)}
        learned = {data.records[row].where[:3] for row in data.pick(False)}
        assert held and learned and len(held | learned) == 48
        apart = [i for i in range(12) if len({f"{i:02d}{kind}" in held for kind in "abcd"}) == 2]
        assert all(len({f"{i:02d}{kind}" in held for kind in pair}) == 1 for i in range(12) for pair in ("ac", "bd"))
        assert (apart == []) is (together == 1)


def test_the_side_is_the_files_and_not_the_captions(tmp_path):
    data = rows(tmp_path, *(f"scene {i}" for i in range(12)))
    mended = [row(None, Path(one.path), "something else") for one in data]
    assert [IMAGE.fingerprint(one) for one in data] == [IMAGE.fingerprint(one) for one in mended]
    assert data[0].content_hash() != mended[0].content_hash()


def test_prior_pictures_and_bare_prompts_have_a_fingerprint(tmp_path):
    [prior] = rows(tmp_path, "", prior=True)
    assert IMAGE.fingerprint(prior).key == prior.sha256 and len(IMAGE.fingerprint(prior).features) == 64
    one, same, other = IMAGE.sampling.ask("a ball"), IMAGE.sampling.ask("a ball"), IMAGE.sampling.ask("a wall")
    assert IMAGE.fingerprint(one) == IMAGE.fingerprint(same) != IMAGE.fingerprint(other) and IMAGE.fingerprint(one).features
    assert IMAGE.fingerprint(Picture(str(tmp_path / "gone.png"), "x", "abc", where="x")).features == {"abc"}


def test_the_cyberpunk_config_holds_out_a_few(host, monkeypatch):
    from loraforge.data import dataset

    monkeypatch.chdir(ROOT)
    data = dataset.load_data(make_plan(host, "image", ROOT / "configs" / "cyberpunk.yaml"))
    assert 8 <= len(data.pick(True)) <= 12 and len(data.pick(True)) + len(data.pick(False)) == 64
    assert data.found == ()
