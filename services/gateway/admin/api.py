"""The admin routes: the catalogues, deployments, nodes, keys and health.

The services that own the state respond over the bus; the gateway translates.
"""

from datetime import timedelta

from services.gateway.admin import catalogues
from services.gateway.admin.contracts import CreatedKey, KeyList, KeyView, NewKey
from services.gateway.admin.operations import AdminOperation, Call
from services.gateway.admin.queries import limit, seconds
from services.gateway.control_plane import ControlPlane
from services.gateway.keys import KeyStore
from shared.bus.port import Bus
from shared.contracts import monitor, registry, scheduler, scrub
from shared.contracts.base import Empty
from shared.contracts.events import EventList
from shared.contracts.gateway import ApiKey
from shared.contracts.manifest import NAME_RULE, is_name
from shared.errors import InvalidInput

COLLECT_TIMEOUT_S = 300.0
"""For the registry to collect garbage: it lists the store and removes files one by one."""
CHECK_TIMEOUT_S = 600.0
"""For the bytes of one file to be read."""


class AdminApi:
    """The operations of the admin API."""

    def __init__(self, bus: Bus, keys: KeyStore) -> None:
        self.call = ControlPlane(bus).call
        self._keys = keys

    def operations(self) -> list[AdminOperation]:
        """The typed operations."""
        return [
            *catalogues.operations(self.call),
            AdminOperation(
                "POST",
                "/garbage",
                "Remove files that no version refers to, or list them (dry_run, the default)",
                registry.GarbageReport,
                self._collect_garbage,
                body=registry.CollectGarbage,
            ),
            AdminOperation(
                "POST",
                "/blobs/{digest}/check",
                "Read a file in the store, or in a node's cache, and compare it with its SHA-256",
                scrub.CheckedBlob,
                self._check_blob,
                query={"node": "The node; without it, the store"},
            ),
            AdminOperation("GET", "/scrubs", "The background checks of stored files", scrub.ScrubList, self._scrubs),
            AdminOperation("GET", "/deployments", "All deployments", scheduler.DeploymentList, self._deployments),
            AdminOperation(
                "POST",
                "/deployments",
                "Run a version under a public name",
                scheduler.DeploymentStatus,
                self._deploy,
                body=scheduler.Deploy,
            ),
            AdminOperation(
                "GET", "/deployments/{name}", "One deployment", scheduler.DeploymentStatus, self._deployment
            ),
            AdminOperation("DELETE", "/deployments/{name}", "Stop serving a name", Empty, self._undeploy),
            AdminOperation(
                "POST",
                "/deployments/{name}/rollback",
                "Bring back the previous revision, whole",
                scheduler.DeploymentStatus,
                self._rollback,
            ),
            AdminOperation("GET", "/nodes", "All nodes that are up", scheduler.NodeList, self._nodes),
            AdminOperation("GET", "/keys", "All API keys, without secrets", KeyList, self._list_keys),
            AdminOperation(
                "GET",
                "/keys/events",
                "What happened to API keys, newest first",
                EventList,
                self._key_events,
                query={"limit": "How many: 1 to 1000, 20 by default"},
            ),
            AdminOperation("POST", "/keys", "Make an API key", CreatedKey, self._create_key, body=NewKey),
            AdminOperation("DELETE", "/keys/{id}", "Revoke an API key", KeyView, self._revoke_key),
            AdminOperation("GET", "/health", "Every process heard of lately", monitor.HealthReport, self._health),
            AdminOperation("GET", "/alerts", "What is wrong now", monitor.AlertList, self._alerts),
            AdminOperation(
                "GET",
                "/traces",
                "The newest traces, of those that match",
                monitor.TraceList,
                self._traces,
                query={
                    "limit": "How many: 1 to 1000, 20 by default",
                    "model": "Deployment that the request named",
                    "status": "HTTP status (429), a class of them (5xx), or error",
                    "key": "Id of the API key",
                    "slower_than": "Seconds that it took, at least",
                    "since": "Seconds ago at which it began, at most",
                },
            ),
        ]

    async def _collect_garbage(self, call: Call) -> registry.GarbageReport:
        body: registry.CollectGarbage = call.body
        return await self.call(registry.COLLECT_GARBAGE, body, timeout=COLLECT_TIMEOUT_S)

    async def _check_blob(self, call: Call) -> scrub.CheckedBlob:
        request = scrub.CheckBlob(digest=call.path["digest"])
        node = call.query.get("node")
        if node is not None and not is_name(node):
            raise InvalidInput(f"node {node!r:.80}: expected {NAME_RULE}", param="node")
        endpoint = scrub.CHECK_BLOB if node is None else scrub.check_cached_blob(node)
        return await self.call(endpoint, request, timeout=CHECK_TIMEOUT_S)

    async def _scrubs(self, _call: Call) -> scrub.ScrubList:
        return await self.call(scrub.LIST_SCRUBS, Empty())

    async def _deployments(self, _call: Call) -> scheduler.DeploymentList:
        return await self.call(scheduler.LIST_DEPLOYMENTS, Empty())

    async def _deploy(self, call: Call) -> scheduler.DeploymentStatus:
        body: scheduler.Deploy = call.body
        return await self.call(scheduler.DEPLOY, body.model_copy(update={"by": call.key_id}))

    async def _rollback(self, call: Call) -> scheduler.DeploymentStatus:
        request = scheduler.Rollback(name=call.path["name"], by=call.key_id)
        return await self.call(scheduler.ROLLBACK, request)

    async def _deployment(self, call: Call) -> scheduler.DeploymentStatus:
        return await self.call(scheduler.SHOW_DEPLOYMENT, scheduler.DeploymentName(name=call.path["name"]))

    async def _undeploy(self, call: Call) -> Empty:
        return await self.call(scheduler.UNDEPLOY, scheduler.DeploymentName(name=call.path["name"]))

    async def _nodes(self, _call: Call) -> scheduler.NodeList:
        return await self.call(scheduler.LIST_NODES, Empty())

    async def _list_keys(self, _call: Call) -> KeyList:
        return KeyList(keys=tuple(_view(record) for record in self._keys.list()))

    async def _create_key(self, call: Call) -> CreatedKey:
        body: NewKey = call.body
        expires_in = None if body.expires_in_s is None else timedelta(seconds=body.expires_in_s)
        record, key = await self._keys.create(
            body.name, body.scopes, by=call.key_id, expires_in=expires_in, may_store=body.may_store
        )
        return CreatedKey(id=record.id, name=record.name, key=key, scopes=record.scopes, expires_at=record.expires_at)

    async def _revoke_key(self, call: Call) -> KeyView:
        return _view(await self._keys.revoke(call.path["id"], by=call.key_id))

    async def _key_events(self, call: Call) -> EventList:
        return EventList(events=tuple(await self._keys.events(limit(call.query))))

    async def _health(self, _call: Call) -> monitor.HealthReport:
        return await self.call(monitor.GET_HEALTH, Empty())

    async def _alerts(self, _call: Call) -> monitor.AlertList:
        return await self.call(monitor.LIST_ALERTS, Empty())

    async def _traces(self, call: Call) -> monitor.TraceList:
        given = {name: call.query[name] for name in ("model", "status", "key") if name in call.query}
        times = {name: seconds(call.query, name) for name in ("slower_than", "since")}
        request = monitor.ListTraces.model_validate({"limit": limit(call.query), **given, **times})
        return await self.call(monitor.LIST_TRACES, request)


def _view(record: ApiKey) -> KeyView:
    return KeyView(
        id=record.id,
        name=record.name,
        scopes=record.scopes,
        created_at=record.created_at,
        expires_at=record.expires_at,
        last_used_at=record.last_used_at,
        revoked=record.revoked,
        may_store=record.may_store,
    )
