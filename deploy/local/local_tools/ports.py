"""Ports of this machine."""

import socket


def free_ports(count: int) -> list[int]:
    """Pick different loopback ports that are free now; somebody may still be quicker to take one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
