"""What deploy/ renders to, by the real helm and kustomize, and that the real API server takes it."""

import base64
import contextlib
import dataclasses
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_control_plane import ControlPlane
from local_manifests import generate, render
from local_manifests.render import CHART, DEPLOY, NAME, Object, RenderError, by_identity, identity
from rollup_operator.settings import Settings
from support.api import Api, ApiError

MANAGED_BY = "app.kubernetes.io/managed-by"
GIVEN = {"tls": {"source": "secret"}}
DUCKDB = {"duckdb": {"enabled": True}}
MONITORED = {"metrics": {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboard")}}
CERT_MANAGER = {"tls": {"source": "certManager"}}
ISSUER = {"tls": {"source": "certManager", "certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer"}}}}
OWN_NAMESPACE = {"watch": {"allNamespaces": False}}
MORE = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "{{ .Release.Name }}-more", "namespace": "{{ .Release.Namespace }}"},
}
EVERYTHING = DUCKDB | MONITORED | {
    "watch": {"allNamespaces": False, "namespaces": ["team-a", "team-b"]},
    "rbac": {"secretNamespaces": ["team-b"]},
    "settings": {"store_hosts": ["*.search.svc:9200", "10.1.0.0/16"], "compat_version": 7, "page_seconds": 0.25},
    "networkPolicy": {
        "callers": [{"namespaceSelector": {}}],
        "monitoring": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "imagePullSecrets": [{"name": "registry"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}],
    "extraVolumes": [{"name": "trips", "persistentVolumeClaim": {"claimName": "trips"}}],
    "extraVolumeMounts": [{"name": "trips", "mountPath": "/data/team-a/trips", "readOnly": True}],
    "podLabels": {"team": "data"},
    "commonLabels": {"cost-centre": "42"},
    "podSecurityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
    "topologySpreadConstraints": [],
    "extraArgs": ["--log-level", "debug"],
    "extraObjects": [MORE],
    "podAnnotations": {"note": "x"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "service": {"type": "LoadBalancer", "port": 9400, "annotations": {"note": "x"}},
    "serviceAccount": {"annotations": {"note": "x"}},
    "image": {"digest": f"sha256:{'0' * 64}"},
}  # fmt: skip


def overlay(tmp_path: Path, *lines: str) -> list[Object]:
    """What a kustomization of these lines renders to. Folders are named from deploy/ on."""
    # kustomize takes relative paths only, to folders that are not above its own.
    folder = tmp_path / "overlay"
    folder.mkdir()
    up = Path(*[".."] * len(folder.resolve().parts[1:]), *DEPLOY.parts[1:])
    (folder / "kustomization.yaml").write_text("\n".join(lines).replace("deploy/", f"{up}/"))
    return render.kustomize(folder)


def comparable(bodies: list[Object]) -> dict[render.Identity, Object]:
    """The objects without what either tool must add: who manages them, what Helm keeps, and the namespace itself.

    Lists of what has a name are in its order.
    """
    found = by_identity(body for body in bodies if body["kind"] != "Namespace")
    for body in found.values():
        for meta in (body["metadata"], body.get("spec", {}).get("template", {}).get("metadata", {})):
            (meta.get("labels") or {}).pop(MANAGED_BY, None)
            if body["kind"] == "ClusterRole":
                meta.pop("labels" if not any("aggregate" in k for k in meta.get("labels") or {}) else "", None)
            annotations = meta.get("annotations") or {}
            annotations.pop("helm.sh/resource-policy", None)
            if not annotations:
                meta.pop("annotations", None)
        pod = body.get("spec", {}).get("template", {}).get("spec", {})
        for part in (pod, *pod.get("containers", ())):
            for named in ("env", "volumes", "volumeMounts"):
                if named in part:
                    part[named] = sorted(part[named], key=lambda item: str(item["name"]))
    return found


def env_of(bodies: list[Object]) -> dict[str, Any]:
    deployment = next(body for body in bodies if body["kind"] == "Deployment")
    return {
        env["name"]: env.get("value", env.get("valueFrom"))
        for env in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }


# -- one source -------------------------------------------------------------------------------------------------------


def test_what_is_generated_is_up_to_date() -> None:
    for files in (generate.chart_files, generate.schema, generate.kustomize_files):
        assert generate.stale(files()) == [], "run `make generate`"
    known = {path for files in (generate.chart_files, generate.kustomize_files) for path in files()}
    assert set((CHART / "files").rglob("*.*")) <= known, "a copy whose source is gone"


def test_helm_finds_no_fault_with_the_chart() -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in render.helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("lines", "values", "namespace"),
    [
        (["resources: [deploy/overlays/cluster-wide]"], {}, NAME),
        (["resources: [deploy/overlays/namespaced]"], OWN_NAMESPACE, NAME),
        (["namespace: team-a", "resources: [deploy/overlays/namespaced]"], OWN_NAMESPACE, "team-a"),
        (["resources: [deploy/overlays/cluster-wide]", "components: [deploy/components/duckdb]"], DUCKDB, NAME),
        (["resources: [deploy/overlays/cluster-wide]", "components: [deploy/components/monitoring]"], MONITORED, NAME),
        (
            ["resources: [deploy/overlays/cluster-wide]", "components: [deploy/components/cert-manager]"],
            CERT_MANAGER,
            NAME,
        ),
        (
            ["resources: [deploy/overlays/with-opensearch]"],
            {"settings": {"store_hosts": "opensearch.rollup-operator.svc:9200"}},
            NAME,
        ),
    ],
    ids=["cluster-wide", "namespaced", "another-namespace", "duckdb", "monitoring", "cert-manager", "with-opensearch"],
)
def test_helm_and_kustomize_render_the_same(
    tmp_path: Path, lines: list[str], values: dict[str, Any], namespace: str
) -> None:
    by_helm = comparable(render.chart(GIVEN | values, namespace=namespace))
    by_kustomize = comparable(overlay(tmp_path, *lines))
    extra = {key for key in by_kustomize if key[2] == "opensearch"}
    assert bool(extra) is ("opensearch" in lines[0])
    if "namespaced" not in lines[-1]:  # a role to bind in namespaces whose stores have a login; bound in none by itself
        extra.add(("ClusterRole", "", f"{NAME}-secrets"))
        assert not any(f"{NAME}-secrets" in str(body.get("roleRef")) for body in by_kustomize.values())
    assert by_helm.keys() == by_kustomize.keys() - extra
    for key, body in by_helm.items():
        assert by_kustomize[key] == body, key


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (DUCKDB | {"replicas": 2}, "the files of a DuckDB store belong to one process. Set replicas to 1"),
        ({"watch": {"namespaces": ["team-a"]}}, "set watch.allNamespaces to false"),
        ({"settings": {"stop_timeout": 3}}, "additional properties 'stop_timeout' not allowed"),
        ({"settings": {"http_port": 3}}, "additional properties 'http_port' not allowed"),
        ({"settings": {"log_level": "loud"}}, "value must be one of 'debug', 'info', 'warning', 'error'"),
        ({"settings": {"store_hosts": 3}}, "got number, want string or array"),
        ({"settings": {"http_connections": "many"}}, "got string, want integer"),
        ({"replicaCount": 3}, "additional properties 'replicaCount' not allowed"),
        ({"tls": {"source": "none"}}, "'/tls/source'"),
    ],
)
def test_values_that_cannot_be_used_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RenderError) as refused:
        render.chart(values)
    assert message in str(refused.value)


def test_settings_become_variables() -> None:
    env = env_of(render.chart(GIVEN | EVERYTHING))
    assert env["ROLLUP_STORE_HOSTS"] == "*.search.svc:9200,10.1.0.0/16"
    assert (env["ROLLUP_COMPAT_VERSION"], env["ROLLUP_PAGE_SECONDS"]) == ("7", "0.25")
    assert env["ROLLUP_NAMESPACES"] == "team-a,team-b"


def _in_a_pod(value: Any) -> str:
    """Return what a variable has once the kubelet has looked up where it comes from."""
    if not isinstance(value, dict):
        return str(value)
    if "fieldRef" in value:
        return "rollups"
    return str(2**30)  # a resource's quantity, in bytes


@pytest.mark.parametrize("values", [{}, OWN_NAMESPACE, EVERYTHING], ids=["defaults", "own", "everything"])
def test_the_operator_knows_every_variable_that_it_is_given(values: dict[str, Any]) -> None:
    given = env_of(render.chart(GIVEN | values))
    env = {name: _in_a_pod(value) for name, value in given.items() if name.startswith("ROLLUP_")}
    known = {f"ROLLUP_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    assert env.keys() - known == set(), "the operator would not even say that it does not know them"
    settings = Settings.from_environment(env)
    assert (settings.leader_election, settings.tls) == (True, True)


def test_the_usual_values_do_what_they_do_elsewhere() -> None:
    bodies = render.chart(GIVEN | EVERYTHING | {"nameOverride": "rollups"})
    (deployment,) = (body for body in bodies if body["kind"] == "Deployment")
    pod, labels = deployment["spec"]["template"], deployment["metadata"]["labels"]
    assert deployment["metadata"]["name"] == labels["app.kubernetes.io/name"] == "rollups"
    assert deployment["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "rollups"
    services = [body for body in bodies if body["kind"] == "Service"]
    assert {body["spec"]["selector"]["app.kubernetes.io/name"] for body in services} == {"rollups"}
    assert labels["cost-centre"] == pod["metadata"]["labels"]["cost-centre"] == "42"
    assert pod["spec"]["securityContext"]["runAsUser"] == 1000
    assert pod["spec"]["topologySpreadConstraints"] == []
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["run", "--log-level", "debug"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert f"{NAME}-more" in {body["metadata"]["name"] for body in bodies if body["kind"] == "ConfigMap"}
    names = {body["metadata"]["name"] for body in render.chart(GIVEN | {"nameOverride": "a", "fullnameOverride": "b"})}
    assert "b" in names
    assert "a" not in names


def test_large_numbers_stay_as_they_were_written() -> None:
    env = env_of(render.chart(GIVEN | {"settings": {"http_body_bytes": 104857600}}))
    assert env["ROLLUP_HTTP_BODY_BYTES"] == "104857600"


def test_the_pod_has_longer_than_the_operator_takes() -> None:
    for bodies in (render.chart(GIVEN), render.chart(GIVEN | {"graceSeconds": 300})):
        pod = next(body for body in bodies if body["kind"] == "Deployment")["spec"]["template"]["spec"]
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > float(env_of(bodies)["ROLLUP_GRACE_SECONDS"]) + pause


@pytest.mark.parametrize(
    ("values", "replicas", "strategy", "disruption"),
    [({}, 2, "RollingUpdate", True), ({"replicas": 3}, 3, "RollingUpdate", True),
     ({"replicas": 1}, 1, "RollingUpdate", False), (DUCKDB, 1, "Recreate", False)],
)  # fmt: skip
def test_replicas(values: dict[str, Any], replicas: int, strategy: str, disruption: bool) -> None:
    bodies = render.chart(GIVEN | values)
    spec = next(body for body in bodies if body["kind"] == "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (replicas, strategy)
    assert any(body["kind"] == "PodDisruptionBudget" for body in bodies) is disruption


# -- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, OWN_NAMESPACE, EVERYTHING], ids=["all", "own", "everything"])
def test_no_right_is_a_wildcard_and_no_account_has_a_token_that_it_does_not_need(values: dict[str, Any]) -> None:
    bodies = render.chart(GIVEN | values)
    for body in bodies:
        for rule in body.get("rules", []) if body["kind"] in ("Role", "ClusterRole") else []:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], identity(body)
        if body["kind"] == "ServiceAccount":
            assert body["automountServiceAccountToken"] is False


def test_an_operator_of_single_namespaces_has_no_rights_beyond_but_reviews() -> None:
    bodies = render.chart(GIVEN | OWN_NAMESPACE | {"rbac": {"userRoles": False}}, namespace="team-a")
    assert [body["metadata"]["name"] for body in bodies if body["kind"] == "ClusterRole"] == [f"{NAME}-reviews"]
    bound = [(b["kind"], b["metadata"].get("namespace"), b["roleRef"]["name"]) for b in bodies if "roleRef" in b]
    assert sorted(bound, key=str) == [
        ("ClusterRoleBinding", None, f"{NAME}-reviews"),
        ("RoleBinding", "team-a", NAME),
        ("RoleBinding", "team-a", f"{NAME}-leader"),
        ("RoleBinding", "team-a", f"{NAME}-secrets"),
    ]


def test_the_right_to_get_secrets_can_be_narrowed_or_left_out() -> None:
    def gets_secrets(**rbac: Any) -> list[tuple[str, str]]:
        bodies = render.chart(GIVEN | {"rbac": rbac})
        rules = [(body, rule) for body in bodies if "Role" in body["kind"] for rule in body.get("rules", [])]
        return [identity(body)[:2] for body, rule in rules if "secrets" in rule["resources"]]

    assert gets_secrets() == []  # nobody has said in which of all namespaces
    assert gets_secrets(secretsEverywhere=True) == [("ClusterRole", "")]
    assert gets_secrets(secretNamespaces=["team-a", "team-b"]) == [("Role", "team-a"), ("Role", "team-b")]
    assert gets_secrets(secrets=False, secretsEverywhere=True) == []


# -- the API server ---------------------------------------------------------------------------------------------------

FOREIGN = {
    ("monitoring.coreos.com", "v1"): ("ServiceMonitor", "PrometheusRule"),
    ("cert-manager.io", "v1"): ("Certificate", "Issuer"),
}
"""Kinds of others. Their schemas are theirs; here they are there, and take everything."""


@pytest.fixture(scope="module")
def admin(control_plane: ControlPlane) -> Iterator[Api]:
    with Api(control_plane, "manifests") as api:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name in ("manifests", "team-a", "team-b", NAME):
            api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        for (group, version), kinds in FOREIGN.items():
            for kind in kinds:
                api.install(foreign(group, version, kind))
        yield api


def foreign(group: str, version: str, kind: str) -> Object:
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def dry_run(api: Api, body: Object) -> None:
    """Apply an object on the API server, strictly, without keeping it; a pod template likewise, as a pod of its own."""
    version, kind = body["apiVersion"], body["kind"]
    plural = {"NetworkPolicy": "networkpolicies"}.get(kind, f"{kind.lower()}s")
    namespace = body["metadata"].get("namespace")
    path = f"/{'apis' if '/' in version else 'api'}/{version}"
    path += f"/namespaces/{namespace}" if namespace else ""
    query = "dryRun=All&fieldManager=test&force=true&fieldValidation=Strict"
    name = body["metadata"]["name"]
    api.request("PATCH", f"{path}/{plural}/{name}?{query}", body, content_type="application/apply-patch+yaml")
    if "template" in body.get("spec", {}):
        # Pod Security is enforced on pods; of what makes them it only warns.
        pod = body["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = pod["metadata"] | {"name": name, "namespace": namespace}
        alone = {"serviceAccountName", "topologySpreadConstraints"}  # of them a pod by itself has no use
        pod["spec"] = {key: value for key, value in pod["spec"].items() if key not in alone}
        claims = [claim["metadata"]["name"] for claim in body["spec"].get("volumeClaimTemplates", ())]
        pod["spec"]["volumes"] = [*pod["spec"].get("volumes", ()), *({"name": c, "emptyDir": {}} for c in claims)]
        dry_run(api, pod)


@pytest.mark.parametrize(
    "values",
    [{}, OWN_NAMESPACE, EVERYTHING, EVERYTHING | CERT_MANAGER, ISSUER, GIVEN],
    ids=["defaults", "own", "everything", "cert-manager", "issuer", "given"],
)
def test_the_api_server_takes_all_that_the_chart_renders(admin: Api, values: dict[str, Any]) -> None:
    for body in render.chart(values):
        dry_run(admin, body)


def test_the_api_server_takes_all_of_the_overlays(admin: Api) -> None:
    for folder in sorted((DEPLOY / "overlays").iterdir()):
        for body in render.kustomize(folder):
            dry_run(admin, body)
    dry_run(admin, yaml.safe_load((DEPLOY / "overlays/with-opensearch/store.yaml").read_text()))


def test_such_a_dry_run_does_refuse(admin: Api) -> None:
    deployment = next(body for body in render.chart(GIVEN) if body["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ApiError, match="violates PodSecurity"):
        dry_run(admin, deployment)
    deployment["spec"]["replica"] = 2
    with pytest.raises(ApiError, match="replica"):
        dry_run(admin, deployment)


# -- a release --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def empty() -> Iterator[Api]:
    """An API server of its own, without our CRDs."""
    with ControlPlane.start() as plane, Api(plane, NAME) as api:
        yield api


def release(api: Api, verb: str, *flags: str) -> str:
    """Run helm on our release there."""
    made = [str(CHART), "--create-namespace"] if verb == "install" else [str(CHART)] if verb == "upgrade" else []
    return render.helm(verb, NAME, *made, "--kubeconfig", str(api.plane.kubeconfig), "--namespace", NAME, *flags)


def certificate(api: Api) -> dict[str, str]:
    data: dict[str, str] = api.get(f"{NAME}-tls", kind="Secret")["data"]
    return data


def shakes_hands(data: dict[str, str], folder: Path, name: str) -> None:
    """Go through a TLS handshake with that certificate, as a client that knows its ca.crt. Raises ssl.SSLError."""
    for key, value in data.items():
        (folder / key).write_bytes(base64.b64decode(value))
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=folder / "ca.crt").wrap_bio(back, there, server_hostname=name)
    server = ours.wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.version() is not None


def test_a_release_from_nothing_to_nothing(empty: Api, tmp_path: Path) -> None:
    assert "rollout status deployment/rollup-operator" in release(empty, "install")
    assert {crd["metadata"]["name"] for crd in empty.list(kind="CustomResourceDefinition")} == {
        "rollupjobs.rollup-operator.dev",
        "rollupstores.rollup-operator.dev",
    }
    first = certificate(empty)
    for name in (f"{NAME}.{NAME}.svc", "localhost"):
        shakes_hands(first, tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shakes_hands(first, tmp_path, "rollup.example.org")

    release(empty, "upgrade", "--set", "graceSeconds=30")
    assert certificate(empty) == first, "an upgrade keeps the certificate"
    release(empty, "upgrade", "--set", "tls.dnsNames={rollup.example.org}")
    second = certificate(empty)
    shakes_hands(second, tmp_path, "rollup.example.org")

    old = {"metadata": {"annotations": {"rollup-operator.dev/renew-after": "1700000000"}}}
    empty.patch(f"{NAME}-tls", old, kind="Secret")
    release(empty, "upgrade", "--reuse-values")
    assert certificate(empty) != second, "a certificate that is about to expire is renewed"

    release(empty, "uninstall")
    assert empty.find(f"{NAME}-tls", kind="Secret") is None
    assert len(empty.list(kind="CustomResourceDefinition")) == 2, "the CRDs stay, and the jobs with them"

    release(empty, "install")  # adopts them
    release(empty, "uninstall")
    theirs = {"metadata": {"name": f"{NAME}-tls"}, "apiVersion": "v1", "kind": "Secret"}
    empty.create(theirs)
    with pytest.raises(RenderError, match=r"set tls\.source to secret"):
        release(empty, "install")


# -- what docs say ----------------------------------------------------------------------------------------------------


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if (
            isinstance(value, dict)
            and value
            and key not in ("labels", "resources", "podSecurityContext", "securityContext")
        ):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_value_is_documented_and_has_a_rule_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = [line.split("|")[1] for line in (DEPLOY.parent / "docs/install.md").read_text().splitlines() if "|" in line]
    listed = {name for row in rows for name in row.split("`")[1::2]}
    assert set(leaves(values)) - listed == set()
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    for name in leaves(values):
        at = schema
        for part in name.split("."):
            at = at["properties"][part]
