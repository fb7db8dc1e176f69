"""How the times in `shared.deadlines` relate to one another, to the settings and to docker-compose.yml."""

import pytest

from deploy.make_secrets import complete
from services.gateway.settings import Settings as GatewaySettings
from services.inference.agent.hang import LOOK_S as AGENT_LOOK_S
from services.inference.engine.limits import EngineLimits
from services.inference.engine.stall import FACTOR, LOOK_S
from services.inference.settings import Settings as AgentSettings
from services.scheduler.settings import Settings as SchedulerSettings
from shared import deadlines as at
from tests.support.harness.compose import compose, dotenv, seconds


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    """What a node agent can't do without."""
    monkeypatch.setenv("LLMOS_STORE_URL", "file:///store")
    monkeypatch.setenv("LLMOS_CACHE_DIR", "/cache")


SIGNS_OF_LIFE = 3
"""This many fit at least into the silence that is taken for death: one or two may be lost or late."""


@pytest.mark.parametrize(
    ("interval", "silence"),
    [
        (at.LEASE_RENEW_S, at.LEASE_TTL_S),
        (at.WATCH_HEARTBEAT_S, at.WATCH_SILENCE_S),
        (at.LOAD_REPORT_S, at.LOAD_FRESH_S),
        (at.HEARTBEAT_S, at.HEARTBEAT_TTL_S),
        (at.HEARTBEAT_S, at.HEALTH_FILE_STALE_S),
    ],
)
def test_several_signs_of_life_fit_into_the_silence_that_is_taken_for_death(interval, silence):
    assert SIGNS_OF_LIFE * interval <= silence


def test_what_is_known_of_replicas_holds_while_a_request_waits_for_the_bus():
    assert at.BUS_RETURN_S < at.LEASE_TTL_S


def agent_settings(**given: object) -> AgentSettings:
    """The node agent's, with its defaults."""
    return AgentSettings(store_url="file:///store", cache_dir="/cache", **given)


def test_a_watch_is_stale_before_a_lease_that_it_missed_expires():
    # Else a table that sees no renewals takes living holders for dead.
    assert at.WATCH_SILENCE_S + at.LEASE_RENEW_S < at.LEASE_TTL_S


def test_a_load_report_is_old_before_the_lease_of_its_replica_expires():
    # A fresh report overrides a lost lease; one that lived longer than a lease would hide a dead replica.
    assert at.LOAD_FRESH_S < at.LEASE_TTL_S


def test_a_node_id_is_taken_over_after_its_lease_expired():
    # The holder may renew until the end of the time to live; the margin covers one renewal under way.
    assert at.LEASE_RENEW_S <= at.CLAIM_GRACE_S


def test_an_engine_is_looked_at_several_times_before_it_counts_as_stalled():
    assert SIGNS_OF_LIFE * at.LOAD_REPORT_S <= at.STALL_S
    assert at.LOAD_REPORT_S < LOOK_S  # else a look that comes on time would not count in full


def test_no_step_that_keeps_its_budget_counts_as_stalled():
    assert FACTOR * EngineLimits().step_s <= at.STALL_S
    assert at.ENGINE_CONFIRM_S < at.STALL_S  # a drain relies on steps that are shorter than this


def test_a_stalled_replica_is_left_as_soon_as_a_silent_one():
    assert at.STALL_S <= at.LEASE_TTL_S


def test_a_replica_is_left_before_it_is_restarted_and_may_recover_in_between():
    assert at.LEASE_TTL_S < at.STALL_RESTART_S
    assert at.STALL_S < at.STALL_RESTART_S
    assert 2 * at.LEASE_TTL_S <= at.SILENCE_RESTART_S < at.STALL_RESTART_S


def test_the_first_step_of_a_process_has_less_time_than_its_load():
    assert at.STALL_S < at.STALL_UNMEASURED_S < agent_settings().load_timeout


def test_an_answer_outlives_the_restart_of_the_only_replica():
    # It was left after a second or two, and is killed after these; the rest is for loading it again.
    assert GatewaySettings.model_fields["resume_timeout"].default > at.STALL_RESTART_S + at.STACK_DUMP_S + 20


def test_the_agent_looks_at_least_as_often_as_a_look_counts():
    assert at.LEASE_RENEW_S < AGENT_LOOK_S


def test_a_container_is_restarted_after_its_process_is_reported_down():
    assert at.HEARTBEAT_TTL_S < at.HEALTH_FILE_STALE_S


def test_a_process_that_is_down_is_reported_before_it_is_forgotten():
    assert at.HEARTBEAT_TTL_S < at.FORGET_INSTANCE_S


def test_an_answer_is_resumed_for_longer_than_a_loss_takes_to_be_noticed():
    assert GatewaySettings.model_fields["resume_timeout"].default > at.LEASE_TTL_S


def test_the_inner_request_times_out_first():
    # So that "the registry did not answer" reaches the person, and not "the scheduler did not answer".
    assert at.RESOLVE_S < at.ADMIN_CALL_S


def test_a_service_gives_up_on_the_bus_before_the_launcher_gives_up_on_the_service():
    assert at.BUS_CONNECT_S < at.LAUNCHER_READY_S


def test_one_export_of_telemetry_fits_into_its_flush():
    assert at.TELEMETRY_PUBLISH_S <= at.TELEMETRY_FLUSH_S


def test_the_monitor_forwards_what_is_left_within_its_drain():
    assert at.FORWARDING_FLUSH_S < at.SERVICE_DRAIN_S


def test_a_replica_ends_its_answers_within_its_drain():
    # The engine confirms the ends of answers, and the record is removed, after the answers had their time.
    assert at.ENGINE_CONFIRM_S + at.REPLICA_RECORD_S < at.REPLICA_DRAIN_S


def test_a_drained_replica_flushes_before_it_is_killed():
    assert at.TELEMETRY_FLUSH_S + at.BUS_DRAIN_S <= at.REPLICA_CLEAN_UP_S


def test_replicas_stop_within_the_drain_of_their_agent():
    replica_stops_in = at.DRAIN_REQUEST_S + at.REPLICA_DRAIN_S + at.REPLICA_CLEAN_UP_S
    assert replica_stops_in + at.AGENT_RECORD_S <= at.AGENT_DRAIN_S
    assert agent_settings().replica_drain == at.REPLICA_DRAIN_S


@pytest.mark.parametrize("drain", [1.0, 7.5, 20.0, 40.0, 600.0])
def test_replicas_stop_within_the_drain_of_their_agent_whatever_is_set(drain):
    settings = agent_settings(drain_timeout=drain)
    assert settings.replica_drain <= max(0.1, drain - at.AGENT_CLEAN_UP_S)


def test_services_are_not_killed_by_the_launcher_while_they_stop():
    assert SchedulerSettings().drain_timeout == at.SERVICE_DRAIN_S
    assert at.SERVICE_DRAIN_S + at.AFTER_DRAIN_S < at.LAUNCHER_STOP_S
    assert at.AGENT_DRAIN_S + at.AFTER_DRAIN_S < at.LAUNCHER_STOP_AGENT_S


def test_the_gateway_stops_before_the_node_is_stopped():
    # The launcher stops the gateway first: its answers end while replicas still generate them.
    assert GatewaySettings().drain_timeout <= at.REPLICA_DRAIN_S


def test_llmos_down_waits_for_all_phases_of_the_stop():
    gateway, node, others, nats = at.LAUNCHER_STOP_S, at.LAUNCHER_STOP_AGENT_S, at.LAUNCHER_STOP_S, at.CHILD_STOP_S
    assert gateway + node + others + nats <= at.DOWN_S


def test_idle_connections_outlive_the_pools_of_clients():
    # Else the gateway closes a connection just as a client sends a request on it.
    assert at.CLIENT_POOL_S < at.KEEP_ALIVE_S
    assert GatewaySettings().keep_alive == at.KEEP_ALIVE_S


def test_a_client_that_sends_slowly_is_cut_off_before_one_that_is_idle():
    assert at.HEAD_S < at.KEEP_ALIVE_S
    assert at.BODY_WINDOW_S < at.KEEP_ALIVE_S


def test_a_closing_connection_does_not_outlast_the_drain():
    assert at.LINGER_S < at.SERVICE_DRAIN_S


@pytest.fixture(scope="module")
def containers():
    return compose(dotenv(complete("")))["services"]


def drain_of(containers, name, variable="LLMOS_DRAIN_TIMEOUT"):
    return float(containers[name]["environment"][variable])


@pytest.mark.parametrize("name", ["registry", "scheduler", "inference", "inference-gpu", "gateway", "monitor"])
def test_no_container_is_killed_while_its_service_stops(containers, name):
    assert drain_of(containers, name) + at.AFTER_DRAIN_S < seconds(containers[name]["stop_grace_period"])


def test_in_containers_answers_end_before_the_replicas_that_generate_them(containers):
    # Compose stops the gateway and the node at the same time: an answer must not outlive its replica.
    replica = drain_of(containers, "inference", "LLMOS_INFERENCE_DRAIN_TIMEOUT")
    assert drain_of(containers, "gateway") <= replica
    assert replica + at.AGENT_CLEAN_UP_S <= drain_of(containers, "inference")


def test_the_bus_stops_after_the_services_that_drain_over_it(containers):
    # Compose stops a service before those it depends on.
    for name in ("registry", "scheduler", "inference", "gateway", "monitor"):
        assert "nats" in containers[name]["depends_on"]
