"""A port of this machine that leads to a Service: `kubectl port-forward`, started again whenever it ends.

kubectl follows one pod, and ends when that pod does. A rollout of the operator is then an interruption of seconds.
"""

import asyncio
import contextlib
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence

from rollup_operator.plugin.outcome import Code, Failure, Where

PATIENCE = 20.0
"""Seconds in which kubectl has to find the pod."""
PAUSE = 1.0
"""Seconds between the end of one kubectl and the begin of the next."""
_LISTENING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ")


class PortForward:
    """The way to a port of a Service. `port` is where to connect now; it changes when kubectl starts again."""

    def __init__(self, where: Where, namespace: str, service: str, target: str) -> None:
        kubeconfig, context, _ = where
        self._command = [
            *("kubectl", "port-forward", "--address", "127.0.0.1", "--namespace", namespace),
            *(("--kubeconfig", kubeconfig) if kubeconfig else ()),
            *(("--context", context) if context else ()),
            *(f"service/{service}", f":{target}"),
        ]
        self.port = 0

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["PortForward"]:
        """Begin, and end kubectl at the end of the block. Raises Failure where it cannot begin."""
        if shutil.which(self._command[0]) is None:
            raise Failure(Code.USAGE, "NoKubectl", "kubectl is not on the PATH: install it, or use --url")
        kept = asyncio.create_task(self._keep(await self._begin()))
        try:
            yield self
        finally:
            kept.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await kept

    async def _keep(self, process: Process) -> None:
        while True:
            try:
                await process.wait()
            finally:
                await _end(process)
            while True:
                await asyncio.sleep(PAUSE)
                try:
                    process = await self._begin()
                except Failure:  # no pod is ready yet
                    continue
                break

    async def _begin(self) -> Process:
        process = await asyncio.create_subprocess_exec(*self._command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
        try:
            async with asyncio.timeout(PATIENCE):
                self.port = await _port(process, self._command)
        except BaseException as e:
            await _end(process)
            if isinstance(e, TimeoutError):
                reason = f"{' '.join(self._command)} has found no pod within {PATIENCE:.0f} seconds"
                raise Failure(Code.FAILED, "PortForward", reason) from None
            raise
        return process


async def _port(process: Process, command: Sequence[str]) -> int:
    assert process.stdout is not None
    assert process.stderr is not None
    while line := await process.stdout.readline():
        if found := _LISTENING.match(line):
            return int(found[1])
    reason = (await process.stderr.read()).decode(errors="replace").strip()
    raise Failure(Code.FAILED, "PortForward", f"{' '.join(command)}: {reason or 'ended without a word'}")


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
