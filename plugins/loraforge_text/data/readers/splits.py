"""Names by which people part their data: what is learned, and what is only asked."""

from __future__ import annotations

import re
import unicodedata

TRAIN, TEST = "train", "test"
_TRAIN = frozenset(("train", "training", "trainset", "训练", "训练集", "训练数据"))
_TEST = frozenset(
    ("test", "testing", "testset", "tests", "valid", "validation", "validate", "val", "valset", "dev", "devset", "eval", "evaluation",
     "holdout", "heldout", "测试", "测试集", "验证", "验证集", "评估", "评估集", "评测", "评测集", "开发集", "测试数据", "验证数据")
)  # fmt: skip
_SHARD = re.compile(r"-\d+-of-\d+$")  # train-00000-of-00001, as Hugging Face writes it


def split_called(name: str) -> str:
    """``train`` or ``test`` if that is what a file's stem, a part's name or a cell says; otherwise empty.

    >>> split_called("legal_test"), split_called("train-00000-of-00001"), split_called("latest")
    ('test', 'train', '')
    """
    plain = unicodedata.normalize("NFKC", _SHARD.sub("", name)).lower().strip()
    words = [word for word in re.split(r"[\W_]+", plain) if word]
    for word in dict.fromkeys(("".join(words), *words[-1:], *words[:1])):
        if word in _TRAIN:
            return TRAIN
        if word in _TEST:
            return TEST
    return ""
