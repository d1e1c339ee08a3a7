# SPDX-License-Identifier: Apache-2.0
"""What the model sees, and exactly what it learns."""

from __future__ import annotations

import json

import pytest
from builders.chat_bases import GEMMA, GEMMA_TOKENS, LLAMA3, LLAMA3_TOKENS, QWEN3, R1, base_in, prepared
from loraforge_text.base_files import read_base
from loraforge_text.families.encoding import encode, examine, pieces, tokenizer_of
from loraforge_text.records import Conversation
from loraforge_text.templates.builtin import templates
from loraforge_text.templates.formats import FORMATS
from loraforge_text.templates.prompting import PINNED_DATE, Prompting
from loraforge_text.templates.served import export_jinja

from loraforge import ConfigError, DataError, Span, prompt_of


def conversation(question: str = "问？", answer: str = "答。", **values) -> Conversation:
    return Conversation(question, answer, where="d.csv, row 2", **values)


def text(spans: list[Span]) -> str:
    return "".join(f"«{s.text}»" if s.learn else s.text for s in spans)


# --- the base's own template -------------------------------------------------------------------------------------------------


def test_chatml_learns_the_answer_and_its_stop_token_and_not_the_line_break_after_it(tmp_path):
    template = prepared(base_in(tmp_path / "base"))
    assert text(template.render(conversation())) == "<|im_start|>user\n问？<|im_end|>\n<|im_start|>assistant\n«答。<|im_end|>»"
    assert "own chat template" in template.reason


def test_it_is_what_the_tokenizer_itself_renders(tmp_path):
    from transformers import AutoTokenizer

    for name, own, options in (("a", None, {}), ("b", QWEN3, {}), ("c", GEMMA, GEMMA_TOKENS)):
        folder = base_in(tmp_path / name, **options, **({"chat_template": own} if own else {}))
        template = prepared(folder)
        kwargs = template.prompting.kwargs
        messages = [{"role": "user", "content": "问？"}]
        theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **kwargs)
        assert prompt_of(template.render(conversation())) == prompt_of(template.render(conversation(answer=""))) == theirs


def test_every_answer_of_a_conversation_is_learned(tmp_path):
    template = prepared(base_in(tmp_path / "base"))
    made = template.render(conversation("q2", "a2", history=(("q1", "a1"),), system="S"))
    assert text(made) == ("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n«a1<|im_end|>»\n"
                          "<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n«a2<|im_end|>»")  # fmt: skip


def test_system_prompt_of_the_config_and_of_the_row(tmp_path):
    template = prepared(base_in(tmp_path / "base"), system="全局")
    assert "system\n全局<|im_end|>" in text(template.render(conversation()))
    assert "system\n本行<|im_end|>" in text(template.render(conversation(system="本行")))


def test_a_template_without_system_role_carries_it_in_the_first_question(tmp_path):
    template = prepared(base_in(tmp_path / "base", chat_template=GEMMA, **GEMMA_TOKENS), system="S")
    assert text(template.render(conversation())) == (
        "<bos><start_of_turn>user\nS\n\n问？<end_of_turn>\n<start_of_turn>model\n«答。<end_of_turn>»"
    )


def test_dates_in_templates_are_pinned(tmp_path):
    template = prepared(base_in(tmp_path / "base", chat_template=LLAMA3, **LLAMA3_TOKENS))
    assert f"Today Date: {PINNED_DATE}" in text(template.render(conversation()))
    assert template.describe()["pinned_date"] == PINNED_DATE
    assert text(template.render(conversation())).endswith("assistant<|end_header_id|>\n\n«答。<|eot_id|>»")


def test_thinking_is_off_unless_the_answers_think(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=QWEN3)
    off = prepared(folder)
    assert off.prompting.kwargs == {"enable_thinking": False} and "thinking is off" in off.reason
    assert text(off.render(conversation())).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n«答。<|im_end|>»")
    thinks = conversation(answer="<think>\n想\n</think>\n\n答。")
    on = prepared(folder, records=[thinks])
    assert on.prompting.kwargs == {"enable_thinking": True}
    assert text(on.render(thinks)).endswith("<|im_start|>assistant\n«<think>\n想\n</think>\n\n答。<|im_end|>»")


def test_a_thinking_conversation_with_history_learns_the_last_answer(tmp_path):
    template = prepared(base_in(tmp_path / "base", chat_template=QWEN3))
    made = template.render(conversation("q2", "a2", history=(("q1", "a1"),)))
    assert [s.text for s in made if s.learn][-1] == "a2<|im_end|>"
    assert "".join(s.text for s in made).count("<|im_start|>user\nq1") == 1


def test_a_prompt_that_opens_a_thought_is_closed_by_the_model(tmp_path):
    template = prepared(base_in(tmp_path / "base", chat_template=R1, special=("<pad>", "<|User|>", "<|Assistant|>", "</s>"), eos="</s>"))
    assert text(template.render(conversation())) == "<|User|>问？<|Assistant|><think>\n«\n</think>\n\n答。</s>»"


def test_a_template_that_asks_otherwise_than_it_answers_is_refused(tmp_path):
    odd = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}(answer now){% endif %}"
    template = prepared(base_in(tmp_path / "base", chat_template=odd))
    with pytest.raises(DataError, match="otherwise than it asks for one"):
        template.render(conversation())


def test_a_hostile_template_can_do_nothing(tmp_path):
    evil = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="refuses this conversation"):
        prepared(base_in(tmp_path / "base", chat_template=evil))


# --- without a template of its own -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "chatml"), (LLAMA3_TOKENS, "llama3"), ({"special": ("<unk>", "<s>", "</s>"), "eos": "</s>", "bos": "<s>"}, "llama2")],
)
def test_the_format_follows_the_family_and_says_why(tmp_path, options, name):
    template = prepared(base_in(tmp_path / "base", chat_template=None, **options))
    assert template.reason.startswith(f"{name}, because the base has no chat template of its own and its ")


def test_plain_is_the_last_resort_and_says_so(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=None, special=("<pad>", "<end>"), eos="<end>")
    template = prepared(folder)
    assert template.reason.startswith("plain") and text(template.render(conversation())) == "问？\n«答。<end>»"


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_asked_as_it_was_trained(tmp_path, name):
    own = {"chatml": {}, "llama3": LLAMA3_TOKENS}.get(name, {"special": ("<unk>", "<s>", "</s>"), "eos": "</s>", "bos": "<s>"})
    template = prepared(base_in(tmp_path / "base", chat_template=None, **own), name, system="S")
    made = template.render(conversation("q2", "a2", history=(("q1", "a1"),)))
    whole = "".join(s.text for s in made)
    assert [s.learn for s in made].count(True) == 2
    asked = "".join(s.text for s in template.render(conversation("q2", "", history=(("q1", "a1"),))))
    assert whole.startswith(asked) and asked == prompt_of(made)
    first = prompt_of(template.render(conversation("q1", "")))
    assert whole.startswith(first)
    assert "S" in first and all(part in whole for part in ("q1", "a1", "q2", "a2"))


def test_a_format_whose_stop_token_the_base_lacks_is_refused(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=None, special=("<unk>", "<s>", "</s>"), eos="</s>", bos="<s>")
    with pytest.raises(ConfigError, match=r"'chatml' ends answers with <\|im_end\|>.*Choose another: llama2, alpaca, vicuna, plain"):
        prepared(folder, "chatml")
    with pytest.raises(DataError, match="'llama3' ends answers with"):
        prepared(folder, "llama2").render(conversation(prompt_template="llama3"))


def test_llama2_as_its_authors_write_it(tmp_path):
    template = prepared(
        base_in(tmp_path / "base", chat_template=None, special=("<unk>", "<s>", "</s>"), eos="</s>", bos="<s>"), "llama2", system="S"
    )
    assert text(template.render(conversation("q2", "a2", history=(("q1", "a1"),)))) == (
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nq1 [/INST]« a1 </s>»<s>[INST] q2 [/INST]« a2 </s>»"
    )


# --- inline ------------------------------------------------------------------------------------------------------------------


def test_the_articles_inline_template(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=None, special=("<unk>", "<s>", "</s>"), eos="</s>", bos="<s>")
    template = prepared(folder, "[INST]{instruction}[/INST]")
    assert text(template.render(conversation())) == "<s>[INST]问？[/INST]«答。</s>»"


def test_a_column_that_agrees_in_all_rows_decides_and_single_rows_have_their_own(tmp_path):
    folder = base_in(tmp_path / "base")
    rows = [conversation(prompt_template="[INST]{instruction}[/INST]")] * 3
    template = prepared(folder, records=rows)
    assert template.reason.endswith("because every row says so")
    assert text(template.render(conversation())) == "[INST]问？[/INST]«答。<|im_end|>»"  # a bare question later is asked the same way
    mixed = prepared(folder, records=[*rows, conversation()])
    assert text(mixed.render(rows[0])).startswith("[INST]") and text(mixed.render(conversation())).startswith("<|im_start|>")
    assert text(mixed.render(conversation(prompt_template="alpaca"))).startswith("Below is an instruction")


def test_input_is_never_lost(tmp_path):
    template = prepared(base_in(tmp_path / "base"), "Q: {instruction}\nA: ")
    assert text(template.render(conversation(input="材料"))).startswith("Q: 问？\n材料\nA: «答。")
    template = prepared(base_in(tmp_path / "b"), "{input}|{instruction}|")
    assert text(template.render(conversation(input="材料"))).startswith("材料|问？|«")


def test_a_bad_inline_template_is_an_error_of_the_config(tmp_path):
    with pytest.raises(ConfigError, match=r"prompt_template: the template .* has no \{instruction\}"):
        prepared(base_in(tmp_path / "base"), "[INST]{question}[/INST]")


# --- recalled and exported ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["auto", "alpaca", "{system}[INST]{instruction}[/INST]"])
def test_an_opened_run_asks_as_it_was_trained(tmp_path, wanted):
    template = prepared(base_in(tmp_path / "base"), wanted, system="S")
    known = {t.name: t for t in templates()}
    again = known[template.name].recall(json.loads(json.dumps(template.describe())))
    assert again.render(conversation(answer="")) == template.render(conversation(answer=""))


@pytest.mark.parametrize("wanted", ["auto", "vicuna", "[INST]{instruction}[/INST]", "it's {instruction}\nA:"])
def test_the_exported_template_gives_servers_the_same_prompt(tmp_path, wanted):
    template = prepared(base_in(tmp_path / "base"), wanted)
    jinja = export_jinja(template.describe())
    served = Prompting(jinja=jinja, tokens=template.prompting.tokens, stops=template.prompting.stops, kwargs=template.prompting.kwargs)
    if wanted == "vicuna":
        served = template.prompting
    assert served.text([{"role": "user", "content": "问？"}], ask=True) == prompt_of(template.render(conversation()))


@pytest.mark.parametrize(("own", "options"), [(QWEN3, {}), (LLAMA3, LLAMA3_TOKENS)])
def test_the_exported_template_carries_thinking_date_and_system_message(tmp_path, own, options):
    """A server is told nothing: neither enable_thinking nor a date nor the system message."""
    from datetime import datetime

    from transformers.utils.chat_template_utils import render_jinja_template

    template = prepared(base_in(tmp_path / "base", chat_template=own, **options), system="S'\n律师")
    tokens = dict(template.prompting.tokens)
    served, _ = render_jinja_template(
        conversations=[[{"role": "user", "content": "问？"}]],
        chat_template=export_jinja(template.describe()),
        add_generation_prompt=True,
        **tokens,
    )
    assert served[0] == prompt_of(template.render(conversation())) and "S'\n律师" in served[0]
    assert datetime.now().strftime("%d %b %Y") not in served[0]


# --- tokens ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["根据劳动合同法。", "根据龘", "好的 😀", "龘龘龘", "a 👩‍⚕️", "Ça va", "1234"])
def test_learned_tokens_are_exactly_the_answer_and_the_stop_token(tmp_path, answer):
    folder = base_in(tmp_path / "base")
    tokenizer, base = tokenizer_of(folder), read_base(folder)
    record = conversation(answer=answer)
    spans = prepared(folder).render(record)
    encoded, problem = examine(tokenizer, base, record, spans, 512)
    assert problem is None
    assert [p.text for p in pieces(tokenizer, encoded) if p.learn] == [answer + "<|im_end|>"]
    learned = [token for token, learn in zip(encoded.ids, encoded.learned, strict=True) if learn]
    assert learned[-1] == base.added["<|im_end|>"]
    assert tokenizer.decode(list(encoded.ids), skip_special_tokens=False) == "".join(s.text for s in spans)


def test_a_character_of_several_tokens_is_learned_whole(tmp_path):
    folder = base_in(tmp_path / "base")
    tokenizer = tokenizer_of(folder)
    assert len(tokenizer.encode("龘", add_special_tokens=False).ids) == 3
    encoded = encode(tokenizer, [Span("问"), Span("龘", learn=True)])
    assert sum(encoded.learned) == 3


def test_a_token_across_the_border_is_cut_as_a_server_would(tmp_path):
    folder = base_in(tmp_path / "base")
    tokenizer = tokenizer_of(folder)
    word = next(
        w for w in ("period", "notice", "thirty", "days", "the", "is") if len(tokenizer.encode(w, add_special_tokens=False).ids) == 1
    )
    encoded = encode(tokenizer, [Span(word[:1]), Span(word[1:], learn=True)])
    assert [p.text for p in pieces(tokenizer, encoded)] == [word[:1], word[1:]]
    assert list(encoded.ids) == [i for part in (word[:1], word[1:]) for i in tokenizer.encode(part, add_special_tokens=False).ids]


def test_long_rows_and_control_tokens_are_problems(tmp_path):
    folder = base_in(tmp_path / "base")
    tokenizer, base, template = tokenizer_of(folder), read_base(folder), prepared(folder)
    record = conversation(answer="长" * 300)
    assert "more than max_seq_length 64" in examine(tokenizer, base, record, template.render(record), 64)[1]
    record = conversation("hi<|im_end|>\n<|im_start|>assistant")
    assert "control token <|im_end|>" in examine(tokenizer, base, record, template.render(record), 512)[1]


def test_an_answer_without_stop_token_is_a_problem(tmp_path):
    folder = base_in(tmp_path / "base")
    tokenizer, base = tokenizer_of(folder), read_base(folder)
    assert "never stop" in examine(tokenizer, base, conversation(), [Span("问"), Span("答。", learn=True)], 512)[1]
    assert "nothing of this row" in examine(tokenizer, base, conversation(), [Span("问答")], 512)[1]


def test_bos_is_not_doubled(tmp_path):
    folder = base_in(tmp_path / "base", chat_template=GEMMA, **GEMMA_TOKENS)
    tokenizer = tokenizer_of(folder)
    for wanted in ("auto", "alpaca", "Q {instruction} A "):
        ids = encode(tokenizer, prepared(folder, wanted).render(conversation())).ids
        assert list(ids).count(read_base(folder).added["<bos>"]) == 1, wanted
