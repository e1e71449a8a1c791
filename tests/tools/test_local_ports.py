"""Ports that the local tools give to programs."""

import socket
from pathlib import Path

import pytest

from local_tools.ports import free_ports


def test_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_ports(2)
    monkeypatch.setattr("local_tools.ports.random.sample", lambda *_: [taken, free])
    with socket.create_server(("127.0.0.1", taken)):
        assert free_ports(1) == [free]


@pytest.mark.skipif(not Path("/proc/sys/net/ipv4").exists(), reason="Linux says there which ports connections get")
def test_no_outgoing_connection_takes_a_port_while_its_program_starts_again() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in free_ports(100) if first <= port <= last]
