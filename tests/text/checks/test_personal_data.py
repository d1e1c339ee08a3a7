# SPDX-License-Identifier: Apache-2.0
"""Personal data are found, masked and not spread."""

from __future__ import annotations

import datetime

import pytest
from builders.text_checks import CHECKS, PLAIN, rows, run_check, said, severity
from hypothesis import given
from hypothesis import strategies as st
from loraforge_text.checks.folding import narrow
from loraforge_text.checks.private import find, identity_checksum, is_identity, luhn, masked
from loraforge_text.records import Conversation

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
