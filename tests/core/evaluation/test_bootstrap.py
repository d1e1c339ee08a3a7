# SPDX-License-Identifier: Apache-2.0
"""Better, worse, or no evidence: numbers that can be checked by hand, and rates measured by simulation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from loraforge.evaluation import bootstrap
from loraforge.evaluation.bootstrap import compare, figure, interval, sentence


def test_a_difference_on_every_row_is_better_and_the_interval_has_a_width():
    found = compare("equals the reference", [0.0] * 36, [1.0] * 36)
    assert (found.verdict, found.base, found.adapter, found.difference, found.rows, found.groups) == ("better", 0, 1, 1, 36, 36)
    # Clopper and Pearson (1934): 36 of 36 leave room down to 0.025^(1/36).
    assert found.low == pytest.approx(0.025 ** (1 / 36)) and found.high == 1.0
    assert compare("equals the reference", [1.0] * 36, [0.0] * 36).verdict == "worse"


def test_for_a_loss_less_is_better():
    base, adapter = [2.0, 2.1, 2.3, 1.9, 2.5, 2.2, 2.4, 2.0], [1.0, 1.1, 1.3, 1.2, 1.5, 1.6, 1.3, 1.0]
    found = compare("loss", base, adapter, lower_is_better=True)
    assert found.verdict == "better" and found.high < 0 and compare("loss", adapter, base, lower_is_better=True).verdict == "worse"
    assert compare("score", base, adapter).verdict == "worse"
    assert "difference -0.925" in sentence(found) and "%" not in sentence(found).replace("95%", "")


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
    """Four wordings each of eight questions: as rows they would look like much, as questions they are eight."""
    groups = [i // 4 for i in range(32)]
    base, adapter = [0.0] * 32, [float(g > 2) for g in groups]
    by_row, by_group = compare("x", base, adapter), compare("x", base, adapter, groups)
    assert by_row.verdict == "better" and by_group.verdict == "no evidence" and (by_group.groups, by_group.moved) == (8, 5)
    assert by_group.high - by_group.low > by_row.high - by_row.low
    assert "32 questions compared, 8 of them independent" in sentence(by_group)
    assert compare("x", base, adapter, groups) == compare("x", base, adapter, [f"g{g}" for g in groups])


def test_a_group_weighs_as_many_rows_as_it_has():
    mean, low, high = interval([1.0] * 9 + [0.0] * 7, [0] * 9 + [1, 2, 3, 4, 5, 6, 7])
    assert mean == pytest.approx(9 / 16) and low == 0.0 and high == 1.0


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("rows", range(1, 8))
def test_fewer_than_eight_questions_have_no_interval(rows, share):
    found = compare("x", [0.0] * rows, [1.0] * rows, share=share)
    assert found.verdict == "no evidence" and found.too_few and (found.low, found.high, found.detectable) == (None, None, None)
    said = sentence(found)
    assert "interval -" not in said and "nan" not in said and ("+100.0 points" if share else "+1.000") in said
    assert "Too few independent questions for an interval or a verdict; it takes 8 or more." in said
    assert interval([float(i % 2) for i in range(rows)])[1:] == (None, None)
    many = compare("x", [0.0] * 40, [1.0] * 40, [i % rows for i in range(40)])
    assert (many.low, many.groups) == (None, rows), "forty rows of so few groups are as few"


def test_eight_are_enough_if_six_move_alike():
    assert compare("x", [0.0] * 8, [1.0] * 8).verdict == "better"
    assert compare("x", [0.0] * 8, [1.0] * 6 + [0.0] * 2).verdict == "better"
    assert compare("x", [0.0] * 8, [1.0] * 5 + [0.0] * 3).verdict == "no evidence"


@pytest.mark.parametrize("moved", range(6))
def test_where_hardly_anything_moves_a_loss_has_no_interval_and_shares_a_wide_one(moved):
    """Shares: Clopper and Pearson's bound of how many rows move, each by the whole range."""
    from scipy.stats import beta

    change = [0.04] * moved + [0.0] * (36 - moved)
    found = compare("overlap", [0.5] * 36, [0.5 + one for one in change])
    ends = -(1 - 0.025 ** (1 / 36)), beta.ppf(0.975, moved + 1, 36 - moved)
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-9) and (found.moved, found.verdict) == (moved, "no evidence")
    told = f"The two differ on {moved} of 36 independent questions; where they differ on fewer than 6, nothing can be shown."
    assert sentence(found).endswith(told) and found.detectable is None
    lost = compare("loss", [2.0] * 36, [2.0 + one for one in change])
    assert (lost.low, lost.high, lost.detectable) == (None, None, None) and sentence(lost).endswith(told)
    assert "interval" not in sentence(lost)


@pytest.mark.parametrize("size", [1e-4, 1e-6, 0.0])
@pytest.mark.parametrize("measure", ["loss", "overlap"])
def test_what_no_table_shows_is_no_difference(measure, size):
    """A null adapter moves losses in the last digits only, all in one direction: that is neither better nor a precise finding."""
    base = np.random.default_rng(0).random(36) * 0.8
    found = compare(measure, base, base + size)
    assert (found.verdict, found.moved, found.detectable) == ("no evidence", 0, None)
    assert not [part for part in ("about 0.0", "0.000 to", "-0.0 to") if part in sentence(found)]


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
    "log-normal differences": (lambda rng, n: (np.zeros(n), rng.lognormal(0, 1, n)), np.exp(0.5)),
    "scores that hardly change": (lambda rng, n: (np.full(n, 0.25), 0.25 + 0.75 * rng.beta(1, 2, n) * (rng.random(n) < 0.1)), 0.025),
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


# --- each part against scipy, or by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("freedom", "off"), [(3, 1e-2), (4, 4e-3), (6, 1e-3), (10, 1.2e-4), (30, 3e-6), (200, 1e-8)])
@pytest.mark.parametrize("share", [0.975, 0.95, 0.9, 0.8])
def test_students_quantile_is_scipys(freedom, off, share):
    from scipy.stats import t

    assert bootstrap._student(share, freedom) == pytest.approx(t.ppf(share, freedom), rel=off)
    assert bootstrap._student(1 - share, freedom) == pytest.approx(-bootstrap._student(share, freedom))


def reach_of(groups: int, level: float) -> float:
    from scipy.stats import t

    return np.sqrt(groups / (groups - 1)) * t.ppf((1 + level) / 2, groups - 1)


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("rows", [10, 25])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_interval_is_scipys_bca_taken_further_out(rows, level, seed):
    """Skewed values; scipy's own BCa interval of the level that reaches as far as Student's t does."""
    from scipy.stats import bootstrap as scipys
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 1, rows)
    wider = 1 - 2 * norm.cdf(-reach_of(rows, level))
    wanted = scipys(
        (values,), np.mean, confidence_level=wider, method="BCa", n_resamples=60_000, rng=np.random.default_rng(5)
    ).confidence_interval
    mean, low, high = bca(values, level=level)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.025 * (wanted.high - wanted.low))


def test_groups_of_different_sizes_are_drawn_whole():
    """The same for a ratio of sums, with scipy drawing pairs of (sum, size)."""
    from scipy.stats import bootstrap as scipys
    from scipy.stats import norm

    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 6, 15)
    labels = np.repeat(np.arange(15), sizes)
    values = rng.exponential(1, 15)[labels] + rng.normal(0, 0.1, len(labels))
    sums = np.bincount(labels, values)
    wider = 1 - 2 * norm.cdf(-reach_of(15, 0.95))
    wanted = scipys(
        (sums, sizes), lambda a, b, axis=-1: a.sum(axis) / b.sum(axis), paired=True, confidence_level=wider, method="BCa",
        n_resamples=60_000, rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    mean, low, high = bca(values, labels)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.03 * (wanted.high - wanted.low))


def bca(values, labels=None, level: float = 0.95):
    """(mean, ends) of this part of the interval alone."""
    found = bootstrap._grouped(np.asarray(values), labels, 1.0)
    means, _ = bootstrap._drawn(found, np.random.default_rng(0), 60_000)
    return found.mean, *bootstrap._bca(found, means, (1 - level) / 2)


@pytest.mark.parametrize(("rows", "tail"), [(12, 0.01), (19, 0.01), (20, 0.015)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_ends_reach_as_far_as_students_t_and_as_the_bootstrap_t(rows, tail, seed):
    """The first is scipy's; the second is drawn here once more, as Efron and Tibshirani have it, with smaller tails."""
    from scipy.stats import t

    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 1, rows)
    _, low, high = interval(values, resamples=40_000)
    exact = t.interval(0.95, rows - 1, values.mean(), values.std(ddof=1) / np.sqrt(rows))
    drawn = values[rng.integers(0, rows, (40_000, rows))]
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(rows)
    known = errors > 0.25 * values.std(ddof=1) / np.sqrt(rows)
    first, last = np.quantile((drawn.mean(axis=1) - values.mean())[known] / errors[known], [tail, 1 - tail])
    error = values.std(ddof=1) / np.sqrt(rows)
    studentised = values.mean() - last * error, values.mean() - first * error
    assert low <= exact[0] + 1e-3 and high >= exact[1] - 1e-3
    assert high == pytest.approx(max(exact[1], studentised[1]), rel=0.05), "of a long tail the bootstrap-t is the widest"


def test_the_error_of_groups_of_different_sizes():
    """Of equal ones, that of a mean; of others, what the ratio of sums varies by, from draws."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, 20)
    assert bootstrap._errors(values - values.mean(), np.ones(20)) == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    sizes = rng.integers(1, 6, (4000, 40)).astype(float)
    sums = sizes * rng.normal(0, 1, (4000, 40))
    ratios = sums.sum(axis=1) / sizes.sum(axis=1)
    estimated = bootstrap._errors(sums - ratios[:, None] * sizes, sizes)
    assert np.sqrt((estimated**2).mean()) == pytest.approx(ratios.std(), rel=0.05)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 3.0], [1.0, -2.0, 3.0, 0.5, 0.25], [1.0] * 8, [0.3, -0.3, 0.3], [1.0, 0.0, -0.5, 0.0, 2.0, 1e-13], [1.0] * 12]
)
def test_the_sign_flip_test_counts_every_case(values):
    import itertools

    moved = [v for v in values if abs(v) > 1e-12]
    cases = [abs(sum(sign * v for sign, v in zip(signs, moved, strict=True))) for signs in itertools.product((1, -1), repeat=len(moved))]
    wanted = sum(case >= abs(sum(moved)) - 1e-9 for case in cases) / len(cases)
    assert bootstrap._flip_probability(np.array(values), np.random.default_rng(0), 10) == pytest.approx(wanted, abs=1e-12)


def test_many_groups_are_flipped_at_random():
    """scipy's permutation test of pairs, exact for 13 and by the same number of draws for 40."""
    from scipy.stats import permutation_test

    rng = np.random.default_rng(4)
    for count in (13, 40):
        values = rng.normal(0.3, 1, count)
        wanted = permutation_test((values,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)).pvalue
        assert bootstrap._flip_probability(values, np.random.default_rng(0), 20_000) == pytest.approx(wanted, abs=0.012)
    sure = bootstrap._flip_probability(np.ones(60), np.random.default_rng(0), 99)
    assert sure == pytest.approx(1 / 100), "never 0: what was seen counts as one of the cases (Phipson and Smyth 2010)"


@pytest.mark.parametrize("cells", [1, 100, 20 * 1999])
def test_how_much_is_drawn_at_once_changes_nothing_but_the_draws(monkeypatch, cells):
    values = np.linspace(-1, 2, 20)
    whole = bootstrap._flip_probability(values, np.random.default_rng(0), 2000), *interval(values, resamples=2000)
    monkeypatch.setattr(bootstrap, "_CELLS", cells)
    parts = bootstrap._flip_probability(values, np.random.default_rng(0), 2000), *interval(values, resamples=2000)
    assert parts == pytest.approx(whole, abs=0.03)


@pytest.mark.parametrize(
    ("values", "grain"), [([0, 1, 1], 1.0), ([0, 0.5, 0.75], 0.25), ([3.0, 3.0], 1.0), ([0.0, 1e-11, 2.0], 2.0), ([5.0, -1.0, 2.0], 3.0)]
)
def test_the_grain_is_the_smallest_step_between_values(values, grain):
    assert bootstrap._grain(np.array(values)) == grain


@pytest.mark.parametrize("grain", [1.0, 0.5])
@pytest.mark.parametrize("rows", [8, 9, 20])
def test_what_was_never_seen_may_lie_a_grain_away(grain, rows):
    """A kind of question that is a share u of the world is missed by n groups with probability (1 - u)^n: 2.5 % at the largest u."""
    found = compare("x", [0.0] * rows, [grain] * rows, share=False)
    unseen = (1 - 0.025 ** (1 / rows)) * grain
    assert found.high == pytest.approx(grain + unseen) and found.low == pytest.approx(grain - unseen)


def test_a_single_group_has_no_spread_and_no_certainty():
    assert interval([7.0]) == interval([7.0] * 20, [0] * 20) == (7.0, None, None)
    assert interval([7.0] * 20) == (7.0, None, None), "nor have twenty that are all alike, where nothing bounds the next one"


def test_the_mean_of_shares_may_miss_whole_failures():
    """Nineteen right and one partly: that nothing was wholly wrong does not mean that nothing ever is."""
    mean, low, high = interval([1.0] * 19 + [0.5])
    unseen = 1 - 0.025 ** (1 / 20)
    assert low <= mean * (1 - unseen) + 1e-9 and high == 1.0
    assert interval([0.0] * 20) == (0.0, 0.0, pytest.approx(unseen))


@pytest.mark.parametrize(("values", "inside"), [([0.0, 1.0] * 4, True), ([0.9, 1.1] * 4, False), ([-0.1, 0.1] * 4, False)])
def test_shares_stay_between_0_and_1(values, inside):
    _, low, high = interval(values)
    assert bool(low >= 0 and high <= 1) is inside


def test_the_smallest_difference_follows_from_the_error():
    """(t quantile + z of 80 %) standard errors, at least as many grains as the sign-flip test needs groups; of shares at most 1."""
    from scipy.stats import norm, t

    rng = np.random.default_rng(8)
    change = rng.normal(0, 1, 50)
    found = compare("x", np.zeros(50), change, resamples=20_000)
    error = change.std() / np.sqrt(50)
    half = (found.high - found.low) / 2
    assert found.detectable == pytest.approx(half + norm.ppf(0.8) * error, rel=0.02) and half > t.ppf(0.975, 49) * error
    wild = [0.0, 1.0] * 4, [1.0, 0.0] * 4
    assert compare("x", *wild).detectable == 1.0 < compare("x", *wild, share=False).detectable
    few = [0.0] * 8, [0.5] * 5 + [0.0] * 3
    assert compare("x", *few).detectable is None and compare("x", *few, level=0.9).detectable is not None, "five that move can reach 10 %"


@pytest.mark.parametrize(("level", "fewest"), [(0.95, 6), (0.9, 5), (0.75, 3), (0.5, 2), (0.99, 8)])
def test_as_many_groups_as_a_coin_needs(level, fewest):
    assert bootstrap._fewest(level) == fewest and 2 * 0.5**fewest <= 1 - level + 1e-12 < 2 * 0.5 ** (fewest - 1) + 1e-9


@pytest.mark.parametrize(
    ("measure", "base", "adapter", "share"),
    [("x", [0, 1], [1, 0.5], True), ("x", [0, 1.01], [1, 0], False), ("x", [0, 1], [-0.01, 1], False), ("loss", [0, 1], [1, 0], False),
     ("held-out loss", [0, 1], [1, 0], False)],
)  # fmt: skip
def test_what_counts_as_a_share(measure, base, adapter, share):
    found = compare(measure, base, adapter)
    assert found.share is share and compare(measure, base, adapter, share=not share).share is not share
    if share:
        more = compare(measure, base * 5, adapter * 5)
        assert more.share and -1 <= more.low <= more.high <= 1


def comparison(low: float, high: float, lower: bool = False, **more) -> bootstrap.Comparison:
    return bootstrap.Comparison(**{"measure": "m", "rows": 9, "groups": 9, "base": 0.5, "adapter": 0.25, "low": low, "high": high, "lower_is_better": lower, **more})  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (0.0, 0.2, "no evidence"), (-0.2, 0.0, "no evidence"), (-0.1, 0.1, "no evidence"), (0, 0, "no evidence")],
)  # fmt: skip
def test_the_verdict_leaves_no_doubt(low, high, verdict):
    assert comparison(low, high).verdict == verdict
    assert comparison(low, high, True).verdict == {"better": "worse", "worse": "better"}.get(verdict, verdict)


def test_every_figure_of_a_sentence_is_its_own():
    worse = comparison(-0.75, -0.125, groups=7, level=0.9)
    assert sentence(worse, "rows") == (
        "The adapter is worse than the base. m: base 0.500, adapter 0.250; difference -0.250, 90% interval -0.750 to -0.125; "
        "9 rows compared, 7 of them independent."
    )
    shares = comparison(-0.75, 0.125, share=True, detectable=0.375)
    assert sentence(shares) == (
        "No evidence that the adapter differs from the base. m: base 50.0%, adapter 25.0%; difference -25.0 points, 95% interval -75.0 to "
        "+12.5 points; 9 questions compared. At this size only a difference of about 37.5 points or more can be expected to show."
    )
    assert "about 0.375 or more" in sentence(comparison(-0.75, 0.125, detectable=0.375))
    assert sentence(comparison(None, None, rows=3, groups=3)) == (
        "No evidence that the adapter differs from the base. m: base 0.500, adapter 0.250; difference -0.250; 3 questions compared. "
        "Too few independent questions for an interval or a verdict; it takes 8 or more."
    )
    assert sentence(comparison(-0.5, 0.25, moved=3, level=0.9)).endswith(
        "The two differ on 3 of 9 independent questions; where they differ on fewer than 5, nothing can be shown."
    )
    assert sentence(comparison(-0.5, 0.25, detectable=1e-5)).endswith("9 questions compared."), "a bound of 0.000 says nothing"
    assert worse.as_json() == {
        "measure": "m", "rows": 9, "groups": 7, "base": 0.5, "adapter": 0.25, "low": -0.75, "high": -0.125, "lower_is_better": False,
        "detectable": None, "share": False, "level": 0.9, "moved": 0, "difference": -0.25, "verdict": "worse", "too_few": True,
    }  # fmt: skip


def test_an_interval_that_the_test_does_not_confirm_reaches_to_zero():
    """Six groups that agree and two that hardly move: the interval alone would leave 0 out."""
    change = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, -0.04, -0.05]
    found, sure = (compare("x", [0.0] * 8, change, share=False, level=level) for level in (0.97, 0.95))
    assert bootstrap._bounds(bootstrap._grouped(np.array(change), None, 0.01), np.random.default_rng(0), 10_000, 0.97)[0] > 0
    assert (found.low, found.verdict, sure.verdict) == (0.0, "no evidence", "better") and found.high > 1
