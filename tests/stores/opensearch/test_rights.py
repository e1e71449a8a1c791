"""A job on Elasticsearch 8 and 9 with Elastic's own security: logins, each right that is missing, and rotation."""

from collections.abc import Iterator

import pytest

from local_stores import Node
from rollup_operator.indexer.run import Run
from rollup_operator.model.conditions import Reason
from rollup_operator.rollup.due import due
from rollup_operator.stores.errors import StoreError
from rollup_operator.stores.opensearch.transport.errors import Unauthorized
from support.clustered import Clustered
from support.embedded import Row
from support.rounding import HOUR, ms
from support.store_choice import NEWEST, named
from support.store_http import StoreHttp, unique
from support.store_nodes import lent, started
from support.store_proxy import StoreProxy
from support.store_users import OneSecret, Users, logged_in, rights

pytestmark = pytest.mark.newest_stores

START = ms("2024-03-01T00:00")
ROWS: list[Row] = [(START + i * HOUR // 10, float(i), "ab"[i % 2], i % 30) for i in range(600)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "secured" in metafunc.fixturenames:
        kinds = [kind for kind in NEWEST if kind in (named(metafunc.config) or NEWEST)]
        metafunc.parametrize("secured", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def secured(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node that lets in whom it knows."""
    with started(request.param, secured=True) as node:
        yield node


@pytest.fixture
def guarded(secured: Node) -> Iterator[StoreHttp]:
    """It, without what an earlier test left there."""
    with lent(secured) as client:
        yield client


@pytest.fixture
def users(guarded: StoreHttp) -> Users:
    return Users(guarded)


def role(users: Users, **less: list[str]) -> str:
    name = unique("role")
    users.role(name, rights(**less))
    return name


async def complete(at: Clustered) -> None:
    """Assert that the job runs to its end and that all of it is there."""
    at.write(ROWS)
    claim = await at.completed()
    assert claim.stats.documents_processed == len(ROWS)
    assert len(at.documents()) == claim.stats.rollups_indexed > 100


async def test_a_user_with_the_documented_rights_can_do_all_of_it(guarded: StoreHttp, users: Users) -> None:
    users.user("rollup", "first-one", role(users))
    secret = OneSecret()
    secret.password("rollup", "first-one")
    async with logged_in(guarded, secret) as at:
        found = await at.store.check()
        assert found.version == guarded.node.kind.release
        await complete(at)
        assert (await at.store.preview(at.job(), due(at.job().spec, at.now).fresh, 10)).documents
        settled = await at.store.settle(at.job(), "me", delete_documents=True)
        assert settled.claim is not None
        assert at.documents() == []


async def test_a_password_that_changes_in_the_middle_of_a_run_disturbs_nothing(
    guarded: StoreHttp, users: Users
) -> None:
    its = role(users)
    users.user("rollup", "first-one", its)
    secret = OneSecret()
    secret.password("rollup", "first-one")
    async with StoreProxy(guarded.url) as proxy, logged_in(guarded, secret, proxy.url) as at:
        at.write(ROWS)

        def rotate(run: Run) -> bool:
            if run.progress.pages and secret.data["password"] == b"first-one":
                users.user("rollup", "second-one", its)
                secret.password("rollup", "second-one")
            return False

        claim = await at.completed(at.job(pageSize=20), halt_when=rotate)
        assert secret.data["password"] == b"second-one"
        assert claim.stats.documents_processed == len(ROWS)
        assert len(at.documents()) == claim.stats.rollups_indexed
        assert any(request.status == 401 for request in proxy.requests)


async def test_an_api_key_logs_in_and_its_successor_after_it(guarded: StoreHttp, users: Users) -> None:
    first, encoded = users.key("first", rights())
    secret = OneSecret()
    secret.key(encoded)
    async with logged_in(guarded, secret) as at:
        await complete(at)
        users.revoke(first)
        late = START + 100 * HOUR
        at.write([(late, 1.0, "a", 1)])
        refused = await at.run()
        assert isinstance(refused.error, StoreError)
        assert (refused.error.reason, refused.error.transient) == (Reason.STORE_UNAUTHORIZED, True)
        assert encoded not in str(refused.error)
        secret.key(users.key("second", rights())[1])
        assert (await at.completed()).stats.documents_processed == len(ROWS) + 1


MISSING = {
    "cluster monitor": ({"cluster": []}, "cluster:monitor/"),
    "read of sources": ({"sources": ["view_index_metadata"]}, "indices:data/read/"),
    "manage of results": ({"results": ["read", "write"]}, "indices:admin/"),
    "read of results": ({"results": ["manage", "write"]}, "indices:data/read/"),
    "write of results": ({"results": ["manage", "read"]}, "indices:data/write/"),
}


@pytest.mark.parametrize("missing", MISSING)
async def test_a_right_that_is_missing_is_named_and_found_again(guarded: StoreHttp, users: Users, missing: str) -> None:
    less, action = MISSING[missing]
    name = role(users, **less)
    users.user("poor", "a-password", name)
    secret = OneSecret()
    secret.password("poor", "a-password")
    async with logged_in(guarded, secret) as at:
        at.write(ROWS)
        refused: BaseException | None
        try:
            await at.store.check()
            refused = (await at.run()).error
        except Unauthorized as e:
            refused = e
        assert isinstance(refused, StoreError)
        assert (refused.reason, refused.transient) == (Reason.STORE_UNAUTHORIZED, True), refused
        assert action in str(refused)
        assert "[poor]" in str(refused)
        assert "a-password" not in str(refused)
        users.role(name, rights())
        await at.store.check()
        claim = await at.completed()
        assert claim.stats.documents_processed == len(ROWS)


async def test_a_deletion_without_the_right_to_write_goes_on_once_it_has_it(guarded: StoreHttp, users: Users) -> None:
    name = role(users)
    users.user("rollup", "a-password", name)
    secret = OneSecret()
    secret.password("rollup", "a-password")
    async with logged_in(guarded, secret) as at:
        await complete(at)
        users.role(name, rights(results=["read", "view_index_metadata"]))
        with pytest.raises(Unauthorized):
            await at.store.settle(at.job(), "me", delete_documents=True)
        assert at.documents()
        users.role(name, rights())
        await at.store.settle(at.job(), "me", delete_documents=True)
        assert at.documents() == []
