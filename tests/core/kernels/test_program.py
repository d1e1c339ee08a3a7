# SPDX-License-Identifier: Apache-2.0
"""Is a function, statement for statement, one that was verified?"""

from __future__ import annotations

import ast
import importlib.util

import pytest

from loraforge.kernels import program

PLAIN = """
def forward(self, x):
    return self.down(self.act(self.gate(x)) * self.up(x))
"""
SAME = {
    "annotations": """
def forward(self, x: "Tensor") -> "Tensor":
    return self.down(self.act(self.gate(x)) * self.up(x))
""",
    "a docstring and comments": '''
def forward(self, x):
    """Gated."""
    # the gate first
    return self.down(self.act(self.gate(x)) * self.up(x))  # and down
''',
    "lines": """
def forward(self, x):
    return self.down(
        self.act(self.gate(x))
        * self.up(x)
    )
""",
}
OTHERS = {
    "a clamp": """
def forward(self, x):
    return self.down(self.act(self.gate(x)).clamp(max=10) * self.up(x))
""",
    "another operator": """
def forward(self, x):
    return self.down(self.act(self.gate(x)) + self.up(x))
""",
    "another order": """
def forward(self, x):
    return self.down(self.act(self.up(x)) * self.gate(x))
""",
    "a default": """
def forward(self, x=None):
    return self.down(self.act(self.gate(x)) * self.up(x))
""",
    "a decorator": """
def twice(f):
    return f

@twice
def forward(self, x):
    return self.down(self.act(self.gate(x)) * self.up(x))
""",
    "one statement more": """
def forward(self, x):
    x = x * 2
    return self.down(self.act(self.gate(x)) * self.up(x))
""",
}


@pytest.fixture
def function(tmp_path):
    """The function ``forward`` of a source."""
    made = []

    def load(source):
        made.append(tmp_path / f"source{len(made)}.py")
        made[-1].write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(made[-1].stem, made[-1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.forward

    return load


@pytest.mark.parametrize("source", SAME.values(), ids=list(SAME))
def test_what_does_not_change_a_function_does_not_change_its_digest(function, source):
    assert program.digest(function(source)) == program.digest(function(PLAIN)) != ""


@pytest.mark.parametrize("source", OTHERS.values(), ids=list(OTHERS))
def test_whatever_changes_a_function_changes_its_digest(function, source):
    assert program.digest(function(source)) not in ("", program.digest(function(PLAIN)))


def test_the_value_of_a_variable_with_a_type_counts(function):
    typed, plain, other = (
        function(f"def forward(x):\n    y{annotation} = x * {factor}\n    return y\n")
        for annotation, factor in ((": int", 2), ("", 2), (": int", 3))
    )
    assert program.digest(typed) == program.digest(plain) != program.digest(other)


def test_without_a_source_there_is_no_digest():
    made = {}
    exec("def forward(x):\n    return x\n", made)
    assert program.digest(made["forward"]) == program.digest(len) == ""


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("    (a, b) = g(x[1, 2], *c)", "    a, b = g(x[1, 2], *c)"),
        ("    for (i, j) in z:", "    for i, j in z:"),
        ("    y = [i for (i, j) in z if (i, j) in w]", "    y = [i for i, j in z if (i, j) in w]"),
        ("    return (a, b)", "    return (a, b)"),
        ("    f(x)[(1, 2)] = (a, b)", "    f(x)[(1, 2)] = (a, b)"),
        ("    if (a, b) == c:", "    if (a, b) == c:"),
    ],
)
def test_python_3_10_writes_a_program_as_later_ones_do(older, newer):
    """The left side is what ``ast.unparse`` of Python 3.10 makes of the right one."""
    assert program.same_in_every_python(older) == newer == program.same_in_every_python(newer)
    one, two = (ast.dump(ast.parse(f"def f():\n{text} pass" if text.endswith(":") else f"def f():\n{text}")) for text in (older, newer))
    assert one == two  # it is the same program
