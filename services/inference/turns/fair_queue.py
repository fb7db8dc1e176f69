"""Fair queueing between tenants, and between the requests of each tenant. Pure.

Each name that waits has a tag in virtual time, which goes up with the work done for that name; the lowest tag is
served next. Virtual time itself goes up with all work that is done, divided by the number of names that wait, and a
new name starts at the current virtual time: neither behind all of a large request nor before a name that has waited
(Demers, Keshav and Shenker, "Analysis and Simulation of a Fair Queueing Algorithm", 1989). Many requests of one
tenant get no more than one request of another, and newer requests overtake a request for a bounded time only.
"""


class FairQueue:
    """Names that take turns."""

    def __init__(self) -> None:
        self._now = 0.0
        self._tags: dict[str, float] = {}
        self._removed: dict[str, float] = {}
        """Tags of removed names that had more than their share: they continue from there if they return soon."""

    def __len__(self) -> int:
        return len(self._tags)

    def __contains__(self, name: str) -> bool:
        return name in self._tags

    def add(self, name: str) -> None:
        """A name begins to wait."""
        self._tags[name] = max(self._now, self._removed.pop(name, 0.0))

    def remove(self, name: str) -> None:
        """A name does not wait any more."""
        self._removed = {other: tag for other, tag in self._removed.items() if tag > self._now}
        self._removed[name] = self._tags.pop(name)

    def tag(self, name: str) -> float:
        """The name's position: the lowest is next."""
        return self._tags[name]

    def charge(self, name: str, work: float) -> None:
        """Work is done for a name now: tokens, or seconds."""
        self._tags[name] += work
        self._now += work / len(self._tags)


class TenantFairQueue:
    """The requests that wait: a fair queue of tenants, and in each tenant a fair queue of requests."""

    def __init__(self) -> None:
        self._tenant_of: dict[str, str] = {}
        self._tenants = FairQueue()
        self._requests: dict[str, FairQueue] = {}

    def __len__(self) -> int:
        return len(self._tenant_of)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._tenant_of

    def add(self, request_id: str, tenant: str) -> None:
        """A request begins to wait."""
        self._tenant_of[request_id] = tenant
        if tenant not in self._tenants:
            self._tenants.add(tenant)
            self._requests[tenant] = FairQueue()
        self._requests[tenant].add(request_id)

    def remove(self, request_id: str) -> None:
        """A request does not wait any more."""
        tenant = self._tenant_of.pop(request_id)
        self._requests[tenant].remove(request_id)
        if not len(self._requests[tenant]):
            del self._requests[tenant]
            self._tenants.remove(tenant)

    def position(self, request_id: str) -> tuple[float, float]:
        """Tags of the tenant and of the request: the lowest is next."""
        tenant = self._tenant_of[request_id]
        return self._tenants.tag(tenant), self._requests[tenant].tag(request_id)

    def charge(self, request_id: str, tokens: int) -> None:
        """Tokens of the request are computed now."""
        tenant = self._tenant_of[request_id]
        self._tenants.charge(tenant, tokens)
        self._requests[tenant].charge(request_id, tokens)
