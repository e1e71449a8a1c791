"""Which hosts the operator may connect to on behalf of users, who may write any URL into a RollupStore.

| the list is | a name | an address |
| --- | --- | --- |
| empty | any, except those at which clouds serve a machine's secrets | any, except special ones |
| not empty | one that is in the list, or that resolves to an address in the list | one that is in the list |

Special addresses are those of this machine, of its own network segment and of nothing at all (loopback, link-local,
unspecified, multicast, reserved). They are allowed only if the list has the address itself; a name in the list is not
enough, because the owner of a name decides where it leads. So names are checked when a store is created, and
addresses at every connection.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA_NAMES = frozenset({"metadata", "instance-data", "metadata.google.internal", "metadata.goog"})
_METADATA_ADDRESSES = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class HostNotAllowed(OSError):
    """The operator's setting store_hosts does not let a host be connected to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list: a name, or all below one, or a network; with a port or for all ports."""

    name: str = ""
    below: bool = False
    network: Network | None = None
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> "Entry":
        """Read `example.org`, `*.example.org`, `10.1.0.0/16`, `10.1.2.3` or `[fd00::1]`, each with an optional `:9200`.

        Raises ValueError saying what is wrong.
        """
        host, port = _without_port(text.strip())
        try:
            return cls(network=ipaddress.ip_network(host.strip("[]")), port=port)
        except ValueError as e:
            if "/" in host or ":" in host or not host.strip("0123456789."):
                raise ValueError(f"{text!r} is no address or network: {e}") from e
        name = host.removeprefix("*.")
        if not name or "*" in name or "://" in text:
            raise ValueError(
                f"{text!r} is no host: write a name, *.name, an address or a network such as 10.1.0.0/16, and a port "
                "after a colon where only that may be used"
            )
        return cls(name=_plain(name), below=host != name, port=port)

    def has_name(self, name: str, port: int) -> bool:
        """Whether requests may go to a host of this name at `port`."""
        right = name.endswith(f".{self.name}") if self.below else name == self.name
        return bool(self.name) and right and self.port in (None, port)

    def has_address(self, address: Address, port: int) -> bool:
        """Whether requests may go to this address at `port`."""
        return self.network is not None and address in self.network and self.port in (None, port)


@dataclass(frozen=True, slots=True)
class HostRules:
    """Checks hosts against the list."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, texts: Sequence[str]) -> "HostRules":
        """Read the setting. Raises ValueError naming the entry."""
        return cls(tuple(map(Entry.read, texts)))

    def check_url(self, url: str) -> None:
        """Check a base URL as far as possible without resolving its name.

        Raises HostNotAllowed, or ValueError for what is no URL.
        """
        parsed = URL(url)
        name, port = _plain(parsed.host or ""), parsed.port or 0
        if parsed.scheme not in ("http", "https") or not name or not port:
            raise ValueError(f"{url!r} is not the URL of a host: use one such as https://search.example.org:9200")
        if (address := _address(name)) is not None:
            self.check_address(name, address, port)
        elif name.replace(".", "").isdigit():  # an old notation of an address, which nothing would resolve
            raise ValueError(f"{name} is no address: write four numbers, as in 10.1.2.3")
        elif self.entries:
            if not self._has_name(name, port) and not any(entry.network for entry in self.entries):
                raise _refused(name, port)
        elif name in _METADATA_NAMES:
            raise _refused(name, port)

    def has(self, url: str) -> bool:
        """Whether the list has exactly the host of a URL: its name, or the address in it."""
        parsed = URL(url)
        name, port = _plain(parsed.host or ""), parsed.port or 0
        if (address := _address(name)) is not None:
            return any(entry.has_address(_meant(address), port) for entry in self.entries)
        return self._has_name(name, port)

    def check_address(self, name: str, address: Address, port: int) -> None:
        """Check the address of a name, or an address in the URL itself. Raises HostNotAllowed."""
        address = _meant(address)
        if any(entry.has_address(address, port) for entry in self.entries):
            return
        if self.entries and not self._has_name(_plain(name), port):
            raise _refused(name, port, address)
        if _is_special(address):
            raise _refused(name, port, address)

    def _has_name(self, name: str, port: int) -> bool:
        return any(entry.has_name(name, port) for entry in self.entries)


def is_this_machine(url: str) -> bool:
    """Whether a URL names this machine itself, so that no data leaves it."""
    name = _plain(URL(url).host or "")
    address = _address(name)
    return name == "localhost" if address is None else _meant(address).is_loopback


def _refused(name: str, port: int, address: Address | None = None) -> HostNotAllowed:
    if address is None or str(address) == name:
        where = f"{name} at port {port}"
        cure = f"add {name}"
    else:
        where = f"{name}, which leads to {address}, at port {port}"
        cure = f"add {address}" if _is_special(address) else f"add {name} or {address}"
    return HostNotAllowed(
        f"the operator may not connect to {where}: its setting store_hosts does not allow it; {cure} there if users "
        "need it"
    )


def _is_special(address: Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address.is_reserved
        or address in _METADATA_ADDRESSES
    )


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.sixtofour or address
    return address


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _without_port(text: str) -> tuple[str, int | None]:
    """Split `host:port`; an IPv6 address has its port only in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text, None
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{text!r} has no port between 1 and 65535 after its colon")
    return host, int(port)
