from services.inference.replica.generate.gateway_watch import GatewayWatch


def test_a_gateway_without_heartbeats_is_lost_and_one_with_heartbeats_is_not():
    watch = GatewayWatch(5.0)
    watch.heartbeat("a", 0.0)
    watch.heartbeat("b", 0.0)
    watch.heartbeat("b", 4.0)
    assert watch.lost(5.0) == []
    assert watch.lost(5.1) == ["a"]


def test_a_gateway_that_never_sent_a_heartbeat_is_not_lost():
    assert GatewayWatch(5.0).lost(100.0) == []


def test_time_without_a_bus_does_not_count():
    watch = GatewayWatch(5.0)
    watch.heartbeat("a", 0.0)
    watch.reset(60.0)
    assert watch.lost(64.0) == []
    assert watch.lost(65.1) == ["a"]


def test_a_forgotten_gateway_is_recorded_again():
    watch = GatewayWatch(5.0)
    watch.heartbeat("a", 0.0)
    watch.forget(watch.lost(6.0))
    assert watch.lost(100.0) == []
    watch.heartbeat("a", 100.0)
    assert watch.lost(106.0) == ["a"]


def test_a_gateway_that_leaves_is_lost_at_once():
    watch = GatewayWatch(5.0)
    watch.heartbeat("a", 0.0)
    watch.left("a")
    assert watch.lost(0.1) == ["a"]
