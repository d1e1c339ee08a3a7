# SPDX-License-Identifier: Apache-2.0
"""Text to token ids, with exactly the answer learned."""

from __future__ import annotations

import dataclasses

import pytest
from loraforge_text.base_files import BaseFiles, read_base
from loraforge_text.families import encoding
from loraforge_text.families.encoding import Encoded, encode, examine, pieces, tokenizer_of
from loraforge_text.records import Conversation

from loraforge import ModelError, Span

BASE = BaseFiles(None, special=frozenset({"<|im_end|>", "<|im_start|>", "x"}), stops=("<|im_end|>", "<eos>"))


@pytest.fixture(scope="module")
def tokenizer(base):
    return tokenizer_of(base)


def words(*vocabulary: str):
    """A tokenizer whose tokens are whole words of this list, and single characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    characters = sorted({c for word in vocabulary for c in word} | set("abcdefgh"))
    pieces = {text: i for i, text in enumerate([*characters, *vocabulary])}
    merges = []
    for word in vocabulary:
        for i in range(1, len(word)):
            left, right = word[:i], word[i]
            pieces.setdefault(left, len(pieces))
            pieces.setdefault(left + right, len(pieces))
            merges.append((left, right))
    made = Tokenizer(models.BPE(vocab=pieces, merges=list(dict.fromkeys(merges))))
    made.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    return made


def shown(tokenizer, spans) -> list[tuple[str, bool]]:
    made = encode(tokenizer, spans)
    return [(tokenizer.id_to_token(token), learn) for token, learn in zip(made.ids, made.learned, strict=True)]


def test_a_token_is_learned_where_its_first_character_is():
    made = words("ab", "cd", "de")
    assert shown(made, [Span("ab"), Span("cd", learn=True)]) == [("ab", False), ("cd", True)]
    assert shown(made, [Span("ab", learn=True), Span("ef")]) == [("ab", True), ("e", False), ("f", False)]
    assert shown(made, [Span("a"), Span("", learn=True), Span("a")]) == [("a", False), ("a", False)]


def test_a_token_across_the_border_is_tokenised_apart():
    made = words("ab", "cd", "de")
    # "cd" would straddle what is learned and what is not.
    assert shown(made, [Span("abc"), Span("da", learn=True)]) == [("ab", False), ("c", False), ("d", True), ("a", True)]
    assert shown(made, [Span("c", learn=True), Span("d")]) == [("c", True), ("d", False)]
    # Between two spans of one kind a token may lie across.
    assert shown(made, [Span("abc"), Span("d"), Span("a", learn=True)]) == [("ab", False), ("cd", False), ("a", True)]
    assert shown(made, [Span("c", learn=True), Span("d", learn=True)]) == [("cd", True)]
    # Three spans under one token, of which only the last learns.
    wide = words("abc")
    assert shown(wide, [Span("a"), Span("b"), Span("c", learn=True)]) == [("a", False), ("b", False), ("c", True)]


def test_all_tokens_of_one_character_are_learned(tokenizer):
    made = encode(tokenizer, [Span("问"), Span("🐼", learn=True), Span("问")])
    assert len(made.ids) > 6 and sum(made.learned) == len(tokenizer.encode("🐼", add_special_tokens=False).ids) > 1
    assert [(piece.text, piece.learn) for piece in pieces(tokenizer, made)] == [("问", False), ("🐼", True), ("问", False)]


def test_no_token_is_added(tmp_path):
    from builders.tiny_text import make_tokenizer

    make_tokenizer(tmp_path, bos="<|im_start|>")
    made = encode(tokenizer_of(tmp_path), [Span("ab", learn=True)])
    assert tokenizer_of(tmp_path).decode(list(made.ids), skip_special_tokens=False) == "ab"


def test_pieces_are_runs_and_show_special_tokens(tokenizer):
    ids = tokenizer.encode("ab<|im_end|>c", add_special_tokens=False).ids
    learned = [False, True, True, False] if len(ids) == 4 else [False] * (len(ids) - 2) + [True, False]
    found = pieces(tokenizer, Encoded(tuple(ids), tuple(learned)))
    assert "".join(piece.text for piece in found) == "ab<|im_end|>c" and [piece.learn for piece in found] == [False, True, False]
    assert pieces(tokenizer, Encoded((), ())) == []


def row(**values) -> Conversation:
    return Conversation(**{"instruction": "问", "output": "答", **values}, where="row")


def spans(answer: str = "答案<|im_end|>") -> list[Span]:
    return [Span("问"), Span(answer, learn=True), Span("\n")]


def test_a_good_row_has_no_problem(tokenizer):
    found, problem = examine(tokenizer, BASE, row(), spans(), 512)
    assert problem is None and found == encode(tokenizer, spans())


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_row_may_be_as_long_as_the_limit(tokenizer, more):
    length = len(encode(tokenizer, spans()).ids)
    _, problem = examine(tokenizer, BASE, row(), spans(), length + more)
    assert (problem is None) is (more >= 0)
    if more < 0:
        assert problem.startswith(f"is {length} tokens long, more than max_seq_length {length - 1}")


@pytest.mark.parametrize(
    "where", [{"instruction": "a<|im_end|>"}, {"input": "<|im_start|>"}, {"output": "<|im_end|>b"}, {"system": "<|im_end|>"}, {"history": (("甲", "<|im_end|>"),)}, {"history": (("<|im_end|>", "甲"),)}]
)  # fmt: skip
def test_a_control_token_in_any_text_of_the_user_is_named(tokenizer, where):
    found, problem = examine(tokenizer, BASE, row(**where), spans(), 512)
    assert found is None and problem.startswith(
        f"the text contains the control token {'<|im_start|>' if 'input' in where else '<|im_end|>'},"
    )
    both = examine(tokenizer, BASE, row(instruction="<|im_start|><|im_end|>"), spans(), 512)[1]
    assert "<|im_end|>" in both, "of several the first in order"


def test_a_single_character_is_no_control_token(tokenizer):
    assert examine(tokenizer, BASE, row(instruction="x is a token"), spans(), 512)[1] is None


def test_a_row_that_learns_nothing(tokenizer):
    assert examine(tokenizer, BASE, row(), [Span("问"), Span("答<|im_end|>")], 512)[1] == "nothing of this row would be learned."


@pytest.mark.parametrize(("answer", "fine"), [("答<|im_end|>", True), ("答", False), ("<|im_end|>答", False)])
def test_an_answer_ends_in_one_of_the_stop_tokens(tokenizer, answer, fine):
    problem = examine(tokenizer, BASE, row(), spans(answer), 512)[1]
    assert (problem is None) is fine and (fine or "(<|im_end|>, <eos>)" in problem)
    assert examine(tokenizer, dataclasses.replace(BASE, stops=()), row(), spans(answer), 512)[1] is None
    both = [Span("问"), Span("一<|im_end|>", learn=True), Span("问"), Span(answer, learn=True)]
    assert (examine(tokenizer, BASE, row(history=(("问", "一"),)), both, 512)[1] is None) is fine, "each answer of the row"


def test_a_stop_that_the_tokenizer_cuts_into_pieces_stops_nothing(tokenizer):
    with pytest.raises(ModelError, match="'<eos>', which ends an answer, is no token of this base's tokenizer"):
        examine(tokenizer, BASE, row(), spans("答<eos>"), 512)


@pytest.mark.parametrize(
    ("record", "learned", "fine"),
    [
        ({}, ["答<|im_end|>"], True),
        ({}, ["<think>\n\n</think>\n\n答<|im_end|>"], True),
        ({}, ["别的<|im_end|>"], False),
        ({"output": "<think>想</think>答"}, ["想</think>答<|im_end|>"], True),
        ({"output": "<think>想</think>答"}, ["想</think><|im_end|>"], False),
        ({"history": (("问", "一"),)}, ["一<|im_end|>", "答<|im_end|>"], True),
        ({"history": (("问", "一"),)}, ["答<|im_end|>"], True),
        ({"history": (("问", "一"),)}, ["一<|im_end|>"], False),
        ({"history": (("问", "一"), ("问", "二"))}, ["一<|im_end|>", "答<|im_end|>"], True),
        ({"history": (("问", "一"), ("问", "二"))}, ["二<|im_end|>", "一<|im_end|>", "答<|im_end|>"], False),
        (
            {"output": "根据《劳动合同法》第四十六条，应当支付补偿。"},
            ["根据《劳动合同法》第四十六条，应当支付补偿。" * 2 + "<|im_end|>"],
            False,
        ),
    ],
)
def test_what_is_learned_is_compared_with_the_row(tokenizer, record, learned, fine):
    made = [span for text in learned for span in (Span("问"), Span(text, learn=True))]
    problem = examine(tokenizer, dataclasses.replace(BASE, stops=("<|im_end|>",)), row(**record), made, 512)[1]
    assert (problem is None) is fine and (fine or "not the row's answer" in problem)


def test_answers_that_are_only_read_are_counted():
    record = row(history=(("问", "一"), ("问", "二")))
    assert encoding.only_read(record, [Span("x"), Span("答", learn=True)]) == 2
    assert encoding.only_read(record, [Span("一", learn=True), Span("二", learn=True), Span("答", learn=True)]) == 0


def test_a_tokenizer_that_changes_the_answer_is_noticed():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordLevel({"q": 0, "a": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain = dataclasses.replace(BASE, stops=())
    problem = examine(made, plain, row(output="abc"), [Span("q"), Span("abc", learn=True)], 512)[1]
    assert problem is not None and problem.startswith("the tokens that would be learned say '") and "not 'abc'" in problem
    made.normalizer = normalizers.NFKC()
    assert examine(made, plain, row(output="a"), [Span("q"), Span("ａ", learn=True)], 512)[1] is None, "another width is the same answer"


@pytest.mark.parametrize(
    ("texts", "short"),
    [
        (["a", "b"], "a | b"),
        (["x" * 80], "x" * 80),
        (["x" * 81], "x" * 77 + "..."),
        (["x" * 40, "y" * 38], "x" * 40 + " | " + "y" * 34 + "..."),
    ],
)
def test_what_is_shown_of_long_texts(texts, short):
    assert encoding._short(texts) == short and len(short) <= 80


def test_tokenizers_are_read_once_and_cut_nothing(base, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(base, folder)
    own = tokenizer_of(base)
    own_length = len(own.encode("字" * 3000, add_special_tokens=False).ids)
    from tokenizers import Tokenizer

    limited = Tokenizer.from_file(str(folder / "tokenizer.json"))
    limited.enable_truncation(8)
    limited.enable_padding(length=9000)
    limited.save(str(folder / "tokenizer.json"))
    assert len(tokenizer_of(folder).encode("字" * 3000, add_special_tokens=False).ids) == own_length
    assert tokenizer_of(folder) is tokenizer_of(folder) and tokenizer_of(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    encoding.tokenizer_of.cache_clear()
    with pytest.raises(ModelError, match=r"tokenizer\.json of the base model cannot be read"):
        tokenizer_of(tmp_path)
    assert read_base(base).stops
