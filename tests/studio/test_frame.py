# SPDX-License-Identifier: Apache-2.0
"""The frame of the page: steps, languages, the colours."""

from __future__ import annotations


def test_the_page_speaks_the_language_of_the_terminal_and_changes_it(studio, visit):
    page = visit(studio("zh"))
    assert page.locator("#steps").inner_text().split()[1] == "开始"
    page.click("#language")
    page.wait_for_selector("h1:has-text('Begin')")
    assert page.evaluate("document.documentElement.lang") == "en"
