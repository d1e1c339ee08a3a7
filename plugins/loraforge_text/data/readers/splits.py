# SPDX-License-Identifier: Apache-2.0
"""Names by which people part their data: what is learned, and what is only asked."""

from __future__ import annotations

import re
import unicodedata

from loraforge import fold_name

TRAIN, TEST = "train", "test"
_TRAIN = ("train", "training", "训练")
_TEST = (
    "test", "testing", "tests", "valid", "validation", "validate", "val", "dev", "eval", "evaluation", "holdout", "heldout",
    "测试", "验证", "评估", "评测", "开发",
)  # fmt: skip
_GLUED = ("", "set", "data", "dataset", "split", "集", "数据")  # testset, 测试集
_SIDES = {word + end: side for side, words in ((TRAIN, _TRAIN), (TEST, _TEST)) for word in words for end in _GLUED if word + end != "开发"}
# 劳动法测试集终版; but 集锦, 集合 and the like are other words, and 康复训练 or 软件测试 are subjects.
_CHINESE = re.compile(r"(训练|测试|验证|评估|评测|开发)(?:集(?![锦合体中成团])|数据$)")
_SHARD = re.compile(r"-\d+-of-\d+$")  # train-00000-of-00001, as Hugging Face writes it
_WORD = re.compile(r"[^\W\d_\u4e00-\u9fff]+|[\u4e00-\u9fff]+")


def split_called(name: str) -> str:
    """``train`` or ``test`` if that is what a file's stem, a folder, a part's name or a cell says; otherwise empty.

    >>> split_called("legal_test_v2"), split_called("train-00000-of-00001"), split_called("劳动法测试集"), split_called("latest")
    ('test', 'train', 'test', '')
    """
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", _SHARD.sub("", name)))  # legalTest
    words = [word for word in _WORD.findall(plain.lower())]
    for word in dict.fromkeys(("".join(words), *words[-1:], *words[:1])):
        if side := _side(word):
            return side
    sides = {side for word in words if (side := _side(word))}
    return sides.pop() if len(sides) == 1 else ""


def _side(word: str) -> str:
    word = fold_name(word)  # 測試集 too
    chinese = _CHINESE.search(word)
    return _SIDES.get(chinese[1] if chinese and chinese[1] != "开发" else "dev" if chinese else word, "")
