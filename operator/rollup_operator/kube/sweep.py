"""Finds what the watch of one resource missed, by listing the resource.

After an expired watch, the following list shows what exists, never what was deleted. And a watch that begins at a
version from the future, after etcd was restored, brings nothing until that version comes.

    list began at revision 90      watch
      [ a@70  b@85 ]                 c@95 added
      known here: a@60 c@95 d@80
      a: older than listed, read it      b: unknown, read it
      c: newer than the list, not in it  d: not listed and older than the list, gone
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from rollup_operator.kube.client import KubeClient, NotFound
from rollup_operator.kube.paths import ApiPath

log = structlog.get_logger(__name__)


class KnownObjects(Protocol):
    """The objects of one resource as this process knows them."""

    def versions(self, namespace: str | None) -> Mapping[str, int]:
        """Return uid and resourceVersion of each object in a namespace; None: in all."""

    def version(self, uid: str) -> int | None:
        """Return the resourceVersion of one object; None: it is unknown."""

    def dead(self) -> Collection[str]:
        """Return the uids that are known to be gone, as they are now."""

    def observe(self, body: Mapping[str, Any]) -> None:
        """Take in an object as the API server shows it."""

    def gone(self, uid: str) -> None:
        """Take in that the object of that uid no longer exists."""


GONE_REMEMBERED = 10_000
"""How many uids of deleted objects are remembered, the latest ones. A list or a read that began before a deletion still
shows the object; more deletions than these meanwhile would let the first of them return until the next sweep."""


class Gone:
    """The uids of objects that no longer exist, none of which ever comes back."""

    def __init__(self) -> None:
        self._uids: dict[str, None] = {}

    def add(self, uid: str) -> None:
        """Remember a uid."""
        self._uids[uid] = None
        if len(self._uids) > GONE_REMEMBERED:
            del self._uids[next(iter(self._uids))]

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids

    def __iter__(self) -> Iterator[str]:
        return iter(self._uids)


@dataclass(frozen=True, slots=True)
class _Listed:
    namespace: str
    name: str
    version: int


class Sweep:
    """Compares what exists with what is known, on demand."""

    def __init__(
        self,
        kube: KubeClient,
        path: Callable[[str | None, str | None], ApiPath],
        known: KnownObjects,
        *,
        namespaces: Sequence[str] = (),
        went_back: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`path` returns the URL path of a namespace and a name. No namespaces: all of them.

        `went_back` is called, with what showed it, when a list or an object in it is older than what was seen before:
        etcd was restored.
        """
        self._kube, self._path, self._known = kube, path, known
        self._namespaces, self._went_back = namespaces, went_back
        self._newest = 0

    async def run(self, *, whole: bool = False) -> bool:
        """List what exists. Drop what does not, and read what the watch has not brought. Raises KubeError.

        `whole`: list whole bodies instead of metadata, and take them in. Returns whether what is known is up to date;
        False: etcd was restored.
        """
        for namespace in self._namespaces or (None,):
            before, dead = self._known.versions(namespace), self._known.dead()
            newest, revision = max(self._newest, *before.values(), 0), 0
            listed: dict[str, _Listed] = {}
            async for page in self._kube.pages(self._path(namespace, None), metadata_only=not whole):
                for item in page["items"]:
                    meta = item["metadata"]
                    listed[meta["uid"]] = _Listed(meta["namespace"], meta["name"], int(meta["resourceVersion"]))
                    if whole:
                        self._known.observe(item)
                revision = int(page["metadata"]["resourceVersion"])
            if (older := self._older(listed, before, dead, revision, newest)) is not None:
                self._went_back(older)
                return False
            self._newest = revision
            for uid in before:
                version = self._known.version(uid)
                # What is newer than the list was not there to be seen.
                if uid not in listed and version is not None and version <= revision:
                    log.info("deletion found by the sweep", uid=uid)
                    self._known.gone(uid)
            known = self._known.versions(namespace)
            await self._read({uid: seen for uid, seen in listed.items() if known.get(uid, 0) < seen.version})
        return True

    def _older(
        self,
        listed: Mapping[str, _Listed],
        before: Mapping[str, int],
        dead: Collection[str],
        revision: int,
        newest: int,
    ) -> str | None:
        """Say how the list is older than what was known before it; None: it is not.

        After a restore other writes may bring the revision to where it was. An object still shows its old version, and
        one that was gone is there.
        """
        if revision < newest:
            return f"a list of {self._path(None, None)} is of revision {revision}, and {newest} was seen before"
        for uid, seen in listed.items():
            which = f"{seen.namespace}/{seen.name}"
            if uid in dead:
                return f"{which} is in a list, and its uid, {uid}, was gone before"
            if seen.version < before.get(uid, 0):
                return f"{which} is of resourceVersion {seen.version} in a list, and {before[uid]} was seen before"
        return None

    async def _read(self, missed: Mapping[str, _Listed]) -> None:
        for uid, seen in missed.items():
            if (self._known.version(uid) or 0) >= seen.version:
                continue  # the watch has brought it meanwhile
            try:
                body = await self._kube.get(self._path(seen.namespace, seen.name))
            except NotFound:
                continue  # deleted since
            log.debug("object read by the sweep", namespace=seen.namespace, object=seen.name)
            self._known.observe(body)
