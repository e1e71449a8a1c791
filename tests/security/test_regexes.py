"""Every regular expression of the package costs time linear in what it reads, whoever wrote that.

Python's `re` goes back, and lets nothing else run meanwhile. So each expression is given texts made from its own parse
tree, which nearly match it in as many ways as they can: one that goes back takes minutes for what others take
milliseconds for. Patterns of pydantic and of the CRDs are matched by engines that never go back.
"""

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "operator" / "rollup_operator"
LENGTH = 60_000
"""Characters of a text. Most texts that reach an expression are shorter, some come in megabytes."""

SECONDS = 0.3
"""Of processor time for one text: a linear expression takes a hundredth of it, a quadratic one ten times as much."""

METHODS = frozenset({"match", "fullmatch", "search", "sub", "split", "findall", "finditer"})
PARSER: Any = importlib.import_module("re._parser")
MANY = 100
"""A repetition that can go on for longer than this may go back for long."""


def expressions() -> Iterator[tuple[str, re.Pattern[str], frozenset[str]]]:
    """Where each expression of the package stands, itself, and the methods that are called of it."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    calls = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    used: dict[str, set[str]] = {}
    for call in calls:
        *_, name, method = ["", "", *ast.unparse(call.func).split(".")]
        if method in METHODS:
            used.setdefault(name, set()).add(method)
    for path, tree in trees.items():
        if not any(isinstance(node, ast.Import) and node.names[0].name == "re" for node in ast.walk(tree)):
            continue
        where = path.relative_to(PACKAGE)
        module = importlib.import_module(".".join(("rollup_operator", *where.with_suffix("").parts)))
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield f"{where}:{name}", value, frozenset(used[name])
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"re.{method}" for method in METHODS}:
                given = node.args[0]
                assert isinstance(given, ast.Constant), f"{where}:{node.lineno}: an expression made of other texts"
                method = ast.unparse(node.func).removeprefix("re.")
                yield f"{where}:{node.lineno}:{node.col_offset}", re.compile(given.value), frozenset({method})


def sample(nodes: Any) -> str:
    """A text that these nodes of a parse tree match, or nearly so."""
    return "".join(part for part, _ in pieces(nodes))


def pieces(nodes: Any) -> list[tuple[str, str]]:
    """Of each node a text that it matches, and, where it can go on for long, what it goes on with."""
    found: list[tuple[str, str]] = []
    for kind, value in nodes:
        match str(kind):
            case "LITERAL":
                found.append((chr(value), ""))
            case "NOT_LITERAL":
                found.append(("a" if value != ord("a") else "b", ""))
            case "ANY":
                found.append(("a", ""))
            case "IN":
                found.append((one_of(value), ""))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = value
                unit = sample(inner)
                found.extend(pieces(inner) if low else [])
                found.append((unit * max(low, 1), unit if high > MANY else ""))
            case "SUBPATTERN":
                found.extend(pieces(value[-1]))
            case "ATOMIC_GROUP":
                found.extend(pieces(value))
            case "BRANCH":
                found.extend(pieces(value[1][0]))
    return found


def one_of(items: Any) -> str:
    negated = str(items[0][0]) == "NEGATE"
    for code in (*map(ord, "a1 A,-"), *range(1, 128)):
        inside = any(within(code, kind, value) for kind, value in items)
        if inside is not negated:
            return chr(code)
    return "a"


def within(code: int, kind: object, value: Any) -> bool:
    match str(kind):
        case "LITERAL":
            return code == value
        case "RANGE":
            return value[0] <= code <= value[1]
        case "CATEGORY":
            letter = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}.get(str(value), r"\W")
            return re.fullmatch(letter, chr(code)) is not None
    return False


def texts(pattern: re.Pattern[str]) -> Iterator[str]:
    """Texts that go on for long where the expression does, and that end otherwise."""
    parts = pieces(PARSER.parse(pattern.pattern, pattern.flags & ~re.UNICODE))
    before = ""
    for part, unit in parts:
        before += part
        if unit:
            yield before + unit * (LENGTH // len(unit)) + "\0"
            yield unit * (LENGTH // len(unit)) + "\0"
        if before:
            yield before * (LENGTH // len(before)) + "\0"
    yield " " * LENGTH + "\0"


def seconds(pattern: re.Pattern[Any], methods: frozenset[str], written: str) -> float:
    """Return the processor time that reading the text takes with the slowest of the methods."""
    text, nothing = (written.encode("latin-1"), b"") if isinstance(pattern.pattern, bytes) else (written, "")
    looks: list[Callable[[], object]] = []
    if "match" in methods:
        looks.append(lambda: pattern.match(text))
    if "fullmatch" in methods:
        looks.append(lambda: pattern.fullmatch(text))
    if methods - {"match", "fullmatch"}:
        looks.append(lambda: pattern.sub(nothing, text))
    longest = 0.0
    for look in looks:
        began = time.thread_time()
        look()
        longest = max(longest, time.thread_time() - began)
    return longest


ALL = {where: (pattern, methods) for where, pattern, methods in expressions()}


@pytest.mark.parametrize("where", ALL)
def test_an_expression_takes_linear_time(where: str) -> None:
    pattern, methods = ALL[where]
    for text in texts(pattern):
        taken = seconds(pattern, methods, text)
        assert taken < SECONDS, f"{pattern.pattern!r} took {taken:.1f}s for {text[:60]!r}..."


@pytest.mark.parametrize("expression", [r"\s+at \[Source:.*", r"rejected .* on \S+?\[name"])
def test_one_that_goes_back_is_found(expression: str) -> None:
    pattern = re.compile(expression, re.DOTALL)
    assert any(seconds(pattern, frozenset({"search"}), text) > SECONDS for text in texts(pattern))


def test_the_expressions_are_found() -> None:
    assert len(ALL) > 40
    assert "model/glob.py" not in {where.partition(":")[0] for where in ALL}
