"""What a client left open is the version's to say, then ours: `generation_config.json` as vLLM reads it.

`Manifest.defaults` may name temperature, top_k, top_p, min_p, repetition_penalty and max_new_tokens. A value that the
client gives always wins; a default outside its range is an error of the version, told when the replica starts.
"""

from collections.abc import Mapping

from pydantic import ValidationError

from shared.contracts.replica import Sampling
from shared.errors import CorruptFile

_FIELDS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
_OFF = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)


class SamplingDefaults:
    """The values for what a client left open.

    Args:
        defaults: `Manifest.defaults`. Names that do not concern sampling are none of ours.

    Raises:
        CorruptFile: A value is of the wrong type or outside its range.
    """

    def __init__(self, defaults: Mapping[str, float | int | str]) -> None:
        given = {name: defaults[name] for name in _FIELDS if name in defaults}
        if given.get("top_k") == -1:
            given["top_k"] = 0
        try:
            chosen = Sampling.model_validate(given)
            self.max_tokens = Sampling.model_validate({"max_tokens": defaults.get("max_new_tokens")}).max_tokens
            """The longest answer to a client that names no `max_tokens`; None: what fits."""
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise CorruptFile(
                f"the version's default {first['loc'][0]} is {first['input']!r}: {first['msg']}; correct"
                " generation_config.json and import the model again"
            ) from error
        self._values = {name: _first(getattr(chosen, name), getattr(_OFF, name)) for name in _FIELDS}

    def fill(self, sampling: Sampling) -> Sampling:
        """The request's sampling with nothing left open but `max_tokens`."""
        missing = {name: value for name, value in self._values.items() if getattr(sampling, name) is None}
        return sampling.model_copy(update=missing) if missing else sampling


def _first(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
