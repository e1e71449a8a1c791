"""Names of time zones: Java's short names, and names that the IANA has replaced."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

SHORT: Mapping[str, str] = {
    "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney",
    "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo",
    "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare",
    "CNT": "America/St_Johns",
    "CST": "America/Chicago",
    "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris",
    "EST": "-05:00",
    "HST": "-10:00",
    "IET": "America/Indiana/Indianapolis",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "MIT": "Pacific/Apia",
    "MST": "-07:00",
    "NET": "Asia/Yerevan",
    "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi",
    "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico",
    "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh",
}
"""The meaning of Java's short ids. Elasticsearch accepts them, and shows the zone."""

_LASTING = ("UTC", "GMT", "Etc/")


def renamed(zone: str) -> str | None:
    """Return the current name of a zone whose name the IANA keeps only for old programs; None: the name is current."""
    return None if zone.startswith(_LASTING) else _old_names().get(zone)


@cache
def _old_names() -> Mapping[str, str]:
    """Read the links whose names no country uses."""
    data = resources.files("tzdata") / "zoneinfo"
    links = [line.split() for line in (data / "tzdata.zi").read_text().splitlines() if line.startswith("L ")]
    used = {line.split("\t")[2] for line in (data / "zone.tab").read_text().splitlines() if not line.startswith("#")}
    return {name: target for _, target, name in links if name not in used}
