# SPDX-License-Identifier: Apache-2.0
"""What an answer is worth beside its reference, the room it gets, the probe of general knowledge, and the golden prompts."""

from __future__ import annotations

import csv
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import ROOT
from builders.tiny_text import make_base
from hypothesis import given, settings
from hypothesis import strategies as st
from loraforge_text.evaluation import measures
from loraforge_text.evaluation.citations import citations, number
from loraforge_text.records import Conversation
from loraforge_text.task import TEXT
from loraforge_text.templates import golden_prompts

from loraforge import Answer, RunError, Span

DATA = ROOT / "configs" / "data"
LETTERS = st.text("甲乙丙ab", max_size=24)


def row(instruction="问", output="答", **more) -> Conversation:
    return Conversation(where="row", instruction=instruction, output=output, **more)


def samples(name: str) -> list[str]:
    with (DATA / name / "metadata.csv").open(encoding="utf-8") as file:
        return [line["output"] for line in csv.DictReader(file)]


# --- the measures -----------------------------------------------------------------------------------------------------------


def quadratic(first: str, second: str) -> int:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first, 1):
        for j, b in enumerate(second, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


@settings(deadline=None)
@given(LETTERS, LETTERS)
def test_the_common_subsequence_is_that_of_the_plain_table(first, second):
    assert measures.subsequence(first, second) == quadratic(first, second)
    assert measures.common_share(first, second) == measures.common_share(second, first)


def test_the_common_subsequence_crosses_machine_words_and_is_quick():
    first = "".join(chr(0x4E00 + i * i % 701) for i in range(2000))
    second = "".join(chr(0x4E00 + i * 7 % 499) for i in range(2000))
    begun = time.process_time()
    measures.common_share(first, second)
    assert time.process_time() - begun < 20
    assert measures.subsequence(first[:300], second[:300]) == quadratic(first[:300], second[:300])


@pytest.mark.parametrize(
    ("reference", "answer", "share"),
    [("经济补偿", "经济补偿", 1.0), ("经济补偿", "", 0.0), ("ＡＢＣ，　１", "abc,1", 1.0), ("甲乙丙丁", "甲丙", 4 / 6), ("甲乙", "乙甲", 0.5), ("", "", 1.0)],
)  # fmt: skip
def test_character_overlap(reference, answer, share):
    assert measures.common_share(reference, answer) == pytest.approx(share)


def test_judge_of_citations():
    asked = row(output="依据《民法典》第1062条、第1063条。")
    scores = measures.judge(asked, Answer("依据《民法典》第一千零六十二条和《民法典》第1064条。"))
    assert scores["citation precision"] == scores["citation recall"] == 0.5
    assert scores["cites a wrong article"] == 1.0 and scores["cites the right article"] == 0.0
    scores = measures.judge(asked, Answer("《民法典》第1063条"))
    assert (scores["citation precision"], scores["citation recall"], scores["cites the right article"]) == (1.0, 0.5, 0.0)
    assert scores["cites a wrong article"] == 0.0
    scores = measures.judge(asked, Answer("要看情况。"))
    assert scores["citation precision"] == scores["citation recall"] == scores["cites a wrong article"] == 0.0
    scores = measures.judge(asked, Answer("《民法典》第1062条至第1063条"))
    assert scores["citation precision"] == scores["citation recall"] == scores["cites the right article"] == 1.0


def test_judge_where_the_reference_cites_nothing_says_nothing_of_citations():
    scores = measures.judge(row(output="不能，因为期限已过。"), Answer("不能。《民法典》第1条"))
    assert set(scores) == {"equals the reference", "character overlap", "refuses", "never stops"}
    everything = [measures.judge(row(output=text), Answer("")) for text in ("《民法典》第1条", '{"a": 1}', "不能")]
    known = set().union(*everything)
    assert TEXT.evaluation.headline in scores and {*TEXT.evaluation.lower_is_better, *TEXT.evaluation.truth} <= known


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        ('{"金额": "5000", "期限": 30}', '{"期限": 30, "金额": "5000"}', 1.0),
        ('{"金额": "5000", "期限": 30}', '结果如下：\n```json\n{"金额": "５０００", "期限": 31}\n```', 0.5),
        ('{"金额": "5000", "期限": 30}', '{"金额": "5000"', 0.0),
        ('{"a": null}', "{}", 0.0),
        ('{"a": [1, 2], "b": {"c": 1}}', '{"a": [1, 2], "b": {"c": 2}, "d": 0}', 0.5),
        ('{"a": 1}', "a is 1", 0.0),
        ('{"a": 1}', "[1]", 0.0),
    ],
)
def test_fields_of_a_json_object_are_right_or_not(reference, answer, right):
    scores = measures.judge(row(output=reference), Answer(answer))
    assert scores["fields right"] == right and "exact answer" not in scores


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [("支持", "支持。", 1.0), ("不支持", "支持", 0.0), ("三十日", " 三十日 ", 1.0), ("Breach of contract", "breach of contract.", 1.0), ("“有效”", "有效", 1.0),
     ("支持", "支持，因为期限未过", 0.0), ("不能，因为期限已过", "不能", None), ("可以。应当支付", "可以", None), ("一" * 12, "一" * 12, 1.0), ("一" * 13, "一" * 13, None),
     ("a" * 24, "b", 0.0), ("a" * 25, "b", None), ("", "", None), ("[1, 2]", "[1, 2]", None)],
)  # fmt: skip
def test_a_short_answer_is_exact_or_not(reference, answer, right):
    assert measures.judge(row(output=reference), Answer(answer)).get("exact answer") == right


def test_judge_of_stopping_takes_a_plain_string_for_an_answer_that_ended():
    assert measures.judge(row(), Answer("答", stopped=False))["never stops"] == 1.0
    assert measures.judge(row(), Answer("答"))["never stops"] == measures.judge(row(), "答")["never stops"] == 0.0
    assert measures.judge(row(output="答 案"), "答\n案")["equals the reference"] == 1.0


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_all_scores_lie_between_0_and_1(reference, answer, stopped):
    assert all(0.0 <= value <= 1.0 for value in measures.judge(row(output=reference), Answer(answer, stopped)).values())


REFUSALS = """抱歉，我无法回答这个问题。
很抱歉，我不能提供法律建议，请咨询专业律师。
对不起，作为AI语言模型，我无法提供医疗诊断。
作为一个人工智能助手，我不能给出具体的法律意见。
作为 AI 助手，我无法回答。
您好！感谢您的提问。我无法为您提供医疗建议，请及时就医。
无法回答该问题。
不能提供相关信息。
抱歉，暂时无法回答您的问题。
抱歉，我不知道。
我是一个AI助手，不具备医疗资质。
这个问题超出了我的能力范围。
我没有足够的信息来回答这个问题。
我们还是换个话题吧。
对此我不便评论。
我拒绝回答这个问题。
I'm sorry, but I can't help with that.
I’m sorry, I cannot provide medical advice.
I am sorry. I cannot answer that.
I cannot provide legal advice.
As an AI language model, I do not have personal opinions.
Sorry, I don't know.
I'm not able to provide a diagnosis.
Unable to answer.""".splitlines()
ANSWERS = """不能要求赔偿。根据《劳动合同法》第46条，劳动者主动辞职的，公司无需支付。
不能提供证据的，由法院依法判决。
很抱歉听到您的遭遇。根据《劳动法》第44条，公司应当支付加班费。
抱歉，之前的说法有误，应当是三十日。
作为AI助手，我很高兴为您解答：公司应当支付补偿。
作为人工智能产品的生产者，不能免除责任。
用人单位不能提供工资记录的，承担不利后果。
我不能接受贵司的解除决定，可以这样写。
我国公民不能提供个人信息给境外机构。
证人拒绝回答的，记入笔录。
不能提供诊断意见的，应当转诊。
不予答复的，申请人可以起诉。
我无法给出意见的情形，由会诊决定。
医生无法作出诊断的，应当转诊。
公司不能拒绝提供离职证明。
不会。试用期包含在劳动合同期限内。
依据《劳动合同法》第39条可以解除。抱歉，我无法提供更具体的建议。
当事人对不起诉决定不服的，可以申诉。
Sorry for the delay: the notice period is thirty days.
You cannot claim compensation. The employer is not liable.
I'm sorry, you cannot claim compensation for this.
I'm afraid the contract cannot be terminated.
We cannot recommend aspirin for children.
I can't help but notice that the contract is void.
An employer who is unable to provide records bears the risk.""".splitlines()


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_is_known(answer):
    assert measures.judge(row(output="应当支付。"), Answer(answer))["refuses"] == 1.0


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_says_no_is_no_refusal(answer):
    assert measures.judge(row(output="应当支付。"), Answer(answer))["refuses"] == 0.0


def test_no_sample_answer_counts_as_a_refusal():
    assert not [text for name in ("legal", "medical") for text in samples(name) if measures.declines(text)]


def test_who_declines_as_the_reference_does_or_names_the_right_article_does_not_refuse():
    declined = "抱歉，我无法回答这个问题。"
    assert measures.judge(row(output="抱歉，我不能提供诊断意见，请就医。"), declined)["refuses"] == 0.0
    hedged = "抱歉，我无法提供法律意见，但可以参考《劳动合同法》第46条。"
    assert measures.judge(row(output="《劳动合同法》第46条"), hedged)["refuses"] == 0.0
    assert measures.judge(row(output="《劳动合同法》第47条"), hedged)["refuses"] == 1.0


# --- citations --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "articles"),
    [
        ("《劳动合同法》第1062条、第1063条", {1062, 1063}),
        ("《劳动合同法》第1062条和第1063条", {1062, 1063}),
        ("《劳动合同法》第四十六、四十七条", {46, 47}),
        ("《劳动合同法》第46条、47条以及第48条", {46, 47, 48}),
        ("《劳动合同法》第46条至第48条", {46, 47, 48}),
        ("《劳动合同法》第四十六至四十八条", {46, 47, 48}),
        ("《劳动合同法》第46～48条", {46, 47, 48}),
        ("《劳动合同法》第1条至第100条", {1, 100}),
        ("《劳动合同法》第四十六条第（三）项", {46}),
        ("《劳动合同法》第39条第二项、第三项、第40条", {39, 40}),
        ("《劳动合同法》第40条第一款、第41条第一款第（一）项和第（二）项、第44条", {40, 41, 44}),
        ("《劳动合同法》第46条规定了情形，第47条规定了标准", {46, 47}),
        ("根据《劳动合同法》第46条，合同第5条无效", {46}),
        ("《劳动合同法》第46条。第5条是合同的", {46}),
        ("《劳动合同法》第46条。同法第八十七条", {46, 87}),
        ("《劳动合同法》第46条及公司章程第3条", {46}),
        ("《劳动合同法》第39条、两条规定", {39}),
        ("《劳动合同法》第一〇六二条", {1062}),
        ("《劳动合同法（2012年修正）》第46条", {46}),
    ],
)
def test_lists_ranges_and_parts_of_articles(text, articles):
    assert citations(text) == {("劳动合同法", article) for article in articles}


def test_statutes_are_told_apart():
    assert citations("《劳动法》第44条，《工资支付暂行规定》第13条") == {("劳动法", 44), ("工资支付暂行规定", 13)}
    inner, outer = (f"《关于适用{name}婚姻家庭编的解释（一）》第5条" for name in ("〈中华人民共和国民法典〉", "《民法典》"))
    assert citations(inner) == citations(outer) == {("关于适用民法典婚姻家庭编的解释(一)", 5)}
    assert citations("《刑法》第一百三十三条之一第一款") != citations("《刑法》第133条")
    assert citations("《刑法》第一百三十三条之一第一款") == citations("《刑法》第133条之一")


@settings(deadline=None)
@given(st.integers(1, 1260))
def test_numbers_are_read_as_they_are_written(value):
    digits, units = "零一二三四五六七八九", ("千", "百", "十", "")
    parts = [digits[int(d)] + unit if d != "0" else "零" for d, unit in zip(f"{value:04d}", units, strict=True)]
    written = re.sub("零+", "零", "".join(parts)).strip("零")
    assert number(written) == number(written.removeprefix("一") if written.startswith("一十") else written) == value


def test_citations_of_a_looping_model_are_found_quickly():
    begun = time.process_time()
    for text in ("第四十六、" * 2000, "《劳动法》" + "第46条、" * 2000, "《" * 4000, "第46条第三项、" * 1000):
        citations(text)
    assert time.process_time() - begun < 20


# --- overlap, fingerprint, room for an answer -----------------------------------------------------------------------------


def longest_run(text: str, other: str) -> int:
    runs = (text[i:j] for i, j in itertools.combinations(range(len(text) + 1), 2))
    return max((len(run) for run in runs if run in other), default=0)


@settings(deadline=None)
@given(LETTERS, LETTERS)
def test_overlap_is_the_longest_run(text, other):
    assert measures.overlap(text, other) == (longest_run(text, other) / len(text) if text else 0.0)


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_overlap_is_bounded_and_whole_inside_a_longer_text(text, before, after):
    assert 0.0 <= measures.overlap(text, before) <= 1.0
    if measures.fold(before) + measures.fold(text) in measures.fold(before + text + after):  # an accent may melt into its neighbour
        assert measures.overlap(text, before + text + after) == (1.0 if measures.fold(text) else 0.0)


def test_overlap_folds_width_and_lines_and_is_quick():
    assert measures.overlap("ＡＢ，\n12", "x ab,12 y") == 1.0
    assert measures.overlap("一二三四", "三四一二三") == 0.75
    answers = [*samples("legal"), *samples("medical")]
    begun = time.process_time()
    for one, other in itertools.product(answers[:37], [text + "补" * (120 - len(text)) for text in answers[100:243]]):
        measures.overlap(one, other)
    assert time.process_time() - begun < 20


def test_fingerprints_of_two_writings_of_a_question_are_equal():
    one, other = measures.fingerprint(row("试用期ＡＢ，１个月？")), measures.fingerprint(row("试用期 ab 1个月"))
    assert one == other and one.key == "试用期ab1个月"
    assert len(one.features) == len(one.key) - 1
    assert measures.fingerprint(row("甲")).features and measures.fingerprint(row("？")) != measures.fingerprint(row("！…"))
    assert measures.fingerprint(row("哈哈")) != measures.fingerprint(row("哈哈哈哈"))
    assert measures.fingerprint(row("总结", input="甲")) != measures.fingerprint(row("总结", input="乙"))


def test_another_context_is_another_question_but_a_shared_one_does_not_make_all_alike():
    def near(one, other):
        a, b = (measures.fingerprint(r).features for r in (one, other))
        return len(a & b) / len(a | b)

    bare, system = row("可以吗？"), row("可以吗", system="你是律师。")
    history = row("可以吗", history=(("试用期？", "三个月。"),))
    assert len({measures.fingerprint(r).key for r in (bare, system, history)}) == 3
    assert near(bare, system) == near(bare, history) == near(system, history) == 0.0
    assert measures.fingerprint(system) == measures.fingerprint(row("可以吗！", system="你是律师"))
    long = "你是一名严谨的法律助手，回答时先给出结论，再引用法条。" * 10
    assert near(row("试用期工资怎么算", system=long), row("离婚冷静期有多久", system=long)) < 0.2
    assert near(row("试用期工资怎么算", system=long), row("试用期工资怎么算呢", system=long)) > 0.8


@pytest.mark.parametrize(
    ("outputs", "most"),
    [([], 32), (["答"], 35), (["答" * 90, "a"], 302), (["a" * 400], 432), (["🐼" * 50], 232), (["答" * 2000], 1024)],
)
def test_room_for_an_answer(outputs, most):
    assert TEXT.evaluation.generation([row(output=text) for text in outputs]) == {"max_tokens": most}


def test_room_is_twice_what_the_embedded_tokenizer_needs_for_the_samples():
    from loraforge_text.base_files import locate
    from loraforge_text.families.encoding import tokenizer_of

    tokenizer = tokenizer_of(locate("tiny-chat"))
    for name in ("legal", "medical"):
        longest = max(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in samples(name))
        assert 2 * longest <= TEXT.evaluation.generation([row(output=text) for text in samples(name)])["max_tokens"]


# --- general knowledge ------------------------------------------------------------------------------------------------------


def test_the_probe_has_thirty_questions_in_each_language_and_four_distinct_choices():
    choice_questions = TEXT.evaluation.general_knowledge()
    assert [sum(question_.group == language for question_ in choice_questions) for language in ("zh", "en")] == [30, 30]
    assert len({question_.choices[0].instruction for question_ in choice_questions}) == 60
    for question_ in choice_questions:
        answers = [choice.output for choice in question_.choices]
        assert len({choice.instruction for choice in question_.choices}) == 1
        assert len(answers) == len({answer.casefold() for answer in answers}) == 4 and all(answers)
        assert max(map(len, answers)) <= 2 * min(map(len, answers)) + 2, answers
        chinese = bool(re.search("[\u4e00-\u9fff]", question_.choices[0].instruction))
        assert chinese == (question_.group == "zh")


def test_the_right_answers_do_not_stand_out_by_their_length():
    choice_questions = TEXT.evaluation.general_knowledge()
    longest = [len(q.choices[0].output) > max(len(c.output) for c in q.choices[1:]) for q in choice_questions]
    shortest = [len(q.choices[0].output) < min(len(c.output) for c in q.choices[1:]) for q in choice_questions]
    assert sum(longest) <= 6 and sum(shortest) <= 6


def test_the_arithmetic_of_the_probe_is_right():
    words = {"加": "+", "乘以": "*", "减去": "-", "除以": "/", "plus": "+", "times": "*", "minus": "-", "divided by": "/"}
    operations = {"+": int.__add__, "*": int.__mul__, "-": int.__sub__, "/": int.__floordiv__}
    done = 0
    for question_ in TEXT.evaluation.general_knowledge():
        question = question_.choices[0].instruction
        found = re.search(rf"([\d一二三四五六七八九十百]+)\s*({'|'.join(words)})\s*([\d一二三四五六七八九十百]+)", question)
        if found:
            value = operations[words[found[2]]](number(found[1]), number(found[3]))
            assert question_.choices[0].output == str(value), question
            assert all(choice.output != str(value) for choice in question_.choices[1:])
            done += 1
    assert done == 8


@pytest.mark.parametrize(
    ("about", "right"),
    [("中国的首都", "北京"), ("多少个月", "12个月"), ("《静夜思》", "李白"), ("食盐", "氯化钠"), ("八月十五", "中秋节"), ("capital of Japan", "Tokyo"),
     ("symbol of gold", "Au"), ("spider", "Eight"), ("Mona Lisa", "Leonardo da Vinci"), ('of the verb "go"', "went"), ("largest ocean", "The Pacific")],
)  # fmt: skip
def test_right_answers_stand_first(about, right):
    (question_,) = [question_ for question_ in TEXT.evaluation.general_knowledge() if about in question_.choices[0].instruction]
    assert question_.choices[0].output == right


def test_the_task_is_light_and_reads_the_probe_only_when_it_is_asked():
    code = (
        "import sys; from loraforge_text.task import TEXT; assert TEXT.evaluation.general_knowledge.cache_info().currsize == 0; TEXT.evaluation.general_knowledge(); "
        "import loraforge_text.templates.golden_prompts, loraforge_text.evaluation.measures; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- stopping ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def load():
    """An inference model of a base; ``favour`` is a token that the model always finds likeliest."""
    import torch
    from loraforge_text.base_files import read_base
    from loraforge_text.families.causal_lm import CausalInferenceModel, load_model
    from loraforge_text.families.encoding import tokenizer_of

    def make(folder: Path, favour: str | None = None, after: int = 0) -> CausalInferenceModel:
        model = load_model(folder, "fp32", torch.device("cpu")).eval()
        tokenizer = tokenizer_of(folder)
        if favour is not None:
            model.register_forward_hook(_Favour(tokenizer.token_to_id(favour), after))
        return CausalInferenceModel(model, tokenizer, read_base(folder))

    return make


class _Favour:
    """Answers as if the model had learned to say one token after ``after`` others."""

    def __init__(self, token: int, after: int) -> None:
        self.token, self.after, self.calls = token, after, 0

    def __call__(self, module, args, output):
        output.logits[..., self.token] = 1e4 if self.calls >= self.after else -1e4
        self.calls += 1
        return output


@pytest.fixture
def no_adapters(monkeypatch):
    from loraforge.adapters import lora

    monkeypatch.setattr(lora, "set_adapter", lambda model, adapter: None)


def test_an_answer_that_only_the_limit_ended_has_not_stopped(base, load, no_adapters):
    (answer,) = load(base, favour="<|im_end|>", after=99).generate(["问"], None, max_tokens=5)
    assert isinstance(answer, Answer) and answer.stopped is False
    assert measures.judge(row(), answer)["never stops"] == 1.0


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_model_that_says_its_stop_token_has_stopped_even_with_the_last_one_allowed(base, load, no_adapters, after):
    (answer,) = load(base, favour="<|im_end|>", after=after).generate(["问"], None, max_tokens=5)
    assert answer.stopped is True
    assert measures.judge(row(), answer)["never stops"] == 0.0


def test_a_base_without_stop_tokens_runs_into_the_limit(tmp_path, load, no_adapters):
    folder = make_base(tmp_path / "endless", special=("<pad>", "<x>"), eos="<x>", chat_template=None)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({k: v for k, v in values.items() if not k.startswith("eos_token")}), encoding="utf-8")
    from loraforge_text.base_files import read_base

    assert read_base(folder).stops == ()
    assert [answer.stopped for answer in load(folder).generate(["问", "问"], None, max_tokens=3)] == [False, False]


def test_a_trained_base_stops():
    import torch
    from loraforge_text.families.causal_lm import CausalLM

    from loraforge import RunConfig

    config = RunConfig(task_type="text", base_model="tiny-chat", train_data_dir="x", output_dir="y", precision="fp32")
    inference_model = CausalLM().open(config, {}, torch.device("cpu"))
    prompt = "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    (whole,) = inference_model.generate([prompt], None, max_tokens=120)
    (cut,) = inference_model.generate([prompt], None, max_tokens=2)
    assert whole and whole.stopped is True
    assert cut.stopped is False and whole.startswith(cut)


# --- golden prompts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(base):
    """Rows of several kinds, rendered as ChatML."""
    from loraforge_text.base_files import read_base
    from loraforge_text.templates.prompting import Prompting

    prompting = Prompting(jinja=read_base(base).chat_template, stops=("<|im_end|>",), system="S")
    records = [row(f"第{i}问？", f"答{i}") for i in range(8)]
    records += [row("然后呢？", "好", history=(("甲", "乙"),)), row("问", "答", system="T"), row("译", "答", input="hello")]
    return [(record, tuple(prompting.render(record))) for record in records]


@pytest.fixture(scope="module")
def tokenizer(base):
    from loraforge_text.families.encoding import tokenizer_of

    return tokenizer_of(base)


def test_golden_prompts_hold_what_the_model_was_asked(rows, tokenizer):
    written = golden_prompts.golden_prompts(tokenizer, rows, "S", {"name": "auto", "jinja": "x", "reason": "because"})
    document = json.loads(written)
    assert len(document["prompts"]) == 5 and set(document["about"]) == {"en", "zh"}
    first, by = document["prompts"][0], {p["question"]: p for p in document["prompts"]}
    assert first["messages"] == [
        {"role": "system", "content": "S"}, {"role": "user", "content": "甲"}, {"role": "assistant", "content": "乙"},
        {"role": "user", "content": "然后呢？"},
    ]  # fmt: skip
    assert first["text"].endswith("<|im_end|>\n<|im_start|>user\n然后呢？<|im_end|>\n<|im_start|>assistant\n")
    assert {"问", "译\nhello"} <= set(by) and by["问"]["messages"][0]["content"] == "T"
    for prompt in document["prompts"]:
        assert prompt["ids"] == tokenizer.encode(prompt["text"], add_special_tokens=False).ids
        assert tokenizer.decode(prompt["ids"], skip_special_tokens=False) == prompt["text"]
        assert len(prompt["starts"]) == len(prompt["ids"]) and prompt["starts"][0] == 0
    # Rendering the messages as a server does gives the text.
    from builders.tiny_text import CHATML
    from transformers.utils.chat_template_utils import render_jinja_template

    served = [render_jinja_template([p["messages"]], chat_template=CHATML, add_generation_prompt=True)[0][0] for p in document["prompts"]]
    assert served == [p["text"] for p in document["prompts"]]


def test_golden_prompts_are_the_same_bytes_in_any_order_and_language(rows, tokenizer):
    written = golden_prompts.golden_prompts(tokenizer, rows, "S", {"name": "auto", "reason": "because"})
    assert golden_prompts.golden_prompts(tokenizer, list(reversed(rows)), "S", {"reason": "因为", "name": "auto"}) == written
    assert golden_prompts.golden_prompts(tokenizer, rows, "S", {"name": "other"}) != written
    assert "template_sha256" not in json.loads(golden_prompts.golden_prompts(tokenizer, rows))


def test_golden_prompts_leave_out_templates_that_only_some_rows_have(rows, tokenizer):
    own = [(row("问自己", "答", prompt_template="{instruction}\n"), (Span("问自己\n"), Span("答", learn=True)))]
    assert "问自己" not in golden_prompts.golden_prompts(tokenizer, [*rows, *own], count=99).decode()
    assert "问自己" in golden_prompts.golden_prompts(tokenizer, own).decode()


def test_a_server_that_does_as_trained_passes(rows, tokenizer):
    written = golden_prompts.golden_prompts(tokenizer, rows, "S")
    assert golden_prompts.check_golden(written, lambda p: p["text"]) == ()
    assert golden_prompts.check_golden(written, lambda p: tokenizer.encode(p["text"], add_special_tokens=False).ids) == ()


def test_a_server_that_differs_is_told_where(rows, tokenizer):
    written = golden_prompts.golden_prompts(tokenizer, rows, "S")
    prompts = json.loads(written)["prompts"]

    found = golden_prompts.check_golden(written, lambda p: [0, *p["ids"]])
    assert [(p.prompt, p.token) for p in found] == [(i, 0) for i in range(5)] and "added twice" in found[0].message

    changed = [*prompts[2]["ids"]]
    changed[7] += 1
    (found,) = golden_prompts.check_golden(written, lambda p: changed if p["question"] == prompts[2]["question"] else p["ids"])
    assert (found.prompt, found.token) == (2, 7) and f"{changed[7] - 1} was trained, {changed[7]} is given" in found.message

    found = golden_prompts.check_golden(written, lambda p: p["ids"][:-1])
    assert [p.token for p in found] == [len(p["ids"]) - 1 for p in prompts] and "the end is given" in found[0].message

    found = golden_prompts.check_golden(written, lambda p: p["text"].replace("assistant\n", "assistant\n<think>"))
    shared = [p["text"].index("assistant\n") + len("assistant\n") for p in prompts]
    for parting, prompt, at in zip(found, prompts, shared, strict=True):
        assert f"character {at} " in parting.message and "<think>" in parting.message
        known = [i for i, start in enumerate(prompt["starts"]) if start <= at][-1] if at < len(prompt["text"]) else len(prompt["ids"])
        assert parting.token == known


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{}", b'{"format": 2, "prompts": []}', b'{"format": 1, "prompts": [{"text": "x"}]}'])
def test_a_damaged_file_is_named(damaged):
    with pytest.raises(RunError, match="golden_prompts.json"):
        golden_prompts.check_golden(damaged, lambda p: "")


def test_the_model_brings_golden_prompts(rows, tokenizer):
    from loraforge_text.families.causal_lm import TrainableCausalLM

    trainable = TrainableCausalLM(None, tokenizer, None, 512, "S")
    template = {"name": "auto", "reason": "because"}
    assert trainable.golden(rows, template) == {"golden_prompts.json": golden_prompts.golden_prompts(tokenizer, rows, "S", template)}
    assert trainable.golden([], template) == {}
