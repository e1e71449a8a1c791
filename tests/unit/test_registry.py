"""Which owners of claims live, as far as a process can know."""

from types import SimpleNamespace
from typing import Any

import pytest

from rollup_operator.lifecycle.registry import Registry
from rollup_operator.stores.base import Owner
from rollup_operator.stores.errors import StoreUnavailable


def registry(*namespaces: str) -> Registry:
    """A registry that knows no job."""
    unused: Any = SimpleNamespace(cluster="here")
    return Registry(
        kube=unused,
        books=unused,
        events=unused,
        worker=unused,
        gate=unused,
        watches=unused,
        now=unused,
        namespaces=namespaces,
    )


def owner(cluster: str = "here", namespace: str = "team") -> Owner:
    return Owner(cluster, namespace, "job", "uid")


def test_a_job_that_was_not_listed_is_dead_once_all_are() -> None:
    known = registry()
    with pytest.raises(StoreUnavailable, match="team/job"):
        known.is_alive(owner())
    known.synced = True
    assert not known.is_alive(owner())


@pytest.mark.parametrize("synced", [False, True])
def test_a_job_that_nobody_here_can_know_lives(synced: bool) -> None:
    known = registry("team", "other")
    known.synced = synced
    assert known.is_alive(owner(cluster="there"))
    assert known.is_alive(owner(namespace="elsewhere"))


def test_a_job_of_a_watched_namespace_is_known() -> None:
    known = registry("team", "other")
    known.synced = True
    assert not known.is_alive(owner())
