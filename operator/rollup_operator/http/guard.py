"""Keeps web pages away from an endpoint that does not ask who is calling.

A browser on this machine could be made to POST here by any page. Pages of another origin are told by `Origin`; a page
whose own name was pointed at this machine (DNS rebinding) is told by `Host`, which then is a name and not an address.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from rollup_operator.http import errors


def check_caller(headers: Mapping[str, str]) -> None:
    """Raise ApiError 403 for a request that a foreign web page has caused."""
    host = headers.get("Host")
    if host and not _is_here(host):
        raise errors.forbidden(
            f"Host [{host}] is refused: without authentication the endpoint answers to localhost and IP addresses only"
        )
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise errors.forbidden(f"Origin [{origin}] is refused: it is not this endpoint [{host}]")


def _is_here(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
