# SPDX-License-Identifier: Apache-2.0
"""Is a function, statement for statement, one that was verified? Decided by its source, never by what it computes for some numbers: a block
that clamps beyond 10 gives for small inputs what one without a clamp gives.

Imports no torch.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any


class _Bare(ast.NodeTransformer):
    """Takes away what does not change what a function does: annotations and docstrings."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))


@functools.cache
def statements(function: Callable[..., Any]) -> str:
    """The statements of a function as Python writes them, with its decorators, without comments, docstring and annotations; empty if its
    source cannot be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return ""
    return same_in_every_python(ast.unparse(ast.fix_missing_locations(_Bare().visit(tree))))


def same_in_every_python(text: str) -> str:
    """``text`` as Python 3.11 and later write it: 3.10 puts parentheses around the names that a tuple is taken apart into."""
    text = re.sub(r"^(\s*)\(([^()]*,[^()]*)\) = ", r"\1\2 = ", text, flags=re.MULTILINE)
    return re.sub(r"\bfor \(([^()]*,[^()]*)\) in ", r"for \1 in ", text)


@functools.cache
def digest(function: Callable[..., Any]) -> str:
    """The first 16 digits of the SHA-256 of ``statements``; empty if the source cannot be read."""
    found = statements(function)
    return hashlib.sha256(found.encode()).hexdigest()[:16] if found else ""
