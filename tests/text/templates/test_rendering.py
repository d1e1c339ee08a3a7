# SPDX-License-Identifier: Apache-2.0
"""Chat templates of strangers: what transformers would write, within bounds."""

from __future__ import annotations

import os
import time
from datetime import datetime
from unittest import mock

import pytest
from loraforge_text.templates import render_child, rendering
from loraforge_text.templates.formats import FORMATS
from loraforge_text.templates.rendering import render

from loraforge import DataError, MachineError, ModelError

ASKED = [{"role": "user", "content": "问？"}]
DAY = "26 Jul 2024"
DATED = "{{ strftime_now('%Y-%m-%d, %A') }} {% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"


def theirs(template: str, tools=None, **values) -> str:
    """transformers' own rendering when its clock says DAY."""
    from transformers.utils import chat_template_utils

    clock = mock.Mock(wraps=datetime)
    clock.now.return_value = datetime.strptime(DAY, "%d %b %Y")
    chat_template_utils._compile_jinja_template.cache_clear()
    with mock.patch.object(chat_template_utils, "datetime", clock):
        found = chat_template_utils.render_jinja_template(
            conversations=[ASKED], tools=tools, chat_template=template, add_generation_prompt=True, **values
        )[0][0]
    chat_template_utils._compile_jinja_template.cache_clear()
    return found


@pytest.mark.parametrize("where", ["in the process", "here"])
def test_the_date_is_pinned_and_the_rest_is_transformers_own(where):
    """Fails with a version of transformers that passes or names the date function in another way."""
    write = render if where == "in the process" else render_child.write
    assert write(DATED, ASKED, None, True, {}, DAY) == theirs(DATED) == "2024-07-26, Friday 问？:"


def test_values_tools_and_filters_are_as_in_transformers():
    tools = [{"type": "function", "function": {"name": "查", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}}]
    template = (
        "{% for m in messages %}{% generation %}{{ m | tojson }}{% endgeneration %}{% break %}{% endfor %}{{ tools | tojson(indent=2) }}"
        "{{ bos_token }}{{ undefined_one }}{% if thinking is true %}T{% endif %}\n"
    )
    values = {"bos_token": "<s>", "thinking": True}
    assert render(template, ASKED, tools, True, values, DAY) == theirs(template, tools, **values)


# Each takes gigabytes, in another way; some of them in one call that nothing can interrupt.
HUNGRY = [
    "{% set x = 'a' * 6000000000 %}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{{ '%6000000000d' % 1 }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ [1] | batch(3000000000, 'x') | list }}",
    "{% for i in range(99999) %}{{ 'a' * 999999 }}{% endfor %}",
]
ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ (10 ** 999999) ** 999 }}",
]


@pytest.mark.parametrize("template", HUNGRY)
def test_a_template_that_eats_memory_is_ended_early(template):
    import psutil

    before, start = psutil.Process().memory_info().rss, time.monotonic()
    with pytest.raises(ModelError, match="takes more than 500 MB of memory for one conversation"):
        render(template, ASKED, None, True, {}, DAY, 30)
    assert time.monotonic() - start < 30
    assert psutil.Process().memory_info().rss - before < 300 * 10**6
    assert render(DATED, ASKED, None, True, {}, DAY).startswith("2024"), "the next one is rendered as ever"


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_without_end_is_ended(template):
    start = time.monotonic()
    with pytest.raises(ModelError, match="is not done with one conversation after 1 second"):
        render(template, ASKED, None, True, {}, DAY, 1)
    assert time.monotonic() - start < 20


def test_a_template_that_is_long_is_refused():
    with pytest.raises(ModelError, match="makes 20000000 characters of one conversation"):
        render("{{ 'a' * 20000000 }}", ASKED, None, True, {}, DAY)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% for", "unexpected"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% include 'x' %}", "no loader"),
    ],
)
def test_what_a_template_complains_about_is_said(template, complaint):
    with pytest.raises(DataError, match=f"refuses this conversation: .*{complaint}"):
        render(template, ASKED, None, True, {}, DAY)


def test_texts_of_all_kinds_pass_the_pipe():
    for text in ("\u2028 \x85 \r\n \x00 𠮷 \ufeff", "半\ud800字", '"\\n'):
        assert render("{{ messages[0].content }}", [{"role": "user", "content": text}], None, False, {}, DAY) == text


def test_our_own_templates_need_no_process():
    rendering._end()
    assert render(FORMATS["chatml"].jinja, ASKED, None, True, {}, DAY).endswith("assistant\n")
    assert rendering._child is None
    with pytest.raises(DataError, match="refuses this conversation"):
        render(FORMATS["llama2"].jinja, [], None, True, {}, DAY)


def test_a_process_that_died_is_replaced():
    render(DATED, ASKED, None, True, {}, DAY)
    assert rendering._child is not None
    rendering._child._process.kill()
    with pytest.raises(ModelError, match="ended the process"):
        render(DATED, ASKED, None, True, {}, DAY)
    assert render(DATED, ASKED, None, True, {}, DAY).startswith("2024")


def test_an_interrupted_wait_leaves_no_answer_behind(monkeypatch):
    render(DATED, ASKED, None, True, {}, DAY)
    with monkeypatch.context() as patched:
        patched.setattr(rendering._Child, "_wait", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render("one", ASKED, None, True, {}, DAY)
    assert render("two", ASKED, None, True, {}, DAY) == "two"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_its_own():
    render(DATED, ASKED, None, True, {}, DAY)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        os.write(writer, render("forked", ASKED, None, True, {}, DAY).encode())
        rendering._end()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 99) == b"forked" and render("here", ASKED, None, True, {}, DAY) == "here"


def test_threads_share_one_process():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        texts = list(
            pool.map(lambda i: render(f"t{i % 3} {{{{ messages[0].content }}}}", [{"content": str(i)}], None, True, {}, DAY), range(60))
        )
    assert texts == [f"t{i % 3} {i}" for i in range(60)]


# --- slow ones ----------------------------------------------------------------------------------------------------------------


def test_the_limit_is_for_one_conversation_and_not_for_many(monkeypatch):
    asked = {"messages": ASKED, "tools": None, "ask": True, "day": DAY}
    wait, waited = rendering._Child._wait, []
    monkeypatch.setattr(rendering._Child, "_wait", lambda self, seconds, most: waited.append(seconds) or wait(self, seconds, most))
    rendering.render_ahead(DATED, [{**asked, "values": {"i": str(i)}} for i in range(10)], seconds=4.5)
    assert waited[-10:] == [4.5] * 10 and len(rendering._ahead) == 10
    rendering._ahead.clear()


@pytest.mark.parametrize(("each", "sizes"), [(0.0, [1, 2, 4, 8, 16, 32, 32]), (1.0, [1] * 7)])
def test_as_many_rows_at_once_as_take_a_moment(tmp_path, monkeypatch, each, sizes):
    from builders.chat_bases import base_in, prepared
    from loraforge_text.records import Conversation
    from loraforge_text.templates import builtin
    from loraforge_text.templates.prompting import Prompting

    rows = [Conversation(f"问{i}", "答", where="") for i in range(95)]
    template = prepared(base_in(tmp_path / "base", chat_template="{# mine #}" + FORMATS["chatml"].jinja), records=rows)
    now, seen = [0.0], []
    monkeypatch.setattr(builtin.time, "monotonic", lambda: now[0])

    def ahead(self, some):
        seen.append(len(some))
        now[0] += each

    monkeypatch.setattr(Prompting, "render_ahead", ahead)
    monkeypatch.setattr(Prompting, "render", lambda self, row: [])
    for row in rows:
        template.render(row)
    assert seen[:7] == sizes and sum(seen) == 95


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), OSError(11, "Resource temporarily unavailable"), MemoryError()], ids=repr
)
@pytest.mark.parametrize("template", [FORMATS["chatml"].jinja, "{{ messages }}"], ids=["ours", "a stranger's"])
def test_a_shortage_of_the_computer_is_no_rows_fault(monkeypatch, error, template):
    def refuse(*args, **values):
        raise error

    monkeypatch.setattr(render_child, "write", refuse)
    # What the other process would answer, here.
    monkeypatch.setattr(
        rendering, "_answers", lambda template, requests, seconds: [render_child.answer(template, 9, one) for one in requests]
    )
    with pytest.raises(MachineError, match="No row and no file is wrong"):
        render(template, ASKED, None, True, {}, DAY)


def test_what_a_template_says_itself_is_the_rows_still():
    with pytest.raises(DataError, match="can't start new thread"):
        render('{{ raise_exception("can\'t start new thread") }}', ASKED, None, True, {}, DAY)
