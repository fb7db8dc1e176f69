"""The life of a job: each promise of `job_rules`, and any order of events."""

from collections.abc import Collection
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.scheduler.policy import job_rules
from shared.contracts.job import (
    REFUSED_EXIT_CODE,
    STOPPED_EXIT_CODE,
    Checkpoint,
    Desired,
    Job,
    JobRun,
    JobState,
    Progress,
    RunState,
)
from shared.errors import Conflict
from tests.support.factories.jobs import job_of, spec_of

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def running(**fields) -> Job:
    return job_of(state=JobState.RUNNING, nodes=("a",), attempt=1, started_at=NOW, **fields)


def run_of(job: Job, state: RunState = RunState.RUNNING, **fields) -> JobRun:
    return JobRun(
        id=job.id,
        node=fields.pop("node", job.nodes[0] if job.nodes else "a"),
        attempt=job.attempt,
        state=state,
        **fields,
    )


def observe(job: Job, run: JobRun | None, *, node_up: bool = True) -> Job:
    return job_rules.observe(job, [run] if run else [], lost=() if node_up else job.nodes, now=NOW)


def test_every_state_is_in_the_table_and_finished_jobs_leave_only_by_resume():
    assert set(job_rules.TRANSITIONS) == set(JobState)
    for state, targets in job_rules.TRANSITIONS.items():
        if state.finished:
            assert targets <= {JobState.QUEUED}, state


def test_an_illegal_move_raises():
    with pytest.raises(AssertionError, match="can't go from succeeded to starting"):
        job_rules.start(job_of(state=JobState.SUCCEEDED), ("a",), NOW)


def test_a_process_that_ends_well_succeeds_even_while_it_is_being_stopped():
    stopping = job_rules.change(running(), Desired.PAUSE, NOW)
    ended = run_of(stopping, RunState.ENDED, exit_code=0, results=("model helper:1",))
    after = observe(stopping, ended)
    assert (after.state, after.results) == (JobState.SUCCEEDED, ("model helper:1",))


def test_a_failure_is_tried_again_and_then_final_with_its_message():
    job = running(retries=1)
    job = observe(job, run_of(job, RunState.ENDED, exit_code=1, message="step 12: loss is NaN"))
    assert (job.state, job.message) == (JobState.QUEUED, "attempt 1 failed: step 12: loss is NaN")
    job = job_rules.start(job, ("b",), NOW)
    job = observe(job, run_of(job, RunState.ENDED, exit_code=1, message="step 12: loss is NaN"))
    assert (job.state, job.message, job.failures) == (JobState.FAILED, "step 12: loss is NaN", 2)


def test_a_lost_node_gives_the_job_to_another_from_the_last_checkpoint_and_costs_no_retry():
    job = running(retries=0, checkpoint=Checkpoint(step=120, files=()))
    assert observe(job, None) is job
    lost = observe(job, None, node_up=False)
    assert (lost.state, lost.failures) == (JobState.QUEUED, 0)
    assert lost.message == "a was lost; continues from step 120"


def test_a_report_of_an_earlier_attempt_changes_nothing():
    job = running().model_copy(update={"attempt": 2})
    stale = run_of(running(), RunState.ENDED, exit_code=1)
    assert observe(job, stale) is job


def test_the_newest_checkpoint_is_kept():
    job = running(checkpoint=Checkpoint(step=20, files=()))
    assert observe(job, run_of(job, checkpoint=Checkpoint(step=10, files=()))).checkpoint.step == 20
    assert observe(job, run_of(job, checkpoint=Checkpoint(step=30, files=()))).checkpoint.step == 30


def test_a_preempted_job_waits_and_a_paused_one_stays():
    job = job_rules.preempt(running(), "a deployment needs the room", NOW)
    back = observe(job, run_of(job, RunState.ENDED, exit_code=STOPPED_EXIT_CODE))
    assert (back.state, back.preemptions) == (JobState.QUEUED, 1)
    assert "preempted: a deployment needs the room" in back.message
    asked = job_rules.change(running(), Desired.PAUSE, NOW)
    paused = observe(asked, run_of(asked, RunState.ENDED, exit_code=STOPPED_EXIT_CODE))
    assert paused.state is JobState.PAUSED


def test_resuming_before_the_process_has_ended_lets_the_job_go_on():
    job = job_rules.change(running(), Desired.PAUSE, NOW)
    job = job_rules.change(job, Desired.RUN, NOW)
    back = observe(job, run_of(job, RunState.ENDED, exit_code=STOPPED_EXIT_CODE))
    assert back.state is JobState.QUEUED


def test_what_finished_cannot_be_changed_but_a_failure_can_be_tried_again():
    for state in (JobState.SUCCEEDED, JobState.CANCELLED):
        for desired in Desired:
            job = job_of(state=state, desired=Desired.CANCEL, finished_at=NOW)
            if (state, desired) == (JobState.CANCELLED, Desired.CANCEL):
                assert job_rules.change(job, desired, NOW) == job
            else:
                with pytest.raises(Conflict, match=f"has {state}"):
                    job_rules.change(job, desired, NOW)
    failed = job_of(state=JobState.FAILED, failures=3, finished_at=NOW)
    again = job_rules.change(failed, Desired.RUN, NOW)
    assert (again.state, again.failures, again.finished_at) == (JobState.QUEUED, 0, None)


def test_the_assignment_says_how_to_stop():
    assert job_rules.assignment(running(), "a").stop == "no"
    assert job_rules.assignment(job_rules.preempt(running(), "room", NOW), "a").stop == "checkpoint"
    assert job_rules.assignment(job_rules.change(running(), Desired.PAUSE, NOW), "a").stop == "checkpoint"
    assert job_rules.assignment(job_rules.change(running(), Desired.CANCEL, NOW), "a").stop == "now"


class AnyOrder(RuleBasedStateMachine):
    """Requests, decisions and reports in any order: no illegal move, and every record is whole."""

    nodes: tuple[str, ...] = ("a",)
    others: tuple[str, ...] = ("b",)

    def __init__(self) -> None:
        super().__init__()
        self.job = job_of(retries=1, spec=spec_of(len(self.nodes)))
        self.runs: dict[str, JobRun] = {}

    @rule(desired=st.sampled_from(Desired))
    def ask(self, desired: Desired) -> None:
        try:
            self.job = job_rules.change(self.job, desired, NOW)
        except Conflict:
            assert self.job.state.finished

    @precondition(lambda self: self.job.state is JobState.QUEUED)
    @rule(swap=st.booleans())
    def start(self, swap: bool) -> None:
        self.job = job_rules.start(self.job, self.others if swap else self.nodes, NOW)

    @precondition(lambda self: self.job.state is JobState.QUEUED)
    @rule()
    def wait(self) -> None:
        waiting = job_rules.wait(job_rules.wait(self.job, "no room"), "no room")
        assert waiting.message.count("waits: no room") == 1
        self.job = waiting

    @precondition(lambda self: self.job.state in {JobState.STARTING, JobState.RUNNING})
    @rule()
    def preempt(self) -> None:
        self.job = job_rules.preempt(self.job, "room", NOW)

    @rule(
        state=st.sampled_from(RunState),
        code=st.sampled_from([0, 1, STOPPED_EXIT_CODE, REFUSED_EXIT_CODE, -9]),
        attempt=st.integers(-1, 0),
        node=st.sampled_from("ab"),
        step=st.integers(0, 9),
    )
    def report(self, state: RunState, code: int, attempt: int, node: str, step: int) -> None:
        self.runs[node] = JobRun(
            id=self.job.id,
            node=node,
            attempt=max(0, self.job.attempt + attempt),
            state=state,
            rendezvous="127.0.0.1:1234",
            exit_code=code if state is RunState.ENDED else None,
            progress=Progress(step=step),
            checkpoint=Checkpoint(step=step, files=()),
        )
        self.look()

    @rule(lost=st.sets(st.sampled_from("ab"), min_size=1))
    def lose_nodes(self, lost: set[str]) -> None:
        self.runs = {node: run for node, run in self.runs.items() if node not in lost}
        self.look(lost)

    def look(self, lost: Collection[str] = ()) -> None:
        self.job = job_rules.observe(self.job, self.runs.values(), lost=lost, now=NOW)

    @precondition(lambda self: self.job.state.on_node)
    @rule()
    def all_end(self) -> None:
        """Whatever happened before, a job leaves its nodes when they are gone."""
        gone = job_rules.observe(self.job, (), lost=self.job.nodes, now=NOW)
        assert not gone.state.on_node

    @invariant()
    def whole(self) -> None:
        job_rules.check_integrity(self.job)
        again = job_rules.observe(self.job, self.runs.values(), lost=(), now=NOW)
        assert job_rules.observe(again, self.runs.values(), lost=(), now=NOW) == again, "a report counts once"


class OnTwoNodes(AnyOrder):
    """The same with a job that runs on two nodes."""

    nodes = ("a", "b")
    others = ("b", "a")


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
test_any_order_of_events_keeps_the_record_whole = AnyOrder.TestCase
OnTwoNodes.TestCase.settings = AnyOrder.TestCase.settings
test_any_order_of_events_on_two_nodes_keeps_the_record_whole = OnTwoNodes.TestCase
