"""Reads the fields of one object of a request, with the errors of Elasticsearch's object parsers. Pure."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.json_values import X_CONTENT, boolean, decimal, integer, shown, token

T = TypeVar("T")

_SCALARS = ("VALUE_STRING", "VALUE_NUMBER", "VALUE_BOOLEAN", "VALUE_NULL")


class ObjectFields:
    """The fields of an object, each of a type. `kind` is the parser's name in errors."""

    def __init__(self, kind: str, body: Mapping[str, Any], known: Collection[str]) -> None:
        self._kind, self._body = kind, body
        for name in body:
            if name not in known:
                raise SearchRefused(f"[{kind}] unknown field [{shown(name)}]", X_CONTENT)

    def __contains__(self, name: str) -> bool:
        return name in self._body

    def given(self, names: Collection[str]) -> list[str]:
        """Return which of the fields are there, in the order of the request."""
        return [name for name in self._body if name in names]

    def text(self, name: str) -> str | None:
        """Return a text; None: it is not there."""
        return self._read(name, ("VALUE_STRING",), str)

    def integer(self, name: str, default: int) -> int:
        """Return a whole number."""
        found = self._read(name, ("VALUE_NUMBER", "VALUE_STRING"), integer)
        return default if found is None else found

    def decimal(self, name: str, default: float) -> float:
        """Return a number."""
        found = self._read(name, ("VALUE_NUMBER", "VALUE_STRING"), decimal)
        return default if found is None else found

    def boolean(self, name: str) -> bool:
        """Return a truth value, false where it is not there."""
        return bool(self._read(name, ("VALUE_BOOLEAN", "VALUE_STRING"), boolean))

    def scalar(self, name: str, read: Callable[[Any], T]) -> T | None:
        """Return what `read` makes of a text, a number or a truth value."""
        return self._read(name, _SCALARS, read)

    def either(self, name: str, tokens: Collection[str], read: Callable[[Any], T]) -> T | None:
        """Return what `read` makes of a value of one of the kinds."""
        return self._read(name, tokens, read)

    def wrong(self, name: str, reason: str) -> SearchRefused:
        """Return the error of a field whose value cannot be used."""
        return SearchRefused(f"[{self._kind}] failed to parse field [{name}]: {reason}", X_CONTENT)

    def _read(self, name: str, tokens: Collection[str], read: Callable[[Any], T]) -> T | None:
        if name not in self._body:
            return None
        value = self._body[name]
        if (kind := token(value)) not in tokens:
            raise SearchRefused(f"[{self._kind}] {name} doesn't support values of type: {kind}", X_CONTENT)
        try:
            return read(value)
        except SearchRefused as e:
            raise self.wrong(name, e.reason) from e
