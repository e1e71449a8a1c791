"""Nothing leaves the process for a caller before the right to it is there, reviews apart: the whole table of routes.

Every way out of the endpoint is recorded in one list: the API client's calls, the stores', and the reviews with their
answers. Then each call is made by each kind of caller.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest

from rollup_operator.http.access.kubernetes import KubernetesAccess
from rollup_operator.http.app import Endpoint
from rollup_operator.kube import authz
from rollup_operator.kube.authz import ACCESS_REVIEWS, TOKEN_REVIEWS, Reviews, Right
from rollup_operator.kube.client import KubeError
from rollup_operator.kube.paths import jobs_path
from rollup_operator.model.job_ids import candidates
from rollup_operator.stores.errors import StoreUnavailable
from support import bodies
from support.bodies import sensor
from support.client_wire import Wire
from support.http_double import Body, Cluster, Shelf
from support.serving import served

SPEC = {"indexPattern": "sensor-*", "rollupIndex": "sensor_rollup"}
TEXT = "POST https://payroll.example/_refresh as bob:hunter2"
"""What a store's server said of itself."""


@dataclass
class Recorder:
    """What has left the process: what it was, and of a review whether it allows."""

    entries: list[tuple[str, bool | None]] = field(default_factory=list)
    rights: set[tuple[str, str, str]] = field(default_factory=set)
    """Verb, resource with subresource, and name; an empty name: all of the namespace `default`."""

    bad: str = "bad"

    def took(self, what: str) -> None:
        self.entries.append((what, None))

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a review: every token but the bad one is a user of that name."""
        if path == TOKEN_REVIEWS:
            token = body["spec"]["token"]
            self.entries.append(("token", token != self.bad))
            return {"status": {"authenticated": token != self.bad, "user": {"username": token}}}
        assert path == ACCESS_REVIEWS
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
        names = {"", asked["name"]} if asked["namespace"] == "default" else set()
        allowed = bool({(asked["verb"], resource, name) for name in names} & self.rights)
        self.entries.append((f"{asked['verb']} {resource} {asked['name']}", allowed))
        return {"status": {"allowed": allowed}}

    @property
    def before_a_right(self) -> list[str]:
        """What left the process before any right was there, but for reviews."""
        before = []
        for what, allowed in self.entries:
            if allowed and what != "token":
                break
            if allowed is None:
                before.append(what)
        return before

    @property
    def left(self) -> list[str]:
        """All that left it, but for reviews."""
        return [what for what, allowed in self.entries if allowed is None]


class RecordedShelf(Shelf):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __getattribute__(self, name: str) -> Any:
        if name in (
            "fields",
            "preview",
            "rollup_index",
            "known_jobs",
            "tiers",
            "search",
            "verification",
            "retained",
            "purge",
        ):
            self._recorder.took(f"store {name}")
        return super().__getattribute__(name)


class RecordedCluster(Cluster):
    """`mine` and `theirs` are known to the index, `unseen` and the one with an odd id to the API server alone."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self.shelves = {("default", "default"): RecordedShelf(recorder)}
        for name, more in (("mine", {}), ("theirs", {}), ("unseen", {}), ("odd-id-6b25267795", {"jobId": "Odd Id"})):
            self.create(name, desiredState="stopped", **SPEC, **more)
            self.status(name, state="stopped")
        for name in ("unseen", "odd-id-6b25267795"):
            del self.known[jobs_path("default", name)]
        self.shelf.remember("gone", SPEC, index="sensor_rollup")
        self.leads = True

    async def get(self, path: str, **params: str) -> Body:
        self._recorder.took(f"GET {path}")
        return await super().get(path, **params)

    async def pages(self, path: str, *, metadata_only: bool = False) -> AsyncIterator[Body]:
        self._recorder.took(f"LIST {path}")
        async for page in super().pages(path, metadata_only=metadata_only):
            yield page

    async def post(self, path: str, body: Mapping[str, Any], *, manager: str = "") -> Body:
        self._recorder.took(f"POST {path}")
        return await super().post(path, body, manager=manager)

    async def apply(self, path: str, body: Mapping[str, Any], *, manager: str, force: bool = True) -> Body:
        self._recorder.took(f"APPLY {path}")
        return await super().apply(path, body, manager=manager, force=force)

    async def delete(self, path: str, *, uid: str, version: int) -> Body:
        self._recorder.took(f"DELETE {path}")
        return await super().delete(path, uid=uid, version=version)

    async def open(self, key: tuple[str, str]) -> Any:
        self._recorder.took(f"open {key}")
        return await super().open(key)


@dataclass
class World:
    recorder: Recorder
    cluster: RecordedCluster
    endpoint: Endpoint
    client: aiohttp.ClientSession
    wires: list[Wire] = field(default_factory=list)

    async def call(self, method: str, path: str, *, who: str | None, body: Any = None) -> tuple[int, Any]:
        self.recorder.entries.clear()
        headers = {} if who is None else {"Authorization": f"Bearer {who}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body)
        async with self.client.request(method, path, headers=headers, data=data) as answer:
            return answer.status, await answer.json(content_type=None)

    async def wire(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.endpoint.port))
        self.wires.append(wire)
        return wire


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(authz, "DENIED_AT_ONCE", 10_000)  # what is denied here goes by each call, not by its number
    recorder = Recorder()
    cluster = RecordedCluster(recorder)
    # Nothing is kept of an answer, so that each call asks for its own.
    access = KubernetesAccess(Reviews(recorder, allowed_seconds=0.0, denied_seconds=0.0))
    async with (
        served(cluster, access=access) as endpoint,
        aiohttp.ClientSession(f"http://127.0.0.1:{endpoint.port}") as client,
    ):
        world = World(recorder, cluster, endpoint, client)
        yield world
        for wire in world.wires:
            with contextlib.suppress(ConnectionError):
                await wire.hang_up()


IDS = ("mine", "theirs", "unseen", "Odd%20Id", "missing", "Missing%20Id", "_all")
INDICES = ("_all", "sensor_rollup", "nothing")
PREVIEWED = bodies.job(
    "mine",
    indexPattern="sensor-*",
    groups={"dateHistogram": {"field": "timestamp", "fixedInterval": "1h"}},
    metrics=None,
)
OPEN = ("/healthz", "/readyz")
OF_PAGES = "/ui"


def requests(endpoint: Endpoint, *, pages: bool = False) -> Sequence[tuple[str, str, Any]]:
    """Each call of the table, or each page: method, path and body, for each kind of id."""
    found: list[tuple[str, str, Any]] = []
    for route in endpoint.app.router.routes():
        assert route.resource is not None
        form = route.resource.canonical
        if form in OPEN or route.method == "HEAD" or form.startswith(OF_PAGES) is not pages:
            continue
        forms = [form.replace("{namespace}", "default")]
        for word, values in (("{id}", IDS), ("{index}", INDICES), ("{field}", ("*",))):
            forms = [f.replace(word, value) for f in forms for value in values] if word in form else forms
        body = None
        if form.rstrip("/").endswith("_preview"):
            body = PREVIEWED
        elif route.method == "PUT":
            body = sensor()
        found += [(route.method, path, body) for path in forms]
    return found


def action_of(method: str, path: str) -> str:
    for word in ("_stop", "_start", "_preview", "_verify"):
        if path.rstrip("/").endswith(word):
            return word
    if "/documents/" in path:
        return "_documents"
    return "_search" if any(word in path for word in SEARCHES) else method


SEARCHES = ("_search", "_msearch", "_rollup_search", "_field_caps", "_mapping", "_cluster", "_query")

RIGHTS: Mapping[str, tuple[str, str]] = {
    "_search": ("get", "rollupjobs/search"),
    "GET": ("get", "rollupjobs"),
    "PUT": ("create", "rollupjobs"),
    "DELETE": ("delete", "rollupjobs"),
    "_preview": ("create", "rollupjobs"),
    "_start": ("update", "rollupjobs/start"),
    "_stop": ("patch", "rollupjobs"),
    "_verify": ("get", "rollupjobs/verify"),
    "_documents": ("delete", "rollupjobs/documents"),
}
"""One right that will do for each kind of call."""


async def test_the_table_is_whole(world: World) -> None:
    calls = requests(world.endpoint)
    assert {action_of(method, path) for method, path, _ in calls} == set(RIGHTS)
    assert len(calls) > 200


async def test_strangers_cause_no_more_than_a_question_who_they_are(world: World) -> None:
    for method, path, body in requests(world.endpoint):
        assert (await world.call(method, path, who=None, body=body))[0] == 401, path
        assert world.recorder.entries == []
        assert (await world.call(method, path, who="bad", body=body))[0] == 401, path
        assert world.recorder.entries == [("token", False)]


async def test_who_has_no_right_causes_no_more_than_questions(world: World) -> None:
    for method, path, body in requests(world.endpoint):
        status, reply = await world.call(method, path, who="nobody", body=body)
        assert world.recorder.left == [], (method, path)
        if action_of(method, path) != "GET" or "/job/" in path.rstrip("/").replace("/job/_all", ""):
            assert status == 403, (method, path, reply)
        else:
            assert status in (200, 404), (method, path)
            assert "sensor" not in json.dumps(reply).replace(path, "").replace("[sensor_rollup]", "")


async def test_who_has_no_right_cannot_tell_what_exists(world: World) -> None:
    for method, form in (
        ("GET", "{}"),
        ("DELETE", "{}"),
        ("PUT", "{}"),
        ("POST", "{}/_stop"),
        ("POST", "{}/_start"),
        ("POST", "{}/_verify"),
    ):
        answers = [
            await world.call(method, f"/_rollup/job/{form.format(job)}", who="nobody", body=sensor())
            if method == "PUT"
            else await world.call(method, f"/_rollup/job/{form.format(job)}", who="nobody")
            for job in IDS[:-1]
        ]
        assert all(answer == answers[0] for answer in answers), method


@pytest.mark.parametrize("name", ["", "mine", "unseen", "odd-id-6b25267795"])
async def test_nothing_leaves_before_the_right_is_there(world: World, name: str) -> None:
    for method, path, body in requests(world.endpoint):
        world.recorder.rights = {(*RIGHTS[action_of(method, path)], name)}
        await world.call(method, path, who="some", body=body)
        assert world.recorder.before_a_right == [], (method, path)


@pytest.mark.parametrize("name", ["mine", "unseen", "odd-id-6b25267795"])
async def test_a_right_to_one_job_causes_reads_of_that_job_alone(world: World, name: str) -> None:
    # What a search and a purge read of the stores have tests of their own; a verification reads that of the job.
    kinds = set(RIGHTS) - {"PUT", "_search", "_verify", "_documents"}
    calls = [call for call in requests(world.endpoint) if "_all" not in call[1] and action_of(*call[:2]) in kinds]
    for method, path, body in calls:
        world.recorder.rights = {(*RIGHTS[action_of(method, path)], name)}
        await world.call(method, path, who="some", body=body)
        others = [what for what in world.recorder.left if not what.endswith(jobs_path("default", name))]
        assert others == [], (method, path)


async def test_a_right_to_purge_one_job_finds_its_documents_alone(world: World) -> None:
    shelf = world.cluster.shelf
    shelf.remember("theirs", SPEC, index="sensor_rollup")
    shelf.remember("mine", SPEC, index="sensor_rollup", name="before")  # under the id of one, by the job of another
    shelf.remember("mine", SPEC, index="payroll", namespace="team-b")
    world.recorder.rights = {("delete", "rollupjobs/documents", "mine")}
    for path in ("sensor_rollup/theirs", "sensor_rollup/gone"):
        assert (await world.call("DELETE", f"/_rollup/documents/{path}", who="some"))[0] == 403, path
        assert world.recorder.left == []
    for path in ("sensor_rollup/mine", "payroll/mine"):
        assert (await world.call("DELETE", f"/_rollup/documents/{path}", who="some"))[0] == 404, path
    world.recorder.rights |= {("delete", "rollupjobs/documents", "before")}
    status, reply = await world.call("DELETE", "/_rollup/documents/sensor_rollup/mine?owner=uid-of-mine", who="some")
    assert (status, reply) == (200, {"acknowledged": True, "documents": 3})
    assert shelf.purged == [("sensor_rollup", "mine")]


async def test_a_right_to_search_one_job_reads_its_documents_alone(world: World) -> None:
    shelf = world.cluster.shelf
    shelf.roll_up("mine", SPEC)
    shelf.roll_up("theirs", SPEC)
    shelf.roll_up("other", SPEC, namespace="team-b")
    world.recorder.rights = {("get", "rollupjobs/search", "mine")}
    for index in ("sensor_rollup", "sensor-*", "_all"):
        assert (await world.call("POST", f"/{index}/_search", who="some", body={"size": 0}))[0] == 200
        assert shelf.read == {("sensor_rollup", "mine")}, index
    world.recorder.rights = {("get", "rollupjobs/search", "theirs")}
    shelf.read.clear()
    assert (await world.call("POST", "/sensor_rollup/_search", who="some", body={"size": 0}))[0] == 200
    assert shelf.read == {("sensor_rollup", "theirs")}


async def test_documents_that_another_namespace_owns_are_not_searched(world: World) -> None:
    shelf = world.cluster.shelf
    shelf.roll_up("mine", SPEC, namespace="team-b")  # the job `mine` was refused: the key is taken
    shelf.roll_up("theirs", SPEC, cluster="other")
    shelf.roll_up("far", SPEC | {"rollupIndex": "payroll"}, index="payroll", namespace="team-b")
    world.recorder.rights = {("get", "rollupjobs/search", "")}
    assert (await world.call("POST", "/sensor_rollup/_search", who="some", body={"size": 0}))[0] == 200
    assert shelf.read == set()
    assert (await world.call("POST", "/payroll/_search", who="some", body={"size": 0}))[0] == 404
    shelf.roll_up("old", SPEC | {"rollupIndex": "history"}, index="history", namespace=None)
    assert (await world.call("POST", "/history/_search", who="some", body={"size": 0}))[0] == 200
    assert shelf.read == {("history", "old")}  # Elasticsearch made it


async def test_documents_whose_record_is_gone_are_shown_to_nobody(world: World) -> None:
    """A record says whose documents they are: without it they could be another namespace's."""
    shelf = world.cluster.shelf
    shelf.roll_up("mine", SPEC, namespace=None, lost=True)
    shelf.roll_up("theirs", SPEC)
    shelf.roll_up("far", SPEC | {"rollupIndex": "payroll"}, index="payroll", namespace=None, lost=True)
    world.recorder.rights = {("get", "rollupjobs/search", "")}
    for path in ("/sensor_rollup/_search", "/sensor_rollup/_rollup_search", "/sensor-*/_search"):
        status, reply = await world.call("POST", path, who="some", body={"size": 0})
        assert (status, "mine" in json.dumps(reply)) == (503, False), path
    world.recorder.rights |= {("get", "rollupstores", "")}
    _, reply = await world.call("POST", "/sensor_rollup/_search", who="some", body={"size": 0})
    assert "the record of job [mine] is gone" in reply["error"]["reason"]
    assert (await world.call("POST", "/payroll/_search", who="some", body={"size": 0}))[0] == 404
    assert shelf.read == set()
    world.recorder.rights = {("get", "rollupjobs/search", "theirs")}  # whose record is there
    assert (await world.call("POST", "/sensor_rollup/_search", who="some", body={"size": 0}))[0] == 200
    assert shelf.read == {("sensor_rollup", "theirs")}


async def test_a_search_whose_documents_are_deleted_meanwhile_begins_anew(world: World) -> None:
    shelf = world.cluster.shelf
    shelf.roll_up("mine", SPEC)
    world.recorder.rights = {("get", "rollupjobs/search", "mine")}
    for changing, status in ((2, 200), (3, 503)):
        shelf.changing = changing
        assert (await world.call("POST", "/sensor_rollup/_search", who="some", body={"size": 0}))[0] == status
        assert shelf.changing == 0


async def test_a_job_that_was_refused_an_id_shows_nothing_of_the_job_that_has_it(world: World) -> None:
    cluster, shelf = world.cluster, world.cluster.shelf
    cluster.create("taker", desiredState="stopped", **(SPEC | {"indexPattern": "nothing-*"}), jobId="theirs")
    shelf.roll_up("theirs", SPEC)
    search = "POST", "/sensor_rollup/_search"
    world.recorder.rights = {("get", "rollupjobs/search", "taker")}
    assert (await world.call(*search, who="some", body={"size": 0}))[0] == 200
    assert shelf.read == set()
    world.recorder.rights = {("get", "rollupjobs/search", "")}
    _, reply = await world.call(*search, who="some", body={"size": 0})
    assert [job["job_id"] for job in reply["_rollup"]["jobs"]] == ["theirs"]  # and not once for each of the two
    shelf.read.clear()
    shelf.roll_up("mine", SPEC, name="before")  # documents that `mine` is to go on with
    assert (await world.call(*search, who="some", body={"size": 0}))[0] == 200
    assert ("sensor_rollup", "mine") in shelf.read


async def test_who_may_search_nothing_of_it_cannot_tell_what_exists(world: World) -> None:
    world.recorder.rights = {("get", "rollupjobs/search", "elsewhere")}
    answers = [
        await world.call("POST", f"/{index}/_search", who="some", body={"size": 0})
        for index in ("sensor_rollup", "sensor-1", "nothing", "_all", "*")
    ]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 403


@pytest.mark.parametrize(("job", "name"), [("unseen", "unseen"), ("Odd%20Id", "odd-id-6b25267795")])
async def test_a_job_that_the_watch_has_not_brought_is_found_by_who_may(world: World, job: str, name: str) -> None:
    assert name in candidates(job.replace("%20", " "))
    world.recorder.rights = {("get", "rollupjobs", name)}
    status, reply = await world.call("GET", f"/_rollup/job/{job}", who="some")
    assert (status, [found["config"]["id"] for found in reply["jobs"]]) == (200, [job.replace("%20", " ")])


async def test_deleted_jobs_are_asked_of_stores_only_for_who_may_see_all(world: World) -> None:
    world.recorder.rights = {("get", "rollupjobs", "mine")}
    _, reply = await world.call("GET", "/_rollup/data/_all", who="some")
    assert [job["job_id"] for job in reply["sensor-*"]["rollup_jobs"]] == ["mine"]
    assert world.recorder.left == []
    world.recorder.rights = {("get", "rollupjobs", "")}
    _, reply = await world.call("GET", "/_rollup/data/_all", who="some")
    assert [job["job_id"] for job in reply["sensor-*"]["rollup_jobs"]] == ["gone", "mine", "theirs"]


async def test_what_others_roll_up_on_a_shared_store_is_not_shown(world: World) -> None:
    shelf = world.cluster.shelf
    for job, cluster, namespace in (("theirs", "local", "team-b"), ("mine", "other", "default"), ("far", "other", "x")):
        spec = SPEC | {"indexPattern": "payroll-*", "rollupIndex": "payroll"}
        shelf.remember(job, spec, index="payroll", cluster=cluster, namespace=namespace)
    world.recorder.rights = {("get", "rollupjobs", "")}
    for path in ("/_rollup/data/_all", "/_rollup/data/payroll-*", "/_all/_rollup/data"):
        status, reply = await world.call("GET", path, who="some")
        assert (status, "payroll" in json.dumps(reply)) == (200, False), path
    assert (await world.call("GET", "/payroll/_rollup/data", who="some"))[0] == 404


# What a store or the API server says


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/_rollup/data/_all", None),
        ("GET", "/_all/_rollup/data", None),
        ("PUT", "/_rollup/job/new", sensor()),
        ("POST", "/_rollup/job/_preview", PREVIEWED),
        ("POST", "/sensor_rollup/_search", {"size": 0}),
        ("POST", "/sensor_rollup/_rollup_search", {"size": 0, "aggs": {"m": {"max": {"field": "temperature"}}}}),
        ("GET", "/sensor_rollup/_field_caps?fields=*", None),
        ("GET", "/sensor_rollup/_mapping", None),
        ("GET", "/nothing/_search", {"size": 0}),
        ("GET", "/_rollup/documents/sensor_rollup/gone", None),
    ],
)
async def test_what_a_store_says_is_for_who_may_read_it(world: World, method: str, path: str, body: Any) -> None:
    world.cluster.shelf.fail = StoreUnavailable(TEXT)
    rights = {(*RIGHTS[action_of(method, path)], "")}
    world.recorder.rights = rights
    status, reply = await world.call(method, path, who="some", body=body)
    assert status == 503
    assert "callers with the right to get rollupstores see why" in reply["error"]["reason"]
    assert "hunter2" not in json.dumps(reply)
    assert "default]" not in reply["error"]["reason"]
    world.recorder.rights = rights | {("get", "rollupstores", "")}
    status, reply = await world.call(method, path, who="some", body=body)
    assert (status, TEXT in reply["error"]["reason"]) == (503, True)


FORBIDDEN = KubeError(403, "Forbidden", 'rollupjobs is forbidden: User "system:serviceaccount:ops:op" cannot get it')


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_the_operators_own_rights_are_not_shown(world: World, method: str) -> None:
    world.recorder.rights = {(*RIGHTS[method], "")}
    world.cluster.fail_read, world.cluster.fail_post = FORBIDDEN, [FORBIDDEN]
    status, reply = await world.call(
        method, "/_rollup/job/unseen", who="some", body=sensor() if method == "PUT" else None
    )
    assert status == 503
    assert "the operator itself lacks a right, which its log names" in reply["error"]["reason"]
    assert "system:serviceaccount" not in json.dumps(reply)


# Bodies


@pytest.mark.parametrize(("line", "status"), [("PUT /_rollup/job/x", 403), ("POST /_rollup/job/_preview", 403)])
@pytest.mark.parametrize("user", ["nobody", "bad", None])
@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["sends", "waits"])
async def test_a_body_is_read_for_who_may_send_it(
    world: World, line: str, status: int, user: str | None, expect: list[str]
) -> None:
    wire = await world.wire()
    head = ["Content-Type: application/json", "Content-Length: 200000", *expect]
    answered, _, _ = await wire.ask(line, *head, user=user)
    assert answered == (status if user == "nobody" else 401)


async def test_who_waits_to_send_a_body_is_asked_for_it(world: World) -> None:
    world.recorder.rights = {("create", "rollupjobs", "")}
    wire = await world.wire()
    body = json.dumps(sensor())
    head = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue"]
    await wire.send("\r\n".join(["PUT /_rollup/job/x HTTP/1.1", "Host: h", "Authorization: Bearer ann", *head, "", ""]))
    assert await wire.line() == "HTTP/1.1 100 Continue"
    await wire.send(body)
    assert (await wire.answer())[0] == 200
    assert (await wire.ask("GET /"))[0] == 200, "the connection goes on"


@pytest.mark.parametrize("line", ["POST /_rollup/job/mine/_stop", "GET /", "DELETE /_rollup/job/mine"])
async def test_a_body_that_nobody_wants_is_not_read(world: World, line: str) -> None:
    wire = await world.wire()
    answered, _, reply = await wire.ask(line, "Content-Length: 200000", "Expect: 100-continue")
    assert answered == 400
    assert "does not support having a body" in reply["error"]["reason"]


@pytest.mark.parametrize("tokens", [("ann", "bad"), ("bad", "ann"), ("ann", "ann")])
async def test_more_than_one_authorization_is_refused(world: World, tokens: tuple[str, str]) -> None:
    wire = await world.wire()
    more = [f"Authorization: Bearer {token}" for token in tokens]
    status, headers, _ = await wire.ask("GET /", *more, user=None)
    assert (status, headers["connection"]) == (400, "close")
    assert world.recorder.entries == []


# What is kept of answers


async def test_who_asks_for_much_makes_no_answers_of_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authz, "RIGHTS_OF_ONE", 20)
    monkeypatch.setattr(authz, "RIGHTS_KEPT", 40)
    monkeypatch.setattr(authz, "TOKENS_OF_ONE", 20)
    monkeypatch.setattr(authz, "USERS_KEPT", 40)
    recorder = Recorder(rights={("get", "rollupjobs", "mine")})
    reviews = Reviews(recorder, allowed_seconds=60.0, denied_seconds=60.0)
    right = Right("get", "rollup-operator.dev", "rollupjobs", "default", name="mine")
    ann = await reviews.user("ann")
    assert ann is not None
    assert await reviews.allows(ann, right)
    mallory = await reviews.user("mallory")
    assert mallory is not None
    for number in range(100):
        await reviews.allows(mallory, replace(right, name=f"x{number}"))
        recorder.bad = f"made-up-{number}"
        assert await reviews.user(recorder.bad) is None
    recorder.entries.clear()
    assert await reviews.user("ann") == ann
    assert await reviews.allows(ann, right)
    assert recorder.entries == []


async def page(world: World, method: str, path: str, who: str | None) -> tuple[int, str]:
    """Ask for a page, or send a form as a page of the same site does."""
    world.recorder.entries.clear()
    headers = {"Sec-Fetch-Site": "same-origin"} | ({} if who is None else {"Authorization": f"Bearer {who}"})
    form = {"token": "bad", "csrf": "x"} if method == "POST" else None
    async with world.client.request(method, path, headers=headers, data=form, allow_redirects=False) as answer:
        return answer.status, await answer.text()


async def test_pages_cause_no_more_than_questions_before_the_right_is_there(world: World) -> None:
    found = requests(world.endpoint, pages=True)
    assert len(found) > 5
    for method, path, _ in found:
        is_open = path in ("/ui", "/ui/login") or "static" in path
        status, _ = await page(world, method, path, None)
        assert (status in (200, 303, 401, 404), world.recorder.left) == (True, []), path
        assert is_open or (status == 303) is (method == "GET"), (method, path)
        assert world.recorder.entries == ([("token", False)] if (method, path) == ("POST", "/ui/login") else []), path
        status, _ = await page(world, method, path, "bad")
        assert is_open or status in (303, 401), (method, path)
        assert world.recorder.left == []
        status, text = await page(world, method, path, "nobody")
        assert world.recorder.left == [], (method, path)
        assert is_open or path == "/ui/" or status == 403, (method, path)
        assert "sensor" not in text
