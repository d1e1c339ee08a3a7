# SPDX-License-Identifier: Apache-2.0
"""Answers of a shared batch against transformers' and peft's own, one at a time."""

from __future__ import annotations

import asyncio

import pytest
import torch
from builders.serving import until
from loraforge_serve.backends import Job

QUESTIONS = ("试用期工资怎么算？", "What is the notice period?", "一", "Is it so? " * 12)


def job(server, name, question, **settings):
    with server.library.lent(name) as version:
        prompt = version.chat.prompt([{"role": "user", "content": question}])
        own = None if version is server.library.base else version
        return Job(tuple(prompt), own, version.chat, **{"max_tokens": 24, **settings})


async def whole(server, wanted):
    pieces = [piece async for piece in server.library.backend.answer(wanted)]
    return "".join(piece.text for piece in pieces), sum(piece.tokens for piece in pieces), pieces[-1].finish


def together(server, jobs):
    async def all_of_them():
        return await asyncio.gather(*(whole(server, one) for one in jobs))

    return asyncio.run(all_of_them())


@pytest.fixture(scope="module")
def generated(base, exports):
    """``generate`` of transformers with peft's own loading of the exported folder."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    models = {"base": AutoModelForCausalLM.from_pretrained(base)}
    for name, folder in exports.items():
        models[name] = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)

    def ask(name, prompt, most):
        ids = torch.tensor([list(prompt)])
        with torch.no_grad():
            out = models[name].generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=[2, 0],
                pad_token_id=0,
            )
        made = out[0, ids.shape[1] :].tolist()
        return tokenizer.decode(made, skip_special_tokens=True), len(made), "stop" if made[-1] in (2, 0) else "length"

    return ask


def test_a_mixed_batch_answers_as_generate_does_one_at_a_time(served, generated):
    wanted = {
        (name, question): job(served, name, question, max_tokens=4 + 7 * number)
        for name in ("base", "legal", "medical", "other", "dora")
        for number, question in enumerate(QUESTIONS)
    }
    found = dict(zip(wanted, together(served, wanted.values()), strict=True))
    assert served.library.backend.engine._alone == {version.key for version in served.library.versions() if version.name == "dora"}
    expected = {key: generated(key[0], one.prompt, one.max_tokens) for key, one in wanted.items()}
    assert found == expected
    assert len({text for text, _, _ in expected.values()}) > 10, "the adapters answer differently"


def test_an_answer_does_not_depend_on_who_shares_the_batch(served):
    drawn = job(served, "legal", QUESTIONS[0], temperature=1.0, top_p=0.9, seed=5)
    alone = together(served, [drawn])[0]
    others = [job(served, name, QUESTIONS[3], max_tokens=most) for name, most in (("base", 3), ("medical", 9), ("other", 20))]
    assert together(served, [*others, drawn])[-1] == alone
    assert together(served, [drawn])[0] == alone, "equal seeds, equal answers"
    seeds = [job(served, "legal", QUESTIONS[0], temperature=1.0, seed=seed) for seed in range(6)]
    assert len({text for text, _, _ in together(served, seeds)}) > 3


def test_rows_join_a_batch_that_is_under_way_and_leave_it(served):
    async def story():
        first = served.library.backend.answer(job(served, "medical", QUESTIONS[3], max_tokens=40))
        told = [await first.__anext__() for _ in range(3)]
        late = await whole(served, job(served, "legal", QUESTIONS[0]))
        leaver = served.library.backend.answer(job(served, "base", QUESTIONS[1], max_tokens=40))
        await leaver.__anext__()
        await leaver.aclose()
        told += [piece async for piece in first]
        return "".join(piece.text for piece in told), late

    text, late = asyncio.run(story())
    alone = together(served, [job(served, "medical", QUESTIONS[3], max_tokens=40)])[0][0]
    assert text == alone
    assert late == together(served, [job(served, "legal", QUESTIONS[0])])[0]
    assert until(lambda: not served.library.backend.engine._groups), "nobody is left in the batch"


def test_top_p_draws_what_transformers_draws(served):
    """The same distribution as transformers' TopPLogitsWarper, by the tokens that can be drawn at all."""
    from loraforge_serve.backends.rows import Row
    from transformers import TopPLogitsWarper

    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 3
    kept = (TopPLogitsWarper(0.7)(None, (logits / 1.3)[None])[0] > -torch.inf).nonzero().flatten().tolist()
    rows = [Row(job(served, "base", "x", temperature=1.3, top_p=0.7, seed=seed), lambda piece: None) for seed in range(400)]
    assert sorted({row.choose(logits) for row in rows}) == kept


def test_an_adapter_comes_and_goes_while_others_answer(served, exports):
    backend = served.library.backend
    version = served.source.read(exports["medical"], "guest")
    before = together(served, [job(served, "medical", QUESTIONS[0])])[0]

    async def story():
        running = asyncio.create_task(whole(served, job(served, "legal", QUESTIONS[3], max_tokens=60)))
        await asyncio.to_thread(backend.add, version)
        guest = await whole(served, Job(job(served, "medical", QUESTIONS[0]).prompt, version, version.chat, 24))
        backend.remove(version)
        return guest, await running

    guest, running = asyncio.run(story())
    assert guest == before
    assert running == together(served, [job(served, "legal", QUESTIONS[3], max_tokens=60)])[0]
    backend.engine.call(lambda: None)
    assert not [name for name, _ in backend.engine.network.model.named_parameters() if version.key in name], "its weights are gone"


@pytest.mark.parametrize("kind", ["gemma2", "mamba", "gpt2"])
def test_bases_of_other_kinds_answer_as_generate_does(kind):
    """Sliding windows and states cannot be padded: such rows take their steps alone."""
    from builders.serving import NumberChat
    from loraforge_serve.backends.torch_backend import TorchBackend
    from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, MambaConfig

    shape = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}
    more = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}
    config = {
        "gemma2": lambda: Gemma2Config(**shape, **more),
        "mamba": lambda: MambaConfig(**shape, state_size=8),
        "gpt2": lambda: GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=128),
    }[kind]()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data *= 3  # so that answers are not one token again and again
    model.generation_config.eos_token_id = None
    backend, chat = TorchBackend(model, NumberChat()), NumberChat()
    prompts = [list(range(10, 10 + length)) for length in (3, 12, 20)]

    async def whole_of(prompt, most):
        return "".join([piece.text async for piece in backend.answer(Job(tuple(prompt), None, chat, most))])

    async def all_of_them():
        return await asyncio.gather(*(whole_of(prompt, 5 + len(prompt)) for prompt in prompts))

    found = asyncio.run(all_of_them())
    assert backend.engine._together == (kind == "gpt2")
    backend.close()
    for prompt, answer in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5 + len(prompt), do_sample=False, pad_token_id=0
        )
        assert answer.split() == [str(token) for token in out[0, len(prompt) :].tolist()]


def test_an_answer_that_fails_ends_alone(served, monkeypatch):
    """As where the weights of one adapter give no numbers to draw from."""
    from loraforge_serve.backends.rows import Row

    alone = together(served, [job(served, "legal", "一")])
    choose = Row.choose

    def fails_at_the_third(row, logits):
        if row.job.temperature and len(row.made) == 2:
            raise RuntimeError("probability tensor contains nan")
        return choose(row, logits)

    monkeypatch.setattr(Row, "choose", fails_at_the_third)

    async def both():
        jobs = [job(served, "legal", "一"), job(served, "medical", "一", temperature=1.0)]
        return await asyncio.gather(*(whole(served, one) for one in jobs), return_exceptions=True)

    good, bad = asyncio.run(both())
    assert isinstance(bad, RuntimeError)
    assert good == alone[0]
