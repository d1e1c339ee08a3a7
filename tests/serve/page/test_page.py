# SPDX-License-Identifier: Apache-2.0
"""The page in a browser: asking, stopping, comparing, correcting; text stays text; keyboard, languages, widths."""

from __future__ import annotations

import json

import pytest
from builders.serving import until

pytestmark = pytest.mark.xdist_group("browser")  # one browser for all of them
MARKUP = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script> & <b>bold</b>"


def ask(page, question, wait=True):
    page.fill("#question", question)
    page.press("#question", "Enter")
    if wait:
        page.wait_for_selector("body:not(.busy) .turn:last-child .took")


def bodies(page):
    return page.locator(".turn:last-child .body").all_text_contents()


def rows(served):
    return [json.loads(line) for line in served.feedback.read_text("utf-8").splitlines()] if served.feedback.exists() else []


# --- asking ----------------------------------------------------------------------------------------------------------------------


def test_adapter_and_base_answer_side_by_side(visit):
    page = visit()
    ask(page, "How long?")
    assert bodies(page) == ["legal.1 heard: How long?", "base heard: How long?"]
    assert page.locator(".turn h2").text_content() == "QuestionHow long?"
    assert page.locator(".answer h3").all_inner_texts() == ["legal", "The base, without an adapter"]
    boxes = [one.bounding_box() for one in page.locator(".answer").all()]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    assert "24 tokens" in page.locator(".took").first.inner_text()
    page.uncheck("#beside")
    ask(page, "And now?")
    assert bodies(page) == ["legal.1 heard: And now?"]


def test_the_answer_comes_letter_by_letter_and_stops_when_told(visit, backend):
    page = visit()
    backend.pause = 0.05
    left = backend.left
    ask(page, "x" * 300, wait=False)
    assert until(lambda: len(bodies(page)[0]) > 3)
    first = bodies(page)[0]
    assert until(lambda: len(bodies(page)[0]) > len(first))
    assert page.locator("#stop").is_visible() and not page.locator("#ask").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not(.busy)")
    answer = page.locator(".answer.adapter")
    assert "not whole" in answer.locator(".note").inner_text() and len(bodies(page)[0]) < 250
    assert answer.locator("[data-l=good]").count() == 0, "half an answer is not praised"
    assert until(lambda: backend.left == left + 2), "the server has stopped both"


def test_another_adapter_answers_once_it_is_chosen(visit):
    page = visit()
    assert page.locator("#model option").all_text_contents() == [
        "legal", "<b>odd</b>", "The base, without an adapter",
    ]  # fmt: skip
    page.select_option("#model", "<b>odd</b>")
    ask(page, "Who?")
    assert bodies(page)[0] == "<b>odd</b>.1 heard: Who?"
    page.select_option("#model", "base")
    ask(page, "Who?")
    assert bodies(page) == ["base heard: Who?"], "the base is not compared with itself"
    page.reload()
    page.wait_for_selector("#ask:enabled")
    assert page.input_value("#model") == "base"


def test_settings_reach_the_server_and_earlier_answers_only_where_wanted(visit, served, backend):
    page = visit()
    page.uncheck("#beside")
    ask(page, "first?")
    page.click("#more")
    page.fill("#temperature", "0.7")
    page.fill("#max-tokens", "9")
    page.fill("#seed", "42")
    ask(page, "second?")
    job = backend.jobs[-1]
    assert (job.temperature, job.max_tokens, job.seed) == (0.7, 9, 42)
    assert "".join(map(chr, job.prompt)) == "user: second?\n"
    assert bodies(page) == ["legal.1 h"] and "Cut off" in page.locator(".turn:last-child .note").inner_text()
    page.fill("#max-tokens", "")
    page.check("#follow")
    ask(page, "third?")
    said = "".join(map(chr, backend.jobs[-1].prompt))
    assert said == "user: first?\nassistant: legal.1 heard: first?\nuser: third?\n", "what was cut off is not gone on from"
    page.locator(".turn:last-child [data-l=good]").click()
    page.locator("[data-t=keep]").click()
    page.locator(".thanks").wait_for()
    assert rows(served)[-1]["history"] == [["first?", "legal.1 heard: first?"]]


def test_what_the_server_refuses_is_told_and_can_be_asked_again(visit, served):
    page = visit(expected=("429",))
    most, served.admission.most = served.admission.most, 0
    try:
        page.fill("#question", "Busy?")
        page.press("#question", "Enter")
        page.wait_for_selector("body:not(.busy) .note.wrong")
    finally:
        served.admission.most = most
    assert "No answer" in page.locator(".note.wrong").first.inner_text()
    page.locator("[data-t=again]").first.click()
    page.wait_for_selector("body:not(.busy) .took")
    assert bodies(page)[0] == "legal.1 heard: Busy?"


def test_a_server_that_is_gone_is_told_in_words(visit):
    page = visit(expected=("ERR_",))
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, "There?", wait=False)
    page.wait_for_selector(".note.wrong")
    assert "cannot be reached" in page.locator(".note.wrong").first.inner_text()


def test_a_stream_that_breaks_off_is_no_answer(visit):
    page = visit()
    half = 'data: {"choices":[{"index":0,"delta":{"content":"half"},"finish_reason":null}]}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=half))
    page.uncheck("#beside")
    ask(page, "Whole?", wait=False)
    page.wait_for_selector(".note.wrong")
    assert "ended before the answer" in page.locator(".note.wrong").inner_text() and bodies(page) == ["half"]
    assert page.locator("[data-l=good], [data-l=bad]").count() == 0
    told = half + 'data: {"error": {"message": "the answer was not done after 300 seconds"}}\n\n'
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=told))
    page.locator("[data-t=again]").click()
    page.get_by_text("not done after 300 seconds").first.wait_for()


# --- text stays text ----------------------------------------------------------------------------------------------------------------


def test_markup_in_questions_answers_names_and_facts_is_shown_as_text(visit, served):
    page = visit()
    ask(page, MARKUP)
    assert bodies(page)[0] == f"legal.1 heard: {MARKUP}"
    page.select_option("#model", "<b>odd</b>")
    ask(page, "x")
    assert page.locator(".turn:last-child .answer h3").first.inner_text() == "<b>odd</b>"
    assert "<img src=x onerror=document.title='title'>" in page.locator(".origin").inner_text()
    page.select_option("#model", "legal")
    assert "<img src=x onerror=document.title='caution'>" in page.locator(".cautions").inner_text()
    assert page.locator("main img[src=x], aside img, main script, main b").count() == 0
    assert page.title() == "LoRAForge"


def test_the_policy_stops_whatever_would_get_through(visit):
    page = visit(expected=("Content Security Policy", "TrustedHTML", "Refused"))
    tried = page.evaluate(
        "() => { try { document.body.innerHTML = '<img src=x onerror=1>'; return 'done' } catch (error) { return error.name } }"
    )
    assert tried == "TypeError"
    page.evaluate(
        "() => { const s = document.createElement('div'); s.setAttribute('style', 'color: red'); document.body.append(s); s.id = 'styled' }"
    )
    assert page.evaluate("getComputedStyle(document.getElementById('styled')).color") != "rgb(255, 0, 0)"
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')") == "stopped"


CITED = {
    "依《中华人民共和国劳动合同法》第四十六条第（五）项、第四十七条支付。": ["《中华人民共和国劳动合同法》第四十六条第（五）项、第四十七条"],
    "应当依照民法典第1062条、第一千零六十三条处理": ["民法典第1062条、第一千零六十三条"],
    "刑法第一百三十三条之一第1款；见本院卷宗第3页": ["刑法第一百三十三条之一第1款"],
    "法释〔2020〕26号和（2023）京01民终1234号": ["法释〔2020〕26号", "（2023）京01民终1234号"],
    "《关于适用〈民法典〉婚姻家庭编的解释（一）》第3条": ["《关于适用〈民法典〉婚姻家庭编的解释（一）》第3条"],
    "See § 46 BGB and §§ 305, 307 Abs. 1 Satz 2 BGB; Art. 6 Abs. 1 lit. f DSGVO.": [
        "§ 46 BGB", "§§ 305, 307 Abs. 1 Satz 2 BGB", "Art. 6 Abs. 1 lit. f DSGVO",
    ],
    "under 42 U.S.C. § 1983 and 21 CFR 314.80(c)(1), cf. 410 U.S. 113 (1973)": [
        "42 U.S.C. § 1983", "21 CFR 314.80(c)(1)", "410 U.S. 113 (1973)",
    ],
    "Article 12 of the Civil Code; Sections 3 and 4(2) of the Limitation Act 1980": [
        "Article 12 of the Civil Code", "Sections 3 and 4(2) of the Limitation Act 1980",
    ],
    "PMID: 12345678, doi: 10.1056/NEJMoa2034577.": ["PMID: 12345678", "doi: 10.1056/NEJMoa2034577."],
    "第一次开庭在三条街外，共46条建议，有两条路；section 5 minutes; 12 articles; $5 U.S. dollars": [],
}  # fmt: skip


def test_citations_are_marked_where_they_stand_and_the_text_stays_the_same(visit):
    page = visit()
    find = "async text => { const {pieces} = await import('/assets/citations.js'); return pieces(text) }"
    for text, wanted in CITED.items():
        found = page.evaluate(find, text)
        assert "".join(one["text"] for one in found) == text
        assert [one["text"] for one in found if one["cited"]] == wanted, text
    ask(page, "《劳动合同法》第46条 and § 46 BGB")
    assert page.locator(".answer.adapter mark").all_text_contents() == ["《劳动合同法》第46条", "§ 46 BGB"]
    assert "2 marked citations" in page.locator(".answer.adapter .cited").inner_text()


def test_no_text_keeps_the_marking_busy(visit):
    page = visit()
    measure = "async text => { const {pieces} = await import('/assets/citations.js'); const t = performance.now(); pieces(text); return performance.now() - t }"
    for text in (
        "《" * 20_000,
        "第1条、" * 5000,
        "§ 1 " * 5000,
        "第" + "一" * 20_000,
        "Article 1 of the " + "Aa " * 10_000,
        "1 U.S.C. " * 3000,
        "（2023）" * 5000,
    ):
        assert page.evaluate(measure, text) < 2000, text[:20]


# --- feedback ---------------------------------------------------------------------------------------------------------------------


def test_a_correction_lands_as_a_training_row(visit, served):
    page = visit()
    ask(page, "Notice period?")
    before = len(rows(served))
    answer = page.locator(".answer.adapter")
    answer.locator("[data-l=bad]").click()
    keep = answer.locator("[data-t=keep_correction]")
    assert answer.locator("textarea").input_value() == "legal.1 heard: Notice period?" and keep.is_disabled()
    answer.locator("textarea").fill(f"Thirty days. {MARKUP}")
    keep.click()
    answer.locator(".thanks").wait_for()
    assert "new training row" in answer.locator(".thanks").inner_text()
    row = rows(served)[before]
    assert (row["instruction"], row["output"], row["weight"]) == ("Notice period?", f"Thirty days. {MARKUP}", 1)
    assert row["answered"] == "legal.1 heard: Notice period?" and row["model"] == "legal"
    assert answer.locator("[data-l=bad]").count() == 0, "said once"


def test_praise_and_blame_are_kept_after_a_second_word_only(visit, served):
    page = visit()
    ask(page, "Holidays?")
    before = len(rows(served))
    page.locator(".answer.adapter [data-l=good]").click()
    page.keyboard.press("Escape")
    assert page.locator(".feedback").count() == 0 and len(rows(served)) == before
    page.locator(".answer.adapter [data-l=good]").click()
    page.locator("[data-t=keep]").click()
    page.locator(".answer.base [data-l=bad]").click()
    page.locator("[data-t=only_wrong]").click()
    page.locator(".answer.base .thanks").wait_for()
    assert "will not be learned" in page.locator(".answer.base .thanks").inner_text()
    assert [(row["model"], row["weight"]) for row in rows(served)[before:]] == [("legal", 1), ("base", 0)]


def test_a_correction_that_could_not_be_kept_stays_in_its_field(visit):
    page = visit(expected=("507",))
    page.route("**/feedback", lambda route: route.fulfill(status=507, json={"error": {"message": "the disk is full <b>", "code": "x"}}))
    ask(page, "Notice?")
    answer = page.locator(".answer.adapter")
    answer.locator("[data-l=bad]").click()
    answer.locator("textarea").fill("Mine")
    answer.locator("[data-t=keep_correction]").click()
    answer.locator("[role=alert]").wait_for()
    assert answer.locator("[role=alert]").inner_text() == "the disk is full <b>" and answer.locator("textarea").input_value() == "Mine"


# --- the facts ----------------------------------------------------------------------------------------------------------------------


def test_figures_and_cautions_are_in_view(visit):
    page = visit()
    panel = page.locator("aside")
    assert panel.locator("#verdict").inner_text() == "Better than the base"
    text = panel.inner_text()
    for part in (
        "36 held-out",
        "8.3 %",
        "61.1 %",
        "n = 27",
        "n = 27, 9 independent",
        "+52.8 points [+33.3 … +72.2]",
        "Answers it never learned",
        "−1.250",
        "too few rows",
    ):
        assert part in text, part
    assert panel.locator(".measure b").all_inner_texts()[0] == "cites the right article", "what the verdict is about comes first"
    assert panel.locator(".cautions li").count() == 2 and panel.locator(".cautions").is_visible()
    page.select_option("#model", "base")
    assert panel.locator(".cautions, .measure").count() == 0


# --- keyboard, languages, widths ---------------------------------------------------------------------------------------------------------


def test_enter_while_a_chinese_word_is_composed_does_not_ask(visit):
    page = visit()
    page.fill("#question", "试用")
    page.evaluate(
        "() => document.getElementById('question').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    page.press("#question", "Shift+Enter")
    assert page.locator(".turn").count() == 0 and page.input_value("#question") == "试用\n"


def test_everything_is_reached_by_keyboard_and_has_a_name(visit):
    page = visit()
    ask(page, "Names?")
    named = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, a[href], summary')].filter(one => one.checkVisibility())
        .filter(one => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.[0]?.textContent.trim()))
        .map(one => one.outerHTML)"""
    )
    assert named == []
    page.keyboard.press("Tab")
    seen = set()
    for _ in range(40):
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.l || document.activeElement.tagName"))
        page.keyboard.press("Tab")
    assert {"model", "language", "theme", "key", "good", "bad", "copy", "question", "beside", "more", "ask"} <= seen


def test_answers_are_read_out_in_sentences(visit):
    page = visit()
    ask(page, "One. Two! Three")
    spoken = page.locator("#spoken p").all_text_contents()
    assert "".join(spoken[:-1]) == "legal.1 heard: One. Two! Three" and len(spoken) > 2
    assert spoken[-1] == "The base, without an adapter: base heard: One. Two! Three", "not into the other's words"
    assert page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert page.locator("#status").inner_text() == "The answer is there."


CONTRAST = """() => {
  const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = one => { for (let e = one; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$|transparent/.test(c)) return c; } };
  return [...document.querySelectorAll('body *')].filter(one => one.checkVisibility() && !one.closest('.hidden, :disabled, .skip') &&
    [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())).map(one => {
      const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.className || one.tagName, one.textContent.slice(0, 30)]; }).filter(([ratio]) => ratio < 4.5);
}"""


def test_every_text_has_contrast_in_light_and_dark(visit):
    page = visit(color_scheme="dark")
    ask(page, "《劳动合同法》第46条")
    page.locator(".answer.adapter [data-l=bad]").click()
    page.click("#more")
    assert page.evaluate(CONTRAST) == []
    page.click("#theme")
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_a_phone_shows_everything_in_its_width(visit):
    page = visit(viewport={"width": 320, "height": 700}, locale="zh-CN")
    assert page.locator("#ask").inner_text() == "提问" and page.locator("html").get_attribute("lang") == "zh-CN"
    assert (
        page.locator("#in-short").inner_text().startswith("法条引用正确: 8.3 % → 61.1 % (n = 27).")
        and page.locator("#verdict").is_visible()
    )
    ask(page, "长" * 200 + "x" * 200)
    page.locator(".answer.adapter [data-l=bad]").click()
    page.click("#more")
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, summary')].filter(one => one.checkVisibility()).filter(one => one.getBoundingClientRect().height < 36).length"
    )
    assert small == 0, "a finger hits what is pressed"
    boxes = [one.bounding_box() for one in page.locator(".answer").all()]
    assert boxes[0]["x"] == boxes[1]["x"] and boxes[1]["y"] > boxes[0]["y"]


def test_the_language_is_switched_and_remembered(visit):
    page = visit()
    ask(page, "Before?")
    page.click("#language")
    assert page.locator("#ask").inner_text() == "提问" and page.locator("#verdict").inner_text() == "优于基座"
    assert page.locator(".answer.adapter [data-l=good]").get_attribute("aria-label") == "好：可以学习"
    page.reload()
    page.wait_for_selector("#ask:enabled")
    assert page.locator("#language").inner_text() == "English" and page.locator("#ask").inner_text() == "提问"


def test_the_example_is_put_into_the_field(visit):
    page = visit()
    page.click("#example")
    assert page.input_value("#question") == "How long is a probation period?" and page.locator(".turn").count() == 0


# --- the token ----------------------------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_told_and_a_right_one_lets_in_for_this_tab_only(visit, gallery):
    page = visit(at=gallery, wait=False, expected=("401",))
    page.wait_for_selector("#token-dialog[open]")
    assert page.locator("#token-wrong").is_hidden() and page.locator("#model option").count() == 0
    page.fill("#token", "lf-guessed")
    page.keyboard.press("Enter")
    page.locator("#token-wrong").wait_for()
    assert "does not know this token" in page.locator("#token-wrong").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#token", gallery.token)
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask:enabled")
    assert page.locator("#token-dialog").is_hidden() and gallery.token not in page.content()
    assert page.evaluate("Object.values(sessionStorage).join()").count(gallery.token) == 1
    assert page.evaluate("Object.values(localStorage).join() + document.cookie") == ""


def test_pictures_are_drawn_with_strengths_and_seeds_beside_the_base(visit, gallery):
    page = visit(at=gallery, wait=False, expected=("401",))
    page.fill("#token", gallery.token)
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask:enabled")
    assert page.locator("#ask").inner_text() == "Draw" and page.locator(".text-only").first.is_hidden()
    page.click("#more")
    page.locator("#strengths input[data-adapter=ink]").fill("0.35")
    page.fill("#picture-seed", "7")
    page.fill("#question", "a street")
    page.press("#question", "Enter")
    page.wait_for_selector("body:not(.busy) .turn")
    both = {"neon": 1.0, "ink": 0.35}
    assert gallery.painter.drawn == [(both, {"seed": 7}), (both, {"seed": 8}), ({}, {"seed": 7}), ({}, {"seed": 8})]
    assert page.locator(".drawn h3").all_inner_texts() == ["neon 1.00 + ink 0.35", "The base, without an adapter"]
    assert page.locator("figcaption span").all_inner_texts() == ["Seed 7", "Seed 8"] * 2
    images = page.locator(".drawn img")
    assert images.evaluate_all("all => all.map(one => [one.naturalWidth, one.alt])")[1] == [8, "a street (neon 1.00 + ink 0.35, Seed 8)"]
    images.first.click()
    assert page.locator("#enlarged img").evaluate("one => one.naturalWidth") == 8
    page.keyboard.press("Escape")
    page.click("#language")
    assert page.locator("#strengths input[data-adapter=ink]").input_value() == "0.35", "what was set stays"
