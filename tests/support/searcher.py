"""Somebody who searches a job half rolled up, with an official client."""

from pathlib import Path

from support.api import Api
from support.bodies import store
from support.callers import READER, Account, install_roles
from support.data import end_of, trips_job, write_trips
from support.operator import Operator
from support.speaker import Client, Speaker
from support.waiting import NEVER, finished, request_run


def two_days_of_three(api: Api, folder: Path) -> None:
    """Have the job trips roll up two of the three days that its source has."""
    write_trips(folder, hours=72)
    api.create(store())
    api.create(trips_job(cron=NEVER, end="2024-03-03T00:00:00Z"))
    request_run(api, "trips", "1")
    api.wait("trips", finished(end_of(47)), 20)


def searcher(speaker: Speaker, operator: Operator, api: Api, folder: Path) -> Client:
    """Roll up two days of three, and return the client of somebody who may search and nothing else."""
    two_days_of_three(api, folder)
    install_roles(api)
    reader = Account(api).bind(READER).in_force("get", "rollupjobs/search")
    return Client(speaker, f"{operator.url}/namespaces/{api.namespace}", reader.token)
