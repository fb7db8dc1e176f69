"""The contract's sampling from a dialect's own parameters."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.gateway.http.explanation import explain
from shared.contracts.sampling import Sampling


def contract_sampling(fields: Mapping[str, Any], names: Mapping[str, str]) -> Sampling:
    """The sampling with `fields`; raises `InvalidInput` for one out of its range.

    Args:
        fields: By the contract's names.
        names: The dialect's names of those that it calls otherwise, for the error.
    """
    try:
        return Sampling.model_validate(dict(fields))
    except ValidationError as error:
        raise explain(error, names) from error
