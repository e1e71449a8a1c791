"""What GitOps controllers take for granted of a resource at rest: the rules FAIL0001 to FAIL0008 of Flux's checker."""

from collections.abc import Mapping
from typing import Any

from support.api import Api, Body

NEGATIVE = ("Reconciling", "Stalled")


def broken_rules(body: Mapping[str, Any]) -> list[str]:
    """The rules that an object at rest breaks, each as a sentence."""
    generation, status = body["metadata"]["generation"], body.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    true = {name for name, c in conditions.items() if c["status"] == "True"}
    observed = status.get("observedGeneration", -1)
    lagging = [name for name, c in conditions.items() if c.get("observedGeneration", -1) < generation]
    ready = "Ready" in true
    return [
        f"{rule}: {text}"
        for rule, text, broken in (
            ("FAIL0001", "a negative condition is True while Ready is", ready and bool(true & set(NEGATIVE))),
            ("FAIL0002", "Ready is missing", "Ready" not in conditions),
            ("FAIL0003", "Ready is not False while Reconciling is True", ready and "Reconciling" in true),
            ("FAIL0004", "Ready is not False while Stalled is True", ready and "Stalled" in true),
            ("FAIL0005", "Reconciling and Stalled are True together", true >= set(NEGATIVE)),
            ("FAIL0006", "observedGeneration is beyond the generation", observed > generation),
            ("FAIL0007", "Ready though the newest generation was not observed", ready and observed < generation),
            ("FAIL0008", f"Ready though {lagging} are of an older generation", ready and bool(lagging)),
        )
        if broken
    ]


def at_rest(body: Body) -> bool:
    """Whether the newest generation has been observed."""
    return body.get("status", {}).get("observedGeneration", -1) >= body["metadata"]["generation"]


def check_rules(api: Api, *, timeout: float = 15.0) -> None:
    """Wait until every job of the namespace is at rest and assert the rules on it, unless it is being deleted."""
    for item in api.list():
        if "deletionTimestamp" not in item["metadata"]:
            body = api.wait(item["metadata"]["name"], at_rest, timeout)
            assert not (broken := broken_rules(body)), (broken, body)
