"""Random bodies of searches that any node takes, each made out of one number."""

from collections.abc import Collection
from typing import Any

from rollup_operator.query.errors import SearchRefused
from rollup_operator.query.reading.request import parse_request
from support.random_conditions import Conditions
from support.random_worlds import FIELDS, KINDS, TIME, ZONES, Chance, World
from support.rounding import DAY, HOUR, MINUTE
from support.search_places import FRACTIONS, NO_VALUE_LAST, ONE_OFFSET

Body = dict[str, Any]

_MOVING = (
    *(f"{name}(values)" for name in ("max", "min", "sum", "unweightedAvg", "linearWeightedAvg")),
    "ewma(values, 0.5)",
    "holt(values, 0.5, 0.25)",
)
_SCRIPTS = (
    "params.a / params.n",
    "params.a * 2 - params.n",
    "(params.a + 1.5) * -3",
    "params.n > 2 ? params.a : 0",
    "Math.max(params.a, params.n)",
    {"source": "params.a * params.f", "params": {"f": 0.25}},
)
_STEPS = {"30m": 30 * MINUTE, "3600000ms": HOUR, "1h": HOUR, "hour": HOUR} | {f"{n}h": n * HOUR for n in (2, 3, 6, 12)}
"""Steps of time below a day."""
_WIDTHS = {"code": 8, "size": 110, "distance": 800}
"""How far apart the values of a field may be, and the bounds beside them."""

MOST_BUCKETS = 1_000
"""Of most requests: what more of them would show costs more than another request."""

_CHOICES = ("params.n > 1", "params.a > 0 && params.n >= 1", "params.a < params.n || params.n == 2", "!(params.a > 10)")


class Requests:
    """Makes requests up that suit the jobs of a world, most of the time."""

    def __init__(self, chance: Chance, of: World, lacks: Collection[str] = (), deepest: int = 3) -> None:
        """`lacks`: kinds of aggregations that the node does not know. `deepest`: how many levels of buckets."""
        self.chance = self._chance = chance
        self._conditions, self._lacks, self._deepest = Conditions(chance, of), lacks, deepest
        self._days = of.days + 2
        self._job = of.jobs[0]
        groups = self._job["groups"]
        self._keys: list[str] = groups.get("terms", {}).get("fields", [])
        self._widths: list[str] = groups.get("histogram", {}).get("fields", [])
        self._width: int = groups.get("histogram", {}).get("interval", 10)
        self._metrics = {m["field"]: m["metrics"] for m in self._job["metrics"]}

    def one(self) -> Body:
        """Make one up."""
        if self._chance.often(0.02):
            return self._unanswerable()
        body: Body = {"size": 0, "aggs": self._tree(0)}
        while self._breadth(body["aggs"]) > MOST_BUCKETS and not self._chance.often(0.02):
            body["aggs"] = self._tree(0)
        if ONE_OFFSET in self._lacks:
            _drop_offsets(body["aggs"])
        if self._chance.often(0.7):
            body["query"] = self._conditions.query()
        if self._chance.often(0.5):
            body["track_total_hits"] = self._chance.choice([True, False, 5, 1000])
        if not body["aggs"]:
            del body["aggs"]
            body.setdefault("track_total_hits", True)
        return body

    def one_of_rollup_search(self) -> Body:
        """Make one up of what Elasticsearch's `_rollup_search` takes."""
        while True:
            body = self.one()
            try:
                parse_request(body, "rollup_search")
            except SearchRefused:
                continue
            return body

    def _unanswerable(self) -> Body:
        """Return what a node answers and summaries cannot."""
        field = self._chance.choice(list(FIELDS))
        if self._chance.often(0.3):
            return {"size": 3, "query": self._conditions.query()}
        kind = self._chance.choice(["percentiles", "cardinality", "extended_stats", "top_hits", "missing"])
        wanted = {"size": 1} if kind == "top_hits" else {"field": "delay" if kind != "missing" else field}
        return {"size": 0, "aggs": {"a": {kind: wanted}, **self._tree(0)}}

    def _breadth(self, aggs: Body) -> int:
        """Return about how many buckets there may be."""
        return sum(self._buckets_of(a) * (1 + self._breadth(a.get("aggs", {}))) for a in aggs.values())

    def _buckets_of(self, a: Body) -> int:
        kind, body = next((name, body) for name, body in a.items() if name not in ("aggs", "meta"))
        match kind:
            case "date_histogram":
                step = body.get("fixed_interval") or body.get("interval") or body.get("calendar_interval")
                return int(self._days * DAY // _STEPS.get(step, DAY)) + 1
            case "histogram":
                return int(_WIDTHS[body["field"]] // body["interval"]) + 1
            case "terms":
                return min(int(body.get("size", 10)), 6)
            case "filters" | "filter":
                return 3 if kind == "filters" else 1
            case "range" | "date_range":
                return len(body["ranges"])
        return 0

    # -- aggregations ------------------------------------------------------------------------------------------------

    def _tree(self, depth: int) -> Body:
        chance = self._chance
        found: Body = {}
        names = iter(chance.sample("0123456789abcdefgh", 12))
        for kind, metric in self._some_metrics(depth):
            found[next(names)] = {kind: metric}
        if depth < self._deepest:
            for _ in range(chance.choice([0, 0, 1, 1, 2] if depth else [1, 1, 1, 2, 0])):
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
            if chance.often(0.08):
                body["missing"] = chance.choice([2, -7.5])
            found.append((chance.choice(able), body))
        if chance.often(0.05):
            kind, field = chance.choice(
                [("value_count", TIME), *([("min", "code"), ("max", "code")] * ("code" in self._keys))]
            )
            found.append((kind, {"field": field}))
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
            low, high = sorted([self._conditions.moment(), self._conditions.moment()])
            formats = (None, "epoch_millis", "strict_date_optional_time", "epoch_second")
            # Seconds in a text are moved by the zone on OpenSearch and Elasticsearch 7, and not on later ones.
            moved = body.get("format") == "epoch_second" and "time_zone" in body
            if body.get("format") in formats and not moved:
                which = chance.choice(["extended_bounds", "extended_bounds", "hard_bounds"])
                ends: list[int | str] = [low, high]
                if body.get("format") == "epoch_second":  # a number is of milliseconds in any format, a text is not
                    ends = [str(low // 1000), str(high // 1000)]
                body[which] = dict(zip(("min", "max"), ends, strict=True))
        if chance.often(0.08):
            body["keyed"] = True
        # Elasticsearch 8 and later take a number for what it says in any zone, and other nodes do not.
        if chance.often(0.08) and body.get("format") == "epoch_millis" and "time_zone" not in body:
            body["missing"] = self._conditions.moment()
        if chance.often(0.1):
            body["order"] = self._order(subs)
        return body

    def _order(self, subs: Body) -> Any:
        chance = self._chance
        paths = ["_count", "_key", *self._sortable(subs)]
        if NO_VALUE_LAST in self._lacks:
            paths = [p for p in paths if not p.endswith(".avg") and "avg" not in subs.get(p, ())]
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
        body: Body = {"filters": {n: self._conditions.clause(1) for n in names}}
        if chance.often(0.3):
            body = {"filters": [self._conditions.clause(1) for _ in names]}
        if chance.often(0.3):
            body |= chance.choice([{"other_bucket": True}, {"other_bucket_key": "rest"}])
        return body

    def _filter(self, subs: Body) -> Body:
        return self._conditions.clause(1)

    def _range(self, subs: Body) -> Body:
        chance, ranges = self._chance, []
        for _ in range(chance.randint(1, 3)):
            part = 0 if FRACTIONS in self._lacks else 0.5
            low, high = sorted(chance.choice([-1, 0, 1, 2, 2 + part, 4]) for _ in range(2))
            ends = chance.some([("from", low), ("to", high)], 1)
            ranges.append({**dict(ends), **({"key": chance.choice("pq")} if chance.often(0.2) else {})})
        body: Body = {"field": "code", "ranges": ranges}
        if chance.often(0.2):
            body["missing"] = 1
        return body

    def _date_range(self, subs: Body) -> Body:
        chance, ranges = self._chance, []
        for _ in range(chance.randint(1, 3)):
            low, high = sorted([self._conditions.moment() // DAY * DAY, self._conditions.moment() // DAY * DAY])
            ranges.append(dict(chance.some([("from", low), ("to", high)], 1)))
        return {"field": TIME, "ranges": ranges, "format": "epoch_millis"}

    # -- pipelines ---------------------------------------------------------------------------------------------------

    def _paths(self, subs: Body) -> list[str]:
        filters = {name for name, body in subs.items() if "filter" in body}
        return ["_count", *(p for p in self._sortable(subs) if p.partition(".")[0] not in filters)]

    def _over(self, subs: Body) -> None:
        chance, path = self._chance, self._chance.choice(self._paths(subs))
        kind = chance.choice(["derivative", "cumulative_sum", "serial_diff", "moving_fn"])
        body: Body = {"buckets_path": path}
        if kind == "derivative" and chance.often(0.3):
            body["unit"] = chance.choice(["1h", "day", "1M", "90m"])
        if kind == "serial_diff":
            body["lag"] = chance.randint(1, 3)
        if kind == "moving_fn":
            body |= {"window": chance.randint(1, 4), "script": f"MovingFunctions.{chance.choice(_MOVING)}"}
            if chance.often(0.2):
                body["shift"] = chance.choice([1, -1, 2])
        if kind != "cumulative_sum" and chance.often(0.3):
            body["gap_policy"] = chance.choice(["skip", "insert_zeros"])
        if chance.often(0.1):
            body["format"] = "0.0"
        self._put(subs, "P", kind, body)

    def _put(self, subs: Body, name: str, kind: str, body: Body) -> None:
        if kind not in self._lacks:
            subs[name] = {kind: body}

    def _within(self, subs: Body) -> None:
        chance, path = self._chance, self._chance.choice(self._paths(subs))
        match chance.randrange(5):
            case 0:
                sort = [{path: {"order": chance.choice(["asc", "desc"])}}, {"_key": {"order": "asc"}}]
                body: Body = {"sort": sort, "size": chance.randint(1, 4), "from": chance.randint(0, 1)}
                self._put(subs, "S", "bucket_sort", body)
            case 1:
                self._put(subs, "S", "bucket_sort", {"from": chance.randint(0, 2), "size": 3})
            case 2 | 3:
                body = {"buckets_path": {"a": path, "n": "_count"}, "script": chance.choice(_SCRIPTS)}
                if chance.often(0.3):
                    body["gap_policy"] = chance.choice(["skip", "insert_zeros"])
                self._put(subs, "S", "bucket_script", body)
            case _:
                body = {"buckets_path": {"a": path, "n": "_count"}, "script": chance.choice(_CHOICES)}
                if chance.often(0.3):
                    body["gap_policy"] = chance.choice(["skip", "insert_zeros"])
                self._put(subs, "S", "bucket_selector", body)

    def _beside(self, found: Body, name: str, of: str) -> None:
        chance = self._chance
        kind = next(iter(found[of]))
        if kind not in ("date_histogram", "histogram", "terms", "filters"):
            return
        path = chance.choice(self._paths(found[of].get("aggs", {})))
        beside = chance.choice(["avg_bucket", "max_bucket", "min_bucket", "sum_bucket", "stats_bucket"])
        self._put(found, name, beside, {"buckets_path": f"{of}>{path}"})


def _drop_offsets(aggs: Body, in_a_gap: bool = False) -> None:
    """Leave out what a node without ONE_OFFSET answers wrong."""
    for a in aggs.values():
        if in_a_gap and "extended_bounds" in a.get("date_histogram", ()):
            a["date_histogram"].pop("offset", None)
        fills = any(a[kind].get("min_doc_count", 0) == 0 for kind in ("date_histogram", "histogram") if kind in a)
        _drop_offsets(a.get("aggs", {}), in_a_gap or fills)
