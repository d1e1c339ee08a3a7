"""Better, worse, or no evidence: numbers that can be checked by hand, and rates measured by simulation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from loraforge.evaluation.bootstrap import compare, figure, interval, sentence


def test_a_difference_on_every_row_is_better_and_the_interval_has_a_width():
    found = compare("equals the reference", [0.0] * 36, [1.0] * 36)
    assert (found.verdict, found.base, found.adapter, found.difference, found.rows, found.groups) == ("better", 0, 1, 1, 36, 36)
    # Clopper and Pearson (1934): 36 of 36 leave room down to 0.025^(1/36).
    assert found.low == pytest.approx(0.025 ** (1 / 36)) and found.high == 1.0
    assert compare("equals the reference", [1.0] * 36, [0.0] * 36).verdict == "worse"


def test_for_a_loss_less_is_better():
    base, adapter = [2.0, 2.1, 2.3, 1.9, 2.5, 2.2, 2.4], [1.0, 1.1, 1.3, 1.2, 1.5, 1.6, 1.3]
    found = compare("loss", base, adapter, lower_is_better=True)
    assert found.verdict == "better" and found.high < 0 and compare("loss", adapter, base, lower_is_better=True).verdict == "worse"
    assert compare("score", base, adapter).verdict == "worse"
    assert "difference -0.914" in sentence(found) and "%" not in sentence(found).replace("95%", "")


def test_equal_arguments_give_equal_results_and_seeds_matter():
    rng = np.random.default_rng(3)
    base, adapter = rng.random(30), rng.random(30)
    assert compare("x", base, adapter) == compare("x", base, adapter)
    assert compare("x", base, adapter, seed=1).low != compare("x", base, adapter, seed=2).low


def test_pairs_are_compared_and_not_two_heaps():
    """Rows differ by far more than the sides do; only the pairing sees the constant gain."""
    base = np.linspace(0, 1, 20) * 0.8
    gain = 0.05 + 0.01 * np.sin(np.arange(20))
    found = compare("overlap", base, base + gain)
    assert found.verdict == "better" and found.high - found.low < 0.02
    shuffled = compare("overlap", base, np.roll(base + gain, 7))
    assert shuffled.verdict == "no evidence" and shuffled.high - shuffled.low > 0.3


def test_near_identical_questions_are_one_piece_of_evidence():
    """Eight wordings each of four questions: as rows they would look like much, as questions they are four."""
    groups = [i // 8 for i in range(32)]
    base, adapter = [0.0] * 32, [float(g != 3) for g in groups]
    by_row, by_group = compare("x", base, adapter), compare("x", base, adapter, groups)
    assert by_row.verdict == "better" and by_group.verdict == "no evidence" and by_group.groups == 4
    assert by_group.high - by_group.low > by_row.high - by_row.low
    assert "32 questions compared, 4 of them independent" in sentence(by_group)
    assert compare("x", base, adapter, groups) == compare("x", base, adapter, [f"g{g}" for g in groups])


def test_a_group_weighs_as_many_rows_as_it_has():
    mean, low, high = interval([1.0] * 9 + [0.0], [0] * 9 + [1])
    assert mean == pytest.approx(0.9) and low == 0.0 and high == 1.0


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_fewer_than_six_questions_show_nothing(rows):
    found = compare("x", [0.0] * rows, [1.0] * rows)
    assert found.verdict == "no evidence" and found.low == 0.0 and found.detectable is None
    assert "So few independent questions can show no difference at all; it takes 6 or more." in sentence(found)


def test_six_are_enough_if_all_agree():
    assert compare("x", [0.0] * 6, [1.0] * 6).verdict == "better"
    assert compare("x", [0.0] * 6, [1.0] * 5 + [0.0]).verdict == "no evidence"


def test_no_variation_at_all_is_no_certainty():
    found = compare("x", [0.0] * 36, [0.0] * 36)
    unseen = 1 - 0.025 ** (1 / 36)
    assert found.verdict == "no evidence" and (found.low, found.high) == (pytest.approx(-unseen), pytest.approx(unseen))
    assert interval([1.0] * 20) == (1.0, pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_no_evidence_names_the_smallest_difference_that_would_show():
    found = compare("cites", [0, 1] * 18, [1, 0] * 9 + [0, 1] * 9)
    assert found.verdict == "no evidence" and 0.2 < found.detectable < 0.5
    assert f"only a difference of about {100 * found.detectable:.1f} points or more" in sentence(found)


def test_the_smallest_difference_is_seen_in_four_of_five_cases():
    rng = np.random.default_rng(0)
    spread, rows = 0.2, 36
    least = np.mean([compare("x", np.zeros(rows), rng.normal(0, spread, rows), resamples=300).detectable for _ in range(40)])
    seen = [compare("x", np.zeros(rows), rng.normal(least, spread, rows), resamples=300).verdict == "better" for _ in range(200)]
    assert 0.7 < np.mean(seen) < 0.9


def _binary(more: float, less: float):
    def draw(rng, n):
        change = rng.choice([1.0, -1.0, 0.0], p=[more, less, 1 - more - less], size=n)
        base = np.where(change == 0, rng.integers(0, 2, n), change < 0).astype(float)
        return base, base + change

    return draw, more - less


_CASES = {
    "binary, none": _binary(0.1, 0.1),
    "binary, rare": _binary(0.15, 0.05),
    "binary, large": _binary(0.9, 0.0),
    "scores": (lambda rng, n: (rng.beta(0.5, 0.5, n), rng.beta(0.5, 0.5, n)), 0.0),
    "skewed": (lambda rng, n: (rng.exponential(1, n), rng.exponential(1, n)), 0.0),
    "skewed differences": (lambda rng, n: (np.zeros(n), rng.exponential(1, n)), 1.0),
}


@pytest.mark.parametrize("case", list(_CASES))
@pytest.mark.parametrize("rows", [8, 20, 36, 100])
def test_the_interval_covers_and_luck_is_rarely_called_better(case, rows):
    """200 repetitions of a 95 % interval: its own sampling error is 1.5 points, so 88 % is out of reach unless coverage is below 92 %."""
    draw, truth = _CASES[case]
    rng = np.random.default_rng(rows)
    found = [compare("x", *draw(rng, rows), resamples=400) for _ in range(200)]
    covered = np.mean([c.low - 1e-9 <= truth <= c.high + 1e-9 for c in found])
    assert covered >= 0.88, covered
    if truth == 0:
        assert np.mean([c.verdict != "no evidence" for c in found]) <= 0.09


def test_drawing_rows_instead_of_groups_would_lie():
    """What the groups are for: with four wordings a question, intervals over rows miss the truth three times in ten."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 4)
    hits = {"rows": 0, "groups": 0}
    for _ in range(200):
        change = np.repeat(rng.choice([1.0, -1.0, 0.0], p=[0.2, 0.2, 0.6], size=20), 4)
        for name, labels in (("rows", None), ("groups", groups)):
            hits[name] += compare("x", np.zeros(80), change, labels, resamples=300).verdict == "no evidence"
    assert hits["groups"] >= 184 and hits["rows"] < 160, hits


def test_what_cannot_be_compared_is_refused():
    for base, adapter, groups in (([], [], None), ([1.0], [1.0, 2.0], None), ([float("nan")], [1.0], None), ([1.0], [1.0], [1, 2])):
        with pytest.raises(ValueError):
            compare("x", base, adapter, groups)


def test_many_rows_need_no_more_memory_than_few():
    rng = np.random.default_rng(0)
    found = compare("x", rng.random(3000), rng.random(3000) + 0.1, resamples=2000)
    assert found.verdict == "better" and found.high - found.low < 0.05


def test_sentences_speak_the_users_language(monkeypatch):
    better = compare("equals the reference", [0.0] * 36, [1.0] * 36)
    assert sentence(better) == (
        "The adapter is better than the base. equals the reference: base 0.0%, adapter 100.0%; "
        "difference +100.0 points, 95% interval +90.3 to +100.0 points; 36 questions compared."
    )
    assert "10 rows compared." in sentence(compare("x", [0.0] * 10, [1.0] * 10), "rows")
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    assert sentence(better).startswith("适配器优于基座模型。") and "共比较 36 个问题" in sentence(better)
    assert (figure(0.25, True), figure(1.5, False)) == ("25.0%", "1.500")


def test_importing_it_is_light():
    code = "import sys, loraforge.evaluation.bootstrap; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
