# SPDX-License-Identifier: Apache-2.0
"""What a loaded base answers: alone and in batches, where answers end, and how far a batch is."""

from __future__ import annotations

import pytest
from builders import small_bases

torch = pytest.importorskip("torch")


@pytest.fixture
def open_base(monkeypatch):
    """The inference model of a base, without adapters."""
    from loraforge_text.base_files import read_base
    from loraforge_text.families.answering import CausalInferenceModel
    from loraforge_text.families.encoding import tokenizer_of
    from loraforge_text.families.loading import load_model

    from loraforge.adapters import lora

    asked = []
    monkeypatch.setattr(lora, "set_adapter", lambda model, adapter: asked.append(adapter))

    def make(folder, **more):
        made = CausalInferenceModel(load_model(folder, "fp32", torch.device("cpu")), tokenizer_of(folder), read_base(folder), **more)
        made.asked = asked
        return made

    return make


@pytest.fixture
def answering(base, open_base, monkeypatch):
    """An inference model whose ``generate`` is told apart; what it was asked."""
    made = open_base(base)

    def answer(*tokens):
        def generate(input_ids, attention_mask, generation_config, stopping_criteria):
            made.asked.append((input_ids, attention_mask, generation_config, torch.is_grad_enabled(), torch.initial_seed()))
            return torch.cat([input_ids, torch.tensor([tokens] * len(input_ids))], 1)

        monkeypatch.setattr(made._model, "generate", generate)
        return made

    return answer, made.asked, made._stops


@pytest.mark.parametrize(
    ("settings", "sampled"),
    [
        ({}, None),
        ({"temperature": 0}, None),
        ({"temperature": 0.5, "top_p": 0.25}, (0.5, 0.25)),
        ({"temperature": 2}, (2.0, 1.0)),
        ({"top_p": 0.1}, None),
    ],
)
def test_what_the_library_is_asked_for(answering, settings, sampled):
    answer, asked, stops = answering
    torch.manual_seed(77)
    answer(50, 51).generate(["ab"], "law", max_tokens=9, seed=5, **settings)
    adapter, (ids, mask, config, gradients, seed) = asked
    assert adapter == "law" and ids.shape[0] == 1 and mask.equal(torch.ones_like(ids)) and not gradients
    assert (config.max_new_tokens, config.eos_token_id, config.pad_token_id) == (9, stops, stops[0]) and stops
    if sampled:
        assert (config.do_sample, config.temperature, config.top_p, seed) == (True, *sampled, 5)
    else:
        assert not config.do_sample and seed == 77


def test_as_many_tokens_as_nothing_was_said_about(answering):
    answer, asked, _ = answering
    answer(50).generate(["ab"], None)
    assert asked[1][2].max_new_tokens == 512
    answer(50).generate(["ab"], None, temperature=1)
    assert asked[3][4] == 0, "and the seed is 0"


@pytest.mark.parametrize(("tokens", "stopped"), [("aaa", False), ("aas", True), ("s", True), ("saa", True), ("sas", True)])
def test_an_answer_stopped_if_a_stop_token_is_in_it_and_ends_there(answering, tokens, stopped):
    answer, _, stops = answering
    (made,) = answer(*(stops[0] if token == "s" else 50 for token in tokens)).generate(["ab"], None, max_tokens=3)
    assert made.stopped is stopped and made.ended == ("stop" if stopped else "limit") and "<|im_end|>" not in made
    (short,) = answer(*(stops[0] if token == "s" else 50 for token in tokens.partition("s")[0])).generate(["ab"], None, max_tokens=3)
    assert made == short, "what stands behind the stop is padding"


def test_a_base_without_a_stop_token(base, open_base):
    from loraforge_text.base_files import BaseFiles
    from loraforge_text.families.answering import CausalInferenceModel

    known = open_base(base)
    made = CausalInferenceModel(known._model, known._tokenizer, BaseFiles(base, stops=("gone",)))
    assert made._stops == [] and len(made.generate(["问"], None, max_tokens=2)) == 1


# --- batches -------------------------------------------------------------------------------------------------------------------

PROMPTS = [
    "ab",
    "a longer question, with words",
    "c",
    "what is owed and when?",
    "hello world",
    "c",
    "0123456789" * 3,
    "z",
    "one more than eight",
]


@pytest.mark.parametrize(("kind", "together"), [("llama", True), ("gpt2", True), ("mamba", True), ("rwkv", False), ("bart", False)])
def test_answers_in_a_batch_are_those_one_by_one(kind, together, open_base, tmp_path):
    """In float32. Models that read padding, or mix rows up, are noticed and asked one by one."""
    model = open_base(small_bases.make_base(kind, tmp_path / "base"))
    sizes, real = [], model._answered
    model._answered = lambda rows, *more: sizes.append(len(rows)) or real(rows, *more)
    settings = {"max_tokens": 30 if kind != "gpt2" else 12}
    alone = [model.generate([prompt], None, **settings)[0] for prompt in PROMPTS]
    sizes.clear()
    batch = model.generate(PROMPTS, None, **settings)
    assert [(str(a), a.ended) for a in batch] == [(str(a), a.ended) for a in alone] and len({*alone}) > 3
    assert sizes == ([8, 1] if together else [1] * 9)


def test_what_is_drawn_at_random_for_a_prompt_does_not_depend_on_the_others(base, open_base):
    model = open_base(base)
    settings = {"max_tokens": 8, "temperature": 1.5, "seed": 3}
    assert model.generate(["甲", "乙", "丙"], None, **settings) == [model.generate([p], None, **settings)[0] for p in ("甲", "乙", "丙")]


def test_where_memory_does_not_suffice_fewer_are_asked_at_once(base, open_base):
    model = open_base(base)
    wanted = model.generate(PROMPTS, None, max_tokens=4)
    real, sizes = model._answered, []

    def small(rows, *more):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return real(rows, *more)

    model._answered = small
    assert model.generate(PROMPTS, None, max_tokens=4) == wanted
    assert sizes == [8, 4, 2, 2, 2, 2, 1] and model.batch_size == 2


# --- endings -------------------------------------------------------------------------------------------------------------------


class Says:
    """Answers as if the model had learned to say these tokens, over and over, in the rows of a batch that are said."""

    def __init__(self, model, pieces) -> None:
        self.calls, self.pieces = 0, pieces
        model.register_forward_hook(self)

    def __call__(self, module, args, output):
        for row, piece in enumerate(self.pieces):
            output.logits[row, ..., piece[self.calls % len(piece)]] = 1e4
        self.calls += 1
        return output


def test_who_only_repeats_itself_is_ended_and_marked_and_the_others_go_on(base, open_base):
    model = open_base(base)
    model._mixes = False
    stop = model._stops[0]
    Says(model._model, [[50, 51, 52], [*range(50, 350), stop], [53]])
    repeating, long, also = model.generate(["甲", "乙", "丙"], None, max_tokens=400)
    assert (repeating.ended, long.ended, also.ended) == ("repetition", "stop", "repetition")
    assert (repeating.repeats, repeating.stopped, long.repeats, long.stopped) == (True, False, False, True)
    said = model._tokenizer.decode
    assert (
        repeating == said(([50, 51, 52] * 80)[:208]).strip()
        and long == said(list(range(50, 350))).strip()
        and also == said([53] * 208).strip()
    )


def test_how_far_a_batch_is_can_be_watched_and_ended(base, open_base):
    model, told = open_base(base), []
    model._mixes = False
    stop = model._stops[0]
    says = Says(model._model, [[50, stop], [50, 51, 52, stop]])
    model.watch = told.append
    model.generate(["甲", "乙"], None, max_tokens=9)
    assert told == [0, 1, 1, 2]

    def enough(ended):
        if ended:
            raise TimeoutError

    says.calls, model.watch = 0, enough
    with pytest.raises(TimeoutError):
        model.generate(["甲", "乙"], None, max_tokens=9)


def test_the_stop_that_was_trained_ends_the_base_too(base, open_base):
    """A base whose own files do not name the token that this adapter's template ends in."""
    from loraforge_text.families.answering import trained_stops

    from loraforge import Adapter

    template = {"name": "auto", "jinja": "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<|im_end|>{% endif %}{% endfor %}",
                "stops": ["<|im_end|>"], "tokens": {}}  # fmt: skip
    adapter = Adapter({}, 1, 1, (), {}, "x", facts={"template": template})
    assert trained_stops({"mine": adapter}) == ["<|im_end|>"]
    assert trained_stops({"foreign": Adapter({}, 1, 1, (), {}, "x")}) == []
    assert open_base(base, trained=["<|im_end|>"])._stops[0] == open_base(base)._tokenizer.token_to_id("<|im_end|>")
