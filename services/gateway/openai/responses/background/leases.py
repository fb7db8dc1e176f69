"""Who generates a response in the background: entries that its gateway renews, and others may mark as cancelled."""

import asyncio
from collections.abc import Callable

import structlog

from services.gateway.openai.responses.storage.store import ANONYMOUS
from shared.bus.port import Bus
from shared.contracts.response import RESPONSE_RUNS_BUCKET, RUN_RENEW_S, RUN_TTL_S, ResponseRun
from shared.errors import Conflict, LlmosError

_log = structlog.get_logger("llmos.gateway")


class RunLeases:
    """The leases of all gateways' runs.

    Args:
        bus: Has them.
        gateway_id: Of this gateway.
    """

    def __init__(self, bus: Bus, gateway_id: str) -> None:
        self._kv = bus.kv(RESPONSE_RUNS_BUCKET, ttl=RUN_TTL_S)
        self._lease = ResponseRun(gateway=gateway_id)

    async def begin(self, tenant: str, response_id: str) -> int:
        """Take the lease of a new response; returns its revision."""
        return await self._kv.create(_key(tenant, response_id), self._lease.encode())

    async def is_held(self, tenant: str, response_id: str) -> bool:
        """Whether a gateway that lives generates a response."""
        return await self._kv.get(_key(tenant, response_id)) is not None

    async def end(self, tenant: str, response_id: str) -> None:
        """The response is no longer generated."""
        try:
            await self._kv.delete(_key(tenant, response_id))
        except LlmosError as error:  # it expires
            _log.info("response_run.not_ended", id=response_id, problem=error.message)

    async def cancel(self, tenant: str, response_id: str) -> None:
        """Have the gateway that generates a response end it; nothing happens if none does."""
        key = _key(tenant, response_id)
        while (entry := await self._kv.get(key)) is not None:
            cancelled = ResponseRun.decode(entry.value).model_copy(update={"cancelled": True})
            try:
                await self._kv.update(key, cancelled.encode(), entry.revision)
            except Conflict:
                continue  # it was renewed
            return

    async def renew(self, tenant: str, response_id: str, revision: int, cancel: Callable[[], None]) -> None:
        """Renew a lease until cancelled; call `cancel` once somebody wants the response to end."""
        key = _key(tenant, response_id)
        while True:
            await asyncio.sleep(RUN_RENEW_S)
            try:
                revision = await self._kv.update(key, self._lease.encode(), revision)
            except Conflict:
                entry = await self._kv.get(key)
                if entry is not None and ResponseRun.decode(entry.value).cancelled:
                    cancel()
                    return
                revision = 0 if entry is None else entry.revision
            except LlmosError as error:
                _log.warning("response_run.not_renewed", id=response_id, problem=error.message)


def _key(tenant: str, response_id: str) -> str:
    return f"{tenant or ANONYMOUS}.{response_id}"
