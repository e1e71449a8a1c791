"""The arithmetic of `bucket_script` and `bucket_selector`: an expression of numbers, in Java's manner. Pure.

    params.sum / params.count * 100          a + b > 3 && !(c == 0)          Math.max(params.a, 0)

Anything beyond that is refused: no statements, no types, no loops. An expression is read once and computed for each
bucket, in time linear in its length.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rollup_operator.query.errors import SearchRefused

LONGEST = 1_000
DEEPEST = 50

Number = float | int
Value = Number | bool | None
Expression = Callable[[Mapping[str, Value]], Value]

_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
"""Operators from those that bind least to those that bind most."""

_TWO = ("||", "&&", "==", "!=", "<=", ">=")


_MOST = 2**63 - 1
"""Of whole numbers."""


def _power(x: Number, y: Number) -> float:
    try:
        return math.pow(x, y)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if x == 0 else math.nan


_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Number]]] = {
    "abs": (1, abs),
    "ceil": (1, lambda x: float(math.ceil(x)) if math.isfinite(x) else x),
    "floor": (1, lambda x: float(math.floor(x)) if math.isfinite(x) else x),
    "round": (1, lambda x: max(-_MOST, min(_MOST, math.floor(x + 0.5))) if math.isfinite(x) else 0),
    "sqrt": (1, lambda x: math.sqrt(x) if x >= 0 else math.nan),
    "exp": (1, lambda x: math.exp(x) if x < 709 else math.inf),
    "log": (1, lambda x: math.log(x) if x > 0 else -math.inf if x == 0 else math.nan),
    "log10": (1, lambda x: math.log10(x) if x > 0 else -math.inf if x == 0 else math.nan),
    "max": (2, lambda a, b: math.nan if math.isnan(a) or math.isnan(b) else max(a, b)),
    "min": (2, lambda a, b: math.nan if math.isnan(a) or math.isnan(b) else min(a, b)),
    "pow": (2, _power),
}
_CONSTANTS: Mapping[str, float] = {"Math.PI": math.pi, "Math.E": math.e}


def script(given: Any) -> tuple[Expression, Mapping[str, Any]]:
    """Return the expression of a script and its own parameters. Raises SearchRefused."""
    source: Any = given
    params: Any = {}
    if isinstance(given, dict):
        source, params = given.get("source", given.get("inline")), given.get("params") or {}
        if given.get("lang") not in (None, "painless", "expression"):
            raise SearchRefused(f"script_lang not supported [{str(given['lang'])[:100]}]")
    if not isinstance(source, str) or not isinstance(params, dict):
        raise SearchRefused("a script here is an expression of numbers, as in params.a / params.b")
    for name, value in params.items():
        if not isinstance(value, int | float):
            raise SearchRefused(f"the parameter [{str(name)[:100]}] of a script is no number")
    return expression(source), params


def expression(source: str) -> Expression:
    """Read an expression. Raises SearchRefused."""
    if len(source) > LONGEST:
        raise SearchRefused(f"a script has at most [{LONGEST}] characters here")
    reader = _ScriptReader(source, _tokens(source))
    found = reader.choice(0)
    if reader.peek() == ";":
        reader.at += 1
    if reader.at < len(reader.tokens):
        raise reader.wrong()
    return found


def _tokens(source: str) -> list[str]:
    tokens: list[str] = []
    i = 0
    while i < len(source):
        c = source[i]
        end = i + 1
        if c.isspace():
            i = end
            continue
        if c.isascii() and (c.isdigit() or (c == "." and source[end : end + 1].isdigit())):
            while end < len(source) and (
                source[end] in "0123456789."
                or (source[end] in "eE")
                or (source[end] in "+-" and source[end - 1] in "eE")
            ):
                end += 1
            if source[end : end + 1] in ("d", "D", "f", "F", "L", "l"):
                end += 1
        elif c.isalpha() or c in "_$":
            while end < len(source) and (source[end].isalnum() or source[end] in "_$."):
                end += 1
        elif c in "'\"":
            end = source.find(c, end) + 1
            if end == 0:
                raise SearchRefused(
                    f"compile error: a text is not closed in script [{source[:100]}]", "script_exception"
                )
        elif source[i : i + 2] in _TWO:
            end = i + 2
        tokens.append(source[i:end])
        i = end
    return tokens


@dataclass(slots=True)
class _ScriptReader:
    source: str
    tokens: list[str]
    at: int = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            self.at -= 1
            raise self.wrong()

    def wrong(self) -> SearchRefused:
        return SearchRefused(
            f"compile error: [{self.peek()[:50] or 'end'}] was not expected in [{self.source[:100]}]: scripts are "
            "expressions of numbers here, as in params.a / params.b",
            "script_exception",
        )

    def choice(self, depth: int) -> Expression:
        if depth > DEEPEST:
            raise SearchRefused(f"a script has at most [{DEEPEST}] brackets within each other here")
        if self.peek() == "return":
            self.at += 1
        test = self.binary(0, depth)
        if self.peek() != "?":
            return test
        self.at += 1
        yes = self.choice(depth + 1)
        self.expect(":")
        no = self.choice(depth + 1)
        return lambda names: yes(names) if test(names) else no(names)

    def binary(self, level: int, depth: int) -> Expression:
        if level == len(_LEVELS):
            return self.unary(depth)
        parts = [self.binary(level + 1, depth)]
        operators = []
        while self.peek() in _LEVELS[level]:
            operators.append(self.next())
            parts.append(self.binary(level + 1, depth))
        if not operators:
            return parts[0]

        def compute(names: Mapping[str, Value]) -> Value:
            value = parts[0](names)
            for operator, part in zip(operators, parts[1:], strict=True):
                if operator == "&&":
                    value = bool(value) and bool(part(names))
                elif operator == "||":
                    value = bool(value) or bool(part(names))
                else:
                    value = _apply(operator, value, part(names))
            return value

        return compute

    def unary(self, depth: int) -> Expression:
        signs = []
        while self.peek() in ("-", "+", "!"):
            signs.append(self.next())
        of = self.primary(depth)
        if not signs:
            return of

        def compute(names: Mapping[str, Value]) -> Value:
            value = of(names)
            for sign in reversed(signs):
                if sign == "!":
                    value = not value
                elif value is None:
                    raise _no_number()
                else:
                    value = -value if sign == "-" else value
            return value

        return compute

    def primary(self, depth: int) -> Expression:
        word = self.next()
        if word == "(":
            found = self.choice(depth + 1)
            self.expect(")")
            return found
        if word[:1].isdigit() or word[:1] == ".":
            return self.literal(word)
        if word in ("true", "false", "null"):
            value = {"true": True, "false": False}.get(word)
            return lambda _: value
        if word in _CONSTANTS:
            constant = _CONSTANTS[word]
            return lambda _: constant
        if word.startswith("Math."):
            return self.call(word, depth)
        if word == "params" and self.peek() == "[":
            self.at += 1
            word = self.next()[1:-1]
            self.expect("]")
        if not (word[:1].isalpha() or word[:1] in ("_", "$")):
            self.at -= 1
            raise self.wrong()
        name = word.removeprefix("params.").removesuffix(".value")

        def read(names: Mapping[str, Value]) -> Value:
            if name not in names:
                raise SearchRefused(
                    f"runtime error: script [{self.source[:100]}] has no [{name[:50]}]", "script_exception"
                )
            return names[name]

        return read

    def call(self, word: str, depth: int) -> Expression:
        known = _FUNCTIONS.get(word.removeprefix("Math."))
        if known is None:
            self.at -= 1
            raise self.wrong()
        count, function = known
        self.expect("(")
        given = [self.choice(depth + 1)]
        while self.peek() == ",":
            self.at += 1
            given.append(self.choice(depth + 1))
        self.expect(")")
        if len(given) != count:
            raise self.wrong()
        return lambda names: function(*[_number(g(names)) for g in given])

    def literal(self, word: str) -> Expression:
        whole = word.rstrip("lL")
        try:
            value: Number = int(whole) if whole.isdigit() else float(word.rstrip("dDfF"))
        except ValueError as e:
            self.at -= 1
            raise self.wrong() from e
        if isinstance(value, int) and value > _MOST:
            self.at -= 1
            raise self.wrong()
        return lambda _: value


def _number(value: Value) -> Number:
    if value is None:
        raise _no_number()
    return value


def _no_number() -> SearchRefused:
    return SearchRefused("runtime error: a script computes with null", "script_exception")


def _apply(operator: str, a: Value, b: Value) -> Value:
    if operator in ("==", "!="):
        return (a == b) == (operator == "==")
    x, y = _number(a), _number(b)
    match operator:
        case "<":
            return x < y
        case "<=":
            return x <= y
        case ">":
            return x > y
        case ">=":
            return x >= y
    try:
        match operator:
            case "+":
                found = x + y
            case "-":
                found = x - y
            case "*":
                found = x * y
            case "/":
                found = _quotient(x, y)
            case _:
                found = _remainder(x, y)
    except OverflowError:
        return math.inf
    if isinstance(found, int) and abs(found) > _MOST:
        raise SearchRefused(
            "runtime error: a script computes whole numbers of more than 64 bits: write them as in 1000.0",
            "script_exception",
        )
    return found


def _quotient(x: Number, y: Number) -> Number:
    if isinstance(x, int) and isinstance(y, int):
        if y == 0:
            raise SearchRefused("runtime error: / by zero", "script_exception")
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    if y == 0:
        return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1.0, y)
    return x / y


def _remainder(x: Number, y: Number) -> Number:
    if y == 0 or not math.isfinite(x):
        if isinstance(x, int) and isinstance(y, int):
            raise SearchRefused("runtime error: / by zero", "script_exception")
        return math.nan
    left = math.fmod(x, y)
    return int(left) if isinstance(x, int) and isinstance(y, int) else left
