from services.inference.replica.generate.gateway_watch import GatewayWatch


def test_a_silent_gateway_is_gone_and_one_with_a_heartbeat_is_not():
    watch = GatewayWatch(5.0)
    watch.heard("a", 0.0)
    watch.heard("b", 0.0)
    watch.heard("b", 4.0)
    assert watch.gone(5.0) == []
    assert watch.gone(5.1) == ["a"]


def test_a_gateway_that_was_never_heard_is_not_judged():
    assert GatewayWatch(5.0).gone(100.0) == []


def test_silence_while_we_were_deaf_says_nothing():
    watch = GatewayWatch(5.0)
    watch.heard("a", 0.0)
    watch.deaf(60.0)
    assert watch.gone(64.0) == []
    assert watch.gone(65.1) == ["a"]


def test_a_gateway_that_was_dealt_with_is_heard_anew():
    watch = GatewayWatch(5.0)
    watch.heard("a", 0.0)
    watch.forget(watch.gone(6.0))
    assert watch.gone(100.0) == []
    watch.heard("a", 100.0)
    assert watch.gone(106.0) == ["a"]


def test_a_gateway_that_said_goodbye_is_gone_at_once():
    watch = GatewayWatch(5.0)
    watch.heard("a", 0.0)
    watch.left("a")
    assert watch.gone(0.1) == ["a"]
