"""Where the files of embedded stores are. Each of their paths begins here, and none is reached through a link.

    <data root>/
        team/                       users' files: the operator only ever reads them
        .rollup-operator/team/      the operator's files: nobody else writes here
            databases/              databases with their logs (.wal) and what DuckDB spills (.tmp); mode 0700
            results/                <rollup index>/<job id>.parquet, for everybody to read

The data root belongs to the administrator and may be reached through links. Below it, each folder is opened inside
the folder before it, and must be a folder: a link that is put in its place meanwhile is not followed.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rollup_operator.stores.errors import ForbiddenSource, StoreUnavailable, TargetBlocked

OWN = ".rollup-operator"
"""Name of the operator's tree. No namespace can have it."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE, _READABLE = 0o700, 0o755


class NotItself(OSError):
    """Where a folder or a file should be, there is a link, or something else; `strerror` says what."""


class Folder:
    """An open folder. What is done in it is done there, whatever becomes of its path. A context manager."""

    def __init__(self, fd: int, shown: str) -> None:
        """`shown` is its path below the data root, for messages."""
        self.fd, self.shown = fd, shown

    @property
    def path(self) -> str:
        """A path to it for code that takes no descriptors, as long as it is open."""
        return f"/proc/self/fd/{self.fd}"

    def __enter__(self) -> "Folder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def enter(self, name: str, *, make: int | None = None) -> "Folder":
        """Open a folder in this one, made with the mode `make` where it is missing. Raises OSError, NotItself."""
        _must_be_a_name(name)
        if make is not None:
            with suppress(FileExistsError):
                os.mkdir(name, make, dir_fd=self.fd)
        try:
            fd = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=self.fd)
        except NotADirectoryError as e:
            raise NotItself(e.errno, f"is {self._kind(name)}, not a folder") from e
        return Folder(fd, f"{self.shown}/{name}" if self.shown else name)

    def open(self, name: str) -> int:
        """Return the descriptor of a file, to read. Raises OSError, NotItself."""
        _must_be_a_name(name)
        try:
            fd = os.open(name, _OPEN | os.O_NONBLOCK, dir_fd=self.fd)
        except OSError as e:
            raise NotItself(e.errno, f"is {self._kind(name)}, not a file") if self.is_link(name) else e from e
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotItself(0, f"is {self._kind(name)}, not a file")
        return fd

    def stat(self, name: str) -> os.stat_result | None:
        """Return what is there under a name, a link itself where it is one; None: nothing."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def is_link(self, name: str) -> bool:
        """Whether a name is that of a link."""
        return (found := self.stat(name)) is not None and stat.S_ISLNK(found.st_mode)

    def is_folder(self, name: str) -> bool:
        """Whether a name is that of a folder."""
        return (found := self.stat(name)) is not None and stat.S_ISDIR(found.st_mode)

    def names(self) -> Iterator[str]:
        """Yield the names of all that is in it, in no order."""
        with os.scandir(self.fd) as entries:
            for entry in entries:
                yield entry.name

    def sync(self, name: str | None = None) -> None:
        """Make a file durable, or the names in this folder."""
        fd = self.open(name) if name is not None else os.dup(self.fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _kind(self, name: str) -> str:
        found = self.stat(name)
        kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISREG, "a file"))
        return next((word for test, word in kinds if found is not None and test(found.st_mode)), "something else")


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of one namespace. No I/O but in methods."""

    root: Path
    namespace: str

    @classmethod
    def of(cls, root: Path, namespace: str) -> "Folders":
        """Raises StoreUnavailable when the namespace cannot be the name of a folder."""
        if not _NAMESPACE.fullmatch(namespace):
            raise StoreUnavailable(f"namespace {namespace!r} cannot be the name of a folder")
        return cls(root, namespace)

    @property
    def results(self) -> str:
        """Where users find the results, below the data root."""
        return f"{OWN}/{self.namespace}/results"

    def readable(self) -> tuple[str, str]:
        """Return the full paths of the users' folder and of the results, links resolved as far as the data root."""
        root = os.path.realpath(self.root)
        return f"{root}/{self.namespace}", f"{root}/{self.results}"

    def users(self) -> Folder | None:
        """Open the users' folder; None: there is none. Raises ForbiddenSource, StoreUnavailable."""
        try:
            with _root(self.root) as root:
                return root.enter(self.namespace)
        except FileNotFoundError:
            return None
        except NotItself as e:
            raise ForbiddenSource(f"{self.namespace!r} in the data root {e.strerror}: make it a folder") from e
        except OSError as e:
            raise StoreUnavailable(f"the data folder {self.namespace!r} cannot be opened: {e.strerror}") from e

    def databases(self, *folders: str) -> Folder:
        """Open, and make, the folder of the databases or one below it. Raises TargetBlocked, StoreUnavailable."""
        return self._own("databases", *folders, mode=_PRIVATE)

    def exports(self, *folders: str) -> Folder:
        """Open, and make, the folder of the results or one below it. Raises TargetBlocked, StoreUnavailable."""
        return self._own("results", *folders, mode=_READABLE)

    def hide(self, text: str) -> str:
        """Take the machine's paths out of a text: files are named as they are below the namespace's folder."""
        for root in dict.fromkeys((os.path.realpath(self.root), os.path.abspath(self.root), str(self.root))):
            text = text.replace(f"{root}/{self.namespace}/", "").replace(f"{root}/", "")
        return text

    def _own(self, *folders: str, mode: int) -> Folder:
        steps = ((OWN, _READABLE), (self.namespace, _READABLE), *((name, mode) for name in folders))
        at = OWN
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with ExitStack() as passed:
                folder = passed.enter_context(_root(self.root))
                for name, made in steps:
                    at = f"{folder.shown}/{name}" if folder.shown else name
                    folder = passed.enter_context(folder.enter(name, make=made))
                return Folder(os.dup(folder.fd), at)
        except NotItself as e:
            raise TargetBlocked(f"{at!r} in the data root {e.strerror}: remove it, or make it a folder") from e
        except OSError as e:
            raise StoreUnavailable(f"the data folder {at!r} cannot be made: {e.strerror}") from e


def _must_be_a_name(name: str) -> None:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise NotItself(0, "is a path, not a name")


def _root(path: Path) -> Folder:
    return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")
