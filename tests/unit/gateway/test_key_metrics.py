"""Series by key are bounded, whatever keys there are."""

from prometheus_client import CollectorRegistry, generate_latest

from services.gateway.key_metrics import KeyMetrics


def test_keys_beyond_the_limit_share_a_series() -> None:
    registry = CollectorRegistry()
    metrics = KeyMetrics(registry, limit=2)
    for key in ("a", "b", "c", "d", "a", ""):
        metrics.ended(key, "m", 200)
        metrics.tokens(key, "m", given=2, generated=3)
    text = generate_latest(registry).decode()
    assert 'llmos_key_requests_total{key="a",model="m",status="200"} 2.0' in text
    assert 'llmos_key_requests_total{key="other",model="m",status="200"} 2.0' in text
    assert 'llmos_key_tokens_total{key="other",model="m",type="output"} 6.0' in text
    assert 'key="c"' not in text
    assert 'key=""' not in text
