"""`Node`: the public face of a running OpenSearch or Elasticsearch."""

import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from local_stores import api
from local_stores.errors import StoreNodeError
from local_stores.jars import Installed, install
from local_stores.kinds import Kind, kind_named
from local_stores.state import NODE, SUPERVISOR, NodeFolder
from local_tools.folder import locked, remove_abandoned
from local_tools.lifeline import NotReady, Supervised
from local_tools.ports import free_ports, is_free
from local_tools.process import ProcessId

Settings = Mapping[str, str | int | float | bool | Sequence[str]]

_TEMPORARY_PREFIX = "local-stores-"
_PORT_ATTEMPTS = 5
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# A machine of a developer is often fuller than a node likes, and what it then does has nothing to do with a test.
_SETTINGS: Settings = {
    "network.host": "127.0.0.1",
    "transport.port": 0,
    "discovery.type": "single-node",
    "cluster.routing.allocation.disk.threshold_enabled": False,
}
# The serial collector lets garbage lie until memory is full, and a breaker that measures memory counts garbage as used.
_QUICK_SETTINGS: Settings = {"indices.breaker.total.use_real_memory": False}
_LOGIN = ("elastic", "of-no-worth")
_FIRST_LOGIN = "bootstrap.password"
_SECURED: Settings = {"xpack.security.enabled": True, _FIRST_LOGIN: _LOGIN[1]}


class Node:
    """A real node, alone in its cluster, on a loopback port: plain HTTP, and no login unless it is `secured`.

    A context manager: its end ends the process. It ends with the starting process too, however that ends, unless
    `detach` was called. Processes forked from that one without exec must have ended as well.
    """

    def __init__(self, folder: NodeFolder, command: "_Command | None", supervised: Supervised | None) -> None:
        """For `start` and `find`."""
        record = folder.read()
        if record is None or not record.ready:
            raise StoreNodeError(f"{folder.path}: no node is ready there")
        self._folder = folder
        self._command = command
        self._supervised = supervised
        self.kind: Kind = kind_named(record.kind)
        """Product and version."""
        self.url: str = record.url
        """`http://127.0.0.1:<port>`; the same after a restart."""
        self.login: tuple[str, str] | None = command.login if command is not None else None
        """Who may do everything, and the password; None where nobody has to log in."""

    @classmethod
    def start(
        cls,
        kind: str,
        *,
        directory: Path | None = None,
        port: int | None = None,
        settings: Settings | None = None,
        secured: bool = False,
        heap: str = "512m",
        quick: bool = True,
        timeout: float = 120.0,
    ) -> Self:
        """Start a node of `kind`, one of KINDS, and return once its health is not red.

        `directory` is made if missing; data that a node of this kind left there is there again, and stays. Without it
        a temporary one is used and removed in the end. `port` is a free one unless given. `settings` are the node's
        own, such as `{"http.max_content_length": "1mb"}`, and go over the defaults of this launcher. `secured`: with
        users, roles and API keys, which elasticsearch8 and elasticsearch9 alone have. `quick` compiles
        for a quick start, not for speed: switch it off to measure. `timeout`, in seconds, does not count what the
        first start on a machine has to fetch. Raises ToolMissing without a JDK or Maven, StoreNodeError when the port
        is taken, a node runs in that directory, or it is not ready in time; the message ends with its last words.
        """
        if secured and not kind_named(kind).security_modules:
            raise StoreNodeError(f"{kind_named(kind).title}: knows no users here; choose elasticsearch8 or 9")
        installed = install(kind_named(kind), _train)
        given = directory.absolute() if directory is not None else None
        if given is None:
            remove_abandoned(_TEMPORARY_PREFIX, lambda path: bool((r := NodeFolder(path).read()) and r.running()))
        else:
            given.mkdir(parents=True, exist_ok=True)
        folder = NodeFolder(given or Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX)))
        own = {**_SETTINGS, **(_QUICK_SETTINGS if quick else {}), **(_SECURED if secured else {}), **(settings or {})}
        command = _Command(installed, folder, own, heap, quick, timeout, given is None)
        try:
            with locked(folder.path):
                folder.prepare(kind)
                return cls(folder, command, command.launch_on_free_port() if port is None else command.launch(port))
        except BaseException:
            if given is None and not folder.log(NODE).exists():  # else its log is worth reading
                shutil.rmtree(folder.path, ignore_errors=True)
            raise

    @classmethod
    def find(cls, directory: Path) -> "Node | None":
        """Return the node that runs in a directory, None if none does or it is still starting."""
        folder = NodeFolder(directory.absolute())
        record = folder.read()
        return cls(folder, None, None) if record and record.ready and record.running() else None

    @property
    def directory(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def log(self) -> Path:
        """What it says."""
        return self._folder.log(NODE)

    @property
    def process(self) -> ProcessId:
        """The Java process of now."""
        record = self._folder.read()
        assert record is not None
        return record.processes[NODE]

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process.alive()

    def request(self, method: str, path: str, body: object = None, *, timeout: float = 30.0) -> tuple[int, Any]:
        """Ask the node; return the status and the parsed answer.

        Raises OSError or http.client.HTTPException when no answer comes within `timeout` seconds.
        """
        return api.request(self.url, method, path, body, headers=api.basic(self.login), timeout=timeout)

    def stop_now(self) -> None:
        """Kill it (SIGKILL) and return once it is gone; its data stay as the crash leaves them."""
        self._end_process(signal.SIGKILL)

    def restart(self, settings: Settings | None = None) -> None:
        """Start it again on the same data and the same port; first end it in order if it runs.

        `settings` go over those that it had and stay for further restarts. Only for a node that this process started.
        """
        if self._command is None:
            raise StoreNodeError(f"{self.directory}: started by another process, which alone can restart it")
        self._end_process(signal.SIGTERM)
        if self._supervised is not None:
            self._supervised.end()
        self._command.settings = {**self._command.settings, **(settings or {})}
        with locked(self.directory):
            self._supervised = self._command.launch(urlsplit(self.url).port or 0)

    def freeze(self) -> None:
        """Let it hang (SIGSTOP): it keeps its connections and answers nothing."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.process.signal(signal.SIGCONT)

    def detach(self) -> None:
        """Let the node run on after this process, until `stop` or the command `down`."""
        if self._supervised is not None:
            self._supervised.detach()

    def stop(self) -> None:
        """End it. The data stay in a directory that was given; a temporary one is removed. May be repeated."""
        if self._supervised is not None:
            self._supervised.end()
        temporary = self._command is not None and self._command.temporary
        if self.directory.exists():
            with locked(self.directory):
                self._folder.end(in_order=not temporary)
            if temporary:
                shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end_process(self, number: signal.Signals) -> None:
        record = self._folder.read()
        assert record is not None
        os.utime(self.directory)  # nothing runs there now, but it is not abandoned
        record.processes[NODE].signal(number)
        record.processes[NODE].signal(signal.SIGCONT)  # if it was frozen
        for name in (NODE, SUPERVISOR):  # that ends by itself, and leaves the data
            if not record.processes[name].wait(30):
                raise StoreNodeError(f"{self.directory}: {name} (pid {record.processes[name].pid}) does not end")


def prepare(kind: str) -> Path:
    """Get what a kind is made of if it is not here yet; return where it is. Raises as `Node.start` does."""
    return install(kind_named(kind), _train).folder


def down(directory: Path, *, keep: bool = False) -> bool:
    """End what runs in a directory and remove its data unless `keep`; False when nothing ran."""
    folder = NodeFolder(directory.absolute())
    if not folder.path.exists():
        return False
    with locked(folder.path):
        ran = folder.end(in_order=keep)
        if not keep:
            folder.erase()
        return ran


class _Command:
    """How to start a node in a folder."""

    def __init__(
        self,
        installed: Installed,
        folder: NodeFolder,
        settings: Settings,
        heap: str,
        quick: bool,
        timeout: float,
        temporary: bool,
        archive: Path | None = None,
    ) -> None:
        self._installed = installed
        self._folder = folder
        self.settings = settings
        self.temporary = temporary
        self._timeout = timeout
        self._options = [f"-Xms{heap}", f"-Xmx{heap}", "-XX:-UsePerfData", *(_QUICK if quick else ())]
        if archive is not None:
            self._options += [f"-XX:ArchiveClassesAtExit={archive}"]
        elif installed.archive.stat().st_size:
            self._options += [f"-XX:SharedArchiveFile={installed.archive}"]
        if (modules := installed.modules(secured=self.login is not None)) is not None:
            self._options += [f"-Dmodules={modules}"]

    @property
    def login(self) -> tuple[str, str] | None:
        """Who may do everything, and the password; None where nobody has to log in."""
        return _LOGIN if _FIRST_LOGIN in self.settings else None

    def launch_on_free_port(self) -> Supervised:
        """Start it on a port that is free, and try others when somebody was quicker to take that."""
        for _ in range(_PORT_ATTEMPTS - 1):
            try:
                return self.launch(free_ports(1)[0])
            except _PortTaken:
                continue
        return self.launch(free_ports(1)[0])

    def launch(self, port: int) -> Supervised:
        """Start it on one port. Raises StoreNodeError when that is taken or it does not become ready."""
        if not is_free(port):
            raise _PortTaken(f"port {port} is taken; choose another, or end what listens there")
        kind, folder = self._installed.kind, self._folder
        own = f"{kind.name}-{hashlib.sha256(str(folder.path).encode()).hexdigest()[:8]}"
        cluster = str(self.settings.get("cluster.name", own))
        scratch = folder.data / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        settings = {"node.roles": kind.roles, **self.settings, "http.port": port}
        java = [self._installed.jdk.tool("java"), *self._options, f"-Djava.io.tmpdir={scratch}"]
        java += ["-cp", self._installed.class_path, "Launch", str(folder.data), cluster]
        java += [f"{name}={_text(value)}" for name, value in settings.items()]
        words = [str(folder.path), "--kind", kind.name, "--url", f"http://127.0.0.1:{port}", "--cluster", cluster]
        words += ["--login", ":".join(self.login)] if self.login is not None else []
        words += ["--timeout", str(self._timeout), *(["--temporary"] if self.temporary else []), "--", *java]
        try:
            return Supervised.launch("local_stores.supervisor", words, folder.log(SUPERVISOR))
        except NotReady as error:
            known = _PortTaken if "BindHttpException" in str(error) else StoreNodeError
            raise known(f"{kind.title} did not start: {error}") from None


class _PortTaken(StoreNodeError):
    pass


def _train(installed: Installed, archive: Path) -> None:
    """Start a node and end it in order, so that Java writes the classes that it has loaded."""
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY_PREFIX) as path:
        folder = NodeFolder(Path(path))
        command = _Command(installed, folder, _SETTINGS, "512m", True, 120, False, archive)
        command.launch_on_free_port().end()


def _text(value: str | float | bool | Sequence[str]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ",".join(value)
