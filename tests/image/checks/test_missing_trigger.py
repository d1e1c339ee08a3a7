"""What the image checks find and leave alone, which pictures stand on one side of the split, who reviewed them, and how they are judged."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from loraforge_image.checks import checks
from loraforge_image.checks.missing_trigger import edits, misspelt
from loraforge_image.data import perceptual_hash
from loraforge_image.data.picture_loader import PictureKeys, PictureLoader
from loraforge_image.data.pictures import read_picture
from loraforge_image.data.vision import BLURRED, sharpness
from loraforge_image.evaluation import style_distance
from loraforge_image.records import ImageKeys, Picture
from loraforge_image.task import IMAGE
from PIL import Image, ImageFilter

from loraforge import DataError, Finding, KeySet, ModelError, Review, RunConfig
from loraforge.data import similarity, splitting
from loraforge.plan import make_plan

ROOT = Path(__file__).parent.parent.parent
CYBERPUNK = ROOT / "configs" / "data" / "cyberpunk"
CHECKS = {check.name: check for check in checks()}


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture like no other: soft patches of colour with grain."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(-30, 31, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(patches).astype(int) + grain).clip(0, 255).astype(np.uint8))


def rows(folder: Path, *captions: str, **more) -> list[Picture]:
    """A scene of its own for each caption."""
    return [row(scene(i), folder / f"scene-{i}.png", caption, **more) for i, caption in enumerate(captions)]


def row(image: Image.Image | None, path: Path, caption: str = "a thing", **more) -> Picture:
    import hashlib

    if image is not None:
        image.save(path)
    return Picture(str(path), caption, hashlib.sha256(path.read_bytes()).hexdigest(), where=path.name, **more)


def run_check(name: str, data: list[Picture], template: str = "auto", **keys) -> list[Finding]:
    config = RunConfig(train_data_dir="x", base_model="x", prompt_template=template)
    return list(CHECKS[name].run(config, KeySet({RunConfig: config, ImageKeys: ImageKeys(**keys)}), data))


def severity(name: str, finding: Finding) -> str:
    return finding.severity or CHECKS[name].severity


def shipped() -> list[Picture]:
    config = RunConfig(train_data_dir=str(CYBERPUNK), base_model="x")
    keys = KeySet({RunConfig: config, PictureKeys: PictureKeys(), ImageKeys: ImageKeys(trigger_word="cyberpunk style")})
    return list(PictureLoader().load(config, keys, lambda text: None))


# --- the shipped data, speed, weight -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CHECKS))
def test_the_shipped_pictures_have_no_finding(name):
    data = shipped()
    assert len(data) == 24 and run_check(name, data, trigger_word="cyberpunk style", resolution=128, bucket_step=32) == []


def test_the_checks_are_part_of_the_task(host):
    assert set(host.components("loraforge_checks", "image")) == set(CHECKS)
    assert {check.task for check in CHECKS.values()} == {"image"}


def test_a_picture_is_decoded_once_for_checks_split_and_buckets(tmp_path, gallery, host, monkeypatch):
    from loraforge.data import dataset

    decoded: list[str] = []
    real = perceptual_hash.read_whole
    monkeypatch.setattr(
        "loraforge_image.data.perceptual_hash.read_whole", lambda path, least=0: (decoded.append(str(path)), real(path, least))[1]
    )
    config = gallery()
    dataset.load_data(make_plan(host, "image", config))
    assert len(decoded) == 6
    dataset.load_data(make_plan(host, "image", config))
    assert len(decoded) == 6
    scene(1).save(tmp_path / "pictures" / "0.png")
    dataset.load_data(make_plan(host, "image", config))
    assert len(decoded) == 7


def test_a_large_jpeg_is_decoded_small_and_measured_the_same(tmp_path):
    path = tmp_path / "large.jpg"
    scene(3, (4000, 3000)).save(path, quality=90)
    started = time.process_time()
    seen = perceptual_hash.picture_info(str(path))
    quick = time.process_time() - started
    started = time.process_time()
    whole = read_picture(path)
    slow = time.process_time() - started
    assert (seen.width, seen.height) == whole.size == (4000, 3000)
    # Whether 4 or 16 pixels are averaged before the hash changes next to nothing.
    reference = tmp_path / "large.png"
    whole.save(reference, compress_level=1)
    assert seen.distance(perceptual_hash.picture_info(str(reference))) <= 2
    assert seen.sharpness == pytest.approx(sharpness(whole), rel=0.15)
    assert quick < 2 * slow


def test_a_phones_picture_has_its_size_the_right_way_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(1, (320, 240)).save(tmp_path / "a.jpg", exif=exif)
    seen = perceptual_hash.picture_info(str(tmp_path / "a.jpg"))
    assert (seen.width, seen.height) == (240, 320) and not seen.problem


def test_a_damaged_picture_is_a_problem_and_no_finding(tmp_path):
    for suffix in ("jpg", "png"):
        path = tmp_path / f"cut.{suffix}"
        scene(1, (2000, 1500)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "damaged" in perceptual_hash.picture_info(str(path)).problem
    data = [row(None, tmp_path / "cut.jpg"), row(None, tmp_path / "cut.png")]
    assert [f for name in ("duplicates", "blur", "small", "personal_data") for f in run_check(name, data)] == []
    assert IMAGE.fingerprint is not None and IMAGE.fingerprint(data[0]) != IMAGE.fingerprint(data[1])


def test_two_hundred_pictures_are_quick(tmp_path):
    for i in range(200):
        scene(i, (640, 480)).save(tmp_path / f"{i}.jpg")
    data = [row(None, tmp_path / f"{i}.jpg", f"a scene with {i} patches") for i in range(200)]
    started = time.process_time()
    found = [f for name in CHECKS for f in run_check(name, data)]
    assert time.process_time() - started < 12, "1,000 in a minute on one core"
    assert found == []


def test_no_check_imports_torch():
    code = (
        "import sys\nfrom loraforge_image.checks import checks\nfrom loraforge_image.task import IMAGE\n"
        "from loraforge_image.data.perceptual_hash import picture_info\n"
        f"picture_info({str(CYBERPUNK / 'neon-01.png')!r})\nchecks()\nassert not {{'torch', 'transformers'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- duplicates --------------------------------------------------------------------------------------------------------------------


def test_the_same_pixels_are_a_warning_in_any_format(tmp_path):
    image = scene(1)
    data = [row(image, tmp_path / "a.png"), row(scene(2), tmp_path / "b.png"), row(image, tmp_path / "c.bmp")]
    shutil.copy(tmp_path / "a.png", tmp_path / "d.png")
    data.append(row(None, tmp_path / "d.png"))
    found = run_check("duplicates", data)
    assert sorted(f.rows for f in found) == [(2, 0), (3, 0)]
    assert all("the same picture as that of a.png" in f.message and severity("duplicates", f) == "warning" for f in found)
    assert all("captions differ" not in f.message for f in found)


@pytest.mark.parametrize("change", ["jpeg", "webp", "half", "double"])
def test_a_copy_saved_again_is_a_warning_with_its_distance(tmp_path, change):
    image = scene(5)
    copy = {"half": image.resize((160, 120)), "double": image.resize((640, 480))}.get(change, image)
    path = tmp_path / {"jpeg": "b.jpg", "webp": "b.webp"}.get(change, "b.png")
    [found] = run_check("duplicates", [row(image, tmp_path / "a.png", "red patches"), row(copy, path, "blue patches")])
    assert found.rows == (1, 0) and severity("duplicates", found) == "warning" and found.excerpt == path.name
    assert "0 of the 64 bits" in found.message or "2 of the 64 bits" in found.message
    assert "Their captions differ" in found.message


def test_an_edited_copy_is_a_hint_and_another_dress_is_none(tmp_path):
    image = Image.open(CYBERPUNK / "neon-01.png").convert("RGB")
    edited = image.copy()
    edited.paste((120, 120, 120), (0, 0, image.width // 10, image.height // 10))
    data = [row(image, tmp_path / "a.png"), row(edited, tmp_path / "b.png")]
    apart = perceptual_hash.picture_info(data[0].path).distance(perceptual_hash.picture_info(data[1].path))
    assert 2 < apart <= 6
    [found] = run_check("duplicates", data)
    assert severity("duplicates", found) == "hint" and f"{apart} of the 64 bits" in found.message
    red, green, blue = image.split()
    inverse = Image.merge("RGB", (blue, red, green)).point(lambda value: min(255, value + 60))
    assert run_check("duplicates", [data[0], row(inverse, tmp_path / "c.png")]) == []


def test_each_copy_is_told_once_beside_the_nearest(tmp_path):
    image = scene(7)
    data = [row(image, tmp_path / "a.png")]
    data += [row(image.resize((320 * n, 240 * n)), tmp_path / f"{n}.png") for n in (2, 3)]
    found = run_check("duplicates", data)
    assert [f.rows[0] for f in found] == [1, 2]


# --- blur and size -------------------------------------------------------------------------------------------------------------------


def test_a_blurred_picture_among_sharp_ones_is_a_hint(tmp_path):
    data = rows(tmp_path, *["a thing"] * 5)
    data.append(row(scene(9).filter(ImageFilter.GaussianBlur(4)), tmp_path / "soft.png"))
    [found] = run_check("blur", data)
    assert found.rows == (5,) and severity("blur", found) == "hint" and "sharpness" in found.message and found.excerpt == "soft.png"
    data[5] = row(None, tmp_path / "soft.png", prior=True)
    assert run_check("blur", data) == []


def test_a_soft_style_is_no_blur(tmp_path):
    soft = [scene(i).filter(ImageFilter.GaussianBlur(1.8)) for i in range(6)]
    data = [row(image, tmp_path / f"{i}.png") for i, image in enumerate(soft)]
    assert all(perceptual_hash.picture_info(one.path).sharpness < BLURRED for one in data) and run_check("blur", data) == []
    data.append(row(scene(9).filter(ImageFilter.GaussianBlur(6)), tmp_path / "mist.png"))
    assert [f.rows for f in run_check("blur", data)] == [(6,)]


def test_small_pictures_are_told_with_the_factor(tmp_path):
    data = [
        row(scene(i, size), tmp_path / f"{i}.png") for i, size in enumerate([(512, 512), (480, 480), (400, 400), (200, 200), (300, 150)])
    ]
    found = {f.rows[0]: f for f in run_check("small", data)}
    assert set(found) == {2, 3, 4}, "a twentieth more is not seen"
    assert "400x400 pixels" in found[2].message and "1.3 times" in found[2].message and severity("small", found[2]) == "hint"
    assert "2.6 times" in found[3].message and "512x512" in found[3].message and severity("small", found[3]) == "warning"
    assert run_check("small", data, resolution=128) == []


# --- the trigger word ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "caption", "near"),
    [
        ("cyberpunk style", "a street, cyberpunk stlye", "cyberpunk stlye"),
        ("cyberpunk style", "cyberpnuk style, a street", "cyberpnuk style"),
        ("cyberpunk style", "cyberpunk_style, a street", "cyberpunk style"),
        ("cyberpunk style", "cyberpunkstyle street", "cyberpunkstyle"),
        ("zwxdoll", "zwx doll on a table", "zwx doll"),
        ("赛博朋克", "赛搏朋克，一条街", "赛搏朋克"),
        ("cyberpunk style", "cyberpunk styles", ""),
        ("cyberpunk style", "a street in a cyberpunk city", ""),
        ("sks", "a sky above a house", ""),
        ("flower", "two flowers", ""),
        ("油画", "一幅水画", ""),
    ],
)
def test_what_is_a_misspelt_trigger(trigger, caption, near):
    assert misspelt(trigger, caption) == near


@pytest.mark.parametrize(("one", "other", "count"), [("style", "style", 0), ("stlye", "style", 1), ("styl", "style", 1), ("abc", "xyz", 3)])
def test_edits(one, other, count):
    assert edits(one, other) == edits(other, one) == count


def captions(tmp_path, *texts: str) -> list[Picture]:
    return [Picture(str(tmp_path / f"{i}.png"), text, f"{i}", where=f"row {i}") for i, text in enumerate(texts)]


def test_a_trigger_that_the_template_adds_is_not_missing(tmp_path):
    plain = captions(tmp_path, *(f"a street with {i} houses" for i in range(12)))
    assert run_check("missing_trigger", plain, trigger_word="cyberpunk style") == []
    some = captions(tmp_path, "cyberpunk style, a street", *(f"a street with {i} houses" for i in range(11)))
    assert run_check("missing_trigger", some, trigger_word="cyberpunk style") == []


def test_a_misspelt_trigger_is_a_warning(tmp_path):
    data = captions(tmp_path, *(f"cyberpunk style, {i} houses" for i in range(11)), "cyberpunk stlye, a car")
    [found] = run_check("missing_trigger", data, trigger_word="cyberpunk style")
    assert found.rows == (11,) and severity("missing_trigger", found) == "warning" and "'cyberpunk stlye' is nearly" in found.message
    assert run_check("missing_trigger", data, "cyberpunk style, {caption}", trigger_word="cyberpunk style") == []


def test_a_real_word_near_a_short_trigger_is_left_alone(tmp_path):
    data = captions(tmp_path, *(f"a horse with {i} spots" for i in range(12)))
    assert run_check("missing_trigger", data, trigger_word="house") == []
    data = captions(tmp_path, *(f"house, {i} windows" for i in range(11)), "hosue, a door")
    assert [f.rows for f in run_check("missing_trigger", data, trigger_word="house")] == [(11,)]


def test_a_trigger_misspelt_in_the_config_is_one_finding(tmp_path):
    data = captions(tmp_path, *(f"cyberpunk style, {i} houses" for i in range(12)))
    [found] = run_check("missing_trigger", data, trigger_word="cyberpnk style")
    assert len(found.rows) == 12 and "trigger_word is 'cyberpnk style'" in found.message


def test_an_exception_to_the_trigger_is_a_hint(tmp_path):
    data = captions(tmp_path, *(f"a zwx dog, {i} bones" for i in range(12)), "a cat on a wall")
    [found] = run_check("missing_trigger", data, trigger_word="zwx")
    assert found.rows == (12,) and severity("missing_trigger", found) == "hint" and "prior_data_dir" in found.message
    prior = [*data[:12], Picture("x.png", "a cat on a wall", "x", True, where="row 12")]
    assert run_check("missing_trigger", prior, trigger_word="zwx") == []


def test_without_trigger_word_the_common_beginning_is_one(tmp_path):
    data = captions(tmp_path, *(f"zwx style, {i} houses" for i in range(14)), "a car at night", "zwx stlye, a train")
    found = {f.rows[0]: f for f in run_check("missing_trigger", data)}
    assert set(found) == {14, 15}
    assert severity("missing_trigger", found[14]) == "hint" and "set trigger_word" in found[14].message
    assert severity("missing_trigger", found[15]) == "warning" and "'zwx stlye'" in found[15].message
    for common in ("1girl", "a street", "photo of a dog"):
        data = captions(tmp_path, *(f"{common}, {i} houses" for i in range(14)), "1boy, a car")
        assert run_check("missing_trigger", data) == []


# --- captions --------------------------------------------------------------------------------------------------------------------------

USUAL = [f"a street with {n} houses and a green car at night" for n in range(2, 13)]


@pytest.mark.parametrize(
    ("caption", "words"), [("scene-0", "the file's name"), ("scene_0.png", "the file's name"), ("a picture of", "nothing"), ("图片", "nothing"),
                           ("TODO", "nothing"), ("untitled 12", "nothing")],
)  # fmt: skip
def test_captions_that_nobody_wrote_are_warnings(tmp_path, caption, words):
    [found] = run_check("caption_outliers", rows(tmp_path, caption, *USUAL))
    assert found.rows == (0,) and words in found.message and severity("caption_outliers", found) == "warning"


def test_captions_of_another_length_are_hints(tmp_path):
    found = run_check("caption_outliers", rows(tmp_path, "street", " ".join(USUAL[:5]), *USUAL))
    assert [f.rows for f in found] == [(0,), (1,)] and {severity("caption_outliers", f) for f in found} == {"hint"}
    assert "has 1 words, where 11 are usual" in found[0].message and "cut off" in found[1].message
    assert run_check("caption_outliers", rows(tmp_path, *["street", "long street with trees"] * 8)) == []


def test_the_trigger_alone_is_a_caption(tmp_path):
    assert run_check("caption_outliers", rows(tmp_path, *["img"] * 12), trigger_word="img") == []


def test_one_caption_for_unlike_pictures_is_a_hint(tmp_path):
    data = rows(tmp_path, *USUAL, USUAL[0])
    [found] = run_check("caption_outliers", data)
    assert found.rows == (11, 0) and "Was it pasted?" in found.message and severity("caption_outliers", found) == "hint"
    data[11] = row(scene(0).resize((640, 480)), tmp_path / "again.png", USUAL[0])
    assert run_check("caption_outliers", data) == []
    assert run_check("caption_outliers", rows(tmp_path, *["a street, houses, a car, night, neon"] * 12)) == []


# --- personal data -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "shown"),
    [("a card of zhang.san@firm.cn", "zh"), ("海报，电话13800138000", "13*******00"), ("证件110101199003071234", "11**************34")],
)
def test_personal_data_in_captions_is_found_and_masked(tmp_path, caption, shown):
    [found] = run_check("personal_data", rows(tmp_path, caption))
    assert severity("personal_data", found) == "warning" and shown in found.excerpt and "*" in found.excerpt
    assert "zhang.san" not in found.excerpt


def test_harmless_captions_are_left_alone(tmp_path):
    assert run_check("personal_data", rows(tmp_path, "a sign with 1234567, 1980s, f/1.8", "@ the beach", "写着400-800-1234的招牌")) == []


def test_what_a_camera_wrote_is_a_hint(tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "Zhang San"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825).update({2: (31.0, 13.0, 30.0), 3: "E", 4: (121.0, 28.0, 0.0)})
    exif.get_ifd(0x8769)[0xA431] = "12345"
    paths = []
    for suffix in ("jpg", "png", "webp"):
        paths.append(tmp_path / f"a.{suffix}")
        scene(1).save(paths[-1], exif=exif)
    for path in paths:
        place, owner = run_check("personal_data", [row(None, path)])
        assert "GPS" in place.message and "Artist, BodySerialNumber" in owner.message and place.excerpt == path.name
        assert {severity("personal_data", f) for f in (place, owner)} == {"hint"}
        assert "Zhang" not in owner.message + owner.excerpt


# --- the split ---------------------------------------------------------------------------------------------------------------------------


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
    """All 24 shipped pictures, each with six copies, in one split: 168 rows, 24 clusters, no leak."""
    originals = shipped()
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


def test_the_shipped_pictures_are_24_of_their_own():
    seen = [perceptual_hash.picture_info(one.path) for one in shipped()]
    closest = min(a.distance(b) for a, b in itertools.combinations(seen, 2))
    assert closest == 12, "NEAR of the split is 7"
    assert len(set(splitting.split([IMAGE.fingerprint(one) for one in shipped()], 0.15).groups)) == 24


def test_seven_bits_stand_together_and_eight_do_not():
    for bits, near in ((7, True), (8, False)):
        one, other = perceptual_hash.bits(0), perceptual_hash.bits((1 << bits) - 1)
        assert (len(one & other) / len(one | other) >= similarity.NEAR) is near and len(one) == 64


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
    assert 3 <= len(data.pick(True)) <= 8 and len(data.pick(True)) + len(data.pick(False)) == 24
    assert data.found == ()


# --- who reviewed it -----------------------------------------------------------------------------------------------------------------------


def load(folder: Path, text: str, name: str = "metadata.csv", on_bad_row: str = "stop") -> tuple[list[Picture], list[str]]:
    (folder / name).write_text(text, encoding="utf-8")
    config = RunConfig(train_data_dir=str(folder), base_model="x", on_bad_row=on_bad_row)
    notes: list[str] = []
    keys = KeySet({RunConfig: config, PictureKeys: PictureKeys(), ImageKeys: ImageKeys()})
    return list(PictureLoader().load(config, keys, notes.append)), notes


@pytest.fixture
def two(tmp_path):
    for name in ("a.png", "b.png"):
        scene(ord(name[0])).save(tmp_path / name)
    return tmp_path


def test_review_columns_are_read_and_change_no_picture(two):
    plain, _ = load(two, "file_name,text\na.png,a\nb.png,b\n")
    data, notes = load(two, "file_name,text,审核人,审核结果,豁免\na.png,a,王老师,通过,\nb.png,b,待审核,不通过,blur、small\n")
    assert [one.review for one in data] == [Review("王老师", True), Review("", False, ("blur", "small"))]
    assert [one.content_hash() for one in data] == [one.content_hash() for one in plain] and plain[0].review == Review()
    assert any("审核人 -> reviewer" in note for note in notes)


def test_review_values_of_json_are_read(two):
    lines = [
        {"file_name": "a.png", "text": "a", "reviewer": ["Ann", "Bo"], "approved": True, "waive": "*"},
        {"file_name": "b.png", "text": "b"},
    ]
    data, _ = load(two, "\n".join(json.dumps(line) for line in lines), "metadata.jsonl")
    assert [one.review for one in data] == [Review("Ann、Bo", True, ("*",)), Review()]


def test_a_column_of_decisions_called_审核_names_no_reviewer(two):
    data, _ = load(two, "file_name,text,审核\na.png,a,通过\nb.png,b,\n")
    assert [one.review for one in data] == [Review("", True), Review()]


def test_what_cannot_be_meant_is_a_bad_row(two):
    text = "file_name,text,reviewer,approved,waive\na.png,a,yes,maybe,看过\nb.png,b,Ann,yes,\n"
    with pytest.raises(DataError) as error:
        load(two, text)
    name, decision, waive, _ = error.value.problems
    assert "metadata.csv, row 2: reviewer: 'yes' is nobody's name" in name and "'maybe' is no decision" in decision and "'看过'" in waive
    data, _ = load(two, text, on_bad_row="skip")
    assert [one.review.reviewer for one in data] == ["Ann"]
    with pytest.raises(DataError, match=r"the columns '审核人', '复核人' could all be 'reviewer'"):
        load(two, "file_name,text,审核人,复核人\na.png,a,Ann,Bo\n")


def test_a_run_leaves_out_what_was_rejected_and_waives_what_was_accepted(gallery, tmp_path, host):
    from loraforge.data import dataset

    file = tmp_path / "pictures" / "metadata.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    reviewed = [lines[0] + ",approved,waive", lines[1] + ",no,", *(line + ",yes,blur small" for line in lines[2:])]
    file.write_text("\n".join(reviewed) + "\n", encoding="utf-8")
    data = dataset.load_data(make_plan(host, "image", gallery(resolution=128)))
    assert len(data.records) == 5 and data.review["rejected"] == 1 and data.review["approved"] == 5
    small = [one for one in data.found if one.check == "small"]
    assert len(small) == 5 and all(one.waived for one in small)


# --- distance and adherence ------------------------------------------------------------------------------------------------------------------


def test_the_interval_of_the_distance_holds_the_figure_and_shrinks_with_pictures():
    rng = np.random.default_rng(0)
    real = rng.normal(0, 0.1, (24, 27))
    widths = []
    for count in (16, 64, 256):
        drawn = rng.normal(0.05, 0.1, (count, 27))
        low, high = style_distance.interval(lambda values: style_distance.frechet(values, real), drawn)
        assert low <= style_distance.frechet(drawn, real) <= high
        assert (low, high) == style_distance.interval(lambda values: style_distance.frechet(values, real), drawn), "seeded"
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2] > 0


def test_the_interval_covers():
    """The mean of 16 normal numbers lies in about 19 of 20 of its intervals (a percentile interval of so few is a little narrow)."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        low, high = style_distance.interval(lambda values: float(values.mean()), rng.normal(0, 1, 16))
        inside += low <= 0 <= high
    assert 85 <= inside <= 99


def told(base, adapter, **options):
    return style_distance._told(
        "style distance", "nearer to your pictures", {"base": base, "adapter": adapter}, lambda v: float(v.mean()), **options
    )


def test_words_say_when_the_intervals_do_not_overlap():
    rng = np.random.default_rng(2)
    far, close = rng.normal(5, 1, 32), rng.normal(1, 1, 32)
    found = told(far, close)
    assert found["nearer to your pictures"] == {"base": "", "adapter": "the intervals do not overlap"}
    assert told(close, far)["nearer to your pictures"] == {"base": "the intervals do not overlap", "adapter": ""}
    assert told(close, far, lower=False)["nearer to your pictures"]["adapter"] == "the intervals do not overlap"
    assert told(close, rng.normal(1, 1, 32))["nearer to your pictures"]["adapter"].startswith("cannot be told")
    figure, low, high = (float(part.strip("(),")) for part in found["style distance"]["base"].replace("to", " ").split())
    assert low < figure < high and figure == pytest.approx(far.mean(), abs=1e-3)
    assert told(far[:7], close[:7]) == {"style distance": {"base": f"{far[:7].mean():.3f}", "adapter": f"{close[:7].mean():.3f}"}}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny random CLIP model."""
    import torch
    from tinysd import make_tokenizer
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


def test_scores_are_clips_own_cosines(clip):
    """Against transformers' own image processor (the one that needs no torchvision) and its get_..._features."""
    import torch
    from loraforge_image.evaluation.prompt_adherence import Scorer
    from transformers import AutoTokenizer, CLIPModel

    pictures, prompts = [scene(1, (32, 32)), scene(2, (96, 64)), scene(3, (40, 90))], ["a ball", "two red balls on a wall " * 20, "球"]
    scorer = Scorer(str(clip))
    prepared = [scorer.prepare(picture) for picture in pictures]
    assert all(values.shape == (3, 32, 32) for values in prepared)
    found = scorer.score(prepared, prompts)
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


def test_the_middle_of_a_picture_is_scored(clip):
    from loraforge_image.evaluation.prompt_adherence import Scorer

    wide = Image.new("RGB", (96, 32), (255, 0, 0))
    wide.paste((0, 0, 255), (32, 0, 64, 32))
    middle = Scorer(str(clip)).prepare(wide)
    assert np.allclose(middle, Scorer(str(clip)).prepare(Image.new("RGB", (32, 32), (0, 0, 255))), atol=1e-6)


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


def test_a_scorer_that_is_none_is_said(tmp_path, clip):
    from loraforge_image.evaluation.prompt_adherence import Scorer

    for name in (str(tmp_path / "gone"), "no-such-folder"):
        with pytest.raises(ModelError, match="prompt_scorer: .*there is no such folder"):
            Scorer(name)
    with pytest.raises(ModelError, match=r"prompt_scorer: nobody/nothing: .*"):
        Scorer("nobody/nothing")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP model: model_type llama"):
        Scorer(str(tmp_path))
    broken = shutil.copytree(clip, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded as a CLIP model"):
        Scorer(str(broken))
