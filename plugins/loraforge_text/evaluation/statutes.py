# SPDX-License-Identifier: Apache-2.0
"""How statutes are named: in marks, without any, in traditional writing, in English; and one name for all of these."""

from __future__ import annotations

import re

# The usual short names. Without 《》 nothing else tells where 民法典 begins in 公司应当依照民法典第五百条承担责任.
_KNOWN = [
    "宪法", "民法典", "民法通则", "民法总则", "合同法", "物权法", "侵权责任法", "婚姻法", "继承法", "收养法", "担保法", "公司法",
    "合伙企业法", "个人独资企业法", "企业破产法", "外商投资法", "证券法", "票据法", "保险法", "信托法", "海商法", "商业银行法",
    "银行业监督管理法", "证券投资基金法", "期货和衍生品法", "反洗钱法", "电子商务法", "电子签名法", "拍卖法", "招标投标法",
    "政府采购法", "对外贸易法", "反垄断法", "反不正当竞争法", "消费者权益保护法", "产品质量法", "食品安全法", "药品管理法",
    "疫苗管理法", "广告法", "价格法", "专利法", "商标法", "著作权法", "种子法", "劳动法", "劳动合同法", "劳动合同法实施条例",
    "就业促进法", "劳动争议调解仲裁法", "社会保险法", "军人保险法", "工会法", "安全生产法", "职业病防治法", "工伤保险条例",
    "失业保险条例", "住房公积金管理条例", "职工带薪年休假条例", "女职工劳动保护特别规定", "妇女权益保障法", "未成年人保护法",
    "预防未成年人犯罪法", "老年人权益保障法", "残疾人保障法", "反家庭暴力法", "母婴保健法", "人口与计划生育法", "家庭教育促进法",
    "个人信息保护法", "数据安全法", "网络安全法", "密码法", "刑法", "刑事诉讼法", "民事诉讼法", "行政诉讼法", "海事诉讼特别程序法",
    "行政处罚法", "行政许可法", "行政强制法", "行政复议法", "国家赔偿法", "公务员法", "监察法", "立法法", "治安管理处罚法",
    "道路交通安全法", "道路交通安全法实施条例", "道路交通事故处理程序规定", "仲裁法", "人民调解法", "公证法", "律师法", "法官法",
    "检察官法", "人民法院组织法", "人民检察院组织法", "人民陪审员法", "法律援助法", "涉外民事关系法律适用法", "出境入境管理法",
    "国籍法", "护照法", "居民身份证法", "户口登记条例", "土地管理法", "城市房地产管理法", "农村土地承包法", "城乡规划法", "建筑法",
    "物业管理条例", "国有土地上房屋征收与补偿条例", "不动产登记暂行条例", "建设工程质量管理条例", "环境保护法", "环境影响评价法",
    "水污染防治法", "大气污染防治法", "固体废物污染环境防治法", "噪声污染防治法", "森林法", "草原法", "野生动物保护法", "水法",
    "渔业法", "矿产资源法", "税收征收管理法", "个人所得税法", "企业所得税法", "增值税法", "增值税暂行条例", "契税法", "印花税法",
    "会计法", "审计法", "统计法", "预算法", "教育法", "义务教育法", "高等教育法", "民办教育促进法", "教师法", "学位法", "医师法",
    "执业医师法", "护士条例", "医疗机构管理条例", "医疗事故处理条例", "医疗纠纷预防和处理条例", "医疗器械监督管理条例",
    "基本医疗卫生与健康促进法", "传染病防治法", "献血法", "精神卫生法", "中医药法", "信访工作条例", "禁毒法", "枪支管理法",
    "反恐怖主义法", "国家安全法", "反间谍法", "国防法", "兵役法", "突发事件应对法", "消防法", "邮政法", "铁路法", "民用航空法",
    "旅游法", "慈善法", "红十字会法", "工资支付暂行规定", "最低工资规定", "企业职工患病或非因工负伤医疗期规定", "集体合同规定",
    "劳务派遣暂行规定", "缺陷汽车产品召回管理条例",
]  # fmt: skip
KNOWN = "|".join(sorted(_KNOWN, key=len, reverse=True))
_SUFFIX = r"(?:法典|法|条例|宪法)"
# Ends like a statute's name, and is none.
_NONE = re.compile(
    r"(?:^|.*[^一-鿿])?(?:.*(?:方|做|说|看|想|手|用|写|违|合|依|执|司|守|犯|非|枉|新|旧|本|该|同|此|其|国|无|语|算|书|疗|立|释|普|办|枪|设|没|的|等)法|法|条例|该条例|本条例)"
)
_LEADS = re.compile(
    r"(?:根据|依据|依照|按照|遵照|参照|参见|适用|违反|触犯|符合|援引|引用|结合|属于|我国|我们|现行|以及|或者|同时|而是|不是|并非|包括|例如|比如|对照|查阅|"
    r"[即依据按见是在了和与及或由为看查])"
)
_HAN = "一-鿿"
_VERSION = r"(?:\s*\([^()]{0,20}\))?"
FAR = 12  # characters between a statute's name and its article: (2012年修正), 婚姻家庭编
_KNOWN_BEFORE = re.compile(rf"(?:中华人民共和国)?(?P<name>{KNOWN}){_VERSION}(?P<between>[^。;\n《》]{{0,{FAR}}})$")
_NOTHING = ("", "之", "的", "中")
_OTHER_BEFORE = re.compile(rf"(?P<name>[{_HAN}]{{1,24}}{_SUFFIX}){_VERSION}\s*(?:之|的|中)?\s*$")
_ABOUT = re.compile(
    rf"(?P<name>(?:最高人民法院)?(?:[{_HAN}]{{0,12}})?关于[^,。;:\n]{{2,50}}的(?:解释|规定|批复|意见|决定)"
    rf"(?:\([一二三四五六七八九十]+\))?){_VERSION}\s*(?:之|的|中)?\s*$"
)
_AFTER_ZH = re.compile(rf"\s*[,(]\s*(?:中华人民共和国)?(?P<known>{KNOWN}){_VERSION}(?=\s*(?:[),.。;\n]|$))")

_WORD = r"[A-Z][\w'’&-]*"
_KIND = (
    r"(?:Codes?|Acts?|Laws?|Constitution|Regulations?|Directive|Convention|Charter|Treaty|Rules|Ordinance|Statute|Provisions|Measures|"
    r"Interpretations?|Covenant|Protocol)"
)
_TAIL = rf"(?:\s+(?:of|on|for|concerning|against)\s+(?:the\s+)?{_WORD}(?:\s+(?:(?:of|and|on|the)\s+)*{_WORD})*)*"
_SHORT = r"(?!PRC\b|Art\b)[A-Z][A-Za-z]*[A-Z](?:[A-Za-z]*)"  # BGB, StGB, GG, GDPR
ENGLISH = rf"(?:{_WORD}\s+(?:(?:{_WORD}|of|on|the|and|for|to|in)\s+){{0,10}}?)?{_KIND}\b{_TAIL}|{_SHORT}\b"
_BEFORE_EN = re.compile(rf"(?P<name>{ENGLISH}){_VERSION}\s*[,:]?\s*$")
_AFTER_EN = re.compile(rf"\s*[,(]?\s*(?:(?:of|in|under|from)\s+)?(?:the\s+)?(?P<name>{ENGLISH})")
_STARTERS = re.compile(
    r"^(?:(?:under|see|per|in|by|of|cf|the|and|or|but|not|to|applying|apply|with|pursuant|according)\b\.?\s+)+", re.IGNORECASE
)
_CHINA = re.compile(r"\b(?:of\s+)?(?:the\s+)?(?:people'?s\s+republic\s+of\s+china|prc|chinese|china)(?:'s)?\b")

# What stands in citations and titles, of what traditional writing has otherwise.
_TRADITIONAL = str.maketrans(
    "條項與兩號勞動險產繼財貨權護損債務擔證訴訟執業稅國華個體關於適釋規則細實辦銀衛藥醫療師員專標準設計環養婦嬰殘傷賠償補離親屬總編節網絡資訊電"
    "選舉審檢機構農場競爭壟斷價運輸鐵築買賣贈請應當據並過還會開發時對從違觸陸貳參參叄憲許處罰強複議監繳廣產質費",
    "条项与两号劳动险产继财货权护损债务担证诉讼执业税国华个体关于适释规则细实办银卫药医疗师员专标准设计环养妇婴残伤赔偿补离亲属总编节网络资讯电"
    "选举审检机构农场竞争垄断价运输铁筑买卖赠请应当据并过还会开发时对从违触陆贰参参叁宪许处罚强复议监缴广产质费",
)


def simplified(text: str) -> str:
    """The text with the characters of citations in simplified writing; as long as before."""
    return text.translate(_TRADITIONAL)


def plain(statute: str) -> str:
    """One name for all namings of a Chinese statute: without marks, the country, and the year of a version."""
    name = re.sub(r"[<>〈〉《》「」『』\s]", "", statute).replace("中华人民共和国", "")
    name = re.sub(r"^(?:最高人民法院|最高人民检察院|国务院|、)+(?=关于)", "", name)
    return re.sub(r"\((?:19|20)[0-9]{2}[^()]*\)$", "", name)


def plain_english(statute: str) -> str:
    """The same for an English one: small letters, without the country."""
    name = " ".join(_STARTERS.sub("", statute.replace("’", "'")).lower().split())
    return re.sub(r"\s+", " ", _CHINA.sub(" ", name)).strip(" ,.'") or name


def before(text: str) -> tuple[str, int, str] | None:
    """(name, where it begins, what stands behind it) of a statute without marks at the end of ``text``, or None."""
    offset = max(0, len(text) - 80)
    end = text[offset:]
    found = _ABOUT.search(end)
    if found:
        lead = [m.end() for m in _LEADS.finditer(found["name"].split("关于")[0])]
        begin = found.start("name") + (lead[-1] if lead else 0)
        return plain(end[begin : found.end("name")]), offset + begin, ""
    known, other = _nearest(_KNOWN_BEFORE, end), _OTHER_BEFORE.search(end)
    between = known["between"].strip() if known else ""
    if other and (not known or between not in _NOTHING):
        name = other["name"]
        leads = [m.end() for m in _LEADS.finditer(name) if m.end() < len(name) - 1]
        cut = leads[-1] if leads else 0
        if not _NONE.fullmatch(name[cut:]):
            return plain(name[cut:]), offset + other.start() + cut, ""
    if known:
        return known["name"], offset + known.start(), "" if between in _NOTHING else between
    found = _BEFORE_EN.search(text[-120:])
    return (plain_english(found["name"]), max(0, len(text) - 120) + found.start(), "") if found else None


def _nearest(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match, where a name that was read is not read again from its middle: 劳动合同法 is no 合同法."""
    found, at = None, 0
    while match := pattern.search(text, at):
        found, at = match, match.end("name")
    return found


def after(text: str, begin: int, *, english: bool) -> tuple[str, int] | None:
    """(name, where it ends) of a statute that is named right behind the article that ends at ``begin``, or None."""
    found = (_AFTER_EN if english else _AFTER_ZH).match(text, begin)
    if not found:
        return None
    return (plain_english(found["name"]) if english else found["known"]), found.end()
