"""How far the result of a job is deployed."""

import pytest

from services.scheduler.policy import job_deployment, job_rules
from shared.contracts.job import DeployState, JobRun, JobSpec, JobState, RunState
from shared.contracts.scheduler import Deployment, DeploymentStatus, ReplicaState, ReplicaStatus
from tests.support.factories.jobs import CREATED, job_of

SPEC = JobSpec(kind="train", deploy="helper")
DONE = job_of(
    spec=SPEC,
    state=JobState.SUCCEEDED,
    deployed=DeployState.PENDING,
    results=("dataset helper:2", "model helper:3"),
    attempt=1,
    finished_at=CREATED,
)


def record(**fields) -> Deployment:
    assert Deployment.EXAMPLE is not None
    return Deployment.EXAMPLE.model_copy(update={"name": "helper", "model": "helper", "version": 3, **fields})


def status(*, ready: int = 0, unplaced: tuple[str, ...] = (), failed: str = "", **fields) -> DeploymentStatus:
    assert ReplicaStatus.EXAMPLE is not None
    replica = ReplicaStatus.EXAMPLE.model_copy(update={"state": ReplicaState.FAILED, "message": failed})
    return DeploymentStatus(
        deployment=record(**fields), ready=ready, unplaced=unplaced, replicas=(replica,) if failed else ()
    )


@pytest.mark.parametrize(("deploy", "deployed"), [("helper", DeployState.PENDING), (None, None)])
def test_a_job_that_succeeds_is_deployed_if_it_was_asked_for(deploy, deployed):
    job = job_of(spec=JobSpec(kind="train", deploy=deploy), state=JobState.RUNNING, nodes=("a",), attempt=1)
    run = JobRun(id=job.id, node="a", attempt=1, state=RunState.ENDED, exit_code=0, results=("model helper:3",))
    after = job_rules.observe(job, [run], lost=(), now=CREATED)
    assert (after.state, after.deployed) == (JobState.SUCCEEDED, deployed)
    job_rules.check_integrity(after)
    assert job_deployment.due(after) == (deploy is not None)


def test_the_model_that_was_made_last_is_the_one():
    assert job_deployment.made_model(DONE) == "helper:3"
    assert job_deployment.made_model(job_of(results=("dataset helper:2",))) is None


def test_a_deployment_that_stands_is_watched_and_another_ones_is_not_touched():
    assert job_deployment.deployed(DONE, record()).deployed is DeployState.STARTING
    refused = job_deployment.deployed(DONE, record(model="other", version=1))
    assert refused.deployed is DeployState.FAILED
    assert refused.message == "not deployed as helper: the name is taken by a deployment of other:1"
    assert not job_deployment.due(refused)


@pytest.mark.parametrize(
    ("seen", "state", "message"),
    [
        (status(), DeployState.STARTING, "its deployment helper is starting"),
        (status(ready=1), DeployState.READY, "deployed as helper"),
        (
            status(unplaced=("no node has 9 GiB",)),
            DeployState.WAITING,
            "its deployment helper waits: no node has 9 GiB",
        ),
        (status(failed="it died"), DeployState.WAITING, "its deployment helper waits: it died"),
        (status(replicas=0), DeployState.WAITING, "its deployment helper waits: it is scaled to 0 replicas"),
        (status(version=4), DeployState.FAILED, "not deployed as helper: it was changed to helper:4"),
        (None, DeployState.FAILED, "not deployed as helper: the deployment was removed"),
    ],
)
def test_what_is_observed_is_said(seen, state, message):
    after = job_deployment.observed(DONE.model_copy(update={"deployed": DeployState.STARTING}), seen)
    assert after.deployed is state
    assert after.message.startswith(message)
    job_rules.check_integrity(after)


def test_a_job_that_waits_goes_on_to_ready():
    waits = job_deployment.observed(DONE, status(unplaced=("no node",)))
    assert job_deployment.due(waits)
    assert job_deployment.observed(waits, status(ready=1)).deployed is DeployState.READY


@pytest.mark.parametrize(
    ("fields", "claims"),
    [
        ({}, True),
        ({"state": JobState.FAILED}, False),
        ({"state": JobState.CANCELLED}, False),
        ({"state": JobState.SUCCEEDED, "deployed": DeployState.WAITING}, True),
        ({"state": JobState.SUCCEEDED, "deployed": DeployState.READY}, False),
        ({"spec": JobSpec(kind="train")}, False),
    ],
)
def test_a_name_is_claimed_until_its_deployment_is_settled(fields, claims):
    assert job_rules.claims_deployment(job_of(**{"spec": SPEC, **fields})) == claims
