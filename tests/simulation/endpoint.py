"""Calls to the endpoint of one replica: the product's stop, start, waiters and writes, without HTTP."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from rollup_operator.http.access.permits import EndpointAction, Permit
from rollup_operator.http.access.waiting_room import WaitingRoom
from rollup_operator.http.api.start import Starts
from rollup_operator.http.api.stop import Stops, StopTimeoutAnswer, Wait
from rollup_operator.http.jobs.acceptance import Acceptances
from rollup_operator.http.jobs.attempt import Attempts
from rollup_operator.http.jobs.desired_state import DesiredStates
from rollup_operator.http.jobs.lookup import Lookup
from rollup_operator.http.jobs.newest import Newest
from rollup_operator.http.jobs.notices import Notices
from rollup_operator.http.jobs.repeats import Repeats
from rollup_operator.http.jobs.request_context import Call
from rollup_operator.http.jobs.waiters import Waiters
from rollup_operator.http.ports import NoTelemetry
from rollup_operator.http.protocol.dialects import DEFAULT, DIALECTS
from rollup_operator.http.protocol.errors import ApiError
from rollup_operator.kube.authz import User
from rollup_operator.lifecycle.jobs.index import Index
from rollup_operator.model.job_view import JobView
from rollup_operator.model.time_values import parse_time_value
from simulation.api_server import NAMESPACE
from simulation.clock import ProcessLoop


class _Everybody:
    """Everybody may do everything."""

    async def require(self, *_: object) -> None:
        """Allow it."""

    async def may(self, *_: object) -> bool:
        return True

    async def allowed(self, _caller: object, _action: object, _namespace: str, names: Any) -> frozenset[str]:
        return frozenset(names)


@dataclass(eq=False, slots=True)
class Asked:
    """One call of a client, and what became of it."""

    verb: str
    job_id: str
    timeout: str | None
    """How long the client waits for a stop; None: not at all."""
    replica: str
    began: float
    ended: float | None = None
    status: int = 0
    reason: str = ""
    uid: str = ""
    generation: int = 0
    """The job and the generation that the call's write has recorded; empty and 0 while no answer says so."""
    recorded: float | None = None
    """When the process learned that."""
    taken: float = 0.0
    """When the process began with it: it may have been frozen as the call arrived."""
    carried_out: bool = False
    """The API server has carried the call's write out, whether the answer came or not."""


CALLER: ContextVar[Asked | None] = ContextVar("CALLER", default=None)
"""The call under way in this task."""


class _Telemetry(NoTelemetry):
    """Takes down what calls have written."""

    def asked(self, job: JobView) -> None:
        if (call := CALLER.get()) is not None:
            call.uid, call.generation, call.recorded = job.uid, job.generation, asyncio.get_running_loop().time()


class Endpoint:
    """The part of the endpoint that stops and starts jobs."""

    def __init__(self, index: Index, kube: Any, events: Any, loop: ProcessLoop) -> None:
        self._loop = loop
        dialect = DIALECTS[DEFAULT]
        acceptances = Acceptances(index)
        self.waiters = Waiters(index, acceptances)
        self.states = DesiredStates(index, kube, kube, found=self.waiters.hear)
        notices = Notices(index, events)
        telemetry = _Telemetry()
        attempts = Attempts(
            Lookup(index, self.states),
            self.states,
            notices,
            Repeats(loop.time),
            acceptances=acceptances,
            managers=(),
            telemetry=telemetry,
        )
        room = WaitingRoom(most=1000)
        self._stops = Stops(attempts, self.states, self.waiters, room, notices, StopTimeoutAnswer(dialect), telemetry)
        self._starts = Starts(attempts, Newest(index, self.states, alone=False), dialect)

    async def ask(self, call: Asked) -> None:
        """Carry a call out and take down its answer."""
        CALLER.set(call)
        call.taken = self._loop.time()
        try:
            if call.verb == "stop":
                await self._stops.stop(NAMESPACE, call.job_id, self._wait(call), self._call(call, EndpointAction.STOP))
            else:
                await self._starts.start(NAMESPACE, call.job_id, self._call(call, EndpointAction.START))
            call.status = 200
        except ApiError as e:
            call.status, call.reason = e.status, e.reason
        call.ended = self._loop.time()

    async def drain(self, seconds: float) -> None:
        """Answer whoever waits, after some seconds at the latest."""
        await self.waiters.drain(seconds)

    async def settle(self) -> None:
        """Wait for writes under way."""
        await self.states.settle()

    def _wait(self, call: Asked) -> Wait | None:
        if call.timeout is None:
            return None
        return Wait.of(parse_time_value(call.timeout, "timeout"), call.began)

    def _call(self, call: Asked, action: EndpointAction) -> Call:
        access: Any = _Everybody()
        text = f"{call.verb} {call.job_id}" + (f" within {call.timeout}" if call.timeout else "")
        return Call(text, Permit(access, User("ann"), action, NAMESPACE))
