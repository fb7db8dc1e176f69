"""Sends requests to encoders and graphs of tensors: one request, one result, from another replica if one is lost.

Nothing of a result leaves the gateway before it is complete, so a lost replica costs only time.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from services.gateway.dispatch.dispatcher import WATCH_EVERY_S, Dispatcher, attempt_id
from services.gateway.dispatch.offering import RETRY_S, Refused, offer
from services.gateway.dispatch.requests import EncodeRequest
from services.gateway.routing.table import Candidate
from shared.bus.rpc import call
from shared.contracts.base import Contract, Endpoint
from shared.contracts.embedding import Classify, Embed
from shared.contracts.tensor import Infer
from shared.errors import DeadlineExceeded, ReplicaLost

POLL_S = 0.2
"""How often another replica is looked for after one was lost."""

Command = TypeVar("Command", Embed, Classify, Infer)
Result = TypeVar("Result", bound=Contract)


async def encode(
    dispatcher: Dispatcher,
    request: EncodeRequest,
    endpoint: Callable[[str], Endpoint[Command, Result]],
    command: Command,
) -> Result:
    """The result of a replica of `request.deployment`. Cancelling this cancels the request at the replica.

    Raises:
        NotFound: There is no such deployment.
        InvalidInput: It does another task, or the replica says what is wrong with the request.
        Overloaded, Unavailable: No replica takes it now, with `retry_after`.
        DeadlineExceeded: The request's deadline has passed.
    """
    clock, give_up = dispatcher.clock, 0.0
    number = 0

    async def send(candidate: Candidate) -> Result:
        nonlocal number
        update = {"request_id": attempt_id(request.request_id, number), "time_left_s": request.time_left(clock())}
        named = command.model_copy(update=update)
        number += 1
        return await _send(dispatcher, candidate, request, endpoint(candidate.replica_id), named)

    while True:
        await dispatcher.bus_returns(request.deadline)
        result = await offer(
            request,
            dispatcher.route(request.deployment, number, of=request.of, task=request.task),
            send,
            late="the answer was not complete within the request's time",
            clock=clock,
            metrics=dispatcher.metrics,
        )
        if not isinstance(result, Refused):
            return result
        for error in result.errors:
            if isinstance(error, DeadlineExceeded):
                raise error
        if not give_up and any(isinstance(error, ReplicaLost) for error in result.errors):
            give_up = clock() + dispatcher.limits.resume
        if clock() >= give_up:
            raise result.error()
        await asyncio.sleep(POLL_S)


async def _send(
    dispatcher: Dispatcher,
    candidate: Candidate,
    request: EncodeRequest,
    endpoint: Endpoint[Command, Result],
    command: Command,
) -> Result:
    """The result of one replica; raises `ReplicaLost` as soon as the replica, or the way of its reply, is lost."""
    timeout = max(0.001, request.deadline - dispatcher.clock())
    attempt = dispatcher.attempt(command.request_id, candidate, request.tokens)
    attempt.accepted = True
    reply = asyncio.ensure_future(call(dispatcher.bus, endpoint, command, timeout=timeout))
    try:
        while not (await asyncio.wait((reply,), timeout=WATCH_EVERY_S))[0]:
            if reason := dispatcher.lost(attempt):
                raise ReplicaLost(f"the replica {candidate.replica_id} was lost: {reason}", retry_after=RETRY_S)
            if not dispatcher.bus.connected:
                raise ReplicaLost("the connection to the replica was lost", retry_after=RETRY_S)
        attempt.finished = not isinstance(reply.exception(), DeadlineExceeded)
        return reply.result()
    finally:
        reply.cancel()
        dispatcher.release(attempt)
