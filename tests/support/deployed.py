"""The operator in the pods of a real node, as a user deploys it, and what a test does to those pods."""

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_cluster import Cluster
from support.api import Api, Body, condition
from support.operator import Answer
from support.store_front import Authority

NAME = NAMESPACE = "rollup-operator"
_HOST = f"{NAME}.{NAMESPACE}.svc"
_POD_USER = 65532
_HOGS = """
import os, time
for _ in range(40):
    if os.fork() == 0:
        held = b"." * (48 << 20)
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""


class Deployed:
    """The Deployment `rollup-operator` and its Service. `folder` is where the test's own files go."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.api = Api(cluster, NAMESPACE)  # type: ignore[arg-type]  # it has what Api asks of a control plane
        self._folder = folder
        self._port = 0
        self.data = folder / "data"
        """What pods see as /data."""

    def close(self) -> None:
        """Remove what is of no namespace; whatever was deployed must be gone."""
        self.cluster.kubectl("delete", "persistentvolume", NAME, "--ignore-not-found", "--timeout=60s")
        self.api.close()

    # -- what must be there before -------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the namespace, the endpoint's certificate and a volume for /data."""
        self.make_namespace()
        self.make_certificate()
        self.make_volume()

    def make_namespace(self) -> None:
        """Make the namespace, with the strictest Pod Security."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})

    def make_certificate(self) -> None:
        """Make the certificate that an administrator would bring."""
        authority = Authority.make(self._folder / "authority")
        pair = authority.issue("endpoint", hosts=f"DNS:{_HOST}")
        files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.certificate}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{NAME}-tls"}}
        self.api.apply(
            secret
            | {"type": "kubernetes.io/tls", "stringData": {name: path.read_text() for name, path in files.items()}}
        )

    def make_volume(self) -> None:
        """A volume without a class, for the only claim that asks for none."""
        self.data.mkdir(exist_ok=True)
        os.chown(self.data, _POD_USER, _POD_USER)
        spec = {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(self.data)},
        }
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": NAME}, "spec": spec}
        self.cluster.kubectl("apply", "-f", "-", text=json.dumps(volume))

    def folder_of(self, namespace: str) -> Path:
        """The folder of a namespace's embedded stores, which pods may write to."""
        folder = self.data / namespace
        folder.mkdir(exist_ok=True)
        os.chown(folder, _POD_USER, _POD_USER)
        return folder

    # -- pods ----------------------------------------------------------------------------------------------------------

    def pods(self) -> list[Body]:
        """The operator's pods that are not on their way out, oldest first."""
        there = [each for each in self._all_pods() if "deletionTimestamp" not in each["metadata"]]
        return sorted(there, key=lambda each: str(each["metadata"]["creationTimestamp"]))

    def _all_pods(self) -> list[Body]:
        words = ("get", "pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/name={NAME}", "-o", "json")
        return list(json.loads(self.cluster.kubectl(*words))["items"])

    def pod(self) -> Body:
        """The only one."""
        (pod,) = self.pods()
        return pod

    def wait_rolled_out(self, timeout: float = 90) -> None:
        """Return once every pod is of the newest version and ready, and no other is left; fail with what they say.

        A rollout counts as done while the pods before it still wind up, one of which may lead.
        """
        words = ("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", f"--timeout={timeout:g}s")
        done = self.cluster.run("kubectl", *words, check=False, timeout=timeout + 10)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.account()}"
        self._poll(lambda: len(self.pods()) == len(self._all_pods()), f"old pods left after {timeout} s", timeout)

    def wait_restarted(self, before: int, timeout: float = 60) -> Body:
        """Return the only pod once its container has been started anew and is ready."""
        deadline = time.monotonic() + timeout
        while True:
            pod = self.pod()
            if _restarts(pod) > before and (condition(pod, "Ready") or {}).get("status") == "True":
                return pod
            assert time.monotonic() < deadline, f"no new container after {timeout} s\n{self.account()}"
            time.sleep(0.2)

    def wait_pod_besides(self, uids: set[str], timeout: float = 60) -> None:
        """Return once a pod with none of these uids is ready."""

        def there() -> bool:
            others = [each for each in self.pods() if each["metadata"]["uid"] not in uids]
            return any((condition(each, "Ready") or {}).get("status") == "True" for each in others)

        self._poll(there, f"no new pod after {timeout} s", timeout)

    def wait_leader(self, *, besides: Body | None = None, timeout: float = 30) -> Body:
        """Return the pod that the lease names, once it names one that stays and is not `besides`."""
        words = ("-n", NAMESPACE, "get", "lease", NAME, "-o", "jsonpath={.spec.holderIdentity}")
        deadline = time.monotonic() + timeout
        while True:
            holder = self.cluster.kubectl(*words)
            for pod in self.pods():
                name = pod["metadata"]["name"]
                if holder.startswith(name) and (besides is None or name != besides["metadata"]["name"]):
                    return pod
            assert time.monotonic() < deadline, f"{holder!r} leads after {timeout} s\n{self.account()}"
            time.sleep(0.2)

    def _poll(self, question: Callable[[], bool], complaint: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not question():
            assert time.monotonic() < deadline, f"{complaint}\n{self.account()}"
            time.sleep(0.2)

    def account(self) -> str:
        """What pods, events and logs say, for a failure."""
        words = (["get", "pods,events"], ["describe", "pods"], ["logs", f"deployment/{NAME}", "--tail=60", "--prefix"])
        texts = [self.cluster.run("kubectl", "-n", NAMESPACE, *each, check=False) for each in words]
        return "\n".join(each.stdout + each.stderr for each in texts)[-12_000:]

    def log(self, *, previous: bool = False) -> str:
        """The log of the deployment's pod, or of the container before this one."""
        return self.cluster.kubectl(
            "-n", NAMESPACE, "logs", f"deployment/{NAME}", *(["--previous"] if previous else [])
        )

    def process(self, pod: Body | None = None) -> int:
        """The pid, on this machine, of the operator in a pod."""
        (container,) = (pod or self.pod())["status"]["containerStatuses"]
        identity = container["containerID"].rpartition("/")[2]
        found = [int(each.parent.name) for each in Path("/proc").glob("[0-9]*/cgroup") if identity in _text(each)]
        return min(found)

    def freeze(self, pod: Body | None = None) -> int:
        """Stop the process of a pod, the only one by default, where it stands; return its pid."""
        pid = self.process(pod)
        os.kill(pid, signal.SIGSTOP)
        return pid

    def exhaust_memory(self) -> None:
        """Let the kernel end the operator because its container has no memory left."""
        # Many small processes, so that none is a better choice than the operator.
        Path(f"/proc/{self.process()}/oom_score_adj").write_text("1000")
        words = ("-n", NAMESPACE, "exec", f"deployment/{NAME}", "--", "/usr/bin/python3.11", "-I", "-c", _HOGS)
        self.cluster.run("kubectl", *words, check=False)

    def wait_asked_to_end(self, pid: int, timeout: float = 30) -> None:
        """Return once a process that stands still has been sent SIGTERM."""

        def sent() -> bool:
            pending = _text(Path(f"/proc/{pid}/status")).partition("ShdPnd:")[2].split()[0]
            return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)

        self._poll(sent, f"no SIGTERM after {timeout} s", timeout)

    # -- the endpoint, through the Service -----------------------------------------------------------------------------

    def request(self, method: str, path: str, token: str, body: Any = None, *, timeout: float = 30.0) -> Answer:
        """Call the Service at its own address, verify its certificate, and return the answer whatever its status.

        Raises OSError or http.client.HTTPException when no pod answers.
        """
        if not self._port:
            words = ("-n", NAMESPACE, "get", "service", NAME, "-o", "jsonpath={.spec.clusterIP}")
            self._port = self.cluster.forward(f"{self.cluster.kubectl(*words)}:443")
        secret = self.api.get(f"{NAME}-tls", kind="Secret")["data"]
        trust = ssl.create_default_context(cadata=base64.b64decode(secret["ca.crt"]).decode())
        with (
            socket.create_connection(("127.0.0.1", self._port), timeout) as plain,
            trust.wrap_socket(plain, server_hostname=_HOST) as sock,
        ):
            connection = http.client.HTTPSConnection(_HOST, timeout=timeout)
            connection.sock = sock
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))

    def insist(self, method: str, path: str, token: str, *, timeout: float = 60.0) -> Answer:
        """Call as often as a patient client does, until an answer is none of 5xx; fail after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        said: object = None
        while time.monotonic() < deadline:
            try:
                answer = self.request(method, path, token, timeout=min(20.0, deadline - time.monotonic()))
                if answer.status < 500:
                    return answer
                said = answer
            except (OSError, http.client.HTTPException, ssl.SSLError) as error:
                said = error
            time.sleep(0.2)  # as the client would
        raise AssertionError(f"{method} {path}: no answer after {timeout} s, last: {said}\n{self.account()}")


def _restarts(pod: Body) -> int:
    return sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))


def restarts(pod: Body) -> int:
    """How often the pod's containers were started anew."""
    return _restarts(pod)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it has ended
