"""Which hosts the operator connects to for users: by name, and by where the name leads."""

import asyncio
import ipaddress
import socket
import threading

import aiohttp
import pytest

from rollup_operator.stores.host_rules import HostNotAllowed, HostRules
from rollup_operator.stores.opensearch.transport.resolver import FilteringResolver, Found, Lookups


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
    with pytest.raises(ValueError, match=r"not the URL of a host|Port out of range|Invalid|no address"):
        HostRules().check_url(url)


def leading(*addresses: str) -> Lookups:
    """Lookups that say what a test wants."""
    return Lookups(resolve=lambda _, port, **__: [(socket.AF_INET, 0, 0, "", (a, port)) for a in addresses])


async def test_the_resolver_lets_only_allowed_addresses_through():
    resolver = FilteringResolver(HostRules(), leading("127.0.0.1", "10.0.0.1"), "team")
    assert [r["host"] for r in await resolver.resolve("a.org", 9200)] == ["10.0.0.1"]
    resolver = FilteringResolver(HostRules(), leading("127.0.0.1"), "team")
    with pytest.raises(HostNotAllowed, match=r"a\.org, which leads to 127\.0\.0\.1, at port 9200.*add 127\.0\.0\.1"):
        await resolver.resolve("a.org", 9200)


async def test_addresses_of_both_kinds_are_connected_to_as_they_are():
    def look(_: str, port: int, **__: object) -> list[Found]:
        return [
            (socket.AF_INET6, 0, 6, "", ("fd00::1", port, 0, 0)),
            (socket.AF_INET6, 0, 6, "", ("fe80::1", port, 0, 3)),
            (socket.AF_INET, 0, 6, "", ("10.0.0.1", port)),
        ]

    resolver = FilteringResolver(HostRules.read(["fe80::/10", "fd00::/8", "10.0.0.0/8"]), Lookups(resolve=look), "team")
    found = await resolver.resolve("a.org", 9200)
    assert [(r["host"], r["port"]) for r in found] == [("fd00::1", 9200), ("fe80::1%3", 9200), ("10.0.0.1", 9200)]


async def test_slow_names_of_one_hold_up_nobody_else() -> None:
    go = threading.Event()

    def look(host: str, port: int, **_: object) -> list[Found]:
        if host.startswith("slow"):
            go.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, 0, 6, "", ("10.0.0.1", port))]

    lookups, others = Lookups(resolve=look), threading.active_count()
    slow = [
        asyncio.create_task(FilteringResolver(HostRules(), lookups, "hostile").resolve(f"slow{n}", 9200))
        for n in range(100)
    ]
    try:
        await asyncio.sleep(0.05)
        taken = threading.active_count() - others
        async with asyncio.timeout(20):
            assert await FilteringResolver(HostRules(), lookups, "team").resolve("quick", 9200)
            await asyncio.to_thread(str)  # nor does it take threads from others
        assert taken < 30
    finally:
        go.set()
        ended = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(e, OSError) for e in ended)


async def test_a_name_that_nothing_is_said_of_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollup_operator.stores.opensearch.transport.resolver.SECONDS", 0.05)
    go = threading.Event()
    lookups = Lookups(resolve=lambda *_, **__: go.wait(10) and [], at_once=1)
    with pytest.raises(OSError, match=r"nothing says within 0\.05 s where its name leads"):
        await lookups.find("team", "x", 1, socket.AF_UNSPEC)
    again = asyncio.create_task(lookups.find("team", "x", 1, socket.AF_UNSPEC))
    await asyncio.sleep(0.1)
    assert not again.done()  # its thread is busy still
    go.set()
    assert await again == []


async def test_a_connection_is_refused_by_where_its_name_leads():
    resolver = FilteringResolver(HostRules(), Lookups(), "team")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError) as error:
            await session.get("http://localhost:1")
    assert isinstance(error.value.os_error, HostNotAllowed)
