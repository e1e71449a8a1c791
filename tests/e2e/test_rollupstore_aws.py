"""A RollupStore of an Amazon OpenSearch domain. A file of its own: another operator would act on its jobs, too."""

from support.api import Api
from support.aws import Domain, Key
from support.bodies import store
from support.data import small_groups, trips_job
from support.operator_fixtures import StartOperator
from support.rounding import HOUR, ms
from support.store_http import StoreHttp
from support.store_proxy import ProxyThread


def test_a_rollupstore_of_a_domain(start_operator: StartOperator, api: Api, opensearch3: StoreHttp) -> None:
    domain = Domain("eu-central-1", {"AKIDFIRST": Key("first/secret")})
    operator = start_operator(settings={"log_level": "debug", "store_check_seconds": 1})
    keys = {"accessKeyId": "AKIDFIRST", "secretAccessKey": "wrong/secret"}
    api.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    opensearch3.create("rows-aws", {"picked_up": "date"})
    opensearch3.load("rows-aws", ({"picked_up": ms("2024-03-01T00:00") + i * HOUR} for i in range(5)))
    with ProxyThread(opensearch3.url, guard=domain.judge) as thread:
        its = {"hosts": [thread.proxy.url], "aws": {"region": "eu-central-1"}, "credentialsSecretRef": {"name": "keys"}}
        api.create(store("cluster", opensearch=its))
        shown = api.wait_condition("cluster", status="False", reason="StoreUnauthorized", kind="RollupStore")
        assert "secretAccessKey is not the one of accessKeyId" in str(shown)
        api.patch("keys", {"stringData": {"secretAccessKey": "first/secret"}}, kind="Secret")
        api.wait_condition("cluster", reason="Available", kind="RollupStore", timeout=20)
        on_it = {"storeRef": {"name": "cluster"}, "indexPattern": "rows-aws", "groups": small_groups(), "metrics": []}
        api.create(trips_job("signed", rollupIndex="out-aws", **on_it))
        api.wait("signed", lambda body: body.get("status", {}).get("lastRun", {}).get("outcome") == "Completed", 20)
        opensearch3.refresh("out-aws")
        assert opensearch3.count("out-aws") == 5
        api.stop("signed")
        api.wait_state("signed", "stopped")
        its = {"hosts": [thread.proxy.url], "aws": {"region": "eu-central-1"}}
        api.create(store("own", opensearch=its))
        shown = api.wait_condition("own", status="False", reason="InvalidSpec", kind="RollupStore")
        assert "store_aws_namespaces" in str(shown)
    log = operator.log.read_text()
    assert [word for word in ("first/secret", "wrong/secret", "Signature=") if word in log] == []
