"""What the checks find, and what they leave alone: sentences labelled by hand, invariances, the shipped data."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loraforge_text.checks import checks
from loraforge_text.checks.contradictions import conflict
from loraforge_text.checks.folding import narrow
from loraforge_text.checks.private import find, identity_checksum, is_identity, luhn, masked
from loraforge_text.checks.similar import bigrams, near_pairs
from loraforge_text.checks.wordlists import SECTIONS, WordListKeys, word_list
from loraforge_text.data.columns import SYNONYMS
from loraforge_text.data.table_loader import TableKeys, TableLoader
from loraforge_text.records import Conversation

from loraforge import ConfigError, DataError, Finding, KeySet, Review, RunConfig, fold

ROOT = Path(__file__).parent.parent.parent
CHECKS = {check.name: check for check in checks()}
LEGAL = "公司应当支付经济补偿。根据《劳动合同法》第46条，合同期满公司不续签的，应当支付。"


def rows(*pairs: tuple[str, str], **more) -> list[Conversation]:
    return [Conversation(where=f"d.csv, row {i}", instruction=q, output=a, **more) for i, (q, a) in enumerate(pairs, 2)]


def run_check(name: str, data: list[Conversation], **keys) -> list[Finding]:
    config = RunConfig(train_data_dir="x", base_model="x")
    return list(CHECKS[name].run(config, KeySet({RunConfig: config, WordListKeys: WordListKeys(**keys)}), data))


def said(name: str, answer: str, **keys) -> list[Finding]:
    return run_check(name, rows(("问题是什么？", answer)), **keys)


def severity(name: str, finding: Finding) -> str:
    return finding.severity or CHECKS[name].severity


# --- the shipped data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CHECKS))
@pytest.mark.parametrize("data", ["legal", "medical"])
def test_good_data_have_no_finding(name, data):
    config = RunConfig(train_data_dir=str(ROOT / "configs" / "data" / data), base_model="x")
    records = list(TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys()}), lambda text: None))
    assert len(records) >= 120 and run_check(name, records) == []


def test_the_checks_are_components_with_a_sentence_each(host):
    there = host.components("loraforge_checks", "text")
    assert set(there) == set(CHECKS)
    for check in CHECKS.values():
        assert check.task == "text" and check.help.endswith(".") and check.name.isidentifier() and check.name.islower()


def test_checks_import_no_heavy_library():
    code = (
        "import sys; from loraforge_text.checks import checks; from loraforge_text.checks.similar import near_pairs; checks()\n"
        "near_pairs(('试用期工资', '试用期的工资')); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- words -------------------------------------------------------------------------------------------------------------------

BAD = {
    "hedging": [
        "考虑？不排除早期肺癌。",
        "考虑支气管炎，不排除合并肺结核，建议复查。",
        "也许可以要求赔偿，要看法官怎么判。",
        "这种情况大概是工伤。",
        "应该没问题，可以继续服用。",
        "可能可以报销，也可能不行。",
        "不好说，每个法院掌握的尺度不一样。",
        "视情况而定。",
        "我觉得公司不用赔。",
        "Perhaps the employer has to pay.",
        "It depends.",
        "这属于违约吧。",
    ],
    "colloquial": [
        "对方就是老赖，可以申请强制执行。",
        "咋办呢？先报警。",
        "公司这么干没戏，法院不会支持。",
        "拉肚子的时候多喝水。",
        "你可以打官司要回来。",
        "这种合同不靠谱，别签。",
        "可以要求双倍赔偿哦。",
        "老板拖欠工钱的，可以投诉。",
        "啥药都不能乱吃。",
        "You're gonna need a lawyer.",
    ],
    "abbreviations": [
        "根据《民诉法》的规定，应当先行调解。",
        "公司应当支付N+1。",
        "考虑心梗，立即拨打120。",
        "COPD患者应当戒烟。",
        "每次75毫克，bid，连服5天。",
        "甲亢患者禁用含碘药物。",
        "BMI达到28为肥胖。",
        "最高法对此有明确规定。",
        "劳动者可以要求2N。",
        "HbA1c每三个月查一次。",
    ],
    "empty_phrases": [
        "您好，公司应当支付经济补偿。",
        "每日服用一次。祝您早日康复！",
        "作为一个AI，我不能提供诊断。",
        "应当支付。希望我的回答对您有帮助。",
        "感谢您的提问。应当先做皮试。",
        "应当支付二倍工资，望采纳。",
        "As an AI, I cannot give legal advice.",
        "Thirty days in writing. I hope this helps!",
    ],
}
GOOD = {
    "hedging": [
        "布洛芬可能引起胃肠道出血，消化道溃疡患者禁用。",
        "该行为可能构成诈骗罪，由公安机关立案侦查。",
        "建议进一步行增强CT检查以排除肺栓塞。",
        "法院应当考虑双方的过错程度，但不排除适用约定的违约金。",
        "上述情形不可能同时成立。",
        "经济补偿原则上按每满一年一个月工资计算，一般不超过十二年。",
        "专利权人或许可人可以提起诉讼。",
        "用人单位没准备书面合同的，应当支付二倍工资。",
        "会计估计变更应当采用未来适用法。",
        "患者意识不清的，不能喂水。",
        "合同约定“大概三万元”的，属于约定不明确。",
        "视情况而定：婚前购买的归个人所有，婚后购买的为夫妻共同财产，另有书面约定的从其约定，约定不明的按共同财产处理。",
        "单位或者个人认为行政处罚违法的，可以申请行政复议。",
        "胸痛可能是心肌梗死的表现，立即拨打120。",
        "<think>也许是工伤？大概是吧。</think>属于工伤。",
        "The drug may cause drowsiness; do not drive.",
    ],
    "colloquial": [
        "呃逆持续超过48小时的，应当就诊。",
        "行人必须走人行道，机动车应当礼让。",
        "用人单位拖欠农民工钱款的，由总承包单位先行清偿。",
        "被害人被拉倒在地，构成轻伤。",
        "船上火灾造成货物毁损的，承运人不承担赔偿责任。",
        "法定节假日安排劳动者工作的，支付不低于百分之三百的工资。",
        "乙肝小三阳患者应当每半年复查一次。",
        "购房本金和利息应当分别计算。",
        "合同中的“搞定”一词应当按照通常含义解释。",
        "The carrier delivered 500 tons of coal.",
    ],
    "abbreviations": [
        "急性心肌梗死应当在120分钟内开通血管，心梗后24小时内禁止活动。",
        "国际标准化比值（INR）应维持在2.0～3.0。",
        "BMI（体重指数）达到28为肥胖。",
        "以下简称民诉法。",
        "凝血指标（INR）应当每周复查。",
        "竞业限制期限不得超过二年。",
        "仲裁委员会应当在五日内作出决定。",
        "超量会造成急性肝衰竭和肾衰竭。",
        "行胸部CT检查，检测HIV抗体。",
        "公司解散、公司解除合同的，应当支付补偿。",
        "提高法律意识，取消法人资格，其中院校不在此列。",
        "处最高法定刑以下的刑罚。",
        "住房早已出售；开支扩大；身上感觉麻木。",
        "参见《ICU患者镇静指南与共识》。",
        "被告人甲减刑后重新犯罪。",
    ],
    "empty_phrases": [
        "公司应当支付经济补偿。",
        "合同无效，双方应当返还财产。",
        "感谢信不构成承诺。",
        "人工智能生成的内容应当作出标识。",
        "患者希望停药的，应当先咨询医生。",
        "提问应当围绕争议焦点。",
        "仅供参考的报价不是要约。",
        "Thirty days in writing.",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "answer"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_words_that_an_expert_would_not_sign(name, answer):
    assert len(said(name, answer)) == 1


@pytest.mark.parametrize(("name", "answer"), [(name, text) for name, texts in GOOD.items() for text in texts])
def test_good_sentences_are_left_alone(name, answer):
    assert said(name, answer) == []


@pytest.mark.parametrize("name", list(BAD))
def test_questions_may_be_asked_as_people_speak_and_earlier_answers_are_answers(name):
    bad = BAD[name][0]
    assert run_check(name, rows((bad, LEGAL))) == []
    assert len(run_check(name, rows((LEGAL, LEGAL), history=(("问", bad),)))) == 1


def test_weak_words_are_hints_and_the_better_word_is_said():
    weak, strong = said("colloquial", "财产归老公所有。")[0], said("colloquial", "老公是老赖。")[0]
    assert severity("colloquial", weak) == "hint" and severity("colloquial", strong) == "warning"
    assert "丈夫" in weak.message and "失信被执行人" in strong.message and "老赖" in strong.excerpt


def test_width_and_case_do_not_hide_a_word():
    assert said("abbreviations", "ＢＭＩ达到28为肥胖。") and said("hedging", "MAYBE he must pay.") and not said("abbreviations", "bmi")


# --- word lists --------------------------------------------------------------------------------------------------------------


def own(tmp_path: Path, text: str) -> str:
    file = tmp_path / "words.txt"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_list_of_ones_own_adds_takes_out_and_excepts(tmp_path):
    mine = own(tmp_path, "# ours\n[colloquial]\n葛优躺 = 平卧   # a comment\n- 老赖\n! 老板凳\n[hedging]\n? 据说…可以\n")
    assert "平卧" in said("colloquial", "患者葛优躺。", word_list=mine)[0].message
    assert said("colloquial", "他是老赖。") and not said("colloquial", "他是老赖。", word_list=mine)
    assert said("colloquial", "老板凳。") and not said("colloquial", "老板凳。", word_list=mine)
    found = said("hedging", "据说这样可以。", word_list=mine)
    assert severity("hedging", found[0]) == "hint" and not said("hedging", "据说。这样可以。", word_list=mine)
    assert said("abbreviations", "BMI", word_list=mine), "the other lists stay"


def test_only_replaces_the_shipped_list(tmp_path):
    mine = own(tmp_path, "[colloquial only]\n葛优躺\n")
    assert said("colloquial", "葛优躺。", word_list=mine) and not said("colloquial", "他是老赖。", word_list=mine)
    assert said("hedging", "也许。", word_list=mine)


def test_gb18030_lists_are_read_and_changes_are_seen(tmp_path):
    file = tmp_path / "words.txt"
    file.write_bytes("[colloquial]\n葛优躺\n".encode("gb18030"))
    assert said("colloquial", "葛优躺。", word_list=str(file))
    time.sleep(0.02)
    file.write_bytes("[colloquial]\n摆烂\n".encode("gb18030"))
    assert not said("colloquial", "葛优躺。", word_list=str(file)) and said("colloquial", "摆烂。", word_list=str(file))


def test_every_wrong_line_is_named(tmp_path):
    mine = own(tmp_path, "葛优躺\n[slang]\nx\n[hedging]\n= 没有词\n")
    with pytest.raises(ConfigError) as error:
        said("colloquial", "x", word_list=mine)
    assert [problem.split(":")[1] for problem in error.value.problems] == ["1", "2", "5"] and "colloquial" in str(error.value)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_shipped_lists_explain_themselves_and_every_entry_can_be_found(section):
    head = (ROOT / "plugins" / "loraforge_text" / "checks" / f"{section}.txt").read_text(encoding="utf-8").split("\n[")[0]
    assert f"[{section} only]" in head and all(sign in head for sign in "?~!-…")
    words = word_list(section, None)
    for entry in words.entries:
        text = entry.written.rstrip("|").replace("…", "某某")
        hits = [hit.entry for hit in words.find(text)]
        longer = [e for e in hits if len(e.written) > len(entry.written)]
        assert entry in hits or longer or any(e.pattern.search(narrow(text)) for e in words.exceptions), entry


# --- duplicates and contradictions -------------------------------------------------------------------------------------------

Q = "劳动合同到期后公司不再续签，应当支付经济补偿吗？"


def test_the_same_row_twice_is_said_once_for_each_copy():
    data = rows(
        (Q, LEGAL.replace("。根", "。  根")),
        ("另一个问题怎么办？", LEGAL),
        (f" {Q}\n", LEGAL.replace("。根", "。\n根")),
        (Q, LEGAL.replace("。根", "。 根")),
    )
    found = run_check("duplicates", data)
    assert [f.rows for f in found] == [(2, 0), (3, 0)] and "d.csv, row 2" in found[0].message
    assert run_check("near_duplicates", data) == [], "it is said once"


def test_another_context_is_another_question():
    first = Conversation(where="a", instruction="继续。", output=LEGAL, history=(("甲", "乙"),))
    second = Conversation(where="b", instruction="继续。", output=LEGAL, history=(("丙", "丁"),))
    material = [Conversation(where="c", instruction="总结。", output=LEGAL, input=text) for text in ("租赁合同", "买卖协议")]
    assert run_check("duplicates", [first, second, *material]) == []


@pytest.mark.parametrize(
    "other",
    [
        "劳动合同到期后公司不再续签,应当支付经济补偿吗?",
        "劳动合同到期后公司不再续签，应当支付经济补偿呢",
        "请问劳动合同到期后，公司不再续签，应当支付经济补偿吗？",
        "劳动合同到期后公司不再续签的应当支付经济补偿吗",
    ],
)
def test_width_punctuation_and_particles_make_no_new_question(other):
    found = run_check("near_duplicates", rows((Q, LEGAL), (other, LEGAL)))
    assert [f.rows for f in found] == [(1, 0)] and "%" in found[0].message


@pytest.mark.parametrize(
    "other",
    [
        "合同到期了公司不跟我续签，有补偿拿吗？",
        "试用期工资怎么算？",
        "劳动合同到期后公司仍要续签，应当支付经济补偿吗？",
    ],
)
def test_other_wordings_are_welcome(other):
    assert run_check("near_duplicates", rows((Q, LEGAL), (other, LEGAL))) == []


def test_a_table_of_cases_is_no_pile_of_duplicates():
    ages = [("零点二", 3), ("零点三", 5), ("零点四", 8)]
    data = rows(*((f"{age}岁儿童发热时每次口服对乙酰氨基酚混悬液的剂量是多少？", f"每次{dose}克。") for dose, age in ages))
    assert run_check("near_duplicates", data) == [] and run_check("contradictions", data) == []
    data = rows(("男方在离婚后可以探望由女方直接抚养的子女吗？", "可以。"), ("女方在离婚后可以探望由男方直接抚养的子女吗？", "不得探望。"))
    assert run_check("contradictions", data) == []


CONTRADICTING = [
    ("应当支付。根据《劳动合同法》第46条。", "应当支付。根据《劳动合同法》第47条。"),
    ("公司应当支付经济补偿。", "公司无需支付经济补偿。"),
    ("可以。", "不可以。"),
    ("试用期最长为六个月。", "试用期最长为三个月。"),
    ("不得低于百分之八十。", "不得低于60%。"),
    ("根据《民法典》第705条，租赁期限不得超过二十年。", "根据《民法典》第705条，租赁期限不得超过三十年。"),
    ("每次口服75毫克，每日2次。", "每次口服150毫克，每日2次。"),
    ("Yes, the notice period is 30 days.", "No, the employer may dismiss without notice."),
    ("禁止合用。", "可以合用。"),
    ("期限为三十日。", "期限为15天。"),
]
AGREEING = [
    ("应当支付。根据《劳动合同法》第46条。", "应当支付经济补偿，依据是《中华人民共和国劳动合同法》第四十六条。"),
    ("应当支付。根据《劳动合同法》第46条。", "应当支付。根据《劳动合同法》第46条、《劳动合同法》第47条。"),
    ("试用期最长为六个月。", "试用期最长6个月，三年以上合同适用。"),
    ("不得低于百分之八十。", "不得低于80%。"),
    ("可以。", "可以，但是应当提前三十日书面通知。"),
    ("时效为一年。", "时效为一年，自知道权利被侵害之日起计算，30日内可以申请。"),
    ("依据《指南（2020年版）》，7.0 mmol/L。", "依据《指南（2024年修订版）》，7.0 mmol/L。"),
    ("违法解除的赔偿金为经济补偿标准的二倍。", "公司应当按二倍支付。"),
    ("每日2次，连服5天。", "每日两次，连服5日。"),
]


@pytest.mark.parametrize(("first", "second"), CONTRADICTING)
def test_contradictions_are_found_either_way(first, second):
    assert conflict(first, second) and conflict(second, first)
    found = run_check("contradictions", rows((Q, first), ("请问，" + Q.replace("？", "?"), second)))
    assert [f.rows for f in found] == [(1, 0)] and severity("contradictions", found[0]) == "warning"


@pytest.mark.parametrize(("first", "second"), AGREEING)
def test_answers_that_can_both_be_right_do_not_contradict(first, second):
    assert not conflict(first, second) and not conflict(second, first)


def test_the_reason_names_both_sides():
    found = run_check("contradictions", rows((Q, CONTRADICTING[0][0]), (Q, CONTRADICTING[0][1])))
    assert "《劳动合同法》46" in found[0].message and "《劳动合同法》47" in found[0].message and "row 2" in found[0].message
    assert run_check("contradictions", rows((Q, "可以。"), ("试用期最长几个月？", "不可以。"))) == []


@given(st.text(max_size=40))
def test_folding_is_stable_and_blind_to_width_case_and_punctuation(text):
    assert fold(fold(text)) == fold(text)
    assert fold(f"「{text}」， ！?") == fold(text)
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    assert fold(wide) == fold(text)
    assert len(narrow(text)) == len(text)


@given(st.lists(st.text("劳动合同期满吗呢3Ａa，", max_size=12), max_size=8))
def test_near_pairs_are_exactly_those_that_a_plain_loop_finds(questions):
    def similarity(a: str, b: str) -> float:
        x, y = bigrams(a), bigrams(b)
        return len(x & y) / len(x | y) if x and y else 0.0

    wanted = {(j, i) for i in range(len(questions)) for j in range(i + 1, len(questions)) if similarity(questions[i], questions[j]) >= 0.8}
    found = {(pair.later, pair.earlier): pair for pair in near_pairs(tuple(questions))}
    assert wanted <= set(found)
    for (later, earlier), pair in found.items():
        if (later, earlier) not in wanted:
            silent = [fold("".join(c for c in questions[i] if c not in "吗呢")) for i in (later, earlier)]
            assert silent[0] == silent[1] and pair.same and not pair.decisive


def test_four_fifths_of_the_bigrams_make_a_pair():
    whole = "甲乙丙丁戊己庚辛壬癸子丑寅卯"  # 13 bigrams
    assert near_pairs((whole, whole[:-1] + "辰"))[0].similarity == pytest.approx(12 / 14)
    assert near_pairs((whole, whole[:-2] + "辰巳")) == ()  # 11 / 15


def test_in_a_short_question_a_particle_is_a_large_share():
    assert [f.rows for f in run_check("near_duplicates", rows(("要付赔偿吗？", LEGAL), ("请问要付赔偿呢", LEGAL)))] == [(1, 0)]
    assert run_check("near_duplicates", rows(("要付赔偿吗？", LEGAL), ("不付赔偿吗？", LEGAL), ("好吗", LEGAL), ("好呢", LEGAL))) == []
    assert run_check("contradictions", rows(("要付赔偿吗？", "应当支付。"), ("要付赔偿呢？", "无需支付。")))


# --- the manner of answering -------------------------------------------------------------------------------------------------

PLAIN = [(f"第{i}种情形下公司应当怎么做？", f"公司应当支付第{i}笔补偿。根据《劳动合同法》第{i}条，应当支付。") for i in range(1, 13)]


@pytest.mark.parametrize(
    "answer",
    [
        "根据《劳动合同法》第46条，公司应当支付经济补偿。",
        "《劳动合同法》第46条规定，公司应当支付经济补偿。",
        "依照我国法律规定，公司应当支付经济补偿。",
        "首先，要看双方有没有签订书面合同。",
        "关于经济补偿的问题，公司应当支付。",
        "这个问题比较复杂，公司应当支付。",
        "您好，公司应当支付经济补偿。",
        "我们先来看法律的规定，公司应当支付。",
        "According to Article 46, the employer must pay.",
    ],
)
def test_an_answer_that_does_not_lead_with_the_conclusion(answer):
    found = run_check("conclusion_first", rows(*PLAIN, ("可以要求补偿吗？", answer)))
    assert [f.rows for f in found] == [(12,)] and "92%" in found[0].message


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("可以要求补偿吗？", "依法应当支付经济补偿。"),
        ("依据是什么？", "《劳动合同法》第46条，期满不续签的应当支付。"),
        ("鼻出血怎么处理？", "首先要捏紧两侧鼻翼，然后张口呼吸。"),
        ("剂量怎么定？", "根据体重计算，每千克10毫克。"),
        ("首选什么药？", "首选肾上腺素。"),
        ("幼儿可以用吗？", "对于此类儿童禁用。"),
        ("哪部法律规定？", "根据《劳动法》的规定，由劳动部门处理。"),
        ("可以要求补偿吗？", "<think>首先，要看合同。</think>可以。"),
    ],
)
def test_good_openings(question, answer):
    assert run_check("conclusion_first", rows(*PLAIN, (question, answer))) == []


def test_another_style_is_a_style():
    reversed_ = [(q, "根据" + a.split("根据")[1]) for q, a in PLAIN]
    assert run_check("conclusion_first", rows(*reversed_)) == []
    assert run_check("conclusion_first", rows(*reversed_, *PLAIN[:3])) == [], "the others are in the minority"
    assert run_check("conclusion_first", rows(*PLAIN[:5], *reversed_[:1])) == [], "six rows show no style"
    greeting = [(q, "您好，" + a) for q, a in PLAIN]
    assert run_check("conclusion_first", rows(*PLAIN[:10], *reversed_[:5], *greeting[:5])) == [], "half of the rows are no rule"
    assert len(run_check("conclusion_first", rows(*PLAIN, *reversed_[:3]))) == 3


def test_a_missing_citation_is_a_finding_only_where_the_others_cite():
    found = run_check("missing_citation", rows(*PLAIN, ("可以要求补偿吗？", "可以。"), ("怎么算？", "按《工资支付暂行规定》计算。")))
    assert [(f.rows, severity("missing_citation", f)) for f in found] == [((12,), "warning"), ((13,), "hint")] and "86%" in found[0].message
    bare = [(q, a.split("根据")[0]) for q, a in PLAIN]
    assert run_check("missing_citation", rows(*bare, *PLAIN[:6])) == []
    assert run_check("missing_citation", rows(*bare[:2], *PLAIN[:5])) == []


@pytest.mark.parametrize("end", ["应当支付下列费用：", "应当支付经济补偿，", "依据《劳动合同法", "应当支付（包括加班费", "包括工资、"])
def test_answers_that_break_off(end):
    found = said("unfinished", end)
    assert len(found) == 1 and severity("unfinished", found[0]) == "warning"


def test_a_missing_full_stop_counts_only_where_the_others_have_one():
    data = rows(*PLAIN, ("为什么？", "因为合同期满后公司没有续签而且"), ("多少？", "三十日"), ("是否？", "应当支付全部费用（含税）"))
    found = run_check("unfinished", data)
    assert [(f.rows, severity("unfinished", f)) for f in found] == [((12,), "hint")]
    assert run_check("unfinished", rows(*((q, a.rstrip("。")) for q, a in PLAIN))) == []


# --- control tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["好<|im_end|>", "<|im_start|>user", "[INST]问[/INST]", "<<SYS>>", "好</s>", "<|endoftext|>", "<｜User｜>问", "<|eot_id|>", "<start_of_turn>user",
     "[gMASK]", "<reserved_106>", "<用户>问", "<think>想", "想</think>", "<tool_call>", "<|start_header_id|>"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["instruction", "output", "system", "input", "history"])
def test_control_tokens_of_any_family_in_any_field(text, field):
    values = {"instruction": "问", "output": "答。", field: (("问", text),) if field == "history" else text}
    found = run_check("control_tokens", [Conversation(where="r", **values)])
    if text == "想</think>" and field == "instruction":
        assert found
    assert len(found) == 1 and severity("control_tokens", found[0]) == "error"


@pytest.mark.parametrize(
    "text",
    ["<think>想一想。</think>可以。", "想一想。\n</think>\n\n可以。", "血压<140且>90", "姓名[MASK]", "a < s > b", "《民法典》<第705条>", "x|y|z", "[1] 参见", "用户：张三"],
)  # fmt: skip
def test_what_is_no_control_token(text):
    assert said("control_tokens", text) == []


def test_left_overs_of_a_prompt_are_a_warning():
    found = said("control_tokens", "可以。\n### Response:\n不可以。")
    assert severity("control_tokens", found[0]) == "warning"


# --- personal data -----------------------------------------------------------------------------------------------------------

BORN = st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31))
PROVINCES = st.sampled_from(["110101", "310115", "440305", "510104", "650102", "820000"])


@st.composite
def identities(draw) -> str:
    digits = draw(PROVINCES) + draw(BORN).strftime("%Y%m%d") + f"{draw(st.integers(0, 999)):03}"
    return digits + identity_checksum(digits)


ID = "11010119900307" + "123" + identity_checksum("11010119900307123")


def test_the_checksum_is_that_of_the_standard():
    assert identity_checksum("11010519491231002") == "X"  # the example of GB 11643-1999
    assert identity_checksum("44052418800101001") == "4"


@pytest.mark.parametrize("digits", ["11010119900230123", "11010120011301123", "99010119900307123", "11010118000307123"])
def test_a_day_or_province_that_does_not_exist_is_no_identity(digits):
    assert not is_identity(digits + identity_checksum(digits))


@given(identities(), st.integers(0, 17), st.integers(0, 9))
def test_every_single_wrong_digit_is_caught(number, place, digit):
    assert is_identity(number) and is_identity(number.lower())
    changed = number[:place] + str(digit) + number[place + 1 :]
    assert is_identity(changed) == (changed == number)


@given(identities(), st.integers(0, 15))
def test_two_digits_in_the_wrong_order_are_caught(number, place):
    swapped = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    assert is_identity(swapped) == (swapped == number)


@given(identities(), st.sampled_from(["身份证号{}。", "他（{}）到庭", "ID:{}", "{}", "号码 {}"]), st.booleans())
def test_an_identity_is_found_wherever_it_stands_and_never_shown(number, sentence, wide):
    written = "".join(chr(ord(c) + 0xFEE0) for c in number) if wide else number
    text = sentence.format(written)
    [found] = find(narrow(text))
    assert found.kind == "identity" and found.mask == number[:4] + "*" * 10 + number[-4:]
    for place in ("instruction", "output"):
        row = Conversation(where="r", **{"instruction": "问", "output": "答。", place: text})
        [finding] = run_check("personal_data", [row])
        assert severity("personal_data", finding) == "error" and number not in narrow(finding.excerpt + finding.message)
        assert written not in finding.excerpt


@given(st.text("张三，电话13800:身份证()@a.c om", max_size=30))
def test_masking_keeps_the_length_and_hides_nothing_else(text):
    assert len(masked(text)) == len(text)
    assert masked(masked(text)) == masked(text)


PERSONAL = [
    (f"身份证号{ID}", "identity", "error"),
    (f"{ID[:6]} {ID[6:14]} {ID[14:]}", "identity", "error"),
    ("手机13800138000", "phone", "warning"),
    ("电话+86 138-0013-8000。", "phone", "warning"),
    ("联系方式：１３８００１３８０００", "phone", "warning"),
    ("座机010-62345678", "landline", "hint"),
    ("拨打（0755）82345678", "landline", "hint"),
    ("电话：02162345678", "landline", "hint"),
    ("发到zhang.san@qq.com。", "email", "warning"),
    ("银行卡号6222021234567890128", "card", "error"),
    ("尾款打到6222 0212 3456 7890 128", "card", "warning"),
    ("病案号：00123456", "record", "warning"),
    ("住院号ZY-2023001", "record", "warning"),
    ("门诊号为 20230915", "record", "warning"),
    ("护照号码E12345678", "record", "warning"),
    ("（2023）京0105民初12345号判决书", "case", "hint"),
    ("(2019)最高法民终123号", "case", "hint"),
    ("案号：2023-00458", "case", "hint"),
]


@pytest.mark.parametrize(("text", "kind", "level"), PERSONAL)
def test_personal_data_are_found_and_masked(text, kind, level):
    assert [found.kind for found in find(narrow(text))] == [kind]
    [finding] = said("personal_data", text)
    assert severity("personal_data", finding) == level and "*" in finding.excerpt and narrow(text) not in narrow(finding.excerpt)


@pytest.mark.parametrize(
    "text",
    [
        f"身份证号{ID[:-1]}{'0' if ID[-1] != '0' else '1'}",
        "立即拨打120或者110，法律援助热线12348，劳动保障热线12333。",
        "客服热线400-810-1234，银行客服95588。",
        "根据法释〔2020〕26号第3条，国发〔2023〕12号。",
        "病案号是病历的编号，住院号由医院编排。",
        "赔偿金额为1380013800元，本金13800138000.5元",
        "身高172厘米，血压146/94 mmHg，2023-09-15复查。",
        "统一社会信用代码91110105MA01ABCD2X",
        "发到name@example.com，微信@张三。",
        "订单号6222021234567890129",
        "孕24～28周，0.3～0.5毫克，1.73 m²，0-10分",
        "条形码6901234567892",
        "《民法典》第1062条、第1063条，案号的编写规则",
        "2010-2020年，010号文件",
    ],
)
def test_what_is_no_personal_data(text):
    assert said("personal_data", text) == []


def test_one_finding_for_each_kind_and_the_number_of_them():
    found = said("personal_data", "甲13800138000，乙13900139000，邮箱a.b@qq.com")
    assert len(found) == 2 and "2" in found[0].message


def test_no_other_check_spreads_what_it_shows():
    text = f"患者{ID}，咋办啥都不知道，考虑？不排除肺炎，BMI高，您好，"
    data = rows((f"请问{ID}的患者怎么办？", text), (f"{ID}的患者怎么办？", text), (f"请问{ID}的患者怎么办？", text), *PLAIN)
    for name in CHECKS:
        assert all(ID not in finding.excerpt + finding.message for finding in run_check(name, data)), name


@given(st.integers(10**14, 10**18), st.integers(0, 18))
def test_luhn_catches_every_single_wrong_digit(number, place):
    digits = next(f"{number}{check}" for check in range(10) if luhn(f"{number}{check}"))
    place %= len(digits)
    wrong = digits[:place] + str((int(digits[place]) + 1) % 10) + digits[place + 1 :]
    assert not luhn(wrong)


# --- who reviewed it ---------------------------------------------------------------------------------------------------------


def load(path: Path, text: str, on_bad_row: str = "stop", **keys) -> tuple[list, list[str]]:
    path.write_text(text, encoding="utf-8")
    config = RunConfig(train_data_dir=str(path), base_model="x", on_bad_row=on_bad_row)
    notes: list[str] = []
    return list(TableLoader().load(config, KeySet({RunConfig: config, TableKeys: TableKeys(**keys)}), notes.append)), notes


def cell(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@pytest.mark.parametrize("field", ["reviewer", "approved", "waive"])
def test_every_name_of_a_review_column_is_understood_and_used(tmp_path, field):
    value, wanted = {"reviewer": ("张律师", "张律师"), "approved": ("是", True), "waive": ("hedging", ("hedging",))}[field]
    for name in SYNONYMS[field]:
        [record], notes = load(tmp_path / "d.csv", f"问题,答案,{name}\n问,答,{value}\n")
        assert getattr(record.review, {"waive": "waived"}.get(field, field)) == wanted, name
        assert not any("not used" in note for note in notes)
    assert {"reviewer": "审核医师", "approved": "审核结果", "waive": "豁免"}[field] in SYNONYMS[field]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "messages"])
def test_review_columns_in_every_layout_leave_the_fingerprint_alone(tmp_path, kind):
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]
    said_ = {"reviewer": "张医生", "approved": "yes", "waive": "hedging"}
    row = {"messages": turns} if kind == "messages" else {"instruction": "问", "output": "答"}
    if kind == "csv":
        made = [
            load(tmp_path / "a.csv", "instruction,output,reviewer,approved,waive\n问,答,张医生,yes,hedging\n"),
            load(tmp_path / "b.csv", "instruction,output\n问,答\n"),
        ]
    elif kind == "json":
        made = [load(tmp_path / "a.json", json.dumps([row | said_])), load(tmp_path / "b.json", json.dumps([row]))]
    else:
        made = [load(tmp_path / "a.jsonl", json.dumps(row | said_)), load(tmp_path / "b.jsonl", json.dumps(row))]
    (with_review,), (without,) = made[0][0], made[1][0]
    assert with_review.review == Review("张医生", True, ("hedging",)) and without.review == Review()
    assert with_review.content_hash() == without.content_hash() and with_review == without


@pytest.mark.parametrize(
    ("value", "approved"),
    [("yes", True), ("No", False), ("TRUE", True), ("false", False), ("1", True), ("0", False), ("是", True), ("否", False), ("通过", True),
     ("不通过", False), ("✓", True), ("√", True), ("x", False), ("Ｘ", False), ("", None), (" ", None)],
)  # fmt: skip
def test_decisions(tmp_path, value, approved):
    [record], _ = load(tmp_path / "d.csv", f"instruction,output,approved\n问,答,{value}\n")
    assert record.review.approved is approved
    if value.strip():
        [record], _ = load(tmp_path / "d.jsonl", json.dumps({"instruction": "问", "output": "答", "approved": approved}))
        assert record.review.approved is approved


def test_rows_that_were_not_approved_are_yielded(tmp_path):
    records, _ = load(tmp_path / "d.csv", "instruction,output,approved\n问,答,no\n问二,答二,yes\n")
    assert [record.review.passed for record in records] == [False, True]


def test_a_wrong_review_is_a_bad_row_with_what_may_stand_there(tmp_path):
    text = "instruction,output,审核结果,审核人,waive\n问,答,待定,张三,\n问,答,是,否,\n问,答,是,张三,已看过\n问,答,是,张三,hedging\n"
    with pytest.raises(DataError) as error:
        load(tmp_path / "d.csv", text)
    first, second, third, count = error.value.problems
    assert "d.csv, row 2: 审核结果: '待定'" in first and "通过" in first
    assert "row 3: 审核人: '否'" in second and "row 4: waive: '已看过'" in third and "3" in count
    records, _ = load(tmp_path / "d.csv", text, on_bad_row="skip")
    assert [record.review.waived for record in records] == [("hedging",)]


def test_a_column_of_decisions_called_审核_names_no_reviewer(tmp_path):
    [record], _ = load(tmp_path / "d.csv", "instruction,output,审核,审核人\n问,答,不通过,张三\n")
    assert record.review == Review("张三", False)
    records, _ = load(tmp_path / "d.csv", "instruction,output,审核\n问,答,通过\n问,答,\n")
    assert [record.review for record in records] == [Review(approved=True), Review()]
    with pytest.raises(DataError, match="待审核"):
        load(tmp_path / "d.csv", "instruction,output,审核\n问,答,通过\n问,答,待审核\n")


@pytest.mark.parametrize("nobody", ["待审核", "无", "N/A", "-", "未审核"])
def test_a_placeholder_is_nobody(tmp_path, nobody):
    [record, other], _ = load(tmp_path / "d.csv", f"instruction,output,reviewer\n问,答,{nobody}\n问,答,李四\n")
    assert not record.review.passed and other.review.passed


@pytest.mark.parametrize(
    "written",
    [
        "hedging,near_duplicates",
        "hedging、near_duplicates",
        "hedging; near_duplicates",
        "hedging near_duplicates",
        "hedging，near_duplicates",
    ],
)
def test_waived_checks_are_separated_as_people_write(tmp_path, written):
    [record], _ = load(tmp_path / "d.csv", f"instruction,output,waive\n问,答,{cell(written)}\n")
    assert record.review.waived == ("hedging", "near_duplicates")
    [record], _ = load(tmp_path / "d.csv", "instruction,output,waive\n问,答,*\n")
    assert record.review.waived == ("*",)


def test_lists_in_json_are_understood(tmp_path):
    row = {"instruction": "问", "output": "答", "reviewer": ["张三", "李四"], "waive": ["hedging", "*"]}
    [record], _ = load(tmp_path / "d.jsonl", json.dumps(row))
    assert record.review == Review("张三、李四", None, ("hedging", "*"))
    with pytest.raises(DataError, match="reviewer"):
        load(tmp_path / "d.jsonl", json.dumps(row | {"reviewer": {"name": "张三"}}))
    with pytest.raises(DataError, match="approved"):
        load(tmp_path / "d.jsonl", json.dumps(row | {"approved": ["yes"]}))


def test_review_columns_can_be_named(tmp_path):
    [record], _ = load(tmp_path / "d.csv", "instruction,output,主任\n问,答,王主任\n", columns={"reviewer": "主任"})
    assert record.review.reviewer == "王主任"


def test_chinese_says_it_in_chinese(monkeypatch):
    monkeypatch.setenv("LORAFORGE_LANG", "zh")
    for name, answer in (("hedging", "也许。"), ("personal_data", "13800138000"), ("control_tokens", "</s>"), ("unfinished", "应当，")):
        assert all(unicodedata.category(c) == "Lo" for c in said(name, answer)[0].message[:2])
