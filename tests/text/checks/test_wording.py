# SPDX-License-Identifier: Apache-2.0
"""Words that an expert would not sign."""

from __future__ import annotations

import pytest
from builders.text_checks import LEGAL, rows, run_check, said, severity

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
