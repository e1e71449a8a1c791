"""The content of a Secret as a store receives it. Independent of any product and of the API server."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretContent:
    """A Secret as it was read."""

    data: Mapping[str, bytes] = field(repr=False)
    kind: str = "Opaque"
    """Its `type`."""
    annotations: Mapping[str, str] = field(default_factory=dict)


ReadSecret = Callable[[str], Awaitable[SecretContent]]
"""Reads a Secret in the RollupStore's namespace, by its name. Raises SecretInvalid."""
