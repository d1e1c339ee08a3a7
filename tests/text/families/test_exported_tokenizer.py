# SPDX-License-Identifier: Apache-2.0
"""Tokenizer files that contradict each other are told before training; exactly those that the export would refuse after it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from builders.chat_bases import base_in, exported, prepared, served_by
from loraforge_text.base_files import read_base
from loraforge_text.export.check import check_folder
from loraforge_text.families.encoding import tokenizer_of
from loraforge_text.families.exported_tokenizer import refuse_contradicting
from loraforge_text.records import Conversation
from loraforge_text.templates import golden_prompts

from loraforge import ExportError, ModelError

ROW = Conversation("第十条 劳动合同 问", "答", where="")


def token(text: str, **values):
    return {"content": text, "special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, **values}


# Which file says what, and whether transformers' plain class makes other tokens of it.
SETTINGS = {
    "nothing": ({}, None),
    "a token more": ({"additional_special_tokens": ["劳动合同"]}, "have the tokens 劳动合同, which tokenizer.json lacks"),
    "a named token more": ({"extra_special_tokens": {"law": "劳动合同"}}, "劳动合同, which tokenizer.json lacks"),
    "a token by number": ({"added_tokens_decoder": {"400": token("劳动合同", special=False)}}, "劳动合同, which tokenizer.json lacks"),
    "a token that swallows spaces": ({"added_tokens_decoder": {"1": token("<|im_start|>", rstrip=True)}}, None),
    "a stop that swallows line breaks": ({"added_tokens_decoder": {"2": token("<|im_end|>", rstrip=True)}}, "describes some tokens otherwise"),
    "a word as padding": ({"pad_token": "问"}, "have the tokens 问"),
    "special tokens split": ({"split_special_tokens": True}, "split_special_tokens: true"),
    "known tokens named": ({"additional_special_tokens": ["<|im_start|>"], "bos_token": "<|endoftext|>"}, None),
    "a class that builds anew": ({"tokenizer_class": "Qwen2Tokenizer"}, None),
    "settings of other times": ({"do_lower_case": True, "add_bos_token": True, "legacy": False}, None),
}  # fmt: skip


@pytest.fixture
def said(tmp_path):
    """What is said before training, and by the export after it."""

    def ask(name: str = "tokenizer_config.json", **values):
        folder = base_in(tmp_path / "base")
        file = folder / name
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        file.write_text(json.dumps({**known, **values}), encoding="utf-8")
        read_base.cache_clear()
        template = prepared(folder)
        spans = template.render(ROW)
        before = after = None
        try:
            refuse_contradicting(tokenizer_of(folder), read_base(folder), [(), spans])
        except ModelError as error:
            before = str(error)
        document = golden_prompts.golden_prompts(tokenizer_of(folder), [(ROW, spans)], None)
        adapter = SimpleNamespace(facts={"template": template.describe()}, files={golden_prompts.NAME: document})
        try:
            check_folder(served_by(folder, template), adapter, exported(folder, template))
        except ExportError as error:
            after = str(error)
        return before, after

    return ask


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_export_refuses_is_told_before(said, name):
    values, words = SETTINGS[name]
    before, after = said(**values)
    assert (before is None) is (after is None) is (words is None)
    assert words is None or (words in before and "An export would be refused" in before)


def test_the_oldest_of_the_files_counts_too(said):
    before, after = said("special_tokens_map.json", additional_special_tokens=["劳动合同"])
    assert before and after and "劳动合同" in before


@pytest.mark.parametrize("settings", [{"suppress_tokens": [2]}, {"begin_suppress_tokens": [2]}, {"bad_words_ids": [[1, 0], [2]]}])
def test_a_stop_that_may_not_be_said_is_told_before(said, settings):
    before, after = said("generation_config.json", **settings)
    assert "generation_config.json forbids <|im_end|>" in before and "forbids <|im_end|>" in after


@pytest.mark.parametrize("settings", [{"suppress_tokens": [1]}, {"bad_words_ids": [[1, 2]]}, {"suppress_tokens": None}])
def test_other_tokens_may_be_forbidden(said, settings):
    assert said("generation_config.json", **settings) == (None, None)


def test_files_that_cannot_be_read_are_told(tmp_path):
    folder = base_in(tmp_path / "base")
    (folder / "special_tokens_map.json").write_text('{"additional_special_tokens": 3}', encoding="utf-8")
    spans = prepared(folder).render(ROW)
    with pytest.raises(ModelError, match="transformers cannot read its tokenizer"):
        refuse_contradicting(tokenizer_of(folder), read_base(folder), [spans])


def test_check_and_train_say_it(base, tmp_path, command, project):
    import shutil

    folder = shutil.copytree(base, tmp_path / "base")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "pad_token": "试用期"}), encoding="utf-8")
    for word in ("check", "train"):
        code, _, err = command(word, "text", project(base_model=str(folder)))
        assert code == 2 and "transformers reads its tokenizer otherwise than tokenizer.json says" in err
    assert command("check", "text", project(base_model=str(folder), export=[]))[0] == 0
