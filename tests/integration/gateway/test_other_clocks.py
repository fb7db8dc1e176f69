"""Machines whose clocks differ: a request's deadline is time left, never a time of day."""

from pathlib import Path

import pytest

from shared.contracts.scheduler import ReplicaState
from tests.integration.gateway.conftest import Stand
from tests.support.harness.replicas import replica_process
from tests.support.harness.wait import eventually

AHEAD_S = 660


@pytest.mark.parametrize("ahead", [-AHEAD_S, AHEAD_S])
async def test_a_replica_whose_clock_is_wrong_answers_within_the_deadline(
    stand: Stand, small_store: tuple[Path, str], tmp_path: Path, ahead: int
) -> None:
    store, digest = small_store
    await stand.deploy("small")
    async with replica_process(
        stand.bus,
        stand.nats.url,
        store,
        tmp_path / "cache",
        digest,
        module="tests.support.fakes.altered_replica",
        ALTERED_CLOCK_AHEAD=str(ahead),
    ) as replica:
        await replica.until(ReplicaState.READY)
        await eventually(lambda: ready(stand))
        answer = await stand.chat(model="small", max_tokens=4, temperature=0, ignore_eos=True)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 4


async def ready(stand: Stand) -> bool:
    answer = await stand.client.get("/v1/models/small")
    return bool(answer.json()["ready_replicas"])


@pytest.mark.parametrize("gateway_settings", [{"request_timeout": 5.0}])
async def test_each_attempt_carries_the_time_that_is_left_then(stand: Stand) -> None:
    await stand.deploy()
    replica = await stand.replica(token_delay=0.1)
    replica.skip_token = 5
    assert (await stand.chat(max_tokens=8)).status_code == 200
    first, second = (attempt.time_left_s for attempt in replica.received)
    assert first is not None
    assert second is not None
    assert 0 < second < first - 0.4 < 5.0  # five tokens came before the second attempt
