"""Which hosts the operator connects to for users: by name, and by where the name leads."""

import ipaddress
import socket
from typing import Any

import aiohttp
import pytest

from rollup_operator.stores.opensearch.hosts import FilteringResolver, HostNotAllowed, HostRules


def allowed(rules: list[str], url: str, *leads_to: str) -> bool:
    """Whether a URL may be connected to when its name leads to these addresses (none: they are in the URL)."""
    judged = HostRules.read(rules)
    parsed = aiohttp.client.URL(url)
    try:
        judged.check_url(url)
        for address in leads_to:
            judged.check_address(parsed.host or "", ipaddress.ip_address(address), parsed.port or 0)
    except HostNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        ("http://127.0.0.1:9200", ()),
        ("http://127.9.9.9:9200", ()),
        ("http://[::1]:9200", ()),
        ("http://0.0.0.0:9200", ()),
        ("http://[::]:9200", ()),
        ("http://169.254.169.254", ()),
        ("http://[fe80::1]:9200", ()),
        ("http://[::ffff:127.0.0.1]:9200", ()),
        ("http://[::ffff:169.254.169.254]", ()),
        ("http://[64:ff9b::a9fe:a9fe]", ()),
        ("http://[2002:7f00:1::]:9200", ()),
        ("http://[fd00:ec2::254]", ()),
        ("http://100.100.100.200", ()),
        ("http://224.0.0.1:9200", ()),
        ("http://localhost:9200", ("127.0.0.1",)),
        ("http://rebinding.example.org:9200", ("10.0.0.1", "169.254.169.254")),
        ("http://0x7f000001:9200", ("127.0.0.1",)),
        ("http://metadata.google.internal", ("10.0.0.1",)),
        ("http://METADATA.google.internal.", ("10.0.0.1",)),
    ],
)
def test_without_a_list_special_places_are_out_of_reach(url: str, leads_to: tuple[str, ...]):
    assert not allowed([], url, *leads_to)


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        ("https://search.example.org:9200", ("10.1.2.3", "203.0.113.7")),
        ("https://10.1.2.3:9200", ()),
        ("https://opensearch.data.svc", ("172.20.0.9",)),
        ("https://[fd00::5]:9200", ()),
    ],
)
def test_without_a_list_everything_else_is_in_reach(url: str, leads_to: tuple[str, ...]):
    assert allowed([], url, *leads_to)


LIST = ["search.example.org", "*.data.svc", "10.1.0.0/16", "once.example.org:9200", "127.0.0.1", "[fd00::7]:9201"]


@pytest.mark.parametrize(
    ("url", "leads_to", "expected"),
    [
        ("https://search.example.org", ("203.0.113.7",), True),
        ("https://SEARCH.example.org.:9999", ("203.0.113.7",), True),
        ("https://search.example.org", ("127.0.0.1",), True),
        ("https://search.example.org", ("127.0.0.2",), False),
        ("https://search.example.org", ("169.254.169.254",), False),
        ("https://a.search.example.org", ("203.0.113.7",), False),
        ("https://a.data.svc", ("203.0.113.7",), True),
        ("https://a.b.data.svc", ("203.0.113.7",), True),
        ("https://data.svc", ("203.0.113.7",), False),
        ("https://evildata.svc", ("203.0.113.7",), False),
        ("https://any.name", ("10.1.2.3",), True),
        ("https://any.name", ("10.2.2.3",), False),
        ("https://10.1.2.3", (), True),
        ("https://10.2.2.3", (), False),
        ("https://once.example.org:9200", ("203.0.113.7",), True),
        ("https://once.example.org:9201", ("203.0.113.7",), False),
        ("http://localhost:9200", ("127.0.0.1",), True),
        ("http://[fd00::7]:9201", (), True),
        ("http://[fd00::7]:9200", (), False),
    ],
)
def test_a_list_says_what_is_in_reach(url: str, leads_to: tuple[str, ...], expected: bool):
    assert allowed(LIST, url, *leads_to) is expected


def test_a_name_that_a_list_of_names_lacks_is_refused_before_it_is_looked_up():
    with pytest.raises(
        HostNotAllowed, match=r"connect to other.org at port 443: .* store_hosts .*; add other.org there"
    ):
        HostRules.read(["example.org"]).check_url("https://other.org")


@pytest.mark.parametrize("text", ["", "*", "a.*.org", "10.1.0.0/40", "10.1.0.1/16", "1.2.3", "a:b", "a:0", "fd00::zz"])
def test_an_entry_that_cannot_be_read_is_named(text: str):
    with pytest.raises(ValueError, match=repr(text).replace("*", r"\*")):
        HostRules.read(["example.org", text])


@pytest.mark.parametrize(
    "url",
    ["https://", "ftp://example.org", "https://example.org:99999", "https://[::1", "http://2130706433", "http://127.1"],
)
def test_what_is_no_url_is_said_so(url: str):
    with pytest.raises(ValueError, match=r"no URL of a host|Port out of range|Invalid|no address"):
        HostRules().check_url(url)


class Leads:
    """A resolver that says what a test wants."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int, family: Any) -> list[dict[str, Any]]:
        return [
            {"hostname": host, "host": a, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for a in self.addresses
        ]


async def test_the_resolver_lets_only_allowed_addresses_through(monkeypatch: pytest.MonkeyPatch):
    resolver = FilteringResolver(HostRules())
    monkeypatch.setattr(resolver, "_resolver", Leads("127.0.0.1", "10.0.0.1"))
    assert [r["host"] for r in await resolver.resolve("a.org", 9200)] == ["10.0.0.1"]
    monkeypatch.setattr(resolver, "_resolver", Leads("127.0.0.1"))
    with pytest.raises(HostNotAllowed, match=r"a\.org, which leads to 127\.0\.0\.1, at port 9200.*add 127\.0\.0\.1"):
        await resolver.resolve("a.org", 9200)


async def test_a_connection_is_refused_by_where_its_name_leads():
    resolver = FilteringResolver(HostRules())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError) as error:
            await session.get("http://localhost:1")
    assert isinstance(error.value.os_error, HostNotAllowed)
