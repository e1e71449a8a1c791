"""Random conditions of searches that any node takes."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from support.random_worlds import CARRIERS, FIELDS, ORIGINS, TIME, ZONES, Chance, World
from support.rounding import DAY, HOUR

Body = dict[str, Any]


class Conditions:
    """Makes conditions up that suit the first job of a world, most of the time."""

    def __init__(self, chance: Chance, of: World) -> None:
        self._chance, self._world = chance, of
        groups = of.jobs[0]["groups"]
        self._keys: list[str] = groups.get("terms", {}).get("fields", [])
        self._widths: list[str] = groups.get("histogram", {}).get("fields", [])
        self._width: int = groups.get("histogram", {}).get("interval", 10)

    def query(self) -> Body:
        """Make up what stands in `query`."""
        kind = self._chance.choice(["time", "grafana", "grafana", "any", "both"])
        match kind:
            case "time":
                return self._time_range()
            case "grafana":
                text = self._query_string()
                return {"bool": {"filter": [self._time_range(), text]}} if self._chance.often(0.7) else text
            case "any":
                return self.clause(0)
            case _:
                return {"bool": {"must": [self.clause(0)], "filter": self._time_range()}}

    def moment(self) -> int:
        """Make up a time in or near that of the rows."""
        chance = self._chance
        step = chance.choice([DAY, DAY, HOUR, 1])
        at = self._world.begin + chance.randrange(-DAY, (self._world.days + 1) * DAY)
        return at // step * step

    def _time_range(self) -> Body:
        chance = self._chance
        low, high = sorted([self.moment(), self.moment()])
        write, more = chance.choice([(self._number, {"format": "epoch_millis"})] * 3 + self._writings())
        ends: Body = {}
        if chance.often(0.9):
            ends[chance.choice(["gte", "gte", "gt"])] = write(low)
        if chance.often(0.9):
            ends[chance.choice(["lt", "lte", "lte"])] = write(high)
        return {"range": {TIME: {**ends, **more}}}

    def _writings(self) -> list[tuple[Callable[[int], Any], Body]]:
        """Return ways to write times, each with what else a range must say then."""
        zone = {"time_zone": self._chance.choice(ZONES)} if self._chance.often(0.5) else {}
        return [
            (self._iso, zone),
            (self._math, zone),
            (self._math_of_now, zone),
            (lambda t: t // 1000, {"format": "epoch_second"}),
            (lambda t: self._at(t).strftime("%Y-%m-%d %H:%M"), {"format": "yyyy-MM-dd HH:mm", **zone}),
            (lambda t: self._at(t).strftime("%d/%m/%Y"), {"format": "dd/MM/yyyy||epoch_millis", **zone}),
        ]

    @staticmethod
    def _number(t: int) -> int:
        return t

    @staticmethod
    def _at(t: int) -> datetime:
        return datetime.fromtimestamp(t // 1000, UTC)

    def _iso(self, t: int) -> str:
        at, chance = self._at(t), self._chance
        text = at.strftime(chance.choice(["%Y-%m-%d", "%Y-%m-%d", "%Y-%m", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M:%S"]))
        return text + chance.choice(["", "", "Z", "+02:00"]) if "T" in text and ":" in text else text

    def _math(self, t: int) -> str:
        chance = self._chance
        steps = [chance.choice(["/d", "/h", "/w", "/M", "+1d", "-1d", "+1M", "-6h", "+90m"]) for _ in range(2)]
        return f"{self._at(t):%Y-%m-%dT%H:%M:%S}||{''.join(chance.some(steps, 1))}"

    def _math_of_now(self, t: int) -> str:
        """Return a time that is computed of now: months ago, since both sides do not look at the clock at once."""
        now, at = datetime.now(UTC), self._at(t)
        months = (now.year - at.year) * 12 + now.month - at.month
        days = self._chance.randint(0, 31)
        return f"now-{months}M/M" + (f"+{days}d" if days else "")

    def clause(self, depth: int) -> Body:
        """Make up a condition that stands in so many others."""
        chance = self._chance
        if depth < 3 and chance.often(0.45):
            inner = lambda least, most: [self.clause(depth + 1) for _ in range(chance.randint(least, most))]  # noqa: E731
            match chance.randrange(8):
                case 0:
                    return {"constant_score": {"filter": self.clause(depth + 1), "boost": 2}}
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
                # OpenSearch finds no empty text where it ignores the case.
                more = {"case_insensitive": True} if not number and value != "" and chance.often(0.2) else {}
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
        if chance.often(0.05):
            a, b = (self._at(t).strftime("%Y-%m-%d") for t in sorted([self.moment(), self.moment()]))
            return chance.choice([f"{TIME}:[{a} TO {b}]", f"{TIME}:{{{a} TO {b}}}", f"{TIME}:>={a}", f"{TIME}:<{b}"])
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
