# SPDX-License-Identifier: Apache-2.0
"""The step "hand on": a server, exports, files to take along, the card, the seal."""

from __future__ import annotations

import json
import urllib.request
import zipfile

from builders.sealed_runs import flip


def test_a_text_run_is_served_exported_and_verified_in_chinese(studio, visit, finished, tmp_path):
    work = finished("text", tmp_path / "studio")
    running = studio("zh")
    page = visit(running, "#/handon/contracts")
    serve = page.locator("[data-part=serve]")
    serve.get_by_role("button", name="启动服务器").click()
    link = serve.get_by_role("link", name="打开它的页面")
    link.wait_for(timeout=120_000)
    address = link.get_attribute("href")
    with urllib.request.urlopen(f"{address}/v1/models", timeout=20) as answer:
        assert {one["id"] for one in json.load(answer)["data"]} >= {"base", "contracts"}
    running.kill()
    running.again()  # the server goes on without the studio, which finds it again
    page.goto(running.url)
    page.goto(f"{running.address}/#/handon/contracts")
    assert page.locator("[data-part=serve] a").get_attribute("href") == address
    page.locator("[data-part=serve]").get_by_role("button", name="停止").click()
    page.locator("[data-part=serve]").get_by_role("button", name="启动服务器").wait_for()

    gguf = page.locator("[data-exporter=gguf]")
    assert "llama.cpp" in gguf.inner_text() and "适配器" in gguf.inner_text()
    gguf.get_by_role("button", name="写出").click()
    page.wait_for_selector("[data-exporter=gguf]:has-text('已写出')", timeout=120_000)
    assert "llama" in gguf.locator(".copyable").inner_text()
    gguf.locator("summary").click()
    with page.expect_download() as got:
        gguf.get_by_role("link", name="打包下载").click()
    with zipfile.ZipFile(got.value.path()) as packed:
        assert "gguf/contracts.gguf" in packed.namelist()
        assert packed.read("gguf/contracts.gguf") == (work / "output/contracts/export/gguf/contracts.gguf").read_bytes()
    assert got.value.suggested_filename == "contracts-gguf.zip"

    verify = page.locator("[data-part=verify]")
    verify.get_by_role("button", name="验证").click()
    verify.locator("[data-sound=true]").wait_for(timeout=120_000)
    assert "没有任何改动" in verify.locator(".verdict").inner_text()
    flip(work / "output/contracts/adapter/adapter_model.safetensors")
    verify.get_by_role("button", name="验证").click()
    verify.locator("[data-sound=false]").wait_for(timeout=120_000)
    assert "被改动 – adapter/adapter_model.safetensors" in verify.locator(".problems").inner_text()


def test_pictures_are_installed_only_where_the_studio_may_write_and_the_card_is_shown_as_text(studio, visit, finished, tmp_path):
    work = finished("image", tmp_path / "studio")
    card = work / "output/neon/model-card.md"
    webui, elsewhere = tmp_path / "webui", tmp_path / "elsewhere"
    for folder in (webui, elsewhere):
        (folder / "models" / "Lora").mkdir(parents=True)
    running = studio("en", "--allow", str(webui))
    page = visit(running, "#/handon/neon")
    page.expected.append("403")
    export = page.locator("[data-exporter=webui]")
    export.locator("summary").first.click()
    page.fill("#webui", str(elsewhere))
    export.get_by_role("button", name="Write it").click()
    page.wait_for_selector("#problems:has-text('--allow')")
    assert not list((elsewhere / "models" / "Lora").iterdir())
    page.fill("#webui", str(webui))
    export.get_by_role("button", name="Write it").click()
    page.wait_for_selector("[data-exporter=webui]:has-text('Installed:')", timeout=120_000)
    assert (webui / "models" / "Lora" / "neon.safetensors").is_file()
    assert "<lora:neon:0.8>" in export.locator(".copyable").inner_text()

    shown = page.locator("[data-part=card]")
    shown.locator("summary").click()
    shown.get_by_role("button", name="Write").click()
    page.wait_for_selector("#status:has-text('The card is written.')", state="attached")
    shown.locator(".card-text h2").first.wait_for()
    assert shown.locator(".card-text h2").first.inner_text() == "neon"
    card.write_text("# x <img src=x onerror=alert(1)>\n\n- <script>alert(2)</script> `a`\n", encoding="utf-8")
    page.reload()
    page.locator("[data-part=card] summary").click()
    assert page.locator("[data-part=card] li").inner_text() == "<script>alert(2)</script> a"
    assert page.locator("[data-part=card] :is(img, script)").count() == 0

    answer = page.request.get(
        f"{running.address}/api/works/neon/download", params={"path": "output/neon/adapter/adapter_model.safetensors"}
    )
    assert answer.headers["content-disposition"].startswith("attachment") and answer.ok
    for hostile in ("../../../etc/passwd", "/etc/passwd", ".studio", "."):
        assert page.request.get(f"{running.address}/api/works/neon/download", params={"path": hostile}).status in (403, 404)
