# SPDX-License-Identifier: Apache-2.0
"""The shelf: all adapters, two beside each other, going on from one."""

from __future__ import annotations

import json
import shutil

import yaml


def test_the_shelf_shows_compares_and_continues_in_both_languages(studio, visit, finished, tmp_path):
    home = tmp_path / "studio"
    text, image = finished("text", home), finished("image", home)
    second = text / "output" / "second"
    shutil.copytree(text / "output" / "contracts", second)
    manifest = json.loads((second / "manifest.json").read_text(encoding="utf-8"))
    manifest["config"]["learning_rate"] = 0.125
    manifest["lineage"] = [{"run": str(text / "output" / "contracts"), "started": manifest["started"]}]
    (second / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    page = visit(studio(), "#/shelf")
    assert page.locator(".shelf-item").count() == 3
    neon = page.locator(".shelf-item[data-work=neon]")
    assert "pictures" in neon.inner_text()
    assert "continues contracts" in page.locator("[data-run='output/second']").inner_text()
    page.fill("#find", "contr")
    assert page.locator(".shelf-item").count() == 2
    for run in ("output/contracts", "output/second"):
        page.locator(f"[data-run='{run}']").get_by_role("button", name="Compare").click()
    page.get_by_role("link", name="Show both side by side").click()
    page.wait_for_selector("[data-part=differences]")
    assert page.locator("[data-part=differences] tbody tr").all_inner_texts() == ["learning_rate\t0.05\t0.125"]
    page.wait_for_selector(".chart canvas")
    told = json.loads((second / "eval.json").read_text(encoding="utf-8"))
    pair = page.locator("[data-part=answers] .pair").first
    assert told["rows"][0]["question"] in pair.inner_text() and pair.locator(".answer").count() == 2

    page.click("text=Back to the shelf")
    page.locator("[data-run='output/second']").get_by_role("link", name="Where it comes from").click()
    page.click("[data-part=lineage] a >> text=contracts")
    page.wait_for_selector("h1:text-is('contracts')")
    before = (text / "contracts.yaml").read_bytes()
    page.get_by_role("button", name="Continue training from it").click()
    page.wait_for_url("**/#/choose/contracts-2")
    made = home / "contracts-2"
    config = yaml.safe_load((made / "contracts-2.yaml").read_text(encoding="utf-8"))
    assert config["init_from_adapter"] == "../contracts/output/contracts" and config["output_dir"] == "./output/contracts-2"
    assert (made / config["train_data_dir"]).resolve() == text / "data" and (made / config["init_from_adapter"] / "adapter").is_dir()
    assert (text / "contracts.yaml").read_bytes() == before and config["learning_rate"] == 0.05

    page.click("#language")
    page.goto(page.url.partition("#")[0] + "#/shelf/neon/compare/" + "/".join(("output%2Fneon", "contracts", "output%2Fcontracts")))
    page.wait_for_selector("h1:has-text('两个适配器并排比较')")
    assert page.locator("[data-part=drawn] .picture img").count() == 2
    assert image.name in page.locator(".key-one").first.inner_text()
    page.click("text=回到书架")
    page.wait_for_selector("text=已开始，尚未训练")
    assert "contracts-2" in page.locator(".lines").inner_text()
