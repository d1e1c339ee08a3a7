# SPDX-License-Identifier: Apache-2.0
"""Do the tests bite? Changes one small thing of a package at a time and looks whether the tests beside it notice.

    pip install cosmic-ray
    python tests/mutation.py training text/kernels --sample 40 --seed 2

The changes are cosmic-ray's, and three that it lacks: a statement left out, two arguments or two members exchanged, a keyword argument left
out. Each is drawn at a random place, runs the tests that reach that place, in a process that is forked from one that has imported torch
already, and is never written to disk. A developer's tool, outside of the tests and of .ci/run.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import importlib.machinery
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
CORE = ("training", "kernels", "adapters", "data", "evaluation", "audit")
PACKAGES = {name: (f"loraforge/{name}", f"tests/core/{name}") for name in CORE} | {
    f"{kind}/{name}": (f"plugins/loraforge_{kind}/{name}", f"tests/{kind}/{name}")
    for kind in ("text", "image")
    for name in ("families", "evaluation", "kernels")
}
# Tests that stand elsewhere: what a run needs is looked at together with the command that says it.
ALSO = {"image/families": ("tests/core/pipeline/test_estimate.py",)}
# Left out, because the program stays the same: None, True and small numbers are single objects. Decorators are noticed by every test.
SAME = {f"core/ReplaceComparisonOperator_{a}_{b}" for a, b in (("Is", "Eq"), ("Eq", "Is"), ("IsNot", "NotEq"), ("NotEq", "IsNot"))}
QUIET = ("strict", "encoding", "non_blocking")  # keyword arguments that change nothing where all is well
OTHERS = ("core/RemoveDecorator", "core/Variable", "core/ExceptionReplacer")


class _Own:
    """What cosmic-ray's operators have in common, without its examples."""

    def __init__(self, find: Callable, change: Callable) -> None:
        self.find, self.change = find, change

    def mutation_positions(self, node) -> Iterator:
        if self.find(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        return self.change(node)


def _statement(node) -> bool:
    if node.parent is None or node.parent.type != "simple_stmt":
        return False
    if node.type == "expr_stmt":
        return node.children[0].type in ("atom_expr", "power") or str(getattr(node.children[1], "value", "")) not in ("=", "")
    return node.type in ("atom_expr", "power") and node.children[-1].type == "trailer"


def _pass(node):
    return parso.python.tree.Keyword("pass", node.start_pos, node.get_first_leaf().prefix)


def _pair(node) -> bool:
    """Two things that could be exchanged: positional arguments, or members of a tuple or list."""
    if node.type not in ("arglist", "testlist_comp", "testlist_star_expr") or len(node.children) < 3:
        return False
    first, comma, second = node.children[:3]
    called = node.parent.get_previous_sibling() if node.parent is not None and node.parent.type == "trailer" else None
    if called is not None and called.get_last_leaf().value in ("max", "min", "transpose"):  # either way the same
        return False
    named = ("argument", "sync_comp_for", "comp_for", "star_expr")
    # A row of strings is a list of names, whose order is taste.
    texts = {"string", "fstring"}
    around = (
        getattr(node.parent, "get_previous_sibling", lambda: None)() if node.parent is not None and node.parent.type == "atom" else None
    )
    if around is not None and around.get_last_leaf().value in ("in", "not in", "except"):  # members of a set
        return False
    return str(getattr(comma, "value", "")) == "," and not {first.type, second.type} & set(named) and not {first.type, second.type} <= texts


def _exchanged(node):
    first, second = node.children[0], node.children[2]
    code = second.get_code().strip() + ", " + first.get_code().strip() + "".join(c.get_code() for c in node.children[3:])
    return parso.parse(node.get_first_leaf().prefix + code)


def _keywords(node) -> list:
    named = [c for c in getattr(node, "children", []) if c.type == "argument" and c.children[1] == "="] if node.type == "arglist" else []
    return [c for c in named if c.children[0].value not in QUIET]


def _without_last_keyword(node):
    left_out = _keywords(node)[-1]
    kept = [c.get_code().strip() for c in node.children if c != "," and c is not left_out]
    return parso.parse(node.get_first_leaf().prefix + ", ".join(kept))


OWN = {
    "own/StatementLeftOut": _Own(_statement, _pass),
    "own/TwoExchanged": _Own(_pair, _exchanged),
    "own/KeywordLeftOut": _Own(lambda node: bool(_keywords(node)), _without_last_keyword),
}


@functools.cache
def operators() -> dict:
    named = {n: get_operator(n)() for n in operator_names() if n not in SAME and not n.startswith(OTHERS)}
    return named | OWN


@dataclass(frozen=True)
class Mutant:
    """One change: the ``occurrence``-th place of an operator in a file."""

    path: Path
    line: int
    operator: str
    occurrence: int

    def code(self) -> str:
        return mutate_code(self.path.read_text(encoding="utf-8"), operators()[self.operator], self.occurrence)

    def is_one(self) -> bool:
        """Whether this is a program, and another one: two equal things can be exchanged."""
        code = self.code()
        try:
            ast.parse(code)
        except SyntaxError:
            return False
        return code != self.path.read_text(encoding="utf-8")


def silent(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a change alters no behaviour: annotations, imports for the type checker, decorators, what is said to the user."""
    found: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        found += [getattr(node, "annotation", None), getattr(node, "returns", None), *getattr(node, "decorator_list", [])]
        found += [node] if isinstance(node, ast.Call) and ast.unparse(node.func) in ("say", "TypeVar", "warnings.warn") else []
        found += [node.exc] if isinstance(node, ast.Raise) else []
        found += [node] if isinstance(node, ast.keyword) and node.arg in QUIET else []
        found += node.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" else []
        found += [node.value] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else []
    return [
        ((n.lineno, n.col_offset), (n.end_lineno or 0, n.end_col_offset or 0))
        for n in found
        if isinstance(n, ast.expr | ast.stmt | ast.keyword)
    ]


def mutants(folder: Path, files: Sequence[str] = ()) -> dict[tuple, list[Mutant]]:
    """All changes of a package, or of its files of these names, by (file, place, kind): of the dozen operators that could replace one +,
    the sample draws one."""
    places: dict[tuple, list[Mutant]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*.py") if not files or path.name in files):
        source = path.read_text(encoding="utf-8")
        lines, skipped, tree = source.splitlines(), silent(source), get_ast(source)
        for name, operator in operators().items():
            positions = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
            for occurrence, ((line, column), _) in enumerate(positions):
                here = (line, len(lines[line - 1][:column].encode()))
                bare = lines[line - 1][column : column + 2] == "*,"  # what stands behind it is given by name anyway
                if not bare and not any(start <= here < end for start, end in skipped):
                    places[path, line, column, name.split("_")[0]].append(Mutant(path, line, name, occurrence))
    return places


# --- running -----------------------------------------------------------------------------------------------------------------


def warm() -> None:
    """Imports what every test imports; nothing of ours."""
    import gc

    import accelerate
    import bitsandbytes
    import diffusers
    import matplotlib.pyplot
    import peft
    import pytest
    import scipy.stats
    import torch
    import transformers
    from transformers.models.llama import modeling_llama

    torch.set_num_threads(1)
    assert accelerate and bitsandbytes and diffusers and matplotlib and peft and pytest and scipy and transformers and modeling_llama
    gc.freeze()


def forked(work: Callable[[Path], int], timeout: float) -> tuple[int | None, Path]:
    """The exit code of ``work`` in a process of its own, None if it took too long; and the folder that it was given."""
    place = Path(tempfile.mkdtemp(prefix="mutation"))
    child = os.fork()
    if not child:
        os.setsid()
        for number in (1, 2):
            os.dup2(os.open(place / f"{number}.txt", os.O_WRONLY | os.O_CREAT), number)
        code = 70
        try:
            code = work(place)
        finally:
            os._exit(code)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), place
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, place


def tests(place: Path, chosen: Sequence[str], *plugins: object) -> int:
    import pytest

    options = ["-n0", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--tb=line", f"--basetemp={place / 'pytest'}"]
    return int(pytest.main([*options, *chosen], plugins=list(plugins)))


def marked(source: str, path: str) -> ast.Module:
    """The program that says of each statement that it is reached. A tracer would slow down all of torch's and diffusers' Python."""
    tree = ast.parse(source)

    def mark(node: ast.stmt) -> list[ast.stmt]:
        first = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)  # a docstring
        if first or (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            return [node]
        call = ast.parse(f"_reached({path!r}, {node.lineno})").body[0]
        return [ast.copy_location(call, node), node]

    for node in ast.walk(tree):
        for part in ("body", "orelse", "finalbody"):
            block = getattr(node, part, None)
            if isinstance(block, list):
                setattr(node, part, [each for statement in block for each in mark(statement)])
    return ast.fix_missing_locations(tree)


def reached(folder: Path, where: Sequence[str]) -> tuple[dict, dict[str, float]]:
    """{file: {line: tests that reach it}} and the seconds of each test. What a shared fixture reaches counts for the whole file."""

    def work(place: Path) -> int:
        import builtins

        import pytest

        seconds: dict[str, float] = defaultdict(float)
        lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        now = [""]
        builtins._reached = lambda path, line: lines[path][line].add(now[0])
        replace_code(lambda path, source: marked(source, str(path)) if path.is_relative_to(folder) else None)

        class Watch:
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_setup(self, item):
                now[0] = f"setup {item.nodeid}"
                return (yield)

            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_call(self, item):
                now[0] = f"call {item.nodeid}"
                return (yield)

            def pytest_runtest_logreport(self, report):
                seconds[report.nodeid] += report.duration

        code = tests(place, where, Watch())
        plain = {path: {line: sorted(names) for line, names in found.items()} for path, found in lines.items()}
        (place / "reached.json").write_text(json.dumps([plain, seconds]))
        return code

    code, place = forked(work, 3600)
    if code:
        sys.exit(f"the tests fail without any change: {(place / '1.txt').read_text()[-3000:]}")
    lines, seconds = json.loads((place / "reached.json").read_text())
    return lines, seconds


def replace_code(other: Callable[[Path, str], str | ast.Module | None]) -> None:
    """What is imported from now on is ``other(path, source)``, unless that is None."""
    real = importlib.machinery.SourceFileLoader.get_code

    def get_code(self, name: str):
        path = Path(self.path)
        made = other(path, path.read_text(encoding="utf-8")) if path.is_relative_to(ROOT) else None
        return real(self, name) if made is None else compile(made, self.path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.get_code = get_code


def choose(mutant: Mutant, lines: dict, seconds: dict[str, float]) -> list[str]:
    """The tests that reach a change, the quickest first."""
    tree = ast.parse(mutant.path.read_text(encoding="utf-8"))
    spans = [
        (node.lineno, node.body[0].lineno - 1 if getattr(node, "body", None) else node.end_lineno or node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
    ]
    start, end = max(span for span in spans if span[0] <= mutant.line <= max(span))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = any(node.body[0].lineno <= mutant.line <= (node.end_lineno or 0) for node in functions)
    known = lines.get(str(mutant.path), {})
    # What the first test's import runs matters to every test that reaches the file.
    chosen = [known.get(str(number), []) for number in range(start, max(start, end) + 1)] if inside else known.values()
    found: set[str] = set()
    for context in {context for contexts in chosen for context in contexts}:
        phase, _, name = context.partition(" ")
        # What an import or a shared fixture reaches may matter to each test, or to each of the file.
        found |= {name} if phase == "call" else {n for n in seconds if not name or n.split("::")[0] == name.split("::")[0]}
    return sorted(found, key=lambda name: seconds[name])


def noticed(mutant: Mutant, chosen: Sequence[str], timeout: float) -> bool | None:
    """Whether a test fails; None if they take for ever."""
    changed = mutant.code()

    def work(place: Path) -> int:
        replace_code(lambda path, source: changed if path == mutant.path else None)
        return tests(place, chosen)

    if not chosen:
        return False
    code, place = forked(work, timeout)
    shutil.rmtree(place, ignore_errors=True)
    return None if code is None else code != 0


def quickest(chosen: Sequence[str], seconds: dict[str, float], limit: float) -> list[str]:
    """Of the chosen tests, which are sorted by their time, those that take ``limit`` seconds in sum; one at least."""
    ends = itertools.accumulate(seconds[name] for name in chosen)
    return [name for number, (name, end) in enumerate(zip(chosen, ends, strict=True)) if end <= limit or not number]


def draw(package: str, sample: int, seed: int, files: Sequence[str]) -> tuple[list[Mutant], int]:
    """(changes, places that there are) of one package."""
    places = mutants(ROOT / PACKAGES[package][0], files)
    rng = random.Random(seed)
    # cosmic-ray takes the stars of **unpacked for an operator; what is no program any more is none of the changes.
    shuffled = (rng.choice(places[key]) for key in rng.sample(sorted(places), len(places)))
    return list(itertools.islice((mutant for mutant in shuffled if mutant.is_one()), sample)), len(places)


def mirrored(package: str, mutant: Mutant) -> list[str]:
    """The tests of the changed file: the file of the same name in the tree of tests; all beside the package if there is none."""
    folder, where = PACKAGES[package]
    inside = mutant.path.relative_to(ROOT / folder)
    own = ROOT / where / inside.with_name(f"test_{inside.name}")
    return [str(own if own.exists() else ROOT / where)]


def by_reach(package: str, limit: float) -> Callable[[Mutant], tuple[list[str], float]]:
    """What gives the tests that reach a change, the quickest first, and the seconds that they may take."""
    beside = (PACKAGES[package][1], *ALSO.get(package, ()))
    lines, seconds = reached(ROOT / PACKAGES[package][0], [str(ROOT / place) for place in beside])
    print(f"{package}: {len(seconds)} tests in {sum(seconds.values()):.0f} s", flush=True)

    def tests_of(mutant: Mutant) -> tuple[list[str], float]:
        chosen = quickest(choose(mutant, lines, seconds), seconds, limit)
        return chosen, 30 + 3 * sum(seconds[name] for name in chosen)

    return tests_of


def measure(package: str, sample: int, seed: int, files: Sequence[str], tests_of: Callable[[Mutant], tuple[list[str], float]]) -> None:
    """Prints which changes of one package were not noticed, or only because the tests took for ever, and the share."""
    drawn, places = draw(package, sample, seed, files)
    count = 0
    for mutant in drawn:
        chosen, timeout = tests_of(mutant)
        seen = noticed(mutant, chosen, timeout)
        count += seen is not False
        if not seen:
            before, after = mutant.path.read_text(encoding="utf-8").splitlines(), mutant.code().splitlines()
            changes = [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:2] not in ("--", "++", "@@")]
            how = "for ever" if seen is None else f"{len(chosen)} tests"
            print(f"{mutant.path.relative_to(ROOT)}:{mutant.line} {mutant.operator}, {how}", *changes, sep="\n  ", flush=True)
    print(f"{package}: {count} of {len(drawn)} noticed, {count / len(drawn):.0%}; {places} places", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Which share of small changes do the tests notice?")
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), help=", ".join(PACKAGES))
    parser.add_argument("--sample", type=int, default=40, help="changes of each package")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--files", nargs="*", default=[], help="names of files, which alone are changed")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds of tests for each change, the quickest first")
    parser.add_argument("--mirrored", action="store_true", help="only the tests of the changed file; nothing is looked at first")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
    warm()
    for package in arguments.packages:
        own = arguments.mirrored
        tests_of = (lambda mutant, package=package: (mirrored(package, mutant), 600)) if own else by_reach(package, arguments.limit)
        measure(package, arguments.sample, arguments.seed, arguments.files, tests_of)


if __name__ == "__main__":
    main()
