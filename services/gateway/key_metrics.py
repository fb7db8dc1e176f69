"""Requests and tokens by API key: only where it is asked for, since each key is a series of its own."""

from prometheus_client import CollectorRegistry, Counter

MAX_KEYS = 200
"""Keys with series of their own; all others share the series of `other`."""
OTHER = "other"


class KeyMetrics:
    """Counters by key.

    Args:
        registry: Takes them.
        limit: Keys with series of their own: the first that ask.
    """

    def __init__(self, registry: CollectorRegistry, *, limit: int = MAX_KEYS) -> None:
        self._limit = limit
        self._known: set[str] = set()
        self._requests = Counter(
            "llmos_key_requests", "Requests by API key.", ("key", "model", "status"), registry=registry
        )
        self._tokens = Counter(
            "llmos_key_tokens", "Tokens of complete answers by API key.", ("key", "model", "type"), registry=registry
        )

    def ended(self, key: str, model: str, status: int) -> None:
        """A request with a key is over."""
        if key:
            self._requests.labels(self._name(key), model, str(status)).inc()

    def tokens(self, key: str, model: str, *, given: int, generated: int) -> None:
        """An answer to a request with a key is complete."""
        if key:
            name = self._name(key)
            self._tokens.labels(name, model, "input").inc(given)
            self._tokens.labels(name, model, "output").inc(generated)

    def _name(self, key: str) -> str:
        if key not in self._known and len(self._known) >= self._limit:
            return OTHER
        self._known.add(key)
        return key
