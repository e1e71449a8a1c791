"""Random rows, jobs that roll them up, and bodies of searches that any node takes, each made out of one number."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollup_operator.query.aggregations import Aggregation, DateHistogramAggregation
from rollup_operator.query.planning.planner import SearchPlan
from rollup_operator.rollup.bounds import Bounds
from support.rounding import DAY, HOUR, MINUTE, ms

Body = dict[str, Any]
Row = dict[str, Any]

TIME = "ts"
FIELDS = {
    TIME: "date",
    "carrier": "keyword",
    "origin": "keyword",
    "code": "long",
    "size": "long",
    "distance": "double",
    "delay": "double",
    "price": "double",
}
CARRIERS = ("AA", "B6", "DL", "UA", "aa")
ORIGINS = ("JFK", "New York", "a*c", "", "x:y")
BEGINS = ("2024-03-29T00:00", "2024-10-25T00:00", "2023-12-30T12:00")
"""Two days before the clocks of Berlin change, twice, and a turn of a year."""
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "+02:00")
KINDS = ("min", "max", "sum", "avg", "value_count")
PHASES = ("before", "part", "stopped", "during", "after", "deleted")


@dataclass(frozen=True)
class World:
    """Rows of a source, and jobs."""

    begin: int
    days: int
    rows: Sequence[Row]
    jobs: Sequence[Mapping[str, Any]]
    """Changes for `spec`."""
    phases: Sequence[str]
    """One for each job."""
    middle: int
    """Up to where a job has rolled up that is in the phase `part`."""


class Chance(random.Random):
    """Chance, with words for it."""

    def often(self, share: float) -> bool:
        return self.random() < share

    def some(self, of: Sequence[Any], least: int = 0, most: int | None = None) -> list[Any]:
        return self.sample(list(of), self.randint(least, min(len(of), most or len(of))))


def world(chance: Chance) -> World:
    """Make one up."""
    begin, days = ms(chance.choice(BEGINS)), chance.randint(1, 6)
    jobs = [_job(chance) for _ in range(chance.choice([1, 1, 2]))]
    middle = begin + chance.randrange(days * DAY)
    rows = [_row(chance, begin, days) for _ in range(chance.choice([0, 5, 40, 200, 400]))]
    return World(begin, days, rows, jobs, [chance.choice(PHASES) for _ in jobs], middle)


def _row(chance: Chance, begin: int, days: int) -> Row:
    step = chance.choice([1, MINUTE, HOUR, HOUR])
    made: dict[str, Callable[[], Any]] = {
        TIME: lambda: begin + chance.randrange(days * DAY) // step * step,
        "carrier": lambda: chance.choice(CARRIERS),
        "origin": lambda: chance.choice(ORIGINS),
        "code": lambda: chance.randint(-1, 3),
        "size": lambda: chance.randint(-30, 60),
        "distance": lambda: chance.randint(-10, 20) * 25.0,
        # Halves and quarters add up without an error, in any order.
        "delay": lambda: chance.randint(-200, 400) / 4,
        "price": lambda: chance.randint(-20, 20) / 2,
    }
    gap = {TIME: 0.05}
    return {name: make() for name, make in made.items() if not chance.often(gap.get(name, 0.12))}


def _job(chance: Chance) -> dict[str, Any]:
    interval: dict[str, Any]
    if chance.often(0.75):
        interval = {"fixedInterval": chance.choice(["30m", "1h", "1h", "1h", "2h", "6h", "1d"])}
    else:
        interval = {"calendarInterval": chance.choice(["1h", "1d", "1w", "1M"])}
    zone = chance.choice(ZONES) if chance.often(0.4) else "UTC"
    groups: dict[str, Any] = {"dateHistogram": {"field": TIME, "timeZone": zone, **interval}}
    if terms := chance.some(["carrier", "origin", "code"], 0 if chance.often(0.2) else 2):
        groups["terms"] = {"fields": terms}
    if chance.often(0.7):
        groups["histogram"] = {"fields": chance.some(["size", "distance"], 1), "interval": chance.choice([10, 50])}
    metrics = [
        {"field": f, "metrics": list(KINDS) if chance.often(0.7) else chance.some(KINDS, 1)}
        for f in ("delay", "price")
        if chance.often(0.9)
    ]
    return {"groups": groups, "metrics": metrics, "pageSize": chance.choice([3, 10, 1000])}


class Requests:
    """Makes requests up that suit the jobs of a world, most of the time."""

    def __init__(self, chance: Chance, of: World) -> None:
        self._chance, self._world = chance, of
        self._job = of.jobs[0]
        groups = self._job["groups"]
        self._keys: list[str] = groups.get("terms", {}).get("fields", [])
        self._widths: list[str] = groups.get("histogram", {}).get("fields", [])
        self._width: int = groups.get("histogram", {}).get("interval", 10)
        self._metrics = {m["field"]: m["metrics"] for m in self._job["metrics"]}

    def one(self) -> Body:
        """Make one up."""
        body: Body = {"size": 0, "aggs": self._tree(0)}
        if self._chance.often(0.7):
            body["query"] = self._query()
        if self._chance.often(0.5):
            body["track_total_hits"] = self._chance.choice([True, False, 5, 1000])
        if not body["aggs"]:
            del body["aggs"]
            body.setdefault("track_total_hits", True)
        return body

    # -- conditions --------------------------------------------------------------------------------------------------

    def _query(self) -> Body:
        kind = self._chance.choice(["time", "grafana", "grafana", "any", "both"])
        match kind:
            case "time":
                return self._time_range()
            case "grafana":
                text = self._query_string()
                return {"bool": {"filter": [self._time_range(), text]}} if self._chance.often(0.7) else text
            case "any":
                return self._clause(0)
            case _:
                return {"bool": {"must": [self._clause(0)], "filter": self._time_range()}}

    def moment(self) -> int:
        chance = self._chance
        step = chance.choice([DAY, DAY, HOUR, 1])
        at = self._world.begin + chance.randrange(-DAY, (self._world.days + 1) * DAY)
        return at // step * step

    def _time_range(self) -> Body:
        chance = self._chance
        low, high = sorted([self.moment(), self.moment()])
        ends: Body = {}
        if chance.often(0.9):
            ends[chance.choice(["gte", "gte", "gt"])] = low
        if chance.often(0.9):
            ends[chance.choice(["lt", "lte", "lte"])] = high
        return {"range": {TIME: {**ends, "format": "epoch_millis"}}}

    def _clause(self, depth: int) -> Body:
        chance = self._chance
        if depth < 3 and chance.often(0.45):
            inner = lambda least, most: [self._clause(depth + 1) for _ in range(chance.randint(least, most))]  # noqa: E731
            match chance.randrange(8):
                case 0:
                    return {"constant_score": {"filter": self._clause(depth + 1), "boost": 2}}
                case 1:
                    return {"dis_max": {"queries": inner(1, 3)}}
                case 2:
                    return {"bool": {"must_not": inner(1, 2)}}
                case 3:
                    return {"bool": {"should": inner(1, 3)}}
                case 4:
                    least = chance.choice([0, 1, 2, -1, "50%", "2"])
                    return {"bool": {"should": inner(1, 4), "minimum_should_match": least}}
                case 5:
                    return {"bool": {"must": inner(1, 2), "should": inner(1, 2)}}
                case _:
                    return {"bool": {"filter": inner(0, 2), "must_not": inner(0, 2), "should": inner(0, 2)}}
        return self._leaf()

    def _leaf(self) -> Body:
        chance = self._chance
        kind = chance.choice(["all", "time", "exists", "terms", "terms", "terms", "width", "string"])
        if kind == "all":
            return {"match_all": {}}
        if kind == "time":
            return self._time_range()
        if kind == "string":
            return self._query_string()
        if kind == "exists":
            return {"exists": {"field": chance.choice([*self._keys, *self._widths, TIME])}}
        if kind == "width" and self._widths:
            low, high = sorted(chance.randint(-4, 8) * self._width for _ in range(2))
            return {"range": {chance.choice(self._widths): {"gte": low, "lt": high}}}
        if not self._keys or chance.often(0.02):
            return {"term": {chance.choice(list(FIELDS)): 1}} if chance.often(0.2) else {"match_all": {}}
        field = chance.choice(self._keys)
        return self._of_term(field)

    def _value(self, field: str) -> Any:
        chance = self._chance
        if field == "code":
            return chance.choice([-1, 0, 1, 2, 3, 4, "1", 1.0])
        return chance.choice([*(CARRIERS if field == "carrier" else ORIGINS), "nobody"])

    def _of_term(self, field: str) -> Body:
        chance, value = self._chance, self._value(field)
        number = FIELDS[field] == "long"
        match chance.choice(
            ["term", "terms", "range", "match", "match_phrase"] + ([] if number else ["prefix", "wildcard"])
        ):
            case "term":
                more = {"case_insensitive": True} if not number and chance.often(0.2) else {}
                return {"term": {field: {"value": value, **more} if chance.often(0.5) or more else value}}
            case "terms":
                return {"terms": {field: [self._value(field) for _ in range(chance.randint(0, 3))]}}
            case "range":
                pair = [self._value(field), self._value(field)]
                if number:
                    pair = [v if isinstance(v, str) else chance.choice([v, v + 0.5]) for v in pair]
                ends = {chance.choice(["gt", "gte"]): pair[0], chance.choice(["lt", "lte"]): pair[1]}
                return {"range": {field: dict(chance.some(list(ends.items()), 1))}}
            case "match":
                return {"match": {field: value if chance.often(0.5) else {"query": value, "operator": "and"}}}
            case "match_phrase":
                return {"match_phrase": {field: value}}
            case "prefix":
                more = {"case_insensitive": True} if chance.often(0.3) else {}
                return {"prefix": {field: {"value": str(value)[:1], **more}}}
            case _:
                pattern = chance.choice(["*", "?A", "A*", "*a*", "??", "*6", "New*", "a\\**", ""])
                more = {"case_insensitive": True} if chance.often(0.3) else {}
                return {"wildcard": {field: {"value": pattern, **more}}}

    def _query_string(self) -> Body:
        chance = self._chance
        body: Body = {"query": self._words(0), "analyze_wildcard": True}
        if chance.often(0.1):
            body["default_operator"] = chance.choice(["AND", "OR"])
        return {"query_string": body}

    def _words(self, depth: int) -> str:
        chance = self._chance
        if depth < 2 and chance.often(0.5):
            parts = [self._words(depth + 1) for _ in range(chance.randint(1, 3))]
            parts = [chance.choice(["", "", "NOT ", "-", "+", "!"]) + p for p in parts]
            text = chance.choice([" ", " AND ", " OR ", " && ", " || "]).join(parts)
            return f"({text})" if depth or chance.often(0.3) else text
        return self._word()

    def _word(self) -> str:
        chance = self._chance
        if not self._keys:
            return "*"
        field = chance.choice(self._keys)
        if chance.often(0.1):
            return chance.choice(["*", f"_exists_:{field}", f"{field}:*", "*:*"])
        if field == "code":
            a, b = sorted(chance.randint(-1, 4) for _ in range(2))
            return chance.choice([
                f"code:{abs(a)}", f"code:[{a} TO {b}]", f"code:{{{a} TO {b}]", f"code:>={a}", f"code:<{b}",
                f"code:({abs(a)} OR {abs(b)})", f"code:[{a} TO *]", f'code:"{a}"',
            ])  # fmt: skip
        value = self._value(field)
        if value in ("", "x:y", "New York", "a*c"):
            return f'{field}:"{value}"'
        return chance.choice([
            f"{field}:{value}", f'{field}:"{value}"', f"{field}:{value[:1]}*", f"{field}:?{value[1:]}",
            f"{field}:[A TO {value}]", f"{field}:({value} OR B6)", f"{field}:>={value}",
        ])  # fmt: skip

    # -- aggregations ------------------------------------------------------------------------------------------------

    def _tree(self, depth: int) -> Body:
        chance = self._chance
        found: Body = {}
        names = iter(chance.sample("0123456789abcdefgh", 12))
        for kind, metric in self._some_metrics(depth):
            found[next(names)] = {kind: metric}
        if depth < 3:
            for _ in range(chance.choice([0, 1, 1, 2] if depth else [1, 1, 1, 2, 0])):
                found[next(names)] = self._buckets(depth)
        for name in list(found):
            if chance.often(0.12) and depth:
                self._beside(found, next(names), name)
        return found

    def _some_metrics(self, depth: int) -> list[tuple[str, Body]]:
        chance, found = self._chance, []
        for _ in range(chance.choice([0, 1, 1, 2, 3])):
            if not self._metrics:
                break
            field = chance.choice(list(self._metrics))
            kept = set(self._metrics[field])
            able = [k for k in kept if k in ("min", "max")]
            able += ["sum"] if kept & {"sum", "avg"} else []
            able += ["value_count"] if kept & {"value_count", "avg"} else []
            able += ["avg"] if "sum" in able and "value_count" in able else []
            able += ["stats"] if len(able) == 5 else []
            body: Body = {"field": field}
            if chance.often(0.05):
                body["format"] = "0.00"
            if chance.often(0.05):
                body["missing"] = 2
            found.append((chance.choice(able), body))
        return found

    def _buckets(self, depth: int) -> Body:
        chance = self._chance
        kinds = ["date_histogram"] * 4 + ["filters", "filter", "date_range"]
        kinds += ["terms"] * 4 if self._keys else []
        kinds += ["histogram"] * 2 if self._widths else []
        kinds += ["range", "histogram"] if "code" in self._keys else []
        kind = chance.choice(kinds)
        subs = self._tree(depth + 1)
        make = getattr(self, f"_{kind}")
        made: Body = {kind: make(subs)}
        if kind in ("date_histogram", "histogram") and made[kind].get("min_doc_count", 0) == 0 and chance.often(0.4):
            self._over(subs)
        if chance.often(0.15) and kind != "filter":
            self._within(subs)
        if subs:
            made["aggs"] = subs
        if chance.often(0.05):
            made["meta"] = {"a": [1]}
        return made

    def _date_histogram(self, subs: Body) -> Body:
        chance, group = self._chance, self._job["groups"]["dateHistogram"]
        body: Body = {"field": TIME}
        if chance.often(0.65):
            step = chance.choice(["3600000ms", "1h", "2h", "3h", "6h", "12h", "1d", "2d", "86400000ms", "30m"])
            body[
                chance.choice(["fixed_interval"] * 9 + ["interval"]) if not step.startswith("1") else "fixed_interval"
            ] = step
        else:
            body["calendar_interval"] = chance.choice(["1h", "1d", "day", "1w", "1M", "month", "1q", "1y", "hour"])
        if chance.often(0.4):
            body["time_zone"] = chance.choice([group["timeZone"], group["timeZone"], *ZONES])
        if chance.often(0.15):
            body["offset"] = chance.choice(["+1h", "-6h", "1d", "+2h", "-30m"])
        if chance.often(0.5):
            body["format"] = chance.choice(
                ["epoch_millis", "epoch_millis", "yyyy-MM-dd HH:mm", "strict_date_optional_time", "epoch_second"]
            )
        if chance.often(0.7):
            body["min_doc_count"] = chance.choice([0, 0, 0, 1, 2])
        if chance.often(0.4):
            low, high = sorted([self.moment(), self.moment()])
            if body.get("format") in (None, "epoch_millis", "strict_date_optional_time", "epoch_second"):
                which = chance.choice(["extended_bounds", "extended_bounds", "hard_bounds"])
                if body.get("format") == "epoch_second":
                    low, high = low // 1000, high // 1000
                body[which] = {"min": low, "max": high}
        if chance.often(0.08):
            body["keyed"] = True
        if chance.often(0.08):
            missing = self.moment()
            body["missing"] = missing if body.get("format") == "epoch_millis" else None
            if body["missing"] is None:
                del body["missing"]
        if chance.often(0.1):
            body["order"] = self._order(subs)
        return body

    def _order(self, subs: Body) -> Any:
        chance = self._chance
        paths = ["_count", "_key", *self._sortable(subs)]
        orders = [{chance.choice(paths): chance.choice(["asc", "desc"])} for _ in range(chance.choice([1, 1, 2]))]
        return orders if len(orders) > 1 else orders[0]

    @staticmethod
    def _sortable(subs: Body) -> list[str]:
        found = []
        for name, body in subs.items():
            kind = next(iter(body))
            if kind in KINDS:
                found.append(name)
            if kind == "stats":
                found += [f"{name}.avg", f"{name}.max", f"{name}.count"]
            if kind == "filter":
                found += [name, f"{name}.doc_count"]
        return found

    def _histogram(self, subs: Body) -> Body:
        chance = self._chance
        fields = [*self._widths, *(["code"] if "code" in self._keys else [])]
        field = chance.choice(fields)
        unit = self._width if field != "code" else 1
        body: Body = {"field": field, "interval": unit * chance.choice([1, 1, 2, 5])}
        if chance.often(0.2):
            body["offset"] = unit * chance.choice([1, -1, 3])
        if chance.often(0.6):
            body["min_doc_count"] = chance.choice([0, 0, 1, 2])
        if chance.often(0.2):
            low, high = sorted(chance.randint(-9, 9) * unit for _ in range(2))
            body[chance.choice(["extended_bounds", "hard_bounds"])] = {"min": low, "max": high}
        if chance.often(0.2):
            body["missing"] = chance.choice([0, 5 * unit, -7])
        if chance.often(0.1):
            body["keyed"] = True
        if chance.often(0.1):
            body["order"] = self._order(subs)
        return body

    def _terms(self, subs: Body) -> Body:
        chance = self._chance
        field = chance.choice(self._keys)
        body: Body = {"field": field}
        if chance.often(0.6):
            body["size"] = chance.choice([1, 2, 3, 500])
        if chance.often(0.2):
            body["min_doc_count"] = chance.randint(1, 5)
        if chance.often(0.3):
            body["missing"] = chance.choice([9, 1, "7"]) if field == "code" else chance.choice(["none", "AA"])
        if chance.often(0.6):
            body["order"] = self._order(subs)
        if field != "code" and chance.often(0.15):
            body[chance.choice(["include", "exclude"])] = chance.choice(
                ["A.*", [".", "AA"], "[ABN].+|JFK", ["JFK", "B6"]]
            )
        if field == "code" and chance.often(0.1):
            body[chance.choice(["include", "exclude"])] = [1, 2]
        return body

    def _filters(self, subs: Body) -> Body:
        chance = self._chance
        names = chance.some(["x", "b", "*", "origin:JFK"], 1)
        body: Body = {"filters": {n: self._clause(1) for n in names}}
        if chance.often(0.3):
            body = {"filters": [self._clause(1) for _ in names]}
        if chance.often(0.3):
            body |= chance.choice([{"other_bucket": True}, {"other_bucket_key": "rest"}])
        return body

    def _filter(self, subs: Body) -> Body:
        return self._clause(1)

    def _range(self, subs: Body) -> Body:
        chance, ranges = self._chance, []
        for _ in range(chance.randint(1, 3)):
            low, high = sorted(chance.choice([-1, 0, 1, 2, 2.5, 4]) for _ in range(2))
            ends = chance.some([("from", low), ("to", high)], 1)
            ranges.append({**dict(ends), **({"key": chance.choice("pq")} if chance.often(0.2) else {})})
        body: Body = {"field": "code", "ranges": ranges}
        if chance.often(0.2):
            body["missing"] = 1
        return body

    def _date_range(self, subs: Body) -> Body:
        chance, ranges = self._chance, []
        for _ in range(chance.randint(1, 3)):
            low, high = sorted([self.moment() // DAY * DAY, self.moment() // DAY * DAY])
            ranges.append(dict(chance.some([("from", low), ("to", high)], 1)))
        return {"field": TIME, "ranges": ranges, "format": "epoch_millis"}

    # -- pipelines ---------------------------------------------------------------------------------------------------

    def _paths(self, subs: Body) -> list[str]:
        filters = {name for name, body in subs.items() if "filter" in body}
        return ["_count", *(p for p in self._sortable(subs) if p.partition(".")[0] not in filters)]

    def _over(self, subs: Body) -> None:
        chance, path = self._chance, self._chance.choice(self._paths(subs))
        match chance.randrange(4):
            case 0:
                made: Body = {"derivative": {"buckets_path": path}}
                if chance.often(0.3):
                    made["derivative"]["unit"] = "1h"
            case 1:
                made = {"cumulative_sum": {"buckets_path": path}}
            case 2:
                made = {"serial_diff": {"buckets_path": path, "lag": chance.randint(1, 3)}}
            case _:
                function = chance.choice(["max", "min", "sum", "unweightedAvg", "linearWeightedAvg"])
                made = {
                    "moving_fn": {
                        "buckets_path": path,
                        "window": chance.randint(1, 4),
                        "script": f"MovingFunctions.{function}(values)",
                    }
                }
        (kind,) = made
        if kind != "cumulative_sum" and chance.often(0.3):
            made[kind]["gap_policy"] = chance.choice(["skip", "insert_zeros"])
        subs["P"] = made

    def _within(self, subs: Body) -> None:
        chance, path = self._chance, self._chance.choice(self._paths(subs))
        match chance.randrange(2):
            case 0:
                sort = [{path: {"order": chance.choice(["asc", "desc"])}}, {"_key": {"order": "asc"}}]
                subs["S"] = {"bucket_sort": {"sort": sort, "size": chance.randint(1, 4), "from": chance.randint(0, 1)}}
            case _:
                subs["S"] = {"bucket_sort": {"from": chance.randint(0, 2), "size": 3}}

    def _beside(self, found: Body, name: str, of: str) -> None:
        chance = self._chance
        kind = next(iter(found[of]))
        if kind not in ("date_histogram", "histogram", "terms", "filters"):
            return
        path = chance.choice(self._paths(found[of].get("aggs", {})))
        beside = chance.choice(["avg_bucket", "max_bucket", "min_bucket", "sum_bucket", "stats_bucket"])
        found[name] = {beside: {"buckets_path": f"{of}>{path}"}}


# -- what the node is asked instead, and how answers are compared -----------------------------------------------------


def as_answered(body: Body, made: SearchPlan, bounds: Bounds) -> Body | None:
    """Return the body with the intervals that are answered, and with the ends of ranges where a bucket begins.

    `bounds` are those of the job that answers. None: the keys of a date_range are told by such ends.
    """
    found = _whole(body)
    report = made.report or {}
    rounded = {ms(each["time"].rstrip("Z")) for each in report.get("rounded", ())}
    if rounded and not rounded.isdisjoint(_ends_of_ranges(body)):
        return None
    if rounded:
        found = _rounded(found, rounded, bounds)
    if "interval" in report:
        found["aggs"] = _widened(found["aggs"], made.request.aggregations)
    return found


def _ends_of_ranges(node: Any) -> Iterator[int]:
    if isinstance(node, list):
        for each in node:
            yield from _ends_of_ranges(each)
    elif isinstance(node, dict):
        if isinstance(node.get("date_range"), dict):
            yield from (end for part in node["date_range"]["ranges"] for end in part.values())
        for each in node.values():
            yield from _ends_of_ranges(each)


def _whole(node: Any) -> Any:
    """Return it with each shard asked for all terms: it drops those below `min_doc_count` after cutting, otherwise."""
    if isinstance(node, list):
        return [_whole(each) for each in node]
    if not isinstance(node, dict):
        return node
    out = {name: _whole(each) for name, each in node.items()}
    if "order" in out and "min_doc_count" in out and "interval" not in "".join(out):
        out["shard_size"] = 10_000
    return out


def _widened(aggs: Body, of: Sequence[Aggregation]) -> Body:
    out: Body = {}
    for a in of:
        body = dict(aggs[a.name])
        if isinstance(a.kind, DateHistogramAggregation):
            own = {k: v for k, v in body["date_histogram"].items() if "interval" not in k}
            interval = (
                {"fixed_interval": f"{a.kind.fixed_ms}ms"}
                if a.kind.fixed_ms is not None
                else {"calendar_interval": a.kind.calendar_unit}
            )
            body["date_histogram"] = {**own, **interval, "time_zone": a.kind.time_zone}
        if "aggs" in body:
            body["aggs"] = _widened(body["aggs"], a.subs)
        out[a.name] = body
    return out


def _rounded(node: Any, rounded: set[int], bounds: Bounds) -> Any:
    if isinstance(node, list):
        return [_rounded(each, rounded, bounds) for each in node]
    if not isinstance(node, dict):
        return node
    out = {name: _rounded(each, rounded, bounds) for name, each in node.items()}
    if isinstance(ends := out.get("range"), dict) and isinstance(ends.get(TIME), dict):
        out["range"] = {TIME: _ends(ends[TIME], rounded, bounds)}
    return out


def _ends(ends: Body, rounded: set[int], bounds: Bounds) -> Body:
    out: Body = {"format": "epoch_millis"}
    for name, value in ends.items():
        if name in ("gte", "gt"):
            low = value + (name == "gt")
            out["gte"] = bounds.round_down(low) if low in rounded else low
        elif name in ("lt", "lte"):
            high = value + (name == "lte")
            out["lt"] = bounds.next_edge(high) if high in rounded else high
    return out


def differences(ours: Any, theirs: Any, at: str = "") -> list[str]:
    """Return where two answers differ, a line each."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if not theirs.get("meta", True):  # OpenSearch 3 writes an empty one where a filter was asked for
            theirs = {k: v for k, v in theirs.items() if k != "meta"}
        found = [f"{at}.{k}: missing in {'theirs' if k in ours else 'ours'}" for k in ours.keys() ^ theirs.keys()]
        if at.endswith("buckets") and list(ours) != list(theirs) and not found:
            found.append(f"{at}: order {list(ours)} / {list(theirs)}")
        return found + [d for k in ours if k in theirs for d in differences(ours[k], theirs[k], f"{at}.{k}")]
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            heads = [[b.get("key") if isinstance(b, dict) else b for b in x] for x in (ours, theirs)]
            return [f"{at}: {heads[0]} / {heads[1]}"]
        return [d for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) for d in differences(a, b, f"{at}[{i}]")]
    if isinstance(ours, float) or isinstance(theirs, float):
        if isinstance(ours, bool) or isinstance(theirs, bool) or ours is None or theirs is None:
            return [f"{at}: {ours!r} / {theirs!r}"]
        same = (
            not isinstance(ours, str)
            and not isinstance(theirs, str)
            and math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-9)
        )
        return [] if same else [f"{at}: {ours!r} / {theirs!r}"]
    return [] if ours == theirs and type(ours) is type(theirs) else [f"{at}: {ours!r} / {theirs!r}"]
