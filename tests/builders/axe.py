# SPDX-License-Identifier: Apache-2.0
"""axe-core, by Deque: what people with a screen reader or without a mouse cannot use on a page."""

from __future__ import annotations

from pathlib import Path

import pytest


def serious(page) -> list[str]:
    """What axe-core finds on a page of Playwright that is serious or critical, one line each; it works below a strict Content-Security-Policy.
    Skips the test with the reason where axe is not installed."""
    axe = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    if not page.evaluate("'axe' in window"):
        page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    # preload would have it fetch style sheets
    found = page.evaluate("axe.run(document, {preload: false, resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
