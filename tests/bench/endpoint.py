"""What is measured of our endpoint alone: one stop that waits, and very many clients that wait at once.

The many speak just enough HTTP over plain sockets: ten thousand of a full client library's would measure the library.
"""

import asyncio
import resource
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp

from bench.client import Server, at_once, now
from bench.machine import NOISY, forget_peak, memory
from bench.phases import GAP, Block
from bench.samples import milliseconds
from bench.subject import Subject

_OPENED_AT_ONCE = 500


@dataclass
class Reply:
    """One answer."""

    status: int
    at: float
    body: bytes


@dataclass(eq=False)
class Client(asyncio.Protocol):
    """One connection to the endpoint: asks, then notes when the answer came. Answers carry Content-Length."""

    host: str
    token: str
    reply: "asyncio.Future[Reply]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    sent: float = 0.0
    _buffer: bytes = b""
    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        at = now()
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        if len(body) >= length and not self.reply.done():
            self._buffer = b""
            self.reply.set_result(Reply(int(head.split(b" ", 2)[1]), at, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.reply.done():
            self.reply.set_exception(exc or ConnectionError("the endpoint closed the connection without an answer"))

    async def stop(self, job: str, timeout: str) -> Reply:
        """Stop a job and wait for it."""
        assert self._transport is not None
        self.reply = asyncio.get_running_loop().create_future()
        self.sent = now()
        path = _stop_path(job, timeout)
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n"
        self._transport.write(f"{head}Content-Length: 0\r\n\r\n".encode())
        return await self.reply

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def connect(url: str, token: str) -> Client:
    """Open one connection."""
    host = urlsplit(url).netloc
    name, _, port = host.rpartition(":")
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(host, token), name, int(port))
    return client


async def know_rights(subject: Subject) -> None:
    """Stop every job through the endpoint, so that its right to be stopped is in the cache from here on."""
    headers = {"Authorization": f"Bearer {subject.token}"}
    async with aiohttp.ClientSession(subject.url, headers=headers) as session:

        async def stop(name: str) -> None:
            async with session.post(f"/_rollup/job/{name}/_stop") as answer:
                if answer.status != 200:
                    raise RuntimeError(f"stop of {name}: {answer.status} {await answer.read()!r}")

        await at_once(subject.names, stop, 16)
    await subject.jobs.quiet()


async def stops(subject: Subject, names: Sequence[str]) -> Block:
    """Stop jobs in turn through the endpoint and by a plain PATCH. Series: endpoint and bare, each sent -> known."""
    jobs, block = subject.jobs, Block({"endpoint": [], "bare": []})
    # The client that the plain PATCH goes through, so that the difference is the endpoint's.
    await subject.machine.calm()
    headers = {"Authorization": f"Bearer {subject.token}"}
    async with aiohttp.ClientSession(subject.url, headers=headers) as session:
        with subject.machine.measured() as block.usage:
            for number, name in enumerate(names):
                if number % 2:
                    sent, _, generation = await jobs.ask(name, "stopped")
                    block.samples["bare"].append(await jobs.until_done(name, generation) - sent)
                else:
                    sent = now()
                    async with session.post(_stop_path(name, "30s")) as answer:
                        text = await answer.read()
                    if answer.status != 200:
                        raise RuntimeError(f"stop of {name}: {answer.status} {text!r}")
                    block.samples["endpoint"].append(now() - sent)
                await asyncio.sleep(GAP)
    await jobs.quiet()
    return block


async def waiters(subject: Subject, count: int) -> dict[str, Any]:
    """Let `count` clients stop the jobs and wait, spread evenly. Tells how long after its job's stop each was answered.

    No status can be written until all of them wait, and all that they ask for is recorded: the first jobs would else be
    stopped long before the last client has been heard. The stop is when the bench's own watch showed it.
    """
    jobs = subject.jobs
    await jobs.all_started(subject.names)
    hold = Hold(jobs.server, jobs.group)
    await hold.begin(f"{jobs.path}/{subject.names[0]}/status")
    _allow_files(count + 200)
    await subject.machine.calm()
    forget_peak(subject.pid)
    before = memory(subject.pid)
    clients: dict[int, Client] = {}
    known = set(jobs.done)
    with subject.machine.measured() as usage:
        began = now()
        targets = [subject.names[number % len(subject.names)] for number in range(count)]
        asked = asyncio.gather(*_ask(subject, clients, [(name, "120s") for name in targets]), return_exceptions=True)
        await _all_wait(subject, count)
        arrived = now() - began
        await jobs.server.await_applies(jobs.group)  # a client counts as waiting before its stop is recorded
        await hold.end()
        replies = await asked
        took = now() - began
    peak = memory(subject.pid).get("peak_mib")
    await jobs.quiet()
    stopped = {name: at for (name, generation), at in jobs.done.items() if (name, generation) not in known}
    late: list[float] = []
    waited = 0
    failures: dict[str, int] = {}
    for number, (name, reply) in enumerate(zip(targets, replies, strict=True)):
        if isinstance(reply, BaseException) or reply.status != 200:
            outcome = repr(reply) if isinstance(reply, BaseException) else str(reply.status)
            failures[outcome] = failures.get(outcome, 0) + 1
            continue
        sent = clients[number].sent
        waited += sent < stopped[name]
        late.append(max(0.0, reply.at - max(stopped[name], sent)))
    for client in clients.values():
        client.close()
    return {
        "waiters": count,
        "jobs": len(subject.names),
        "answered": len(late),
        "asked_before_the_stop": waited,
        "failures": failures,
        "arrived_s": round(arrived, 2),
        "took_s": round(took, 2),
        "late": milliseconds(late),
        "kib_per_waiter": None if peak is None else round((peak - before["rss_mib"]) * 1024 / count, 1),
        "usage": usage.as_json(),
        "noisy": usage.noise >= NOISY,
    }


def _ask(
    subject: Subject, clients: dict[int, Client], stops: Sequence[tuple[str, str]]
) -> list[Coroutine[Any, Any, Reply]]:
    """Return, for each job and timeout, what connects, notes the client under its number, and stops the job.

    Each asks as soon as it is connected: the endpoint closes connections that bring nothing while others wait.
    """
    connecting = asyncio.Semaphore(_OPENED_AT_ONCE)

    async def ask(number: int, job: str, timeout: str) -> Reply:
        async with connecting:
            client = clients[number] = await connect(subject.url, subject.token)
            reply = asyncio.ensure_future(client.stop(job, timeout))
            await asyncio.sleep(0)
        return await reply

    return [ask(number, job, timeout) for number, (job, timeout) in enumerate(stops)]


async def timed_out_waits(subject: Subject, count: int, rounds: int, *, rest: float = 60.0) -> dict[str, Any]:
    """Let `count` clients wait for stops that they do not see, `rounds` times. Return the memory before and after.

    No status can be written meanwhile. `rest` is how many seconds to wait before the memory is read for the last time.
    """
    jobs = subject.jobs
    await jobs.all_started(subject.names)
    hold = Hold(jobs.server, jobs.group)
    await hold.begin(f"{jobs.path}/{subject.names[0]}/status")
    _allow_files(count + 200)
    await subject.machine.calm()
    before = memory(subject.pid)["rss_mib"]
    after: list[float] = []
    statuses: dict[str, int] = {}
    for _ in range(rounds):
        clients: dict[int, Client] = {}
        stops = [(subject.names[number % len(subject.names)], f"{5_000 + number}ms") for number in range(count)]
        for reply in await asyncio.gather(*_ask(subject, clients, stops), return_exceptions=True):
            outcome = type(reply).__name__ if isinstance(reply, BaseException) else str(reply.status)
            statuses[outcome] = statuses.get(outcome, 0) + 1
        for client in clients.values():
            client.close()
        after.append(memory(subject.pid)["rss_mib"])
    await asyncio.sleep(rest)
    at_rest = memory(subject.pid)["rss_mib"]
    await hold.end()
    await jobs.quiet()
    return {
        "waits": count * rounds,
        "statuses": statuses,
        "before_mib": before,
        "after_each_round_mib": after,
        "at_rest_mib": at_rest,
        "grown_mib": round(at_rest - before, 1),
    }


class Hold:
    """Keeps every status of a group from being written, by a rule of the API server's own."""

    _ADMISSION = "/apis/admissionregistration.k8s.io/v1"

    def __init__(self, server: Server, group: str) -> None:
        self._server, self._group = server, group

    async def begin(self, probe: str) -> None:
        """Return once the rule is in force; `probe` is the path of some status."""
        rule = {
            "apiGroups": [self._group],
            "apiVersions": ["*"],
            "resources": ["rollupjobs/status"],
            "operations": ["UPDATE"],
        }
        policy = {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "held by the bench"}],
        }
        binding = {"policyName": "hold", "validationActions": ["Deny"]}
        await self._create("ValidatingAdmissionPolicy", "validatingadmissionpolicies", policy)
        await self._create("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", binding)
        headers = {"Content-Type": "application/merge-patch+json"}
        while True:
            try:
                await self._server.call("PATCH", f"{probe}?dryRun=All", {"metadata": {}}, headers)
            except RuntimeError:
                return
            await asyncio.sleep(0.05)

    async def end(self) -> None:
        """Take the rule away."""
        for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            await self._server.call("DELETE", f"{self._ADMISSION}/{plural}/hold")

    async def _create(self, kind: str, plural: str, spec: Mapping[str, Any]) -> None:
        api = self._ADMISSION.removeprefix("/apis/")
        body = {"apiVersion": api, "kind": kind, "metadata": {"name": "hold"}, "spec": spec}
        await self._server.create(f"{self._ADMISSION}/{plural}", body)


async def _all_wait(subject: Subject, count: int, timeout: float = 100.0) -> None:
    """Return once the endpoint says that so many clients wait. Raises TimeoutError."""
    async with asyncio.timeout(timeout), aiohttp.ClientSession(subject.url) as session:
        while True:
            async with session.get("/readyz") as answer:
                if (await answer.json())["waiters"] >= count:
                    return
            await asyncio.sleep(0.1)


def _stop_path(job: str, timeout: str) -> str:
    return f"/_rollup/job/{job}/_stop?wait_for_completion=true&timeout={timeout}"


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(f"{count} open files are needed, {hard} are allowed: raise `ulimit -Hn`, or use --waiters")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
