"""What the demo asks of the API server: apply manifests, wait for a state by watching, show a table.

`kubectl` does it where it can be used, so that the demo shows what a user would type. Without it the same requests go
out from here.
"""

import http.client
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import yaml

from local_control_plane import ControlPlane
from rollup_demo.errors import DemoError

GROUP = "/apis/rollup-operator.dev/v1alpha1"
JOBS = f"{GROUP}/namespaces/default/rollupjobs"
STORES = f"{GROUP}/namespaces/default/rollupstores"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RUN_REQUESTED = "rollup-operator.dev/run-requested-at"

_COLLECTIONS = {
    "RollupJob": JOBS,
    "RollupStore": STORES,
    "CustomResourceDefinition": CRDS,
    "ServiceAccount": ACCOUNTS,
    "ClusterRole": f"{RBAC}/clusterroles",
    "RoleBinding": f"{RBAC}/namespaces/default/rolebindings",
}

Body = dict[str, Any]


class Cluster:
    """The admin's hands in namespace `default`."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        """`folder` takes kubectl's cache, so that nothing of the demo stays in the user's home."""
        self._plane = plane
        self._tls = ssl.create_default_context(cafile=plane.ca)
        self._kubectl = _kubectl(plane.kubeconfig, folder)

    @property
    def has_kubectl(self) -> bool:
        """Whether `kubectl` speaks for us."""
        return self._kubectl is not None

    def apply(self, path: Path) -> str:
        """Apply one manifest file, or all in a folder; return the command as a user would type it."""
        if self._kubectl is not None:
            self._run("apply", "-f", str(path))
        else:
            for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
                for body in yaml.safe_load_all(file.read_text()):
                    self._apply(body)
        return f"kubectl apply -f {path}"

    def ask_for_run(self, job: str) -> str:
        """Ask for a run now; return the value that the status will name once it is handled."""
        value = datetime.now(UTC).isoformat()
        self.patch(job, {"metadata": {"annotations": {RUN_REQUESTED: value}}})
        return value

    def patch(self, job: str, change: Body) -> Body:
        """Merge a change into a job; return it as it is then."""
        return self._expect(200, "PATCH", f"{JOBS}/{job}", change, content_type="application/merge-patch+json")

    def delete(self, job: str) -> str:
        """Delete a job and return once it is gone; return the command as a user would type it."""
        status, text = self._send("DELETE", f"{JOBS}/{job}")
        if status != 200:
            raise DemoError(f"deleting {job} was answered {status}: {text}")
        deadline = time.monotonic() + 30
        while self._send("GET", f"{JOBS}/{job}")[0] != 404:
            if time.monotonic() > deadline:
                raise DemoError(f"{job} is not gone 30 s after its deletion")
            time.sleep(0.05)
        return f"kubectl delete rollupjob {job}"

    def token(self, account: str, *, hours: int) -> str:
        """Return a new token of a service account, as `kubectl create token` does."""
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": hours * 3600},
        }
        answer = self._expect(201, "POST", f"{ACCOUNTS}/{account}/token", request)
        token: str = answer["status"]["token"]
        return token

    def job(self, name: str) -> Body:
        """Return a job as it is now."""
        return self._expect(200, "GET", f"{JOBS}/{name}")

    def table(self, *jobs: str) -> str:
        """Return what `kubectl get rollupjobs` prints."""
        if self._kubectl is not None:
            return self._run("get", "rollupjobs", *jobs)
        status, text = self._send("GET", JOBS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        if status != 200:
            raise DemoError(f"GET {JOBS} was answered {status}: {text}")
        answer = json.loads(text)
        shown = [i for i, column in enumerate(answer["columnDefinitions"]) if column["priority"] == 0]
        rows = [[answer["columnDefinitions"][i]["name"].upper() for i in shown]]
        rows += [
            ["" if row["cells"][i] is None else str(row["cells"][i]) for i in shown]
            for row in answer["rows"]
            if not jobs or row["object"]["metadata"]["name"] in jobs
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(shown))]
        return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def wait(self, path: str, done: Callable[[Body], bool], *, seconds: float, what: str) -> Body:
        """Watch one object until `done` says so, and return it. Raises DemoError saying `what` did not come."""
        deadline = time.monotonic() + seconds
        body = self._expect(200, "GET", path)
        while not done(body):
            left = deadline - time.monotonic()
            if left <= 0:
                raise DemoError(f"{what}: not within {seconds:g} s. Its status: {json.dumps(body.get('status'))}")
            for newer in self.changes(path, body, seconds=min(left, 30)):
                body = newer
                if done(body):
                    break
        return body

    def changes(self, path: str, since: Body, *, seconds: float) -> Iterator[Body]:
        """Yield each newer version of one object for some seconds, from a watch."""
        collection, _, name = path.rpartition("/")
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": since["metadata"]["resourceVersion"],
        }
        deadline = time.monotonic() + seconds
        connection = self._connect(seconds)
        try:
            connection.request("GET", f"{collection}?{urlencode(query)}", headers=self._headers())
            answer = connection.getresponse()
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise DemoError(f"the watch of {path} ended: {event['object'].get('message')}")
                if event["type"] == "DELETED":
                    raise DemoError(f"{path} was deleted")
                yield event["object"]
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                if connection.sock is not None:
                    connection.sock.settimeout(left)
        except TimeoutError:
            return
        finally:
            connection.close()

    def _apply(self, body: Body) -> None:
        path = f"{_COLLECTIONS[body['kind']]}/{quote(body['metadata']['name'])}?fieldManager=rollup-demo&force=true"
        status, text = self._send("PATCH", path, body, content_type="application/apply-patch+yaml")
        if status not in (200, 201):
            raise DemoError(f"applying {body['kind']} {body['metadata']['name']} was answered {status}: {text}")

    def _expect(self, expected: int, method: str, path: str, body: object = None, **options: str) -> Body:
        status, text = self._send(method, path, body, **options)
        if status != expected:
            raise DemoError(f"{method} {path} was answered {status}: {text}")
        answer: Body = json.loads(text)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, str]:
        connection = self._connect(10)
        try:
            headers = self._headers(accept) | ({} if body is None else {"Content-Type": content_type})
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def _connect(self, seconds: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(urlsplit(self._plane.server).netloc, context=self._tls, timeout=seconds)

    def _headers(self, accept: str = "application/json") -> dict[str, str]:
        return {"Authorization": f"Bearer {self._plane.token()}", "Accept": accept}

    def _run(self, *words: str) -> str:
        assert self._kubectl is not None
        done = subprocess.run([*self._kubectl, *words], capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise DemoError(f"kubectl {' '.join(words)} failed: {done.stderr.strip()}")
        return done.stdout.rstrip()


def _kubectl(kubeconfig: Path, folder: Path) -> list[str] | None:
    """Return the beginning of a kubectl command, None where there is no kubectl that works."""
    found = shutil.which("kubectl")
    if found is None:
        return None
    try:
        subprocess.run([found, "version", "--client"], capture_output=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return [found, "--kubeconfig", str(kubeconfig), "--cache-dir", str(folder / "kubectl-cache")]
