"""Several operators that share a lease, and which of them leads."""

from collections.abc import Callable, Sequence
from typing import Any

from support.api import Api
from support.operator import Operator

LEASE = "rollup-operator"
SHORT_LEASE = 6.0
"""Seconds of a lease for tests that wait until one has run out, and are about what comes after that."""


def election(api: Api, **more: Any) -> dict[str, Any]:
    """Settings of operators that share the lease of the test's namespace."""
    return {"leader_election": "true", "lease_namespace": api.namespace, **more}


def holder(api: Api) -> str:
    """Who holds the lease; empty: nobody."""
    body = api.find(LEASE, kind="Lease")
    return "" if body is None else str(body["spec"].get("holderIdentity") or "")


def wait_leads(api: Api, operator: Operator, timeout: float = 20.0) -> None:
    """Return once an operator holds the lease."""
    api.wait(LEASE, held_by(operator), timeout, kind="Lease")


def held_by(operator: Operator) -> Callable[[dict[str, Any]], bool]:
    part = f"-{operator.pid}-"
    return lambda body: part in str(body["spec"].get("holderIdentity") or "")


def leader_of(api: Api, operators: Sequence[Operator], timeout: float = 20.0) -> Operator:
    """Return the one that leads, once one does."""

    def found(body: dict[str, Any]) -> list[Operator]:
        return [operator for operator in operators if operator.running and held_by(operator)(body)]

    return found(api.wait(LEASE, found, timeout, kind="Lease"))[0]
