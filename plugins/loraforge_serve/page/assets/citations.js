// SPDX-License-Identifier: Apache-2.0
// Where an answer cites: 《劳动合同法》第46条, § 46 BGB, Article 12 of the Civil Code, 42 U.S.C. § 1983. A mark says where to look, no more:
// nothing here knows whether the article exists. Every repetition has a bound, so that no answer takes long.

const NUMBER = "[0-9０-９零〇一二两三四五六七八九十百千]{1,9}";
const ARTICLE = `第\\s?${NUMBER}\\s?条(?:\\s?之\\s?${NUMBER})?(?:\\s?第?\\s?[（(]?${NUMBER}[）)]?\\s?[款项目]){0,4}`;
const ARTICLES = `${ARTICLE}(?:\\s?(?:、|，|,|和|及|与|或|以及|至|到|[-–—~～])\\s?(?:${ARTICLE}|第?\\s?${NUMBER}\\s?条)){0,20}`;
// Without 《》 nothing tells where a name begins; these are the usual ones.
const SHORT =
  "民法典|宪法|刑法|民法总则|合同法|物权法|婚姻法|继承法|劳动法|劳动合同法|劳动合同法实施条例|劳动争议调解仲裁法|社会保险法|工伤保险条例|公司法|" +
  "企业破产法|证券法|保险法|民事诉讼法|刑事诉讼法|行政诉讼法|行政处罚法|行政复议法|消费者权益保护法|产品质量法|食品安全法|药品管理法|医师法|" +
  "医疗事故处理条例|医疗纠纷预防和处理条例|个人信息保护法|数据安全法|网络安全法|著作权法|专利法|商标法|道路交通安全法|治安管理处罚法|仲裁法|律师法";
const NAME = "[A-ZÄÖÜ][\\p{L}'’-]{0,40}";
const UNITS = "(?!\\s?(?:%|seconds?\\b|minutes?\\b|days?\\b|weeks?\\b|months?\\b|years?\\b|hours?\\b|percent\\b))";
const FIGURE = `\\d{1,5}[a-z]?\\b(?:\\.\\d{1,5}){0,3}(?:\\s?\\([0-9A-Za-z]{1,4}\\)){0,6}`;
const GERMAN = "(?:\\s?(?:Abs\\.|Absatz|Satz|S\\.|Nr\\.|Nummer|lit\\.|Buchst\\.|Alt\\.|Hs\\.|ff?\\.)\\s?(?:\\d{1,3}[a-z]?\\b|[a-z]\\b)?){0,6}";
const CODE = "(?:[A-ZÄÖÜ][A-Za-zÄÖÜäöü]{0,12}[A-Z][A-Za-z]{0,6}|[A-Z]{2,8})(?:\\s(?:[IVX]{1,4}))?\\b";

const RULES = [
  // 《…》, with the articles behind it; the name may hold another's: 《关于适用〈民法典〉婚姻家庭编的解释（一）》.
  `《[^《》\\n]{1,60}(?:《[^《》\\n]{1,40}》[^《》\\n]{0,40})?》(?:\\s?[（(][^（）()\\n]{1,30}[）)])?(?:\\s?的?\\s?${ARTICLES})?`,
  `(?:(?:${SHORT})\\s?)?${ARTICLES}`,
  `(?:${SHORT})\\s?${NUMBER}\\s?条`,
  // Documents and judgments: 法释〔2020〕17号, （2023）京01民终1234号.
  `[\\u4e00-\\u9fff]{1,6}〔\\d{4}〕\\s?\\d{1,5}\\s?号|[（(]\\d{4}[）)][\\u4e00-\\u9fff]{1,3}\\d{0,5}[\\u4e00-\\u9fff]{1,4}\\d{1,7}号`,
  // 42 U.S.C. § 1983, 21 C.F.R. § 314.80(c); 410 U.S. 113 (1973).
  `\\b\\d{1,3}\\s(?:U\\.\\s?S\\.\\s?C\\.(?:\\s?A\\.)?|USC|C\\.\\s?F\\.\\s?R\\.|CFR)\\s?(?:§{1,2}\\s?)?${FIGURE}`,
  "\\b\\d{1,4}\\s(?:U\\.\\s?S\\.|S\\.\\s?Ct\\.|F\\.(?:\\s?[234](?:d|th))?|F\\.\\s?Supp\\.(?:\\s?[23]d)?)\\s\\d{1,5}(?:\\s\\(\\d{4}\\))?",
  // § 46 BGB, §§ 305, 307 Abs. 1 BGB, Art. 6 Abs. 1 lit. f DSGVO.
  `§{1,2}\\s?${FIGURE}${GERMAN}(?:\\s?(?:,|und|bis|and|to|–|-|i\\.\\s?V\\.\\s?m\\.)\\s?§{0,2}\\s?${FIGURE}${GERMAN}){0,10}(?:\\s${CODE})?`,
  `\\bArt\\.\\s?${FIGURE}${GERMAN}(?:\\s${CODE})?`,
  // Article 12, Sections 3 and 4(2) of the Limitation Act 1980.
  `\\b(?:[Aa]rticles?|[Aa]rts?\\.|[Ss]ections?|[Ss]ecs?\\.|[Rr]egulations?)\\s${FIGURE}${UNITS}` +
    `(?:\\s?(?:,|and|or|to|–|-)\\s?${FIGURE}${UNITS}){0,10}` +
    `(?:\\s(?:of|under)\\s(?:the\\s)?${NAME}(?:\\s(?:(?:of|and|on|for|to)\\s(?:the\\s)?)?${NAME}){0,7}(?:\\s(?:1[5-9]|20)\\d{2}\\b)?)?`,
  // What doctors cite.
  "\\bPMID:?\\s?\\d{5,9}\\b|\\b(?:doi:\\s?|https?://doi\\.org/)10\\.\\d{4,9}/[^\\s，。；、）)]{1,80}",
];
const CITED = new RegExp(RULES.join("|"), "gu");

/** The text in pieces, in order: {text, cited}. Joined they are the text. */
export function pieces(text) {
  const found = [];
  let end = 0;
  for (const match of text.matchAll(CITED)) {
    if (match.index > end) found.push({ text: text.slice(end, match.index), cited: false });
    found.push({ text: match[0], cited: true });
    end = match.index + match[0].length;
  }
  if (end < text.length) found.push({ text: text.slice(end), cited: false });
  return found;
}
