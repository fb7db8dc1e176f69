"""Asks any replica of a deployment a question that costs little; the next one when one does not respond."""

from collections.abc import Callable
from typing import TypeVar

from services.gateway.dispatch.offering import Refused, offer
from services.gateway.dispatch.requests import EncodeRequest
from services.gateway.dispatch.stamps import Stamps
from services.gateway.routing.table import Candidate
from shared.bus.rpc import call
from shared.contracts.base import Contract, Endpoint
from shared.contracts.manifest import Task

Command = TypeVar("Command", bound=Contract)
Result = TypeVar("Result", bound=Contract)


class Questions(Stamps):
    """What APIs that ask replicas have in common."""

    async def ask_any(
        self,
        deployment: str,
        task: Task,
        endpoint: Callable[[str], Endpoint[Command, Result]],
        command: Command,
        *,
        of: tuple[str, int] | None = None,
        timeout: float,
    ) -> Result:
        """What a replica responds.

        Args:
            deployment: Whose replicas are asked.
            task: Its task.
            endpoint: Of a replica, by its id.
            command: The question.
            of: Only replicas of this (model, version).
            timeout: Seconds for each replica.

        Raises:
            NotFound: There is no such deployment.
            Unavailable: No replica responds now.
            LlmosError: The replica says what is wrong with the request.
        """
        dispatcher = self._dispatcher

        async def send(candidate: Candidate) -> Result:
            return await call(dispatcher.bus, endpoint(candidate.replica_id), command, timeout=timeout)

        request = EncodeRequest(self.new_id("ask"), deployment, task, 0, self.deadline())
        await dispatcher.bus_returns(request.deadline)
        result = await offer(
            request,
            dispatcher.route(deployment, 0, of=of, task=task),
            send,
            late="the replicas did not respond within the request's time",
            clock=dispatcher.clock,
            metrics=dispatcher.metrics,
        )
        if isinstance(result, Refused):
            raise result.error()
        return result
