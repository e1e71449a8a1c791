"""What is asked of the API server, and what its answers mean. The reviews of a real one: tests/e2e/test_access.py."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from rollup_operator.http.access.kubernetes import KubernetesAccess
from rollup_operator.http.access.permits import Caller, EndpointAction
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube import authz
from rollup_operator.kube.authz import ACCESS_REVIEWS, TOKEN_REVIEWS, Reviews
from rollup_operator.kube.client import KubeError, Unreachable
from support.portions import watched

ANN = Caller("ann", "7", ("devs",), {"scopes": ("a", "b")})
Grant = tuple[str, str, str]
"""Verb, resource with subresource, and name."""


class Server:
    """Answers reviews by a table of tokens and of rights, all in one namespace."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {}
        self.grants: set[Grant] = set()
        self.asked: list[Mapping[str, Any]] = []
        self.fails: list[Exception] = []
        self.at_once = self.most_at_once = 0
        self.awaited, self.busy = 0, asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(body["spec"])
        self.at_once += 1
        if self.at_once == self.awaited:
            self.busy.set()
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.fails:
            raise self.fails.pop()
        if path == TOKEN_REVIEWS:
            assert (body["apiVersion"], body["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
            return {"status": self.tokens.get(body["spec"]["token"], {"error": "not known"})}
        assert (path, body["kind"]) == (ACCESS_REVIEWS, "SubjectAccessReview")
        wanted = body["spec"]["resourceAttributes"]
        assert (wanted["group"], wanted["namespace"]) == ("rollup-operator.dev", "team")
        resource = "/".join(filter(None, (wanted["resource"], wanted["subresource"])))
        allowed = bool({(wanted["verb"], resource, name) for name in ("", wanted["name"])} & self.grants)
        return {"status": {"allowed": allowed}}


def of(server: Server, **settings: Any) -> KubernetesAccess:
    return KubernetesAccess(Reviews(server, **{"allowed_seconds": 10.0, "denied_seconds": 2.0} | settings))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def access(server: Server) -> KubernetesAccess:
    return of(server)


async def refused(access: KubernetesAccess, authorization: str | None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await access.identify(authorization)
    return caught.value


# Who


async def test_a_token_is_the_user_that_the_api_server_names(server: Server, access: KubernetesAccess) -> None:
    user = {"username": "ann", "uid": "7", "groups": ["devs"], "extra": {"scopes": ["a", "b"]}}
    server.tokens["t.o-k_e~n+/=="] = {"authenticated": True, "user": user}
    for scheme in ("Bearer", "bearer", "Bearer  "):
        assert await access.identify(f"{scheme} t.o-k_e~n+/==") == ANN
    assert server.asked == [{"token": "t.o-k_e~n+/=="}]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "authorization",
    [
        f"Basic {_base64('grafana:t.o-k_e~n+/==')}",
        f"basic  {_base64(':t.o-k_e~n+/==')}",
        f"ApiKey {_base64('an-id:t.o-k_e~n+/==')}",
        "ApiKey t.o-k_e~n+/==",
    ],
)
async def test_elasticsearchs_own_schemes_carry_a_token(
    server: Server, access: KubernetesAccess, authorization: str
) -> None:
    user = {"username": "ann", "uid": "7", "groups": ["devs"], "extra": {"scopes": ["a", "b"]}}
    server.tokens["t.o-k_e~n+/=="] = {"authenticated": True, "user": user}
    assert await access.identify(authorization) == ANN
    assert server.asked == [{"token": "t.o-k_e~n+/=="}]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic",
        "Basic abc",
        f"Basic {_base64('ann:')}",
        f"Basic {_base64('ann')}",
        f"Basic {_base64('ann:pass word')}",
        f"Basic {_base64('ann:pässword')}",
        "ApiKey ",
        "Digest abc",
        "token",
        "Bearer a b",
        "Bearer a,b",
        "Bearer ä",
    ],
)
async def test_what_has_no_token_is_refused_unasked(
    server: Server, access: KubernetesAccess, authorization: str | None
) -> None:
    error = await refused(access, authorization)
    assert (error.status, error.type) == (401, "security_exception")
    assert error.headers == {"WWW-Authenticate": 'Bearer realm="rollup-operator"'}
    assert "send [Authorization: Bearer <token>]" in error.reason
    assert server.asked == []


@pytest.mark.parametrize(
    "status", [{}, {"error": "expired"}, {"authenticated": False}, {"authenticated": "yes", "user": {"username": "x"}}]
)
async def test_a_token_that_the_api_server_does_not_take_is_refused(
    server: Server, access: KubernetesAccess, status: dict[str, Any]
) -> None:
    server.tokens["abc"] = status
    assert (await refused(access, "Bearer abc")).status == 401
    assert "abc" not in (await refused(access, "Bearer abc")).reason
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("audiences", "good"), [(["rollup"], True), (["other", "rollup"], True), (["other"], False), (None, False)]
)
async def test_a_token_must_be_for_one_of_the_audiences(
    server: Server, audiences: list[str] | None, good: bool
) -> None:
    server.tokens["abc"] = {"authenticated": True, "user": {"username": "ann"}, "audiences": audiences}
    access = of(server, audiences=("rollup", "rollups"))
    if good:
        assert await access.identify("Bearer abc") == Caller("ann", extra={})
    else:
        assert (await refused(access, "Bearer abc")).status == 401
    assert server.asked == [{"token": "abc", "audiences": ("rollup", "rollups")}]


async def test_no_token_stays_in_memory(server: Server) -> None:
    server.tokens["very-secret"] = {"authenticated": True, "user": {"username": "ann"}}
    reviews = Reviews(server, allowed_seconds=10, denied_seconds=2)
    await reviews.user("very-secret")
    [key] = reviews._users._known
    assert len(key) == 32
    other = Reviews(server, allowed_seconds=10, denied_seconds=2)
    await other.user("very-secret")
    assert [key] != list(other._users._known), "the hash must not be the same in two processes"


# What

RIGHTS = [
    (EndpointAction.GET, [("get", "rollupjobs")]),
    (EndpointAction.CREATE, [("create", "rollupjobs")]),
    (EndpointAction.DELETE, [("delete", "rollupjobs")]),
    (EndpointAction.START, [("update", "rollupjobs/start"), ("patch", "rollupjobs")]),
    (EndpointAction.STOP, [("update", "rollupjobs/stop"), ("patch", "rollupjobs")]),
    (EndpointAction.RUN, [("update", "rollupjobs/run"), ("patch", "rollupjobs")]),
    (EndpointAction.PURGE, [("delete", "rollupjobs/documents")]),
]
EVERY = sorted({right for _, rights in RIGHTS for right in rights} | {("update", "rollupjobs"), ("list", "rollupjobs")})


@pytest.mark.parametrize(("action", "rights"), RIGHTS)
@pytest.mark.parametrize("granted", EVERY, ids=":".join)
@pytest.mark.parametrize("name", ["sensor", ""], ids=["on-the-name", "on-all"])
async def test_an_action_takes_one_of_its_rights_and_no_other(
    server: Server,
    access: KubernetesAccess,
    action: EndpointAction,
    rights: list[Any],
    granted: tuple[str, str],
    name: str,
) -> None:
    server.grants = {(*granted, name)}
    if granted in rights:
        await access.require(ANN, action, "team", "sensor")
    else:
        with pytest.raises(ApiError) as caught:
            await access.require(ANN, action, "team", "sensor")
        assert (caught.value.status, caught.value.type) == (403, "security_exception")


async def test_everything_about_the_user_goes_into_the_question(server: Server, access: KubernetesAccess) -> None:
    server.grants = {("get", "rollupjobs", "")}
    await access.require(ANN, EndpointAction.GET, "team", "sensor")
    [spec] = server.asked
    assert (spec["user"], spec["uid"], spec["groups"], spec["extra"]) == (ANN.name, ANN.uid, ANN.groups, ANN.extra)
    assert spec["resourceAttributes"]["name"] == "sensor"


@pytest.mark.parametrize(
    "other",
    [
        Caller("bob", "7", ("devs",), ANN.extra),
        Caller("ann", "8", ("devs",), ANN.extra),
        Caller("ann", "7", ("devs", "ops"), ANN.extra),
        Caller("ann", "7", ("devs",), {"scopes": ("a",)}),
    ],
)
async def test_what_one_may_is_not_what_another_may(server: Server, access: KubernetesAccess, other: Caller) -> None:
    server.grants = {("get", "rollupjobs", "")}
    await access.require(ANN, EndpointAction.GET, "team", "sensor")
    await access.require(ANN, EndpointAction.GET, "team", "sensor")
    assert len(server.asked) == 1
    await access.require(other, EndpointAction.GET, "team", "sensor")
    assert len(server.asked) == 2


async def test_a_refusal_names_what_is_missing_and_not_the_job(access: KubernetesAccess) -> None:
    with pytest.raises(ApiError) as caught:
        await access.require(ANN, EndpointAction.STOP, "team", "sensor")
    assert caught.value.reason == (
        "action [cluster:admin/xpack/rollup/stop] is unauthorized for user [ann], this action is granted by the "
        "Kubernetes right to [update] of [rollupjobs/stop] or [patch] of [rollupjobs] in API group "
        "[rollup-operator.dev] and namespace [team]"
    )


async def test_who_may_do_it_to_all_costs_one_question(server: Server, access: KubernetesAccess) -> None:
    server.grants = {("update", "rollupjobs/stop", "")}
    names = {f"job-{i}" for i in range(50)}
    assert await access.allowed(ANN, EndpointAction.STOP, "team", names) == names
    assert len(server.asked) == 1


async def test_else_each_name_is_asked_for_a_few_at_a_time(server: Server, access: KubernetesAccess) -> None:
    names = {f"job-{i}" for i in range(50)}
    server.grants = {
        ("update", "rollupjobs/stop", "job-1"),
        ("patch", "rollupjobs", "job-2"),
        ("get", "rollupjobs", ""),
    }
    assert await access.allowed(ANN, EndpointAction.STOP, "team", names) == {"job-1", "job-2"}
    assert server.most_at_once == 4


async def test_names_whose_answers_are_known_hold_the_loop_for_a_portion_at_a_time(
    server: Server, access: KubernetesAccess
) -> None:
    names = {f"job-{i}" for i in range(8_000)}
    server.grants = {("get", "rollupjobs", name) for name in names}
    assert await access.allowed(ANN, EndpointAction.GET, "team", names) == names
    asked = len(server.asked)
    async with watched() as loop:
        assert await access.allowed(ANN, EndpointAction.GET, "team", names) == names
    assert len(server.asked) <= asked + 1  # whether all are allowed
    assert loop.longest < 0.05


# Who may nothing and asks for much


async def test_who_may_nothing_and_calls_on_all_jobs_has_few_questions_asked(server: Server) -> None:
    clock = [0.0]
    access = of(server, clock=lambda: clock[0])
    names = {f"job-{i}" for i in range(1_000)}
    for clock[0] in range(0, 120, 3):
        assert await access.allowed(ANN, EndpointAction.STOP, "team", names) == frozenset()
    assert len(server.asked) < 3 * 2 * 1_000 + 40 * 2 + 1


async def test_a_new_right_to_a_name_is_in_force_soon_whatever_was_denied_before(server: Server) -> None:
    clock = [0.0]
    access = of(server, clock=lambda: clock[0])
    names = {f"job-{i}" for i in range(10_000)}
    assert await access.allowed(ANN, EndpointAction.GET, "team", names) == frozenset()
    server.grants = {("get", "rollupjobs", "job-7")}
    clock[0] = 2.0
    await access.require(ANN, EndpointAction.GET, "team", "job-7")
    assert await access.allowed(ANN, EndpointAction.GET, "team", names) == {"job-7"}
    server.grants.add(("get", "rollupjobs", "job-8"))
    clock[0] = authz.LONGEST_DENIED
    assert await access.allowed(ANN, EndpointAction.GET, "team", names) == {"job-7", "job-8"}


async def test_who_makes_names_up_is_sent_away_and_nobody_else(server: Server) -> None:
    clock = [0.0]
    access = of(server, clock=lambda: clock[0])
    server.grants = {("get", "rollupjobs", "sensor")}
    answers = []

    async def ask(of_whom: str, name: str) -> None:
        try:
            await access.require(Caller(of_whom), EndpointAction.GET, "team", name)
            answers.append(200)
        except ApiError as e:
            answers.append(e.status)

    for number in range(1_000):
        await ask(f"system:serviceaccount:team-a:robot-{number}", f"made-up-{number}")
    assert answers == [403] * authz.DENIED_AT_ONCE + [429] * (1_000 - authz.DENIED_AT_ONCE)
    assert len(server.asked) == authz.DENIED_AT_ONCE
    answers.clear()
    await ask("system:serviceaccount:team-a:robot-0", "made-up-0")  # known
    await ask("system:serviceaccount:team-b:robot-0", "sensor")
    await ask("ann", "made-up-0")
    assert answers == [403, 200, 403]
    answers.clear()
    clock[0] = 1.0
    for number in range(100):
        await ask("system:serviceaccount:team-a:robot-0", f"another-{number}")
    assert answers.count(403) == authz.DENIED_A_SECOND


async def test_who_has_the_right_by_names_may_ask_for_as_many_as_there_are(server: Server) -> None:
    access = of(server, clock=lambda: 0.0)
    server.grants = {("patch", "rollupjobs", f"job-{i}") for i in range(1_000)}
    for number in range(1_000):
        await access.require(ANN, EndpointAction.STOP, "team", f"job-{number}")


# The API server does not answer


@pytest.mark.parametrize(
    "failure",
    [
        Unreachable("refused", sent=False),
        KubeError(500, "InternalError", "etcd"),
        KubeError(429, "TooManyRequests", "later"),
        KubeError(403, "Forbidden", "no"),
    ],
)
async def test_who_cannot_be_asked_about_is_not_let_in_and_not_remembered(
    server: Server, access: KubernetesAccess, failure: Exception
) -> None:
    server.tokens["abc"] = {"authenticated": True, "user": {"username": "ann"}}
    server.grants = {("get", "rollupjobs", "")}
    with capture_logs() as logs:
        for question in (
            lambda: access.identify("Bearer abc"),
            lambda: access.require(ANN, EndpointAction.GET, "team", "sensor"),
            lambda: access.allowed(ANN, EndpointAction.GET, "team", {"sensor"}),
        ):
            server.fails = [failure] * 2
            with pytest.raises(ApiError) as caught:
                await question()
            server.fails = []
            assert caught.value.status == 503
            assert caught.value.headers["Retry-After"]
    assert len(logs) <= 2
    assert {entry["log_level"] for entry in logs} == {"warning"}
    assert await access.identify("Bearer abc")
    await access.require(ANN, EndpointAction.GET, "team", "sensor")


async def test_the_failure_of_one_name_of_many_is_the_failure_of_all(server: Server, access: KubernetesAccess) -> None:
    with pytest.raises(ApiError):
        await access.require(ANN, EndpointAction.GET, "team", "")
    server.fails = [KubeError(500, "InternalError", "etcd")]
    with capture_logs(), pytest.raises(ApiError) as caught:
        await access.allowed(ANN, EndpointAction.GET, "team", {f"job-{i}" for i in range(20)})
    assert caught.value.status == 503


@pytest.mark.parametrize("sent", [True, False])
async def test_a_review_without_an_answer_is_repeated_once(
    server: Server, access: KubernetesAccess, sent: bool
) -> None:
    server.tokens["abc"] = {"authenticated": True, "user": {"username": "ann"}}
    server.fails = [Unreachable("connection reset", sent=sent)]
    assert (await access.identify("Bearer abc")).name == "ann"
    server.fails = [Unreachable("connection reset", sent=sent)] * 2
    with capture_logs():
        assert (await refused(access, "Bearer def")).status == 503


async def test_a_silent_api_server_is_waited_for_only_so_long(
    server: Server, access: KubernetesAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authz, "REVIEW_SECONDS", 0.05)
    server.gate.clear()
    with capture_logs():
        assert (await refused(access, "Bearer abc")).status == 503
    server.gate.set()
    assert (await refused(access, "Bearer abc")).status == 401


async def test_many_questions_take_turns(server: Server, access: KubernetesAccess) -> None:
    answers = await asyncio.gather(*(access.identify(f"Bearer t{i}") for i in range(50)), return_exceptions=True)
    assert [getattr(answer, "status", None) for answer in answers] == [401] * 50
    assert server.most_at_once == authz.USERS_AT_ONCE // 2  # of one address


async def test_questions_of_one_hold_up_nobody_elses(server: Server, access: KubernetesAccess) -> None:
    server.grants = {("get", "rollupjobs", "")}
    server.gate.clear()
    flood = [asyncio.create_task(access.identify(f"Bearer t{i}", "10.0.0.1")) for i in range(50)]
    flood += [
        asyncio.create_task(access.require(Caller("ben"), EndpointAction.GET, "team", f"job-{i}")) for i in range(50)
    ]
    await asyncio.sleep(0)
    server.awaited = authz.USERS_AT_ONCE // 2 + authz.RIGHTS_AT_ONCE // 2 + 2
    mine = [
        asyncio.create_task(access.identify("Bearer abc", "10.0.0.2")),
        asyncio.create_task(access.require(ANN, EndpointAction.GET, "team", "sensor")),
    ]
    async with asyncio.timeout(5):
        await server.busy.wait()  # both are asked beside those that are under way
    server.gate.set()
    await asyncio.gather(*mine, *flood, return_exceptions=True)


async def test_who_has_too_many_questions_waiting_is_sent_away(
    server: Server, access: KubernetesAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access._reviews._turns[authz.TOKEN_REVIEWS], "_waiting", 3)
    server.gate.clear()
    flood = [asyncio.create_task(access.identify(f"Bearer t{i}", "10.0.0.1")) for i in range(50)]
    for _ in range(10):
        await asyncio.sleep(0)
    sent_away = [task for task in flood if task.done()]
    assert len(sent_away) == 50 - authz.USERS_AT_ONCE // 2 - 3
    assert {getattr(task.exception(), "status", None) for task in sent_away} == {429}
    server.gate.set()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_made_up_tokens_do_not_keep_those_waiting_who_are_known(server: Server, access: KubernetesAccess) -> None:
    server.grants = {("get", "rollupjobs", "")}
    server.gate.clear()
    server.awaited = authz.USERS_AT_ONCE // 2 + 1
    flood = [asyncio.create_task(access.identify(f"Bearer t{i}")) for i in range(50)]
    question = asyncio.create_task(access.require(ANN, EndpointAction.GET, "team", "sensor"))
    async with asyncio.timeout(5):
        await server.busy.wait()
    server.gate.set()
    await question
    await asyncio.gather(*flood, return_exceptions=True)


class Spaces(Server):
    """Lets everybody get all jobs of some namespaces; with `` among them, of all."""

    def __init__(self, *namespaces: str) -> None:
        super().__init__()
        self.granted = set(namespaces)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = body["spec"]["resourceAttributes"]
        assert (path, wanted["verb"], wanted["resource"], wanted["name"]) == (ACCESS_REVIEWS, "get", "rollupjobs", "")
        self.asked.append(wanted["namespace"])
        return {"status": {"allowed": bool({wanted["namespace"], ""} & self.granted)}}


async def test_the_namespaces_whose_jobs_a_caller_may_see() -> None:
    names = [f"team-{n}" for n in range(2_000)]
    some = Spaces("team-7", "team-1999")
    access = of(some)
    for _ in range(2):
        assert await access.namespaces(ANN, EndpointAction.GET, names) == {"team-7", "team-1999"}
    assert len(some.asked) < 2_010  # denials of so many count for longer
    everywhere = Spaces("")
    assert await of(everywhere).namespaces(ANN, EndpointAction.GET, names) == set(names)
    assert everywhere.asked == [""]
