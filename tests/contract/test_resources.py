"""What both kinds have in common, and RollupStore's rules, on the real API server."""

import pytest

from support import bodies
from support.api import Api, ApiError, condition

GROUP = "/apis/rollup-operator.dev/v1alpha1"
CREATE = {"RollupJob": bodies.job, "RollupStore": bodies.store}
SHORT = {"RollupJob": "rj", "RollupStore": "rst"}
kinds = pytest.mark.parametrize("kind", CREATE)


@kinds
def test_a_new_object_is_in_progress(api: Api, kind: str):
    body = api.create(CREATE[kind]("new"))
    assert body["status"] == {"observedGeneration": -1}


@kinds
def test_a_status_without_a_generation_counts_as_unseen(api: Api, kind: str):
    api.create(CREATE[kind]("new"))
    body = api.patch_status("new", {"conditions": [], "observedGeneration": None}, kind=kind)
    assert body["status"] == {"conditions": [], "observedGeneration": -1}


@kinds
def test_the_schema_is_structural(api: Api, kind: str):
    crd = api.get(f"{kind.lower()}s.rollup-operator.dev", kind="CustomResourceDefinition")
    assert condition(crd, "NonStructuralSchema") is None
    assert condition(crd, "NamesAccepted")["status"] == "True"
    assert not crd["spec"].get("preserveUnknownFields")


@kinds
def test_names_in_discovery(api: Api, kind: str):
    resources = {r["name"]: r for r in api.request("GET", GROUP)["resources"]}
    plural = f"{kind.lower()}s"
    assert resources[plural]["shortNames"] == [SHORT[kind]]
    assert resources[plural]["categories"] == ["rollup"]
    assert resources[plural]["singularName"] == kind.lower()
    assert resources[plural]["namespaced"]
    assert set(resources[f"{plural}/status"]["verbs"]) == {"get", "patch", "update"}


@kinds
def test_status_and_spec_are_written_apart(api: Api, kind: str):
    body = api.create(CREATE[kind]("one") | {"status": {"observedGeneration": 5}})
    assert body["status"] == {"observedGeneration": -1}
    body = api.patch("one", {"status": {"observedGeneration": 5}}, kind=kind)
    assert body["status"] == {"observedGeneration": -1}
    spec = body["spec"]
    both = {"spec": {"pageSize": 7, "maxConcurrentRuns": 7}, "status": {"observedGeneration": 1}}
    body = api.patch("one", both, kind=kind, subresource="status")
    assert body["status"] == {"observedGeneration": 1}
    assert body["spec"] == spec
    assert body["metadata"]["generation"] == 1


FULL_STATUS = {
    "observedGeneration": 1,
    "state": "started",
    "desiredState": "started",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "Running",
            "message": "waiting",
        },
        {
            "type": "Verified",
            "status": "False",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "DocumentsDiffer",
            "message": "1 is missing",
        },
    ],
    "lastVerification": {
        "startTime": "2026-01-02T03:04:00Z",
        "endTime": "2026-01-02T03:04:05Z",
        "outcome": "DocumentsDiffer",
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-01-02T00:00:00Z",
        "full": True,
        "sourceDocuments": 72,
        "days": 1,
        "buckets": 24,
        "differs": 0,
        "missing": 1,
        "extra": 0,
        "duplicate": 0,
        "firstDifference": "2026-01-01T00:00:00Z",
        "lastDifference": "2026-01-02T00:00:00Z",
        "message": "1 is missing",
    },
    "watermark": "2026-01-02T03:00:00Z",
    "position": {"time.date_histogram": 1641974400000, "carrier.terms": "AA", "x.histogram": 5.5, "y.terms": None},
    "newestBucket": "2022-01-12T04:00:00Z",
    "stats": {"pagesProcessed": 3, "documentsProcessed": 2**53},
    "lastRun": {
        "startTime": "2026-01-02T03:04:05Z",
        "endTime": "2026-01-02T03:04:06Z",
        "outcome": "Completed",
        "message": "",
        "rewritten": 4,
        "kept": 0,
    },
    "progress": {"percent": 45, "remainingSeconds": 300},
    "nextRunTime": "2026-01-02T04:00:00Z",
    "lastHandledRunRequest": "now",
}


def test_a_full_status_is_kept_as_it_was_written(api: Api):
    api.create(bodies.job())
    assert api.patch_status("flights", FULL_STATUS | {"position": None})["status"] == {
        key: value for key, value in FULL_STATUS.items() if key != "position"
    }
    body = api.get("flights")
    status = api.replace(body | {"status": FULL_STATUS}, subresource="status")["status"]
    assert status == FULL_STATUS


WRONG_STATUS = {
    "state": ("running", "status.state"),
    "desiredState": ("paused", "status.desiredState"),
    "observedGeneration": (-2, "status.observedGeneration"),
    "watermark": ("yesterday", "status.watermark"),
    "conditions": ([{"type": "Ready"}], "status.conditions[0].status"),
    "lastRun": ({"startTime": "2026-01-02T03:04:05Z"}, "status.lastRun.endTime"),
    "stats": ({"pagesProcessed": -1}, "status.stats.pagesProcessed"),
}


@pytest.mark.parametrize("field", WRONG_STATUS)
def test_a_wrong_status_is_refused(api: Api, field: str):
    value, place = WRONG_STATUS[field]
    api.create(bodies.job())
    with pytest.raises(ApiError) as error:
        api.patch_status("flights", {field: value})
    assert error.value.code == 422
    assert place in [cause for cause, _ in error.value.causes]


def rows(table: dict) -> list[dict[str, object]]:
    heads = [column["name"] for column in table["columnDefinitions"]]
    return [dict(zip(heads, row["cells"], strict=True)) for row in table["rows"]]


def test_columns_of_a_job(api: Api):
    api.create(bodies.job())
    table = api.table()
    heads = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    assert heads == [
        ("Name", 0),
        *((name, 0) for name in ("State", "Ready", "Reason", "Watermark", "Last run", "Age")),
        *(
            (name, 1)
            for name in ("Newest", "Next run", "Desired", "Verified", "Progress", "Source", "Target", "Result")
        ),
    ]
    api.patch_status("flights", FULL_STATUS)
    row = rows(api.table())[0]
    assert (row["Desired"], row["State"], row["Ready"], row["Reason"]) == ("started", "started", "True", "Running")
    assert (row["Watermark"], row["Source"], row["Target"]) == ("2026-01-02T03:00:00Z", "flights", "flights-rollup")
    assert (row["Newest"], row["Next run"]) == ("2022-01-12T04:00:00Z", "2026-01-02T04:00:00Z")
    assert (row["Progress"], row["Verified"]) == (45, "False")
    assert isinstance(row["Last run"], str)
    assert row["Last run"].endswith("d")


def test_a_list_of_jobs_fits_100_columns(api: Api):
    api.create(bodies.job("twenty-characters-no"))
    worst = FULL_STATUS["conditions"][0] | {"status": "False", "reason": "StoreUnauthorized"}
    api.patch_status("twenty-characters-no", FULL_STATUS | {"state": "indexing", "conditions": [worst]})
    table = api.table()
    shown = [i for i, column in enumerate(table["columnDefinitions"]) if column["priority"] == 0]
    heads, (cells,) = [column["name"] for column in table["columnDefinitions"]], [row["cells"] for row in table["rows"]]
    gaps = 3 * (len(shown) - 1)  # as kubectl leaves them
    assert sum(max(len(heads[i]), len(str(cells[i]))) for i in shown) + gaps <= 100


def test_columns_of_a_store(api: Api):
    api.create(bodies.store(opensearch={"hosts": ["https://a:9200"]}))
    ready = FULL_STATUS["conditions"][0] | {"reason": "Available"}
    status = {"conditions": [ready], "distribution": "opensearch", "version": "3.8.0", "health": "green"}
    api.patch_status("default", status | {"observedGeneration": 1}, kind="RollupStore")
    row = rows(api.table(kind="RollupStore"))[0]
    shown = ("default", "True", "opensearch", "3.8.0", "green", "Available")
    heads = ("Name", "Ready", "Distribution", "Version", "Health", "Reason")
    assert tuple(row[head] for head in heads) == shown


STORES = {
    "empty-duckdb": {"duckdb": {}},
    "named": {"duckdb": {"database": "my.duckdb"}},
    "in-a-folder": {"duckdb": {"database": "a/b-c/my_1.duckdb"}},
    "longest": {"duckdb": {"database": "x" * 200}},
    "one-run": {"duckdb": {}, "maxConcurrentRuns": 1},
    "most-runs": {"duckdb": {}, "maxConcurrentRuns": 64},
}


@pytest.mark.parametrize("name", STORES)
def test_a_right_embedded_store_is_accepted(api: Api, name: str):
    body = api.create(bodies.store(name, **STORES[name]))
    assert body["spec"]["duckdb"]["database"] == STORES[name]["duckdb"].get("database", "rollup.duckdb")
    assert body["spec"]["maxConcurrentRuns"] == STORES[name].get("maxConcurrentRuns", 4)


HOST = {"hosts": ["https://search.example.org:9200"]}
SECRETS = ("credentialsSecretRef", "caSecretRef", "clientCertificateSecretRef")

CLUSTERS = {
    "one-host": HOST,
    "no-port": {"hosts": ["http://opensearch.data.svc"]},
    "addresses": {"hosts": ["https://10.1.2.3:9200", "https://[fd00::1]:9200"]},
    "most-hosts": {"hosts": [f"https://node-{i}:9200" for i in range(16)]},
    "secrets": HOST | {ref: {"name": "some.secret-1"} for ref in SECRETS},
    "rest": HOST | {"insecureSkipTlsVerify": True, "requestTimeoutSeconds": 3600},
}


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
@pytest.mark.parametrize("name", CLUSTERS)
def test_a_right_cluster_is_accepted(api: Api, kind: str, name: str):
    defaults = {"insecureSkipTlsVerify": False, "requestTimeoutSeconds": 120}
    assert api.create(bodies.store(name, **{kind: CLUSTERS[name]}))["spec"] == {
        kind: defaults | CLUSTERS[name],
        "maxConcurrentRuns": 4,
    }


WRONG_STORES = {
    "two-kinds": ({"duckdb": {}, "opensearch": HOST}, "spec"),
    "two-clusters": ({"elasticsearch": HOST, "opensearch": HOST}, "spec"),
    "no-hosts": ({"opensearch": {}}, "spec.opensearch.hosts"),
    "empty-hosts": ({"opensearch": {"hosts": []}}, "spec.opensearch.hosts"),
    "many-hosts": ({"opensearch": {"hosts": [f"https://n{i}" for i in range(17)]}}, "spec.opensearch.hosts"),
    "same-host-twice": ({"opensearch": {"hosts": ["https://a", "https://a"]}}, "spec.opensearch.hosts[1]"),
    "no-scheme": ({"opensearch": {"hosts": ["search.example.org:9200"]}}, "spec.opensearch.hosts[0]"),
    "other-scheme": ({"opensearch": {"hosts": ["ftp://search.example.org"]}}, "spec.opensearch.hosts[0]"),
    "password-in-host": ({"elasticsearch": {"hosts": ["https://a:b@search"]}}, "spec.elasticsearch.hosts[0]"),
    "path-in-host": ({"elasticsearch": {"hosts": ["https://search/es"]}}, "spec.elasticsearch.hosts[0]"),
    "query-in-host": ({"elasticsearch": {"hosts": ["https://search?a=b"]}}, "spec.elasticsearch.hosts[0]"),
    "no-time": ({"opensearch": HOST | {"requestTimeoutSeconds": 0}}, "spec.opensearch.requestTimeoutSeconds"),
    "much-time": ({"opensearch": HOST | {"requestTimeoutSeconds": 3601}}, "spec.opensearch.requestTimeoutSeconds"),
    **{
        f"{ref.lower()}-{i}": ({"opensearch": HOST | {ref: {"name": name}}}, f"spec.opensearch.{ref}.name")
        for ref in SECRETS
        for i, name in enumerate(("", "../../default/secrets/x", "a/b", "A", "x" * 254))
    },
    "no-kind": ({"maxConcurrentRuns": 3}, "spec"),
    "absolute": ({"duckdb": {"database": "/etc/passwd"}}, "spec.duckdb.database"),
    "parent": ({"duckdb": {"database": "../other.duckdb"}}, "spec.duckdb.database"),
    "parent-inside": ({"duckdb": {"database": "a/../b"}}, "spec.duckdb.database"),
    "hidden": ({"duckdb": {"database": ".x"}}, "spec.duckdb.database"),
    "url": ({"duckdb": {"database": "s3://bucket/x"}}, "spec.duckdb.database"),
    "quote": ({"duckdb": {"database": "a'b"}}, "spec.duckdb.database"),
    "empty": ({"duckdb": {"database": ""}}, "spec.duckdb.database"),
    "long": ({"duckdb": {"database": "x" * 201}}, "spec.duckdb.database"),
    "no-runs": ({"duckdb": {}, "maxConcurrentRuns": 0}, "spec.maxConcurrentRuns"),
    "many-runs": ({"duckdb": {}, "maxConcurrentRuns": 65}, "spec.maxConcurrentRuns"),
}


@pytest.mark.parametrize("name", WRONG_STORES)
def test_a_wrong_store_is_refused_by_name(api: Api, name: str):
    spec, field = WRONG_STORES[name]
    with pytest.raises(ApiError) as error:
        api.create(bodies.store("wrong", **spec))
    assert error.value.code == 422
    assert field in [cause for cause, _ in error.value.causes]


SHOWN = {
    "host-and-port": ({"opensearch": {"hosts": ["a:92"]}}, "begins with http:// or https://"),
    "login": ({"opensearch": {"hosts": ["https://me:secret@search:9200"]}}, "the Secret of credentialsSecretRef"),
    "username": ({"opensearch": HOST | {"username": "me"}}, "write its name as credentialsSecretRef.name"),
    "password": ({"elasticsearch": HOST | {"password": "of mine"}}, "write its name as credentialsSecretRef.name"),
    "path": ({"elasticsearch": {"hosts": ["https://search/es"]}}, "no login, no path, no query"),
    "parent": ({"duckdb": {"database": "../other.duckdb"}}, "the name of a file, as in rollup.duckdb"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_mistake_in_a_store_is_told_in_words(api: Api, name: str):
    spec, words = SHOWN[name]
    with pytest.raises(ApiError) as error:
        api.create(bodies.store("wrong", **spec))
    [(_, message)] = error.value.causes
    assert words in message
    assert "should match" not in message
    assert "of mine" not in message


def test_the_database_of_a_store_is_immutable(api: Api):
    api.create(bodies.store(duckdb={"database": "a.duckdb"}))
    for database in ("b.duckdb", None):
        with pytest.raises(ApiError, match="database is immutable: delete the store and create it again"):
            api.patch("default", {"spec": {"duckdb": {"database": database}}}, kind="RollupStore")
    with pytest.raises(ApiError, match="exactly one kind of store must be set"):
        api.patch("default", {"spec": {"duckdb": None}}, kind="RollupStore")
    api.patch("default", {"spec": {"maxConcurrentRuns": 2}}, kind="RollupStore")


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
def test_the_kind_of_a_store_is_immutable_and_the_rest_is_not(api: Api, kind: str):
    other = {"opensearch": "elasticsearch", "elasticsearch": "opensearch"}[kind]
    api.create(bodies.store(**{kind: HOST}))
    for change in ({kind: None, other: HOST}, {kind: None, "duckdb": {}}):
        with pytest.raises(ApiError, match=f"{kind} is immutable: delete the store and create it again"):
            api.patch("default", {"spec": change}, kind="RollupStore")
    for change in ({kind: None}, {"duckdb": {}}):
        with pytest.raises(ApiError, match="exactly one kind of store must be set"):
            api.patch("default", {"spec": change}, kind="RollupStore")
    for change in (
        {"hosts": ["https://other:9200"]},
        {"credentialsSecretRef": {"name": "login"}},
        {"credentialsSecretRef": {"name": "other"}, "caSecretRef": {"name": "ca"}},
        {"credentialsSecretRef": None},
        {"insecureSkipTlsVerify": True, "requestTimeoutSeconds": 5},
    ):
        api.patch("default", {"spec": {kind: change}}, kind="RollupStore")


def test_unknown_fields_of_a_store_are_dropped(api: Api):
    assert api.create(bodies.store(duckdb={"threads": 4}, colour="red"))["spec"] == {
        "duckdb": {"database": "rollup.duckdb"},
        "maxConcurrentRuns": 4,
    }
