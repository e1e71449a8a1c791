"""`Cluster`: the public face of a running node."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from local_cluster.errors import ClusterError
from local_cluster.layout import NODE_ADDRESS, SERVER, SOCKET, Layout
from local_cluster.needs import PROGRAMS, TOOLS, search_path, why_not
from local_control_plane.build import binaries
from local_control_plane.errors import ControlPlaneError
from local_tools.folder import locked, remove_abandoned
from local_tools.lifeline import NotReady, Supervised
from local_tools.process import ProcessId

_TEMPORARY_PREFIX = "local-cluster-"

_LONGEST_PATH = 60
"""Bytes of a cluster's folder. Linux allows 107 for a socket; the kubelet's lie below data/kubelet/pod-resources."""

IMPORT_SECONDS = 300.0
"""How long the import of an image may take: on a busy machine it takes minutes."""

_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts")
_CGROUPS = Path("/sys/fs/cgroup")


class Cluster:
    """A real Kubernetes of one node: control plane, kubelet, containerd and runc, pods and Services with addresses.

    It lives in namespaces of its own and leaves the machine's network, its containers and its settings alone. Not
    there: name service, images from a registry, storage classes, load balancers. A context manager: its end ends
    every process and removes the data. They end with the starting process too, however that ends, unless `detach`
    was called.
    """

    def __init__(self, layout: Layout, supervised: Supervised | None, temporary: bool) -> None:
        """For `start` and `find`."""
        node = layout.read()
        if node is None:
            raise ClusterError(f"{layout.path}: no cluster runs there")
        self._layout = layout
        self._node = node
        self._supervised = supervised
        self._temporary = temporary
        self._forwards: list[subprocess.Popen[str]] = []
        self._server = ""
        self.address = NODE_ADDRESS
        """The node's address, as pods see it."""

    @classmethod
    def start(cls, directory: Path | None = None, *, timeout: float = 120.0) -> "Cluster":
        """Start a cluster and return once its node is Ready, 5 to 10 seconds later.

        `directory` is made if missing and must hold nothing else; without it a temporary one is used and removed in
        the end. `timeout`, in seconds, does not count the build, which the first start on a machine needs. Raises
        ClusterError when this machine cannot run one, one runs there already, or it is not Ready in time.
        """
        reason = why_not()
        if reason is not None:
            raise ClusterError(reason)
        programs = _programs()
        if directory is None:
            remove_abandoned(_TEMPORARY_PREFIX, _runs)
            path = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX))
        else:
            path = directory.absolute()
            if len(os.fsencode(path)) > _LONGEST_PATH:
                raise ClusterError(
                    f"{path} has {len(os.fsencode(path))} bytes, and the kubelet makes sockets below it, whose paths "
                    f"are limited: choose a shorter one, of at most {_LONGEST_PATH}"
                )
            path.mkdir(parents=True, exist_ok=True)
        layout = Layout(path)
        with locked(path):
            _prepare(layout)
            supervised = _launch(layout, programs, timeout)
        return cls(layout, supervised, temporary=directory is None)

    @classmethod
    def find(cls, directory: Path) -> "Cluster | None":
        """Return the cluster that runs in a directory, None if none does."""
        layout = Layout(directory.absolute())
        return cls(layout, None, temporary=False) if layout.read() is not None else None

    @property
    def name(self) -> str:
        """The node's name."""
        return self._layout.name

    @property
    def pid(self) -> int:
        """The node's first process."""
        return self._node.pid

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs; those of pods below `pods`."""
        return self._layout.logs

    @property
    def server(self) -> str:
        """The API server's URL for this machine, by a `forward` that lasts as long as this object."""
        if not self._server:
            self._server = f"https://localhost:{self.forward(SERVER.removeprefix('https://'))}"
        return self._server

    @property
    def ca(self) -> Path:
        """The certificate, in PEM, by which to verify the API server."""
        return self._layout.authority

    def token(self, user: str = "admin") -> str:
        """Return the admin's bearer token (group system:masters). Raises ValueError for another user."""
        if user != "admin":
            raise ValueError(f"user {user!r}: unknown; a cluster has the admin alone, and service accounts")
        return self._layout.token.read_text()

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command line that runs `words` in the node, with kubectl's KUBECONFIG set."""
        enter = ["nsenter", "--target", str(self.pid), *_NAMESPACES, f"--wd={Path.cwd()}"]
        path = os.pathsep.join([str(_programs()["kubectl"].parent), search_path()])
        return [*enter, "env", f"KUBECONFIG={self._layout.kubeconfig}", f"PATH={path}", *words]

    def run(
        self, *words: str, text: str | None = None, check: bool = True, timeout: float = 120.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the node, `text` on its standard input; return what it said.

        Raises ClusterError with its words when it fails and `check` is set, or takes more than `timeout` seconds.
        """
        try:
            done = subprocess.run(
                self.command(words), input=text or "", capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{' '.join(words)[:300]}: not done after {timeout:g} s") from None
        if check and done.returncode != 0:
            raise ClusterError(f"{' '.join(words)[:300]}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
        return done

    def kubectl(self, *words: str, text: str | None = None, timeout: float = 120.0) -> str:
        """Run kubectl as the admin and return its output. Raises ClusterError as `run` does."""
        return self.run("kubectl", *words, text=text, timeout=timeout).stdout

    def load_image(self, archive: Path) -> None:
        """Make the images of a docker or OCI archive known to the node. Raises ClusterError."""
        if not archive.exists():
            raise ClusterError(f"{archive}: no such image archive")
        words = ("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images", "import", str(archive.absolute()))
        self.run(*words, timeout=IMPORT_SECONDS)

    def forward(self, to: str) -> int:
        """Let this machine reach an address of the node's network; return the port on 127.0.0.1.

        `to` is ADDRESS:PORT of a pod, a Service or the node. It lasts as long as this object.
        """
        return self._forward(["--listen", "127.0.0.1:0", "--to", to])

    def forward_inwards(self, port: int) -> str:
        """Let pods reach a port of this machine's loopback; return ADDRESS:PORT for them."""
        listen = ["--listen", f"{self.address}:0", "--to", f"127.0.0.1:{port}", "--inwards"]
        return f"{self.address}:{self._forward(listen)}"

    def detach(self) -> None:
        """Let the cluster run on after this process, until `stop(directory)`."""
        if self._supervised is not None:
            self._supervised.detach()

    def stop(self) -> None:
        """End every process and remove the data but, in a directory that was given, the logs. May be repeated."""
        for each in self._forwards:
            each.kill()
            each.communicate()
        self._forwards.clear()
        if self._supervised is not None:
            self._supervised.end()
        if self._layout.path.exists():
            with locked(self._layout.path):
                _end(self._layout)
            if self._temporary:
                shutil.rmtree(self._layout.path, ignore_errors=True)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _forward(self, arguments: Sequence[str]) -> int:
        process = subprocess.Popen(
            [sys.executable, "-m", "local_cluster.forward", "--pid", str(self.pid), *arguments],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            stdin=subprocess.PIPE,  # its end is the forward's end
            stdout=subprocess.PIPE,
            text=True,
        )
        self._forwards.append(process)
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise ClusterError(f"cannot carry connections: {' '.join(arguments)}")
        return int(port)


def stop(directory: Path) -> bool:
    """End the cluster of a directory and clear what a crash left there; False when nothing ran."""
    layout = Layout(directory.absolute())
    if not layout.path.exists():
        return False
    with locked(layout.path):
        return _end(layout)


def _programs() -> dict[str, Path]:
    try:
        return binaries((*PROGRAMS, *TOOLS))
    except ControlPlaneError as error:
        raise ClusterError(str(error)) from None


def _prepare(layout: Layout) -> None:
    if layout.read() is not None:
        raise ClusterError(f"{layout.path}: a cluster runs there; choose another folder or end it first")
    foreign = {each.name for each in layout.path.iterdir()} - {"log", "data", "kubeconfig", "state.json", ".new"}
    if foreign:
        raise ClusterError(
            f"{layout.path}: holds {min(foreign)}, which is not a cluster's; choose an empty or a new folder"
        )
    _end(layout)
    layout.path.chmod(0o700)
    shutil.rmtree(layout.logs, ignore_errors=True)
    layout.logs.mkdir()
    layout.data.mkdir()


def _launch(layout: Layout, programs: Mapping[str, Path], timeout: float) -> Supervised:
    """Start the node, wait for its word and record it. Raises ClusterError when that is not `ready`."""
    arguments = [str(layout.path), "--timeout", str(timeout)]
    arguments += [f"--program={name}={path}" for name, path in programs.items()]
    try:
        supervised = Supervised.launch("local_cluster.node", arguments, layout.log("node"))
    except NotReady as error:
        _end(layout)
        raise ClusterError(f"the cluster did not start: {error}") from None
    unshare = supervised.pid
    first = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
    layout.write(ProcessId.of(int(first)))
    return supervised


def _end(layout: Layout) -> bool:
    """End what the record names and remove everything but the logs. Raises ClusterError when it does not end."""
    node = layout.read()
    if node is not None:
        node.signal(signal.SIGTERM)
        if not node.wait(timeout=10):
            node.kill()
        if not node.wait(timeout=10):
            raise ClusterError(f"{layout.path}: the node (pid {node.pid}) does not end after SIGKILL")
    _remove_cgroups(layout.name)
    shutil.rmtree(layout.data, ignore_errors=True)
    layout.kubeconfig.unlink(missing_ok=True)
    layout.erase_record()
    return node is not None


def _runs(path: Path) -> bool:
    """Whether a cluster runs in a folder; if not, what it left outside of that folder goes."""
    layout = Layout(path)
    if layout.read() is not None:
        return True
    _remove_cgroups(layout.name)
    return False


def _remove_cgroups(name: str) -> None:
    """Remove the node's cgroups; a group whose last process is just ending cannot go yet."""
    deadline = time.monotonic() + 5
    while tops := [each for each in (_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")) if each.exists()]:
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        if time.monotonic() >= deadline:
            return
        time.sleep(0.02)
