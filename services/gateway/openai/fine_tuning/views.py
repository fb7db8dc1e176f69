"""A job as OpenAI's fine-tuning job. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from shared.contracts.fine_tuning import FineTuning
from shared.contracts.job import DeployState, Job, JobState

ORGANIZATION = "llmos"
_STATUS = {
    JobState.QUEUED: "queued",
    JobState.STARTING: "running",
    JobState.RUNNING: "running",
    JobState.STOPPING: "running",
    JobState.PAUSED: "paused",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def status_of(job: Job) -> str:
    """OpenAI's word for the state of a job.

    A job whose model is on its way to answer is still running: clients ask the model as soon as the job has
    succeeded. A model that can't be placed now does not keep the job from success; one that can't be deployed at all
    does.
    """
    if job.state is not JobState.SUCCEEDED:
        return _STATUS[job.state]
    match job.deployed:
        case DeployState.PENDING | DeployState.STARTING:
            return "running"
        case DeployState.FAILED:
            return "failed"
    return "succeeded"


def view(job: Job, now: datetime) -> dict[str, Any]:
    """OpenAI's object; the job is one of its API."""
    request, status = job.fine_tuning, status_of(job)
    assert request is not None
    over = status in {"succeeded", "failed", "cancelled"}
    tokens = job.progress.metrics.get("trained_tokens")
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(job.created_at),
        "finished_at": _seconds(job.finished_at) if over and job.finished_at else None,
        "estimated_finish": _estimate(job, now),
        "status": status,
        "model": request.model,
        "fine_tuned_model": job.spec.deploy if status == "succeeded" else None,
        "organization_id": ORGANIZATION,
        "training_file": request.training_file,
        "validation_file": request.validation_file,
        "result_files": [],
        "trained_tokens": int(tokens) if over and tokens is not None else None,
        "error": _error(job) if status == "failed" else None,
        "hyperparameters": _hyperparameters(request, with_beta=False),
        "method": {"type": request.method, request.method: {"hyperparameters": _hyperparameters(request)}},
        "seed": request.seed,
        "suffix": request.suffix,
        "integrations": [],
        "metadata": request.metadata,
    }


def _hyperparameters(request: FineTuning, *, with_beta: bool = True) -> dict[str, Any]:
    values = request.hyperparameters.model_dump(exclude=None if with_beta else {"beta"})
    return {name: value for name, value in values.items() if value is not None}


def _estimate(job: Job, now: datetime) -> int | None:
    left = job.progress.eta_s
    if job.state is not JobState.RUNNING or left is None:
        return None
    return _seconds(now + timedelta(seconds=left))


def _error(job: Job) -> Mapping[str, Any]:
    if job.state is JobState.SUCCEEDED:
        return {"code": "not_deployed", "message": job.message, "param": None}
    files = {"train": "training_file", "validation": "validation_file"}
    named = [files[upload.split] for upload in job.spec.uploads if job.message.startswith(f"{upload.file_name}:")]
    return {
        "code": "invalid_file" if named else "job_failed",
        "message": job.message,
        "param": named[0] if named else None,
    }


def _seconds(time: datetime) -> int:
    return int(time.timestamp())
