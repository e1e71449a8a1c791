"""Which sources a request's names mean. Pure.

A job's source pattern and its rollup index are one logical index, with the source's field names. A name of either, a
list, or a wildcard over them means all of it, rolled and live. `_rollup_search` keeps Elasticsearch's rule instead: a
rollup index means the documents in it, and live data is read only of indices that are named beside it.

    names ── Catalog of all jobs ── candidates ── those that the caller may search ── Logical: one source, its jobs,
                                                                                       and what to read of it
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rollup_operator.concurrency.portions import Work
from rollup_operator.model.glob import Glob
from rollup_operator.model.job import CSV_ENDINGS, RollupJobSpec
from rollup_operator.model.names import EVERY
from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.request import Door

MOST_NAMES = 400
"""Names in one request. Each may be compared with all sources."""

LONGEST_NAME = 1_024
"""Characters of one name: as many as a source pattern has at most."""

MOST_STEPS = 100
"""Of all wildcards in one request: each is compared with the names of all jobs. A caller learns nothing of how many
there are, since only the request is limited."""

MOST_SOURCES = 32
"""Sources of one request. Each is read by requests of its own."""

MOST_PARTS = 1_000
"""Names in the patterns of all sources of one request: each is compared with those of the other sources."""

_SYNTAX = '/\\:<>{}|,?"#%'
"""What a name has by its pattern alone: folders, clusters, dates that a cluster computes."""
_HIDING = frozenset(".-+")
"""What no name begins with that a star at the beginning finds."""
_FILES = (".parquet", *CSV_ENDINGS)


class NoSuchIndex(Exception):
    """A name means nothing that the caller may search."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class SearchedJob:
    """A job whose documents can be searched, whether it still exists or not."""

    rollup_index: str
    job_id: str
    store: str
    """Name of its RollupStore."""
    index_pattern: str
    spec: Callable[[], RollupJobSpec]
    """Reads its spec. Raises pydantic's ValidationError."""
    name: str = ""
    """Of its resource; empty: there is none any more."""
    has_rows: bool = True
    """Whether the rows of its source may be read. False: only its rollup index says which they are, and that may have
    been written by anybody who may write to the cluster."""

    @property
    def key(self) -> tuple[str, str]:
        """Identity in the store."""
        return self.rollup_index, self.job_id

    @property
    def source(self) -> tuple[str, str]:
        """What is read where it is not rolled up: store and pattern."""
        return self.store, self.index_pattern


@dataclass(frozen=True, slots=True)
class Logical:
    """One source, and the jobs that roll it up."""

    store: str
    index_pattern: str
    jobs: tuple[SearchedJob, ...]
    """In order of their keys; one of them answers. Empty: only live rows are read."""
    live: str | None
    """The names of live indices to read, with commas between them; None: no live row is read."""
    like: SearchedJob
    """A job of this source, whether its documents are read or not: it says how the rows are read."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How names of indices are resolved."""

    ignore_unavailable: bool = False
    allow_no_indices: bool = True
    expands: bool = True
    """Whether wildcards match open indices; all of ours are open."""


def names_in(text: str) -> list[str]:
    """Return the names of a list with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


@dataclass
class _Matched:
    """What the names mean so far: jobs by rollup index, sources as a whole, and single live indices."""

    rolled: dict[tuple[str, str, str], SearchedJob]
    """By index, id and resource: two may claim one id."""
    whole: dict[tuple[str, str], SearchedJob]
    """A job of each source that was named as a whole."""
    parts: dict[str, list[SearchedJob]]
    """A job of each source whose pattern matches each name; of more than are allowed, only some."""

    @property
    def all(self) -> Iterator[SearchedJob]:
        """The jobs that were found by a name, one or several times, or one of those with their source."""
        return chain(self.rolled.values(), self.whole.values(), *self.parts.values())


class Catalog:
    """The names of jobs' indices and sources."""

    def __init__(self) -> None:
        self._by_index: dict[str, list[SearchedJob]] = {}
        self._by_pattern: dict[str, list[SearchedJob]] = {}
        self._by_source: dict[tuple[str, str], list[SearchedJob]] = {}
        self._globs: dict[str, list[tuple[str, Glob, SearchedJob]]] | None = None
        """Each part of the pattern of each source with a job of it, by what stands before its first star."""

    def take_in(self, jobs: Iterable[SearchedJob]) -> Work["Catalog"]:
        """Add jobs, and return this."""
        for job in jobs:
            self._by_index.setdefault(job.rollup_index, []).append(job)
            if job.has_rows:
                self._by_pattern.setdefault(job.index_pattern, []).append(job)
            self._by_source.setdefault(job.source, []).append(job)
            yield
        self._globs = None
        return self

    def candidates(self, names: Sequence[str]) -> Work[list[SearchedJob]]:
        """Return all jobs that the names may mean, for whoever may search them. Raises SearchRefused.

        What a name means depends on who asks: a job that the caller may not search hides no other by its names.
        """
        check_names(names)
        found = dict.fromkeys(job.source for job in self.by_pattern(",".join(names)))
        for name in dict.fromkeys(names or ["*"]):
            yield from self._may_be(name, found)
            if name.startswith("-"):
                yield from self._may_be(name[1:], found)
            yield
        jobs: list[SearchedJob] = []
        for source in found:
            jobs += self._by_source[source]
            yield
        return jobs

    def _may_be(self, name: str, found: dict[tuple[str, str], None]) -> Work[None]:
        """Add the sources of jobs that have such a name, whatever else has it."""
        if name in EVERY:
            found.update(dict.fromkeys(self._by_source))
        elif "*" in name:
            glob = Glob.of(name)
            for of in (self._by_index, self._by_pattern):
                for each, jobs in of.items():
                    if glob.matches(each):
                        found.update((job.source, None) for job in jobs)
                    yield
        else:
            found.update((job.source, None) for of in (self._by_index, self._by_pattern) for job in of.get(name, ()))
            for job in (yield from self.by_part(name)):
                found[job.source] = None

    def resolve(self, names: Sequence[str], options: IndexOptions, door: Door) -> Work[list[Logical]]:
        """Return the sources that the names mean, in order of store and pattern; none where no name means anything.

        `names` without the commas between them; no names: everything.
        Raises NoSuchIndex; SearchRefused where one cannot tell which rows are meant.
        """
        found = yield from _RequestNames(self, options).matched(names)
        if (sources := len({job.source for job in found.all})) > MOST_SOURCES:
            raise SearchRefused(
                f"[index] means [{sources}] sources, more than the limit of [{MOST_SOURCES}] for one search; name fewer"
            )
        logical = _of_rollup_search(found) if door == "rollup_search" else _of_search(found, self._by_source)
        yield from _must_be_apart(logical)
        return logical

    def by_index(self, name: str) -> Sequence[SearchedJob]:
        """Return the jobs of a rollup index."""
        return self._by_index.get(name, ())

    def by_pattern(self, pattern: str) -> Sequence[SearchedJob]:
        """Return the jobs with this source pattern, to the letter."""
        return self._by_pattern.get(pattern, ())

    @property
    def indices(self) -> Collection[str]:
        """The names of all rollup indices."""
        return self._by_index.keys()

    @property
    def patterns(self) -> Collection[str]:
        """All source patterns."""
        return self._by_pattern.keys()

    def by_part(self, name: str) -> Work[list[SearchedJob]]:
        """Return a job of each source that finds this name by a part of its pattern."""
        if self._globs is None:
            globs: dict[str, list[tuple[str, Glob, SearchedJob]]] = {}
            for jobs in self._by_pattern.values():
                first: dict[tuple[str, str], SearchedJob] = {}
                for job in jobs:
                    first.setdefault(job.source, job)
                for job in first.values():
                    for part in job.index_pattern.split(","):
                        glob = Glob.of(part)
                        globs.setdefault(glob.first, []).append((part, glob, job))
                    yield
            self._globs = globs
        found: dict[tuple[str, str], SearchedJob] = {}
        for length in range(len(name) + 1):
            for part, glob, job in self._globs.get(name[:length], ()):
                if glob.matches(name) and _finds(part, name):
                    found.setdefault(job.source, job)
                yield
        return list(found.values())


class _RequestNames:
    """The names of one request."""

    def __init__(self, catalog: Catalog, options: IndexOptions) -> None:
        self._catalog, self._options = catalog, options

    def matched(self, names: Sequence[str]) -> Work[_Matched]:
        """Return what the names mean. Raises NoSuchIndex, SearchRefused."""
        check_names(names)
        out = _Matched({}, {}, {})
        excludes = False
        names = names or ["*"]
        whole = ",".join(names)
        if self._catalog.by_pattern(whole):  # a pattern that has commas itself
            self._add_pattern(whole, out)
            return out
        for name in names:
            yield
            without = name.startswith("-") and excludes
            pattern = (name[1:] if without else name) or "*"
            expands = pattern in EVERY or "*" in pattern
            if expands:
                excludes = True
                rollups, patterns = yield from self._matching(pattern)
                if not (rollups or patterns or without or self._options.allow_no_indices):
                    raise NoSuchIndex(pattern)
            else:
                rollups, patterns = self._concrete(pattern)
            if without:
                yield from self._remove(pattern, rollups, patterns, out)
                continue
            for index in rollups:
                out.rolled.update(((*job.key, job.name), job) for job in self._catalog.by_index(index))
                yield
            for of in patterns:
                self._add_pattern(of, out)
                yield
            if not (expands or rollups or patterns):
                yield from self._add_part(pattern, out)
        return out

    def _concrete(self, name: str) -> tuple[set[str], set[str]]:
        if self._catalog.by_index(name):
            return {name}, set()
        return set(), {name} if self._catalog.by_pattern(name) else set()

    def _matching(self, pattern: str) -> Work[tuple[set[str], set[str]]]:
        """Return the rollup indices and the source patterns that a wildcard matches."""
        if not self._options.expands:
            return set(), set()
        if pattern in EVERY:
            return set(self._catalog.indices), set(self._catalog.patterns)
        if self._catalog.by_pattern(pattern):  # a source's own pattern, to the letter, means that source alone
            return set(), {pattern}
        glob = Glob.of(pattern)
        found: tuple[set[str], set[str]] = set(), set()
        for of, into in ((self._catalog.indices, found[0]), (self._catalog.patterns, found[1])):
            for name in of:
                if glob.matches(name):
                    into.add(name)
                yield
        return found

    def _add_pattern(self, pattern: str, out: _Matched) -> None:
        for job in self._catalog.by_pattern(pattern):
            out.whole.setdefault(job.source, job)

    def _add_part(self, name: str, out: _Matched) -> Work[None]:
        """Add a name that is neither a rollup index nor a source, as a part of the sources that it matches."""
        found = yield from self._catalog.by_part(name)
        if found:
            out.parts[name] = found[: MOST_SOURCES + 1]
        elif not self._options.ignore_unavailable:
            raise NoSuchIndex(name)

    def _remove(self, pattern: str, rollups: Iterable[str], patterns: Iterable[str], out: _Matched) -> Work[None]:
        for index in rollups:
            for job in self._catalog.by_index(index):
                out.rolled.pop((*job.key, job.name), None)
            yield
        for of in patterns:
            for job in self._catalog.by_pattern(of):
                out.whole.pop(job.source, None)
            yield
        out.parts.pop(pattern, None)


def check_names(names: Sequence[str]) -> None:
    """Raise SearchRefused where to find out what the names mean would take long."""
    if len(names) > MOST_NAMES:
        raise SearchRefused(f"[index] has [{len(names)}] names, more than the limit of [{MOST_NAMES}]")
    if (longest := max(map(len, names), default=0)) > LONGEST_NAME:
        raise SearchRefused(f"[index] has a name of [{longest}] characters, more than the limit of [{LONGEST_NAME}]")
    steps = sum(Glob.of(name).steps for name in names if "*" in name or name in EVERY)
    if steps > MOST_STEPS:
        raise SearchRefused(
            f"[index] has wildcards of [{steps}] parts, more than the limit of [{MOST_STEPS}]: give fewer names, or "
            "names with fewer wildcards"
        )


def _of_search(found: _Matched, by_source: Mapping[tuple[str, str], Sequence[SearchedJob]]) -> list[Logical]:
    """A rollup index means the whole source of each job in it."""
    if found.parts:
        name, (job, *_) = next(iter(found.parts.items()))
        raise SearchRefused(
            f"Index [{name}] is a part of the source [{job.index_pattern}] of job [{job.job_id}]: what is rolled up "
            "does not say which index it comes from. "
            f"Search [{job.index_pattern}], or the rollup index [{job.rollup_index}]"
        )
    sources = {job.source: job for job in found.rolled.values()} | found.whole
    return [
        Logical(
            store,
            pattern,
            _sorted(jobs := by_source[store, pattern]),
            pattern if any(job.has_rows for job in jobs) else None,
            like,
        )
        for (store, pattern), like in sorted(sources.items())
    ]


def _of_rollup_search(found: _Matched) -> list[Logical]:
    """A rollup index means its documents, any other name live rows."""
    rolled: dict[tuple[str, str], list[SearchedJob]] = {}
    for job in _sorted(found.rolled.values()):
        rolled.setdefault(job.source, []).append(job)
    out = {source: Logical(*source, tuple(jobs), None, jobs[0]) for source, jobs in rolled.items()}
    for name, (job, *_) in found.parts.items():
        of = out.setdefault(job.source, Logical(*job.source, (), None, job))
        out[job.source] = replace(of, live=name if of.live is None else f"{of.live},{name}")
    for source, job in found.whole.items():
        of = out.setdefault(source, Logical(*source, (), None, job))
        out[source] = replace(of, live=job.index_pattern)
    return [of for _, of in sorted(out.items())]


def _sorted(jobs: Iterable[SearchedJob]) -> tuple[SearchedJob, ...]:
    return tuple(sorted(jobs, key=lambda job: job.key))


def _must_be_apart(logical: Sequence[Logical]) -> Work[None]:
    """Raise SearchRefused where a row could be of two of the sources: it would count twice."""
    read = [(of, Glob.of(part)) for of in logical if of.live is not None for part in of.live.split(",")]
    if len(logical) > 1 and len(read) > MOST_PARTS:
        raise SearchRefused(
            f"[index] means sources of [{len(read)}] names together, more than the limit of [{MOST_PARTS}] for one "
            "search; name fewer"
        )
    for i, (one, left) in enumerate(read):
        for other, right in read[i + 1 :]:
            if one is not other and one.store == other.store and _may_meet(left, right):
                raise SearchRefused(
                    f"[{one.index_pattern}] and [{other.index_pattern}] may hold the same documents, which would count "
                    f"twice: search the source of one job at a time, such as [{one.like.rollup_index}]"
                )
        yield


def _finds(pattern: str, name: str) -> bool:
    """Whether a store finds the name by the pattern that it matches: a caller may read no more than the job does.

    A star stands for characters within one name: of a folder, a file, an index. It leads to no hidden one, to no other
    cluster, and from tables to no files; and what is not a name alone, but a word of a cluster's syntax, is not found.
    """
    if "*" not in pattern:
        return True
    if any(name.count(mark) != pattern.count(mark) for mark in _SYNTAX) or _ending(name) != _ending(pattern):
        return False
    pairs = zip(pattern.split("/"), name.split("/"), strict=True)
    return all(Glob.of(step).matches(part) and not (step[:1] == "*" and part[:1] in _HIDING) for step, part in pairs)


def _ending(name: str) -> str:
    return next((end for end in _FILES if name.lower().endswith(end)), "")


def _may_meet(a: Glob, b: Glob) -> bool:
    """Whether a name may match both patterns: what they begin with agrees, and what they end with."""
    if a.last is None:
        return b.matches(a.first)
    if b.last is None:
        return a.matches(b.first)
    return (a.first.startswith(b.first) or b.first.startswith(a.first)) and (
        a.last.endswith(b.last) or b.last.endswith(a.last)
    )
