"""What `/metrics` shows: the gateway's own counters, and each replica's load as it last reported it."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.contracts.gateway import Usage
from shared.contracts.replica import LoadReport
from shared.telemetry import genai


class Metrics:
    """The gateway's counters, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "llmos_http_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._duration = Histogram(
            "llmos_http_request_duration_seconds",
            "Time to the end of the answer.",
            ("route",),
            buckets=genai.BUCKETS_REQUEST_DURATION,
            registry=self._registry,
        )
        self._in_flight = Gauge("llmos_http_requests_in_flight", "Requests being answered.", registry=self._registry)
        self._first_token = Histogram(
            "llmos_time_to_first_token_seconds",
            "From a replica's acceptance to the first token.",
            ("model",),
            buckets=genai.BUCKETS_TIME_TO_FIRST_TOKEN,
            registry=self._registry,
        )
        self._next_token = Histogram(
            "llmos_inter_token_seconds",
            "Between tokens of one answer.",
            ("model",),
            buckets=genai.BUCKETS_TIME_PER_OUTPUT_TOKEN,
            registry=self._registry,
        )
        self._tokens = Counter(
            "llmos_tokens", "Tokens of complete answers.", ("model", "type"), registry=self._registry
        )
        self._cached = Counter(
            "llmos_cached_tokens",
            "Prompt tokens of complete answers that a prefix cache gave; they count as input, too.",
            ("model",),
            registry=self._registry,
        )
        self._resumes = Counter(
            "llmos_resumes", "Answers that went on on another replica.", ("model",), registry=self._registry
        )
        self._refusals = Counter(
            "llmos_replica_refusals",
            "Requests that a replica did not take.",
            ("replica", "code"),
            registry=self._registry,
        )

    def show_replicas(self, loads: Callable[[], list[LoadReport]], connected: Callable[[], bool]) -> None:
        """Also show the replicas' load, read from `loads` at every scrape, and whether the bus is there."""
        self._registry.register(_Replicas(loads, connected))

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def began(self) -> None:
        """A request came in."""
        self._in_flight.inc()

    def ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request's answer is complete."""
        self._in_flight.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._duration.labels(route).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        """The first token of an answer."""
        self._first_token.labels(model).observe(seconds)

    def next_tokens(self, model: str, gaps: Sequence[float]) -> None:
        """Seconds between further tokens; those that came together share the time."""
        of_model = self._next_token.labels(model)
        for gap in gaps:
            of_model.observe(gap)

    def tokens(self, model: str, usage: Usage) -> None:
        """An answer is complete."""
        self._tokens.labels(model, "input").inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._tokens.labels(model, "output").inc(usage.completion_tokens)

    def resumed(self, model: str) -> None:
        """An answer goes on on another replica."""
        self._resumes.labels(model).inc()

    def refused(self, replica_id: str, code: str) -> None:
        """A replica did not take a request."""
        self._refusals.labels(replica_id, code).inc()


_REPLICA_GAUGES: dict[str, tuple[str, Callable[[LoadReport], float]]] = {
    "running": ("Sequences in slots.", lambda report: report.running),
    "waiting": ("Sequences in the queue.", lambda report: report.waiting),
    "queued_tokens": ("Prompt tokens not yet computed.", lambda report: report.queued_tokens),
    "free_slots": ("Slots that nothing occupies.", lambda report: report.free_slots),
    "slots": ("Sequences that run at once.", lambda report: report.slots),
    "draining": ("1 while it takes nothing new.", lambda report: report.draining),
    "batch_max": ("Largest number of sequences that one step has advanced.", lambda report: report.max_batch),
    "batch_mean": ("Sequences per step since the report before.", lambda report: report.mean_batch),
    "steps": ("Steps since it started.", lambda report: report.steps),
    "generated_tokens": ("Tokens generated since it started.", lambda report: report.generated_tokens),
    "prompt_tokens": ("Prompt tokens taken since it started.", lambda report: report.prompt_tokens),
    "rejected": ("Requests rejected since it started.", lambda report: report.rejected),
    "cancelled": ("Requests cancelled since it started.", lambda report: report.cancelled),
    "cached_tokens": ("Prompt tokens copied from the prefix cache.", lambda report: report.cached_tokens),
    "looked_up_tokens": ("Prompt tokens looked up in the prefix cache.", lambda report: report.looked_up_tokens),
    "cached_blocks": ("Blocks in the prefix cache.", lambda report: report.cached_blocks),
    "cache_blocks": ("Blocks that the prefix cache holds at most.", lambda report: report.cache_blocks),
    "draft_tokens": ("Tokens computed ahead because they were likely to follow.", lambda report: report.draft_tokens),
    "accepted_tokens": ("Those tokens computed ahead that did follow.", lambda report: report.accepted_tokens),
    "wait_seconds": ("Expected wait of a new tenant's request.", lambda report: report.wait_s),
}


class _Replicas(Collector):
    def __init__(self, loads: Callable[[], list[LoadReport]], connected: Callable[[], bool]) -> None:
        self._loads = loads
        self._connected = connected

    def collect(self) -> Iterator[Metric]:
        reports = self._loads()
        for name, (text, read) in _REPLICA_GAUGES.items():
            family = GaugeMetricFamily(f"llmos_replica_{name}", text, labels=("replica", "model"))
            for report in reports:
                family.add_metric((report.replica_id, report.deployment), read(report))
            yield family
        yield GaugeMetricFamily("llmos_bus_connected", "1 while the bus can be reached.", float(self._connected()))
