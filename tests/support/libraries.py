"""The official clients, each in a process and an environment of its own; fixtures that a folder's conftest imports."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from support.speaker import Speaker, in_python


class Library(NamedTuple):
    """A client library as users have it, and the names that its exceptions have."""

    name: str
    bad_request: str = "BadRequestError"
    other: str = "ApiError"
    environment: tuple[tuple[str, str], ...] = ()


LIBRARIES = {
    "7.17": Library("elasticsearch-7", "RequestError", "TransportError"),
    "7.17 asking for compatibility": Library(
        "elasticsearch-7", "RequestError", "TransportError", (("ELASTIC_CLIENT_APIVERSIONING", "true"),)
    ),
    "8": Library("elasticsearch-8"),
    "9": Library("elasticsearch-9"),
    "opensearch": Library("opensearch", "RequestError", "TransportError"),
}


@pytest.fixture(scope="module", params=LIBRARIES.values(), ids=list(LIBRARIES))
def library(request: pytest.FixtureRequest) -> Library:
    found: Library = request.param
    return found


@pytest.fixture(scope="module")
def speaker(
    library: Library, say: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Speaker]:
    log = tmp_path_factory.mktemp("client") / "client.log"
    with Speaker(in_python(library.name, say), environment=dict(library.environment), log=log) as process:
        yield process
