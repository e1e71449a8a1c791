"""The shape of a job's configuration as Elasticsearch accepts it: which fields, of which types. Pure.

`rules` decides on the values. A fault names the path to the field, as Elasticsearch's parsers do: each parser on the
path says that it failed to parse its field, and the last one says why.

If there are several faults, the one is reported that Elasticsearch's parsers find first. They read the text once:

1. field by field as written: its name, the type of its value; an object as a whole, inside out;
2. at the end of an object: which of its fields are missing;
3. then the rules for its values; for an object that has every possible field, as soon as it has the last of them.

So a fault within `groups` comes before a missing field beside it, and a missing field before an empty text beside it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from rollup_operator.http.protocol.dialects import Dialect
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.http.protocol.parameters import suggestion
from rollup_operator.http.protocol.positioned_json import Member, Node, Position

ROOT = "xpack/rollup/jobconfig"
"""Name of the outermost parser; the others are named after their field."""

PARSE = "x_content_parse_exception"
ARGUMENT = "illegal_argument_exception"

Path = tuple[str, ...]
"""Names of fields from the outside in."""

Broken = tuple[Path, str, str]
"""Where a rule is broken, with the type and the text of the error."""

T = TypeVar("T")

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
        why = self.cause[1] if self.cause else self.text
        inner: dict[str, Any] = {"type": self.type, "reason": f"[{self.at}] [{names[-1]}] {self.text}"}
        if self.cause is not None:
            inner["caused_by"] = {"type": self.cause[0], "reason": self.cause[1]}
        for name, field in reversed(list(zip(names, self.path, strict=False))):
            reason = f"[{self.at}] [{name}] failed to parse field [{field}]"
            inner = {"type": PARSE, "reason": reason, "caused_by": inner}
        cause = inner.get("caused_by")
        return ApiError(400, inner["type"], f"{inner['reason']}: {why}" if cause else inner["reason"], caused_by=cause)


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
class FieldMetrics:
    """The metrics of one field, as given."""

    field: str
    metrics: Sequence[str]


@dataclass(frozen=True, slots=True)
class JobConfiguration:
    """A whole configuration, as given: only its types are checked."""

    id: str | None
    """None: the id in the path counts."""
    index_pattern: str
    rollup_index: str
    cron: str
    page_size: int
    timeout: str | None
    date_histogram: DateHistogram | None
    """None: there are no groups."""
    histogram: Histogram | None
    terms: Sequence[str] | None
    metrics: Sequence[FieldMetrics]


class Rules(Protocol):
    """The allowed values, as far as Elasticsearch checks them while it reads."""

    def of_timeout(self, text: str) -> Iterable[Broken]:
        """Return what is wrong with the job's timeout."""

    def of_date_histogram(self, group: DateHistogram) -> Iterable[Broken]:
        """Return what is wrong with the group by time."""

    def of_histogram(self, group: Histogram) -> Iterable[Broken]:
        """Return what is wrong with the group by ranges."""

    def of_terms(self, fields: Sequence[str]) -> Iterable[Broken]:
        """Return what is wrong with the group by terms."""

    def of_metric(self, metric: FieldMetrics) -> Iterable[Broken]:
        """Return what is wrong with the metrics of one field."""


def check(root: Node, found: Iterable[Broken]) -> None:
    """Raise the Fault of the first rule that is broken."""
    for path, type_, reason in found:
        raise Fault.of_field(path, _where(root, path).at, reason, type_)


def _where(root: Node, path: Path) -> Node:
    """Return the node at the end of a path, or the last existing one on the way."""
    node = root
    for name in path:
        if not isinstance(node.value, dict) or name not in node.value:
            break
        node = node.value[name].node
    return node


def read_configuration(root: Node, rules: Rules, dialect: Dialect) -> JobConfiguration:
    """Read a body. Raises Fault."""
    return _Configurations(root, rules, dialect).read()


class _Configurations:
    """Reads one body."""

    def __init__(self, root: Node, rules: Rules, dialect: Dialect) -> None:
        self._root, self._rules, self._dialect = root, rules, dialect

    def read(self) -> JobConfiguration:
        whole = _ShapeReader(self._root, (), self._dialect)
        fields = {
            "id": whole.nullable,
            "index_pattern": whole.text,
            "rollup_index": whole.text,
            "cron": whole.text,
            "groups": lambda name: self._groups(whole.object(name)),
            "metrics": lambda name: [self._metric(one) for one in whole.objects(name)],
            "timeout": lambda name: self._timeout(whole.nullable(name)),
            "page_size": whole.integer,
        }
        return whole.read(fields, ("index_pattern", "rollup_index", "cron", "page_size"), _configuration)

    def _timeout(self, text: str | None) -> str | None:
        if text is not None:
            check(self._root, self._rules.of_timeout(text))
        return text

    def _groups(self, reader: "_ShapeReader") -> Mapping[str, Any]:
        fields = {
            "date_histogram": lambda name: self._date_histogram(reader.object(name)),
            "histogram": lambda name: self._histogram(reader.object(name)),
            "terms": lambda name: self._terms(reader.object(name)),
        }
        return reader.read(fields, ("date_histogram",), lambda given: given)

    def _date_histogram(self, reader: "_ShapeReader") -> DateHistogram:
        def build(given: Mapping[str, Any]) -> DateHistogram:
            values: dict[str, Any] = {name: given.get(name) for name in fields}
            group = DateHistogram(**values)
            check(self._root, self._rules.of_date_histogram(group))
            return group

        fields: dict[str, Callable[[str], Any]] = {
            "field": reader.text,
            "interval": reader.text,
            "fixed_interval": reader.text,
            "calendar_interval": reader.text,
            "delay": reader.nullable,
            "time_zone": reader.nullable,
        }
        return reader.read(fields, ("field",), build)

    def _histogram(self, reader: "_ShapeReader") -> Histogram:
        def build(given: Mapping[str, Any]) -> Histogram:
            group = Histogram(**given)
            check(self._root, self._rules.of_histogram(group))
            return group

        return reader.read({"fields": reader.strings, "interval": reader.integer}, ("interval", "fields"), build)

    def _terms(self, reader: "_ShapeReader") -> Sequence[str]:
        def build(given: Mapping[str, Any]) -> Sequence[str]:
            fields: Sequence[str] = given["fields"]
            check(self._root, self._rules.of_terms(fields))
            return fields

        return reader.read({"fields": reader.strings}, ("fields",), build)

    def _metric(self, reader: "_ShapeReader") -> FieldMetrics:
        def build(given: Mapping[str, Any]) -> FieldMetrics:
            metric = FieldMetrics(**given)
            check(self._root, self._rules.of_metric(metric))
            return metric

        return reader.read({"field": reader.text, "metrics": reader.strings}, ("field", "metrics"), build)


def _configuration(given: Mapping[str, Any]) -> JobConfiguration:
    groups = given.get("groups") or {}
    return JobConfiguration(
        id=given.get("id"),
        index_pattern=given["index_pattern"],
        rollup_index=given["rollup_index"],
        cron=given["cron"],
        page_size=given["page_size"],
        timeout=given.get("timeout"),
        date_histogram=groups.get("date_histogram"),
        histogram=groups.get("histogram"),
        terms=groups.get("terms"),
        metrics=given.get("metrics", ()),
    )


class _ShapeReader:
    """Reads one object. Raises Fault for anything but an object."""

    def __init__(self, node: Node, path: Path, dialect: Dialect) -> None:
        self._node, self._path, self._dialect = node, path, dialect
        if not isinstance(node.value, dict):
            raise Fault(path, node.at, f"Expected START_OBJECT but was: {node.token}")
        self._members: dict[str, Member] = node.value

    def read(
        self,
        fields: Mapping[str, Callable[[str], Any]],
        required: Sequence[str],
        build: Callable[[Mapping[str, Any]], T],
    ) -> T:
        """Read the fields in the order in which they are written, and build the result.

        Raises Fault for an unknown field, one that cannot be read, and missing ones.
        """
        values: dict[str, Any] = {}
        built: list[T] = []
        for name, member in self._members.items():
            if name not in fields:
                text = f"unknown field [{name}]{suggestion(name, list(fields)).replace(' ->', '')}"
                raise Fault(self._path, member.at, text, type_=self._dialect.unknown_field_error)
            values[name] = fields[name](name)
            if len(values) == len(fields):
                built.append(build(values))
        if missing := [name for name in required if name not in values]:
            raise Fault.of_object(self._path, self._node.at, f"Required [{', '.join(missing)}]")
        return built[0] if built else build(values)

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._members[name].node.value
        if not isinstance(value, str):
            raise self._unsupported(name, self._members[name].node)
        return value

    def nullable(self, name: str) -> str | None:
        """Return a string or nothing."""
        return None if self._members[name].node.value is None else self.text(name)

    def integer(self, name: str) -> int:
        """Return a required whole number; one in quotes, or with a zero fraction, is accepted, too."""
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
        """Return a required list of strings; a single one counts as a list."""
        node = self._members[name].node
        items = node.value if isinstance(node.value, list) else [node]
        found: list[str] = []
        for item in items:
            if not isinstance(item.value, str):
                raise self._unsupported(name, item)
            found.append(item.value)
        return found

    def object(self, name: str) -> "_ShapeReader":
        """Return the reader of an object within."""
        node = self._members[name].node
        if not isinstance(node.value, dict):
            raise self._unsupported(name, node)
        return _ShapeReader(node, (*self._path, name), self._dialect)

    def objects(self, name: str) -> "Iterable[_ShapeReader]":
        """Return the readers of the objects of a list, one by one; a single one counts as a list."""
        node = self._members[name].node
        for item in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(item.value, dict):
                raise self._unsupported(name, item)
            yield _ShapeReader(item, (*self._path, name), self._dialect)

    def _unsupported(self, name: str, node: Node) -> Fault:
        return Fault(self._path, node.at, f"{name} doesn't support values of type: {node.token}")
