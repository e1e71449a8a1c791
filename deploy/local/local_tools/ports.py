"""Ports of this machine."""

import random
import socket
from pathlib import Path

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_MANY = 5000


def free_ports(count: int) -> list[int]:
    """Pick different loopback ports that are free now; another program may still take one first.

    No outgoing connection gets one of them while a program that has it ends and starts again.
    """
    ports: list[int] = []
    for port in random.sample(_range(), _MANY):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    """Whether a program can listen on a loopback port now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _range() -> range:
    try:
        lowest = int(_OUTGOING.read_text().split()[0])
    except OSError:
        lowest = 32768
    first = min(20000, lowest - _MANY)
    return range(first, first + _MANY)
