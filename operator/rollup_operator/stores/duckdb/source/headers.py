"""Reads the head of CSV files and the footer of Parquet files, with limits. Called in a worker.

DuckDB detects the format of a CSV file and the content of a Parquet file by itself. But it reads a whole file for
that if the file has no line ends, uses any amount of memory for a footer, and cannot be interrupted meanwhile. So
this module checks the length of a footer first, and gives DuckDB only the beginning of a CSV file.
"""

import csv
import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from rollup_operator.model.job import CsvReading, RollupJobSpec
from rollup_operator.stores.duckdb.database import csv_errors
from rollup_operator.stores.duckdb.database.database import Lane
from rollup_operator.stores.duckdb.source import time_formats
from rollup_operator.stores.duckdb.statements import sql
from rollup_operator.stores.errors import SourceInvalid, StoreUnavailable

HEAD = 4 << 20
"""Bytes of a CSV file, inflated, that show how it is written: about as many rows as DuckDB would inspect."""
MOST_COLUMNS = 10_000
MOST_FOOTER = 16 << 20
"""Bytes of a Parquet file's footer: some 100,000 pairs of columns and row groups. It takes several times as much in
memory."""

_MOST_QUOTES = 10_000
"""Among the last ones of what is read, before an end of a line is found."""
_LONGEST_HEADER = 1 << 20
"""Characters of a first line of which names are made. Meanwhile nothing else of this process goes on."""
_MOST_VALUES = 2 * MOST_COLUMNS
_LONGEST_VALUE = 64
"""Characters of a value that are shown: what reads times takes any number of blanks around them."""
_CHUNK = 64 << 10
_NOTHING = "(empty)"
_DELIMITERS = (",", ";", "\t", "|")
_GZIP = zlib.MAX_WBITS | 16
_TAB = ("tab", "\\t")
_TEXT, _NUMBER, _TIME = "VARCHAR", "DOUBLE", "TIMESTAMP"
_LONG = "BIGNUM"
"""What DuckDB takes whole numbers beyond 128 bits for."""
_NAMES = frozenset({_TEXT, "BOOLEAN"})
"""What names of columns may be taken for: t is true, too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job says of its CSV files."""

    reading: CsvReading = field(default_factory=CsvReading)
    texts: frozenset[str] = frozenset()
    """Columns that hold texts, whatever they seem to be: of 1.1 and 1.10, or of 1e5 and 100000, a number makes one."""
    values: frozenset[str] = frozenset()
    """Columns that hold numbers or times."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Of these columns it is known which of the two: DOUBLE or TIMESTAMP."""

    @classmethod
    def of(cls, spec: RollupJobSpec, written: Mapping[str, str]) -> "Wanted":
        """Return what a job wants; `written` are the types of its result's columns, where there is one.

        Terms are texts, unless their keys are numbers already, or the column is one of numbers elsewhere in the job.
        """
        groups = spec.groups
        kinds = {m.field: _NUMBER for m in spec.metrics if not {"sum", "avg"}.isdisjoint(m.metrics)}
        kinds |= dict.fromkeys(groups.histogram.fields if groups.histogram else (), _NUMBER)
        kinds[groups.date_histogram.field] = _TIME
        values = frozenset([*kinds, *(metric.field for metric in spec.metrics)])
        terms = [f for f in (groups.terms.fields if groups.terms else ()) if f not in values]
        texts = {f for f in terms if written.get(f"{f}.terms", _TEXT) == _TEXT}
        return cls(spec.csv or CsvReading(), frozenset(texts), values, kinds)

    @property
    def delimiter(self) -> str | None:
        """What stands between two values, if that was given."""
        given = self.reading.delimiter
        return "\t" if given is not None and given.lower() in _TAB else given

    @property
    def named(self) -> frozenset[str]:
        """The columns that the job names."""
        return self.values | self.texts

    @property
    def formats(self) -> Mapping[str, str]:
        """The options for how times are written, if that was given."""
        format_ = self.reading.time_format
        return time_formats.options(format_) if format_ is not None else {}

    @property
    def types(self) -> Mapping[str, str]:
        """The types that were given, by column."""
        return {column.name: column.type for column in self.reading.columns}

    def type_of(self, name: str, guess: str) -> str:
        """Return as what a column is read."""
        return self.types.get(name) or (_TEXT if name in self.texts else guess)


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How a CSV file is written, as it is read."""

    written: str
    """The options of read_csv, but for the columns."""
    delimiter: str
    header: bool
    types: Mapping[str, str]
    names: Sequence[str] = ()
    """Of the columns, as the file has them: DuckDB renames one that it takes for another one."""
    empty: frozenset[str] = frozenset()
    """Columns of numbers or times that have no value yet: other files say what they are."""
    wrong: Mapping[str, str] = field(default_factory=dict)
    """Columns that have to be numbers or times and hold texts, each with the first of these in a sentence."""
    time_format: str | None = None
    """How the job's times are written, if not as ISO 8601 has them."""
    unclear: str | None = None
    """Which time can be read in two ways, in a sentence."""

    @property
    def key(self) -> object:
        """What is equal for equal dialects alone, whichever file the sentences are about."""
        wrong = frozenset((column, bool(why)) for column, why in self.wrong.items())
        return self.options, tuple(self.names), self.empty, wrong, self.time_format, self.unclear is None

    @property
    def options(self) -> str:
        """Options for read_csv."""
        columns = ", ".join(f"{sql.text(column)}: {sql.text(type_)}" for column, type_ in self.types.items())
        return f"{self.written}, columns = {{{columns}}}"


def settled(dialects: Sequence[CsvDialect]) -> list[CsvDialect]:
    """Return the dialects of a source's files: a column that is empty in one is of the type that it has in another.

    Raises SourceInvalid if times of a file can be read in two ways, and no other file shows which.
    """
    clear = {d.time_format for d in dialects if d.unclear is None}
    for dialect in dialects:
        if dialect.unclear is not None and dialect.time_format not in clear:
            raise SourceInvalid(dialect.unclear)
    known: dict[str, str] = {}
    for dialect in dialects:
        for column in dialect.types.keys() - dialect.empty:
            known.setdefault(column, dialect.types[column])
    return [
        replace(d, types={**d.types, **{c: known[c] for c in d.empty if c in known}}) if d.empty else d
        for d in dialects
    ]


def footer_of(fd: int, name: str) -> int:
    """Return the length of a Parquet file's footer, in bytes. Raises SourceInvalid for too much.

    Whatever else is wrong, DuckDB says.
    """
    size = os.fstat(fd).st_size
    if (footer := int.from_bytes(os.pread(fd, 8, max(0, size - 8))[:4], "little")) > MOST_FOOTER:
        raise _invalid(name, f"has a footer of {footer} bytes, above {MOST_FOOTER}: make fewer row groups or columns")
    return footer


def csv_dialect(lane: Lane, fd: int, name: str, wanted: Wanted, *, gzipped: bool) -> CsvDialect | None:
    """Find out how a file is written, as far as the job does not say; None: it has no rows yet.

    Raises SourceInvalid, StoreUnavailable.
    """
    try:
        head = _inflated(fd, lane.go_on) if gzipped else os.pread(fd, HEAD, 0)
    except zlib.error as e:
        raise _invalid(name, "cannot be inflated: it is no gzip file") from e
    if not head.strip():
        return None
    whole = len(head) < HEAD
    head = head if whole else _whole_lines(head, name)
    try:
        found = _sniffed(lane, head, name, wanted)
    except SourceInvalid:
        _check_lines(lane, head, name, wanted)
        raise
    if len(columns := found["Columns"]) > MOST_COLUMNS:
        raise _too_many(name, len(columns))
    if not wanted.named <= {column["name"] for column in columns}:
        _check_lines(lane, head, name, wanted)
    types = {str(column["name"]): str(column["type"]) for column in columns}
    header = found["HasHeader"] if wanted.reading.header is None else wanted.reading.header
    if whole and not any(end in head.strip() for end in (b"\n", b"\r")):
        # Of a single line DuckDB makes a row. It is a header, unless it says something else than names.
        is_header = wanted.reading.header
        if set(types.values()) <= _NAMES if is_header is None else is_header:
            return None
    # What no row of the beginning needs may come later, and then has its usual meaning.
    quoting = ('"', '"') if b'"' not in head else (found["Quote"], found["Escape"])
    delimiter = wanted.delimiter or str(found["Delimiter"])
    formats: dict[str, str | None] = {"dateformat": found["DateFormat"], "timestampformat": found["TimestampFormat"]}
    formats |= wanted.formats
    given = {
        "delim": delimiter,
        "quote": quoting[0],
        "escape": quoting[1],
        "comment": found["Comment"],
        **formats,
    }
    texts = [
        f"{key} = {sql.text('' if value == _NOTHING else value)}" for key, value in given.items() if value is not None
    ]
    if (null := wanted.reading.null_text) is not None:
        for mark in {delimiter, quoting[0]} - {"", _NOTHING, None}:
            if mark in null or null in mark:
                what = f"has {mark!r} as delimiter or quote, and spec.csv.nullText {null!r} cannot hold it"
                raise _invalid(name, f"{what}: correct the file, and name another text")
        texts.append(f"nullstr = ['', {sql.text(null)}]")
    skip = int(found["SkipRows"])
    names = first_line(head, delimiter, quoting[0], skip) if header else ()
    types = {column: wanted.type_of(column, guess) for column, guess in types.items()}
    written = f"auto_detect = false, header = {header}, skip = {skip}, {', '.join(texts)}"
    dialect = CsvDialect(written, delimiter, bool(header), types, names or tuple(types))
    values = wanted.values - wanted.types.keys()
    if doubtful := [c for c, type_ in types.items() if type_ in (_TEXT, _LONG) and c in values]:
        dialect = _looked_at(lane, head, name, dialect, doubtful, wanted)
    dialect = _timed(lane, head, name, dialect, formats, wanted)
    return replace(dialect, written=f"{dialect.written}, compression = '{'gzip' if gzipped else 'none'}'")


def _looked_at(
    lane: Lane, head: bytes, name: str, dialect: CsvDialect, doubtful: Sequence[str], wanted: Wanted
) -> CsvDialect:
    """Find out why columns that have to be numbers or times were taken for texts: they may only be empty."""
    types, wrong = dict(dialect.types), {}

    def counted(columns: Sequence[str], types: Mapping[str, str]) -> Sequence[object]:
        counts = ", ".join(f"count({sql.name(c)})" for c in columns)
        relation = sql.files("read_csv", [path], replace(dialect, types=types).options)
        return lane.execute(f"SELECT {counts} FROM {relation}")[0]

    with _copied(lane, head) as path:
        try:
            counts = counted(doubtful, types)
        except (duckdb.InvalidInputException, duckdb.ConversionException):
            return dialect  # a run finds the same, and says where
        empty = {c for c, count in zip(doubtful, counts, strict=True) if not count}
        for column in doubtful:
            if types[column] == _LONG:
                wrong[column] = (
                    f"{name}, column {column!r}: its whole numbers beyond 128 bits are not summed up exactly: "
                    "say in spec.csv.columns that the column is DOUBLE"
                )
                continue
            if (kind := wanted.kinds.get(column)) is None:
                continue
            if column in empty:
                # As DuckDB takes numbers at first; a time without a value is no time.
                types[column] = "BIGINT" if kind == _NUMBER else _TEXT
                continue
            try:
                counted([column], {**types, column: kind})
            except duckdb.ConversionException as e:
                wrong[column] = csv_errors.explain(str(e), lambda _: name) or ""
            else:
                types[column] = kind if kind == _NUMBER else _TEXT
    return replace(dialect, types=types, empty=frozenset(empty), wrong=wrong)


def _timed(
    lane: Lane, head: bytes, name: str, dialect: CsvDialect, formats: Mapping[str, str | None], wanted: Wanted
) -> CsvDialect:
    """Note how the job's times are written, and which of them can be read in two ways."""
    if wanted.formats:
        return replace(dialect, time_format=wanted.reading.time_format)
    for column in sorted(wanted.values & dialect.types.keys()):
        type_ = dialect.types[column]
        key = "dateformat" if type_ == "DATE" else "timestampformat" if type_.startswith(_TIME) else None
        format_ = formats[key] if key is not None else None
        if format_ is None or time_formats.is_plain(format_):
            continue
        dialect = replace(dialect, time_format=format_)
        options = replace(dialect, types={**dialect.types, column: _TEXT}).options
        for other in time_formats.other_orders(format_):
            text = sql.name(column)
            one, two = (f"try_strptime({text}, {sql.text(way)})" for way in (format_, other))
            with _copied(lane, head) as path:
                ((times, also, first),) = lane.execute(
                    f"SELECT count({text}), count({two}), "
                    f"min(left(trim({text}), {_LONGEST_VALUE})) FILTER ({one} <> {two}) "
                    f"FROM {sql.files('read_csv', [path], options)}"
                )
            if times == also and first is not None:
                return replace(
                    dialect,
                    unclear=f"{name}, column {column!r}: {first!r} can be {format_} or {other}: say in "
                    "spec.csv.timeFormat how times are written",
                )
    return dialect


def _sniffed(lane: Lane, head: bytes, name: str, wanted: Wanted) -> dict[str, Any]:
    given = []
    if (delimiter := wanted.delimiter) is not None:
        given.append(f"delim = {sql.text(delimiter)}")
    if wanted.reading.header is not None:
        given.append(f"header = {wanted.reading.header}")
    if (null := wanted.reading.null_text) is not None:
        given.append(f"nullstr = ['', {sql.text(null)}]")
    given += [f"{option} = {sql.text(format_)}" for option, format_ in wanted.formats.items()]
    with _copied(lane, head) as path:
        try:
            (names, values) = lane.execute_named(f"FROM sniff_csv({', '.join([sql.text(path), *given])})")
        except duckdb.InvalidInputException as e:
            raise _invalid(name, csv_errors.not_readable(str(e), head)) from e
    return dict(zip(names, values[0], strict=True))


def _check_lines(lane: Lane, head: bytes, name: str, wanted: Wanted) -> None:
    """Raise SourceInvalid if the first line names the job's columns, and another line has more or fewer values.

    DuckDB takes such a file for one of a single column, for one that begins later, or for none.
    """
    if not (named := wanted.named) or wanted.reading.header is False:
        return
    for delimiter in (wanted.delimiter,) if wanted.delimiter is not None else _DELIMITERS:
        names = first_line(head, delimiter, '"', 0)
        if len(names) < 2 or len({n.lower() for n in names}) < len(names) or not named <= set(names):
            continue
        if len(names) > MOST_COLUMNS:
            raise _too_many(name, len(names))
        columns = ", ".join(f"{sql.text(column)}: '{_TEXT}'" for column in names)
        options = f"""auto_detect = false, header = true, delim = {sql.text(delimiter)}, quote = '"', escape = '"', """
        options += f"columns = {{{columns}}}"
        with _copied(lane, head) as path:
            try:
                lane.execute(f"SELECT count(*) FROM {sql.files('read_csv', [path], options)}")
            except duckdb.InvalidInputException as e:
                if (why := csv_errors.explain(str(e), lambda _: name)) is not None:
                    raise SourceInvalid(f"spec.indexPattern: {why}") from e


def first_line(head: bytes, delimiter: str, quote: str, skip: int) -> Sequence[str]:
    """Return the names in the first line after `skip` lines; none if they cannot be recognized.

    Of a line that is too long, only those at its beginning.
    """
    text = io.TextIOWrapper(io.BytesIO(head), "utf-8-sig", "replace")
    for _ in range(skip):
        text.readline()
    line = text.readline(_LONGEST_HEADER).removesuffix("\n")
    if line.count(delimiter) > _MOST_VALUES:
        line = delimiter.join(line.split(delimiter, _MOST_VALUES)[:-1])
    try:
        return next(csv.reader([line], delimiter=delimiter, quotechar=quote if len(quote) == 1 else '"'), [])
    except (csv.Error, TypeError):  # a delimiter of several characters: then only the message is less exact
        return ()


@contextmanager
def _copied(lane: Lane, head: bytes) -> Iterator[str]:
    """Keep it where DuckDB may read it, and nobody else."""
    part = lane.part_name()
    with lane.folders.exports() as folder:
        try:
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder.fd)
            with os.fdopen(fd, "wb") as copy:
                copy.write(head)
                copy.flush()
                yield lane.path_of(fd)
        except OSError as e:
            raise StoreUnavailable(f"the beginning of a file cannot be copied: {e.strerror}") from e
        finally:
            with suppress(OSError):
                os.unlink(part, dir_fd=folder.fd)


def _inflated(fd: int, go_on: Callable[[], None]) -> bytes:
    parts: list[bytes] = []
    size = at = 0
    inflating = zlib.decompressobj(_GZIP)
    while size < HEAD and (chunk := os.pread(fd, _CHUNK, at)):
        at += len(chunk)
        while chunk and size < HEAD:
            go_on()
            if inflating.eof:  # another member follows
                inflating = zlib.decompressobj(_GZIP)
            parts.append(inflating.decompress(chunk, HEAD - size))
            size += len(parts[-1])
            chunk = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
    return b"".join(parts)


def _whole_lines(head: bytes, name: str) -> bytes:
    """Cut at the last end of a line that is not within quotes."""
    end, outside = len(head), head.count(b'"') % 2 == 0
    for _ in range(_MOST_QUOTES):
        quote = head.rfind(b'"', 0, end)
        if outside and (cut := max(head.rfind(mark, quote + 1, end) for mark in (b"\n", b"\r"))) >= 0:
            return head[: cut + 1]
        if quote < 0:
            break
        end, outside = quote, not outside
    raise _invalid(name, f"has no end of a line in its first {HEAD} bytes")


def _too_many(name: str, columns: int) -> SourceInvalid:
    return _invalid(name, f"has {columns} columns, above {MOST_COLUMNS}")


def _invalid(name: str, what: str) -> SourceInvalid:
    return SourceInvalid(f"spec.indexPattern: {name!r} {what}")
