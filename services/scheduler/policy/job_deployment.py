"""How far the result of a job is deployed: `Job.deployed`, from what is desired and observed. Pure."""

from shared.contracts.job import DeployState, Job, JobState
from shared.contracts.manifest import Kind
from shared.contracts.scheduler import Deployment, DeploymentStatus, ReplicaState


def due(job: Job) -> bool:
    """Whether its deployment is to be made or watched."""
    return job.state is JobState.SUCCEEDED and job.deployed is not None and not job.deployed.settled


def made_model(job: Job) -> str | None:
    """The reference of the model that the job made last; None if it made none."""
    models = [result.removeprefix(f"{Kind.MODEL} ") for result in job.results if result.startswith(f"{Kind.MODEL} ")]
    return models[-1] if models else None


def refused(job: Job, reason: str) -> Job:
    """The job whose result can't be deployed."""
    return _after(job, DeployState.FAILED, f"not deployed as {job.spec.deploy}: {reason}")


def deployed(job: Job, record: Deployment) -> Job:
    """The job whose deployment `record` stands.

    It was written just now, or by a scheduler that ended before it wrote that down, or is somebody else's.
    """
    if f"{record.model}:{record.version}" != made_model(job):
        return refused(job, f"the name is taken by a deployment of {record.model}:{record.version}")
    return _after(job, DeployState.STARTING, f"its deployment {record.name} is starting")


def observed(job: Job, status: DeploymentStatus | None) -> Job:
    """The job after a look at its deployment; None: there is none any more."""
    name = job.spec.deploy
    if status is None:
        return refused(job, "the deployment was removed before a replica was ready")
    record = status.deployment
    if f"{record.model}:{record.version}" != made_model(job):
        return refused(job, f"it was changed to {record.model}:{record.version} before a replica was ready")
    if status.ready:
        return _after(job, DeployState.READY, f"deployed as {name}")
    failed = [replica.message for replica in status.replicas if replica.state is ReplicaState.FAILED]
    if reasons := [*status.unplaced, *failed]:
        return _after(job, DeployState.WAITING, f"its deployment {name} waits: {reasons[0]}")
    if not record.replicas:
        return _after(job, DeployState.WAITING, f"its deployment {name} waits: it is scaled to 0 replicas")
    return _after(job, DeployState.STARTING, f"its deployment {name} is starting")


def _after(job: Job, state: DeployState, message: str) -> Job:
    return job.model_copy(update={"deployed": state, "message": message})
