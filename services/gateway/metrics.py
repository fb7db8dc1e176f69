"""What `/metrics` shows: the gateway's own counters, and each replica's load as it last reported it."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import TypeAdapter

from services.gateway.key_metrics import KeyMetrics
from services.gateway.limits.places import Places
from services.gateway.system_metrics import SystemMetrics
from shared.contracts.gateway import Usage
from shared.contracts.load import EngineCounters, EngineLoad, LoadReport
from shared.disk import Disk, DiskUse
from shared.telemetry import genai


class Ended(NamedTuple):
    """A request whose answer is complete."""

    method: str
    route: str
    status: int
    seconds: float
    model: str = ""
    """As the client named it."""
    code: str | None = None
    """Of its error."""
    key_id: str = ""


class Metrics:
    """The gateway's counters, in a registry of their own.

    Args:
        by_key: Whether requests and tokens are also counted for each API key.
    """

    def __init__(self, *, by_key: bool = False) -> None:
        self._registry = CollectorRegistry()
        self._by_key = KeyMetrics(self._registry) if by_key else None
        self._deployed: Callable[[], Collection[str]] = frozenset
        self._refresh: Callable[[], Awaitable[None]] | None = None
        self._requests = Counter(
            "llmos_http_requests",
            "Requests answered; `model` is empty where none that is deployed was named.",
            ("method", "route", "status", "model"),
            registry=self._registry,
        )
        self._errors = Counter(
            "llmos_request_errors",
            "Requests that were refused or failed, by the code of the error.",
            ("route", "model", "code"),
            registry=self._registry,
        )
        self._duration = Histogram(
            "llmos_http_request_duration_seconds",
            "Time to the end of the answer.",
            ("route", "model"),
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
            ("model", "code"),
            registry=self._registry,
        )

    def show_replicas(self, loads: Callable[[], list[LoadReport]], connected: Callable[[], bool]) -> None:
        """Also show the replicas' load, read from `loads` at every scrape, and whether the bus is there."""
        self._registry.register(_Replicas(loads, connected))

    def show_disk(self, disk: Disk) -> None:
        """Also show the disk of the bus, if it is watched, and what has stopped for lack of room."""
        self._registry.register(_DiskSpace(disk))

    def show_connections(self, places: Places) -> None:
        """Also show the server's connections, and those that it refused or dropped."""
        self._registry.register(_Connections(places))

    def show_system(self, system: SystemMetrics) -> None:
        """Also show the whole system, asked for at every scrape."""
        self._registry.register(system)
        self._refresh = system.refresh

    def name_models(self, deployed: Callable[[], Collection[str]]) -> None:
        """Use the names of deployments as labels; what clients send is none."""
        self._deployed = deployed

    async def scrape(self) -> bytes:
        """All metrics, as of now, in Prometheus' text format."""
        if self._refresh is not None:
            await self._refresh()
        return self.render()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def began(self) -> None:
        """A request came in."""
        self._in_flight.inc()

    def ended(self, request: Ended) -> None:
        """A request's answer is complete."""
        model = request.model if request.model in self._deployed() else ""
        self._in_flight.dec()
        self._requests.labels(request.method, request.route, str(request.status), model).inc()
        self._duration.labels(request.route, model).observe(request.seconds)
        if request.code:
            self._errors.labels(request.route, model, request.code).inc()
        if self._by_key is not None:
            self._by_key.ended(request.key_id, model, request.status)

    def first_token(self, model: str, seconds: float) -> None:
        """The first token of an answer."""
        self._first_token.labels(model).observe(seconds)

    def next_tokens(self, model: str, gaps: Sequence[float]) -> None:
        """Seconds between further tokens; those that came together share the time."""
        of_model = self._next_token.labels(model)
        for gap in gaps:
            of_model.observe(gap)

    def tokens(self, model: str, usage: Usage, key_id: str) -> None:
        """An answer to a request with a key is complete."""
        if self._by_key is not None:
            self._by_key.tokens(key_id, model, given=usage.prompt_tokens, generated=usage.completion_tokens)
        self._tokens.labels(model, "input").inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._tokens.labels(model, "output").inc(usage.completion_tokens)

    def resumed(self, model: str) -> None:
        """An answer goes on on another replica."""
        self._resumes.labels(model).inc()

    def refused(self, model: str, code: str) -> None:
        """A replica did not take a request."""
        self._refusals.labels(model, code).inc()


class _DiskSpace(Collector):
    """A look at a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def collect(self) -> Iterator[Metric]:
        state = self._disk.look()
        if state is None:
            return
        yield GaugeMetricFamily("llmos_disk_free_bytes", "Free on the disk of the bus.", float(state.free))
        yield GaugeMetricFamily("llmos_disk_size_bytes", "Size of the disk of the bus.", float(state.total))
        stopped = GaugeMetricFamily("llmos_disk_stopped", "1: it has stopped for lack of room.", labels=("use",))
        for use in DiskUse:
            stopped.add_metric((use,), float(use in state.problems))
        yield stopped


class _Connections(Collector):
    """Counts of `Places`."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("llmos_http_connections", "Open connections.", float(self._places.open))
        refused = CounterMetricFamily(
            "llmos_http_connections_refused", "Connections for which there was no place.", labels=("code",)
        )
        for code in ("overloaded", "unavailable"):
            refused.add_metric((code,), self._places.refused[code])
        yield refused
        yield CounterMetricFamily(
            "llmos_http_connections_dropped",
            "Connections whose client left its response unread.",
            self._places.gave_up,
        )


class _Replicas(Collector):
    """Every field of `EngineLoad` as a gauge, and every one of its counters as a counter."""

    def __init__(self, loads: Callable[[], list[LoadReport]], connected: Callable[[], bool]) -> None:
        self._loads = loads
        self._connected = connected

    def collect(self) -> Iterator[Metric]:
        reports = self._loads()
        for field, text in _GAUGES.items():
            values = [(report, getattr(report.load, field)) for report in reports]
            yield _family(GaugeMetricFamily, field, text, values)
        for field, text in _COUNTERS.items():
            values = [(report, getattr(report.load.counters, field)) for report in reports]
            yield _family(CounterMetricFamily, field, text, values)
        yield GaugeMetricFamily("llmos_bus_connected", "1 while the bus can be reached.", float(self._connected()))


def _help_texts(model: type[EngineLoad | EngineCounters]) -> dict[str, str]:
    """Fields and their docstrings; those of other models are left out."""
    properties = TypeAdapter(model).json_schema()["properties"]
    return {name: field["description"] for name, field in properties.items() if "type" in field}


_GAUGES = _help_texts(EngineLoad)
_COUNTERS = _help_texts(EngineCounters)


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    field: str,
    text: str,
    values: Iterable[tuple[LoadReport, float]],
) -> Metric:
    """`llmos_replica_<field>` with a series for each replica; `_s` is spelt `_seconds`, as Prometheus has it."""
    name = f"{field.removesuffix('_s')}_seconds" if field.endswith("_s") else field
    family = kind(f"llmos_replica_{name}", text, labels=("replica", "model"))
    for report, value in values:
        family.add_metric((report.replica_id, report.deployment), value)
    return family
