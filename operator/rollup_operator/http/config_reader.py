"""The shape of a job's configuration as Elasticsearch takes it: which fields, of which types. Pure.

What the values may be is decided in `config_rules`. A fault names the way to the field, as Elasticsearch's parsers do:
each parser on the way says that it failed to parse its field, and the last one why.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rollup_operator.http.errors import ApiError
from rollup_operator.http.json_reader import Member, Node, Position
from rollup_operator.http.parameters import suggestion
from rollup_operator.http.versions import Dialect

ROOT = "xpack/rollup/jobconfig"
"""Name of the outermost parser; the others are named after their field."""

PARSE = "x_content_parse_exception"
ARGUMENT = "illegal_argument_exception"

Path = tuple[str, ...]
"""Names of fields from the outside in."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")


class Fault(Exception):
    """A configuration that cannot be used. `path` leads to the parser that found it."""

    def __init__(
        self, path: Path, at: Position, text: str, *, type_: str = PARSE, cause: tuple[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.path, self.at, self.text, self.type, self.cause = path, at, text, type_, cause

    @classmethod
    def of_field(cls, path: Path, at: Position, reason: str, type_: str = ARGUMENT) -> "Fault":
        """Return the fault of the value of one field, the last of `path`."""
        return cls(path[:-1], at, f"failed to parse field [{path[-1]}]", cause=(type_, reason))

    @classmethod
    def of_object(cls, path: Path, at: Position, reason: str) -> "Fault":
        """Return the fault of an object as a whole."""
        name = path[-1] if path else ROOT
        text = f"Failed to build [{name}] after last required field arrived"
        return cls(path, at, text, cause=(ARGUMENT, reason))

    def answer(self) -> ApiError:
        """Return the 400. Unlike Elasticsearch's, its reason ends with the cause that helps."""
        names = (ROOT, *self.path)
        told = self.cause[1] if self.cause else self.text
        inner: dict[str, Any] = {"type": self.type, "reason": f"[{self.at}] [{names[-1]}] {self.text}"}
        if self.cause is not None:
            inner["caused_by"] = {"type": self.cause[0], "reason": self.cause[1]}
        for name, field in reversed(list(zip(names, self.path, strict=False))):
            reason = f"[{self.at}] [{name}] failed to parse field [{field}]"
            inner = {"type": PARSE, "reason": reason, "caused_by": inner}
        cause = inner.get("caused_by")
        return ApiError(400, inner["type"], f"{inner['reason']}: {told}" if cause else inner["reason"], caused_by=cause)


@dataclass(frozen=True, slots=True)
class DateHistogram:
    """The group by time, as given."""

    field: str
    interval: str | None
    fixed_interval: str | None
    calendar_interval: str | None
    delay: str | None
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """The group by ranges of numbers, as given."""

    fields: Sequence[str]
    interval: int


@dataclass(frozen=True, slots=True)
class Metric:
    """The metrics of one field, as given."""

    field: str
    metrics: Sequence[str]


@dataclass(frozen=True, slots=True)
class JobConfiguration:
    """A whole configuration, as given: the types are right, nothing else is known."""

    id: str | None
    """None: the one of the path counts."""
    index_pattern: str
    rollup_index: str
    cron: str
    page_size: int
    timeout: str | None
    date_histogram: DateHistogram
    histogram: Histogram | None
    terms: Sequence[str] | None
    metrics: Sequence[Metric]


def read_configuration(root: Node, dialect: Dialect) -> JobConfiguration:
    """Read a body. Raises Fault."""
    known = ("id", "index_pattern", "rollup_index", "cron", "groups", "metrics", "timeout", "page_size")
    whole = _Reader(root, (), known, dialect)
    if not whole.has("groups") and not whole.has("metrics"):
        raise whole.wrong("At least one grouping or metric must be configured")
    whole.require("index_pattern", "rollup_index", "cron", "page_size", "groups")
    groups = whole.object("groups", ("date_histogram", "histogram", "terms"))
    assert groups is not None
    groups.require("date_histogram")
    return JobConfiguration(
        id=whole.string("id", null=True),
        index_pattern=whole.text("index_pattern"),
        rollup_index=whole.text("rollup_index"),
        cron=whole.text("cron"),
        page_size=whole.integer("page_size"),
        timeout=whole.string("timeout", null=True),
        date_histogram=_date_histogram(groups),
        histogram=_histogram(groups),
        terms=_terms(groups),
        metrics=[_metric(reader) for reader in whole.objects("metrics", ("field", "metrics"))],
    )


def _date_histogram(groups: "_Reader") -> DateHistogram:
    known = ("field", "interval", "fixed_interval", "calendar_interval", "delay", "time_zone")
    reader = groups.object("date_histogram", known)
    assert reader is not None
    reader.require("field")
    return DateHistogram(
        field=reader.text("field"),
        interval=reader.string("interval"),
        fixed_interval=reader.string("fixed_interval"),
        calendar_interval=reader.string("calendar_interval"),
        delay=reader.string("delay", null=True),
        time_zone=reader.string("time_zone", null=True),
    )


def _histogram(groups: "_Reader") -> Histogram | None:
    reader = groups.object("histogram", ("fields", "interval"))
    if reader is None:
        return None
    reader.require("interval", "fields")
    return Histogram(fields=reader.strings("fields"), interval=reader.integer("interval"))


def _terms(groups: "_Reader") -> Sequence[str] | None:
    reader = groups.object("terms", ("fields",))
    if reader is None:
        return None
    reader.require("fields")
    return reader.strings("fields")


def _metric(reader: "_Reader") -> Metric:
    reader.require("field", "metrics")
    return Metric(field=reader.text("field"), metrics=reader.strings("metrics"))


class _Reader:
    """One object. Raises Fault for anything but an object, and for fields that nobody knows."""

    def __init__(self, node: Node, path: Path, known: Sequence[str], dialect: Dialect) -> None:
        self._node, self._path, self._dialect = node, path, dialect
        if not isinstance(node.value, dict):
            raise Fault(path, node.at, f"Expected START_OBJECT but was: {node.token}")
        self._members: dict[str, Member] = node.value
        for name, member in self._members.items():
            if name not in known:
                text = f"unknown field [{name}]{suggestion(name, known).replace(' ->', '')}"
                raise Fault(path, member.at, text, type_=dialect.unknown_field_error)

    def has(self, name: str) -> bool:
        return name in self._members

    def wrong(self, reason: str) -> Fault:
        return Fault.of_object(self._path, self._node.at, reason)

    def require(self, *names: str) -> None:
        if missing := [name for name in names if name not in self._members]:
            raise self.wrong(f"Required [{', '.join(missing)}]")

    def text(self, name: str) -> str:
        """Return a string that is there."""
        found = self.string(name)
        assert found is not None
        return found

    def string(self, name: str, *, null: bool = False) -> str | None:
        member = self._members.get(name)
        if member is None or (null and member.node.value is None):
            return None
        if not isinstance(member.node.value, str):
            raise self._unsupported(name, member.node)
        return member.node.value

    def integer(self, name: str) -> int:
        """Return a whole number that is there; one in quotes, or with a zero fraction, is taken too."""
        node = self._members[name].node
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._unsupported(name, node)
        at = (*self._path, name)
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            raise Fault.of_field(at, node.at, f'For input string: "{value}"', "number_format_exception")
        exact = Decimal(value)
        if abs(exact) > 2**63 - 1:
            raise Fault.of_field(at, node.at, f"Value [{value}] is out of range for a long")
        if exact != int(exact):
            raise Fault.of_field(at, node.at, f"{value} cannot be converted to Integer without data loss")
        return int(exact)

    def strings(self, name: str) -> Sequence[str]:
        """Return a list of strings that is there; a single one counts as a list."""
        node = self._members[name].node
        items = node.value if isinstance(node.value, list) else [node]
        found: list[str] = []
        for item in items:
            if not isinstance(item.value, str):
                raise self._unsupported(name, item)
            found.append(item.value)
        return found

    def object(self, name: str, known: Sequence[str]) -> "_Reader | None":
        member = self._members.get(name)
        if member is None:
            return None
        if not isinstance(member.node.value, dict):
            raise self._unsupported(name, member.node)
        return _Reader(member.node, (*self._path, name), known, self._dialect)

    def objects(self, name: str, known: Sequence[str]) -> "list[_Reader]":
        """Return the objects of a list; a single one counts as a list, and nothing as an empty one."""
        member = self._members.get(name)
        if member is None:
            return []
        items = member.node.value if isinstance(member.node.value, list) else [member.node]
        for item in items:
            if not isinstance(item.value, dict):
                raise self._unsupported(name, item)
        return [_Reader(item, (*self._path, name), known, self._dialect) for item in items]

    def _unsupported(self, name: str, node: Node) -> Fault:
        return Fault(self._path, node.at, f"{name} doesn't support values of type: {node.token}")
