"""The errors of creating, deleting and querying jobs, with Elasticsearch's texts."""

from collections.abc import Sequence
from typing import Any

from rollup_operator.http.protocol.errors import ApiError, traced
from rollup_operator.rollup import identity


def validation_failed(messages: Sequence[str]) -> ApiError:
    """400: the fields of the source do not allow what the job asks for."""
    numbered = "".join(f"{i}: {message};" for i, message in enumerate(messages, 1))
    return ApiError(400, "rollup_action_request_validation_exception", f"Validation Failed: {numbered}")


def no_such_index(name: str) -> ApiError:
    """404: there is no index of that name."""
    return ApiError(404, "index_not_found_exception", f"no such index [{name}]")


def already_created(job_id: str) -> ApiError:
    """409: a job has the id."""
    reason = f"Cannot create job [{job_id}] because it has already been created (task exists)"
    return ApiError(409, "status_exception", reason)


def previously_created(job_id: str) -> ApiError:
    """409: the rollup index holds documents of a job that had the id."""
    reason = f"Cannot create rollup job [{job_id}] because job was previously created (existing metadata)."
    return ApiError(409, "status_exception", reason)


def not_a_rollup_index(index: str, lacks: str) -> ApiError:
    """500: the index exists, and is not a rollup index."""
    reason = f"{identity.not_a_rollup_index(index, lacks)}."
    return ApiError(500, "runtime_exception", reason)


def creation_refused(job_id: str, why: str) -> ApiError:
    """500: the API server refused to create the job. Nothing was changed."""
    return ApiError(
        500,
        "exception",
        f"Could not create rollup job [{job_id}]",
        caused_by={"type": "status_exception", "reason": why},
    )


def creation_unknown(job_id: str, timeout: str, why: str) -> ApiError:
    """500: whether the job was created is not known."""
    return ApiError(
        500,
        "exception",
        f"Creation of task for Rollup Job ID [{job_id}] timed out after [{timeout}]",
        caused_by={
            "type": "timeout_exception",
            "reason": f"It is not known whether the job was created: {why}. Check that before you retry",
        },
    )


def no_such_namespace(namespace: str) -> ApiError:
    """404: there is no such namespace, or its jobs are not this operator's."""
    reason = f"Namespace [{namespace}] does not exist, or is not watched by this operator"
    return ApiError(404, "resource_not_found_exception", reason)


def task_not_found(job_id: str) -> ApiError:
    """404 of delete."""
    return ApiError(404, "resource_not_found_exception", f"the task with id [{job_id}] doesn't exist")


class NotDeleted(ApiError):
    """500: the job is not stopped. Its body is not the envelope, but what Elasticsearch's tasks answer."""

    def __init__(self, job_id: str, state: str, task: int, held_up: str = "") -> None:
        """`held_up` is a clause that says what the job waits for; empty: nothing is known."""
        text = (
            f"Could not delete job [{job_id}] because indexer state is [{state.upper()}].  "
            "Job must be [STOPPED] before deletion."
        )
        cause = {"type": "exception", "reason": held_up[0].upper() + held_up[1:]} if held_up else None
        super().__init__(500, "illegal_state_exception", text, caused_by=cause)
        self._task = task

    def envelope(self, frames: str | None = None) -> dict[str, Any]:
        """Return the body of the answer."""
        failure = {
            "task_id": self._task,
            "node_id": "rollup-operator",
            "status": "INTERNAL_SERVER_ERROR",
            "reason": traced(
                self.cause if self.caused_by is None else {**self.cause, "caused_by": self.caused_by}, frames
            ),
        }
        return {"task_failures": [failure], "acknowledged": False}


def no_documents(job_id: str, index: str, store: str) -> ApiError:
    """404 of purge: no job of the namespace that the caller may purge left documents there."""
    return ApiError(
        404,
        "resource_not_found_exception",
        f"Rollup index [{index}] of RollupStore [{store}] holds no documents of a job with the id [{job_id}]",
    )


def owner_exists(job_id: str, index: str, name: str) -> ApiError:
    """409 of purge: the job that made the documents exists. Nothing was changed."""
    return ApiError(
        409,
        "status_exception",
        f"The documents of [{job_id}] in rollup index [{index}] belong to RollupJob [{name}], which exists: delete it "
        "first. With deletionPolicy Retain they stay, and can then be purged; with Delete they go with it",
    )


def other_owner(job_id: str, index: str, name: str, uid: str) -> ApiError:
    """409 of purge: the documents are not those of the resource that the call names. Nothing was changed."""
    return ApiError(
        409,
        "status_exception",
        f"The documents of [{job_id}] in rollup index [{index}] belong to RollupJob [{name}] with uid [{uid}]: "
        "look at them again, and name that uid as [owner]",
    )


def purge_overtaken(why: str) -> ApiError:
    """409 of purge: another job has claimed the record meanwhile, and the rest of the documents."""
    return ApiError(409, "status_exception", f"The purge has ended early: {why}")


def purge_unfinished(job_id: str, index: str, why: str) -> ApiError:
    """500: documents may have been deleted in part."""
    return ApiError(
        500,
        "exception",
        f"Could not delete all documents of [{job_id}] in rollup index [{index}]. What is left can be purged again",
        caused_by={"type": "exception", "reason": why},
    )


def deletion_refused(job_id: str, why: str) -> ApiError:
    """500: the API server refused to delete the job. Nothing was changed."""
    return ApiError(
        500,
        "exception",
        f"Could not delete rollup job [{job_id}]",
        caused_by={"type": "status_exception", "reason": why},
    )


def deletion_unknown(job_id: str, why: str) -> ApiError:
    """500: whether the job is being deleted is not known."""
    return ApiError(
        500,
        "exception",
        f"Could not delete rollup job [{job_id}]",
        caused_by={
            "type": "timeout_exception",
            "reason": f"It is not known whether the job is being deleted: {why}. Check that before you retry",
        },
    )
