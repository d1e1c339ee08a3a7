# SPDX-License-Identifier: Apache-2.0
"""What is said of a run's losses: on curves whose truth is known, and never a false alarm on healthy ones."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter

import pytest

from loraforge.diagnosis.diagnose import Diagnosis, History, advised_rate, diagnose, higher, history_from_log, lower, shown, start

SEEDS = 25
USUAL = (1e-4, 3e-4)


def decay(speed=8.0, height=2.5, floor=0.5):
    return lambda u: floor + height * math.exp(-speed * u)


def flat(share):
    """Falls evenly on a logarithmic scale, and no further from that share of the run on."""
    return lambda u: 0.5 * math.exp(1.5 * max(0.0, 1 - u / share))


def cycle(size, times):
    return lambda u: (0.8 + 2 * math.exp(-12 * u)) * (1 + size * math.sin(2 * math.pi * u * times))


def bump(u):
    return decay()(u) * (1 + 0.5 * math.exp(-(((u - 0.05) / 0.02) ** 2)))


def stairs(passes):
    """Each pass starts lower than the last one ended, and creeps up a little."""
    return lambda u: 0.6 + 2 * math.exp(-0.6 * math.floor(u * passes)) * (1 + 0.06 * ((u * passes) % 1))


def made(shape, *, seed=0, steps=360, per_epoch=36, noise=0.2, heldout=None, every=36, still=0.005, heavy=False, cosine=True, rate=2e-4):
    """A run whose mean loss follows ``shape`` (share of the run -> loss): rows of different difficulty, shuffled, in batches of four."""
    rng = random.Random(f"{seed}/{noise}/{steps}")
    rows = [rng.gauss(0, 1) for _ in range(per_epoch * 4)]
    losses, left = [], []
    for step in range(1, steps + 1):
        if not left:
            left = rng.sample(range(len(rows)), len(rows))
        jitter = 0.35 * sum(rows[left.pop()] for _ in range(4)) + rng.gauss(0, 0.7) * (rng.choice([0.5, 0.5, 0.5, 2.2]) if heavy else 1)
        losses.append((step, max(1e-6, shape(step / steps) * math.exp(noise * jitter))))
    held = (
        [(s, heldout(s / steps) * math.exp(rng.gauss(0, still) if s else 0)) for s in [*range(0, steps, every), steps]] if heldout else []
    )
    warm = math.ceil(0.03 * steps)
    falling = [0.5 * (1 + math.cos(math.pi * (s - warm) / (steps - warm + 1))) if cosine else 1.0 for s in range(1, steps + 1)]
    rates = [(s, rate * (s / warm if s <= warm else falling[s - 1])) for s in range(1, steps + 1)]
    return History(losses, held, per_epoch, rate, USUAL, rates=rates)


HEALTHY = {
    **{
        f"decay, noise {n}, {'heavy' if h else 'light'} tails": {"shape": decay(), "noise": n, "heavy": h}
        for n in (0.02, 0.2, 0.7)
        for h in (0, 1)
    },
    **{f"decay, held out, noise {n}": {"shape": decay(), "noise": n, "heldout": decay(8, 2.3, 0.8), "still": 0.01} for n in (0.1, 0.4)},
    "learned by heart": {"shape": decay(9, 3, 0.02), "heldout": decay(9, 2.3, 0.8)},
    "power law": {"shape": lambda u: 0.4 + 2 * (1 + 40 * u) ** -0.7, "heldout": lambda u: 0.7 + 2 * (1 + 40 * u) ** -0.7},
    "warm-up bump": {"shape": bump, "noise": 0.1},
    "stairs": {"shape": stairs(4), "noise": 0.1, "steps": 600, "per_epoch": 150},
    "three passes": {"shape": stairs(3), "noise": 0.1, "steps": 600, "per_epoch": 200},
    "one pass": {"shape": decay(10), "steps": 150, "per_epoch": 150},
    "short": {"shape": decay(), "steps": 25, "per_epoch": 5},
    "three steps": {"shape": decay(), "steps": 3, "per_epoch": 2, "heldout": decay(), "every": 1},
    "whole data in a step": {"shape": decay(), "steps": 60, "per_epoch": 1, "heldout": decay(), "every": 5},
    "pictures": {
        "shape": decay(3, 0.015, 0.11),
        "noise": 0.6,
        "steps": 500,
        "per_epoch": 10,
        "heldout": decay(3, 0.013, 0.112),  # twice as fast, and it would be within a hundredth of its end after two fifths
        "every": 50,
    },
    "jittery hold-out": {"shape": decay(), "heldout": decay(8, 2.3, 0.8), "still": 0.02, "every": 18},
    "constant rate": {"shape": decay(), "heldout": decay(8, 2.3, 0.8), "cosine": False},
    "hold-out rises by 2 %": {"shape": decay(), "heldout": lambda u: decay(10, 2.3, 0.8)(u) + 0.02 * u},
}


@pytest.mark.parametrize("name", list(HEALTHY))
def test_healthy_runs_raise_no_alarm(name):
    """At 200 seeds of 54 such shapes, 10,800 runs raised 8 alarms."""
    said = Counter(d.kind for seed in range(SEEDS) for d in diagnose(made(**HEALTHY[name], seed=seed)))
    assert set(said) <= {"healthy", "too_short"} and sum(said.values()) == SEEDS, said


SICK = {
    "oscillating 3 times by 20 %": ("oscillating", {"shape": cycle(0.2, 3), "noise": 0.1}),
    "oscillating 6 times by 40 %": ("oscillating", {"shape": cycle(0.4, 6), "noise": 0.4}),
    "oscillating 15 times by 70 %": ("oscillating", {"shape": cycle(0.7, 15), "noise": 0.2}),
    "oscillating 30 times by 70 %": ("oscillating", {"shape": cycle(0.7, 30), "noise": 0.1}),
    "oscillating, held out": ("oscillating", {"shape": cycle(0.3, 6), "heldout": cycle(0.2, 6), "every": 18}),
    "oscillating, seen held out only": (
        "oscillating",
        {
            "shape": lambda u: 5.3 + 2 * math.exp(-80 * u) + 0.7 * math.sin(math.pi * min(1, u * 1.5)) - 0.4 * u,
            "heldout": lambda u: 5.1 + 2.3 * math.exp(-80 * u) + 0.8 * math.sin(math.pi * min(1, u * 1.5)) - 0.4 * u,
            "every": 18,
        },
    ),
    "diverged in the middle": ("diverged", {"shape": lambda u: decay()(u) + (4 * (1 - math.exp(10 - 20 * u)) if u > 0.5 else 0)}),
    "diverged from the start": ("diverged", {"shape": lambda u: 2 + 3 * u}),
    "jumped up and stayed": (
        "diverged",
        {"shape": lambda u: 7 + 4 * math.exp(-(((u - 0.05) / 0.05) ** 2)) - 0.6 * u, "heldout": lambda u: 7.2 - 0.7 * u},
    ),
    "straight and flat": ("too_slow", {"shape": lambda u: 3 - 0.35 * u, "heldout": lambda u: 3 - 0.35 * u}),
    "rate below the range": ("too_slow", {"shape": decay(2, 1.2, 1.8), "heldout": decay(2, 1.2, 1.8), "rate": 2e-5}),
    "stopped too early": ("still_falling", {"shape": decay(1.7, 3, 0.1), "heldout": decay(1.7, 3, 0.1), "cosine": False}),
    "over-fitting": ("over_fitting", {"shape": decay(9, 3, 0.02), "heldout": lambda u: decay(12, 2, 1.2)(u) + 0.4 * u, "still": 0.01}),
    "over-fitting, few measures": (
        "over_fitting",
        {"shape": decay(5, 3, 0.02), "heldout": lambda u: decay(14, 2, 1.2)(u) + 0.3 * u, "every": 60},
    ),
    "flat after a tenth": ("too_long", {"shape": decay(30, 0.3, 1.0), "noise": 0.3, "heldout": decay(30, 0.3, 1.0), "still": 0.01}),
    "flat after a third": ("too_long", {"shape": decay(9, 3, 0.2), "heldout": flat(1 / 3), "steps": 450, "every": 45, "still": 0.005}),
    "flat after a third, jittery": (
        "too_long",
        {"shape": decay(9, 3, 0.2), "heldout": flat(1 / 3), "steps": 450, "every": 15, "still": 0.02},
    ),
    "no movement": ("flat", {"shape": lambda u: 1.0, "heldout": lambda u: 1.0}),
}


@pytest.mark.parametrize("name", list(SICK))
def test_what_is_wrong_is_found(name):
    kind, run = SICK[name]
    said = Counter(diagnose(made(**run, seed=seed))[0].kind for seed in range(SEEDS))
    assert said[kind] >= 0.9 * SEEDS, said


@pytest.mark.parametrize(("share", "every", "steps"), [(1 / 3, 15, 450), (0.1, 20, 400), (0.25, 30, 600)])
def test_a_run_that_is_too_long_names_where_it_stopped_improving(share, every, steps):
    """Within two measurements of the truth, with the losses there and at the end, and how many passes that were."""
    places = []
    for seed in range(SEEDS):
        history = made(decay(9, 3, 0.2), heldout=flat(share), steps=steps, every=every, still=0.01, seed=seed)
        found = diagnose(history)[0]
        if found.kind != "too_long":
            continue
        assert found.steps[1] == steps and found.learning_rate is None
        step, held = found.steps[0], dict(history.heldout)
        assert f"{held[step]:.3f} at step {step} and {held[steps]:.3f} at step {steps}" in found.evidence
        assert f"stopped improving at step {step} of {steps}: {step / steps:.0%} of the time" in found.sentence
        wanted = step / 36
        assert f"(about {wanted:.0f})" in found.sentence or (wanted < 2 and f"(about {max(wanted, 0.1):.1f})" in found.sentence)
        assert "suggests another" not in found.sentence
        places.append(step)
    assert len(places) >= 0.8 * SEEDS and abs(sorted(places)[len(places) // 2] - share * steps) <= 2 * every, places


@pytest.mark.parametrize("share", [0.55, 0.7, 1.0])
def test_a_run_whose_loss_fell_in_its_second_half_is_not_too_long(share):
    said = Counter(diagnose(made(decay(9, 3, 0.2), heldout=flat(share), steps=450, every=45, seed=seed))[0].kind for seed in range(SEEDS))
    assert "too_long" not in said, said


def test_a_small_but_steady_fall_is_an_improvement():
    """Two percent in the second half, each measurement below the one before: no noise, however large, makes that a plateau."""
    held = [(s, 2.0 * math.exp(-8 * s / 400) + 0.8 - 0.03 * s / 400) for s in range(0, 401, 20)]
    history = made(decay(9, 3, 0.2), steps=400)
    told = History(history.losses, held, 36, 2e-4, USUAL, rates=history.rates)
    assert diagnose(told)[0].kind == "healthy"
    assert diagnose(History(history.losses, held[:5], 36, 2e-4, USUAL, rates=history.rates))[0].kind != "too_long", "too few to tell"


def test_over_fitting_names_the_step_and_the_figures():
    history = made(decay(9, 3, 0.02), heldout=lambda u: decay(12, 2, 1.2)(u) + 0.4 * u, still=0.0)
    best, low = min(history.heldout, key=lambda point: point[1])
    found = diagnose(history)[0]
    assert found.kind == "over_fitting" and found.steps == (best, 360) and found.learning_rate is None
    assert f"since step {best}" in found.sentence and "adapter_from: best" in found.sentence
    assert (
        f"{low:.3f}" in found.evidence and f"{history.heldout[-1][1]:.3f}" in found.evidence and "training loss fell from" in found.evidence
    )
    told = History(history.losses, history.heldout, 36, 2e-4, USUAL, rates=history.rates, kept=best)
    assert "was taken from before that" in diagnose(told)[0].sentence


def test_an_oscillation_is_shown_from_its_first_rise_with_its_figures():
    found = diagnose(made(cycle(0.4, 6), noise=0.1))[0]
    times, low, high = re.search(r"went up again (\d+) times, at most from (\S+) to (\S+):", found.evidence).groups()
    assert found.kind == "oscillating" and found.steps[0] < 120 and found.steps[1] > 300 and f"steps {found.steps[0]} and" in found.evidence
    assert int(times) in (5, 6) and 0.4 < float(low) < 0.6 and 1.0 < float(high) < 1.3
    assert found.learning_rate == 1e-4 and "2e-4 is too high here; try 1e-4" in found.sentence


def test_data_smaller_than_it_looks():
    def said(rows, questions, answers):
        history = made(decay())
        found = diagnose(History(history.losses, [], 36, 2e-4, USUAL, rates=history.rates, rows=rows, questions=questions, answers=answers))
        return [(d.kind, d.sentence.split(":")[0]) for d in found if d.kind == "small_data"], found[-1].evidence

    looks = [("small_data", "The data is smaller than it looks")]
    assert said(180, 60, 60) == (looks, "180 rows hold 60 different questions and 60 different answers.")
    assert said(180, 180, 20)[0] == looks
    assert said(40, 40, 40)[0] == [("small_data", "Few examples")]
    for plenty in ((143, 143, 60), (24, 0, 0), (200, 190, 150)):
        assert said(*plenty)[0] == []


def test_a_run_without_numbers_or_steps():
    history = History([(1, 2.0), (2, math.nan), (3, math.inf)], [], 2, 2e-4, USUAL)
    assert [(d.kind, d.learning_rate, d.steps) for d in diagnose(history)] == [("diverged", 1e-4, (2, 3))]
    assert [d.kind for d in diagnose(History([], [], 1, 2e-4, USUAL))] == ["too_short"]
    assert [d.kind for d in diagnose(History([(1, 2.0), (2, 5.0), (3, 9.0)], [], 2, 2e-4, USUAL))] == ["too_short"]
    held_out = [d.sentence for d in diagnose(made(decay()))]
    assert len(held_out) == 1 and "eval_ratio: 0.2" in held_out[0]


def test_the_article_s_advice_on_the_rate_and_its_places_in_other_ranges():
    assert (start(USUAL), higher(2e-4, USUAL), lower(2e-4, USUAL)) == (2e-4, 3e-4, 1e-4)
    assert (higher(3e-4, USUAL), lower(1e-4, USUAL), lower(2e-3, USUAL), higher(1e-5, USUAL)) == (None, 5e-5, 2e-4, 2e-4)
    tiny = (5e-4, 5e-3)
    assert (higher(1.5e-4, tiny), higher(2e-3, tiny), lower(5e-3, tiny), lower(2e-2, tiny)) == (2.1e-3, 3e-3, 2.5e-3, 2.1e-3)
    assert [shown(rate) for rate in (2e-4, 1.25e-4, 0.01, 2e-3)] == ["2e-4", "1.25e-4", "1e-2", "2e-3"]
    for low, high in (USUAL, tiny, (5e-5, 5e-4)):
        for rate in [low * 1.07**i / 30 for i in range(150)]:
            up, down = higher(rate, (low, high)), lower(rate, (low, high))
            assert up is None or (up > rate and low <= up <= high)
            assert down < rate and (low <= down <= high or down == pytest.approx(rate / 2, rel=0.05))


def test_advice_is_never_taken_back():
    slow = made(lambda u: 3 - 0.35 * u, heldout=lambda u: 3 - 0.35 * u)
    wild = made(cycle(0.4, 6), rate=2e-4)
    assert (advised_rate(diagnose(slow), slow), advised_rate(diagnose(wild), wild)) == (3e-4, 1e-4)
    assert advised_rate(diagnose(made(decay())), made(decay())) is None

    def after(history, before):
        told = History(history.losses, history.heldout, 36, 2e-4, USUAL, rates=history.rates, before=before)
        return advised_rate(diagnose(told), told)

    assert (after(wild, 4e-4), after(wild, 1.3e-4), after(slow, 1.3e-4), after(slow, 4e-4)) == (1e-4, None, 3e-4, None)
    assert advised_rate([Diagnosis("too_slow", "", "", None, 2e-4)], slow) is None


def test_every_finding_speaks_chinese(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    for kind, run in SICK.values():
        found = diagnose(made(**run))[0]
        assert found.kind == kind and re.search("[一-鿿]", found.sentence) and re.search("[一-鿿]", found.evidence), found


def line(event, **values):
    return json.dumps({"time": 1.0, "event": event, **values}) + "\n"


def test_the_log_of_a_resumed_run_is_read_as_one_run(tmp_path):
    def step(number, loss):
        return line("StepFinished", step=number, steps=6, epoch=number / 2, loss=loss, learning_rate=1e-4 * number)

    log = tmp_path / "log.jsonl"
    text = (
        line("StageStarted", stage="data") + line("RunStarted", first_step=0, facts={"examples": 8}) + line("Evaluated", step=0, loss=3.0)
    )
    text += "".join(step(n, 2.0) for n in (1, 2, 3, 4, 5)) + line("Evaluated", step=4, loss=9.0) + '{"event": "StepFin'
    text += (
        "\n" + line("RunStarted", first_step=2, facts={"examples": 8}) + step(3, 1.0) + step(4, 0.5) + line("Evaluated", step=4, loss=1.5)
    )
    log.write_text(text, encoding="utf-8")
    history = history_from_log(log, usual=(1.0, 2.0), questions=7)
    assert history.losses == [(1, 2.0), (2, 2.0), (3, 1.0), (4, 0.5)]  # step 5 of the killed part never led to this adapter
    assert history.heldout == [(0, 3.0), (4, 1.5)]
    assert (history.per_epoch, history.rows, history.questions, history.learning_rate) == (2, 8, 7, pytest.approx(4e-4))
    assert history.usual == (1.0, 2.0) and history.rates[0] == (1, 1e-4)
