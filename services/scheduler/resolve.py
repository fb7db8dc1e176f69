"""Asks the registry which version a reference means."""

from typing import Any

from shared.bus.port import Bus
from shared.bus.rpc import call
from shared.contracts.manifest import Reference
from shared.contracts.registry import Catalogue, InfoT, ResolveReference
from shared.deadlines import RESOLVE_S
from shared.errors import InvalidInput, NoResponders, Unavailable


async def resolve(bus: Bus, catalogue: Catalogue[Any, Any, InfoT, Any], reference: str) -> InfoT:
    """The version that `reference` means now.

    Raises:
        InvalidInput: It is no reference.
        NotFound: There is no such version.
        Unavailable: The registry is down.
    """
    try:
        Reference.parse(reference)
    except ValueError as error:
        message = str(error).replace("model reference", f"{catalogue.kind} reference")
        raise InvalidInput(message, param="reference") from error
    try:
        return await call(bus, catalogue.resolve, ResolveReference(reference=reference), timeout=RESOLVE_S)
    except NoResponders as error:
        raise Unavailable(
            "the registry is down, and this asks it for the version; try again when it is up"
        ) from error
