"""Which copies of an index show every refreshed document. Pure.

An index of OpenSearch may send segments to its replicas in place of documents (`index.replication.type: SEGMENT`). A
replica then shows what a refresh has made visible only after it has received the segments:

    primary  ──x──x──x──refresh──▶ all of it is visible
    replica  ──────────────────────── segments ──▶ visible here, later

Searches that must see everything go to the primaries there. Other indices refresh all copies before they answer.
"""

from collections.abc import Mapping
from enum import Enum

from rollup_operator.stores.opensearch.transport.answers import Value


class Copies(Enum):
    """Copies of an index that may answer a request."""

    ANY = "any"
    PRIMARY = "primary"

    @property
    def parameters(self) -> Mapping[str, str]:
        """The request's parameters that choose them."""
        return {"preference": "_primary"} if self is Copies.PRIMARY else {}


ANY, PRIMARY = Copies.ANY, Copies.PRIMARY

SETTING = "replication.type"
"""Below `settings.index` of an index of OpenSearch."""


def complete(settings: Value) -> Copies:
    """Return the copies that show everything, by what stands below `settings.index` of an index."""
    return PRIMARY if settings.find(*SETTING.split(".")).value == "SEGMENT" else ANY
