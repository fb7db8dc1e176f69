"""Whose turn it is: fair queueing between tenants, and between the requests of each. Pure.

Whoever waits has a tag in virtual time, which goes up with the tokens computed for it; the lowest tag is next.
Virtual time itself goes up with all tokens computed, divided by those that wait, and whoever is new begins at it:
neither behind all of a large request nor before one that has waited (Demers, Keshav and Shenker, "Analysis
and Simulation of a Fair Queueing Algorithm", 1989). So a tenant's many requests get no more than another's one, and
a request that is passed over by new ones is passed over for a bounded time.
"""


class Line:
    """Names that take turns."""

    def __init__(self) -> None:
        self._now = 0.0
        self._tags: dict[str, float] = {}
        self._left: dict[str, float] = {}
        """Tags of names that left with more than their share: they go on from there if they come back soon."""

    def __len__(self) -> int:
        return len(self._tags)

    def __contains__(self, name: str) -> bool:
        return name in self._tags

    def enter(self, name: str) -> None:
        """It begins to wait."""
        self._tags[name] = max(self._now, self._left.pop(name, 0.0))

    def leave(self, name: str) -> None:
        """It waits for nothing any more."""
        self._left = {other: tag for other, tag in self._left.items() if tag > self._now}
        self._left[name] = self._tags.pop(name)

    def tag(self, name: str) -> float:
        """Its place: the lowest is next."""
        return self._tags[name]

    def charge(self, name: str, tokens: int) -> None:
        """Tokens are computed for it now."""
        self._tags[name] += tokens
        self._now += tokens / len(self._tags)


class Shares:
    """The requests that wait, in a line per tenant, and the tenants in a line of their own."""

    def __init__(self) -> None:
        self._tenant_of: dict[str, str] = {}
        self._tenants = Line()
        self._requests: dict[str, Line] = {}

    def __len__(self) -> int:
        return len(self._tenant_of)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._tenant_of

    def enter(self, request_id: str, tenant: str) -> None:
        """A request begins to wait."""
        self._tenant_of[request_id] = tenant
        if tenant not in self._tenants:
            self._tenants.enter(tenant)
            self._requests[tenant] = Line()
        self._requests[tenant].enter(request_id)

    def leave(self, request_id: str) -> None:
        """It waits for nothing any more."""
        tenant = self._tenant_of.pop(request_id)
        self._requests[tenant].leave(request_id)
        if not len(self._requests[tenant]):
            del self._requests[tenant]
            self._tenants.leave(tenant)

    def place(self, request_id: str) -> tuple[float, float]:
        """Its place: the lowest is next."""
        tenant = self._tenant_of[request_id]
        return self._tenants.tag(tenant), self._requests[tenant].tag(request_id)

    def charge(self, request_id: str, tokens: int) -> None:
        """Tokens of the request are computed now."""
        tenant = self._tenant_of[request_id]
        self._tenants.charge(tenant, tokens)
        self._requests[tenant].charge(request_id, tokens)
